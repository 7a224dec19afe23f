"""Mapping between action tokens and the pieces of a sentencepiece vocabulary.

Action token t is the t-th piece before the segmentation pieces, counted backwards: `<loc1023>` first, then down
through the location pieces, then the last ordinary pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

from simloop.policies.tokenizers.prompts import ACTIONS_BEGIN, ACTIONS_END
from simloop.policies.tokenizers.sentencepiece_model import SEGMENT_PIECES, SentencePieceModel


def piece_of_action_token(token: int, pieces: int) -> int:
    """Vocabulary id of an action token. The mapping is its own inverse."""
    return pieces - 1 - SEGMENT_PIECES - token


def find_action_tokens(generated: Sequence[int], model: SentencePieceModel) -> list[int] | None:
    """Action tokens between `Action: ` and `|`; None if the text contains no `Action: `.

    Ids are decoded to text and encoded again, as in published evaluations, because a model may generate the words
    before the action in other pieces than the tokenizer. For action tokens that are ordinary pieces (t >= 1024)
    the text can be ambiguous, and some tokens are lost.
    """
    text = model.decode(generated)
    _, begin, rest = text.partition(ACTIONS_BEGIN)
    if not begin:
        return None
    actions = rest.partition(ACTIONS_END)[0].strip()
    return [piece_of_action_token(piece, model.pieces) for piece in model.encode(actions)]
