"""Choose the explainer of a policy."""

from __future__ import annotations

from simloop.policies.explaining.base import DRAWS, Explainer
from simloop.policies.explaining.flow_explainer import FlowExplainer
from simloop.policies.explaining.token_explainer import TokenExplainer
from simloop.policies.inference.model_policy import ModelPolicy


def explainer(policy: ModelPolicy, draws: int = DRAWS) -> Explainer:
    """Return the explainer of a policy, which must have been loaded with `keep_model`."""
    return (TokenExplainer if policy.tokenizers.answer is not None else FlowExplainer)(policy, draws)
