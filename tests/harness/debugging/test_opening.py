"""Episodes are opened at their queries, from step records where there are some and by playing again where not."""

import dataclasses

import pytest
from rich.console import Console

from simloop.envs.env_state import EnvState
from simloop.envs.interface import UnknownThingError
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode, find_episode
from simloop.harness.debugging.forks import fork_experiment, play_forks
from simloop.harness.debugging.moments import saved_moments
from simloop.harness.debugging.opening import moments, open_episode, played_moments
from simloop.harness.debugging.play_again import play_again
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.changes import Changes, Move
from simloop.harness.planning.experiment import ExperimentError
from simloop.harness.planning.policy_names import UnknownPolicyError
from simloop.harness.planning.protocol import ProtocolError
from simloop.harness.preparation import RunSettings
from simloop.harness.recording.run_folder import RunFolder
from simloop.harness.run import run as run_experiment
from simloop.results.records.records import read_episodes
from simloop.results.records.step_records import StepRecordsError, load_steps
from tests.helpers.recorded_run import FILE, NAME


@pytest.fixture
def episode(run) -> PlannedEpisode:
    return find_episode(run, NAME)


def refuse(sentence: str) -> None:
    raise AssertionError(f"said {sentence!r}")


def test_moments_of_step_records_are_those_of_the_episode_played_again(episode):
    queries = range(episode.outcome.queries)
    saved, played = saved_moments(episode, queries), played_moments(episode, queries)
    for query in queries:
        assert saved[query].env == played[query].env
        assert saved[query].loop.executed.tobytes() == played[query].loop.executed.tobytes()
        assert saved[query].loop.reward == played[query].loop.reward
        assert len(saved[query].loop.queries) == len(played[query].loop.queries) == query


def test_an_opened_episode_ends_as_recorded_with_and_without_step_records(episode):
    said = []
    for say in (refuse, said.append):
        with open_episode(episode, 4, say=say) as session:
            assert session.queries == 4
            result = session.run_until("end").result
        assert result.final_state_sha256 == episode.outcome.final_state_sha256
        assert result.actions_sha256 == episode.outcome.actions_sha256
        (episode.run / FILE).unlink(missing_ok=True)
    assert "no step records" in said[0]
    assert "played again to reach query 4" in said[0]


def test_torn_step_records_are_said_and_the_episode_is_played_again(episode):
    (episode.run / FILE).write_bytes((episode.run / FILE).read_bytes()[:-50])
    said = []
    with open_episode(episode, 1, say=said.append) as session:
        assert session.queries == 1
    assert "cannot be read as step records" in said[0]


def test_step_records_of_another_episode_than_that_of_the_ledger_are_not_used(episode):
    record = dataclasses.replace(episode.outcome, actions_sha256="0" * 64)
    other = dataclasses.replace(episode, record=record)
    with pytest.raises(StepRecordsError, match="differ in actions_sha256"):
        saved_moments(other, [0])
    with pytest.raises(EpisodeError, match="simloop replay shows where they part"):
        played_moments(other, [0])


def test_another_policy_continues_from_the_moment_of_the_recorded_episode(episode):
    (recorded,) = saved_moments(episode, [3]).values()
    with open_episode(episode, 3, "hold", say=refuse) as session:
        assert session.spec.policy == "hold"
        assert session.snapshot().env == recorded.env


def test_an_episode_is_opened_without_the_checkpoint_of_its_policy(episode, monkeypatch):
    monkeypatch.setattr(PlannedEpisode, "written_policy", "mine=pi0-tiny@/missing")
    with open_episode(episode, 2, say=refuse) as session:
        session.act([0, 0, 0, 0])
        with pytest.raises(UnknownPolicyError, match="/missing, which does not exist"):
            session.step()


@pytest.mark.parametrize("query", [-1, 10])
def test_a_query_beyond_the_end_names_those_that_there_are(episode, query):
    with pytest.raises(EpisodeError, match=f"queries 0 to 9; got {query}"):
        open_episode(episode, query, say=refuse)
    with pytest.raises(EpisodeError, match=f"queries 0 to 9; got {query}"):
        moments(episode, [0, query], refuse)
    with pytest.raises(EpisodeError, match=f"queries 0 to 9; got {query}"):
        fork_experiment(episode, [query], 1, Changes(), None)


def test_a_fork_is_opened_in_the_run_that_it_continues(episode, tmp_path):
    experiment = fork_experiment(episode, [3], 1, Changes(), None)
    with RunFolder(tmp_path / "forks", experiment, experiment.plan()):
        pass
    with pytest.raises(EpisodeError, match="begin at queries of random/reach-v3/0"):
        find_episode(tmp_path / "forks", NAME)


def test_an_unfinished_episode_has_no_outcome_to_fork(run):
    with pytest.raises(EpisodeError, match="has not finished"):
        fork_experiment(find_episode(run, "hold/reach-v3/1"), [0], 1, Changes(), None)


def test_a_saved_state_of_another_version_is_said(episode, monkeypatch):
    said = []
    require = EnvState.require
    monkeypatch.setattr(
        EnvState, "require", lambda self, suite, task, version: require(self, suite, task, "mujoco 9")
    )
    with open_episode(episode, 1, say=said.append):
        assert "the state was saved with" in said[0]


def test_forks_are_planned_once_per_query_in_order(episode):
    assert fork_experiment(episode, [5, 2, 5], 1, Changes(), None).forks.queries == (2, 5)


def test_changes_that_cannot_be_made_are_refused_before_anything_starts(episode, tmp_path):
    with pytest.raises(EpisodeError, match="--samples must be at least 1"):
        fork_experiment(episode, [0], 0, Changes(), None)
    with pytest.raises(ProtocolError, match="replan_steps must be at least 1"):
        fork_experiment(episode, [0], 1, Changes(replan_steps=0), None)
    wanted = fork_experiment(episode, [1], 1, Changes(moves=(Move("moon", (0.0, 0.0, 1.0)),)), None)
    with pytest.raises(UnknownThingError, match=r"can move .*got 'moon'"):
        play_forks(episode, wanted, tmp_path / "forks", Resources(), Console())
    assert not (tmp_path / "forks").exists()


def test_videos_of_forks_which_would_replace_each_other_are_refused(episode, tmp_path):
    experiment = fork_experiment(episode, [1, 2], 1, Changes(), None)
    with pytest.raises(ExperimentError, match="do not tell their queries and changes apart"):
        run_experiment(experiment, tmp_path / "forks", RunSettings(video_every=1), Console())
    assert not (tmp_path / "forks").exists()


def test_a_video_without_frames_is_refused_before_anything_is_played(episode):
    with pytest.raises(EpisodeError, match="--video-every must be at least 1; got 0"):
        play_again(episode, video_every=0)


@pytest.mark.slow
def test_the_first_fork_with_nothing_changed_equals_the_original_at_every_query(episode, tmp_path):
    queries = range(episode.outcome.queries)
    experiment, out = fork_experiment(episode, queries, 2, Changes(), None), tmp_path / "forks"
    played = play_forks(episode, experiment, out, Resources(env_actors=1), Console(), record="queries")
    assert played.episodes == 2 * len(queries)
    original = episode.outcome
    for fork in read_episodes(out):
        equal = (fork.actions_sha256, fork.final_state_sha256) == (
            original.actions_sha256,
            original.final_state_sha256,
        )
        assert equal == (fork.episode == 0)
        assert fork.steps == original.steps
        assert load_steps(out, fork.key).queries[0].query == fork.queries - len(
            load_steps(out, fork.key).queries
        )
    ledger = (out / "episodes.jsonl").read_bytes()
    (out / "episodes.jsonl").write_bytes(b"".join(ledger.splitlines(keepends=True)[:-3]))
    play_forks(episode, experiment, out, Resources(env_actors=1), Console())
    assert {fork.key for fork in read_episodes(out)} == {spec.id for spec in experiment.plan().episodes}


def test_an_episode_without_step_records_is_played_again_in_another_process(episode):
    (saved,) = saved_moments(episode, [2]).values()
    (episode.run / FILE).unlink()
    said = []
    (played,) = moments(episode, [2], said.append).values()
    assert played.env == saved.env
    assert "no step records" in said[0]
