"""Action tokens among the pieces of a sentencepiece vocabulary, and how to find them again.

Action token t is written as the t-th piece before the segmentation pieces, counted backwards: first
`<loc1023>`, then down through the location pieces, then the last ordinary pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

from simloop.policies.tokenizers.prompts import ACTIONS_BEGIN, ACTIONS_END
from simloop.policies.tokenizers.sentencepiece_model import SEGMENT_PIECES, SentencePieceModel


def piece_of_action_token(token: int, pieces: int) -> int:
    """Vocabulary id of an action token, and action token of a vocabulary id: its own inverse."""
    return pieces - 1 - SEGMENT_PIECES - token


def find_action_tokens(generated: Sequence[int], model: SentencePieceModel) -> list[int] | None:
    """The action tokens between `Action: ` and `|`, or None where no action begins.

    The generated ids go through text and back, as published models are evaluated: a model may spell
    the words before the action in other pieces than the tokenizer would. For action tokens
    written as ordinary pieces (t >= 1024) the text can be ambiguous, and some are then lost.
    """
    text = model.decode(generated)
    _, begin, rest = text.partition(ACTIONS_BEGIN)
    if not begin:
        return None
    written = rest.partition(ACTIONS_END)[0].strip()
    return [piece_of_action_token(piece, model.pieces) for piece in model.encode(written)]
