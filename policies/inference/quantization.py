"""8-bit quantization settings stored in a checkpoint. Needs no JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["int8", "fp8"]
KINDS: tuple[Kind, ...] = ("int8", "fp8")
"""Integers, and floating-point numbers with 4 exponent and 3 mantissa bits (E4M3, arXiv:2209.05433)."""
SETTING = "quantization"
"""Entry of a checkpoint's settings that holds a `Quantization`."""


class QuantizationError(ValueError):
    """A model or recorded ranges that do not allow 8-bit inference."""

    user_facing = True


@dataclass(frozen=True)
class Quantization:
    """Settings of an 8-bit model."""

    kind: Kind
    ranges: Mapping[str, tuple[float, ...]]
    """Largest magnitude of the inputs of each product, one per layer."""

    def as_json(self) -> dict[str, Any]:
        """Return the entry for the settings of a checkpoint."""
        return {"kind": self.kind, "ranges": {name: list(reach) for name, reach in self.ranges.items()}}

    @staticmethod
    def from_json(content: Any) -> Quantization:
        """Read the output of `as_json`.

        Raises:
          QuantizationError: If the content has another form.
        """
        try:
            kind, ranges = content["kind"], content["ranges"]
            read = {str(name): tuple(float(x) for x in reach) for name, reach in ranges.items()}
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise QuantizationError(f"The record of quantized weights is damaged: {error!r}.") from error
        if kind not in KINDS:
            raise QuantizationError(
                f"Weights are quantized to {' or '.join(KINDS)}; the record says {kind!r}."
            )
        return Quantization(kind, read)
