"""pi0-FAST on LIBERO-Object, as openpi evaluates it: 96.8 % published.

    simloop run pi0_fast_libero_object --checkpoint DIR

DIR is the published checkpoint `pi0_fast_libero`. Ten tasks from their 50 initial states each: 500 episodes.

Expected: 96.8 % = 484 of 500, 95 % Wilson interval [94.9, 98.0].
Source: openpi, examples/libero/README.md before commit 35106c9.

The published weights were trained with z-scores, which the preset says; with quantiles they solve almost nothing.

The run ends with the difference, its interval, and whether the two rates are equivalent within 2 points by two
one-sided tests. `--limit 1` plays one episode, to see whether everything works.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="pi0_fast_libero_object",
    suite="libero",
    tasks=("libero_object",),
    policies=("pi0_fast_libero",),
    episodes=50,
    seed=7,
    protocol=named_protocol("libero", "openpi-v1"),
)
