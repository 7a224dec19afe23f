"""What a policy would be given at the present moment of a session, in words, with what is unusual about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import UInt8

from simloop.harness.debugging.session import Session
from simloop.harness.gate.orientations import orientation_of
from simloop.policies.transforms.normalization import EntryStats

UNUSUAL_DEVIATIONS = 5.0
"""Standard deviations from the mean of the training data, beyond which an entry of the state is marked."""


def described_inputs(session: Session) -> Iterator[str]:
    """Describe instruction, images and state of the query that the policy would be given now, a line each.

    Images are compared with those of the suite's cameras, entries of the state with the statistics of the checkpoint.
    """
    query, task = session.next_query(), session.env.spec
    other = "" if query.instruction == task.instruction else f"; that of the task is {task.instruction!r}"
    yield f"{'instruction':>20}  {query.instruction!r}{other}"
    drawn = {camera: session.env.render(camera) for camera in task.cameras if query.images}
    for camera, image in query.images.items():
        height, width = image.shape[:2]
        yield f"{camera:>20}  {height} x {width} pixels, {_source(image, drawn)}"
    stats = session.policy.stats.get("state")
    for entry, value in enumerate(query.state.tolist()):
        yield f"{f'state {entry}':>20}  {value: .4f}{_trained_on(stats, entry, value)}"


def _source(image: UInt8[np.ndarray, "h w 3"], drawn: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> str:
    for camera, original in drawn.items():
        if orientation := orientation_of(image, original):
            return f"camera {camera}, {orientation}"
    return f"none of the cameras {', '.join(drawn)} in any orientation: cropped, resized or perturbed"


def _trained_on(stats: EntryStats | None, entry: int, value: float) -> str:
    if stats is None or entry >= len(stats.mean):
        return ""
    mean, std = float(stats.mean[entry]), float(stats.std[entry])
    text = f"   trained on {mean:.4f} ± {std:.4f}"
    deviations = abs(value - mean) / max(std, 1e-6)
    return text + f": {deviations:.0f} deviations away" * (deviations > UNUSUAL_DEVIATIONS)
