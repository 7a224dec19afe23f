"""Prepare a process for ManiSkill on CPUs. Needs nothing of simloop but this file.

The files of suites beside it import it by this name, because the server of a suite can import what lies beside it.
"""

import glob
import importlib
import logging
import os
import sys


def prepare() -> None:
    """Choose the driver, keep to one thread, and register the tasks."""
    _choose_driver()
    importlib.import_module("torch").set_num_threads(1)
    importlib.import_module("mani_skill.envs")
    logging.getLogger("mani_skill").setLevel(logging.ERROR)


def _choose_driver() -> None:
    """Have SAPIEN use the Vulkan driver that `scripts/setup_vulkan` unpacked, if it did."""
    if drivers := glob.glob(os.path.join(sys.prefix, "mesa/usr/share/vulkan/icd.d/lvp_icd*.json")):
        os.environ.setdefault("VK_ICD_FILENAMES", drivers[0])
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's threads cost more processor time than they save.


if __name__ == "__main__":  # Name the device that draws.
    _choose_driver()
    summary: str = importlib.import_module("sapien").render.get_device_summary()
    print("Vulkan / " + summary.splitlines()[0].removeprefix("GPU: "))
