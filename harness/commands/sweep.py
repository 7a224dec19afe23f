"""`simloop sweep`."""

from __future__ import annotations

from typing import Annotated

from simloop.harness.commands import run
from simloop.harness.commands.described_experiment import build_experiment
from simloop.harness.commands.options import FLAT, say
from simloop.harness.engine.resources import Resources

_DEFAULTS = run.RunOptions(execution=("synchronous", "naive"), delay=("0", "1", "2", "4"), replan_steps=5)
_RESOURCES = Resources()


def command(
    options: Annotated[run.RunOptions, FLAT] = _DEFAULTS, resources: Annotated[Resources, FLAT] = _RESOURCES
) -> int:
    """Play an experiment under every combination of delays and executions, as one run that can be resumed.

    Examples:

      simloop sweep pi0-tiny pi05-tiny --delay 0 1 2 4 --execution synchronous naive rtc

      simloop sweep --tasks reach push --policies pi0-tiny --delay 0 25ms 50ms

    The simulation goes on while the policy computes. A chunk must last until the next query is answered, so replan
    interval and delay together are at most its length; combinations beyond that are left out. The default replan
    interval is 5. The episodes are those of simloop run: differences to delay 0 are paired. simloop table RUN --only
    delays prints the curves again.
    """
    from simloop.harness.preparation import possible_executions
    from simloop.results.tables.options import TableOptions
    from simloop.results.tables.run_tables import render

    experiment, out = build_experiment(options)
    experiment, left_out = possible_executions(experiment)
    for sentence in left_out:
        say(f"Left out: {sentence}")
    status = run.play(experiment, out, options, resources)
    if not status and experiment.executions:
        say(render(out, "terminal", TableOptions(only="delays")))
    return status
