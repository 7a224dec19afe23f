"""One row per episode: the schema that the harness writes and everything else reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["success", "failure", "error"]
EndedBy = Literal["success", "step_limit", "undecodable", "error"]


@dataclass(frozen=True)
class EpisodeRecord:
    """What one episode came to.

    An episode is fixed by (suite, protocol, task, episode, seed); with the policy that is the key
    under which it is counted exactly once.
    """

    policy: str
    weights: str
    """`scripted`, `untrained` or `trained`: no table shows an untrained policy without saying so."""
    suite: str
    protocol: str
    task: str
    episode: int
    """0-based number of the episode within its task."""
    seed: int
    """Seed of the initial state; the same for every policy, so that episodes are paired."""
    outcome: Outcome
    """An `error` is a fault of the software or machine and is never counted as a failure in silence."""
    ended_by: EndedBy
    steps: int
    """Control steps executed."""
    queries: int
    """Inferences made."""
    undecodable: int
    """Queries whose tokens spelled no valid action chunk."""
    reward: float
    """Sum of the suite's rewards."""
    attempts: int
    """1, or more where earlier attempts ended in an error."""
    error: str
    """What went wrong, for outcome `error`; empty otherwise."""
    actions_sha256: str
    """Hash of all executed actions (float32, little-endian, in order)."""
    final_state_sha256: str
    """Hash of the simulator's state at the end (float64, little-endian)."""
    wall_s: float
    """Seconds from reset to the end, waiting included."""
    video: str
    """Path of the video within the run folder; empty where none was wanted."""


@dataclass(frozen=True)
class QueryRecord:
    """The latency of one inference by stage, in milliseconds, measured after the device has finished.

    total = render + adapt + transport + queue + host + device + post, up to rounding.
    """

    index: int
    """0-based number of the query within its episode."""
    render_ms: float
    """Drawing the cameras."""
    adapt_ms: float
    """From the suite's observation to the policy's query, and back."""
    transport_ms: float
    """Both ways between simulator and policy worker; 0 where the policy runs beside the simulator."""
    queue_ms: float
    """Waiting for the device to be free."""
    host_ms: float
    """Resizing, normalising, tokenising, padding."""
    device_ms: float
    """Copies and the model, until the results have arrived."""
    post_ms: float
    """Unnormalising and decoding of actions."""
    total_ms: float
    """From the wish to act to actions in hand."""
    batch: int
    """Queries that shared the call."""
    bucket: int
    """Rows of the compiled call, padding included."""
