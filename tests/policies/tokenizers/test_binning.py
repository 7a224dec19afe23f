import numpy as np

from simloop.policies.tokenizers.binning import BinningTokenizer


def test_decoded_actions_are_within_one_bin(text_model):
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 8))
    tokenizer = BinningTokenizer(text_model)
    answer = [*text_model.encode("Action: "), *tokenizer.pieces(actions), *text_model.encode("|")]
    decoded = tokenizer.decode(answer, steps=3, size=8).actions
    assert np.all((actions - decoded >= 0) & (actions - decoded < 2 / 256))


def test_clips_actions_outside_the_range(text_model):
    tokenizer = BinningTokenizer(text_model)
    assert tokenizer.pieces(np.array([[7.0, -7.0]])) == tokenizer.pieces(np.array([[1.0, -1.0]]))


def test_returns_too_few_tokens_as_undecodable(text_model):
    tokenizer = BinningTokenizer(text_model)
    answer = [*text_model.encode("Action: "), *tokenizer.pieces(np.zeros((1, 8)))]
    assert tokenizer.decode(answer, steps=2, size=8).undecodable == tuple(answer)
