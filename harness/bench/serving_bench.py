"""Options of `simloop bench serve`."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class ServingBench:
    """What is measured."""

    policy: str = "pi0-tiny"
    robot: str = "metaworld_hand"
    """Robot of the policy, by which its observations are named."""
    batch_size: int = 8
    connections: int = 8
    seconds: float = 10.0
    """Duration of each measurement of several clients."""
    rounds: int = 3
    queries: int = 200
    """Pairs of queries for the overhead."""
    client_python: str = sys.executable
    """Interpreter of the clients; one with openpi-client measures that."""
