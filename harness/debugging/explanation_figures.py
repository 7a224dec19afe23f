"""Pictures of explanations: attention over camera images, and chunks of different noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simloop.results.figures.style import COLOURS, styled

if TYPE_CHECKING:
    from simloop.policies.explaining.explanation import Explanation

MOST_LAYERS, MOST_HEADS = 18, 8


def attention_figure(explanation: Explanation) -> Figure:
    """Images of all cameras, as the model gets them, without and with the attention rollout over them."""
    attention = explanation.attention
    cameras, shares = attention.layout.cameras, attention.shares()
    figure = Figure(figsize=(2.2 * max(len(cameras), 1), 4.6), layout="constrained")
    with styled():
        panels = figure.subplots(2, max(len(cameras), 1), squeeze=False)
        for (plain, over), camera in zip(panels.T, cameras, strict=True):
            image = explanation.images[camera]
            _show(plain, image, camera)
            weights = attention.image_map(camera)
            _overlay(over, image, weights)
            over.set_xlabel(f"{100 * shares[camera]:.0f} % of the attention\nto inputs")
    return figure


def heads_figure(explanation: Explanation) -> Figure:
    """Attention of every layer (rows) and head (columns) to the patches of the first camera."""
    attention = explanation.attention
    layers, heads = min(len(attention.weights), MOST_LAYERS), min(attention.weights.shape[1], MOST_HEADS)
    figure = Figure(figsize=(1.1 * heads + 0.4, 1.15 * layers + 0.4), layout="constrained")
    with styled():
        panels = figure.subplots(layers, heads, squeeze=False)
        if not attention.layout.cameras:
            return figure
        camera = attention.layout.cameras[0]
        for layer, row in enumerate(panels):
            for head, axes in enumerate(row):
                weights = attention.weights[layer, head]
                share = float(weights[:, attention.layout.camera(camera)].sum(axis=1).mean())
                _overlay(axes, explanation.images[camera], attention.image_map(camera, weights))
                axes.set_title(f"{100 * share:.0f} %", fontsize=6, pad=1)
                if head == 0:
                    axes.set_ylabel(f"layer {layer}", fontsize=6)
        figure.supxlabel(f"Heads; above each its attention to {camera}", fontsize=7)
    return figure


def spread_figure(explanation: Explanation) -> Figure:
    """Every action dimension over the steps of the chunk: draws, their mean ± one standard deviation, the answer."""
    draws, chunk = explanation.draws, explanation.chunk
    size = max(chunk.shape[-1], 1)
    figure = Figure(figsize=(5.0, 0.3 + 1.0 * size), layout="constrained")
    with styled():
        for i, axes in enumerate(np.atleast_1d(figure.subplots(size, sharex=True))):
            steps = np.arange(len(chunk))
            if len(draws) > 1:
                values = draws[..., i]
                mean, deviation = values.mean(axis=0), values.std(axis=0)
                over = np.arange(values.shape[1])
                axes.plot(over, values.T, color=COLOURS[5], linewidth=0.5, alpha=0.6)
                axes.fill_between(
                    over, mean - deviation, mean + deviation, color=COLOURS[0], alpha=0.25, linewidth=0
                )
            if len(chunk):
                axes.plot(steps, chunk[:, i], color=COLOURS[1])
            axes.set_ylabel(f"action {i}")
        axes.set_xlabel(f"step of the chunk; {len(draws)} draws, ± 1 standard deviation, and the answer")
    return figure


def _show(axes: Axes, image: UInt8[np.ndarray, "h w 3"], title: str) -> None:
    axes.imshow(image)
    axes.set_title(title)
    _bare(axes)


def _overlay(axes: Axes, image: UInt8[np.ndarray, "h w 3"], weights: Float[np.ndarray, "r r"]) -> None:
    """The grey image, with patches the more opaque, the more weight they have."""
    height, width = image.shape[:2]
    axes.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    strength = weights / max(float(weights.max()), 1e-12)
    axes.imshow(
        strength,
        cmap="inferno",
        alpha=0.15 + 0.6 * strength,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
        vmin=0,
        vmax=1,
    )
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
