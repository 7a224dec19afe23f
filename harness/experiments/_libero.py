"""Experiments that reproduce the published success rates of openpi on LIBERO.

Each plays the ten tasks of a LIBERO suite from their 50 initial states: 500 episodes. `--checkpoint DIR` names the
published checkpoint, which is called as the policy. The run ends with the difference to the published rate, its
interval, and whether the two are equivalent within 2 points by two one-sided tests. `--limit 1` plays one episode, to
see whether everything works.

The published pi0.5 does not see the state of the robot. The published pi0-FAST was trained with z-scores, as its preset
says; with quantiles it solves almost nothing.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol


def published_libero(policy: str, tasks: str) -> Experiment:
    """The experiment of one policy on one group of tasks, named `pi05_libero_10` for `pi05_libero` on `libero_10`."""
    return Experiment(
        name=f"{policy.removesuffix('_libero')}_{tasks}",
        suite="libero",
        tasks=(tasks,),
        policies=(policy,),
        episodes=50,
        seed=7,
        protocol=named_protocol("libero", "openpi-v1"),
    )
