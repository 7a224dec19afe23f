"""The tokenizer lane: how an instruction becomes token ids, upstream of every model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simloop.policies.tokenizers.prompts import ACTIONS_BEGIN, fast_prompt, instruction_prompt, state_prompt

from .canvas import Box
from .drawing import TITLE_SIZE, Drawing, Label
from .grid import INSET, TABLE_HEIGHT, TABLE_Y, TOKENIZER_WIDTH, TOKENIZER_X

X, WIDTH = TOKENIZER_X + INSET, TOKENIZER_WIDTH - 2 * INSET
MIDDLE = TOKENIZER_X + TOKENIZER_WIDTH / 2
FILL_WIDTH, FILL_HEIGHT = 62.0, 34.0
IDS_X = X + FILL_WIDTH
"""Where the arrow of token ids starts."""

_PIECES_Y, _PIECES_HEIGHT = TABLE_Y - 82, 34.0
_PROMPT_BOTTOM = _PIECES_Y - 30
_MONO_SIZE, _MONO_LEADING = 8.0, 11.0

_EXAMPLE = "pick up the bowl"
_EXAMPLE_STATE = np.array([0.0, -0.97, 1.0])


def tokenizer(drawing: Drawing) -> Box:
    """From instruction (and state) to token ids of a fixed number; returns the box that they come from."""
    lines = example_prompt(drawing.model.config.family, with_state=drawing.model.config.state_in_prompt)
    height = 25 + _MONO_LEADING * len(lines)
    top = _PROMPT_BOTTOM - height
    prompt = drawing.step(X, top, WIDTH, height)
    drawing.write(MIDDLE, top + 14, "prompt", bold=True, size=TITLE_SIZE)
    for i, line in enumerate(lines):
        drawing.write(X + 7, top + 27 + i * _MONO_LEADING, line, anchor="start", mono=True, size=_MONO_SIZE)
    if drawing.unlike(lambda model: model.config.state_in_prompt):
        drawing.mark(prompt)
    if drawing.model.config.state_in_prompt:
        drawing.flow([(X + 14, top - 28), (X + 14, top)], Label("instruction"))
        drawing.flow([(X + 88, top - 28), (X + 88, top)], Label("state"))
    else:
        drawing.flow([(MIDDLE, top - 28), (MIDDLE, top)], Label("instruction"))

    vocabulary = f"{drawing.model.config.vocab_size} pieces"
    pieces = drawing.step(X, _PIECES_Y, WIDTH, _PIECES_HEIGHT, "SentencePiece", vocabulary)
    drawing.flow([(MIDDLE, prompt.bottom), (MIDDLE, pieces.y)], Label("text"))
    length = drawing.model.inference["embed"].inputs[0][1]
    y = TABLE_Y + (TABLE_HEIGHT - FILL_HEIGHT) / 2
    filled = drawing.step(X, y, FILL_WIDTH, FILL_HEIGHT, "fill up", f"to {length}")
    drawing.flow([(filled.middle.x, pieces.bottom), (filled.middle.x, filled.y)], Label("token ids"))
    return filled


def example_prompt(family: str, *, with_state: bool) -> Sequence[str]:
    """A prompt as the model is told it, broken into short lines; ⏎ for a newline in it."""
    if not with_state:
        return [f"{instruction_prompt(_EXAMPLE)}⏎"]
    write = fast_prompt if family == "pi0_fast" else state_prompt
    text = write(_EXAMPLE, _EXAMPLE_STATE).replace("\n", "⏎")
    for start in (" State", ACTIONS_BEGIN):
        text = text.replace(start, "\n" + start)
    return [line.strip() for line in text.splitlines()]
