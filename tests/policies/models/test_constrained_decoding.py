"""Constrained decoding yields whole chunks for all logits."""

import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.models.constrained_decoding import ActionGrammar, action_grammar
from simloop.policies.models.pi0_fast import END_TOKEN, Pi0Fast
from simloop.policies.presets import PRESETS
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import fit_fast_actions, load_fast_actions
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel
from tests.helpers.small_models import random_batch, run, small_config, small_model

STEPS, SIZE = 16, 4
ASSETS = PRESETS["pi0_fast-tiny"].text_model.parent


@pytest.fixture(scope="module")
def tokenizer() -> FastTokenizer:
    text = SentencePieceModel(ASSETS / "sentencepiece.model")
    return FastTokenizer(text, load_fast_actions(ASSETS / "fast"))


@pytest.fixture(scope="module")
def grammar(tokenizer) -> ActionGrammar:
    return action_grammar(tokenizer, STEPS, SIZE, tokenizer.model.pieces)


def answers(grammar: ActionGrammar, logits_of_step) -> np.ndarray:
    """Generate from these logits step by step."""
    rows = logits_of_step(0).shape[0]
    spelled, ended = jnp.zeros(rows, jnp.int32), np.zeros(rows, bool)
    tokens = np.zeros((rows, grammar.max_tokens), np.int32)
    for step in range(grammar.max_tokens):
        chosen = jnp.argmax(grammar.masked(logits_of_step(step), spelled), axis=-1)
        token, spelled = grammar.advance(chosen.astype(jnp.int32), jnp.int32(step), spelled)
        tokens[:, step] = np.where(ended, 0, token)
        ended |= tokens[:, step] == END_TOKEN
    assert ended.all(), "the longest answer has room"
    return tokens


def test_answers_to_random_logits_spell_whole_chunks(tokenizer, grammar):
    rng = np.random.default_rng(0)
    shape = (20, tokenizer.model.pieces)
    for tokens in answers(grammar, lambda step: jnp.asarray(rng.normal(size=shape))):
        spoken = tokens[: np.argmax(tokens == END_TOKEN)]
        decoded = tokenizer.decode(spoken, steps=STEPS, size=SIZE)
        assert decoded.undecodable is None
        assert decoded.actions.shape == (STEPS, SIZE)


def test_an_answer_that_is_right_is_left_as_it_is(tokenizer, grammar):
    rng = np.random.default_rng(1)
    wanted = [tokenizer.encode_answer(np.cumsum(rng.normal(0, 0.1, (STEPS, SIZE)), axis=0)) for _ in range(8)]
    padded = np.array([w + [0] * (grammar.max_tokens - len(w)) for w in wanted])

    def likely(step):
        return jnp.asarray(np.eye(tokenizer.model.pieces)[padded[:, step]])

    np.testing.assert_array_equal(answers(grammar, likely), padded)


def test_the_longest_answer_has_one_token_per_coefficient(tokenizer, grammar):
    single = np.flatnonzero(grammar.coefficients == 1)

    def single_ones(step):
        return jnp.zeros((1, tokenizer.model.pieces)).at[:, single].set(1.0)

    (tokens,) = answers(grammar, single_ones)
    assert np.argmax(tokens == END_TOKEN) == grammar.max_tokens - 1


def test_tokens_that_hold_half_a_character_are_never_considered():
    tokenizer = fit_fast_actions([np.array([[20.0], [-20.0]]), np.zeros((2, 1))], vocab_size=300)
    spelled = tokenizer.coefficients_by_token()
    assert 0 in spelled
    for token, count in enumerate(spelled):
        if count:
            assert tokenizer.decode([token], steps=count, size=1) is not None


def rules_of(config) -> ActionGrammar:
    return ActionGrammar(
        coefficients=np.array([0, 0, 1, 2, 5] + [0] * (config.vocab_size - 5), np.int32),
        total=np.array(7, np.int32),
        begin=np.array([9, 8], np.int32),
        end=np.array([6, END_TOKEN], np.int32),
    )


def test_random_weights_generate_whole_chunks():
    config = small_config("pi0_fast")
    batch = random_batch(config, 3, all_valid=True)
    rules = rules_of(config)

    def guided(model: Pi0Fast, batch):
        return model.sample_tokens(batch, rules.max_tokens, grammar=rules)

    result = run(small_model(config), guided, batch)
    for tokens, length in zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True):
        assert tokens[:2].tolist() == [9, 8]
        assert tokens[length - 1] == 6
        assert tokens[length] == END_TOKEN
        assert rules.coefficients[tokens[2 : length - 1]].sum() == 7


def test_scoring_action_tokens_alone_and_forcing_the_opening_change_no_token(monkeypatch):
    config = small_config("pi0_fast")
    model, batch = small_model(config), random_batch(config, 3, all_valid=True)
    rules = rules_of(config)
    np.testing.assert_array_equal(rules.action_ids(), [2, 3, 4])

    def guided(leading):
        return lambda model, batch: (
            model.sample_tokens(batch, rules.max_tokens, grammar=rules, forced_prefix=leading).tokens
        )

    short = run(model, guided((9, 8)), batch)
    everything = np.arange(config.vocab_size, dtype=np.int32)
    monkeypatch.setattr(ActionGrammar, "action_ids", lambda self: everything)
    np.testing.assert_array_equal(short, run(model, guided(()), batch))


def test_rejects_a_grammar_in_the_published_loop():
    config = small_config("pi0_fast")
    rules = ActionGrammar(
        np.ones(config.vocab_size, np.int32), np.array(1, np.int32), *np.ones((2, 1), np.int32)
    )
    with pytest.raises(ValueError, match="each_row"):
        small_model(config).sample_tokens(random_batch(config, 1), 3, stop="all_at_once", grammar=rules)
