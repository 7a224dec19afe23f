"""LIBERO-plus without downloads: every published variant of camera, arm posture and sensor noise, and the unchanged
tasks, one episode each.

    simloop run libero_plus --checkpoint DIR
    simloop table runs/libero_plus --only axes

The table has success by what was changed, and the difference to the unchanged task from the same initial state.
`--tasks camera` chooses an axis, `--tasks libero_goal_camera libero_goal_original` one of a group; `--tasks original
language` plays other wordings, whose files the suite reads from LIBERO-plus. `--prompt-source published` gives the
policy the instruction of published evaluations, which states the change: with it pi0.5 lost 8 points on the camera
variants of libero_object (84.1 against 92.2 %, issue 64 of its repository).
"""

from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol

EXPERIMENT = Experiment(
    name="libero_plus",
    suite="libero_plus",
    tasks=("original", "camera", "robot", "noise"),
    policies=("pi05_libero",),
    episodes=1,
    seed=7,
    protocol=named_protocol("libero_plus", "libero-plus-v1"),
)
