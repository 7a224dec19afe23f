import io

import pytest
import sentencepiece

from simloop.policies.files.downloads import PublishedFile
from simloop.policies.presets import PRESETS
from simloop.policies.tokenizers.sentencepiece_model import (
    SentencePieceSource,
    TokenizerFileError,
    load_sentencepiece,
)
from simloop.untrusted import file_sha256

TINY = PRESETS["pi0-tiny"].text_model


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMLOOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def published(pieces):
    file = PublishedFile(TINY.as_uri(), "tokenizers/tiny.model", file_sha256(TINY), TINY.stat().st_size)
    return SentencePieceSource(file, pieces)


def test_layout_equals_that_of_paligemma(text_model):
    assert text_model.encode("<loc0000><seg127>") == [text_model.pieces - 1152, text_model.pieces - 1]


def test_decoding_inverts_encoding(text_model):
    for text in ("Åbn skuffen", "  two  spaces ", "왠", "line\nline", "<loc0005>|3"):
        assert text_model.decode(text_model.encode(text)) == text


def test_fetches_published_models_into_the_cache_folder(home):
    assert load_sentencepiece(published(1920)).path == home / "tokenizers/tiny.model"


def test_rejects_models_of_another_size(home):
    with pytest.raises(
        TokenizerFileError, match=r"has 1920 pieces; the model's embedding table needs 257152"
    ):
        load_sentencepiece(published(257_152))


def test_names_files_that_are_not_models(tmp_path):
    (tmp_path / "page.model").write_text("<html>404</html>")
    with pytest.raises(TokenizerFileError, match=r"page\.model.*not a sentencepiece model"):
        load_sentencepiece(tmp_path / "page.model")


def test_rejects_another_vocabulary_layout(tmp_path):
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["open the drawer", "close the drawer"] * 10),
        model_writer=content,
        vocab_size=30,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "plain.model").write_bytes(content.getvalue())
    with pytest.raises(TokenizerFileError, match=r"where PaliGemma's layout has '<loc0000>'"):
        load_sentencepiece(tmp_path / "plain.model")


def test_names_missing_files(tmp_path):
    with pytest.raises(TokenizerFileError, match=r"absent\.model"):
        load_sentencepiece(tmp_path / "absent.model")
