"""The tokenizers of a training."""

from __future__ import annotations

from simloop.policies.inference.model_policy import PolicyTokenizers
from simloop.policies.presets import Preset
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import FastActionTokenizer
from simloop.policies.tokenizers.sentencepiece_model import load_sentencepiece
from simloop.policies.training.errors import TrainingError


def training_words(preset: Preset, actions: FastActionTokenizer | None) -> PolicyTokenizers:
    """The preset's text tokenizer, with this action tokenizer for models that answer in tokens.

    Raises:
      TrainingError: If the text tokenizer is not the model's.
    """
    text = load_sentencepiece(preset.text_model)
    if text.pieces != preset.model.vocab_size:
        raise TrainingError(
            f"{text.path} has {text.pieces} pieces; the embedding table of {preset.name} has "
            f"{preset.model.vocab_size} rows. Use the tokenizer that the model was made for."
        )
    if actions is None:
        return PolicyTokenizers(text)
    return PolicyTokenizers(text, FastTokenizer(text, actions, preset.model.max_token_len))
