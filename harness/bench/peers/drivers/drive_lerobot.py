"""Play a random policy on tasks of Meta-World with `lerobot-eval`, in one process, without its videos.

LeRobot's environment has one camera. No option sets its size and quality, the limit of steps, or videos off; they
are set in its classes. Arguments: folder for the results, control steps per episode, tasks.
"""

import sys
from collections import deque
from dataclasses import dataclass

import torch
from drawn_task import PIXELS, RandomChunks, draw_fast
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.scripts import lerobot_eval
from metaworld.sawyer_xyz_env import SawyerXYZEnv


@PreTrainedConfig.register_subclass("random")
@dataclass
class RandomConfig(PreTrainedConfig):
    """Settings of the policy, found by its name."""

    observation_delta_indices = None
    action_delta_indices = None
    reward_delta_indices = None

    def get_optimizer_preset(self):
        """Nothing is trained."""

    def get_scheduler_preset(self):
        """Nothing is trained."""

    def validate_features(self):
        """Any observation will do."""


class RandomPolicy(PreTrainedPolicy):
    """Chunks of random actions, one taken at every step."""

    config_class = RandomConfig
    name = "random"

    def __init__(self, config, **_):
        super().__init__(config)
        self._chunks = RandomChunks()
        self.reset()

    def reset(self):
        """Forget the chunk."""
        self._left = deque()

    def get_optim_params(self):
        """Nothing is trained."""
        return {}

    def forward(self, batch):
        """Refuse to train."""
        raise NotImplementedError("The policy of this benchmark cannot be trained.")

    def predict_action_chunk(self, batch, **_):
        """Answer actions [1, 10, 4]."""
        return torch.from_numpy(self._chunks())[None]

    def select_action(self, batch, **_):
        """Return the next action of the chunk, [1, 4]."""
        if not self._left:
            self._left.extend(self.predict_action_chunk(batch).unbind(1))
        return self._left.popleft()


def make_random_pre_post_processors(config, **_):
    """Return pipelines that change nothing, found by their name."""
    actions = PolicyProcessorPipeline(
        [], to_transition=policy_action_to_transition, to_output=transition_to_policy_action
    )
    return PolicyProcessorPipeline([]), actions


def _draw_small_and_fast(make):
    def make_small(self, *arguments, **options):
        make(self, *arguments, **{**options, "width": PIXELS, "height": PIXELS})
        draw_fast(self.model)

    return make_small


def main(folder, steps, *tasks):
    """Play one episode of every task."""
    from lerobot.envs.metaworld import MetaworldEnv

    SawyerXYZEnv.__init__ = _draw_small_and_fast(SawyerXYZEnv.__init__)
    make = MetaworldEnv.__init__

    def make_short(self, *arguments, **options):
        make(self, *arguments, **options, observation_width=PIXELS, observation_height=PIXELS)
        self._max_episode_steps = int(steps)

    MetaworldEnv.__init__ = make_short
    options = {
        "policy.type": "random",
        "policy.device": "cpu",
        "env.type": "metaworld",
        "env.task": ",".join(tasks),
        "eval.n_episodes": 1,
        "eval.batch_size": 1,
        "output_dir": folder,
    }
    sys.argv[1:] = [f"--{name}={value}" for name, value in options.items()]
    evaluate = lerobot_eval.eval_policy_all
    lerobot_eval.eval_policy_all = lambda *a, **o: evaluate(*a, **{**o, "max_episodes_rendered": 0})
    lerobot_eval.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
