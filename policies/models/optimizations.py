"""Work that inference need not do, each piece by name. Needs no JAX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizations:
    """What inference leaves out, or does once instead of again and again.

    None of it changes answers by more than rounding (tests/policies/models/test_optimizations.py). Turn one off to
    measure what it brings: `python -m simloop.policies.bench --without keys_only`.
    """

    keys_only: bool = True
    """The last layer that reads cameras and prompt stops at keys and values: the flow models read no more
    of it. It is 1/18 of the work on the prompt."""
    schedule: bool = True
    """What follows from flow time alone is computed once per policy instead of in every step of every
    query: the embedding of time, and for pi0.5 scale, shift and gate of every norm of the action expert."""
    separate_layers: bool = True
    """Where layers are unrolled, each layer's weights are arrays of their own: cut out of one array for
    all layers, they are copied at every use. Takes the memory of the weights twice."""
    joined_projections: bool = True
    """Where layers are unrolled, one product makes queries, keys and values, and one makes gate and up, from
    weights that were put side by side once. Takes the memory of the weights twice, with or without
    `separate_layers`."""
    attention_in_place: bool = True
    """Attention lays queries, logits and values out as its products read them, so that nothing is transposed; in
    float32, sums of values are divided instead of weights. On CPUs, the rows of a large batch attend one after the
    other, so that the logits of one stay in the caches. Losses that read a cache do the same."""
    leading_tokens: bool = True
    """The words that every answer of pi0-FAST begins with are read with the prompt; those that the model
    would not have said are taken back."""
    restricted_head: bool = False
    """pi0-FAST looks for the next token among those that answers are made of; all other tokens are looked at
    once, at the end, and what one of them would have won is generated again. Spares a fifth of the memory
    traffic of a token at batch 1."""
    aligned: bool = False
    """What products sum over is a multiple of 128 long: the slots of the cache, of which the last ones are never seen,
    and, where projections are joined, the hidden layers of the image encoder, filled up with zeros (not in 8 bits).
    Kernels of accelerators split sums into equal parts, and would copy caches and weights to fill up the last part. On
    CPUs there is nothing to gain. Exact with pi0-FAST's decode mask `valid`, and with `window` wherever no camera is
    masked: what masked tokens hold depends on all slots, and `window` may show it."""
    lone_rows_doubled: bool = True
    """pi0-FAST answers a single query in bfloat16 with a copy of it beside it: the product of one row and a matrix is
    compiled as another operation, which writes all of the matrix on GPUs, and takes ten times as long on CPUs."""
    unrolled_steps: bool = False
    """Flow steps are compiled one after the other instead of as a loop. Accelerators that replay recorded
    graphs cannot record a loop. Only with `schedule`; on CPUs it gains little and compiles for longer."""

    def without(self, *names: str) -> Optimizations:
        """These savings without the named ones.

        Raises:
          ValueError: If there is none of that name.
        """
        unknown = [name for name in names if name not in self.__dataclass_fields__]
        if unknown:
            raise ValueError(
                f"There is no saving {unknown[0]!r}; there are {', '.join(self.__dataclass_fields__)}."
            )
        return Optimizations(**{**vars(self), **dict.fromkeys(names, False)})
