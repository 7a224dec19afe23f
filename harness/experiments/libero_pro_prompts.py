"""LIBERO-PRO with the instructions of three readings on the same episodes: what the sentence alone changes.

    simloop run libero_pro_prompts --checkpoint DIR
    simloop table runs/libero_pro_prompts --only prompts

`libero-pro-v1` takes the sentence of the BDDL file where the wording or the goal was changed, and that of the file
name, on which policies were trained, elsewhere. Published evaluations take one of the two for all tasks: the file name
(openpi, LeRobot), so that another wording never reaches the policy, or the BDDL file (RLinf). `--tasks` chooses groups,
such as `libero_spatial_lan`.
"""

from simloop.envs.libero.tasks import PRO_GROUPS
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="libero_pro_prompts",
    suite="libero_pro",
    tasks=tuple(PRO_GROUPS),
    policies=("pi05_libero",),
    episodes=50,
    seed=7,
    protocol=named_protocol("libero_pro", "libero-pro-v1"),
    prompt_sources=("suite", "filename", "bddl"),
)
