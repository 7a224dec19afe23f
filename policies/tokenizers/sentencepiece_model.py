"""A sentencepiece model in the arrangement of PaliGemma's: found, downloaded once, and checked.

PaliGemma's vocabulary ends in 1024 location pieces and 128 segmentation pieces, in which the
pi0-FAST models write their actions:

    <pad> <eos> <bos> <unk> | ordinary pieces | <loc0000> .. <loc1023> | <seg000> .. <seg127>
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from policies.home import simloop_home

LOCATION_PIECES = 1024
SEGMENT_PIECES = 128
SPECIAL_IDS = {"pad": 0, "eos": 1, "bos": 2, "unk": 3}

DOWNLOAD_TIMEOUT_S = 60.0  # Of silence on the wire, not of the whole file.


class TokenizerFileError(RuntimeError):
    """A tokenizer file that is absent, altered, or not what it should be."""


@dataclass(frozen=True)
class SentencePieceSource:
    """A published model file that is downloaded when it is first needed."""

    url: str
    file_name: str
    pieces: int

    @property
    def cached(self) -> Path:
        """Where the file lies once it has been fetched."""
        return simloop_home() / "tokenizers" / self.file_name


PALIGEMMA = SentencePieceSource(
    # The anonymous web address of gs://big_vision/paligemma_tokenizer.model.
    url="https://storage.googleapis.com/big_vision/paligemma_tokenizer.model",
    file_name="paligemma_tokenizer.model",
    pieces=257_152,
)


class SentencePieceModel:
    """Text to token ids and back.

    Wraps one loaded model file; neither BOS nor EOS is added by `encode`.
    """

    def __init__(self, path: Path, *, pieces: int | None = None):
        """Load and check a model file.

        Raises:
          TokenizerFileError: If there is no such file, it is no sentencepiece model, its number of
            pieces is not `pieces`, or its special, location or segmentation pieces lie elsewhere.
        """
        self.path = path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TokenizerFileError(f"Cannot read the sentencepiece model {path}: {error}.") from error
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(content)
        except RuntimeError as error:
            raise TokenizerFileError(
                f"{path} ({len(content)} bytes) is not a sentencepiece model. Delete it and fetch it again."
            ) from error
        self.pieces: int = self._processor.GetPieceSize()
        self._check_arrangement(pieces)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without BOS or EOS."""
        return self._processor.EncodeAsIds(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids; special pieces have none."""
        return self._processor.DecodeIds([int(token) for token in tokens])

    def _check_arrangement(self, pieces: int | None) -> None:
        if pieces is not None and self.pieces != pieces:
            raise TokenizerFileError(
                f"{self.path} has {self.pieces} pieces; the model's embedding table needs {pieces}. "
                "Use the tokenizer that the checkpoint was trained with."
            )
        found = {
            "pad": self._processor.pad_id(),
            "eos": self._processor.eos_id(),
            "bos": self._processor.bos_id(),
            "unk": self._processor.unk_id(),
        }
        if found != SPECIAL_IDS:
            raise TokenizerFileError(
                f"{self.path} has the special ids {found}; PaliGemma's are {SPECIAL_IDS}. "
                "Use a model in PaliGemma's arrangement."
            )
        first_segment = self.pieces - SEGMENT_PIECES
        first_location = first_segment - LOCATION_PIECES
        wanted = {
            first_location: "<loc0000>",
            first_segment - 1: f"<loc{LOCATION_PIECES - 1:04d}>",
            first_segment: "<seg000>",
            self.pieces - 1: f"<seg{SEGMENT_PIECES - 1:03d}>",
        }
        for token, piece in wanted.items():
            name = self._processor.IdToPiece(token) if 0 <= token < self.pieces else "nothing"
            if name != piece:
                raise TokenizerFileError(
                    f"{self.path} has {name!r} at id {token}, where PaliGemma's arrangement has {piece!r}: "
                    f"its last {LOCATION_PIECES} + {SEGMENT_PIECES} pieces must be <locNNNN> and <segNNN>."
                )


def load_sentencepiece(source: Path | SentencePieceSource) -> SentencePieceModel:
    """Load a model from a file, or from the cache folder, into which it is downloaded if absent.

    The hash of a downloaded file is written beside it when it is first loaded, and compared from
    then on: the publisher names none.

    Raises:
      TokenizerFileError: If the file is absent and cannot be downloaded, has changed since its
        first use, or is not in PaliGemma's arrangement.
    """
    if isinstance(source, Path):
        return SentencePieceModel(source)
    if not source.cached.exists():
        _download(source)
    model = SentencePieceModel(source.cached, pieces=source.pieces)
    _compare_with_first_use(model)
    return model


def _compare_with_first_use(model: SentencePieceModel) -> None:
    record = model.path.with_name(model.path.name + ".sha256")
    if not record.exists():
        record.write_text(model.sha256 + "\n")
        return
    first = record.read_text().strip()
    if first != model.sha256:
        raise TokenizerFileError(
            f"{model.path} has changed: its sha256 was {first} at its first use and is {model.sha256} now. "
            f"Delete it and {record.name} to fetch it again; results from before and after may differ."
        )


def _download(source: SentencePieceSource) -> None:
    """Fetch the file next to its place and move it there whole, so that a killed run leaves no half."""
    folder = source.cached.parent
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(dir=folder, prefix=source.file_name, suffix=".part")
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            urllib.request.urlopen(source.url, timeout=DOWNLOAD_TIMEOUT_S) as r,
        ):
            while block := r.read(1 << 20):
                file.write(block)
        os.replace(part, source.cached)
    except (urllib.error.URLError, OSError) as error:
        raise TokenizerFileError(
            f"The tokenizer {source.file_name} is neither in {folder} nor to be had from {source.url} "
            f"({error}). Fetch it on a machine with network and put it at {source.cached}, or point "
            "SIMLOOP_HOME to a folder that holds tokenizers/" + source.file_name + "."
        ) from error
    finally:
        Path(part).unlink(missing_ok=True)
