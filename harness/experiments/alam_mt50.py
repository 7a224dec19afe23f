"""ALAM + pi0 on Meta-World's MT50: fifty tasks, ten episodes each.

    simloop run alam_mt50 --policies "alam_pi0=openpi://HOST:PORT?robot=metaworld"

Published: 86.8 % = 434 of 500, 95 % interval [83.6, 89.5], 85.0 % as the mean of the four difficulties. Source:
model card Mark-ZJTang/alam_plus_pi_metaworld_mt50, which says: action horizon 6 of which 5 are used, a query every 5
steps, camera at (0.70, 0.075, 0.70). It is silent on image size and on the seeds of initial states; this protocol
renders 480 x 480 as LeRobot does.

Its weights need the authors' tokenizer of latent actions and run behind a server of theirs; the verdict is given for a
policy that is called `alam_pi0`. Without `--policies` the scripted expert plays. `--limit 1` plays one episode of each
policy.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="alam_mt50",
    suite="metaworld",
    tasks=("MT50",),
    policies=("expert",),
    episodes=10,
    protocol=named_protocol("metaworld", "alam-v1"),
)
