"""Scripted and learned policies on five tasks of MT10, four episodes each.

    simloop run demo

A few minutes on two CPU cores. The learned policies are the small ones that come with simloop, which
succeed and fail. `expert` should solve nearly everything, `random` nothing.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="demo",
    suite="metaworld",
    tasks=("reach-v3", "pick-place-v3", "drawer-open-v3", "button-press-topdown-v3", "window-open-v3"),
    policies=("expert", "random", "pi0-tiny", "pi05-tiny", "pi0_fast-tiny"),
    episodes=4,
    protocol=named_protocol("metaworld"),
    batch_size=2,  # One query of each of two simulators.
)
