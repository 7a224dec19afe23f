import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.inference.compilation import Programs


def programs(**options) -> tuple[Programs, list]:
    traced = []

    def add(given, x):
        traced.append(x.shape)
        return x + given

    jitted = functools.partial(jax.jit(add), jnp.float32(2))
    return Programs(jitted, lambda x: f"{x.shape[0]} numbers", **options), traced


def numbers(*counts: int) -> list[tuple]:
    return [(np.arange(count, dtype=np.float32),) for count in counts]


def test_every_shape_is_compiled_once_however_often_it_is_asked_for():
    made, traced = programs()
    made.prepare(numbers(2, 3, 2))
    made.prepare(numbers(3))
    for (x,) in numbers(2, 3, 3):
        np.testing.assert_array_equal(made(x), x + 2)
    assert traced == [(2,), (3,)]
    assert len(made) == 2


def test_what_is_compiled_later_is_said_with_more_weight_once_something_was_prepared(caplog):
    caplog.set_level("INFO")
    made, _ = programs()
    made(*numbers(4)[0])
    made.prepare(numbers(5))
    made(*numbers(6)[0])
    levels = [(record.levelname, record.message.partition(",")[0]) for record in caplog.records]
    assert [one for one in levels if one[1].startswith("Compiled")] == [
        ("INFO", "Compiled the program for 4 numbers at its first call"),
        ("WARNING", "Compiled the program for 6 numbers at its first call"),
    ]


def test_options_reach_the_compiler_and_unknown_ones_are_refused():
    made, _ = programs(options={"xla_gpu_graph_min_graph_size": "1"})
    made.prepare(numbers(2))
    refused, _ = programs(options={"xla_no_such_option": "1"})
    with pytest.raises(Exception, match="xla_no_such_option"):
        refused.prepare(numbers(2, 3))
    assert len(refused) == 0
