"""Shapes and types of everything under test are checked while it runs."""

from hypothesis import settings
from jaxtyping import install_import_hook

_HOOK = install_import_hook(["simloop"], "beartype.beartype")

# How long an example takes says something about the machine, nothing about the code.
settings.register_profile("simloop", deadline=None)
settings.load_profile("simloop")
