"""Seeds and keys of episodes, derived from their names alone: equal on every machine and in every order of play."""

from __future__ import annotations

import hashlib
import json

_compact = json.JSONEncoder(separators=(",", ":")).encode  # `json.dumps` creates an encoder per call.


def derive(*parts: str | int, bits: int) -> int:
    """Derive an integer of `bits` bits from all parts, equal on every machine and Python version.

    The parts are hashed as a JSON list, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256(_compact(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> (64 - bits)


def episode_seed(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Seed of an initial state, 31 bits; equal for all policies, so that their episodes are paired."""
    return derive("initial state", root_seed, suite, task, episode, bits=31)


def episode_key(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Key of the policy noise of an episode, 64 bits.

    Equal for all policies: a comparison of two checkpoints of one model then compares weights, not draws.
    """
    return derive("policy noise", root_seed, suite, task, episode, bits=64)


def order_in_round(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Sort key of a task within a round of an interleaved plan, 64 bits; rounds have different orders."""
    return derive("order", root_seed, suite, task, episode, bits=64)


def demonstration_seed(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Seed of the initial state of a demonstration, 31 bits; independent of `episode_seed`."""
    return derive("demonstration", root_seed, suite, task, episode, bits=31)


def demonstration_key(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Key of the noise added to the actions of a demonstration, 64 bits."""
    return derive("demonstration noise", root_seed, suite, task, episode, bits=64)


def query_key(episode_key: int, index: int) -> int:
    """Key of the randomness of query `index` of an episode, 64 bits."""
    return derive(episode_key, index, bits=64)
