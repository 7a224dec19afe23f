import ast
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from simloop.envs.conformance import check_suite
from simloop.envs.env_state import EnvState, StateError
from simloop.envs.interface import RenderSettings, SimulationError, UnknownThingError
from simloop.envs.served import environment, server
from simloop.envs.served.connection import Program, ServedSuiteError, ServedSuiteLost
from simloop.envs.served.environment import ServedEnv
from simloop.envs.served.process import InterpreterError, usage
from simloop.envs.served.suite import DescribedSuite, DescriptionError, task_specs
from tests.helpers import served_points

FILE = Path(served_points.__file__)
PROGRAM = Program(sys.executable, FILE)
RENDER = RenderSettings("fast", 16, 24)
SPECS = {spec.name: spec for spec in task_specs("served-points", served_points.TASKS)}
ACTION = np.array([0.5, -0.25], np.float32)


def made(task: str = "point", program: Program = PROGRAM) -> ServedEnv:
    return ServedEnv(SPECS[task], program, RENDER, "1")


def server_of(env: ServedEnv) -> psutil.Process:
    (process,) = psutil.Process(env.pid).children()
    return process


@pytest.fixture(scope="module")
def shared() -> Iterator[ServedEnv]:
    env = made()
    yield env
    env.close()


def test_the_suite_describes_itself_and_keeps_the_contract():
    suite = DescribedSuite(PROGRAM, "points@1")
    assert suite.name == "served-points"
    assert suite.default_group == "all"
    assert suite.tasks() == tuple(SPECS.values())
    assert suite.source == f"points@1, numpy {np.__version__}"
    assert [found for found in check_suite(suite) if found.problem] == []


def test_an_episode_is_that_of_the_suite_in_this_process(shared):
    here = served_points.make("point", 16, 24, "fast")
    here.reset(3)
    shared.reset(3)
    for _ in range(3):
        reward, success = here.step(ACTION.astype(np.float64))
        result = shared.step(ACTION)
        assert (result.reward, result.success) == (reward, bool(success))
        np.testing.assert_array_equal(shared.state(), here.state().astype(np.float32))
        np.testing.assert_array_equal(shared.snapshot(), here.snapshot())
        np.testing.assert_array_equal(shared.privileged(), here.privileged())
        for camera in ("top", "hand"):
            np.testing.assert_array_equal(shared.render(camera), here.render(camera))


def test_images_pass_through_shared_memory_and_only_when_they_are_looked_at(shared, monkeypatch):
    sent = []
    receive = server.Channel.receive
    monkeypatch.setattr(server.Channel, "receive", lambda end: sent.append(receive(end)) or sent[-1])
    shared.reset(0)
    shared.step(ACTION)
    assert [list(reply) for reply in sent] == [["value", "state"]] * 2
    shared.render("top")
    assert sent[2:] == [{"value": None}]


def test_a_suite_that_cannot_save_is_restored_by_its_actions(shared):
    shared.reset(5)
    shared.step(ACTION)
    saved = EnvState.from_bytes(shared.save().to_bytes())
    wanted = shared.step(ACTION), shared.snapshot()
    shared.reset(6)
    shared.restore(saved)
    assert shared.step(ACTION) == wanted[0]
    np.testing.assert_array_equal(shared.snapshot(), wanted[1])


def test_a_suite_that_draws_beside_the_seed_is_not_restored():
    first, second = made("forgets"), made("forgets")
    try:
        first.reset(0)
        with pytest.raises(StateError, match="does not repeat its episodes: 0 actions from seed 0"):
            second.restore(first.save())
    finally:
        first.close()
        second.close()


def test_a_suite_that_can_moves_things_and_tells_the_scene(shared):
    env = made("saving")
    try:
        env.reset(0)
        before = env.snapshot()
        env.move("point", [0.5, 0.0, 0.0])
        np.testing.assert_allclose(env.snapshot()[:2], before[:2] + np.array([0.5, 0.0]))
        (scene,) = env.scenes([before])
        np.testing.assert_array_equal(scene.poses["point"].position_m, [*before[:2], 0.0])
        assert scene.contacts[0].other == "goal"
        with pytest.raises(UnknownThingError, match="can move 'point'; got 'table'"):
            env.move("table", [0.0, 0.0, 0.0])
    finally:
        env.close()
    shared.reset(0)
    assert shared.movable() == ()
    assert shared.scenes([shared.snapshot()]) is None


def test_an_episode_may_have_an_instruction_of_its_own(shared):
    env = made("saving")
    try:
        env.reset(0)
        first = env.instruction()
        assert re.fullmatch(r"move to -?\d\.\d\d, -?\d\.\d\d", first)
        env.reset(1)
        assert env.instruction() != first
    finally:
        env.close()
    shared.reset(0)
    assert shared.instruction() is None


def test_arguments_reach_the_suite():
    env = made(program=Program(sys.executable, FILE, {"speed": 0.0}))
    try:
        env.reset(0)
        before = env.snapshot()
        env.step(ACTION)
        np.testing.assert_array_equal(env.snapshot(), before)
    finally:
        env.close()


@pytest.mark.parametrize(
    ("task", "kind", "said"),
    [
        ("raises", ServedSuiteError, "served_points.py, step: ValueError: the gripper is upside down"),
        ("unstable", SimulationError, "served_points.py, step: the physics became unstable"),
    ],
)
def test_an_error_of_the_suite_is_that_of_the_call_and_the_process_goes_on(task, kind, said):
    env = made(task)
    try:
        env.reset(0)
        with pytest.raises(kind, match=said) as raised:
            env.step(ACTION)
        assert "served_points.py" in raised.value.__notes__[0]
        with pytest.raises(RuntimeError, match="has no scene; call reset"):
            env.state()
        env.reset(0)
        assert env.state().shape == (2,)
    finally:
        env.close()


def test_an_image_of_another_shape_is_an_error_of_the_suite():
    env = made("no-image")
    try:
        env.reset(0)
        with pytest.raises(
            ServedSuiteError, match=r"render returned uint8 of shape \(16, 24\); wanted .*\(16, 24, 3\)"
        ):
            env.render("top")
    finally:
        env.close()


def test_a_process_that_is_killed_is_replaced_and_the_episode_goes_on(shared):
    env = made()
    try:
        for each in (env, shared):
            each.reset(1)
            each.step(ACTION)
        server_of(env).kill()
        with pytest.warns(UserWarning, match=r"(?s)ended during 'step'.*started again"):
            result = env.step(ACTION)
        assert result == shared.step(ACTION)
        np.testing.assert_array_equal(env.render("top"), shared.render("top"))
    finally:
        env.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The process of served_points")
def test_killing_the_child_50_times_loses_no_episode_and_changes_none():
    chance = np.random.default_rng(0)
    env, here = made(), served_points.make("point", 16, 24, "fast")
    moments = 10 * np.arange(50) + chance.integers(0, 8, 50)  # Apart, so that each kills a process in use.
    try:
        for moment in range(500):
            if moment % 20 == 0:
                env.reset(moment)
                here.reset(moment)
            killer = threading.Timer(chance.uniform(0.0, 0.002), server_of(env).kill)  # About when it steps.
            if moment in moments:
                killer.start()
            reward, success = here.step(ACTION.astype(np.float64))
            result = env.step(ACTION)
            assert (result.reward, result.success) == (reward, bool(success))
            if moment in moments:
                killer.join()
            np.testing.assert_array_equal(env.render("top"), here.render("top"))
    finally:
        env.close()


def test_a_step_that_ends_every_process_is_an_error_with_the_last_output():
    env = made("exits")
    try:
        env.reset(0)
        with (
            warnings.catch_warnings(action="ignore"),
            pytest.raises(ServedSuiteLost, match=r"(?s)had ended with status 3.*a last word"),
        ):
            env.step(ACTION)
    finally:
        env.close()


def test_an_episode_that_another_process_does_not_repeat_is_an_error():
    env = made("forgets")
    try:
        env.reset(0)
        env.step(ACTION)
        server_of(env).kill()
        with (
            pytest.warns(UserWarning, match="started again"),
            pytest.raises(ServedSuiteError, match="does not repeat its episodes"),
        ):
            env.step(ACTION)
    finally:
        env.close()


def test_a_suite_that_does_not_start_in_time_is_given_up(monkeypatch, tmp_path):
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(environment, "START_S", 0.5)
    monkeypatch.setattr(environment, "PROCESSES", 1)
    with pytest.raises(ServedSuiteLost, match=r"(?s)did not answer 'make' within 0\.5 s"):
        made(program=Program(sys.executable, tmp_path / "slow.py"))


def test_a_file_that_cannot_be_executed_is_an_error_with_its_traceback(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_simulator\n")
    with pytest.raises(ServedSuiteError, match="No module named 'no_such_simulator'"):
        made(program=Program(sys.executable, tmp_path / "broken.py"))


def test_an_interpreter_that_cannot_be_executed_is_named():
    with pytest.raises(InterpreterError, match="/no/python cannot be executed"):
        made(program=Program("/no/python", FILE))


def test_closing_ends_the_process():
    env = made()
    processes = [psutil.Process(env.pid), server_of(env)]
    env.close()
    env.close()
    assert not any(process.is_running() for process in processes)
    with pytest.raises(RuntimeError, match="has been closed"):
        env.reset(0)


def test_memory_and_processor_time_include_the_processes_that_simulate(shared):
    own, both = psutil.Process().memory_info().rss, usage()
    assert both.rss_bytes > own + server_of(shared).memory_info().rss
    assert both.cpu_s > sum(psutil.Process().cpu_times()[:2])


def test_a_process_that_simulates_ends_with_its_parent_even_if_that_is_killed():
    program = textwrap.dedent("""
        import numpy as np
        from tests.envs.served.test_served import made, server_of
        env = made("hangs")
        env.reset(0)
        print(env.pid, server_of(env).pid, flush=True)
        env.step(np.zeros(2))
    """)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=FILE.parents[2], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        time.sleep(0.2)  # It is in the middle of a step.
        os.kill(parent.pid, signal.SIGKILL)
    assert not psutil.wait_procs(processes, timeout=15)[1]


def test_tasks_that_are_not_complete_are_named():
    with pytest.raises(
        DescriptionError, match=r"must give instruction, .* for 'point'.*correct fps, instruction"
    ):
        task_specs(
            "s", {"point": {**{k: v for k, v in served_points.POINT.items() if k != "instruction"}, "fps": 3}}
        )


def test_messages_hold_numbers_text_and_arrays_of_numbers():
    here, there = map(server.Channel, socket.socketpair())
    sent = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [np.zeros(0, np.int8), "text", None],
        "c": np.float32(0.1),
    }
    here.send(sent)
    got = there.receive()
    np.testing.assert_array_equal(got["a"], sent["a"])
    assert got["b"][0].dtype == np.int8
    assert got["b"][1:] == ["text", None]
    assert got["c"] == float(np.float32(0.1))
    with pytest.raises(TypeError, match="arrays of numbers can be sent"):
        here.send([np.array(["text"])])
    here.socket.close()
    with pytest.raises(EOFError):
        there.receive()
    there.socket.close()


def test_the_server_needs_nothing_but_numpy_and_python_3_10():
    tree = ast.parse(Path(server.__file__).read_text(), feature_version=(3, 10))
    names = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {
        node.module.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert names - sys.stdlib_module_names == {"numpy"}
