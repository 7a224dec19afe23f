"""Meta-World's ten multi-task tasks, twenty episodes each, for the bundled policies.

    simloop run mt10

The upper bound `expert` reaches 97-99 % over many seeds; the lower bound `random` stays below 5 %.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="mt10",
    suite="metaworld",
    tasks=("MT10",),
    policies=("expert", "random", "pi0-tiny", "pi05-tiny", "pi0_fast-tiny"),
    episodes=20,
    protocol=named_protocol("metaworld"),
)
