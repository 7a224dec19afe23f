import numpy as np
import pytest
import scipy.fft

from simloop.policies.presets import PRESETS
from simloop.policies.tokenizers.fast_actions import (
    ActionRangeError,
    fit_fast_actions,
    load_fast_actions,
    rounded_coefficients,
)
from simloop.policies.tokenizers.sentencepiece_model import TokenizerFileError


def smooth_chunks(count, steps=12, size=3, seed=0):
    rng = np.random.default_rng(seed)
    times = np.linspace(0, 1, steps)[:, None]
    return [
        rng.uniform(-0.7, 0.7, size) * np.sin(rng.uniform(0, 6, size) * times + rng.uniform(0, 6, size))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def fitted():
    return fit_fast_actions(smooth_chunks(200), vocab_size=300)


def test_coefficients_equal_the_orthonormal_cosine_transform():
    chunk = smooth_chunks(1)[0]
    steps = len(chunk)
    n, k = np.arange(steps), np.arange(steps)[:, None]
    basis = np.sqrt(2 / steps) * np.cos(np.pi / steps * (n + 0.5) * k)
    basis[0] /= np.sqrt(2)
    np.testing.assert_array_equal(rounded_coefficients(chunk, 10.0), np.round(10 * basis @ chunk))


def test_decoding_inverts_encoding_up_to_rounding(fitted):
    for chunk in smooth_chunks(20, seed=1):
        chunk = 0.8 * chunk  # Well within the range of the data it was fitted on.
        decoded = fitted.decode(fitted.encode(chunk), steps=12, size=3)
        # Each coefficient is off by at most half a step, and the transform keeps lengths.
        error = scipy.fft.dct(decoded - chunk, axis=0, norm="ortho")
        assert np.abs(error).max() <= 0.5 / fitted.scale + 1e-9


def test_smooth_chunks_take_few_tokens(fitted):
    assert np.mean([len(fitted.encode(chunk)) for chunk in smooth_chunks(20, seed=1)]) < 12 * 3 / 2


def test_rejects_tokens_with_another_number_of_coefficients(fitted):
    tokens = fitted.encode(smooth_chunks(1)[0])
    assert fitted.decode(tokens, steps=12, size=4) is None
    assert fitted.decode([-3, *tokens], steps=12, size=3) is None
    assert fitted.decode([], steps=12, size=3) is None


def test_rejects_coefficients_outside_the_alphabet(fitted):
    with pytest.raises(ActionRangeError, match="no character"):
        fitted.encode(np.full((12, 3), 40.0))


def test_saving_and_loading_keep_every_token(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = load_fast_actions(tmp_path)
    assert loaded.sha256 == fitted.sha256
    for chunk in smooth_chunks(5, seed=2):
        assert loaded.encode(chunk) == fitted.encode(chunk)


def test_fitting_is_deterministic(fitted):
    assert fit_fast_actions(smooth_chunks(200), vocab_size=300).sha256 == fitted.sha256


def test_rejects_a_vocabulary_too_small_for_the_data():
    with pytest.raises(ValueError, match="vocab_size is 20"):
        fit_fast_actions(smooth_chunks(50), vocab_size=20)


def test_names_the_missing_tokenizer_file(tmp_path):
    with pytest.raises(TokenizerFileError, match=r"processor_config\.json"):
        load_fast_actions(tmp_path)


def test_bundled_tokenizer_encodes_every_chunk_within_the_range():
    tiny = load_fast_actions(PRESETS["pi0_fast-tiny"].action_tokens)
    corners = np.random.default_rng(0).choice([-1.0, 1.0], (50, 16, 4))
    for chunk in corners:
        decoded = tiny.decode(tiny.encode(chunk), steps=16, size=4)
        assert np.abs(decoded - chunk).max() < 0.2


def test_without_merges_every_coefficient_is_one_token():
    rng = np.random.default_rng(3)
    chunks = [rng.uniform(-1, 1, (8, 3)) for _ in range(20)]
    tokenizer = fit_fast_actions(chunks, vocab_size=None, scale=5.0)
    assert set(tokenizer.coefficients_by_token()) == {1}
    for chunk in chunks[:5]:
        tokens = tokenizer.encode(chunk)
        assert len(tokens) == chunk.size
        # Orthonormal: half a step of error in every coefficient at most.
        decoded = tokenizer.decode(tokens, steps=8, size=3)
        assert np.sqrt(((decoded - chunk) ** 2).mean()) <= 0.5 / 5.0
