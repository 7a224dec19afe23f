"""What becomes of the attempts of a simulator that is not well. Without Ray: its calls are recorded."""

import socket
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat, ProcessHeartbeat
from simloop.harness.engine.autoscaler import Autoscaler, Limits
from simloop.harness.engine.env_pool import PATIENCE_S, STILLBORN, EnvPool
from simloop.harness.engine.env_pool import _node_is_lost as node_is_lost
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.resources import EngineError, Floors
from simloop.harness.engine.supervisor import Supervisor
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import WorkerPool
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.serving.stub_policy import Stub

GIB = 2**30
LOST: set[str] = set()
"""Machines that are no more."""


class Handle:
    """An actor that never answers."""

    def __init__(self):
        call = SimpleNamespace(remote=lambda *_: SimpleNamespace(future=Future))
        self.heartbeat = self.play = call
        self.on_progress = []
        self.meet = SimpleNamespace(remote=lambda *on_progress: self.on_progress.append(on_progress))


@pytest.fixture
def killed(monkeypatch):
    handles = []
    LOST.clear()
    monkeypatch.setattr("simloop.harness.engine.env_pool.ray.kill", handles.append)
    monkeypatch.setattr("simloop.harness.engine.env_pool.kill_process", lambda process: None)
    monkeypatch.setattr("simloop.harness.engine.env_pool._node_is_lost", lambda node: node in LOST)
    return handles


def attempt(episode: int) -> Attempt:
    return Attempt(EpisodeSpec("stub", "s", "s/p", "t", episode, 0, 0))


def heartbeat(*doing: Activity, rss: int = GIB // 4) -> EnvActorHeartbeat:
    return EnvActorHeartbeat(ProcessHeartbeat(1, "node", rss, 0.0, 0.0, 64 * GIB), doing)


def simulators(count: int = 1, floors: Floors | None = None) -> EnvPool:
    made = EnvPool(Handle, lambda *_: None, Timeouts(floors or Floors()))
    made.have(count)
    for simulator in made.all:
        simulator.heartbeat = heartbeat()
    return made


def play(made: EnvPool, episodes: int):
    (simulator, *_) = made.all
    for i in range(episodes):
        made.play(simulator, attempt(i), Stub().spec(), ())
    return simulator


def test_a_simulator_is_told_of_a_policy_once_and_again_when_it_has_more_workers(killed):
    made = simulators()
    simulator, spec = made.all[0], Stub().spec()
    for workers in (("a",), ("a",), ("a", "b"), ("a", "b")):
        made.play(simulator, attempt(0), spec, workers)
    assert simulator.handle.on_progress == [("stub", spec, ("a",)), ("stub", spec, ("a", "b"))]


def test_an_attempt_that_was_alone_with_a_dying_process_is_charged(killed):
    made = simulators()
    death = made.died(play(made, 1), "died")
    assert death.charged == (attempt(0),)
    assert len(made.all) == 1, "another one is started"
    assert made.running == 0


def test_of_several_each_is_played_alone_and_none_is_charged_yet(killed):
    made = simulators()
    death = made.died(play(made, 3), "died")
    assert (death.charged, death.uncharged) == ((), ())
    (new,) = made.all
    assert [a.spec.episode for a in new.alone] == [0, 1, 2]
    assert all(a.alone and a.number == 1 for a in new.alone)
    assert made.running == 3
    new.heartbeat = heartbeat()
    assert new.room(8) == 1
    made.play(new, new.alone.popleft(), Stub().spec(), ())
    assert new.room(8) == 0, "no neighbours"
    assert [a.spec.episode for a in made.died(new, "died again").charged] == [0]
    assert [a.spec.episode for a in made.all[0].alone] == [1, 2], "the others still have their turn"


def test_one_that_hangs_is_charged_and_its_neighbours_are_not(killed):
    made = simulators(floors=Floors(step=1.0))
    simulator = play(made, 3)
    guilty = list(simulator.running)[1]
    waiting = [
        Activity(attempt_id, "query", 50.0) for attempt_id in simulator.running if attempt_id != guilty
    ]
    simulator.heartbeat = heartbeat(*waiting, Activity(guilty, "step", 50.0))
    (death,) = made.judge(simulator.heard, answers_due=False)
    assert death.charged == (attempt(1),)
    assert death.uncharged == (attempt(0), attempt(2))
    assert "step took longer than its deadline of 1 s" in death.reason
    assert killed == [simulator.handle]


def test_silence_is_ended_too(killed):
    made = simulators(floors=Floors(silence=1.0))
    simulator = play(made, 1)
    simulator.asked = simulator.heard
    assert made.judge(simulator.heard + 0.5, answers_due=False) == []
    (death,) = made.judge(simulator.heard + 2.0, answers_due=False)
    assert "has not answered for 2 s" in death.reason
    assert death.charged == (attempt(0),)


def test_nobody_is_charged_for_a_machine_that_was_lost(killed):
    made = simulators()
    LOST.add("node")
    death = made.died(play(made, 1), "node died")
    assert death.charged == ()
    assert death.uncharged == (attempt(0),)
    assert "its machine was lost" in death.reason


def test_a_machine_is_lost_when_ray_says_so_or_when_its_port_refuses_calls(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as raylet:
        port = raylet.getsockname()[1]

        def nodes(alive):
            node = {"NodeID": "n", "Alive": alive, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
            return lambda: [node]

        monkeypatch.setattr("simloop.harness.engine.env_pool.ray.nodes", nodes(True))
        assert not node_is_lost("n")
        assert node_is_lost("unheard-of")
        monkeypatch.setattr("simloop.harness.engine.env_pool.ray.nodes", nodes(False))
        assert node_is_lost("n")
        monkeypatch.setattr("simloop.harness.engine.env_pool.ray.nodes", nodes(True))
    assert node_is_lost("n"), "Ray has not noticed yet"


def test_what_a_new_simulator_was_to_play_is_played_by_another_if_it_finds_no_core(killed):
    made = simulators(2)
    other = made.all[1]
    made.died(play(made, 2), "died")
    (new,) = (simulator for simulator in made.all if simulator is not other)
    made.judge(new.born + PATIENCE_S - 1, answers_due=True)
    assert (len(new.alone), len(other.alone)) == (2, 0)
    made.judge(new.born + PATIENCE_S + 1, answers_due=True)
    assert (len(new.alone), len(other.alone)) == (0, 2)
    assert other.room(8) == 1, "alone, one by one"
    assert made.running == 2


def test_processes_that_all_die_at_birth_end_the_run(killed):
    made = simulators()
    for _ in range(STILLBORN - 1):
        die_at_birth(made)
    with pytest.raises(EngineError, match="die before they are ready: no such module"):
        die_at_birth(made)


def die_at_birth(made: EnvPool):
    made.all[0].heartbeat = None
    future: Future = Future()
    future.set_exception(RayActorError(error_msg="no such module"))
    made.heard(made.all[0], future)


def test_more_are_started_and_those_too_many_leave_when_their_episodes_have_ended(killed):
    made = simulators(3)
    playing = play(made, 1)
    made.have(1)
    assert made.all == [playing], "who had nothing to do has gone"
    assert len(killed) == 2
    made.have(2)
    made.all[1].heartbeat = heartbeat()
    other = made.all[1]
    made.play(other, attempt(5), Stub().spec(), ())
    made.have(1)
    leaving = playing if playing.leaving else other
    assert len(made.all) == 2
    assert leaving.room(8) == 0
    made.ended(next(iter(leaving.running)))
    made.replace(leaving, "as announced")
    assert len(made.all) == 1, "nobody follows"
    made.died(made.all[0], "died")
    assert len(made.all) == 1, "but one who is wanted is replaced"


def test_where_nothing_can_be_started_the_run_ends(killed):
    made = simulators(floors=Floors(start=10.0))
    made.all[0].heartbeat = None
    assert made.judge(made.all[0].born + 5, answers_due=True) == []
    with pytest.raises(EngineError, match="No simulator could be started in 11 s"):
        made.judge(made.all[0].born + 11, answers_due=True)


def supervisor(made: EnvPool, memory_gib: float | None) -> Supervisor:
    timeouts = Timeouts(Floors())
    worker_pool = WorkerPool(lambda policy: None, lambda *_: None, timeouts)
    autoscaler = Autoscaler(Limits(simulators=2, workers=1, total_bytes=100 * GIB))
    return Supervisor(made, worker_pool, timeouts, autoscaler, memory_gib)


def test_a_process_that_has_grown_is_replaced_when_its_episodes_have_ended(killed):
    made = simulators(2)
    simulator = play(made, 1)
    simulator.heartbeat = heartbeat(rss=5 * GIB)
    deaths, _ = supervisor(made, 4.0).look_after(simulator.heard, waiting=9)
    assert deaths == []
    assert simulator.leaving
    assert simulator.room(8) == 0
    made.ended(next(iter(simulator.running)))
    assert "grown" in made.replace(simulator, "it has grown").reason
    assert killed == [simulator.handle]
    assert len(made.all) == 2


def test_one_that_has_grown_far_too_large_is_not_waited_for(killed):
    made = simulators(2)
    simulator = play(made, 2)
    simulator.heartbeat = heartbeat(rss=7 * GIB)
    (death,), _ = supervisor(made, 4.0).look_after(simulator.heard, waiting=9)
    assert death.reason == "it has grown to 7.0 GiB"
    assert len(made.all[-1].alone) == 2
    assert killed == [simulator.handle]


def test_size_alone_is_no_reason_while_there_is_memory(killed):
    made = simulators(2)
    simulator = play(made, 1)
    simulator.heartbeat = heartbeat(rss=7 * GIB)
    assert supervisor(made, None).look_after(simulator.heard, waiting=9)[0] == []
    assert not simulator.leaving
