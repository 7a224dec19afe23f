"""The outcome of one rollout."""

from __future__ import annotations

from dataclasses import dataclass, field

from simloop.harness.planning.plan import EpisodeSpec
from simloop.policies.interface import PolicySpec
from simloop.results.records.records import EndedBy, EpisodeRecord, QueryRecord


@dataclass
class RolloutResult:
    """What one completed rollout yields; the number of attempts is added by `record`."""

    ended_by: EndedBy = "step_limit"
    prompt_source: str = ""
    """Where the instruction of the episode is written."""
    steps: int = 0
    """Control steps executed."""
    undecodable: int = 0
    """Chunks without actions because their tokens could not be decoded."""
    reward: float = 0.0
    """Sum over all steps, in the suite's units."""
    queries: list[QueryRecord] = field(default_factory=list)
    """Latencies of every policy query, in order."""
    actions_sha256: str = ""
    """Hash of the executed actions as little-endian float32."""
    final_state_sha256: str = ""
    """Hash of `Env.snapshot` after the last step as little-endian float64."""
    held: int = 0
    """Control steps at which the robot held still because no chunk had an action."""
    age_steps: float = 0.0
    """Mean number of control steps between the observation and the execution of an action."""
    jerk: float = 0.0
    """As in `simloop.harness.rollout.motion.Motion`, as is `seam_jump`."""
    seam_jump: float = 0.0
    renders: int = 0
    """Camera images rendered, for the policy and for observers."""
    wall_s: float = 0.0

    def record(
        self, spec: EpisodeSpec, policy: PolicySpec, *, attempts: int, video: str, max_steps: int = 0
    ) -> EpisodeRecord:
        """Return the episode's row of the ledger."""
        return EpisodeRecord(
            policy=spec.policy,
            weights=policy.weights,
            suite=spec.suite,
            protocol=spec.protocol,
            task=spec.task,
            episode=spec.episode,
            seed=spec.seed,
            outcome="success" if self.ended_by == "success" else "failure",
            ended_by=self.ended_by,
            steps=self.steps,
            queries=len(self.queries),
            undecodable=self.undecodable,
            reward=self.reward,
            attempts=attempts,
            error="",
            actions_sha256=self.actions_sha256,
            final_state_sha256=self.final_state_sha256,
            wall_s=self.wall_s,
            video=video,
            max_steps=max_steps,
            held=self.held,
            age_steps=self.age_steps,
            jerk=self.jerk,
            seam_jump=self.seam_jump,
            prompt_source=self.prompt_source,
        )
