"""Which implementation computes the operations that libraries have kernels for. Needs no JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Attention = Literal["xla", "cudnn", "tokamax"]
GatedProduct = Literal["xla", "tokamax"]


@dataclass(frozen=True)
class Kernels:
    """An implementation for each operation; answers differ by rounding.

    `xla` is written in JAX and works everywhere. `cudnn` is NVIDIA's fused attention, through JAX. `tokamax`
    is a library of fused kernels that has to be installed.
    """

    image_attention: Attention = "xla"
    """In the image encoder."""
    prompt_attention: Attention = "xla"
    """Of cameras and prompt to each other, before the actions."""
    action_attention: Attention = "xla"
    """In every flow step or token."""
    gated_product: GatedProduct = "xla"
    """gelu(x·W0) · (x·W1) of the language expert on cameras and prompt; where weights are joined."""

    @staticmethod
    def of(chosen: Mapping[str, str]) -> Kernels:
        """From names as they are written down; operations that are not named stay with `xla`.

        Raises:
          ValueError: If there is no such operation, or no such implementation of it.
        """
        for operation, implementation in chosen.items():
            there_are = IMPLEMENTATIONS.get(operation)
            if there_are is None:
                raise ValueError(
                    f"There is no operation {operation!r}; there are {', '.join(IMPLEMENTATIONS)}."
                )
            if implementation not in there_are:
                raise ValueError(
                    f"{operation} can be computed by {', '.join(there_are)}; got {implementation!r}."
                )
        return Kernels(**chosen)  # type: ignore[arg-type]

    def names(self) -> dict[str, str]:
        """Implementation by operation."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_words(words: Sequence[str]) -> Kernels | None:
        """From OPERATION=IMPLEMENTATION each, or `xla` alone; None where nothing is said.

        Raises:
          ValueError: If it is something else, or there is no such operation or implementation.
        """
        if not words:
            return None
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
"""What there is for each operation; `xla` first."""


@dataclass(frozen=True)
class Trial:
    """One implementation of one operation, timed."""

    operation: str
    implementation: str
    milliseconds: float | None
    """Of one run; None where it cannot be used here."""
    hindrance: str = ""
    """Why not, in its own words."""


@dataclass(frozen=True)
class KernelChoice:
    """What was chosen, and what for."""

    kernels: Kernels
    trials: tuple[Trial, ...] = ()
