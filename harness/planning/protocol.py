"""Evaluation protocols: the rules of an episode that affect a success rate and are not part of the policy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from simloop.envs.interface import RenderSettings
from simloop.envs.plugins import Registry
from simloop.harness.errors import SimloopError
from simloop.harness.planning.execution import Execution
from simloop.harness.planning.own_suites import own_suite_identity
from simloop.harness.planning.paraphrases import Paraphrases
from simloop.harness.planning.perturbation import Perturbation, in_order, strengths_of
from simloop.results.records.execution_labels import execution_label
from simloop.results.records.perturbation_kinds import KINDS, perturbed_label
from simloop.results.records.prompt_labels import prompted_label


class ProtocolError(SimloopError):
    """Raised for rules that no episode can follow, and for protocols that do not exist."""


def _several(written: Any) -> Any:
    """The perturbations of a file: none, one, or a list of several."""
    return () if written is None else written if isinstance(written, list | tuple) else (written,)


@dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation. Results under different protocols never share a table column."""

    suite: str
    name: str = "default-v1"
    """Name with version, as in `PROTOCOLS`."""
    render: RenderSettings = field(default_factory=RenderSettings)
    replan_steps: int = 10
    """Actions of a chunk to execute before the next query; at most the whole chunk."""
    max_steps: int | None = None
    """Step limit of an episode, in control steps; None for the limit of the task."""
    undecodable: Literal["end_episode", "hold"] = "end_episode"
    """How an episode continues after tokens that do not decode to a chunk: it ends as a failure, or the robot
    executes zero actions until the next query. Undecodable answers are counted either way."""
    perturbations: Annotated[
        tuple[Perturbation, ...], Field(validation_alias="perturbation"), BeforeValidator(_several)
    ] = ()
    """Perturbations of the scene, observations, instructions and actions, at most one of a kind."""
    execution: Execution = field(default_factory=Execution)
    """Delay of the policy's answers, and the actions that are executed meanwhile; by default the world stands still."""
    prompt_source: str = "suite"
    """Which of a task's instructions the policy receives, by source; `suite` leaves the choice to the suite."""
    adapter: str = ""
    """Name and hash of the file whose adapter replaces the registered one; empty for none."""
    paraphrases: Paraphrases | None = None
    """Wordings of instructions for the perturbation `paraphrase`; None for the templates of simloop."""
    own_suite: str = ""
    """Identity of a suite of one's own, with the arguments that shape its tasks; empty for registered suites."""

    def __post_init__(self) -> None:
        """Sort the perturbations, and raise `ProtocolError` for step counts below 1."""
        object.__setattr__(self, "perturbations", in_order(self.perturbations))
        if self.replan_steps < 1:
            raise ProtocolError(f"replan_steps must be at least 1; got {self.replan_steps}.")
        if self.max_steps is not None and self.max_steps < 1:
            raise ProtocolError(f"max_steps must be at least 1; got {self.max_steps}.")

    def to_dict(self) -> dict[str, Any]:
        """The rules as plain values; those of later versions only where they are used."""
        rules = dataclasses.asdict(self)
        perturbations = rules.pop("perturbations")
        rules["perturbation"] = perturbations if len(perturbations) > 1 else next(iter(perturbations), None)
        unused = {name for name in ("adapter", "own_suite", "paraphrases") if not rules[name]}
        unused |= {"execution"} if self.execution.frozen else set()
        if not self.render.camera_positions:
            del rules["render"]["camera_positions"]
        unused |= {"prompt_source"} if self.prompt_source == "suite" else set()
        return {name: rule for name, rule in rules.items() if name not in unused}

    @property
    def sha256(self) -> str:
        """Hash of all rules."""
        rules = self.to_dict()
        single = isinstance(rules["perturbation"], dict)
        for rule in [rules["perturbation"]] if single else rules["perturbation"] or ():
            if (version := KINDS[rule["kind"]].version) > 1:
                rule["version"] = version
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name of the protocol in records and tables, e.g. `metaworld/default-v1`.

        Rules that differ from those of the named protocol add the start of their hash, perturbations and an adapter
        file their names: `metaworld/default-v1, naive at 3 with camera-noise-v2=0.1`.
        """
        if self.perturbations or self.paraphrases:
            base = dataclasses.replace(self, perturbations=(), paraphrases=None).label
            sources = {"paraphrase": self.paraphrases.identity} if self.paraphrases else {}
            strengths = strengths_of(self.perturbations)
            return perturbed_label(base, strengths, sources) if strengths else base
        if self.adapter:
            return f"{dataclasses.replace(self, adapter='').label} with adapter {self.adapter}"
        if self.own_suite:
            own = "" if self.own_suite == self.suite else f" with suite {self.own_suite}"
            return f"{dataclasses.replace(self, own_suite='').label}{own}"
        if not self.execution.frozen:
            frozen = dataclasses.replace(self, execution=Execution())
            return execution_label(frozen.label, str(self.execution))
        if self.prompt_source != "suite":
            return prompted_label(dataclasses.replace(self, prompt_source="suite").label, self.prompt_source)
        key = f"{self.suite}/{self.name}"
        named = PROTOCOLS[key] if key in PROTOCOLS else Protocol(self.suite, self.name)
        return key if self == named else f"{key}+{self.sha256[:8]}"


DEFAULT = "default-v1"


def _key(protocol: Protocol) -> str:
    return f"{protocol.suite}/{protocol.name}"


_PROTOCOLS = (
    # The protocols of simloop: small images, and a replan interval for chunks of ten actions and more.
    Protocol("metaworld"),
    Protocol("libero", render=RenderSettings("fast", 256, 256)),
    Protocol("aloha_sim", render=RenderSettings("fast", 240, 320)),
    Protocol("robosuite"),
    Protocol("maniskill"),
    Protocol("simpler_bridge", render=RenderSettings("official", 480, 640), replan_steps=5),
    Protocol("robocasa", render=RenderSettings("official", 256, 256), replan_steps=5),
    Protocol("molmospaces", render=RenderSettings("official", 352, 624), replan_steps=8),
    # openpi, examples/libero/main.py. The suite takes the initial states, settling steps, step limits and the seed of
    # the fixtures from there, the adapter the orientation of images and gripper.
    Protocol("libero", "openpi-v1", RenderSettings("official", 256, 256), replan_steps=5),
    # LIBERO-PRO, with the rules of its evaluation, which are those of openpi.
    Protocol("libero_pro", render=RenderSettings("fast", 256, 256)),
    Protocol("libero_pro", "libero-pro-v1", RenderSettings("official", 256, 256), replan_steps=5),
    # LIBERO-plus, whose evaluation is LIBERO's with one episode for each variant; here by the rules of openpi.
    Protocol("libero_plus", render=RenderSettings("fast", 256, 256)),
    Protocol("libero_plus", "libero-plus-v1", RenderSettings("official", 256, 256), replan_steps=5),
    # openpi, examples/aloha_sim: gymnasium truncates gym-aloha's episodes after 300 steps.
    Protocol("aloha_sim", "openpi-v1", RenderSettings("official", 480, 640), replan_steps=10, max_steps=300),
    # The model card of ALAM + pi0: five actions of a horizon of six are played, and the camera stands 5 cm nearer to
    # the table than LeRobot's. What the card does not state is as in LeRobot.
    Protocol(
        "metaworld",
        "alam-v1",
        RenderSettings("official", 480, 480, camera_positions=(("corner4", (0.70, 0.075, 0.70)),)),
        replan_steps=5,
    ),
    # LeRobot, src/lerobot/envs/metaworld.py: one camera, which this suite calls `corner4` and renders upright. LeRobot
    # leaves the number of executed actions to the policy; 10 is the choice of this protocol.
    Protocol("metaworld", "lerobot-v1", RenderSettings("official", 480, 480), replan_steps=10),
)

PROTOCOLS: Registry[Protocol] = Registry(
    "simloop.protocols", Protocol, {_key(protocol): protocol for protocol in _PROTOCOLS}, name_of=_key
)
"""Protocols by `SUITE/NAME`. The rules of a name never change: other rules get a new version."""


def named_protocol(suite: str, name: str = DEFAULT) -> Protocol:
    """The protocol of that name for a suite; suites of one's own need not register `default-v1`.

    Raises:
      ProtocolError: If there is none.
    """
    if (own := own_suite_identity(suite)) and name == DEFAULT and f"{suite}/{name}" not in PROTOCOLS:
        return Protocol(suite, own_suite=own)
    if f"{suite}/{name}" in PROTOCOLS and own:
        return dataclasses.replace(PROTOCOLS[f"{suite}/{name}"], own_suite=own)
    if f"{suite}/{name}" in PROTOCOLS:
        return PROTOCOLS[f"{suite}/{name}"]
    known = [key.removeprefix(f"{suite}/") for key in PROTOCOLS if key.startswith(f"{suite}/")]
    raise ProtocolError(f"Suite {suite!r} has no protocol {name!r}; it has {', '.join(known) or 'none'}.")
