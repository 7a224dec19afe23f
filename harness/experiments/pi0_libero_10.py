"""pi0 on LIBERO-10 (also called Long), as openpi evaluates it: 85.2 % published.

    simloop run pi0_libero_10 --checkpoint DIR

DIR is the published checkpoint `pi0_libero`. Ten tasks from their 50 initial states each: 500 episodes.

Expected: 85.2 % = 426 of 500, 95 % Wilson interval [81.8, 88.0].
Source: openpi, examples/libero/README.md before commit 35106c9.

The run ends with the difference, its interval, and whether the two rates are equivalent within 2 points by two
one-sided tests. `--limit 1` plays one episode, to see whether everything works.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="pi0_libero_10",
    suite="libero",
    tasks=("libero_10",),
    policies=("pi0_libero",),
    episodes=50,
    seed=7,
    protocol=named_protocol("libero", "openpi-v1"),
)
