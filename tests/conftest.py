"""Shapes and types of everything under test are checked while it runs."""

from jaxtyping import install_import_hook

_HOOK = install_import_hook(["harness", "policies", "envs", "results"], "beartype.beartype")
