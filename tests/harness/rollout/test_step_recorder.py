"""The recorder of step records keeps everything that was shown, answered and done."""

import numpy as np
import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.observers import Observer
from simloop.harness.rollout.step_recorder import StepRecorder
from simloop.policies.files.video import lossless_encoder, lossless_frames
from simloop.results.records.step_records import StepRecords, read_step_records
from tests.harness.rollout.test_loop import ADAPTER, one_spec, point_env, protocol
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointEnv, point_task

CAMERA = "base_0_rgb"
RULES = protocol(replan_steps=3, max_steps=8)


class Watcher(Observer):
    def __init__(self):
        self.queries, self.replies, self.steps = [], [], []

    def on_query(self, query, reply):
        self.queries.append(query)
        self.replies.append(reply)

    def on_step(self, record):
        self.steps.append(record)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    recorder, watcher = StepRecorder(one_spec(), "queries", images=True), Watcher()
    policy = PointPolicy(cameras=(CAMERA,), noise=5.0)
    result = run_episode(point_env(), one_spec(), policy, ADAPTER, RULES, [watcher, recorder])
    return recorder, watcher, result, tmp_path_factory.mktemp("records")


def records_of(recorder: StepRecorder, folder) -> StepRecords:
    path = folder / "records.parquet"
    path.write_bytes(recorder.attachments["step records"])
    return read_step_records(path)


def test_queries_and_answers_are_recorded_as_they_were(played):
    recorder, watcher, result, folder = played
    records = records_of(recorder, folder)
    assert records.header.ended_by == "step_limit"
    assert [query.latency for query in records.queries] == result.queries
    for recorded, query, reply in zip(records.queries, watcher.queries, watcher.replies, strict=True):
        assert (recorded.key, recorded.step, recorded.instruction) == (
            query.key,
            query.step,
            query.instruction,
        )
        np.testing.assert_array_equal(recorded.state, query.state)
        np.testing.assert_array_equal(recorded.privileged, query.privileged)
        np.testing.assert_array_equal(recorded.chunk, reply.chunk.actions)


def test_steps_belong_to_the_query_whose_chunk_they_execute(played):
    recorder, watcher, _, folder = played
    records = records_of(recorder, folder)
    assert [len(query.steps) for query in records.queries] == [3, 3, 2]
    for recorded, step in zip(records.steps, watcher.steps, strict=True):
        np.testing.assert_array_equal(recorded.executed, step.executed)
        assert (recorded.chunk_index, recorded.reward) == (step.chunk_index, step.reward)


def test_stored_images_are_kept_to_the_last_bit(played):
    recorder, watcher, _, folder = played
    video = folder / "images.mp4"
    video.write_bytes(recorder.attachments[f"images of {CAMERA}"])
    frames = list(lossless_frames(video))
    assert len(frames) == 3
    for frame, query in zip(frames, watcher.queries, strict=True):
        np.testing.assert_array_equal(frame, query.images[CAMERA])


@pytest.mark.parametrize("shape", [(31, 45), (16, 16), (1, 3)])
def test_lossless_videos_keep_every_pixel_of_any_size(tmp_path, shape):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*shape, 3), np.uint8) for _ in range(3)]
    encoder = lossless_encoder()
    for image in images:
        encoder.add(image)
    (tmp_path / "video.mp4").write_bytes(encoder.finish())
    decoded = list(lossless_frames(tmp_path / "video.mp4"))
    assert all(map(np.array_equal, images, decoded))


def test_the_final_state_hash_is_that_of_the_ledger(played):
    recorder, _, result, folder = played
    assert records_of(recorder, folder).steps[-1].state_sha256 == result.final_state_sha256


def test_an_episode_that_breaks_leaves_what_was_recorded(tmp_path):
    class Breaks(PointEnv):
        def step(self, action):
            if self.steps_left == 0:
                raise RuntimeError("the solver diverged")
            self.steps_left -= 1
            return super().step(action)

    env = Breaks(point_task(), RenderSettings("fast", 16, 16))
    env.steps_left = 5
    recorder = StepRecorder(one_spec(), "queries")
    with pytest.raises(RuntimeError):
        run_episode(env, one_spec(), PointPolicy(noise=5.0), ADAPTER, RULES, [recorder])
    records = records_of(recorder, tmp_path)
    assert [len(query.steps) for query in records.queries] == [3, 2]
    assert records.header.ended_by == ""
    assert records.queries[0].latency is None


def test_an_undecodable_answer_is_recorded(tmp_path):
    recorder = StepRecorder(one_spec(), "queries")
    policy = PointPolicy(noise=5.0, undecodable_from=1)
    run_episode(point_env(), one_spec(), policy, ADAPTER, RULES, [recorder])
    records = records_of(recorder, tmp_path)
    assert [query.undecodable for query in records.queries] == [None, (7, 8)]
    assert records.queries[1].steps == ()


def test_an_episode_that_breaks_in_its_reset_leaves_nothing():
    recorder = StepRecorder(one_spec(), "queries")
    env = PointEnv(point_task("raises-in-reset"), RenderSettings("fast", 16, 16))
    with pytest.raises(RuntimeError):
        run_episode(env, one_spec(), PointPolicy(), ADAPTER, RULES, [recorder])
    assert recorder.attachments == {}
