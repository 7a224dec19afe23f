"""A policy that answers chunks of ten random actions and looks through both cameras.

Executed, it plays in this process. Arguments: run folder, control steps per episode, tasks.
"""

import sys

import simloop
from simloop.harness.adapters.metaworld import METAWORLD
from simloop.harness.planning.protocol import Protocol
from simloop.harness.serving.stub_policy import Stub, StubPolicy


class RandomChunks(StubPolicy):
    """Chunks of random actions."""

    def __init__(self) -> None:
        super().__init__(Stub("random-chunks", robot=METAWORLD.robot, cameras=tuple(METAWORLD.cameras)))


def main(folder: str, steps: str, *tasks: str) -> None:
    """Play one episode of every task."""
    protocol = Protocol("metaworld", max_steps=int(steps))
    result = simloop.evaluate([RandomChunks()], tasks, episodes=1, protocol=protocol, out=folder)
    print(result.success_rates())


if __name__ == "__main__":
    main(*sys.argv[1:])
