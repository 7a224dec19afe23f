"""A run of two policies, of which one episode is played and recorded step by step."""

from __future__ import annotations

from pathlib import Path

from simloop.harness.debugging.episodes import find_episode
from simloop.harness.debugging.play_again import play
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.run_folder import RunFolder
from simloop.harness.rollout.step_recorder import StepRecorder
from simloop.results.records.paths import attached_files

NAME = "random/reach-v3/0"
FILE = "steps/random/reach-v3-0000.parquet"
RULES = Protocol(
    "metaworld", replan_steps=4, max_steps=10, perturbations=(Perturbation("sticky-actions", 0.5),)
)
EXPERIMENT = Experiment("", "metaworld", ("reach-v3",), ("random", "hold"), episodes=2, protocol=RULES)


def record_run(run: Path) -> None:
    with RunFolder(run, EXPERIMENT, EXPERIMENT.plan()) as folder:
        episode = find_episode(run, NAME)
        recorder, env = StepRecorder(episode.spec, "steps"), episode.make_env()
        policy = episode.load_policy()
        played = play(episode, env, policy, [recorder])
        env.close()
        row = played.record(episode.spec, policy.spec, attempts=1, video="")
        folder.append(row, played.queries, attached_files(row, recorder.attachments))
