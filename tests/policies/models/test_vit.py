import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simloop.policies.models.configs import ImageEncoderConfig
from simloop.policies.models.vit import VisionTransformer, VitConfig, vit_from

BLOCKS = ImageEncoderConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch_size=8)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3)), jnp.float32)

pytestmark = pytest.mark.usefixtures("strict_promotion")


@pytest.mark.parametrize(
    ("classifier", "shape"),
    [("token", (2, 5)), ("gap", (2, 5)), ("unpooled", (2, 6, 5)), ("token_unpooled", (2, 7, 5))],
)
def test_outputs_are_of_what_the_classifier_names(classifier, shape):
    config = VitConfig(BLOCKS, classifier=classifier, classes=5)
    model = nnx.eval_shape(lambda: VisionTransformer(config, image_hw=(16, 24), rngs=nnx.Rngs(0)))
    assert nnx.eval_shape(lambda model: model(IMAGES), model).shape == shape


def test_without_positions_the_order_of_patches_does_not_matter():
    config = VitConfig(BLOCKS, classifier="gap")
    model = VisionTransformer(config, image_hw=(16, 24), rngs=nnx.Rngs(0))
    swapped = jnp.concatenate([IMAGES[:, 8:], IMAGES[:, :8]], axis=1)
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, images: nnx.merge(graph, state)(images))
    assert np.abs(run(state, swapped) - run(state, IMAGES)).max() > 1e-4
    state["positions"] = jax.tree.map(jnp.zeros_like, state["positions"])
    np.testing.assert_allclose(run(state, swapped), run(state, IMAGES), atol=1e-5)


def test_parameters_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"Missing: PaliGemma/img"):
        vit_from(VitConfig(BLOCKS), {"embedding/bias": np.zeros(16)}, image_hw=(16, 24))
