"""Text prompts: the instruction, and for some models the robot state.

There are three formats, one per family of models:

    pi0    pick up the bowl⏎
    pi05   Task: pick up the bowl, State: 127 3 255;⏎Action:␣
    fast   Task: pick up the bowl, State: 127 3 255;⏎          (lower case)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

STATE_BINS = 256
_BIN_EDGES = np.linspace(-1.0, 1.0, STATE_BINS + 1)[:-1]

ACTIONS_BEGIN = "Action: "
ACTIONS_END = "|"


def state_bins(state: Float[np.ndarray, "s"]) -> Int[np.ndarray, "s"]:
    """Bin of each entry of a normalized state, among 256 equal bins of [-1, 1].

    Entries at or above 1 - 2/256 are in bin 255. Entries below -1 are in bin -1, which is written into the prompt:
    published checkpoints were trained with it, so it is not clipped.
    """
    return np.digitize(state, _BIN_EDGES) - 1


def instruction_prompt(instruction: str) -> str:
    """Text of a pi0 prompt, without its closing newline, which is encoded separately."""
    return instruction.strip().replace("_", " ").replace("\n", " ")


def state_prompt(instruction: str, state: Float[np.ndarray, "s"]) -> str:
    """Text of a pi0.5 prompt: instruction, state bins, and the words before the action."""
    text = instruction.strip().replace("_", " ").replace("\n", " ")
    return f"Task: {text}, State: {_joined(state_bins(state))};\n{ACTIONS_BEGIN}"


def fast_prompt(instruction: str, state: Float[np.ndarray, "s"]) -> str:
    """Text of a pi0-FAST prompt, in lower case; newlines are kept, as in training."""
    text = instruction.lower().strip().replace("_", " ")
    return f"Task: {text}, State: {_joined(state_bins(state))};\n"


def _joined(bins: Int[np.ndarray, "s"]) -> str:
    return " ".join(map(str, bins))
