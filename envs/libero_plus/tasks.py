"""Tables of the tasks of suite `libero_plus`: the published variants and the unchanged tasks.

Importing this module needs neither LIBERO nor MuJoCo.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from simloop.envs.interface import Instruction, TaskSpec
from simloop.envs.libero.tasks import GROUP_OF_TASK, GROUPS, filename_instruction, libero_task
from simloop.envs.libero_plus.paraphrases import sentences
from simloop.envs.libero_plus.variants import AXES, GROUPS_VARIED, Variant, published_variants

SUITE = "libero_plus"
UNCHANGED = "original"
"""Name in groups of the tasks without a change."""
NEED_ASSETS = frozenset({"light", "background", "layout"})
"""Axes of the benchmark whose variants need files that are published elsewhere."""


def instructions(variant: Variant, paraphrase: str | None) -> tuple[Instruction, ...]:
    """Instructions of a variant: the clean one, and the one that published evaluations give to the policy.

    These read the sentence from the name of the file, which states the change: `... view 0 0 100 2 352 initstate 0`.
    Only other wordings are read from BDDL files.

    Args:
      paraphrase: Sentence of the axis `language`, None elsewhere.
    """
    told = re.sub(r"^[A-Z_]+SCENE\d+_", "", variant.name).replace("_", " ")
    return (
        Instruction("clean", paraphrase or filename_instruction(variant.task)),
        Instruction("published", paraphrase or told),
    )


@cache
def plus_tasks(root: Path | None) -> tuple[TaskSpec, ...]:
    """Every task: the unchanged ones, then the variants by group and axis.

    Args:
      root: Folder of LIBERO-plus's files; without it there are no tasks of the axis `language`.
    """
    wordings = {} if root is None else sentences(root)
    every = (
        *(Variant(task) for group in GROUPS_VARIED for task in GROUPS[group]),
        *(one for variants in published_variants().values() for one in variants),
    )
    return tuple(
        libero_task(SUITE, one.name, GROUP_OF_TASK[one.task], instructions(one, wordings.get(one)))
        for one in every
        if one.axis != "language" or one in wordings
    )


@cache
def plus_groups(with_language: bool) -> dict[str, tuple[str, ...]]:
    """Names of tasks by `GROUP_AXIS`, and by axis over all groups."""
    named: dict[tuple[str, str], tuple[str, ...]] = {
        **{(group, UNCHANGED): GROUPS[group] for group in GROUPS_VARIED},
        **{key: tuple(one.name for one in variants) for key, variants in published_variants().items()},
    }
    axes = [UNCHANGED, *(axis for axis in AXES if axis != "language" or with_language)]
    parts = {f"{group}_{axis}": named[group, axis] for group in GROUPS_VARIED for axis in axes}
    whole = {axis: tuple(name for group in GROUPS_VARIED for name in named[group, axis]) for axis in axes}
    return parts | whole
