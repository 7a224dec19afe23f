"""Code and servers of recorded runs: used again only where the user names them, and with the recorded content.

What a run folder says is text from elsewhere: that it names a file, a module or an address gives no right to execute
or contact it. Commands that play episodes of a run again take `--code`, the policies and suites that the user
vouches for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar

from simloop.harness.errors import SpecificationError
from simloop.harness.planning.own_suites import own_suite_identity, resolve_suite, use_source
from simloop.harness.planning.policy_sources import is_specification, resolve
from simloop.harness.planning.protocol import Protocol
from simloop.results.records.written_policies import policy_identity, split_name

_vouched: ContextVar[tuple[str, ...]] = ContextVar("vouched", default=())


def vouched() -> tuple[str, ...]:
    """What `vouch_for` was given in this process."""
    return _vouched.get()


def vouch_for(written: Iterable[str]) -> None:
    """Allow these policies and suites, written as for `simloop run`, to be used where runs name them."""
    _vouched.set(tuple(written))


def policy_here(written: str, recorded: Mapping[str, str], run: str) -> str:
    """A policy of a run as it is to be loaded here.

    Args:
      written: The policy, as the run folder has it.
      recorded: Its fingerprint in the provenance of the run.
      run: The run, for messages.

    Returns:
      Registered policies as they are; a specification with the file that was vouched for.

    Raises:
      SpecificationError: If it was not vouched for, or has another content than in the run.
    """
    name, policy = split_name(written)
    if not is_specification(policy):
        return written
    given = _matching(policy, vouched())
    if given is None:
        raise SpecificationError(
            f"{run} was played with a policy of its own, {policy}. To use it here, name it: --code {policy}"
        )
    hashes = resolve(given).fingerprint()
    if changed := sorted(part for part, value in hashes.items() if recorded.get(part, value) != value):
        raise SpecificationError(
            f"{given} is not what {run} was played with: {', '.join(changed)} has another hash. Restore the file, or "
            "play the episodes again into another run folder."
        )
    return given if policy == written else f"{name}={given}"


def use_own_suite_of(protocol: Protocol, run: str) -> None:
    """Make the suite of a run available, if it is one of its own.

    Raises:
      SpecificationError: If it was not vouched for, or has another content than in the run.
    """
    if not protocol.own_suite or own_suite_identity(protocol.suite) == protocol.own_suite:
        return
    sources = list(filter(None, map(resolve_suite, vouched())))
    for source in sources:
        if source.identity == protocol.own_suite:
            use_source(source)
            return
    given = ", ".join(source.identity for source in sources) or "none"
    raise SpecificationError(
        f"{run} was played in a suite of its own, {protocol.own_suite}; got {given}. Name that suite, with the same "
        "content, after --code, as it was written after --suite."
    )


def _matching(policy: str, given: Sequence[str]) -> str | None:
    """The first that agrees with a policy in everything but its folder."""
    wanted = policy_identity(f"x={policy}")
    return next((other for other in given if policy_identity(f"x={other}") == wanted), None)
