import json

import numpy as np
import pytest

from simloop.harness.planning.delay import Delay, DelayError, steps_of


@pytest.mark.parametrize(
    ("text", "control_hz", "steps"),
    [
        ("0", 20.0, 0),
        ("3", 80.0, 3),
        ("50ms", 20.0, 1),
        ("51ms", 20.0, 2),
        ("150ms", 20.0, 3),
        ("73ms", 80.0, 6),
    ],
)
def test_times_become_control_steps_rounded_up(text, control_hz, steps):
    assert Delay.parse(text).steps(control_hz, key=7) == steps


def test_rounding_of_floats_adds_no_step():
    assert steps_of(0.15, 20.0) == 3
    assert steps_of(0.0, 20.0) == 0


@pytest.mark.parametrize("text", ["-1", "2.5", "nan", "inf", "50 s", "", "measured:nowhere.json"])
def test_other_delays_are_refused(text):
    with pytest.raises(DelayError):
        Delay.parse(text)


def test_measured_delays_follow_the_listed_latencies_and_the_key_of_the_query_alone(tmp_path):
    latencies = np.random.default_rng(0).gamma(4.0, 20.0, 500)
    (tmp_path / "gpu.json").write_text(json.dumps(latencies.tolist()))
    delay = Delay.parse(f"measured:{tmp_path / 'gpu.json'}")
    drawn = [delay.milliseconds(key) for key in range(4000)]
    assert [delay.milliseconds(key) for key in range(4000)] == drawn
    for percentile in (10, 50, 90, 99):
        np.testing.assert_allclose(
            np.percentile(drawn, percentile), np.percentile(latencies, percentile), rtol=0.06
        )
    assert max(drawn) <= latencies.max() + 0.001
    assert str(delay).startswith("measured-gpu-")


def test_a_file_without_latencies_is_refused_by_name(tmp_path):
    for content in ("[]", '["fast"]', "{}", "[-1]"):
        (tmp_path / "latencies.json").write_text(content)
        with pytest.raises(DelayError, match=r"latencies\.json holds no latencies"):
            Delay.parse(f"measured:{tmp_path / 'latencies.json'}")
