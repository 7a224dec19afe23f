"""Attention of actions, or of the tokens of an answer, to everything that the model read.

Rows are tokens that attend, columns the tokens attended to: image patches of each camera, prompt, state, actions.

Rollout (S. Abnar, W. Zuidema, arXiv:2005.00928) follows attention through the layers back to the inputs: each layer
mixes a token with what it attends to, half and half because of the residual, and the mixtures are multiplied.

Axis letters: m flow steps, l layers, n heads, q tokens that attend, s tokens attended to, p valid prefix tokens, t
suffix tokens, r rows of patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from simloop.policies.explaining.programs import FlowPaths, ReadAnswer
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel

STATE_BEGINS, STATE_ENDS = ", State: ", ";\n"
"""Text around the state in a prompt (`simloop.policies.tokenizers.prompts`)."""

Part = Literal["prompt", "state", "actions"]


@dataclass(frozen=True)
class TokenLayout:
    """Tokens of one query in the order of the columns of its attention, padding left out."""

    cameras: tuple[str, ...]
    side: int
    """Patches in a row, and in a column, of an image."""
    pieces: tuple[str, ...]
    """Pieces of the prompt; `▁` stands for a space."""
    state_token: bool
    """Whether a token of its own holds the state; otherwise it is in the prompt, or the model does not read it."""
    actions: int
    """Tokens of actions or of the answer."""

    @property
    def size(self) -> int:
        """Number of columns."""
        return self._prompt_begins + len(self.pieces) + self.state_token + self.actions

    def camera(self, name: str) -> slice:
        """Columns of the patches of a camera, row by row."""
        begin = self.cameras.index(name) * self.side**2
        return slice(begin, begin + self.side**2)

    def part(self, part: Part) -> list[int]:
        """Columns of the words of the instruction and around the state, of the state, or of the actions."""
        end = self._prompt_begins + len(self.pieces)
        in_prompt = self._state_pieces()
        match part:
            case "prompt":
                return [self._prompt_begins + i for i in range(len(self.pieces)) if i not in in_prompt]
            case "state":
                return [self._prompt_begins + i for i in in_prompt] + [end] * self.state_token
            case "actions":
                return list(range(end + self.state_token, self.size))

    def words(self) -> list[tuple[str, list[int]]]:
        """The words of the prompt without the state, each with its columns."""
        words: list[tuple[str, list[int]]] = []
        for column in self.part("prompt"):
            piece = self.pieces[column - self._prompt_begins]
            if piece.startswith("▁") or not words:
                words.append((piece.strip("▁"), [column]))
            else:
                word, columns = words[-1]
                words[-1] = (word + piece, [*columns, column])
        return words

    @property
    def _prompt_begins(self) -> int:
        return len(self.cameras) * self.side**2

    def _state_pieces(self) -> list[int]:
        """Indices of the pieces that write the state."""
        texts = [piece.replace("▁", " ").replace("<0x0A>", "\n") for piece in self.pieces]
        text = "".join(texts)
        begin, end = text.rfind(STATE_BEGINS), text.rfind(STATE_ENDS)
        if begin < 0 or end < 0:
            return []
        starts = np.cumsum([0, *map(len, texts)])
        return [i for i in range(len(texts)) if starts[i + 1] > begin + len(STATE_BEGINS) and starts[i] < end]


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention of the tokens of actions or of an answer; every row sums to one."""

    layout: TokenLayout
    weights: Float[np.ndarray, "l n q s"]
    """Of every layer and head; the mean over flow steps for flow models. A token of an answer has the row of the token
    that predicts it."""
    rollout: Float[np.ndarray, "q s"]
    """Through all layers."""

    def shares(self, weights: Float[np.ndarray, "q s"] | None = None) -> dict[str, float]:
        """Share of each camera, of the prompt and of the state in what actions take from their inputs.

        Args:
          weights: By default the rollout.
        """
        total = (self.rollout if weights is None else weights).mean(axis=0)
        parts = {camera: float(total[self.layout.camera(camera)].sum()) for camera in self.layout.cameras}
        parts |= {part: float(total[self.layout.part(part)].sum()) for part in ("prompt", "state")}
        return {name: share / max(sum(parts.values()), 1e-12) for name, share in parts.items()}

    def image_map(
        self, camera: str, weights: Float[np.ndarray, "q s"] | None = None
    ) -> Float[np.ndarray, "r r"]:
        """Weight of every patch of a camera, the mean over the tokens that attend.

        Args:
          weights: By default the rollout.
        """
        total = (self.rollout if weights is None else weights).mean(axis=0)
        return total[self.layout.camera(camera)].reshape(self.layout.side, self.layout.side)

    def word_shares(self) -> list[tuple[str, float]]:
        """Share of each word in what actions take from the prompt, by the rollout."""
        total = self.rollout.mean(axis=0)
        words = [(word, float(total[columns].sum())) for word, columns in self.layout.words()]
        whole = max(sum(share for _, share in words), 1e-12)
        return [(word, share / whole) for word, share in words]


def pieces_of(model: SentencePieceModel, tokens: np.ndarray, mask: np.ndarray) -> tuple[str, ...]:
    """Pieces of the valid tokens of a prompt."""
    return tuple(model.piece(int(token)) for token in tokens[mask])


def flow_attention(
    paths: FlowPaths, valid: Bool[np.ndarray, "_"], layout: TokenLayout, path: int = 0
) -> Attention:
    """Attention of the action tokens of a flow model along one path.

    Args:
      valid: Which tokens of the prefix are valid.
    """
    keep = np.flatnonzero(valid)
    onto = np.asarray(paths.onto_slots)[path][:, :, 0]
    tokens = onto.shape[-2]
    # The cache begins with the suffix; here the prefix comes first.
    rows = np.concatenate([onto[..., tokens + keep], onto[..., :tokens]], axis=-1)
    prefix = np.asarray(paths.of_prefix)[:, 0][:, :, keep][..., keep]
    actions = rows[..., -layout.actions :, :]
    through = [rollout(_joint(prefix.mean(axis=1), of_step.mean(axis=1)), layout.actions) for of_step in rows]
    return Attention(layout, actions.mean(axis=0), np.mean(through, axis=0))


def answer_attention(read: ReadAnswer, valid: Bool[np.ndarray, "_"], layout: TokenLayout) -> Attention:
    """Attention of the tokens that predict an answer.

    Args:
      valid: Which tokens of the prefix are valid, before they are aligned.
    """
    size = len(valid)
    aligned = np.roll(valid, -int(np.flatnonzero(valid)[-1]) - 1)
    keep = np.concatenate([np.flatnonzero(aligned), size + np.arange(layout.actions)])
    whole = np.asarray(read.attention)[:, 0][:, :, keep][..., keep]
    # The last token does not predict any; the first is predicted by the last of the prompt.
    rows = whole[:, :, -layout.actions - 1 : -1]
    return Attention(layout, rows, rollout(whole.mean(axis=1), layout.actions + 1)[:-1])


def rollout(weights: Float[np.ndarray, "l s s"], last: int) -> Float[np.ndarray, "{last} s"]:
    """Attention rollout of the last tokens, from the attention of all tokens averaged over heads."""
    mixed = np.eye(weights.shape[-1], dtype=np.float64)[-last:]
    for layer in weights[::-1]:
        mixed = 0.5 * mixed + 0.5 * mixed @ layer
    return mixed


def _joint(
    prefix: Float[np.ndarray, "l p p"], suffix: Float[np.ndarray, "l t s"]
) -> Float[np.ndarray, "l s s"]:
    """Attention of prefix and suffix in one matrix; the prefix does not see the suffix."""
    onto_suffix = np.zeros((*prefix.shape[:2], suffix.shape[1]), prefix.dtype)
    return np.concatenate([np.concatenate([prefix, onto_suffix], axis=2), suffix], axis=1)
