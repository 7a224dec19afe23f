"""Scripted and learned policies on five tasks of MT10, four episodes each.

    simloop run demo

About five minutes on two CPU cores. The learned policies carry untrained weights: they show the
loop, the latencies and the tables, and cannot succeed. `expert` should solve nearly everything,
`random` nothing.
"""

from harness.experiment import Experiment
from harness.protocol import named_protocol

EXPERIMENT = Experiment(
    name="demo",
    suite="metaworld",
    tasks=("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-close-v3"),
    policies=("expert", "random", "pi0-tiny", "pi05-tiny", "pi0_fast-tiny"),
    episodes=4,
    protocol=named_protocol("metaworld"),
    bucket=2,  # One query of each of two simulators.
)
