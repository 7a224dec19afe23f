"""`simloop play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    run: Annotated[Positional[Path], arg("RUN")],
    episode: Annotated[Positional[str], arg("EPISODE")],
    *,
    video_every: Annotated[int, arg("N")] = 1,
    video_size: Annotated[int | None, arg("PIXELS", "as rendered")] = None,
    video: bool = True,
    record: Annotated[Literal["none", "queries", "steps"], arg("{none,queries,steps}")] = "steps",
    record_images: bool = False,
    adapter: Annotated[tuple[str, ...], arg("FILE:NAME", "the registered one")] = (),
    code: Annotated[tuple[str, ...], arg("P [P ...]", "none")] = (),
    out: Annotated[Path | None, arg("DIR", "RUN-EPISODE, beside the run")] = None,
) -> int:
    """Play one episode of a run again, in one process without Ray, with a video of every step.

    The exit status is 1 if the episode does not equal the recorded one.

    Examples:

      simloop play runs/demo pi0-tiny/pick-place-v3/2

    Args:
      run: Run folder.
      episode: POLICY/TASK/NUMBER, finished or not.
      video_every: Control steps between two frames of the video.
      video_size: Height to which the images of each camera are scaled.
      video: Write a video.
      record: Step records to write, for simloop replay, fork and debug.
      record_images: Store the images in step records too, which are drawn again from the saved states otherwise.
      adapter: Adapter in a Python file, in place of the registered one; the one with which the run was played.
      code: Policies and suites of one's own that the run was played with, written as in simloop run.
      out: New run folder.
    """
    from simloop.harness.adapters.adapter_file import use_adapter_files_of
    from simloop.harness.debugging.episodes import find_episode
    from simloop.harness.debugging.play_again import play_again
    from simloop.harness.planning.code_of_runs import vouch_for

    use_adapter_files_of(run, adapter)
    vouch_for(code)
    found = find_episode(run, episode)
    played = play_again(
        found,
        out,
        video_every=video_every if video else None,
        video_size=video_size,
        record=None if record == "none" else record,
        record_images=record_images,
    )
    say(f"{found.name}: {played.record.ended_by} after {played.record.steps} steps, in {played.folder}")
    if played.differing:
        say(f"It differs from the recorded episode: {'; '.join(played.differing)}.")
    elif played.differing is not None:
        say("Its actions, final state, reward and outcome equal those of the recorded episode.")
    return 1 if played.differing else 0
