"""`simloop explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    run: Annotated[Positional[Path], arg("RUN")],
    episode: Annotated[Positional[str], arg("EPISODE")],
    *,
    at: Annotated[tuple[str, ...], arg("QUERY [...]", "0")] = ("0",),
    draws: Annotated[int, arg("N")] = 16,
    prompt: Annotated[str | None, arg("TEXT", "that of another task")] = None,
    adapter: Annotated[str | None, arg("FILE:NAME", "the registered one")] = None,
    output: Annotated[Path | None, arg("DIR", "beside the step records")] = None,
) -> int:
    """Explain answers of pi0, pi0.5 and pi0-FAST in a recorded episode: what did the model see, and how sure was it?

    Works on episodes with step records (simloop run --record queries); the model answers the recorded queries again,
    in this process. For each query it prints and writes:

      attention      which camera, image patches, words and state the action tokens take from, by layer and head, and
                     followed through the layers (rollout)
      spread         how much the chunk varies with the noise, and the flow from noise to actions (pi0, pi0.5)
      tokens         probability, entropy and runners-up of every token, and where the grammar decided (pi0-FAST)
      sensitivity    how much the chunk changes without a camera, with another prompt or state, in units of its spread
      distance       how far images, state and actions are from the training data

    Examples:

      simloop explain runs/demo pi0-tiny/pick-place-v3/2

      simloop explain runs/demo pi0-tiny/pick-place-v3/2 --at 3 4 5      then: simloop view runs/demo

    Attention says where information was taken from, not what it caused; sensitivity measures what it caused.

    Args:
      run: Run folder.
      episode: The recorded episode, as POLICY/TASK/NUMBER.
      at: Numbers of queries, from 0, or all.
      draws: Chunks from which the spread is computed.
      prompt: Another instruction to try.
      adapter: Adapter in a Python file with which the run was played.
      output: Folder of the files. In the default one, simloop view and report find them.
    """
    from simloop.harness.adapters.adapter_file import use_adapter_files_of
    from simloop.harness.debugging.episodes import find_episode
    from simloop.harness.debugging.explaining import explained_queries
    from simloop.harness.debugging.explanation_files import distance_in_spreads, write_explanation
    from simloop.harness.debugging.explanation_tables import explanation_grids
    from simloop.harness.planning.changes import query_numbers
    from simloop.results.records.explanations import explanation_path
    from simloop.results.records.step_records import load_steps
    from simloop.results.tables.typesetting import to_text

    use_adapter_files_of(run, () if adapter is None else (adapter,))
    found = find_episode(run, episode)
    count = len(load_steps(run, found.spec.id).queries)
    for one in explained_queries(found, query_numbers(at, count), draws, prompt):
        recorded, explanation = one.recorded, one.explanation
        base = (run / explanation_path(found.spec.id, recorded.query)).with_suffix("")
        base = base if output is None else output / base.name
        say(f"Query {recorded.query} at step {recorded.step}: {recorded.instruction!r}\n")
        for grid in explanation_grids(explanation, distance_in_spreads(explanation, recorded)):
            say(to_text(grid))
        files = write_explanation(explanation, recorded, found.spec.policy, base)
        say(f"Files: {', '.join(file.name for file in files)} in {base.parent}")
    if output is None:
        say(f"simloop view {run} shows the attention and the spread on the page of the episode.")
    return 0
