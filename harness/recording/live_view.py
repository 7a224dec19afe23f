"""Stream episodes to a viewer of Rerun while they are played, without delaying a step.

Observers put what they are given into a bounded queue and return; a thread compresses images and sends. What the queue
has no room for is dropped and counted.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from simloop.envs.interface import Env
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.rollout.camera_frames import CameraFrames
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.observers import Recorder, StepRecord
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.files.images import jpeg
from simloop.policies.interface import Query

if TYPE_CHECKING:
    import rerun as rr

WAITING = 256
"""Messages that wait for the viewer, up to 40 MB of images."""

Message = Callable[[], object]


class Sender:
    """A queue of messages and the thread that sends them.

    Args:
      waiting: Messages that are kept; further ones are dropped.
    """

    def __init__(self, waiting: int = WAITING):
        self._queue: queue.Queue[Message] = queue.Queue(waiting)
        self.dropped = 0
        """Messages that found no room, or could not be sent."""
        threading.Thread(target=self._send, daemon=True, name="live view").start()

    def offer(self, message: Message) -> None:
        """Send a message soon, or drop it; never waits."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.dropped += 1

    def wait(self) -> None:
        """Wait until everything that was accepted has been sent."""
        self._queue.join()

    def _send(self) -> None:
        while True:
            message = self._queue.get()
            try:
                message()
            except Exception:  # A viewer that went away must not end the thread.
                self.dropped += 1
            finally:
                self._queue.task_done()


@functools.cache
def sender() -> Sender:
    """The sender of this process."""
    return Sender()


@dataclass(frozen=True)
class LiveViews:
    """Makes the live views of a run's episodes. Sent to env actors."""

    address: str
    """Of the viewer, as Rerun writes it."""
    run: str
    """Name of the run."""

    def __call__(self, spec: EpisodeSpec) -> LiveView:
        name = f"{self.run} {spec.policy}/{spec.task}/{spec.episode}"
        return LiveView(functools.partial(connected, self.address, name), sender())


def connected(address: str, name: str) -> rr.RecordingStream:
    """Open a recording that a viewer shows."""
    import rerun as rr

    stream = rr.RecordingStream("simloop", recording_id=name)
    stream.connect_grpc(address)
    stream.send_recording_name(name)
    return stream


class LiveView(Recorder):
    """Stream one episode: images that are rendered anyway, states, actions, rewards and queries.

    Args:
      open: Opens the recording to write to; called by the thread that sends.
      to: Where messages are put.
    """

    def __init__(self, open: Callable[[], rr.RecordingStream], to: Sender):
        super().__init__()
        self._open, self._to = open, to
        self._names: tuple[str, ...] = ()
        self._reward = 0.0

    def on_reset(self, frames: CameraFrames, env: Env) -> None:
        self._names = env.spec.action_names
        self._to.offer(
            functools.partial(self._text, 0, "instruction", env.instruction() or env.spec.instruction)
        )

    def on_query(self, query: Query, reply: Reply) -> None:
        for camera, image in query.images.items():
            self._to.offer(functools.partial(self._image, query.step, camera, image))
        self._to.offer(functools.partial(self._chunk, query.step, reply.chunk.actions))

    def on_step(self, record: StepRecord) -> None:
        self._reward += record.reward
        self._to.offer(functools.partial(self._step, record.step + 1, record, self._reward))

    def on_end(self, result: RolloutResult) -> None:
        said = f"{result.ended_by} after {result.steps} steps, reward {result.reward:.4g}"
        self._to.offer(functools.partial(self._text, result.steps, "outcome", said))

    def _image(self, step: int, camera: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        import rerun as rr

        self._log(step, f"cameras/{camera}", rr.EncodedImage(contents=jpeg(image), media_type="image/jpeg"))

    def _chunk(self, step: int, chunk: Float32[np.ndarray, "t a"]) -> None:
        import rerun as rr

        self._log(step, "chunk", rr.Tensor(chunk, dim_names=("action", "entry")))

    def _step(self, step: int, record: StepRecord, total: float) -> None:
        import rerun as rr

        for name, value in zip(self._names, record.executed, strict=True):
            self._log(step, f"executed/{name}", rr.Scalars(float(value)))
        self._log(step, "reward/step", rr.Scalars(record.reward))
        self._log(step, "reward/sum", rr.Scalars(total))

    def _text(self, step: int, entity: str, text: str) -> None:
        import rerun as rr

        self._log(step, entity, rr.TextLog(text))

    @functools.cached_property
    def _stream(self) -> rr.RecordingStream:
        return self._open()

    def _log(self, step: int, entity: str, what: rr.AsComponents) -> None:
        self._stream.set_time("step", sequence=step)
        self._stream.log(entity, what)
