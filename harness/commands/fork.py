"""`simloop fork`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from simloop.harness.commands.options import FLAT, arg, interrupted, say
from simloop.harness.engine.resources import Resources
from simloop.terminal import Terminal


def command(
    run: Annotated[Positional[Path], arg("RUN")],
    episode: Annotated[Positional[str], arg("EPISODE")],
    *,
    at: Annotated[tuple[str, ...], arg("QUERY [...]")],
    samples: Annotated[int, arg("N")] = 8,
    policy: Annotated[str | None, arg("P", "that of the episode")] = None,
    prompt: Annotated[str | None, arg("TEXT", "that of the task")] = None,
    noise_seed: Annotated[int | None, arg("N", "that of the episode")] = None,
    replan_steps: Annotated[int | None, arg("N", "that of the run")] = None,
    perturb: Annotated[str | None, arg("KIND=S", "that of the run")] = None,
    move: Annotated[tuple[str, ...], arg("THING=dx,dy,dz [...]", "none")] = (),
    adapter: Annotated[tuple[str, ...], arg("FILE:NAME [...]", "the registered one")] = (),
    code: Annotated[tuple[str, ...], arg("P [P ...]", "none")] = (),
    record: Annotated[Literal["none", "queries", "steps"], arg("{none,queries,steps}")] = "none",
    out: Annotated[Path | None, arg("DIR", "RUN/forks/EPISODE-...")] = None,
    resources: Annotated[Resources, FLAT],
) -> int:
    """Continue a recorded episode from its queries, many times, as it was and with something changed.

    Examples:

      simloop fork runs/demo pi0-tiny/pick-place-v3/2 --at 7 --policy pi05-tiny --samples 32

      simloop fork runs/demo pi0-tiny/pick-place-v3/2 --at 7 --move obj=0.02,0,0

      simloop fork runs/demo pi0-tiny/pick-place-v3/2 --at 7 --adapter repaired.py:ADAPTER

      simloop fork runs/demo pi0-tiny/pick-place-v3/2 --at all         where is success lost?

    The forks form a run of their own, which resumes and which all tables read. Sample 0 has the noise of the recorded
    episode: with nothing changed it equals the episode.

    Args:
      run: Run folder.
      episode: The recorded episode, as POLICY/TASK/NUMBER.
      at: Numbers of queries, from 0, or all.
      samples: Continuations per query, as it was and with the change, each with other noise.
      policy: Policy of the changed continuations.
      prompt: Their instruction.
      noise_seed: Seed of their noise.
      replan_steps: Actions of a chunk that they execute before the next query.
      perturb: Their perturbation (simloop list perturbations).
      move: Things to move by an offset in metres.
      adapter: Adapters in Python files: the one with which the run was played, and another for the changed
        continuations, or registered.
      code: Policies and suites of one's own that the run was played with, written as in simloop run.
      record: Step records of the forks to write; with steps, simloop diagnose tells how they end.
      out: Run folder of the forks.
    """
    from simloop.harness.adapters.adapter_file import use_adapter_files_of
    from simloop.harness.debugging.episodes import find_episode
    from simloop.harness.debugging.forks import fork_experiment, play_forks
    from simloop.harness.planning.changes import Changes, Move, query_numbers
    from simloop.harness.planning.code_of_runs import vouch_for
    from simloop.harness.planning.perturbation import Perturbation

    tried = use_adapter_files_of(run, adapter, another=True)
    vouch_for(code)
    found = find_episode(run, episode)
    changes = Changes(
        prompt,
        noise_seed,
        replan_steps,
        None if perturb is None else Perturbation.parse(perturb),
        tuple(map(Move.parse, move)),
        None if tried is None else tried.identity,
    )
    experiment = fork_experiment(found, query_numbers(at, found.outcome.queries), samples, changes, policy)
    folder = out or run / "forks" / f"{found.name.replace('/', '-')}-{experiment.short_hash}"
    result = play_forks(found, experiment, folder, resources, Terminal(), tried, record)
    if result.episodes:
        _show(folder)
    return interrupted(result.episodes, result.planned, folder) if result.interrupted else 0


def _show(folder: Path) -> None:
    """Print the tables of forks, and draw their curve."""
    from simloop.results.figures.curves import draw_forks
    from simloop.results.figures.style import Drawing, save
    from simloop.results.records.frames import load
    from simloop.results.tables.fork_table import fork_grids, fork_points
    from simloop.results.tables.typesetting import to_text

    points = fork_points(load(folder))
    for grid in fork_grids(points):
        say(to_text(grid))
    if len({point.query for point in points}) > 1:
        figure, _ = Drawing("forks", "", partial(draw_forks, points=points), 2.4).figure()
        say(f"Figure: {save(figure, folder, 'forks')[-1]}")
