"""Scripted and learned policies on five tasks of MT10, four episodes each.

    simloop run demo

Takes a few minutes on two CPU cores. The bundled learned policies succeed on some episodes and fail on others;
`expert` solves nearly all, `random` none.
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
    batch_size=2,  # One query of each of two environments.
)
