"""pi0 on ALOHA's cube transfer in simulation, as in openpi's example: fifty episodes, no published rate.

    simloop run pi0_aloha_sim_transfer_cube --checkpoint DIR

DIR is the published checkpoint `pi0_aloha_sim`.

Expected: unknown. openpi's example plays one episode and counts no successes, and no other success rate of these
weights is known. Source of the rules: openpi,
examples/aloha_sim. `--limit 1` plays one episode, to see whether everything works.
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="pi0_aloha_sim_transfer_cube",
    suite="aloha_sim",
    tasks=("transfer_cube",),
    policies=("pi0_aloha_sim",),
    episodes=50,
    protocol=named_protocol("aloha_sim", "openpi-v1"),
)
