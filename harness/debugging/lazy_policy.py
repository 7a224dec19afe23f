"""Policies that are loaded when they are first asked."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from simloop.harness.planning.policy_names import load_policy, parse
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.loop import ask_here
from simloop.policies.interface import BatchedPolicy, Policy, PolicySpec, Query, batched
from simloop.policies.transforms.normalization import NormStats

if TYPE_CHECKING:
    from simloop.policies.explaining.base import Explainer


class LazyPolicy:
    """A policy that is loaded and compiled at its first query.

    Args:
      spec: Its interface, where the folder of its weights may be missing.
    """

    def __init__(
        self, policy: str | Policy | BatchedPolicy, batch_size: int = 1, spec: PolicySpec | None = None
    ):
        self._given = policy
        self._spec = spec
        self.batch_size = batch_size
        self._explainers: dict[int, Explainer] = {}

    @cached_property
    def spec(self) -> PolicySpec:
        """Interface of the policy, known before its weights are read."""
        if self._spec is not None:
            return self._spec
        return parse(self._given).spec() if isinstance(self._given, str) else self._given.spec

    @cached_property
    def _loaded(self) -> BatchedPolicy:
        if not isinstance(self._given, str):
            return batched(self._given)
        return load_policy(self._given)

    def explainer(self, draws: int) -> Explainer:
        """Explainer of the policy; a named one is loaded a second time, with its weights in the published layout.

        Raises:
          ExplanationError: If it is none of the pi0 family.
        """
        if draws not in self._explainers:
            from simloop.harness.debugging.explaining import explainer_of  # Episodes import policies.

            self._explainers[draws] = explainer_of(
                parse(self._given) if isinstance(self._given, str) else self._given, draws
            )
        return self._explainers[draws]

    @property
    def stats(self) -> NormStats:
        """Normalization statistics by `state` and `actions`; empty for a policy without."""
        stats: NormStats = getattr(self._loaded, "stats", {})
        return stats

    def ask(self, query: Query) -> Reply:
        """Answer a query, in a batch of the size with which a run would answer it."""
        in_worker = self.spec.runs_in == "worker"
        return ask_here(self._loaded, query, batch_size=self.batch_size if in_worker else 1)
