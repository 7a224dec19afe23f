"""pi0-FAST on LIBERO-Goal, as openpi evaluates it: 88.6 % published.

    simloop run pi0_fast_libero_goal --checkpoint DIR

DIR is the published checkpoint `pi0_fast_libero`. Ten tasks from their 50 initial states each: 500 episodes.

Expected: 88.6 % = 443 of 500, 95 % Wilson interval [85.5, 91.1].
Source: openpi, examples/libero/README.md before commit 35106c9.

The published weights were trained with z-scores, which the preset says; with quantiles they solve almost nothing.

The run ends with the difference, its interval, and whether the two rates are equivalent within 2 points by two
one-sided tests. `--limit 1` plays one episode, to see whether everything works.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="pi0_fast_libero_goal",
    suite="libero",
    tasks=("libero_goal",),
    policies=("pi0_fast_libero",),
    episodes=50,
    seed=7,
    protocol=named_protocol("libero", "openpi-v1"),
)
