"""`simloop serve`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from simloop.harness.commands.options import FLAT, arg, say
from simloop.policies.interface import GuidanceMethod


@dataclass(frozen=True)
class ServeOptions:
    """Options of `simloop serve`."""

    port: Annotated[int, arg("N")] = 8000
    """Port to listen at; 0 for any free one."""
    host: Annotated[str, arg("ADDRESS")] = "127.0.0.1"
    """Address to listen at. One that other machines reach needs a token in the environment variable SIMLOOP_API_KEY."""
    no_token: Annotated[bool, arg("")] = False
    """Answer everyone who reaches the address, without a token."""
    protocol: Literal["openpi", "vla-eval"] = "openpi"
    """What clients speak: openpi's policy client, or vla-evaluation-harness."""
    batch_size: Annotated[int, arg("N")] = 8
    """Rows of a call; queries of several clients share one, and unused rows are padded."""
    throughput: bool = False
    """Choose batch sizes by measurement, and let them follow the number of waiting queries."""
    replan_steps: Annotated[int | None, arg("N", "those of the preset")] = None
    """With vla-eval, whose clients take single actions: actions of a chunk before the policy is asked again."""
    guidance: Annotated[tuple[GuidanceMethod, ...], arg("{full,identity,trained} [...]", "none")] = ()
    """Methods of real-time chunking that clients may ask for: those of the executions rtc (full), rtc-identity and
    rtc-trained. Each is compiled."""
    seed: Annotated[int, arg("S")] = 0
    """Root of the noise in answers to clients that send no keys."""
    max_connections: Annotated[int, arg("N")] = 256
    """Clients at once; further ones are refused."""


def command(
    policy: Annotated[Positional[str], arg("POLICY[@DIR]")], options: Annotated[ServeOptions, FLAT]
) -> int:
    """Serve a policy to robots and other programs over websockets.

    Examples:

      simloop serve pi05_libero@/ckpt/pi05_libero            for openpi-client at ws://127.0.0.1:8000

      simloop serve pi0-tiny --protocol vla-eval --port 8001

      SIMLOOP_API_KEY=... simloop serve pi05_droid@/ckpt/pi05_droid --host 0.0.0.0

    GET /healthz answers OK as soon as the policy can answer, and GET /metrics has figures for Prometheus. Ctrl-C or
    SIGTERM end the server after the answers that are under way.

    Args:
      policy: Policy (simloop list policies), or PRESET@DIR for the weights of a checkpoint.
    """
    from simloop.harness.planning.policy_names import parse
    from simloop.harness.serving.batch_sizes import THROUGHPUT
    from simloop.harness.serving.policy_service import convention_of
    from simloop.harness.serving.serve import Serving, make_ready, serve
    from simloop.harness.serving.websocket_server import Listening, require_protected
    from simloop.policies.models.inference_plan import InferencePlan
    from simloop.policies.presets import PRESETS

    token = None if options.no_token else os.environ.get("SIMLOOP_API_KEY") or None
    listening = Listening(options.host, options.port, token, options.max_connections)
    require_protected(listening, without_token=options.no_token)
    named = parse(policy)
    convention_of(named.spec())
    say(f"Loading and compiling {policy} ...")
    named.require_weights()
    loaded = named.load(InferencePlan(guidance=(None, *options.guidance)))
    replan_steps = options.replan_steps or (
        PRESETS[named.base].replan_steps if named.base in PRESETS else None
    )
    batch_sizes = THROUGHPUT if options.throughput else (options.batch_size,)
    serving = Serving(options.protocol, batch_sizes, options.seed, options.guidance, replan_steps)
    ready = make_ready(loaded, serving)

    def announce(address: str) -> None:
        access = "clients need the token" if token else "without a token"
        say(
            f"Serving {policy} ({loaded.spec.weights}) on {loaded.device()} to {options.protocol} clients at "
            f"ws://{address}, {access}, in batches of {', '.join(map(str, ready.batch_sizes))}. Ctrl-C ends."
        )
        if options.no_token and options.host != "127.0.0.1":
            say("--no-token: every machine that reaches this address can query the policy.")

    serve(ready, listening, announce)
    say("Ended; every answer under way was sent.")
    return 0
