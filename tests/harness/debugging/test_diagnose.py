"""Episodes of real simulations are diagnosed from their step records."""

import pytest

from simloop.harness.commands.diagnose import command
from simloop.harness.debugging.episodes import find_episode
from simloop.harness.debugging.play_again import play
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.run_folder import RunFolder
from simloop.harness.rollout.step_recorder import StepRecorder
from simloop.results.diagnosis import diagnose
from simloop.results.records.paths import attached_files

EXPERIMENT = Experiment(
    "", "metaworld", ("pick-place-v3", "reach-v3"), ("expert", "hold"), episodes=1,
    protocol=Protocol("metaworld", replan_steps=4, max_steps=120),
)  # fmt: skip


@pytest.mark.slow
def test_a_robot_that_stands_still_never_touches_the_thing_and_the_expert_shows_what_reaching_needs(
    tmp_path, capsys
):
    run = tmp_path / "run"
    with RunFolder(run, EXPERIMENT, EXPERIMENT.plan()) as folder:
        for spec in EXPERIMENT.plan().episodes:
            episode = find_episode(run, f"{spec.policy}/{spec.task}/{spec.episode}")
            recorder, env, policy = StepRecorder(spec, "steps"), episode.make_env(), episode.load_policy()
            played = play(episode, env, policy, [recorder])
            env.close()
            row = played.record(spec, policy.spec, attempts=1, video="")
            folder.append(row, played.queries, attached_files(row, recorder.attachments))
    found = diagnose(run)
    assert [(f.name, f.ending) for f in found.failures] == [
        ("hold/pick-place-v3/0", "never touched"),
        ("hold/reach-v3/0", "other"),
    ]
    assert found.waived == {"reach-v3": ("never touched",)}
    assert command(run) == 0
    assert "hold/pick-place-v3/0" in capsys.readouterr().out
