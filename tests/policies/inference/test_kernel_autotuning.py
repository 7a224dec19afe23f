"""The choice of kernels: by time, never of one that does not work."""

import dataclasses

import jax
import pytest

from simloop.policies.inference import kernel_autotuning
from simloop.policies.inference.kernel_autotuning import IN_A_ROW, Shapes, choose_kernels, seconds_of
from simloop.policies.models.kernels import IMPLEMENTATIONS, Kernels
from tests.helpers.small_models import small_config

SHAPES = Shapes(rows=2, cameras=2, prompt_tokens=6)
UNROLLED = {"unroll_layers": True, "dtype": "bfloat16"}


def with_times(monkeypatch, times):
    """Choose where an operation takes so long: milliseconds, or an error, by (operation, implementation)."""
    now = {}

    def trial_of(operation, implementation, config, shapes):
        now["of"] = times.get((operation, implementation), 1.0)
        return lambda: None

    def timed(run):
        if isinstance(now["of"], Exception):
            raise now["of"]
        return now["of"] * 1e-3 * IN_A_ROW

    monkeypatch.setattr(kernel_autotuning, "trial_of", trial_of)
    return choose_kernels(small_config("pi05", **UNROLLED), SHAPES, platform="gpu", timed=timed)


def test_the_fastest_one_is_taken(monkeypatch):
    choice = with_times(
        monkeypatch,
        {
            ("image_attention", "cudnn"): 0.5,
            ("image_attention", "tokamax"): 0.7,
            ("gated_product", "tokamax"): 0.8,
        },
    )
    assert choice.kernels == Kernels(image_attention="cudnn", gated_product="tokamax")
    measured = {(trial.operation, trial.implementation): trial.milliseconds for trial in choice.trials}
    assert measured["image_attention", "cudnn"] == pytest.approx(0.5)
    assert set(measured) == {(name, one) for name, there_are in IMPLEMENTATIONS.items() for one in there_are}


def test_a_gain_within_the_noise_changes_nothing(monkeypatch):
    assert with_times(monkeypatch, {("prompt_attention", "cudnn"): 0.99}).kernels == Kernels()


def test_what_does_not_work_is_left_out_with_its_own_words(monkeypatch):
    missing = ModuleNotFoundError("No module named 'tokamax'")
    choice = with_times(
        monkeypatch,
        {
            ("prompt_attention", "cudnn"): NotImplementedError("The head dim must be <= 128\nand more"),
            ("prompt_attention", "tokamax"): missing,
            ("action_attention", "xla"): RuntimeError("RESOURCE_EXHAUSTED"),
            ("action_attention", "cudnn"): 1.0,
            ("action_attention", "tokamax"): missing,
        },
    )
    assert choice.kernels == Kernels(action_attention="cudnn")
    hindrances = {(trial.operation, trial.implementation): trial.hindrance for trial in choice.trials}
    assert hindrances["prompt_attention", "cudnn"] == "NotImplementedError: The head dim must be <= 128"
    assert hindrances["prompt_attention", "xla"] == ""


def test_nothing_is_tried_on_a_cpu():
    assert choose_kernels(small_config("pi0", **UNROLLED), SHAPES).trials == ()


def test_a_gated_product_is_tried_where_weights_are_joined():
    def operations(config):
        return {
            trial.operation
            for trial in choose_kernels(config, SHAPES, platform="gpu", timed=lambda run: 1.0).trials
        }

    config = small_config("pi05", **UNROLLED)
    assert "gated_product" in operations(config)
    assert "gated_product" not in operations(dataclasses.replace(config, unroll_layers=False))


@pytest.mark.parametrize("family", ["pi0", "pi05", "pi0_fast"])
@pytest.mark.parametrize("operation", IMPLEMENTATIONS)
def test_every_plain_path_runs_and_is_timed(family, operation):
    config = small_config(family, **UNROLLED)
    run = kernel_autotuning.trial_of(operation, "xla", config, SHAPES)
    result = jax.block_until_ready(run())
    assert result.shape[0] in (SHAPES.rows, SHAPES.rows * SHAPES.cameras)
    assert seconds_of(run) > 0


def test_kernels_for_one_device_are_not_tried_where_there_are_several():
    several = dataclasses.replace(SHAPES, devices=2)
    choice = choose_kernels(small_config("pi05", **UNROLLED), several, platform="gpu", timed=lambda run: 1.0)
    assert {trial.implementation for trial in choice.trials} == {"xla", "cudnn"}


def test_libraries_that_are_not_here_are_found_out():
    choice = choose_kernels(small_config("pi05", **UNROLLED), SHAPES, platform="gpu")
    found = {trial.implementation: trial for trial in choice.trials if trial.operation == "image_attention"}
    assert found["xla"].milliseconds is not None
    assert found["cudnn"].milliseconds is None
    assert found["cudnn"].hindrance
    assert "cudnn" not in choice.kernels.names().values()
