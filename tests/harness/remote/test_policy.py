import contextlib
import os
import random
import threading
import time

import numpy as np
import pytest

from simloop.harness.remote.connection import ConnectionLost, ServerError
from simloop.harness.remote.policy import Deadlines, RemotePolicy
from simloop.harness.remote.protocols import OpenpiProtocol
from simloop.harness.remote.robots import ROBOTS
from simloop.harness.remote.wire import pack
from simloop.policies.interface import Query
from tests.helpers.policy_servers import OpenpiServer, chunk_of

QUICK = Deadlines(start_s=2.0, first_s=5.0, answer_s=0.3)


def query(number: int, step: int = 1, episode: str = "e") -> Query:
    image = np.zeros((16, 16, 3), np.uint8)
    state = np.full(4, number, np.float32)
    images = {"base_0_rgb": image, "left_wrist_0_rgb": image}
    return Query("t", "reach", number, state, images, episode=episode, step=step)


def client(address: str, *, deadlines: Deadlines = QUICK, connections: int | None = None) -> RemotePolicy:
    robot = ROBOTS["metaworld"]
    return RemotePolicy(
        robot.spec("remote"), address, OpenpiProtocol(robot), deadlines=deadlines, connections=connections
    )


def ask(policy: RemotePolicy, number: int) -> np.ndarray:
    (chunk,) = policy.infer([query(number)], 1).chunks
    return chunk.actions


def test_a_query_becomes_the_observation_of_openpis_client():
    server = OpenpiServer()
    with server.running() as address:
        policy = client(address)
        policy.prepare(1)
        actions = ask(policy, 7)

    observation = server.seen[-1]
    assert actions.shape == (5, 4)
    assert (actions == 7).all()
    assert observation.keys() == {
        "observation/image", "observation/wrist_image", "observation/state", "prompt",
    }  # fmt: skip
    assert observation["observation/image"].shape == (224, 224, 3)
    assert observation["prompt"] == "reach"


def test_aloha_images_travel_with_channels_first_in_a_map_of_their_own():
    aloha = ROBOTS["aloha"]
    image = np.zeros((48, 64, 3), np.uint8)
    found = aloha.observation(Query("t", "lift", 1, np.arange(14, dtype=np.float32), {"base_0_rgb": image}))

    assert found["images"]["cam_high"].shape == (3, 224, 224)
    assert found["state"].tolist() == list(range(14))


def test_what_is_unknown_of_a_served_policy_is_said():
    with OpenpiServer(metadata={"name": "x"}).running() as address:
        policy = client(address)
        policy.prepare(1)

        assert policy.spec.weights == "unknown"
        assert policy.settings()["repeatable"].startswith("no")
        assert policy.fingerprint().keys() == {"server_metadata"}


def test_the_time_of_a_query_is_divided_between_the_way_the_queue_and_inference():
    def slow(observation, connection):
        time.sleep(0.05)
        return chunk_of(observation) | {"server_timing": {"infer_ms": 30.0, "queue_ms": 10.0}}

    with OpenpiServer(slow).running() as address:
        policy = client(address)
        policy.prepare(1)
        result = policy.infer([query(1)], 1)

    assert result.device_s == pytest.approx(0.03)
    assert result.queue_s == pytest.approx(0.01)
    assert 0.01 <= result.transport_s < 1


def test_a_text_frame_is_the_error_of_the_server():
    def fail(observation, connection):
        if len(server.seen) > 1:
            return "Traceback ...\nValueError: no such camera"
        return chunk_of(observation)

    server = OpenpiServer(fail)
    with server.running() as address:
        policy = client(address)
        policy.prepare(1)
        with pytest.raises(ServerError, match="ValueError: no such camera"):
            ask(policy, 1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda observation: {"action": 1}, "a map of 'action'; wanted a map with 'actions'"),
        (lambda observation: {"actions": np.zeros(4)}, r"float64 of shape \(4,\); wanted numbers of shape"),
        (lambda observation: {"actions": np.zeros((0, 4))}, "wanted numbers of shape"),
        (lambda observation: chunk_of(observation, steps=3), "3 actions; its first answer had 5"),
        (lambda observation: b"\xc1", "cannot be read"),
        (lambda observation: pack([1, 2]), "a list; wanted a map"),
    ],
)
def test_an_answer_of_another_form_is_an_error_that_says_what_was_wanted(answer, message):
    server = OpenpiServer(lambda o, connection: chunk_of(o) if len(server.seen) == 1 else answer(o))
    with server.running() as address:
        policy = client(address)
        policy.prepare(1)
        with pytest.raises(ServerError, match=message):
            ask(policy, 1)


def test_a_server_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(ConnectionLost, match=r"No policy server answers at 127.0.0.1:9 .*Start it first"):
        client("127.0.0.1:9", deadlines=Deadlines(start_s=0.1)).prepare(1)


def test_preparation_reports_that_it_waits_for_a_slow_first_answer(monkeypatch):
    monkeypatch.setattr("simloop.harness.remote.connection.REPORT_S", 0.02)

    def slow(observation, connection):
        time.sleep(0.2)
        return chunk_of(observation)

    reports = []
    with OpenpiServer(slow).running() as address:
        client(address).prepare(1, reports.append)

    assert any("first answer" in report.under_way[0] for report in reports)


def test_another_policy_behind_the_same_address_is_refused():
    server = OpenpiServer(metadata={"checkpoint": "a"})
    with server.running() as address:
        policy = client(address)
        policy.prepare(1)
        server.metadata = {"checkpoint": "b"}
        with pytest.raises(ServerError, match="has changed"):
            ask(policy, 1)


def test_a_server_that_comes_back_gets_the_query_again():
    server = OpenpiServer()
    with server.running() as address:
        policy = client(address)
        policy.prepare(1)
        ask(policy, 1)
    back = threading.Timer(0.5, lambda: server_again.__enter__())
    server_again = server.running()
    back.start()
    actions = ask(policy, 2)
    server_again.__exit__(None, None, None)

    assert (actions == 2).all()


def test_roboarenas_servers_get_endpoints_a_reset_for_each_episode_and_the_session():
    config = {
        "image_resolution": [120, 160], "needs_wrist_camera": True, "n_external_cameras": 1,
        "needs_stereo_camera": False, "needs_session_id": True, "action_space": "joint_position",
    }  # fmt: skip

    def infer(observation, connection):
        return "reset successful" if observation["endpoint"] == "reset" else np.zeros((8, 8), np.float32)

    robot = ROBOTS["droid"]
    image = np.zeros((120, 160, 3), np.uint8)
    images = {"base_0_rgb": image, "left_wrist_0_rgb": image}
    server = OpenpiServer(infer, config)
    with server.running() as address:
        policy = RemotePolicy(robot.spec("droid"), address, OpenpiProtocol(robot), deadlines=QUICK)
        policy.prepare(1)
        for step in (0, 8):
            policy.infer([Query("t", "lift", 1, np.zeros(8, np.float32), images, episode="e1", step=step)], 1)

    assert [seen["endpoint"] for seen in server.seen[2:]] == ["reset", "infer", "infer"]
    assert server.seen[-1]["session_id"] == "e1"
    assert server.seen[-1]["observation/exterior_image_0_left"].shape == (120, 160, 3)


FAULTS = int(os.environ.get("SIMLOOP_FAULTS", "12"))


def test_no_answer_is_taken_for_that_to_another_query_whatever_the_server_does():
    """Late, double, misshapen and missing answers, and connections that end."""
    generator = random.Random(0)

    def infer(observation, connection):
        answer = pack(chunk_of(observation))
        fault = generator.choice(FAULT_NAMES) if len(server.seen) > 1 and generator.random() < 0.5 else ""
        happened.append(fault)
        if fault == "hang":
            time.sleep(2 * QUICK.answer_s)
            return None
        if fault == "late":
            time.sleep(1.2 * QUICK.answer_s)
        if fault == "drop":
            connection.close()
            return None
        if fault == "twice":
            connection.send(answer)
        if fault == "twice, the second late":
            threading.Timer(generator.random() * 0.02, lambda: _send_quietly(connection, answer)).start()
        if fault == "misshapen":
            return chunk_of(observation, steps=2)
        if fault == "error":
            return "Traceback"
        return answer

    happened: list[str] = []
    server = OpenpiServer(infer)
    wrong = errors = number = 0
    with server.running() as address:
        policy = client(address)
        policy.prepare(1)
        while sum(map(bool, happened)) < FAULTS:
            number += 1
            try:
                wrong += bool((ask(policy, number) != number).any())
            except (ConnectionLost, ServerError):
                errors += 1

    assert wrong == 0
    assert errors <= sum(map(bool, happened))


FAULT_NAMES = ("hang", "late", "drop", "twice", "twice, the second late", "misshapen", "error")


def _send_quietly(connection, answer):
    with contextlib.suppress(Exception):
        connection.send(answer)
