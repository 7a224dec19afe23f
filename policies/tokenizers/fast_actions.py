"""The FAST action tokenizer: a discrete cosine transform, rounding, and byte-pair encoding.

Source: K. Pertsch et al., "FAST: Efficient Action Tokenization for Vision-Language-Action Models",
arXiv:2501.09747. Files are those of the Hugging Face repository `physical-intelligence/fast`.

Axis letters: n chunks, t steps, a action size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from simloop.policies.files.downloads import PublishedFile
from simloop.policies.tokenizers.sentencepiece_model import TokenizerFileError
from simloop.untrusted import MAX_JSON_BYTES, parse_json, read_bytes

SCALE = 10.0
"""Coefficients are rounded to tenths, which the paper found harmless to control."""
MAX_TOKEN_LENGTH = 10_000  # Characters of a merged piece; practically no limit.
MIN_PAIR_COUNT = 2
REPLACEMENT = "\ufffd"  # Replaces bytes that form no character when decoding.

FOLDER_IN_CHECKPOINT = "action_tokens"
"""Folder of a fitted tokenizer within a checkpoint."""

_CONFIG_FILE = "processor_config.json"
_BPE_FILE = "tokenizer.json"
_PUBLISHED_FAST_URL = (
    "https://huggingface.co/physical-intelligence/fast/resolve/ec4d7aa71691cac0b8bed6942be45684db2110f4/"
)


class ActionRangeError(ValueError):
    """A chunk with coefficients outside the tokenizer's alphabet."""


@dataclass(frozen=True)
class FastActionTokenizer:
    """Encode chunks of normalized actions as a few tokens, and decode them."""

    bpe: Any
    """A `tokenizers.Tokenizer`; the package is imported on use, so that presets do not need it."""
    scale: float
    min_coefficient: int
    """Smallest rounded coefficient, encoded as character 0."""

    @property
    def vocab_size(self) -> int:
        """Number of action tokens."""
        return self.bpe.get_vocab_size()

    @property
    def sha256(self) -> str:
        """Hash of all parameters."""
        text = json.dumps([self.scale, self.min_coefficient, self.bpe.to_str()])
        return hashlib.sha256(text.encode()).hexdigest()

    def encode(self, chunk: Float[np.ndarray, "t a"]) -> list[int]:
        """Tokens of a chunk, whose actions should lie in about [-1, 1].

        Coefficients below `min_coefficient` are clipped to it, as in the published tokenizer.

        Raises:
          ActionRangeError: If a coefficient is too large for the tokenizer's alphabet.
        """
        coefficients = rounded_coefficients(chunk, self.scale)
        codes = np.maximum(coefficients.reshape(-1) - self.min_coefficient, 0)
        tokens = self.bpe.encode(_as_text(codes), add_special_tokens=False).ids
        if len(self.bpe.decode(tokens, skip_special_tokens=False)) != codes.size:
            raise ActionRangeError(
                f"The chunk has a rounded DCT coefficient of {coefficients.max()}, for which this tokenizer "
                "has no character. Normalize actions to about [-1, 1], or fit a tokenizer to these data."
            )
        return tokens

    def decode(self, tokens: Sequence[int], *, steps: int, size: int) -> Float[np.ndarray, "t a"] | None:
        """The encoded chunk; None if the tokens do not encode `steps` x `size` coefficients."""
        try:
            text = self.bpe.decode(list(tokens), skip_special_tokens=False)
        except OverflowError:  # A negative id, from an ordinary piece in place of an action token.
            return None
        if len(text) != steps * size:
            return None
        coefficients = (
            np.array([ord(c) for c in text], np.float64).reshape(steps, size) + self.min_coefficient
        )
        import scipy.fft  # A third of the start of policies that have no action tokens.

        return scipy.fft.idct(coefficients / self.scale, axis=0, norm="ortho")

    def coefficients_by_token(self) -> list[int]:
        """Number of coefficients that each token encodes; 0 for tokens with only a part of one."""
        return [len(self.coefficients_of(token)) for token in range(self.vocab_size)]

    def coefficients_of(self, token: int) -> tuple[int, ...]:
        """The rounded coefficients that a token encodes; none for tokens with only a part of one.

        Characters beyond the 128th take two bytes, and tokens may begin or end between them.
        """
        text = self.bpe.decode([token], skip_special_tokens=False)
        return () if REPLACEMENT in text else tuple(ord(c) + self.min_coefficient for c in text)

    def save(self, folder: Path) -> None:
        """Write a folder for `load_fast_actions` and Hugging Face's `AutoProcessor`.

        The latter also needs the published `processing_action_tokenizer.py` in the folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.bpe.save(str(folder / _BPE_FILE), pretty=False)
        config = {
            "processor_class": "UniversalActionProcessor",
            "auto_map": {"AutoProcessor": "processing_action_tokenizer.UniversalActionProcessor"},
            "scale": self.scale,
            "vocab_size": self.vocab_size,
            "min_token": self.min_coefficient,
            "action_dim": None,
            "time_horizon": None,
        }
        _write_json(folder / _CONFIG_FILE, config)
        _write_json(
            folder / "tokenizer_config.json",
            # Clean-up of spaces before punctuation would change the number of coefficients.
            {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False},
        )
        _write_json(folder / "special_tokens_map.json", {})


def load_fast_actions(folder: Path) -> FastActionTokenizer:
    """Load a tokenizer from a folder in the format of `physical-intelligence/fast`.

    The code file in such a folder is not run.

    Raises:
      TokenizerFileError: If a file is missing or damaged.
    """
    import tokenizers

    for name in (_CONFIG_FILE, _BPE_FILE):
        if not (folder / name).is_file():
            raise TokenizerFileError(
                f"{folder} is not a FAST action tokenizer: {name} is missing; {_CONFIG_FILE} and {_BPE_FILE} are "
                "needed. Download the repository physical-intelligence/fast there."
            )
    config_text, bpe_text = (
        read_bytes(folder / name, MAX_JSON_BYTES, error=TokenizerFileError).decode(errors="replace")
        for name in (_CONFIG_FILE, _BPE_FILE)
    )
    try:
        config = parse_json(config_text, _CONFIG_FILE)
        bpe = tokenizers.Tokenizer.from_str(bpe_text)
        return FastActionTokenizer(bpe, float(config["scale"]), int(config["min_token"]))
    except (KeyboardInterrupt, SystemExit):
        raise
    except (
        BaseException
    ) as error:  # `tokenizers` raises `Exception` itself, and its panics are no `Exception`.
        raise TokenizerFileError(
            f"{folder} holds a damaged FAST action tokenizer ({_CONFIG_FILE}, {_BPE_FILE}): {error!r}."
        ) from error


@dataclass(frozen=True)
class FastActionsSource:
    """A published FAST action tokenizer."""

    config: PublishedFile
    bpe: PublishedFile


PUBLISHED_FAST = FastActionsSource(
    PublishedFile(
        _PUBLISHED_FAST_URL + _CONFIG_FILE,
        "tokenizers/fast/" + _CONFIG_FILE,
        "f40cfbb1020858fe1d48c0f946b0c1315a90d6e84aa82710036f24f4c167706a",
        253,
    ),
    PublishedFile(
        _PUBLISHED_FAST_URL + _BPE_FILE,
        "tokenizers/fast/" + _BPE_FILE,
        "6507dd709287fd018882120c0071787f1f62bad9f180f1e8c5235bda1b71fa78",
        686_974,
    ),
)


def fetch_fast_actions(source: FastActionsSource) -> FastActionTokenizer:
    """Load a published tokenizer through the cache folder.

    Raises:
      DownloadError: If a file is absent and cannot be fetched, or has changed.
      TokenizerFileError: If a file is damaged.
    """
    source.bpe.fetch()
    return load_fast_actions(source.config.fetch().parent)


def fit_fast_actions(
    chunks: Sequence[Float[np.ndarray, "_ _"]], *, vocab_size: int | None = 1024, scale: float = SCALE
) -> FastActionTokenizer:
    """Fit a tokenizer to chunks of normalized actions.

    The alphabet covers all coefficients between the smallest and the largest, so every chunk within that range
    can be encoded. With a `vocab_size` of None no pairs are merged, and every coefficient is a token.

    Raises:
      ValueError: If the vocabulary is too small for the alphabet.
    """
    coefficients = [rounded_coefficients(chunk, scale) for chunk in chunks]
    lowest = min(int(c.min()) for c in coefficients)
    highest = max(int(c.max()) for c in coefficients)
    alphabet = _byte_level_alphabet(highest - lowest + 1)
    vocab_size = len(alphabet) if vocab_size is None else vocab_size
    if len(alphabet) > vocab_size:
        raise ValueError(
            f"Coefficients from {lowest} to {highest} need {len(alphabet)} characters; vocab_size is "
            f"{vocab_size}. Normalize the actions, or choose a larger vocabulary or a smaller scale."
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_COUNT,
        initial_alphabet=alphabet,
        max_token_length=MAX_TOKEN_LENGTH,
        special_tokens=[],
        show_progress=False,
    )
    bpe.train_from_iterator((_as_text(c.reshape(-1) - lowest) for c in coefficients), trainer)
    return FastActionTokenizer(bpe, scale, lowest)


def rounded_coefficients(chunk: Float[np.ndarray, "t a"], scale: float) -> Int[np.ndarray, "t a"]:
    """Orthonormal DCT-II along time, scaled and rounded half to even; lowest frequency first."""
    import scipy.fft

    return np.around(scipy.fft.dct(chunk, axis=0, norm="ortho") * scale).astype(np.int64)


def _as_text(codes: Int[np.ndarray, "_"]) -> str:
    """One character per coefficient, lowest frequency first."""
    return "".join(chr(code) for code in codes)


def _byte_level_alphabet(codes: int) -> list[str]:
    """Sorted characters that ByteLevel maps the characters 0 .. codes-1 to."""
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = level.pre_tokenize_str(_as_text(np.arange(codes)))
    return sorted({character for piece, _ in pieces for character in piece})


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def folder_contents(folder: Path) -> dict[str, bytes]:
    """Files of a tokenizer by their paths in a checkpoint; empty if there is no such folder."""
    if not folder.is_dir():
        return {}
    return {
        f"{FOLDER_IN_CHECKPOINT}/{file.name}": read_bytes(file, MAX_JSON_BYTES, error=TokenizerFileError)
        for file in sorted(folder.iterdir())
    }
