"""Sentencepiece models with PaliGemma's vocabulary layout, which is checked when they are loaded.

The vocabulary ends in 1024 location pieces and 128 segmentation pieces; pi0-FAST encodes actions in the former:

    <pad> <eos> <bos> <unk> | ordinary pieces | <loc0000> .. <loc1023> | <seg000> .. <seg127>
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simloop.policies.files.downloads import PublishedFile
from simloop.untrusted import read_bytes

MAX_BYTES = 256 << 20  # PaliGemma's model has 4 MB.
LOCATION_PIECES = 1024
SEGMENT_PIECES = 128
SPECIAL_IDS = {"pad": 0, "eos": 1, "bos": 2, "unk": 3}


class TokenizerFileError(RuntimeError):
    """A tokenizer file that is missing, changed, or of another kind."""

    user_facing = True


@dataclass(frozen=True)
class SentencePieceSource:
    """A published model and its number of pieces."""

    file: PublishedFile
    pieces: int


PALIGEMMA = SentencePieceSource(
    # Public address of gs://big_vision/paligemma_tokenizer.model.
    PublishedFile(
        "https://storage.googleapis.com/big_vision/paligemma_tokenizer.model",
        "tokenizers/paligemma_tokenizer.model",
        "8986bb4f423f07f8c7f70d0dbe3526fb2316056c17bae71b1ea975e77a168fc6",
        4_264_023,
    ),
    pieces=257_152,
)


class SentencePieceModel:
    """Encode text as token ids and decode them; `encode` adds neither BOS nor EOS."""

    def __init__(self, path: Path, *, pieces: int | None = None):
        """Load and check a model file.

        Raises:
          TokenizerFileError: If the file is missing, not a sentencepiece model, has not `pieces` pieces, or another
            vocabulary layout.
        """
        self.path = path
        content = read_bytes(path, MAX_BYTES, error=TokenizerFileError)
        self.sha256 = hashlib.sha256(content).hexdigest()
        import sentencepiece  # On use, so that presets do not need it.

        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(content)
        except (RuntimeError, UnicodeDecodeError) as error:  # The latter of a message about damaged text.
            raise TokenizerFileError(
                f"{path} ({len(content)} bytes) is not a sentencepiece model. Delete it to fetch it again."
            ) from error
        self.pieces: int = self._processor.GetPieceSize()
        self._check_layout(pieces)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without BOS or EOS."""
        return self._processor.EncodeAsIds(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids; special pieces are left out."""
        return self._processor.DecodeIds([int(token) for token in tokens])

    def _check_layout(self, pieces: int | None) -> None:
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
                "Use a model with PaliGemma's vocabulary layout."
            )
        first_segment = self.pieces - SEGMENT_PIECES
        first_location = first_segment - LOCATION_PIECES
        expected = {
            first_location: "<loc0000>",
            first_segment - 1: f"<loc{LOCATION_PIECES - 1:04d}>",
            first_segment: "<seg000>",
            self.pieces - 1: f"<seg{SEGMENT_PIECES - 1:03d}>",
        }
        for token, piece in expected.items():
            name = self.piece(token) if 0 <= token < self.pieces else "nothing"
            if name != piece:
                raise TokenizerFileError(
                    f"{self.path} has {name!r} at id {token}, where PaliGemma's layout has {piece!r}: "
                    f"its last {LOCATION_PIECES} + {SEGMENT_PIECES} pieces must be <locNNNN> and <segNNN>."
                )

    def piece(self, token: int) -> str:
        """The piece of a token id; `▁` stands for a space.

        Raises:
          TokenizerFileError: If the file is damaged there.
        """
        try:
            return self._processor.IdToPiece(token)
        except UnicodeDecodeError as error:
            raise TokenizerFileError(
                f"{self.path} is damaged: piece {token} is not UTF-8. Fetch it again."
            ) from error


def load_sentencepiece(source: Path | SentencePieceSource) -> SentencePieceModel:
    """Load a model from a file, or a published one through the cache folder.

    Raises:
      DownloadError: If a published file is absent and cannot be fetched, or has changed.
      TokenizerFileError: If the file does not have PaliGemma's vocabulary layout.
    """
    if isinstance(source, Path):
        return SentencePieceModel(source)
    return SentencePieceModel(source.file.fetch(), pieces=source.pieces)
