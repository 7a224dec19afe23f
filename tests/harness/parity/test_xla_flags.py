import subprocess
import sys

import pytest

from simloop.harness.parity.xla_flags import OWN_KERNELS, use_recorded_rounding, xla_starts_with


def test_appends_the_flag_to_given_flags():
    environ = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}
    assert use_recorded_rounding(environ, accepts=lambda flags: True)
    assert environ == {"XLA_FLAGS": f"--xla_cpu_enable_fast_math=false {OWN_KERNELS}"}


def test_keeps_a_given_flag_for_ynnpack():
    environ = {"XLA_FLAGS": f"{OWN_KERNELS}LIBRARY_FUSION_TYPE_DOT"}
    assert not use_recorded_rounding(environ, accepts=lambda flags: True)
    assert environ == {"XLA_FLAGS": f"{OWN_KERNELS}LIBRARY_FUSION_TYPE_DOT"}


def test_omits_a_flag_that_xla_does_not_know():
    environ: dict[str, str] = {}
    assert not use_recorded_rounding(environ, accepts=lambda flags: False)
    assert environ == {}


def test_detects_an_unknown_flag_in_another_process():
    assert xla_starts_with("")
    assert not xla_starts_with("--xla_no_such_option=true")


@pytest.mark.slow
def test_the_flag_takes_effect_after_the_parity_modules_are_imported():
    started = (
        "import simloop.harness.parity.runner, os\n"
        "os.environ['XLA_FLAGS'] = '--xla_no_such_option=true'\n"
        "import jax; jax.devices()"
    )
    ended = subprocess.run([sys.executable, "-c", started], capture_output=True, text=True, check=False)
    assert "xla_no_such_option" in ended.stderr
