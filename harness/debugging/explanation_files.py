"""Files of explanations: numbers for the pages and for programs, arrays, and pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simloop.harness.debugging.explanation_figures import attention_figure, heads_figure, spread_figure
from simloop.harness.debugging.picture import Picture
from simloop.harness.errors import SimloopError
from simloop.results.records.explanations import CameraAttention, CameraDistance, StoredExplanation
from simloop.results.records.step_records import RecordedQuery

if TYPE_CHECKING:
    from simloop.policies.explaining.explanation import Explanation


def write_explanation(
    explanation: Explanation, recorded: RecordedQuery, policy: str, base: Path
) -> list[Path]:
    """Write the explanation of a recorded query.

    Args:
      policy: Name of the policy.
      base: Path of the files without suffix. Their folder is created.

    Raises:
      SimloopError: If the folder cannot be written to.
    """
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        stored, arrays = base.with_suffix(".json"), base.with_suffix(".npz")
        stored.write_text(stored_explanation(explanation, recorded, policy).to_json(), encoding="utf-8")
        np.savez(arrays, allow_pickle=False, **arrays_of(explanation))
    except OSError as error:
        raise SimloopError(
            f"{base.parent} cannot be written to: {error.strerror}. Choose another --output."
        ) from error
    return [stored, arrays, *write_pictures(explanation, base)]


def write_pictures(explanation: Explanation, base: Path) -> list[Path]:
    """Write the pictures of an explanation."""
    figures = {
        "attention": attention_figure(explanation),
        "heads": heads_figure(explanation),
        "spread": spread_figure(explanation),
    }
    files = [base.with_name(f"{base.name}-{name}.png") for name in figures]
    for file, figure in zip(files, figures.values(), strict=True):
        Picture.of(figure).save(file)
    return files


def stored_explanation(explanation: Explanation, recorded: RecordedQuery, policy: str) -> StoredExplanation:
    """The numbers of an explanation."""
    attention, flow, answer = explanation.attention, explanation.flow, explanation.answer
    return StoredExplanation(
        query=recorded.query,
        step=recorded.step,
        key=recorded.key,
        policy=policy,
        instruction=recorded.instruction,
        cameras=tuple(
            CameraAttention(
                camera, attention.layout.side, tuple(attention.image_map(camera).ravel().tolist())
            )
            for camera in attention.layout.cameras
        ),
        shares=attention.shares(),
        words=tuple(attention.word_shares()),
        draws=len(explanation.draws),
        spread=tuple(map(tuple, explanation.spread.tolist())) if len(explanation.draws) > 1 else (),
        differs=distance_in_spreads(explanation, recorded),
        speeds=None if flow is None else tuple(flow.speeds.tolist()),
        answer=None if answer is None else tuple(map(dataclasses.asdict, answer)),
        sensitivities=tuple(map(dataclasses.asdict, explanation.sensitivities)),
        state=tuple(map(dataclasses.asdict, explanation.state)),
        actions=tuple(map(dataclasses.asdict, explanation.actions)),
        images=tuple(CameraDistance(**dataclasses.asdict(one)) for one in explanation.cameras),
    )


def arrays_of(explanation: Explanation) -> dict[str, np.ndarray]:
    """The arrays of an explanation by name, for NumPy archives."""
    arrays = {
        "attention": explanation.attention.weights.astype(np.float32),
        "rollout": explanation.attention.rollout.astype(np.float32),
        "chunk": explanation.chunk,
        "draws": explanation.draws,
    }
    if explanation.flow is not None:
        arrays |= {"flow_x": explanation.flow.x, "flow_times": explanation.flow.times}
    return arrays | {f"image {camera}": image for camera, image in explanation.images.items()}


def distance_in_spreads(explanation: Explanation, recorded: RecordedQuery) -> float | None:
    """Root mean square distance of a recorded chunk from the one computed anew, in units of the spread.

    None if there is no spread, or one of the chunks is not there.
    """
    if recorded.chunk.shape != explanation.chunk.shape or len(explanation.draws) < 2:
        return None
    unit = float(np.sqrt(np.square(explanation.spread).mean()))
    difference = recorded.chunk.astype(np.float64) - explanation.chunk
    return float(np.sqrt(np.square(difference).mean())) / unit if unit > 0 else None
