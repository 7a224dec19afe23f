"""Step through an episode in this process, without Ray: in Python, a notebook, or at the prompt of `simloop debug`.

Axis letters: a action size, s state size, t actions of a chunk, h image height, w image width.
"""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from simloop.envs import registry
from simloop.envs.env_state import StateError
from simloop.harness.adapters.adapter_file import AdapterFile
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.debugging.events import Event, SessionError, condition
from simloop.harness.debugging.history import History
from simloop.harness.debugging.lazy_policy import LazyPolicy
from simloop.harness.debugging.picture import Picture, film
from simloop.harness.planning.changes import Changes, Move
from simloop.harness.planning.own_suites import use_suite
from simloop.harness.planning.plan import EpisodeSpec, make_plan
from simloop.harness.planning.protocol import DEFAULT, Protocol, named_protocol
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.loop import Episode, Moments
from simloop.harness.rollout.loop_state import MAX_BYTES, EpisodeState
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.interface import BatchedPolicy, Chunk, Policy, PolicySpec, Query
from simloop.untrusted import read_bytes

if TYPE_CHECKING:
    from simloop.policies.explaining.explanation import Explanation


class Session:
    """One episode of a task, which advances only when told to.

    Args:
      suite: Name of the suite.
      task: Name of the task, with or without its version.
      policy: Name as on the command line, such as `pi0-tiny` or `mine=pi05_libero@FOLDER`, or a policy object.
      seed: Root of initial states and noise, as in `simloop run --seed`.
      episode: Number of the episode of the task; the same initial state and noise as in a run of that seed.
      protocol: Rules of the episode, or their name.
      adapter: Connects suite and policy; by default the registered one.
      batch_size: Rows of each call of a learned policy; that of a run makes answers equal to the run's, bit for bit.

    Raises:
      UnknownNameError, UnknownPolicyError, AdapterError, ProtocolError, SessionError: If there is no such episode.
    """

    def __init__(
        self,
        suite: str,
        task: str,
        policy: str | Policy | BatchedPolicy,
        seed: int = 0,
        *,
        episode: int = 0,
        protocol: str | Protocol = DEFAULT,
        adapter: Adapter | None = None,
        batch_size: int = 1,
    ):
        if episode < 0:
            raise SessionError(f"Episodes are numbered from 0; got {episode}.")
        suite = use_suite(suite)
        registry.suite(suite).require_installed()
        (found,) = registry.resolve_tasks(suite, [task])
        rules = protocol if isinstance(protocol, Protocol) else named_protocol(suite, protocol)
        asked = LazyPolicy(policy, batch_size)
        spec = make_plan([asked.spec.name], [found], rules, episode + 1, seed).episodes[episode]
        self._open(spec, rules, asked, adapter or checked_adapter(asked.spec, [found]))

    @classmethod
    def of(cls, spec: EpisodeSpec, protocol: Protocol, policy: LazyPolicy, adapter: Adapter) -> Session:
        """Open a planned episode."""
        session = cls.__new__(cls)
        session._open(spec, protocol, policy, adapter)
        return session

    def _open(self, spec: EpisodeSpec, protocol: Protocol, policy: LazyPolicy, adapter: Adapter) -> None:
        self.spec, self.protocol, self.policy, self.adapter = spec, protocol, policy, adapter
        self.env = registry.suite(spec.suite).make(spec.task, protocol.render)
        self.last_query: Query | None = None
        self.last_reply: Reply | None = None
        self._moments: Moments | None = None
        self._begin(None)

    @property
    def steps(self) -> int:
        """Control steps executed so far."""
        return self._episode.result.steps

    @property
    def queries(self) -> int:
        """Queries answered so far; the index of the next one."""
        return len(self._episode.result.queries)

    @property
    def reward(self) -> float:
        """Sum of the rewards so far."""
        return self._episode.result.reward

    @property
    def wants_query(self) -> bool:
        """Whether the policy is queried next."""
        return self.result is None and self._episode.executor.wants_query(self.steps)

    @property
    def prompt(self) -> str:
        """The instruction that the policy is given."""
        return self._episode.instruction

    @property
    def state(self) -> Float32[np.ndarray, "s"]:
        """Proprioceptive state in the order of `env.spec.state_names`."""
        return self.env.state()

    def next_query(self) -> Query:
        """What the policy would be given at the present moment, after adapter and perturbation."""
        return self._episode.query(self._episode.images())

    # Verbs.

    def reset(self) -> Session:
        """Return to the initial state."""
        return self._begin(None)

    def step(self, steps: int = 1) -> Session:
        """Execute control steps, querying the policy where its chunk is used up.

        What stops a step halfway, such as Ctrl-C or an error of the policy, leaves the session at the moment before it.
        """
        self._require_running()
        if steps < 1:
            raise SessionError(f"Wanted at least 1 step; got {steps}.")
        for _ in range(steps):
            target = self.steps + 1
            while self.result is None and self.steps < target:
                self._advance()
        return self

    def query(self) -> Chunk:
        """Query the policy about the present state, and return its chunk, whose actions come next."""
        self._require_running()
        self._episode.executor.discard(self.steps)
        self._advance()
        assert self.last_reply is not None
        return self.last_reply.chunk

    def act(self, action: Sequence[float | int] | Float32[np.ndarray, "a"]) -> Session:
        """Execute an action of the suite, in place of the policy's. The policy is queried after it."""
        self._require_running()
        actions = np.array(action, np.float32)[None]
        if actions.shape != (1, self.env.spec.action_size):
            names = ", ".join(self.env.spec.action_names)
            raise SessionError(
                f"Wanted an action of {self.env.spec.action_size} numbers ({names}); got {action}."
            )
        self._episode.executor.accept(actions, self.steps)
        return self.step()

    def run_until(self, event: Event) -> Session:
        """Execute steps until an event, one step at least, or to the end of the episode.

        Args:
          event: `query` (the policy is queried next), `end`, the number of executed steps, a function of the
            session, or a Python expression of `step`, `query`, `reward`, `state` and `privileged`, such as
            `state[2] < 0.1`.
        """
        happened = condition(event)
        happened(self)  # Refuses what cannot be evaluated before a step is executed.
        self.step()
        while self.result is None and not happened(self):
            self.step()
        return self

    def run_until_query(self, index: int) -> Session:
        """Execute steps up to the query of that number.

        Raises:
          SessionError: If the episode ends before it.
        """
        while self.result is None and (self.queries < index or not self.wants_query):
            self.step()
        if self.result is not None or self.queries != index:
            raise SessionError(
                f"{self._title} has queries 0 to {self.queries - 1}; got query {index}. Choose one of these."
            )
        return self

    def snapshot(self) -> EpisodeState:
        """Save the present moment; independent of later steps."""
        if self.result is not None:
            raise SessionError(
                f"{self._title} has ended. Reset or restore it, and save a moment before its end."
            )
        return self._episode.save()

    def restore(self, moment: EpisodeState | str | Path) -> Session:
        """Return to a saved moment, or to one of a file that `save` wrote.

        Raises:
          StateError: If the moment belongs to another task or version.
        """
        if not isinstance(moment, EpisodeState):
            moment = EpisodeState.from_bytes(read_bytes(Path(moment), MAX_BYTES, error=StateError))
        moment.env.require(self.spec.suite, self.spec.task, registry.suite(self.spec.suite).source)
        return self._begin(moment)

    def fork(
        self,
        changes: Changes | None = None,
        *,
        policy: str | Policy | BatchedPolicy | None = None,
        adapter: Adapter | AdapterFile | None = None,
    ) -> Session:
        """Open another session at the present moment, with something changed; this one stays where it is.

        Args:
          adapter: Another adapter. By default `self.adapter` is kept, but a policy of another robot gets the
            registered one.

        Raises:
          UnknownPolicyError, AdapterError, UnknownThingError: If there is no such policy, adapter or thing.
        """
        changes = changes or Changes()
        asked = self.policy if policy is None else LazyPolicy(policy, self.policy.batch_size)
        if adapter is None or isinstance(adapter, AdapterFile):
            adapter = self._adapter_for(asked.spec, adapter)
        adapter.check(asked.spec, self.env.spec)
        spec = dataclasses.replace(self.spec, policy=asked.spec.name, key=changes.key(self.spec.key))
        other = Session.of(spec, changes.protocol(self.protocol), asked, adapter)
        other.restore(self.snapshot()).set_prompt(self.prompt if changes.prompt is None else changes.prompt)
        for move in changes.moves:
            other.move(move)
        return other

    def _adapter_for(self, policy: PolicySpec, file: AdapterFile | None) -> Adapter:
        """The adapter of a file, else the session's if it fits the policy, else the registered one."""
        fits = policy.robot == self.adapter.robot and {*policy.cameras} <= {*self.adapter.cameras}
        return self.adapter if fits and not file else checked_adapter(policy, [self.env.spec], file)

    def move(self, move: Move) -> Session:
        """Move a thing of the scene, where the suite can.

        Raises:
          UnknownThingError: If there is no such thing.
        """
        self.env.move(move.thing, move.offset_m)
        self._episode.frames.clear()
        return self

    def set_prompt(self, text: str) -> Session:
        """Give the policy another instruction from its next query on."""
        self._episode.instruction = text
        return self

    def render(self, *cameras: str) -> Picture:
        """Show images side by side: those that the policy would be given now, after adapter and perturbation.

        Args:
          cameras: Cameras of the suite to show instead, as the suite draws them. A policy without images has all.
        """
        if not cameras and self.policy.spec.cameras:
            return Picture.beside([*self.next_query().images.values()])
        return Picture.beside([self._episode.frames[name] for name in cameras or self.env.spec.cameras])

    def explain(self, draws: int = 16, *, prompt: str | None = None) -> Explanation:
        """Explain what the policy would answer at the present moment: attention, spread, sensitivity, distances.

        Args:
          draws: Chunks from which the spread is computed.
          prompt: Another instruction to try; by default that of another task.

        Raises:
          ExplanationError: If the policy is none of the pi0 family.
        """
        from simloop.harness.debugging.explaining import other_prompts

        prompts = other_prompts(self.spec.suite, self.spec.task, prompt)
        return self.policy.explainer(draws).explain(self.next_query(), prompts)

    def plot(self) -> Picture:
        """Plot actions, states and rewards since the session was last reset or restored."""
        from simloop.harness.debugging.plot import plot_steps

        return plot_steps(self.env.spec, self._history.steps, self.steps)

    def save(self, file: str | Path) -> Path:
        """Save the moment (.npz), what `render` shows (.png), or a video since the last reset or restore (.mp4).

        Raises:
          SessionError: If the file has another ending or cannot be written.
        """
        file = Path(file)
        match file.suffix:
            case ".npz":
                content = self.snapshot().to_bytes()
            case ".png":
                content = self.render().png()
            case ".mp4":
                content = self._film()
            case _:
                raise SessionError(f"Wanted a file that ends in .npz, .png or .mp4; got {str(file)!r}.")
        try:
            file.write_bytes(content)
        except OSError as error:
            raise SessionError(f"{file} cannot be written: {error.strerror}.") from error
        return file

    def close(self) -> None:
        """Free the simulation."""
        if self._moments is not None:
            self._moments.close()
        self.env.close()

    def __enter__(self) -> Session:
        """Return the session; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # How it shows itself.

    @property
    def _title(self) -> str:
        return f"{self.spec.policy} on {self.spec.suite}/{self.spec.task}, episode {self.spec.episode}"

    def __repr__(self) -> str:
        """Where the episode is."""
        if self.result is not None:
            place = f"ended by {self.result.ended_by} after step {self.steps}"
        elif self.wants_query:
            place = f"before query {self.queries}, step {self.steps} of {self._episode.max_steps}"
        else:
            place = f"step {self.steps} of {self._episode.max_steps}, query {self.queries} comes later"
        return f"{self._title}: {place}, reward {self.reward:.4g}"

    def _repr_png_(self) -> bytes:
        return self.render().png()

    def _repr_html_(self) -> str:
        image = base64.b64encode(self._repr_png_()).decode()
        return f'<p>{html.escape(repr(self))}</p><img src="data:image/png;base64,{image}">'

    # The loop.

    def _begin(self, start: EpisodeState | None) -> Session:
        if self._moments is not None:
            self._moments.close()
        self._history = History(self.env)
        self._episode = Episode(
            self.env, self.spec, self.policy.spec, self.adapter, self.protocol, [self._history], start=start
        )
        self._moments = self._episode.moments()
        self.result: RolloutResult | None = None
        next(self._moments)
        self._first = self._episode.save()
        return self

    def _advance(self) -> None:
        """Continue to the next pause, answering the query on the way; undo it if that raises."""
        moments, before = self._moments, self._episode.save()
        assert moments is not None
        try:
            moment = next(moments)
            while moment is not None:
                self.last_query, self.last_reply = moment, self.policy.ask(moment)
                moment = moments.send(self.last_reply)
        except StopIteration as stop:
            self.result = stop.value
        except BaseException:
            self._undo(before)
            raise

    def _undo(self, before: EpisodeState) -> None:
        """Return to a moment since which a step was not finished."""
        history, first, prompt = self._history.steps, self._first, self.prompt
        self._begin(before).set_prompt(prompt)
        self._history.steps, self._first = history[: before.loop.steps - first.loop.steps], first

    def _film(self) -> bytes:
        """Execute the steps of the history again, and film them as runs do: as the suite draws them."""
        cameras = tuple(self._episode.images()) or self.env.spec.cameras
        return film(self.env, self._first.env, [step.executed for step in self._history.steps], cameras)

    def _require_running(self) -> None:
        if self.result is not None:
            raise SessionError(
                f"{self._title} has ended ({self.result.ended_by}). Reset or restore it first."
            )
