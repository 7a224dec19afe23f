import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simloop.policies.tokenizers.fsq import Codebook, FsqConfig, FsqTokenizer, grid_points, load_parameters

pytestmark = pytest.mark.usefixtures("strict_promotion")

SIZES = {"embed_dim": 64, "data_dim": 3, "data_horizon": 8, "num_tokens": 4, "num_layers": 1}
ACTIONS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 3)), jnp.float32)


@pytest.mark.parametrize(("kind", "points"), [("fsq", (8, 6, 5)), ("lfq", (2,) * 8), ("custom", (16, 16))])
def test_grids_have_the_published_shapes(kind, points):
    assert grid_points(256, kind) == points


def test_rejects_other_grid_sizes():
    with pytest.raises(ValueError, match="got 300"):
        grid_points(300, "fsq")


@pytest.mark.parametrize("kind", ["fsq", "lfq", "custom"])
def test_tokens_enumerate_the_grid(kind):
    points = grid_points(256, kind)
    codebook = Codebook(8, points, rngs=nnx.Rngs(0))
    tokens = jnp.arange(np.prod(points), dtype=jnp.int32)[None]
    found = np.asarray(codebook.point_of(tokens))[0]
    wanted = np.stack(
        [
            np.linspace(-1, 1, n)[i]
            for n, i in zip(points, np.unravel_index(tokens[0], points, order="F"), strict=True)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_gradients_pass_through_the_rounding():
    tokenizer = FsqTokenizer(FsqConfig(target_codebook_size=256, **SIZES), rngs=nnx.Rngs(0))
    graph, state = nnx.split(tokenizer)

    @jax.jit
    def step(state):
        loss, gradients = jax.value_and_grad(lambda s: nnx.merge(graph, s).loss(ACTIONS).loss)(state)
        return loss, jax.tree.map(lambda x, g: x - 2e-3 * g, state, gradients)

    first, trained = step(state)
    for _ in range(60):
        loss, trained = step(trained)
    assert loss < 0.7 * first
    moved = trained["proj_in"]["kernel"][...] - state["proj_in"]["kernel"][...]
    assert np.abs(moved).min() > 0


def test_causal_slots_ignore_later_parts_of_the_chunk():
    config = FsqConfig(target_codebook_size=256, causal=True, **SIZES)
    tokenizer = FsqTokenizer(config, rngs=nnx.Rngs(0))
    changed = ACTIONS.at[:, 4:].add(3.0)
    before, after = tokenizer.tokenize(ACTIONS).z, tokenizer.tokenize(changed).z
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert np.abs(before[:, 2:] - after[:, 2:]).max() > 1e-3


def test_causal_actions_ignore_later_slots():
    tokenizer = FsqTokenizer(FsqConfig(target_codebook_size=256, causal=True, **SIZES), rngs=nnx.Rngs(0))
    one, other = jnp.array([[5, 9, 3, 7]], jnp.int32), jnp.array([[5, 9, 200, 50]], jnp.int32)
    before, after = tokenizer.detokenize(one), tokenizer.detokenize(other)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3


def test_clips_actions_to_the_bound():
    tokenizer = FsqTokenizer(FsqConfig(target_codebook_size=256, bound=0.5, **SIZES), rngs=nnx.Rngs(0))
    clipped = jnp.clip(ACTIONS, -0.5, 0.5)
    np.testing.assert_array_equal(tokenizer.tokenize(ACTIONS).tokens, tokenizer.tokenize(clipped).tokens)


def test_rejects_a_missing_state():
    tokenizer = FsqTokenizer(FsqConfig(target_codebook_size=256, state_dim=5, **SIZES), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="state of size 5; got None"):
        tokenizer.tokenize(ACTIONS)


def test_names_parameters_that_do_not_fit():
    codebook = Codebook(8, (16, 16), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="proj_up/bias"):
        load_parameters(codebook, {"proj_down/kernel": np.zeros((8, 2)), "proj_down/bias": np.zeros(2)})
