"""The figures of the documentation say what the models do."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from scripts.model_figures.canvas import Text
from scripts.model_figures.drawing import PALIGEMMA, Drawing, DrawingError
from scripts.model_figures.observed import ObservedModel, observe
from simloop.policies.models.configs import ModelConfig, pi0, pi0_fast, pi05
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import abstract_model
from simloop.policies.presets import Preset

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "figures"
BATCH = 7  # No size of a full-size model.

# As counted in the published checkpoints.
PARAMETERS = {"pi0": 3_238_048_528, "pi05": 3_353_433_872, "pi0_fast": 2_923_335_408}


def draw_models(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "draw_models"), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=False,
    )


def texts(figure: str) -> list[str]:
    """The lines of text of a committed figure, in the order in which they were drawn."""
    svg = ET.parse(FIGURES / figure)
    return [node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text")]


def shapes_of(what: str, figure: str) -> set[str]:
    """The shapes that the figure gives under `what`."""
    return {after for line, after in pairwise(texts(figure)) if line == what}


def evaluated(config: ModelConfig, use: Callable[[Any, ModelInput], Any]) -> Any:
    """What a function of a full-size model and a batch returns, as written in the figures."""
    graph, state = nnx.split(abstract_model(config))

    def run(state: Any) -> Any:
        size, tokens = config.image_size, (BATCH, config.max_token_len)
        batch = ModelInput(
            images={camera: jnp.zeros((BATCH, size, size, 3), jnp.float32) for camera in config.cameras},
            image_masks={camera: jnp.ones(BATCH, jnp.bool_) for camera in config.cameras},
            state=jnp.zeros((BATCH, config.action_dim), jnp.float32),
            tokens=jnp.zeros(tokens, jnp.int32),
            token_mask=jnp.ones(tokens, jnp.bool_),
            token_loss_mask=jnp.ones(tokens, jnp.bool_),
        )
        return use(nnx.merge(graph, state), batch)

    def written(array: jax.ShapeDtypeStruct) -> str:
        return f"[{', '.join('b' if axis == BATCH else str(axis) for axis in array.shape)}]"

    return jax.tree.map(written, jax.eval_shape(run, state))


@pytest.fixture(scope="module")
def tokens_model() -> ObservedModel:
    """pi0-FAST, which is the quickest to trace."""
    return observe(pi0_fast())


def test_the_committed_figures_are_those_that_the_models_draw() -> None:
    result = draw_models("--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_figure_that_is_not_what_the_models_draw_is_named_and_replaced(tmp_path: Path) -> None:
    shutil.copytree(FIGURES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pi05.svg").write_bytes((FIGURES / "pi05.svg").read_bytes().replace(b"968", b"969"))
    drawn = draw_models("--folder", str(tmp_path))
    assert (drawn.returncode, drawn.stdout) == (0, "Drawn anew: pi05.svg.\n")
    assert (tmp_path / "pi05.svg").read_bytes() == (FIGURES / "pi05.svg").read_bytes()


@pytest.mark.parametrize(("config", "figure"), [(pi0(), "pi0.svg"), (pi05(), "pi05.svg")])
def test_shapes_of_the_flow_models_are_those_of_their_functions(config: ModelConfig, figure: str) -> None:
    chunk = jnp.zeros((BATCH, config.action_horizon, config.action_dim), jnp.float32)
    times = jnp.zeros(BATCH, jnp.float32)

    def use(model: Any, batch: ModelInput) -> dict[str, Any]:
        prefix = model.read_prefix(batch)
        suffix = model.embed_suffix(batch.state, chunk, times)
        return {
            "prefix tokens": model.embed_prefix(batch).tokens,
            "suffix tokens": suffix.tokens,
            "condition": suffix.condition,
            "keys, values, each": prefix.cache.k,
            "velocity v": model.velocity(prefix, batch.state, chunk, times),
            "actions": model.sample_actions(batch, chunk),
            "loss": model.loss(batch, chunk, chunk, times),
        }

    for what, shape in evaluated(config, use).items():
        if shape is None:
            assert not shapes_of(what, figure)
        else:
            assert shape in shapes_of(what, figure), what


def test_shapes_of_the_token_model_are_those_of_its_functions() -> None:
    def use(model: Any, batch: ModelInput) -> dict[str, Any]:
        logits, prompt = model.read_prompt(batch, Preset.answer_tokens)
        outputs = model.predicting_outputs(batch)
        return {
            "prefix tokens": model.embed_prefix(batch).tokens,
            "first token": logits,
            "keys, values, each": prompt.cache.k,
            "outputs at text": outputs,
            "logits": model.transformer.logits(outputs),
            "token ids": model.sample_tokens(batch, Preset.answer_tokens).tokens,
            "loss": model.loss(batch),
        }

    for what, shape in evaluated(pi0_fast(), use).items():
        assert shape in shapes_of(what, "pi0_fast.svg"), what


def test_boxes_of_a_figure_add_up_to_the_model(tokens_model: ObservedModel) -> None:
    units = {"B": 1e9, "M": 1e6, "k": 1e3}
    for family, total in PARAMETERS.items():
        lines = texts(f"{family}.svg")
        counts = [re.fullmatch(r"([\d.]+) ([BMk])", line) for line in lines]
        sizes = [float(found[1]) * units[found[2]] for found in counts if found]
        # SigLIP says its own number and those of its three parts.
        encoder = next(found for found in counts if found)
        shown = sum(sizes) - float(encoder[1]) * units[encoder[2]]
        assert shown == pytest.approx(total, rel=2e-3)
        assert any(line.startswith(f"{total / 1e9:.2f} B parameters") for line in lines)
    assert tokens_model.total() == PARAMETERS["pi0_fast"]


def test_a_drawing_without_a_part_of_the_model_is_refused(tokens_model: ObservedModel) -> None:
    drawing = Drawing(tokens_model, width=400, height=200, title="t", description="d")
    drawing.module(10, 10, 200, 60, "all but the encoder", paths=["transformer"], fill=PALIGEMMA)
    with pytest.raises(DrawingError, match="exactly one box"):
        drawing.finish()


def test_a_drawing_with_labels_on_each_other_is_refused(tokens_model: ObservedModel) -> None:
    drawing = Drawing(tokens_model, width=400, height=200, title="t", description="d")
    drawing.module(10, 10, 200, 60, "all", paths=["transformer", "image_encoder"], fill=PALIGEMMA)
    drawing.finish()
    drawing.canvas.text(Text(300, 100, "one label", 10))
    drawing.canvas.text(Text(320, 104, "another", 10))
    with pytest.raises(DrawingError, match="'one label' and 'another' overlap"):
        drawing.finish()
