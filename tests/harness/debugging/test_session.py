import dataclasses
import signal
import subprocess
import sys

import numpy as np
import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.metaworld import METAWORLD_HAND
from simloop.harness.debugging.console import Console
from simloop.harness.debugging.events import SessionError
from simloop.harness.debugging.picture import PictureError
from simloop.harness.debugging.session import Session
from simloop.harness.errors import SimloopError
from simloop.harness.planning.changes import ChangeError, Changes, Move
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from simloop.policies.interface import Chunk, PolicySpec

SMALL = Protocol("metaworld", render=RenderSettings("fast", 32, 32), replan_steps=3)


@pytest.fixture(scope="module")
def opened():
    with Session("metaworld", "reach", "expert", seed=5, episode=1, protocol=SMALL) as session:
        yield session


@pytest.fixture
def session(opened):
    return opened.reset()


def test_a_session_plays_the_episode_that_a_run_plays(session):
    result = session.run_until("end").result
    policy = session.policy._loaded
    played = run_episode(session.env, session.spec, policy, session.adapter, session.protocol)
    assert result.ended_by == "success"
    assert (result.actions_sha256, result.final_state_sha256) == (
        played.actions_sha256,
        played.final_state_sha256,
    )


def test_a_restored_session_continues_as_before(session, tmp_path):
    session.step(4)
    moment, file = session.snapshot(), session.save(tmp_path / "moment.npz")
    states = [session.run_until("end").result.final_state_sha256]
    for saved in (moment, file):
        states.append(session.restore(saved).run_until("end").result.final_state_sha256)
    assert len(set(states)) == 1


def test_runs_until_a_query_a_step_and_an_expression(session):
    assert session.run_until("query").wants_query
    assert session.run_until(7).steps == 7
    height = session.state[2]
    session.run_until(f"state[2] != {height} and step > 8")
    assert session.steps == 9


def test_an_action_replaces_those_of_the_policy(session):
    before = session.state[2]
    for _ in range(5):
        session.act([0, 0, 1, 0])
    assert session.state[2] > before + 0.01
    assert session.queries == 0
    assert session.wants_query
    with pytest.raises(SessionError, match="4 numbers"):
        session.act([0, 0])


def test_a_fork_with_nothing_changed_equals_the_original_and_leaves_it_where_it_is(session):
    session.step(4)
    with session.fork() as fork:
        forked = fork.run_until("end").result.final_state_sha256
    assert session.steps == 4
    assert session.run_until("end").result.final_state_sha256 == forked


def test_a_fork_keeps_the_adapter_of_its_session_or_takes_another(session):
    own = dataclasses.replace(session.adapter, robot="any", image=lambda image: image[::-1])
    with Session("metaworld", "reach", "hold", adapter=own) as mine:
        with mine.fork(policy="random") as fork:
            assert fork.adapter is own
        with mine.fork(policy="pi0-tiny") as fork:
            assert fork.adapter is METAWORLD_HAND
        other = dataclasses.replace(own)
        with mine.fork(adapter=other) as fork:
            assert fork.adapter is other


def test_a_fork_changes_prompt_noise_and_rules(session):
    with session.fork(Changes(prompt="wave", noise_seed=3, replan_steps=1)) as fork:
        assert fork.prompt == "wave"
        assert fork.spec.key != session.spec.key
        assert fork.protocol.replan_steps == 1


def test_an_ended_episode_says_what_to_do(session):
    session.run_until("end")
    with pytest.raises(SessionError, match="Reset or restore"):
        session.step()


def test_notebooks_show_the_cameras_of_the_policy(session):
    assert session._repr_png_().startswith(b"\x89PNG")
    assert "before query 0" in session._repr_html_()


def test_saves_a_video_of_the_steps_since_the_reset_and_stays_where_it_is(session, tmp_path):
    session.step(3)
    state = session.env.save()
    assert session.save(tmp_path / "steps.mp4").stat().st_size > 500
    assert session.env.save() == state


def test_parses_where_a_thing_is_moved():
    assert Move.parse("obj=0.05,0,-1") == Move("obj", (0.05, 0.0, -1.0))
    for wrong in ("obj=1,2", "obj=nan,0,0"):
        with pytest.raises(ChangeError, match="THING=dx,dy,dz"):
            Move.parse(wrong)


def test_the_prompt_executes_the_verbs_of_a_session(session, capsys, tmp_path):
    lines = ["# a comment", "", "step 4", "snapshot here", "act 0 0 1 0", "restore here", "fork noise-seed=1",
             "prompt 'wave'", "state", f"plot {tmp_path / 'a.png'}", "! session.steps", "quit", "step"]  # fmt: skip
    with pytest.raises(SimloopError, match="Nothing to plot"):
        Console(session, stop_on_error=True).run(lines)
    Console(session, stop_on_error=False).run([*lines[:-4], "step", *lines[-4:]])
    printed = capsys.readouterr().out
    assert "step 9 of" in printed
    assert "ended by success" in printed
    assert printed.endswith("9\n")
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("jump 3", "no command 'jump'"),
        ("step -1", "at least 1 step; got -1"),
        ("until height < 1", "name 'height' is not defined.* It may use step, query"),
        ("act 9 0 0 0", r"takes hand_dx_cm in \[-1, 1\]; got 9"),
        ("restore a", "Moments are start, and files"),
        ("render view.png nose", "renders cameras 'corner2'.*got 'nose'"),
        ('fork prompt="wave', "quotation mark is not closed"),
        ("! 1 / 0", "'1 / 0' raises ZeroDivisionError"),
    ],
)
def test_a_wrong_line_ends_a_script_with_a_sentence_and_no_step(session, line, said):
    with pytest.raises(Exception, match=said) as stop:
        Console(session, stop_on_error=True).run([line, "step"])
    assert stop.value.user_facing
    assert session.steps == 0


def test_sessions_import_neither_ray_nor_what_only_tables_need():
    unwanted = ("ray", "pandas", "jax", "pyarrow", "matplotlib", "scipy.stats")
    program = (
        "import sys, simloop; simloop.Session; import simloop.harness.debugging.console;"
        f"print([name for name in {unwanted} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


class _Fragile:
    """A policy with one camera that fails when told to."""

    spec = PolicySpec(
        name="fragile",
        robot="metaworld_hand",
        weights="scripted",
        cameras=("base_0_rgb",),
        image_hw=None,
        state_size=None,
        action_size=4,
        chunk_steps=1,
        runs_in="actor",
    )

    def __init__(self):
        self.error: BaseException | None = None

    def infer(self, queries):
        if self.error is not None:
            raise self.error
        return [Chunk(np.zeros((1, 4), np.float32)) for _ in queries]


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_what_interrupts_a_step_leaves_the_moment_before_it(error):
    policy = _Fragile()
    with Session("metaworld", "reach", policy, protocol=SMALL) as session:
        session.set_prompt("wave").step(2)
        state, policy.error = session.env.save(), error
        with pytest.raises(type(error)):
            session.step(3)
        assert (session.steps, session.env.save(), session.prompt) == (2, state, "wave")
        policy.error = None
        assert session.step().steps == 3
        assert len(session._history.steps) == 3


@pytest.fixture
def interruptible():
    """Python's own reaction to Ctrl-C, which background processes of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_typed_command_and_not_the_prompt(session, capsys):
    session.interrupt = lambda: signal.raise_signal(signal.SIGINT)
    Console(session, stop_on_error=False).run(["! session.interrupt()", "step 2"])
    printed = capsys.readouterr().out
    assert "interrupted\nexpert on metaworld/reach-v3" in printed
    assert "step 2 of" in printed
    with pytest.raises(KeyboardInterrupt):
        Console(session, stop_on_error=True).run(["! session.interrupt()"])


def test_a_view_is_what_the_policy_is_given_and_a_named_camera_is_that_of_the_suite():
    adapter = dataclasses.replace(METAWORLD_HAND, image=lambda image: image[::-1])
    dark = dataclasses.replace(SMALL, perturbations=(Perturbation("camera-dark", 0.5),))
    with Session("metaworld", "reach", _Fragile(), protocol=dark, adapter=adapter) as session:
        view = session.render().pixels
        camera = session.render(adapter.cameras["base_0_rgb"]).pixels
        assert np.array_equal(view, np.rint(0.5 * camera[::-1]).astype(np.uint8))
        assert np.array_equal(view, session.step().last_query.images["base_0_rgb"])


def test_a_file_that_cannot_be_written_is_said(session, tmp_path):
    for file in ("moment.npz", "view.png"):
        with pytest.raises(SessionError, match=r"cannot be written: No such file"):
            session.save(tmp_path / "missing" / file)
    with pytest.raises(PictureError, match="unknown file extension"):
        session.render().save(tmp_path / "view.txt")


def test_there_is_no_episode_before_the_first():
    with pytest.raises(SessionError, match="numbered from 0; got -1"):
        Session("metaworld", "reach", "expert", episode=-1)


def test_help_describes_every_command(session, capsys):
    Console(session, stop_on_error=True).run(["help", "help !"])
    printed = capsys.readouterr().out
    assert "until EVENT: execute steps" in printed
    assert printed.count("! EXPRESSION: evaluate Python") == 2
    with pytest.raises(SessionError, match="no command 'jump'"):
        Console(session, stop_on_error=True).run(["help jump"])
