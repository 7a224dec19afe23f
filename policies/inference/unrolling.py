"""Where layers and flow steps are compiled one after the other. Needs no JAX."""

from __future__ import annotations

import dataclasses

from simloop.policies.models.configs import ModelConfig


def unrolled_where_it_pays(config: ModelConfig, platform: str) -> ModelConfig:
    """The config to compile a model with on this platform, `cpu` or an accelerator.

    On accelerators everything is unrolled: only then are weights joined, caches written in place and queries
    replayed as recorded graphs. It takes longer to compile, once. On CPUs the config says what pays.

    Answers differ by rounding between the two, as they do between kinds of devices anyway; what a policy is
    (its preset, and the hash of that) stays the same.
    """
    if platform == "cpu":
        return config
    optimizations = dataclasses.replace(config.optimizations, unrolled_steps=True, aligned=True)
    return dataclasses.replace(config, unroll_layers=True, optimizations=optimizations)
