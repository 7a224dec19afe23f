import asyncio
import contextlib
import dataclasses
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from simloop.harness.remote.connection import ServerError
from simloop.harness.remote.policy import RemotePolicy
from simloop.harness.remote.protocols import OpenpiProtocol, VlaEvalProtocol, vla_eval_message
from simloop.harness.remote.robots import ROBOTS
from simloop.harness.remote.wire import MAX_BYTES, pack, unpack
from simloop.harness.serving.batcher import Batcher
from simloop.harness.serving.policy_service import ServiceError
from simloop.harness.serving.serve import Serving, make_ready, served_in_background
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.harness.serving.websocket_server import Listening, ServeError, require_protected
from simloop.policies.interface import Guidance, Query

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
IMAGE = np.zeros((32, 32, 3), np.uint8)
OBSERVATION = {
    "observation/image": IMAGE,
    "observation/wrist_image": IMAGE,
    "observation/state": np.zeros(4),
    "prompt": "reach",
}


LEFT = np.arange(12, dtype=np.float32).reshape(3, 4)


def guided(left):
    guidance = {"actions": left, "delay": 1, "method": "full"}
    return OBSERVATION | {"simloop": {"id": 1, "key": 2, "guidance": guidance}}


def stub(**fields) -> StubPolicy:
    return StubPolicy(Stub(cameras=CAMERAS, **fields))


@contextlib.contextmanager
def served(policy=None, serving=Serving(), **listening):  # noqa: B008 (frozen)
    ready = make_ready(policy or stub(), serving)
    with served_in_background(ready, Listening(port=0, **listening)) as address:
        yield address


@contextlib.contextmanager
def client(address, **options):
    with connect(f"ws://{address}", compression=None, proxy=None, **options) as connection:
        yield connection


def ask(connection, message):
    connection.send(message if isinstance(message, bytes | str) else pack(message))
    answer = connection.recv(timeout=10)
    return answer if isinstance(answer, str) else unpack(answer)


def test_an_openpi_client_gets_the_metadata_first_and_a_chunk_with_its_timing_for_each_observation():
    with served() as address, client(address) as connection:
        metadata = unpack(connection.recv(timeout=10))
        first, second = ask(connection, OBSERVATION), ask(connection, OBSERVATION)

    assert metadata["simloop"]["batch_size"] == 8
    assert first["actions"].shape == (10, 4)
    assert first["actions"].dtype == np.float32
    assert first["server_timing"].keys() == {"infer_ms", "queue_ms"}
    assert second["server_timing"].keys() == {"infer_ms", "queue_ms", "prev_total_ms"}
    assert not np.array_equal(first["actions"], second["actions"])  # A client without keys gets fresh noise.


def test_arrays_of_an_answer_can_be_cut_along_their_first_axis_as_openpis_chunk_broker_does():
    with served() as address, client(address) as connection:
        connection.recv(timeout=10)
        answer = ask(connection, OBSERVATION)

    flat = [*answer.values(), *answer["server_timing"].values(), *answer["policy_timing"].values()]
    assert all(len(value) == 10 for value in flat if isinstance(value, np.ndarray))


def test_queries_of_many_connections_share_a_batch():
    policy = stub(service_s=0.3)
    sizes = []
    infer = policy.infer
    policy.infer = lambda queries, batch_size: sizes.append(len(queries)) or infer(queries, batch_size)
    with served(policy) as address:
        connected = threading.Barrier(6)

        def ask_once():
            with client(address) as connection:
                connection.recv(timeout=10)
                connected.wait(10)
                ask(connection, OBSERVATION)

        threads = [threading.Thread(target=ask_once) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    assert sum(sizes) == 6
    assert len(sizes) < 6


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"\xc1", "not msgpack"),
        ("text", "binary msgpack frames; got a text frame"),
        ([1], "must be a map; got a list"),
        ({"a": 1}, "has no 'observation/image'; it has a"),
        (OBSERVATION | {"observation/state": np.zeros(3)}, "must be 4 floating-point numbers"),
        (OBSERVATION | {"observation/image": np.zeros((32, 32, 5), np.uint8)}, r"must be \[h, w, 3\]"),
        (OBSERVATION | {"observation/image": np.zeros((5000, 2, 3), np.uint8)}, "1 to 4096 pixels a side"),
        (OBSERVATION | {"observation/image": np.zeros((0, 2, 3), np.uint8)}, "1 to 4096 pixels a side"),
        ({key: value for key, value in OBSERVATION.items() if key != "prompt"}, "needs an instruction"),
        (OBSERVATION | {"prompt": "x" * 5000}, "needs an instruction of 1 to 4096 characters.*got 5000"),
        (OBSERVATION | {"simloop": {"id": 1, "key": -1}}, "a whole number 'id' and a 64-bit 'key'"),
        (guided(LEFT[:, :3]), r"finite 'actions' \[t, 4\]"),
        (guided(LEFT * np.nan), r"finite 'actions'"),
        (guided(LEFT), "follows guidance by no method; got 'full'"),
    ],
)
def test_a_wrong_message_gets_an_error_that_says_what_was_wanted_and_the_next_one_is_answered(message, error):
    with served() as address, client(address) as connection:
        connection.recv(timeout=10)
        text = ask(connection, message)
        assert isinstance(text, str)
        with pytest.raises(RuntimeError, match=error):
            raise RuntimeError(text)

        assert ask(connection, OBSERVATION)["actions"].shape == (10, 4)


def test_clients_that_query_again_at_once_share_the_calls_of_a_patient_batcher():
    policy, sizes = stub(service_s=0.2), []
    infer = policy.infer
    policy.infer = lambda queries, batch_size: sizes.append(len(queries)) or infer(queries, batch_size)

    async def main(batcher):
        async def ask_again_and_again(number):
            for _ in range(4):
                await batcher.ask(query(key=number))
                await asyncio.sleep(0.005 * number)

        await asyncio.gather(*map(ask_again_and_again, range(4)))

    batcher = Batcher(policy, (4,), patience=0.5)
    try:
        asyncio.run(main(batcher))
    finally:
        batcher.close()

    assert sum(sizes) == 16
    assert sizes.count(4) >= 3, sizes


def test_an_error_of_the_policy_is_that_of_its_query_alone():
    policy = stub()
    policy.infer = lambda queries, batch_size: 1 / 0
    with served(policy) as address, client(address) as connection:
        connection.recv(timeout=10)

        assert "The policy failed: ZeroDivisionError" in ask(connection, OBSERVATION)


def test_a_message_beyond_the_limit_ends_its_connection_alone():
    with served() as address, client(address) as greedy, client(address) as modest:
        for connection in (greedy, modest):
            connection.recv(timeout=10)
        with pytest.raises(ConnectionClosed):
            ask(greedy, bytes(MAX_BYTES + 1))

        assert ask(modest, OBSERVATION)["actions"].shape == (10, 4)


def get(address, path, token=None):
    request = urllib.request.Request(f"http://{address}{path}")
    if token:
        request.add_header("Authorization", f"Api-Key {token}")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=10
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_and_figures_are_answered():
    with served() as address:
        with client(address) as connection:
            connection.recv(timeout=10)
            ask(connection, OBSERVATION)
            ask(connection, {"a": 1})

        assert get(address, "/healthz") == (200, "OK\n")
        figures = get(address, "/metrics")[1]

    assert 'simloop_serve_answers_total{outcome="ok"} 1.0' in figures
    assert 'simloop_serve_answers_total{outcome="refused"} 1.0' in figures


def test_only_clients_with_the_token_are_served():
    with served(token="secret") as address:
        for header in ({}, {"Authorization": "Api-Key wrong"}, {"Authorization": "secret"}):
            with pytest.raises(InvalidStatus, match="401"), client(address, additional_headers=header):
                pass
        with client(address, additional_headers={"Authorization": "Api-Key secret"}) as connection:
            connection.recv(timeout=10)

        assert get(address, "/metrics")[0] == 401
        assert get(address, "/metrics", "secret")[0] == 200
        assert get(address, "/healthz")[0] == 200


def test_web_pages_are_refused():
    with (
        served() as address,
        pytest.raises(InvalidStatus, match="403"),
        client(address, origin="http://evil.example"),
    ):
        pass


def test_an_address_that_other_machines_reach_wants_a_token():
    with pytest.raises(ServeError, match="SIMLOOP_API_KEY, or say --no-token"):
        require_protected(Listening("0.0.0.0"), without_token=False)

    require_protected(Listening("0.0.0.0", token="secret"), without_token=False)
    require_protected(Listening("0.0.0.0"), without_token=True)
    require_protected(Listening(), without_token=False)


def test_further_connections_than_the_limit_are_refused():
    with served(max_connections=1) as address, client(address) as connection:
        connection.recv(timeout=10)
        with pytest.raises(InvalidStatus, match="503"), client(address):
            pass


def test_the_answer_under_way_is_sent_before_the_server_ends():
    answers = []

    def ask_slowly(address):
        with client(address) as connection:
            connection.recv(timeout=10)
            answers.append(ask(connection, OBSERVATION))

    with served(stub(service_s=0.5)) as address:
        thread = threading.Thread(target=ask_slowly, args=(address,))
        thread.start()
        time.sleep(0.25)
    thread.join(10)

    assert answers[0]["actions"].shape == (10, 4)


def test_a_policy_of_a_robot_without_clients_is_refused():
    with pytest.raises(ServiceError, match="for the robot 'point', for which clients have no observations"):
        make_ready(stub(robot="point"), Serving())


def remote(address, protocol=OpenpiProtocol, guidance=()):
    robot = ROBOTS["metaworld"]
    spec = dataclasses.replace(robot.spec("remote"), guidance=guidance)
    policy = RemotePolicy(spec, address, protocol(robot))
    policy.prepare(1)
    return policy


def query(step=0, key=7):
    state = np.arange(4, dtype=np.float32)
    return Query("t", "reach", key, state, dict.fromkeys(CAMERAS, IMAGE), episode="e", step=step)


def test_simloops_own_client_sends_keys_and_gets_the_chunks_of_a_policy_in_its_process():
    with served() as address:
        policy = remote(address)
        (first,), (second,) = (policy.infer([query()], 1).chunks for _ in range(2))

    assert policy.concurrent_calls == 8
    assert policy.settings()["repeatable"].startswith("yes")
    assert np.array_equal(first.actions, second.actions)


class GuidedStub(StubPolicy):
    """A stub that keeps the guidance of its queries."""

    def __init__(self):
        super().__init__(Stub(cameras=CAMERAS))
        self.spec = dataclasses.replace(self.spec, guidance=("full", "identity"))
        self.seen = []

    def infer(self, queries, batch_size):
        self.seen += [query.guidance for query in queries]
        return super().infer(queries, batch_size)


def test_guidance_reaches_a_served_policy_that_follows_it():
    policy = GuidedStub()
    with served(policy, Serving(guidance=("full",))) as address:
        client = remote(address, guidance=("full",))
        client.infer([dataclasses.replace(query(), guidance=Guidance(LEFT, 2, "full"))], 1)
        client.infer([query()], 1)

    *_, guided, plain = policy.seen
    np.testing.assert_array_equal(guided.actions, LEFT)
    assert (guided.delay, guided.method, plain) == (2, "full", None)


def test_guidance_that_a_server_does_not_follow_is_refused_before_the_first_episode():
    with (
        served() as address,
        pytest.raises(ServerError, match=r"does not follow trained.*simloop serve does"),
    ):
        remote(address, guidance=("trained",))
    with pytest.raises(ServiceError, match="stub follows guidance by no method; got --guidance full"):
        make_ready(stub(), Serving(guidance=("full",)))
    with pytest.raises(ServiceError, match="Clients of vla-eval send no guidance"):
        make_ready(GuidedStub(), Serving("vla-eval", guidance=("full",)))


def test_a_client_of_vla_evaluation_harness_gets_one_action_for_each_observation():
    serving = Serving("vla-eval", replan_steps=2)
    with served(serving=serving) as address:
        policy = remote(address, VlaEvalProtocol)
        actions = [policy.infer([query(step)], 1).chunks[0].actions for step in range(3)]

    assert all(action.shape == (1, 4) for action in actions)


def test_errors_of_vla_evaluation_harness_carry_the_number_of_their_message():
    with served(serving=Serving("vla-eval")) as address, client(address) as connection:
        for kind, payload, error in (
            ("observation", {}, "has 'images'"),
            ("observation", {"images": {"agentview": IMAGE}}, "lacks wrist"),
            (
                "observation",
                {"images": {"agentview": IMAGE, "wrist": IMAGE}},
                "needs 'states' of 4 numbers; got none",
            ),
            ("dance", {}, "got 'dance'"),
        ):
            answer = ask(connection, pack(vla_eval_message(kind, payload, 41), "text"))
            assert answer["type"] == "error"
            assert answer["seq"] == 41
            assert error in answer["payload"]["error"]
