"""Which episodes a run was planned to play, as recorded in its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from simloop.results.records.written_policies import policy_name


@dataclass(frozen=True)
class PlannedEpisodes:
    """The plan of a run: each policy plays `episodes` episodes of each task."""

    suite: str
    policies: tuple[str, ...]
    episodes: int
    tasks: tuple[str, ...] = ()
    """Empty if the configuration does not list them; then only tasks with finished episodes are known."""
    protocol: str = ""
    """Empty if unknown."""
    stops_early: Literal["", "rule", "limit"] = ""
    """What may end the run before all episodes are played; unplayed episodes are then not missing."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PlannedEpisodes | None:
        """Read the plan from the content of a `config.json`; None if it has none.

        Uses `suite`, `policies`, `episodes`, `stopping` and `limit` of the member `experiment`, and the members
        `tasks` (full names) and `protocol`. Of runs with several protocols, it is the plan of each of them.
        """
        experiment = config.get("experiment", {})
        if not {"suite", "policies", "episodes"} <= experiment.keys():
            return None
        return cls(
            experiment["suite"],
            tuple(map(policy_name, experiment["policies"])),
            experiment["episodes"],
            tuple(config.get("tasks", ())),
            config.get("protocol", ""),
            "rule" if experiment.get("stopping") else "limit" if experiment.get("limit") else "",
        )

    def covers(self, policy: str, suite: str, protocol: str, task: str) -> bool:
        """Whether the plan holds episodes of a policy on a task."""
        return (
            policy in self.policies
            and suite == self.suite
            and self.protocol in ("", protocol)
            and (not self.tasks or task in self.tasks)
        )
