"""Bundled policies on Meta-World's MT50 under LeRobot's evaluation protocol: fifty tasks, ten episodes each.

    simloop run mt50_lerobot
    simloop run mt50_lerobot --policies PRESET@DIR

Expected: `expert` above 95 % (it solves 97 to 99 % over many seeds), `random` below 5 %. The benchmark is that of the
SmolVLA paper (arXiv:2506.01844); no rates of the pi0 family are quoted here, because its tables were not verified.
Rates by difficulty: `--tasks easy`, `medium`, `hard` and `very-hard`. Source of the protocol: LeRobot,
src/lerobot/envs/metaworld.py. `--limit 1` plays one episode of each policy.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="mt50_lerobot",
    suite="metaworld",
    tasks=("MT50",),
    policies=("expert", "random", "pi0-tiny"),
    episodes=10,
    protocol=named_protocol("metaworld", "lerobot-v1"),
)
