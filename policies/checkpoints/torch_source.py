"""Arrays of PyTorch checkpoints, assembled from their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simloop.policies.checkpoints.array_source import ArraySource, CheckpointError, Shape, StoredArray
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles
from simloop.policies.checkpoints.torch_names import (
    BUFFERED_STATISTICS,
    EXPERT_HEAD,
    LANGUAGE_HEAD,
    RULES,
    TOKEN_TABLE,
    canonical_name,
    owner,
)


class TorchSource(ArraySource):
    """Safetensors files with the tensor names of `torch_names`."""

    def __init__(self, files: SafetensorsFiles, *, output_head_is_used: bool = False) -> None:
        """Describe the files.

        Args:
          files: The weights.
          output_head_is_used: Whether the model generates tokens. Its head is the token table; if the files contain
            both, they are compared when the table is read.
        """
        self._files = files
        self._actual: dict[str, str] = {}
        for name in files.entries:
            canonical = canonical_name(name)
            if canonical in self._actual:
                raise CheckpointError(
                    f"{files.files[0].parent} contains {name!r} and {self._actual[canonical]!r}, which are the "
                    "same array of the model. Remove the file that does not belong to the checkpoint."
                )
            self._actual[canonical] = name
        self._compare_head = output_head_is_used and {TOKEN_TABLE, LANGUAGE_HEAD} <= self._actual.keys()
        if LANGUAGE_HEAD in self._actual and TOKEN_TABLE not in self._actual:
            self._actual[TOKEN_TABLE] = self._actual.pop(LANGUAGE_HEAD)
        self.unread = tuple(
            actual
            for canonical, actual in self._actual.items()
            if canonical in (LANGUAGE_HEAD, EXPERT_HEAD) or canonical.startswith(BUFFERED_STATISTICS)
        )
        self.stored = tuple(
            StoredArray(actual, files.entries[actual].shape, files.entries[actual].dtype, owner(canonical))
            for canonical, actual in self._actual.items()
            if actual not in self.unread
        )

    def parts(self, name: str, shape: Shape) -> Mapping[str, Shape]:
        rule = RULES.get(name)
        if rule is None:
            return {}
        return {
            self._actual.get(torch_name, torch_name): rule.layout.torch_shape(piece)
            for _, torch_name, piece in rule.pieces(shape)
        }

    def read(self, name: str, shape: Shape, dtype: np.dtype) -> np.ndarray:
        rule = RULES[name]
        pieces = list(rule.pieces(shape))
        if self._compare_head and rule.torch == (TOKEN_TABLE,):
            self._check_head_is_table()
        if len(pieces) == 1 and rule.layout.model == rule.layout.torch:
            return self._files.read(self._actual[pieces[0][1]], dtype)
        array = np.empty(shape, dtype)
        for place, torch_name, piece in pieces:
            array[place] = rule.layout.to_model(self._files.read(self._actual[torch_name]), piece)
        return array

    def files(self) -> tuple[Path, ...]:
        return self._files.files

    def _check_head_is_table(self) -> None:
        if self._files.sha256(self._actual[TOKEN_TABLE]) != self._files.sha256(self._actual[LANGUAGE_HEAD]):
            raise CheckpointError(
                f"{self._files.files[0].parent}: output head {self._actual[LANGUAGE_HEAD]!r} differs from "
                f"token table {self._actual[TOKEN_TABLE]!r}. simloop's model has one table for both, as the published "
                "models do, so this checkpoint cannot be used."
            )
