"""Protocol labels of forks, which keep them apart from episodes that were played from their beginning."""

from __future__ import annotations

import re
from typing import NamedTuple


class ForkLabel(NamedTuple):
    """Parts of the protocol label of a fork."""

    protocol: str
    """Label of the recorded episode's protocol."""
    source: str
    """The recorded episode, as POLICY/TASK/NUMBER."""
    query: int
    """Query before which the fork left it."""
    changes: str
    """What was changed, as options; empty for nothing."""


def fork_label(protocol: str, source: str, query: int, changes: str) -> str:
    """Return the protocol label of forks: `metaworld/default-v1 from pi0-tiny/reach-v3/2 at query 7, noise-seed=3`."""
    label = f"{protocol} from {source} at query {query}"
    return f"{label}, {changes}" if changes else label


_LABEL = re.compile(r"(.+?) from (.+?) at query (\d+)(?:, (.*))?", re.DOTALL)


def parse_fork_label(label: str) -> ForkLabel | None:
    """Read what `fork_label` wrote; None for the label of other episodes."""
    match = _LABEL.fullmatch(label)
    return match and ForkLabel(match[1], match[2], int(match[3]), match[4] or "")
