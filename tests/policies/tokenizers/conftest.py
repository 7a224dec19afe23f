from pathlib import Path

import pytest

from simloop.policies.tokenizers.fast_actions import FastActionTokenizer, load_fast_actions
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel, load_sentencepiece

STANDIN = Path(__file__).parents[2] / "golden" / "queries" / "standin"


@pytest.fixture(scope="session")
def text_model() -> SentencePieceModel:
    return load_sentencepiece(STANDIN / "paligemma_tokenizer.model")


@pytest.fixture(scope="session")
def action_tokens() -> FastActionTokenizer:
    return load_fast_actions(STANDIN / "fast")
