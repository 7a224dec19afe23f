"""pi0.5 on LIBERO-Goal, as openpi evaluates it: 98.0 % published.

    simloop run pi05_libero_goal --checkpoint DIR

DIR is the published checkpoint `pi05_libero`. Ten tasks from their 50 initial states each: 500 episodes.

Expected: 98.0 % = 490 of 500, 95 % Wilson interval [96.4, 98.9].
Source: openpi, examples/libero/README.md.

The published model does not see the robot's state.

The run ends with the difference, its interval, and whether the two rates are equivalent within 2 points by two
one-sided tests. `--limit 1` plays one episode, to see whether everything works.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="pi05_libero_goal",
    suite="libero",
    tasks=("libero_goal",),
    policies=("pi05_libero",),
    episodes=50,
    seed=7,
    protocol=named_protocol("libero", "openpi-v1"),
)
