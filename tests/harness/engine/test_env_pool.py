"""The pool of env actors, with recorded calls instead of Ray."""

import dataclasses
import math
import socket
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat, ProcessHeartbeat
from simloop.harness.engine.autoscaler import Autoscaler, Limits
from simloop.harness.engine.env_pool import PATIENCE_S, STILLBORN, EnvPool
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.processes import node_is_lost
from simloop.harness.engine.resources import EngineError, Floors
from simloop.harness.engine.supervisor import Supervisor
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import WorkerPool
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.serving.stub_policy import Stub

GIB = 2**30
LOST: set[str] = set()
"""Nodes that are not reachable."""


class Handle:
    """A Ray handle that never answers."""

    def __init__(self):
        call = SimpleNamespace(remote=lambda *_: SimpleNamespace(future=Future))
        self.heartbeat = self.play = call
        self.met = []
        self.meet = SimpleNamespace(remote=lambda *policy: self.met.append(policy))


def never_idle(policy: str) -> float:
    return math.inf


def always_idle(policy: str) -> float:
    return 0.0


@pytest.fixture
def killed(monkeypatch):
    handles = []
    LOST.clear()
    monkeypatch.setattr("simloop.harness.engine.env_pool.ray.kill", handles.append)
    monkeypatch.setattr("simloop.harness.engine.env_pool.kill_process", lambda process: None)
    monkeypatch.setattr("simloop.harness.engine.env_pool.node_is_lost", lambda node: node in LOST)
    return handles


def attempt(episode: int) -> Attempt:
    return Attempt(EpisodeSpec("stub", "s", "s/p", "t", episode, 0, 0))


def heartbeat(*doing: Activity, rss: int = GIB // 4) -> EnvActorHeartbeat:
    return EnvActorHeartbeat(ProcessHeartbeat(1, "node", rss, 0.0, 0.0, 64 * GIB, 100 * GIB), doing)


def env_pool(count: int = 1, floors: Floors | None = None) -> EnvPool:
    made = EnvPool(Handle, lambda *_: None, Timeouts(floors or Floors()))
    made.scale_to(count)
    for actor in made.all:
        actor.heartbeat = heartbeat()
    return made


def play(made: EnvPool, episodes: int):
    (actor, *_) = made.all
    for i in range(episodes):
        made.play(actor, attempt(i), Stub().spec(), ())
    return actor


def test_an_actor_learns_the_workers_of_a_policy_once(killed):
    made = env_pool()
    actor, spec = made.all[0], Stub().spec()
    for workers in (("a",), ("a",), ("a", "b"), ("a", "b")):
        made.play(actor, attempt(0), spec, workers)
    assert actor.handle.met == [("stub", spec, ("a",)), ("stub", spec, ("a", "b"))]


def test_queries_that_go_through_ray_for_lack_of_shared_memory_are_noted_once(killed):
    made = env_pool(2)
    for actor in made.all:
        report: Future = Future()
        why = dataclasses.replace(heartbeat(), without_shared_memory="No space left on device")
        report.set_result(why)
        made.on_heartbeat(actor, report)
    (note,) = made.take_notes()
    assert note.startswith("Queries go through Ray, which is slower")
    assert "No space left on device" in note
    assert made.take_notes() == []


def test_charges_the_only_attempt_of_a_dying_actor(killed):
    made = env_pool()
    death = made.died(play(made, 1), "died")
    assert death.charged == (attempt(0),)
    assert len(made.all) == 1
    assert made.running == 0


def test_several_attempts_of_a_dying_actor_become_isolated_suspects(killed):
    made = env_pool()
    death = made.died(play(made, 3), "died")
    assert (death.charged, death.released) == ((), ())
    (new,) = made.all
    assert [a.spec.episode for a in new.suspects] == [0, 1, 2]
    assert all(a.isolated and a.number == 1 for a in new.suspects)
    assert made.running == 3
    new.heartbeat = heartbeat()
    assert new.room(8) == 1
    made.play(new, new.suspects.popleft(), Stub().spec(), ())
    assert new.room(8) == 0
    assert [a.spec.episode for a in made.died(new, "died again").charged] == [0]
    assert [a.spec.episode for a in made.all[0].suspects] == [1, 2], "the other suspects remain"


def test_charges_a_hanging_attempt_and_releases_its_neighbors(killed):
    made = env_pool(floors=Floors(step=1.0))
    actor = play(made, 3)
    culprit = list(actor.running)[1]
    waiting = [Activity(attempt_id, "query", 50.0) for attempt_id in actor.running if attempt_id != culprit]
    actor.heartbeat = heartbeat(*waiting, Activity(culprit, "step", 50.0))
    (death,) = made.judge(actor.heard_at, never_idle)
    assert death.charged == (attempt(1),)
    assert death.released == (attempt(0), attempt(2))
    assert "step took longer than its timeout of 1 s" in death.reason
    assert killed == [actor.handle]


def test_a_lost_query_is_charged_although_its_policy_and_its_neighbors_are_busy(killed):
    made = env_pool(floors=Floors(query=5.0, step=30.0))
    actor = play(made, 2)
    lost, other = actor.running
    busy = heartbeat(Activity(lost, "query", 20.0), Activity(other, "step", 0.1))
    actor.heartbeat = busy
    assert made.judge(actor.heard_at, lambda policy: 3.0) == [], "its reply may only have waited for its turn"
    actor.previous = busy
    assert made.judge(actor.heard_at, lambda policy: 16.0) == [], "the policy may still have to answer it"
    (death,) = made.judge(actor.heard_at, lambda policy: 3.0)
    assert death.charged == (attempt(0),)
    assert "query took longer than its timeout of 5 s" in death.reason


def test_a_query_that_waits_behind_a_long_step_is_not_lost(killed):
    made = env_pool(floors=Floors(query=5.0, step=30.0))
    actor = play(made, 2)
    waiting, other = actor.running
    actor.previous = heartbeat(Activity(waiting, "query", 20.0), Activity(other, "step", 20.0))
    actor.heartbeat = heartbeat(Activity(waiting, "query", 22.0), Activity(other, "step", 0.1))
    assert made.judge(actor.heard_at, always_idle) == []


def test_ends_an_actor_without_heartbeats(killed):
    made = env_pool(floors=Floors(silence=1.0))
    actor = play(made, 1)
    actor.polled = True
    assert made.judge(actor.heard_at + 0.5, never_idle) == []
    (death,) = made.judge(actor.heard_at + 2.0, never_idle)
    assert "has sent no heartbeat for 2 s" in death.reason
    assert death.charged == (attempt(0),)


def test_releases_the_attempts_of_a_lost_node(killed):
    made = env_pool()
    LOST.add("node")
    death = made.died(play(made, 1), "node died")
    assert death.charged == ()
    assert death.released == (attempt(0),)
    assert "its node was lost" in death.reason


def test_a_node_is_lost_if_ray_reports_it_or_its_port_refuses_connections(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as raylet:
        port = raylet.getsockname()[1]

        def nodes(alive):
            node = {"NodeID": "n", "Alive": alive, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
            return lambda: [node]

        monkeypatch.setattr("simloop.harness.engine.processes.ray.nodes", nodes(True))
        assert not node_is_lost("n")
        assert node_is_lost("unheard-of")
        monkeypatch.setattr("simloop.harness.engine.processes.ray.nodes", nodes(False))
        assert node_is_lost("n")
        monkeypatch.setattr("simloop.harness.engine.processes.ray.nodes", nodes(True))
    assert node_is_lost("n"), "Ray has not reported it yet"


def test_passes_on_the_suspects_of_an_actor_that_does_not_become_ready(killed):
    made = env_pool(2)
    other = made.all[1]
    made.died(play(made, 2), "died")
    (new,) = (actor for actor in made.all if actor is not other)
    made.judge(new.started_at + PATIENCE_S - 1, always_idle)
    assert (len(new.suspects), len(other.suspects)) == (2, 0)
    made.judge(new.started_at + PATIENCE_S + 1, always_idle)
    assert (len(new.suspects), len(other.suspects)) == (0, 2)
    assert other.room(8) == 1, "one at a time"
    assert made.running == 2


def test_env_actors_that_all_die_at_the_start_end_the_run(killed):
    made = env_pool()
    for _ in range(STILLBORN - 1):
        die_at_birth(made)
    with pytest.raises(EngineError, match="die before they are ready: no such module"):
        die_at_birth(made)


def die_at_birth(made: EnvPool):
    made.all[0].heartbeat = None
    future: Future = Future()
    future.set_exception(RayActorError(error_msg="no such module"))
    made.on_heartbeat(made.all[0], future)


def test_surplus_actors_leave_once_their_attempts_have_ended(killed):
    made = env_pool(3)
    playing = play(made, 1)
    made.scale_to(1)
    assert made.all == [playing], "the idle actors are ended at once"
    assert len(killed) == 2
    made.scale_to(2)
    made.all[1].heartbeat = heartbeat()
    other = made.all[1]
    made.play(other, attempt(5), Stub().spec(), ())
    made.scale_to(1)
    leaving = playing if playing.leaving else other
    assert len(made.all) == 2
    assert leaving.room(8) == 0
    made.end(next(iter(leaving.running)))
    made.replace(leaving, "as announced")
    assert len(made.all) == 1, "a surplus actor is not replaced"
    made.died(made.all[0], "died")
    assert len(made.all) == 1, "a wanted one is"


def test_growing_by_less_than_double_ends_no_actor(killed):
    made = env_pool(4)
    made.scale_to(5)
    assert len(made.all) == 5
    assert not any(actor.leaving for actor in made.all)
    assert killed == []


def test_replacing_one_of_many_actors_ends_no_other(killed):
    made = env_pool(8)
    leaving = play(made, 1)
    made.replace(leaving, "it has grown")
    made.scale_to(8)
    assert [actor for actor in made.all if actor.leaving] == [leaving]
    assert len(made.all) == 9
    assert killed == []


def test_charges_a_lost_query_while_another_policy_is_busy(killed):
    made = env_pool(floors=Floors(query=1.0))
    actor = play(made, 2)
    lost, waiting = actor.running
    actor.running[waiting] = Attempt(dataclasses.replace(attempt(1).spec, policy="busy"))
    actor.heartbeat = heartbeat(Activity(lost, "query", 50.0), Activity(waiting, "query", 50.0))
    actor.previous = actor.heartbeat
    (death,) = made.judge(actor.heard_at, lambda policy: 0.0 if policy == "stub" else 49.5)
    assert death.charged == (attempt(0),)
    assert [released.spec.policy for released in death.released] == ["busy"]


def test_the_run_ends_if_no_env_actor_becomes_ready(killed):
    made = env_pool(floors=Floors(start=10.0))
    made.all[0].heartbeat = None
    assert made.judge(made.all[0].started_at + 5, always_idle) == []
    with pytest.raises(EngineError, match="No env actor became ready in 11 s"):
        made.judge(made.all[0].started_at + 11, always_idle)


def supervisor(made: EnvPool, memory_gib: float | None) -> Supervisor:
    timeouts = Timeouts(Floors())
    worker_pool = WorkerPool(lambda policy: None, lambda *_: None, timeouts)
    autoscaler = Autoscaler(Limits(env_actors=2, workers=1))
    return Supervisor(made, worker_pool, timeouts, autoscaler, memory_gib)


def test_replaces_an_actor_beyond_its_memory_limit_once_its_attempts_have_ended(killed):
    made = env_pool(2)
    actor = play(made, 1)
    actor.heartbeat = heartbeat(rss=5 * GIB)
    deaths, _ = supervisor(made, 4.0).look_after(actor.heard_at, waiting=9)
    assert deaths == []
    assert actor.leaving
    assert actor.room(8) == 0
    made.end(next(iter(actor.running)))
    assert "grown" in made.replace(actor, "it has grown").reason
    assert killed == [actor.handle]
    assert len(made.all) == 2


def test_replaces_an_actor_far_beyond_its_memory_limit_at_once(killed):
    made = env_pool(2)
    actor = play(made, 2)
    actor.heartbeat = heartbeat(rss=7 * GIB)
    (death,), _ = supervisor(made, 4.0).look_after(actor.heard_at, waiting=9)
    assert death.reason == "it has grown to 7.0 GiB"
    assert len(made.all[-1].suspects) == 2
    assert killed == [actor.handle]


def test_keeps_a_large_actor_while_memory_is_free(killed):
    made = env_pool(2)
    actor = play(made, 1)
    actor.heartbeat = heartbeat(rss=7 * GIB)
    assert supervisor(made, None).look_after(actor.heard_at, waiting=9)[0] == []
    assert not actor.leaving
