import contextlib
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simloop.harness.remote.wire import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_LENGTH,
    WireError,
    pack,
    unpack,
    unpack_map,
)

OPENPI_FRAME = bytes.fromhex(
    "89b16f62736572766174696f6e2f696d61676584c40b5f5f6e6461727261795f5fc3c40464617461c412000102030405060708090a0b0c0d"
    "0e0f1011c4056474797065a37c7531c405736861706593020303b16f62736572766174696f6e2f737461746584c40b5f5f6e64617272617"
    "95f5fc3c40464617461c410000000000000803f0000004000004040c4056474797065a33c6634c40573686170659104a670726f6d7074af"
    "6f70656e2074686520647261776572a16e83c40d5f5f6e7067656e657269635f5fc3c40464617461cb3ff8000000000000c405647479706"
    "5a33c6634a4666c616783c40d5f5f6e7067656e657269635f5fc3c40464617461c3c4056474797065a37c6231a2626584c40b5f5f6e6461"
    "727261795f5fc3c40464617461c4083f80000040000000c4056474797065a33e6634c40573686170659102a47a65726f84c40b5f5f6e646"
    "1727261795f5fc3c40464617461c4080000000000000c40c4056474797065a33c6638c405736861706590a47465787484c40b5f5f6e6461"
    "727261795f5fc3c40464617461c4086100000062000000c4056474797065a33c5532c405736861706590a46c6973749301cb40040000000"
    "00000c0"
)
"""Recorded from openpi-client 0.1.2."""

OBSERVATION = {
    "observation/image": np.arange(18, dtype=np.uint8).reshape(2, 3, 3),
    "observation/state": np.arange(4, dtype=np.float32),
    "prompt": "open the drawer",
    "n": np.float32(1.5),
    "flag": np.bool_(True),
    "be": np.array([1, 2], ">f4"),
    "zero": np.array(3.5),
    "text": np.array("ab"),
    "list": [1, 2.5, None],
}


def equal(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or a != a)


def test_encodes_an_observation_to_the_bytes_of_openpis_client():
    assert pack(OBSERVATION) == OPENPI_FRAME


def test_decodes_the_bytes_of_openpis_client():
    found = unpack_map(OPENPI_FRAME)

    assert found.keys() == OBSERVATION.keys()
    assert found["be"].dtype == np.dtype("f4")
    assert found["be"].tolist() == [1, 2]
    assert found["text"].item() == "ab"
    assert found["n"].dtype == np.float32
    assert equal(found["observation/image"], OBSERVATION["observation/image"])


arrays = hnp.arrays(
    st.sampled_from(["|b1", "|u1", "<i2", "<i8", "<f2", "<f4", "<f8"]),
    hnp.array_shapes(max_side=4, min_dims=0),
)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | arrays
messages = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(messages, st.sampled_from(["binary", "text"]))
def test_what_is_encoded_is_decoded_to_the_same(message, keys):
    names = ("__ndarray__", "__npgeneric__", "__image__")
    if any(name in repr(message) for name in names):
        return
    assert equal(unpack(pack(message, keys)), message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81\x01\x02",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\x01\x05a",
        b"\xa1\xff",
        b"\x91" * 100_000,
        b"\x91" * (MAX_DEPTH + 2) + b"\xc0",
        msgpack.packb([[None] * (MAX_LENGTH - 1)] * (MAX_ITEMS // MAX_LENGTH + 1)),
        msgpack.packb([None] * (MAX_LENGTH + 1)),
        bytes(MAX_BYTES + 1),
    ],
    ids=range(13),
)
def test_refuses_messages_that_are_malformed_or_larger_than_the_limits(data):
    with pytest.raises(WireError):
        unpack(data)


def encoded(**changes):
    entries = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}
    entries.update({name.encode(): value for name, value in changes.items()})
    return msgpack.packb({"a": {key: value for key, value in entries.items() if value is not None}})


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O"},
        {"dtype": "<c8"},
        {"dtype": "|V8"},
        {"dtype": "<M8[ns]"},
        {"dtype": "f4,f4"},
        {"dtype": "<U99999"},
        {"dtype": 3},
        {"dtype": None},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [2**62, 2**62]},
        {"shape": [1] * 9 + [2]},
        {"shape": [True, 2]},
        {"shape": 2},
        {"shape": None},
        {"data": "text"},
        {"data": bytes(9)},
        {"data": None},
    ],
    ids=str,
)
def test_refuses_arrays_of_other_types_or_of_another_size_than_their_bytes(changes):
    with pytest.raises(WireError, match=r"rray"):
        unpack(encoded(**changes))


def test_arrays_cannot_be_written_to_and_do_not_exceed_the_message():
    array = unpack(encoded())["a"]

    assert not array.flags.writeable
    assert array.tolist() == [0, 0]


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([object()]), np.array([1j]), 2**70],
    ids=["object", "set", "array of objects", "complex array", "huge integer"],
)
def test_refuses_to_encode_what_has_no_place_in_a_message(value):
    with pytest.raises(WireError):
        pack({"a": value})


def test_decodes_images_of_vla_evaluation_harness():
    from io import BytesIO

    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    png = BytesIO()
    Image.fromarray(image).save(png, "PNG")

    for form, data in (("png", png.getvalue()), ("raw", image.tobytes())):
        entries = {"__image__": True, "format": form, "data": data, "shape": [4, 6, 3]}
        assert equal(unpack(msgpack.packb({"a": entries}))["a"], image)
    with pytest.raises(WireError, match="cannot be decoded as png"):
        unpack(msgpack.packb({"__image__": True, "format": "png", "data": b"GIF89a"}))


@pytest.mark.parametrize(
    "data",
    [
        b"\xdc\x10\x00" * 1000,  # Lists within lists, for all of whose entries room is made.
        b"\xdc\x10\x00" + (b"\xdc\x10\x00" + b"\x80" * 4096) * 5,  # Empty maps are 64 times their message.
        b"\xde\x10\x00" * 1000,
        msgpack.packb([b"", "", 1.5] * 1000),
    ],
    ids=["deep", "wide", "maps", "entries"],
)
def test_no_message_takes_more_memory_than_its_bytes_and_a_constant(data):
    tracemalloc.start()
    try:
        with contextlib.suppress(WireError):
            unpack(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < len(data) + (40 << 20)
