"""Draw the figures of docs/architecture.md from the models' own shapes and parameters.

    .venv/bin/python scripts/draw_models.py            write docs/figures
    .venv/bin/python scripts/draw_models.py --check    exit with 1 if a committed figure shows other texts

The functions of the full-size models are traced with shapes in place of arrays. Every number in a figure is a shape
or a parameter count seen there; the texts of this file contain none.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
from flax import nnx
from matplotlib import pyplot
from matplotlib.patches import FancyBboxPatch

from simloop.policies.models.configs import ModelConfig, pi0, pi0_fast, pi05
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import abstract_model
from simloop.policies.presets import Preset

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
BATCH = 1009  # A prime that divides no size of a model, so that it can be told from all of them.

DATA, VISION, LANGUAGE, ACTION = "#ffffff", "#cfe3d4", "#cddff2", "#f7d9bd"

# Which parameters belong to which box, by path within the model. Together they are all parameters.
COMMON = {
    "encoder": ("image_encoder",),
    "table": ("transformer/token_table",),
    "language": ("transformer/experts/0",),
}
FLOW = COMMON | {
    "expert": ("transformer/experts/1",),
    "in": ("action_in_proj",),
    "out": ("action_out_proj",),
}
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "pi0": FLOW | {"state": ("state_proj",), "mixer": ("action_time_mlp_in", "action_time_mlp_out")},
    "pi05": FLOW | {"time": ("time_mlp_in", "time_mlp_out")},
    "pi0_fast": COMMON,
}
NAMES = {"pi0": "pi0", "pi05": "pi0.5", "pi0_fast": "pi0-FAST"}


@dataclass(frozen=True)
class Box:
    """A rectangle around lines of text; positions and sizes are in hundredths of the width of the figure."""

    x: float
    y: float
    width: float
    height: float
    color: str
    text: str
    """With numbers as `{name}` of `observe`."""

    def at(self, side: str) -> tuple[float, float]:
        """Middle of a side: left, right, top or bottom."""
        x = {"left": 0.0, "right": 1.0}.get(side, 0.5)
        y = {"bottom": 0.0, "top": 1.0}.get(side, 0.5)
        return self.x + x * self.width, self.y + y * self.height


@dataclass(frozen=True)
class Diagram:
    """Boxes by name, arrows between their sides, and free text."""

    height: float
    boxes: Mapping[str, Box]
    arrows: tuple[str, ...]
    """Such as `images.right > encoder.left`."""
    loops: tuple[tuple[tuple[float, float], ...], ...]
    """Arrows along several points."""
    notes: tuple[tuple[float, float, str], ...]

    def texts(self, numbers: Mapping[str, str]) -> list[str]:
        """Lines of text of the figure."""
        texts = [box.text for box in self.boxes.values()] + [text for _, _, text in self.notes]
        return [line for text in texts for line in text.format(**numbers).splitlines()]


def observe(config: ModelConfig) -> dict[str, str]:
    """Shapes of a full-size model's inputs, intermediate values and outputs, and sizes of its parts, as text.

    Raises:
      ValueError: If a parameter belongs to no box or to several.
    """
    model = abstract_model(config)
    graph, state = nnx.split(model)
    size, tokens = config.image_size, (BATCH, config.max_token_len)
    batch = ModelInput(
        images={name: jnp.zeros((BATCH, size, size, 3), jnp.float32) for name in config.cameras},
        image_masks={name: jnp.ones(BATCH, jnp.bool_) for name in config.cameras},
        state=jnp.zeros((BATCH, config.action_dim), jnp.float32),
        tokens=jnp.zeros(tokens, jnp.int32),
        token_mask=jnp.ones(tokens, jnp.bool_),
    )
    use = _flow if config.action_expert else _tokens
    shapes = jax.eval_shape(lambda state: use(nnx.merge(graph, state), batch), state)
    inputs = {"images": next(iter(batch.images.values())), "tokens": batch.tokens, "state": batch.state}
    numbers = {name: _text(leaf.shape) for name, leaf in (shapes | inputs).items() if leaf is not None}
    parameters = _parameters(model)
    numbers |= {f"{part}_size": _count(size) for part, size in _part_sizes(config.family, parameters).items()}
    numbers |= {
        "steps": str(Preset.flow_steps),
        "total": _count(sum(map(math.prod, parameters.values()))),
        "cameras": str(len(batch.images)),
    }
    for part, path in (("language", "transformer/experts/0"), ("expert", "transformer/experts/1")):
        if f"{path}/layers/attention/q/w" in parameters:
            layers, heads, width, _ = parameters[f"{path}/layers/attention/q/w"]
            numbers |= {
                f"{part}_layers": str(layers),
                f"{part}_width": str(width),
                f"{part}_heads": str(heads),
            }
    layers, width, _, _ = parameters["image_encoder/blocks/attention/query/kernel"]
    return numbers | {
        "encoder_layers": str(layers),
        "encoder_width": str(width),
        "table": " × ".join(map(str, parameters["transformer/token_table"])),
    }


def _flow(model: Any, batch: ModelInput) -> dict[str, Any]:
    """What the functions of pi0 and pi0.5 return, and the flow times of their steps."""
    actions = jnp.zeros((BATCH, model.config.action_horizon, model.config.action_dim), jnp.float32)
    time = jnp.zeros(BATCH, jnp.float32)
    prefix, suffix = model.read_prefix(batch), model.embed_suffix(batch.state, actions, time)
    return {
        "prefix": model.embed_prefix(batch).tokens,
        "suffix": suffix.tokens,
        "condition": suffix.condition,
        "cache": prefix.cache.k,
        "velocity": model.velocity(prefix, batch.state, actions, time),
        "actions": model.sample_actions(batch, actions, Preset.flow_steps),
        "time": time,
    }


def _tokens(model: Any, batch: ModelInput) -> dict[str, Any]:
    """What the functions of pi0-FAST return."""
    logits, prompt = model.read_prompt(batch, Preset.answer_tokens)
    return {
        "prefix": model.embed_prefix(batch).tokens,
        "cache": prompt.cache.k,
        "logits": logits,
        "answer": model.sample_tokens(batch, Preset.answer_tokens).tokens,
        "chunk": jnp.zeros((BATCH, model.config.action_horizon, model.config.action_dim)),
    }


def _parameters(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    return {"/".join(str(key.key) for key in keys): leaf.shape for keys, leaf in leaves}


def _part_sizes(family: str, parameters: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    sizes = dict.fromkeys(PARTS[family], 0)
    for name, shape in parameters.items():
        owners = [
            part
            for part, paths in PARTS[family].items()
            if any(f"{name}/".startswith(f"{path}/") for path in paths)
        ]
        if len(owners) != 1:
            raise ValueError(f"Each parameter belongs to one box; {name} of {family} belongs to {owners}.")
        sizes[owners[0]] += math.prod(shape)
    return sizes


def _text(shape: tuple[int, ...]) -> str:
    return f"[{', '.join('b' if axis == BATCH else str(axis) for axis in shape)}]"


def _count(size: int) -> str:
    for unit, factor in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return str(size)


def _prefix_boxes(top: float, prompt: str) -> dict[str, Box]:
    """From images and prompt to the language model."""
    return {
        "images": Box(0, top - 9, 15, 8, DATA, "{cameras} images, each\n{images}"),
        "tokens": Box(0, top - 20, 15, 8, DATA, f"{prompt}\n{{tokens}}"),
        "encoder": Box(
            20, top - 10, 24, 10, VISION,
            "SigLIP image encoder, {encoder_size}\n{encoder_layers} layers, width {encoder_width}",
        ),
        "table": Box(20, top - 20, 24, 8, LANGUAGE, "token embedding, {table_size}\n{table}"),
        "prefix": Box(49, top - 14, 14, 8, DATA, "prefix tokens\n{prefix}"),
        "language": Box(
            68, top - 17, 18, 14, LANGUAGE,
            "Gemma, {language_size}\n{language_layers} layers\nwidth {language_width}, {language_heads} heads",
        ),
    }  # fmt: skip


PREFIX_ARROWS = (
    "images.right > encoder.left",
    "tokens.right > table.left",
    "encoder.right > prefix.left",
    "table.right > prefix.left",
    "prefix.right > language.left",
)


def flow_diagram(config: ModelConfig) -> Diagram:
    """pi0 and pi0.5: a prefix that is read once, and a suffix that is refined by Euler steps."""
    mixes_time = config.time_conditioning == "concatenate"
    top = 56.0 if mixes_time else 48.0
    prompt = "prompt tokens" if config.state_as == "token" else "prompt tokens, with state"
    boxes = _prefix_boxes(top, prompt) | {
        "noisy": Box(0, 12, 15, 8, DATA, "noisy actions\n{velocity}"),
        "time": Box(0, 2, 15, 7, DATA, "flow time {time}"),
        "in": Box(20, 12, 11 if mixes_time else 24, 8, ACTION, "projection\n{in_size}"),
        "suffix": Box(49, 12, 14, 8, DATA, "suffix tokens\n{suffix}"),
        "expert": Box(
            68, 10, 18, 12, ACTION,
            "action expert, {expert_size}\n{expert_layers} layers\nwidth {expert_width}, {expert_heads} heads",
        ),
        "out": Box(90, 17, 14, 7, ACTION, "projection\n{out_size}"),
        "velocity": Box(90, 7, 14, 7, DATA, "velocity\n{velocity}"),
    }  # fmt: skip
    arrows = (
        *PREFIX_ARROWS, "noisy.right > in.left", "suffix.right > expert.left", "language.bottom > expert.top",
        "out.bottom > velocity.top",
    )  # fmt: skip
    loops: tuple[tuple[tuple[float, float], ...], ...] = (
        ((86, 20.5), (90, 20.5)),
        ((97, 7), (97, -3), (-3, -3), (-3, 16), (0, 16)),
    )
    if mixes_time:
        boxes |= {
            "state": Box(0, 23, 15, 7, DATA, "state\n{state}"),
            "project": Box(20, 23, 11, 7, ACTION, "projection\n{state_size}"),
            "mixer": Box(34, 12, 10, 8, ACTION, "MLP\n{mixer_size}"),
        }
        arrows = (
            *arrows,
            "state.right > project.left",
            "in.right > mixer.left",
            "mixer.right > suffix.left",
        )
        loops = (*loops, ((31, 26.5), (56, 26.5), (56, 20)), ((15, 5.5), (39, 5.5), (39, 12)))
        notes = ((27.5, 7, "sines and cosines"),)
    else:
        boxes["mlp"] = Box(20, 1.5, 24, 8, ACTION, "MLP after sines and cosines\n{time_size}")
        arrows = (*arrows, "in.right > suffix.left", "time.right > mlp.left")
        loops = (*loops, ((44, 5.5), (77, 5.5), (77, 10)))
        notes = ((60, 7, "condition {condition}, scales and shifts norms"),)
    return Diagram(
        top, boxes, arrows, loops,
        (
            *notes,
            (88.5, (top + 5) / 2, "keys and values of every\nlayer, each {cache}"),
            (47, -1.2, "{steps} Euler steps; the last one gives the actions {actions}"),
            (97, top - 10, f"{NAMES[config.family]}:\n{{total}} parameters"),
        ),
    )  # fmt: skip


def token_diagram(config: ModelConfig) -> Diagram:
    """pi0-FAST: the same transformer continues behind the prompt and generates actions as tokens."""
    top = 30.0
    boxes = _prefix_boxes(top, "prompt tokens, with state") | {
        "logits": Box(90, 16, 14, 7, DATA, "logits\n{logits}"),
        "answer": Box(90, 1, 14, 7, DATA, "token ids\n{answer}"),
        "decoder": Box(
            68, 0, 18, 9, ACTION, "FAST tokenizer:\ntokens to coefficients,\ninverse cosine transform"
        ),
        "chunk": Box(49, 1, 14, 7, DATA, "actions\n{chunk}"),
    }
    arrows = (
        *PREFIX_ARROWS,
        "logits.bottom > answer.top",
        "answer.left > decoder.right",
        "decoder.left > chunk.right",
    )
    loops = (
        ((86, 19.5), (90, 19.5)),
        ((97, 1), (97, -3), (32, -3), (32, 10)),
    )
    notes = (
        (60, -1.2, "every token is embedded and read in turn"),
        (97.5, 26.5, "token embedding,\ntransposed"),
        (77, 11, "cached keys and values, each {cache}"),
        (8, 3, f"{NAMES[config.family]}:\n{{total}} parameters"),
    )
    return Diagram(top + 2, boxes, arrows, loops, notes)


DIAGRAMS = {"pi0": (pi0, flow_diagram), "pi05": (pi05, flow_diagram), "pi0_fast": (pi0_fast, token_diagram)}


def draw(diagram: Diagram, numbers: Mapping[str, str], file: Path) -> None:
    """Write a figure as SVG or PNG, by the name of the file."""
    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "simloop", "font.family": "DejaVu Sans"})
    figure, axes = pyplot.subplots(figsize=(11.2, 11.2 * (diagram.height + 5) / 110))
    axes.set(xlim=(-4, 106), ylim=(-4.5, diagram.height + 0.5))
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    style = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    for box in diagram.boxes.values():
        patch = FancyBboxPatch(
            (box.x + 0.5, box.y + 0.5), box.width - 1, box.height - 1, "round,pad=0.5,rounding_size=0.8",
            facecolor=box.color, edgecolor="#888888" if box.color == DATA else "#444444",
        )  # fmt: skip
        axes.add_patch(patch)
        center = (box.x + box.width / 2, box.y + box.height / 2)
        axes.text(*center, box.text.format(**numbers), ha="center", va="center", fontsize=8, linespacing=1.3)
    for arrow in diagram.arrows:
        start, end = (diagram.boxes[name].at(side) for name, side in re.findall(r"(\w+)\.(\w+)", arrow))
        axes.annotate("", end, start, arrowprops=style)
    for points in diagram.loops:
        axes.plot(*zip(*points[:-1], strict=True), color="#444444", linewidth=1.1, solid_capstyle="round")
        axes.annotate("", points[-1], points[-2], arrowprops=style)
    for x, y, text in diagram.notes:
        axes.text(x, y, text.format(**numbers), ha="center", va="center", fontsize=8, style="italic")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Write or check the figures; returns the exit status."""
    stale = []
    for family, (config, diagram_of) in DIAGRAMS.items():
        file, diagram, numbers = FIGURES / f"{family}.svg", diagram_of(config()), observe(config())
        if "--check" not in sys.argv:
            draw(diagram, numbers, file)
        elif not file.exists() or texts_of(file) != sorted(diagram.texts(numbers)):
            stale.append(file.name)
    if stale:
        print(f"Out of date in {FIGURES}: {', '.join(stale)}. Run scripts/draw_models.py.")
    return 1 if stale else 0


def texts_of(file: Path) -> list[str]:
    """Sorted lines of text of a figure."""
    lines = re.findall(r"<(?:text|tspan)[^>]*>([^<]+)</", file.read_text())
    return sorted(line for line in lines if line.strip())


if __name__ == "__main__":
    sys.exit(main())
