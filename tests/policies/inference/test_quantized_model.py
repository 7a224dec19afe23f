"""Models in 8 bits."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from simloop.policies.inference.quantization import KINDS, Quantization, QuantizationError
from simloop.policies.inference.quantized_model import (
    ObservedProduct,
    QuantizedProduct,
    _matrices_in_8_bits,
    quantized,
    with_products,
)
from simloop.policies.inference.sampling import compiled_for_inference
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.pi0 import Pi0
from simloop.policies.models.pi0_fast import Pi0Fast
from tests.helpers.families import first_of
from tests.helpers.small_models import (
    random_batch,
    random_noise,
    relative,
    small_config,
    small_model,
    take_rows,
    with_lora,
)

ROWS = 3


def answers(model, batch):
    if isinstance(model, Pi0Fast):
        return compiled_for_inference(model, lambda model, batch: model.read_prompt(batch, 4)[0], model.plan)(
            batch
        )
    noise = random_noise(model.config, batch.batch)[np.argsort(batch.state[:, 0])]
    sample = compiled_for_inference(
        model, lambda model, batch, noise: Pi0.sample_actions(model, batch, noise, 3), model.plan
    )
    return sample(batch, noise)


@functools.cache
def reaches(config, rows=ROWS):
    """Largest inputs of every product, by name and layer, and the answers on the way."""
    model, batch = small_model(config), random_batch(config, rows)
    seen = {}

    def watch(name, layer, largest):
        seen[name, int(layer)] = max(seen.get((name, int(layer)), 0.0), float(largest))

    watched = with_products(
        model,
        lambda name, matrix, bias, axes: ObservedProduct(name, matrix, bias, axes, watch),
        PLAIN.without("keys_only"),
    )
    out = answers(watched, batch)
    jax.effects_barrier()
    return seen, out


def ranges(seen):
    return {name: tuple(seen[name, layer] for layer in range(2)) for name, _ in seen}


def in_8_bits_by_hand(x, matrix, reach, kind):
    """The same in float64, number by number."""
    largest = {"int8": 127, "fp8": 448}[kind]
    small = np.round if kind == "int8" else lambda x: x.astype(ml_dtypes.float8_e4m3fn)
    scales = np.abs(matrix).max(axis=0) / largest
    weights = small((matrix / scales).astype(np.float32)).astype(np.float64) * scales
    step = reach / largest
    inputs = small(np.clip(x / step, -largest, largest).astype(np.float32)).astype(np.float64) * step
    return inputs @ weights


@pytest.mark.parametrize("kind", KINDS)
def test_multiplies_rounded_numbers(kind):
    rng = np.random.default_rng(0)
    matrix, x = (
        rng.standard_normal((1, 40, 12)).astype(np.float32),
        rng.standard_normal((5, 40)).astype(np.float32),
    )
    reach = 2.0  # Some inputs are beyond it, and are cut.
    bias = rng.standard_normal((1, 12)).astype(np.float32)
    values, scales = jax.tree.map(lambda leaf: leaf[0], _matrices_in_8_bits(jnp.asarray(matrix), kind))
    by = QuantizedProduct(kind, values, scales, jnp.float32(reach), jnp.asarray(bias[0]), 1)
    wanted = in_8_bits_by_hand(x, matrix[0], reach, kind) + bias
    assert relative(by(jnp.asarray(x)), wanted) < 1e-6
    assert relative(by(jnp.asarray(x), start=5), wanted[:, 5:]) < 1e-6
    assert relative(by(jnp.asarray(x)), x @ matrix[0] + bias) < 0.2
    assert by(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    assert by(jnp.asarray(x), dtype=jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("family", first_of("pi0_fast", "pi0", "pi05"))
def test_observes_every_product_of_every_layer_without_changing_answers(family):
    config = small_config(family)
    model, batch = small_model(config), random_batch(config, ROWS)
    seen, out = reaches(config)
    assert relative(out, answers(model, batch)) < 1e-5
    experts = range(len(config.experts))
    holders = ["images", *(f"experts/{number}" for number in experts)]
    parts = ("attention/in", "attention/out", "mlp/in", "mlp/out")
    products = [f"{holder}/{part}" for holder in holders for part in parts]
    assert set(seen) == {(name, layer) for name in products for layer in range(2)}
    assert all(reach > 0 for reach in seen.values())


@pytest.mark.parametrize(("kind", "within"), first_of(("int8", 0.15), ("fp8", 0.4)))
@pytest.mark.parametrize("family", first_of("pi0", "pi05", "pi0_fast"))
def test_answers_in_8_bits_approximate_the_others(family, kind, within):
    """Weights are drawn so that attention peaks, which amplifies small differences."""
    config = small_config(family)
    model, batch = small_model(config), random_batch(config, ROWS)
    plain = answers(model, batch)
    small = quantized(model, Quantization(kind, ranges(reaches(config)[0])))
    difference = relative(answers(small, batch), plain)
    assert 1e-4 < difference < within


def test_weights_take_a_quarter_of_float32():
    config = small_config("pi05")
    model = small_model(config)
    small = quantized(model, Quantization("int8", ranges(reaches(config)[0])))

    def bytes_of(expert):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(expert.layers.mlp)))

    before, after = (bytes_of(one.transformer.experts[0]) for one in (model, small))
    assert before / 4 < after < before / 3  # Scales and ranges come on top.


def test_looped_and_unrolled_layers_agree():
    looped = small_config("pi05")
    batch = random_batch(looped, ROWS)
    record = Quantization("int8", ranges(reaches(looped)[0]))
    one, other = (
        answers(quantized(small_model(looped), record, InferencePlan(unroll_layers=unroll)), batch)
        for unroll in (False, True)
    )
    assert relative(one, other) < 1e-3  # A number between two steps goes either way.


def test_a_row_does_not_depend_on_its_index():
    config = small_config("pi0")
    model, batch = small_model(config), random_batch(config, 4)
    small = quantized(model, Quantization("fp8", ranges(reaches(config, 4)[0])))
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(
        answers(small, take_rows(batch, order)), np.asarray(answers(small, batch))[order]
    )


def test_rejects_ranges_of_another_model():
    config = small_config("pi0")
    model = small_model(config)
    record = ranges(reaches(config)[0])
    with pytest.raises(
        QuantizationError, match=r"2 layers with a product 'images/mlp/in'; .* ranges \[1.0\]"
    ):
        quantized(model, Quantization("int8", {**record, "images/mlp/in": (1.0,)}))
    with pytest.raises(QuantizationError, match="experts/1/mlp/out"):
        quantized(model, Quantization("int8", {**record, "experts/1/mlp/out": (1.0, float("nan"))}))
    with pytest.raises(QuantizationError, match="ranges for nothing/known, which the model does not have"):
        quantized(model, Quantization("int8", {**record, "nothing/known": (1.0, 1.0)}))


def test_rejects_adapters():
    config = with_lora(small_config("pi0"))
    with pytest.raises(QuantizationError, match="Merge the adapters"):
        quantized(small_model(config), Quantization("int8", {}))


def test_reads_written_records_and_rejects_damaged_ones():
    record = Quantization("fp8", {"images/mlp/in": (1.5, 2.25)})
    assert Quantization.from_json(record.as_json()) == record
    wide = {"kind": "fp8", "ranges": {"a": ["wide"]}}
    for damaged in (None, {}, {"kind": "fp8"}, wide, {"kind": "fp8", "ranges": 3}):
        with pytest.raises(QuantizationError, match="damaged"):
            Quantization.from_json(damaged)
    with pytest.raises(QuantizationError, match="int8 or fp8; the record says 'int4'"):
        Quantization.from_json({"kind": "int4", "ranges": {}})
