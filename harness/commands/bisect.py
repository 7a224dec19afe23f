"""`simloop bisect`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from simloop.harness.commands import run
from simloop.harness.commands.compare import WORSE
from simloop.harness.commands.described_experiment import build_experiment
from simloop.harness.commands.options import FLAT, interrupted, say
from simloop.harness.engine.resources import Resources
from simloop.terminal import Terminal

_DEFAULTS = run.RunOptions()
_RESOURCES = Resources()


def command(
    options: Annotated[run.RunOptions, FLAT] = _DEFAULTS, resources: Annotated[Resources, FLAT] = _RESOURCES
) -> int:
    """Find between which checkpoints of a training success was lost.

    Examples:

      simloop bisect a=pi0-tiny@ckpt/1000 b=pi0-tiny@ckpt/2000 c=pi0-tiny@ckpt/3000 --tasks reach --max-episodes 400

    Name the checkpoints in the order of training. The last one is compared with the first one, pair by pair, until
    they are found to differ or to be equivalent within --margin; if it succeeds less, those in between are searched by
    halves, as if what is lost stays lost. --alpha bounds the probability that any checkpoint is said to have lost
    although it is as good as the first one. The exit status is 3 if success was lost, else 0. The same command
    resumes.
    """
    from simloop.harness.bisection import Bisection, bisect_checkpoints, bisection_sentence
    from simloop.harness.planning.experiment import ExperimentError
    from simloop.results.statistics.sequential import StoppingRule

    if options.until_decided:
        raise ExperimentError(
            "simloop bisect always stops once a comparison is decided; leave out --until-decided."
        )
    given: dict[str, Any] = {
        "alpha": options.alpha,
        "margin": options.margin,
        "max_pairs": options.max_episodes,
    }
    plain = dataclasses.replace(options, alpha=None, margin=None, max_episodes=None)
    experiment, _ = build_experiment(plain)
    try:
        rule = StoppingRule(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    tasks = experiment.task_specs()
    states = [spec.initial_states for spec in tasks if spec.initial_states is not None]
    pairs = min(rule.max_pairs, len(tasks) * min(states, default=rule.max_pairs))
    rule = dataclasses.replace(rule, max_pairs=pairs)
    experiment = dataclasses.replace(experiment, episodes=-(-pairs // len(tasks)))
    out = options.out or Path("runs") / f"bisect-{experiment.short_hash}"
    console = Terminal()
    found = bisect_checkpoints(experiment, out, options.settings(resources, experiment), rule, console)
    if not isinstance(found, Bisection):
        return interrupted(found.episodes, found.planned, found.folder, console)
    say(bisection_sentence(found, experiment.policy_names, rule), console)
    return 0 if found.bad is None else WORSE
