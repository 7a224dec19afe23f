import jax
import pytest


@pytest.fixture
def strict_promotion():
    """No dtype and no rank is promoted without a word: every cast is written out."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
