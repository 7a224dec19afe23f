"""Policies as written on the command line and kept in run folders: `[NAME=]POLICY`, read as text alone.

POLICY is a name with an optional folder of weights (`pi0_libero@FOLDER`), code (`my_policy.py:MyPolicy?horizon=10`) or
an address (`openpi://HOST:PORT`). Nothing is looked up, opened or imported here.
"""

from __future__ import annotations

import re

CODE = re.compile(
    r"(?P<module>[^?]+\.py|[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_]\w*)(?P<arguments>\?.*)?", re.DOTALL
)
"""`FILE.py:ATTRIBUTE` or `PACKAGE.MODULE:ATTRIBUTE`, with arguments `?KEY=VALUE&KEY=VALUE`."""


def split_name(written: str) -> tuple[str, str]:
    """Split a written policy into its name in records and the policy itself.

    Without `NAME=`, code is named after its attribute and arguments, and everything else as it is written.
    """
    name, equals, policy = written.partition("=")
    if equals and not set(name) & set("@?:"):
        return name, policy
    if code := CODE.fullmatch(written):
        return code["attribute"] + (code["arguments"] or ""), written
    return written, written


def policy_name(written: str) -> str:
    """Name of a written policy in records and tables."""
    return split_name(written)[0]


def code_without_folder(policy: str) -> str:
    """Code without the folder of its file, for a policy written without `NAME=`; empty for other policies."""
    code = CODE.fullmatch(policy)
    if code is None:
        return ""
    return f"{code['module'].rpartition('/')[2]}:{code['attribute']}{code['arguments'] or ''}"


def policy_identity(written: str) -> str:
    """A written policy without the place of its checkpoint or file.

    Two runs that agree in it played the same policy if the fingerprints in their provenance agree as well: a
    checkpoint or a file is identified by its content, wherever it lies.
    """
    name, policy = split_name(written)
    if code := code_without_folder(policy):
        return f"{name}={code}"
    base, _, folder = policy.partition("@")
    if name == written or not base or ":" in base:
        return written
    return f"{name}={base}@random" if folder == "random" else f"{name}={base}"
