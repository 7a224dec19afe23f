"""Prepare a process for ManiSkill on CPUs. Needs nothing of simloop but this file.

The files of suites beside it import it by this name, because the server of a suite can import what lies beside it.
"""

import glob
import importlib
import logging
import os
import sys


def prepare() -> None:
    """Choose the driver that `scripts/setup_vulkan` unpacked, if it did; keep to one thread; register the tasks."""
    if drivers := glob.glob(os.path.join(sys.prefix, "mesa/usr/share/vulkan/icd.d/lvp_icd*.json")):
        os.environ.setdefault("VK_ICD_FILENAMES", drivers[0])
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's threads cost more processor time than they save.
    importlib.import_module("torch").set_num_threads(1)
    importlib.import_module("mani_skill.envs")
    logging.getLogger("mani_skill").setLevel(logging.ERROR)
