"""Recorded episodes are found, played again and replayed; departures are said with step, quantity and amount."""

import dataclasses
from pathlib import Path

import pytest

from simloop.envs.env_state import EnvState
from simloop.harness.adapters.adapter_file import AdapterFile
from simloop.harness.debugging.adapter_trial import try_adapter
from simloop.harness.debugging.departures import Finding
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode, find_episode
from simloop.harness.debugging.moments import recorded_queries, stored_images
from simloop.harness.debugging.play_again import play_again
from simloop.harness.debugging.replay import finished_episodes, replay, replay_ledger
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.plan import Plan
from simloop.harness.planning.policy_names import UnknownPolicyError
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.observers import Observer
from simloop.harness.rollout.step_recorder import StepRecorder
from simloop.policies.interface import batched
from simloop.results.records.paths import attached_files
from simloop.results.records.step_records import StepRecords, load_steps
from tests.harness.rollout.test_loop import ADAPTER, one_spec, point_env, protocol
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointEnv
from tests.helpers.recorded_run import EXPERIMENT, FILE, NAME, RULES


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def changed(run: Path, change) -> None:
    """Change the queries of the records of the episode."""
    records = load_steps(run, find_episode(run, NAME).spec.id)
    (run / FILE).write_bytes(StepRecords(records.header, change(list(records.queries))).to_bytes())


def test_a_recorded_episode_is_repeated_to_the_last_bit(recorded):
    before = contents(recorded)
    seed, states, policy = replay(recorded, NAME, policy=True)
    assert seed.equal
    assert "from the seed: 10 steps equal" in seed.text
    assert states.equal
    assert "10 segments equal" in states.text
    assert policy.equal
    assert "10 of 10 chunks" in policy.text
    assert contents(recorded) == before, "nothing recorded is changed"
    assert finished_episodes(recorded) == [NAME]


def test_a_changed_action_is_found_at_its_step_with_its_size(run):
    def change(queries):
        queries[6].chunk[0] *= 0.5
        return tuple(queries)

    changed(run, change)
    seed, states = replay(run, NAME)
    assert not seed.equal
    assert "departs at step 6: action of the policy by up to" in seed.text
    assert not states.equal
    assert "from the state of query 6: departs at step 6" in states.text


def test_a_changed_state_is_found_at_its_query(run):
    def change(queries):
        state = EnvState.from_bytes(queries[8].env_state)
        state.physics[3] += 0.5
        return (*queries[:8], dataclasses.replace(queries[8], env_state=state.to_bytes()), queries[9])

    changed(run, change)
    seed, states = replay(run, NAME)
    assert "departs at the query before step 8: simulator state by up to 0.5" in seed.text
    assert "departs at the query before step 8" in states.text


def test_another_policy_under_the_name_is_found_at_its_query(run):
    def change(queries):
        queries[4].chunk[0, 1] += 0.5
        return tuple(queries)

    changed(run, change)
    *_, query, total = replay(run, NAME, policy=True)
    assert "query 4 (step 4): the chunk differs by up to 0.5, first in action 0" in query.text
    assert (total.equal, "9 of 10 chunks" in total.text) == (False, True)


def test_records_of_another_version_of_the_suite_are_said_and_the_rest_is_replayed(run):
    def change(queries):
        old = dataclasses.replace(EnvState.from_bytes(queries[0].env_state), version="mujoco 9")
        return (dataclasses.replace(queries[0], env_state=old.to_bytes()), *queries[1:])

    changed(run, change)
    seed, states = replay(run, NAME)
    assert "saved state" in seed.text
    assert "saved with mujoco 9" in states.text


def test_without_step_records_the_policy_plays_again(run):
    (run / FILE).unlink()
    (finding,) = replay(run, NAME)
    assert finding.equal
    assert "10 steps; actions, final state, reward and outcome equal" in finding.text


def test_a_torn_record_is_said_and_the_policy_plays_again(run):
    (run / FILE).write_bytes((run / FILE).read_bytes()[:-100])
    torn, ledger = replay(run, NAME)
    assert torn.equal is None
    assert "cannot be read as step records" in torn.text
    assert ledger.equal


def test_records_of_another_play_contradict_the_ledger(run):
    changed(run, lambda queries: tuple(queries[:2]))
    found = list(replay(run, NAME))
    assert "the ledger tell of two episodes: they differ in steps" in found[0].text


def test_a_ledger_of_another_outcome_differs_in_words(recorded):
    episode = find_episode(recorded, NAME)
    other = dataclasses.replace(episode.record, actions_sha256="0" * 64, steps=11)
    finding = replay_ledger(dataclasses.replace(episode, record=other))
    assert not finding.equal
    assert "steps 11 -> 10; actions sha256 000" in finding.text


def test_a_missing_checkpoint_leaves_the_actions_to_replay(recorded):
    episode = find_episode(recorded, NAME)
    experiment = dataclasses.replace(EXPERIMENT, policies=("mine=pi0-tiny@/missing",))
    spec = dataclasses.replace(episode.spec, policy="mine")
    mine = dataclasses.replace(episode, experiment=experiment, spec=spec)
    assert mine.policy_spec.weights == "trained"
    with pytest.raises(UnknownPolicyError, match="/missing, which does not exist"):
        mine.load_policy()


def test_an_episode_without_an_outcome_cannot_be_compared(recorded):
    with pytest.raises(EpisodeError, match=r"hold/reach-v3/1 of .* has not finished"):
        replay_ledger(find_episode(recorded, "hold/reach-v3/1"))


def test_an_unknown_episode_lists_similar_names(recorded):
    with pytest.raises(EpisodeError, match=r"no episode 'random/reach/0'.*random/reach-v3/0"):
        find_episode(recorded, "random/reach/0")
    full = "random/metaworld/" + RULES.label + "/reach-v3/0"
    assert find_episode(recorded, full).name == NAME


def test_an_episode_is_played_again_into_a_run_of_its_own(recorded):
    before = contents(recorded)
    again = play_again(find_episode(recorded, NAME), video_every=None)
    assert again.differing == ()
    assert again.folder.name == "run-random-reach-v3-0"
    assert again.folder.parent == recorded.parent
    assert [finding.equal for finding in replay(again.folder, NAME)] == [True, True]
    assert play_again(find_episode(recorded, NAME), video_every=None, record=None).folder.name.endswith("-2")
    assert contents(recorded) == before
    with pytest.raises(EpisodeError, match="exists already"):
        play_again(find_episode(recorded, NAME), recorded)


class Queries(Observer):
    def __init__(self):
        self.seen = []

    def on_query(self, query, reply):
        self.seen.append(query)


def watched(run: Path, *, images: bool) -> tuple[PlannedEpisode, StepRecords, Queries]:
    """An episode whose policy sees noisy images, its step records and its queries."""
    spec, policy = one_spec(), PointPolicy(cameras=("base_0_rgb",), noise=5.0)
    rules = protocol(max_steps=6, replan_steps=2, perturbations=(Perturbation("camera-noise", 0.2),))
    recorder, queries = StepRecorder(spec, "queries", images=images), Queries()
    result = run_episode(point_env(), spec, policy, ADAPTER, rules, [recorder, queries])
    files = attached_files(result.record(spec, policy.spec, attempts=1, video=""), recorder.attachments)
    for name, content in files.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    experiment = Experiment("", "points", ("point",), (spec.policy,), 1, protocol=rules)
    episode = PlannedEpisode(run, experiment, Plan(rules, (spec,)), spec, None)
    vars(episode).update(policy_spec=policy.spec, adapter=ADAPTER)
    return episode, load_steps(run, spec.id), queries


@pytest.mark.parametrize("images", [True, False])
def test_queries_are_those_of_the_episode_whether_images_are_stored_or_drawn_again(tmp_path, images):
    episode, records, queries = watched(tmp_path, images=images)
    assert len([*tmp_path.rglob("*.mp4")]) == images
    again = list(recorded_queries(episode, records, point_env()))
    assert len(again) == len(queries.seen) == 3
    for mine, other in zip(queries.seen, again, strict=True):
        assert mine.images["base_0_rgb"].tobytes() == other.images["base_0_rgb"].tobytes()
        assert (mine.step, mine.key, mine.state.tobytes()) == (other.step, other.key, other.state.tobytes())


def test_images_that_are_drawn_otherwise_are_refused_in_a_sentence(tmp_path):
    episode, records, _ = watched(tmp_path, images=False)
    env = point_env()
    env.render = lambda camera: PointEnv.render(env, camera) // 2
    with pytest.raises(EpisodeError, match=r"query 0 are not stored, and .* draws others .* --record-images"):
        next(recorded_queries(episode, records, env))


def test_another_adapter_is_compared_in_inputs_answers_and_actions(tmp_path):
    episode, records, _ = watched(tmp_path, images=False)
    policy = PointPolicy(cameras=("base_0_rgb",), noise=5.0)
    vars(episode).update(load_policy=lambda: batched(policy))
    source = "from simloop.harness.adapters.base import Adapter, RobotConvention\n"
    same = 'A = Adapter("points", "point", cameras={"base_0_rgb": "top"})'
    found = try_adapter(episode, records, point_env(), AdapterFile("same.py:A", source + same))
    assert found == Finding(
        True, "the policy, with same.py:A: the same inputs, answers and actions at all 3 queries"
    )
    other = (
        'A = Adapter("points", "point", cameras={"base_0_rgb": "top"}, image=lambda image: 255 - image,\n'
        "    convention=RobotConvention(from_model_actions=lambda actions: actions * [1, -1]))"
    )
    found = try_adapter(episode, records, point_env(), AdapterFile("other.py:A", source + other))
    assert not found.equal
    assert "other.py:A: of 3 queries differ the image base_0_rgb at 3, by up to 2" in found.text
    assert "the executed dy at 3, by up to" in found.text
    assert "the executed dx" not in found.text


@pytest.fixture
def filmed(tmp_path) -> tuple[Path, StepRecords]:
    """Step records with images, in a folder."""
    _, records, _ = watched(tmp_path, images=True)
    return tmp_path, records


def test_a_missing_or_foreign_video_is_said_in_a_sentence(filmed):
    run, records = filmed
    (video,) = run.rglob("*.mp4")
    content = video.read_bytes()
    video.unlink()
    with pytest.raises(EpisodeError, match="is missing"):
        list(stored_images(run, records))
    video.write_bytes(content[:300])
    with pytest.raises(EpisodeError, match="cannot be decoded"):
        list(stored_images(run, records))
    swapped = dataclasses.replace(records.queries[0], images_sha256=("0" * 64,))
    video.write_bytes(content)
    with pytest.raises(EpisodeError, match="does not hold the image of query 0"):
        list(stored_images(run, StepRecords(records.header, (swapped,))))


def test_images_behind_a_link_out_of_the_run_folder_are_refused(filmed, tmp_path_factory):
    run, records = filmed
    (video,) = run.rglob("*.mp4")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "video.mp4"
    video.rename(elsewhere)
    video.symlink_to(elsewhere)
    with pytest.raises(EpisodeError, match="symbolic link that leaves its folder"):
        list(stored_images(run, records))
