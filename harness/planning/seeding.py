"""Seeds and keys that depend on what an episode is, never on when or where it runs."""

from __future__ import annotations

import hashlib
import json

_compact = json.JSONEncoder(separators=(",", ":")).encode  # `json.dumps` makes an encoder for every call.


def derive(*parts: str | int, bits: int) -> int:
    """An integer of `bits` bits that depends on every part, equal on every machine and Python.

    The parts are hashed as a JSON list, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256(_compact(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> (64 - bits)


def episode_seed(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Seed of an initial state, 31 bits. The policy has no part in it, so policies meet the same scenes."""
    return derive("initial state", root_seed, suite, task, episode, bits=31)


def episode_key(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Key of a policy's randomness within an episode, 64 bits.

    Shared by all policies: comparing two checkpoints of one model then compares weights, not draws.
    """
    return derive("policy noise", root_seed, suite, task, episode, bits=64)


def place_in_round(root_seed: int, suite: str, task: str, episode: int) -> int:
    """By which the tasks of a round are ordered where tasks are mixed; each round has an order of its own."""
    return derive("order", root_seed, suite, task, episode, bits=64)


def demonstration_seed(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Seed of an initial state to learn from, 31 bits; other ones than `episode_seed` gives."""
    return derive("demonstration", root_seed, suite, task, episode, bits=31)


def demonstration_key(root_seed: int, suite: str, task: str, episode: int) -> int:
    """Key of the noise that a demonstration's actions are perturbed with, 64 bits."""
    return derive("demonstration noise", root_seed, suite, task, episode, bits=64)


def query_key(episode_key: int, index: int) -> int:
    """Key of the randomness of an episode's query number `index`, 64 bits."""
    return derive(episode_key, index, bits=64)
