"""Implementations of the operations that libraries have kernels for. Needs no JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Attention = Literal["xla", "cudnn", "tokamax"]
GatedProduct = Literal["xla", "tokamax"]


@dataclass(frozen=True)
class Kernels:
    """One implementation per operation; answers differ by rounding.

    `xla` is written in JAX and runs everywhere. `cudnn` is NVIDIA's fused attention, called through JAX. `tokamax`
    is a library of fused kernels that has to be installed.
    """

    image_attention: Attention = "xla"
    """Attention in the image encoder."""
    prompt_attention: Attention = "xla"
    """Attention among cameras and prompt."""
    action_attention: Attention = "xla"
    """Attention in every flow step or generated token."""
    gated_product: GatedProduct = "xla"
    """gelu(x·W0) · (x·W1) of the language expert on cameras and prompt, with fused projections."""

    @staticmethod
    def of(chosen: Mapping[str, str]) -> Kernels:
        """Read implementation names by operation; `xla` computes the other operations.

        Raises:
          ValueError: If there is no such operation, or no such implementation of it.
        """
        for operation, implementation in chosen.items():
            known = IMPLEMENTATIONS.get(operation)
            if known is None:
                raise ValueError(
                    f"There is no operation {operation!r}; there are {', '.join(IMPLEMENTATIONS)}."
                )
            if implementation not in known:
                raise ValueError(
                    f"{operation} can be computed by {', '.join(known)}; got {implementation!r}."
                )
        return Kernels(**chosen)  # type: ignore[arg-type]

    def names(self) -> dict[str, str]:
        """Implementation name by operation."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_words(words: Sequence[str]) -> Kernels:
        """Read OPERATION=IMPLEMENTATION pairs, or `xla` alone; no words mean `xla`.

        Raises:
          ValueError: If a word is not of that form, or names no operation or implementation.
        """
        if list(words) == ["xla"]:
            return Kernels()
        pairs = [word.partition("=") for word in words]
        if not all(operation and equals and name for operation, equals, name in pairs):
            raise ValueError(
                f"Kernels are given as OPERATION=IMPLEMENTATION, or xla for all; got {' '.join(words)!r}."
            )
        return Kernels.of({operation: name for operation, _, name in pairs})


IMPLEMENTATIONS: dict[str, tuple[str, ...]] = {
    "image_attention": ("xla", "cudnn", "tokamax"),
    "prompt_attention": ("xla", "cudnn", "tokamax"),
    "action_attention": ("xla", "cudnn", "tokamax"),
    "gated_product": ("xla", "tokamax"),
}
"""Implementations of each operation, `xla` first."""
