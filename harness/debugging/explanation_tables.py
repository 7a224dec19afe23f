"""Tables of explanations for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from simloop.results.tables.grid import NONE, Grid

if TYPE_CHECKING:
    from simloop.policies.explaining.answers import AnswerToken, RunnerUp
    from simloop.policies.explaining.distances import Distance
    from simloop.policies.explaining.explanation import Explanation

DIFFERS = 0.01
"""Distance from the recorded chunk, in units of the spread, above which a table says it: rounding gives less."""


def explanation_grids(explanation: Explanation, differs: float | None = None) -> Iterator[Grid]:
    """Tables of an explanation.

    Args:
      differs: Distance of the recorded chunk from the one computed anew, in units of the spread.
    """
    yield attention_grid(explanation)
    if len(explanation.draws) > 1:
        yield spread_grid(explanation, differs)
    if explanation.flow is not None:
        yield flow_grid(explanation)
    if explanation.answer is not None:
        yield answer_grid(explanation)
    if explanation.sensitivities:
        yield sensitivity_grid(explanation)
    if explanation.state or explanation.actions:
        yield distance_grid(explanation)
    yield image_grid(explanation)


def attention_grid(explanation: Explanation) -> Grid:
    """What the tokens of actions take from cameras, prompt and state: rollout, and every layer."""
    attention = explanation.attention
    layers = attention.weights.shape[0]
    shown = range(layers) if layers <= 6 else np.linspace(0, layers - 1, 6).astype(int)
    by_layer = [attention.shares(attention.weights[layer].mean(axis=0)) for layer in shown]
    sharpest = _sharpest(explanation)
    rows = tuple(
        (name, _percent(share), *(_percent(of_layer[name]) for of_layer in by_layer), sharpest[name])
        for name, share in attention.shares().items()
    )
    words = sorted(attention.word_shares(), key=lambda word: -word[1])[:4]
    read = ", ".join(f"{word!r} {_percent(share)}" for word, share in words)
    notes = (
        "Share of each input in what actions take from all inputs. Rollout multiplies the layers, each half attention "
        "and half residual; a layer is the mean over its heads; a head is written layer.head, with its share.",
        f"Within the prompt, in %: {read}." if read else "",
    )
    columns = ("attention to", "rollout", *(f"layer {layer}" for layer in shown), "most by head")
    return Grid("Attention of the answer to its inputs, in %", columns, (rows,), tuple(filter(None, notes)))


def _sharpest(explanation: Explanation) -> dict[str, str]:
    attention = explanation.attention
    layers, heads = attention.weights.shape[:2]
    shares = {
        (layer, head): attention.shares(attention.weights[layer, head])
        for layer in range(layers)
        for head in range(heads)
    }
    best = {}
    for name in attention.shares():
        layer, head = max(shares, key=lambda place: shares[place][name])
        best[name] = f"{layer}.{head}: {_percent(shares[layer, head][name])}"
    return best


def spread_grid(explanation: Explanation, differs: float | None) -> Grid:
    """Standard deviation over draws, by action dimension."""
    spread, chunk, draws = explanation.spread, explanation.chunk, explanation.draws.astype(np.float64)
    steps = len(spread)
    rows = tuple(
        (
            f"action {i}",
            _number(chunk[:, i].mean(dtype=np.float64)) if len(chunk) else NONE,
            *(_number(spread[step, i]) for step in (0, steps // 2, steps - 1)),
            _number(draws[..., i].min()),
            _number(draws[..., i].max()),
        )
        for i in range(spread.shape[1])
    )
    what = "noise seeds" if explanation.flow is not None else "draws at temperature 1"
    notes = [f"Standard deviation over {len(explanation.draws)} {what}, in the convention of the policy."]
    if differs is not None and differs > DIFFERS:
        notes.append(
            f"The recorded chunk is {differs:.2g} spreads away from this one: the run had other weights or inputs."
        )
    columns = (
        "spread",
        "answer, mean",
        "first step",
        f"step {steps // 2}",
        "last step",
        "smallest",
        "largest",
    )
    return Grid("Spread of the answer", columns, (rows,), tuple(notes))


def flow_grid(explanation: Explanation) -> Grid:
    """Size of the velocity along the flow from noise to actions, and how far the actions are still away."""
    flow = explanation.flow
    assert flow is not None
    left = np.sqrt(np.square(flow.x - flow.x[-1]).mean(axis=(1, 2), dtype=np.float64))
    rows = tuple(
        (str(step), _number(flow.times[step]), _number(speed), _number(left[step]))
        for step, speed in enumerate(flow.speeds)
    )
    notes = (
        "Root mean squares over the chunk, in model units. On a straight path the velocity keeps its size; where it "
        "grows towards time 0, few steps integrate it badly.",
    )
    columns = ("flow step", "time", "velocity", "distance to the actions")
    return Grid("From noise (time 1) to actions (time 0)", columns, (rows,), notes)


def answer_grid(explanation: Explanation) -> Grid:
    """Every token of an answer with its probability, and what likely others would have meant."""
    rows = []
    assert explanation.answer is not None
    for i, token in enumerate(explanation.answer):
        others = ", ".join(
            f"{_meaning(other)} {_percent(other.probability)}"
            + ("" if other.change is None else f" (Δ {other.change:.2g})")
            for other in token.runners_up
        )
        by = "fixed" if token.fixed else "forced" if token.forced else "free"
        rows.append(
            (
                str(i),
                _meaning(token),
                _percent(token.probability),
                f"{token.entropy_bits:.2f}",
                _percent(token.allowed),
                by,
                others or NONE,
            )
        )
    notes = (
        "In brackets the DCT coefficients that a token encodes, of each action at the lowest frequency, then at the "
        "next. Probability in % and entropy in bits over the whole vocabulary, before the grammar masks tokens. "
        "Allowed: probability of all tokens that fit. Fixed: only one fits. Forced: the likeliest does not fit. Δ: "
        "change of the chunk, in units of its spread, if the answer continues from that token.",
    )
    columns = ("token", "means", "probability", "entropy", "allowed", "decoding", "runners-up")
    return Grid("Tokens of the answer", columns, (tuple(rows),), notes, labels=2)


def sensitivity_grid(explanation: Explanation) -> Grid:
    """Change of the chunk when something in the inputs is changed."""
    size = explanation.chunk.shape[-1]
    rows = tuple(
        (
            one.name,
            _change(one.change),
            *(_change(one.by_action[i] if one.by_action else None) for i in range(size)),
        )
        for one in sorted(explanation.sensitivities, key=lambda one: -(one.change or 0.0))
    )
    notes = (
        "Root mean square change of the chunk in units of its spread, with the same noise. Two answers to the same "
        "inputs with other noise are 1.4 apart: less than that, and the policy hardly uses what was changed.",
    )
    columns = ("change", "chunk", *(f"action {i}" for i in range(size)))
    return Grid("Sensitivity", columns, (rows,), notes)


def distance_grid(explanation: Explanation) -> Grid:
    """State and actions beside the statistics of the training data."""
    groups = [
        tuple(_distance_row(f"{name} {one.entry}", one) for one in distances)
        for name, distances in (("state", explanation.state), ("action", explanation.actions))
        if distances
    ]
    notes = (
        "Deviations: from the mean, at most. Overflow: beyond the quantiles, in % of their range. Outside: share of "
        "values that overflow by more than 1 % or, without quantiles, are more than 3 deviations away. Saturated: "
        "beyond the bins of the prompt.",
    )
    columns = ("entry", "value", "mean ± sd", "q01 … q99", "deviations", "overflow", "outside", "normalized")
    return Grid("Distance from the training data", columns, tuple(groups), notes)


def image_grid(explanation: Explanation) -> Grid:
    """Distance of the images from those of the training data."""
    columns = ("camera", "distance", "percentile", "training median", "training largest")
    title = "Distance of the images from the training data"
    if not explanation.cameras:
        missing = (
            "Not recorded: the checkpoint has no image_stats.json, which simloop train writes beside the statistics of "
            "state and actions."
        )
        return Grid(title, columns, (), (missing,))
    rows = tuple(
        (
            one.camera,
            f"{one.distance:.2f}",
            f"{one.percentile:.1f}",
            f"{one.median:.2f}",
            f"{one.largest:.2f}",
        )
        for one in explanation.cameras
    )
    notes = (
        "Mahalanobis distance of the colours in an 8 x 8 grid, about 1 for images like those of training. Percentile: "
        "share of training images, of episodes that the distribution was not fitted to, that are nearer.",
    )
    return Grid(title, columns, (rows,), notes)


def _distance_row(name: str, one: Distance) -> tuple[str, ...]:
    return (
        name,
        _range(one.low, one.high),
        f"{_number(one.mean)} ± {_number(one.std)}",
        NONE if one.q01 is None or one.q99 is None else _range(one.q01, one.q99),
        f"{one.deviations:.1f}",
        NONE if one.q01 is None else _percent(one.overflow),
        _percent(one.outside),
        _range(one.model_low, one.model_high) + (" saturated" if one.saturated else ""),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _range(low: float, high: float) -> str:
    return _number(low) if low == high else f"{_number(low)} … {_number(high)}"


def _change(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _meaning(token: AnswerToken | RunnerUp) -> str:
    """The coefficients that a token encodes, or its piece."""
    if token.coefficients:
        return f"[{' '.join(f'{one:+d}' if one else '0' for one in token.coefficients)}]"
    return token.piece.replace("\n", "⏎").replace("▁", "␣")
