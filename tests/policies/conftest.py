import jax
import pytest


@pytest.fixture
def strict_promotion():
    """No dtype and no rank is promoted without a word: every cast is written out."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def quick_to_compile():
    """XLA optimises little, for tests whose time is compiling and that compare with room for rounding."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
