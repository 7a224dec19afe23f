"""pi0.5 on LIBERO-10 (also called Long), as openpi evaluates it: 92.4 % published.

    simloop run pi05_libero_10 --checkpoint DIR

DIR is the published checkpoint `pi05_libero`. Ten tasks from their 50 initial states each: 500 episodes.

Expected: 92.4 % = 462 of 500, 95 % Wilson interval [89.7, 94.4].
Source: openpi, examples/libero/README.md.

The published model does not see the robot's state.

The run ends with the difference, its interval, and whether the two rates are equivalent within 2 points by two
one-sided tests. `--limit 1` plays one episode, to see whether everything works.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="pi05_libero_10",
    suite="libero",
    tasks=("libero_10",),
    policies=("pi05_libero",),
    episodes=50,
    seed=7,
    protocol=named_protocol("libero", "openpi-v1"),
)
