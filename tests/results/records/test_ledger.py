"""Promises of the files that only grow."""

import json
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simloop.results.records.ledger import (
    LedgerError,
    TornTail,
    decode_line,
    encode_line,
    read_lines,
    repair_tail,
)

scalars = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
)
payloads = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "checksum"),
    st.one_of(scalars, st.lists(scalars, max_size=3)),
    min_size=1,
    max_size=4,
)
on_files = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PAYLOAD = {"policy": "π₀ \udc80", "task": "reach-v3", "episode": 3, "reward": -0.125, "queries": [1, 2]}


@given(payloads)
def test_lines_say_what_was_written(payload):
    line = encode_line(payload)
    assert line.isascii()
    assert line.index("\n") == len(line) - 1
    assert decode_line(line, "line") == payload
    assert list(decode_line(line, "line")) == list(payload)


def test_a_line_is_plain_json_with_its_checksum_last():
    line = encode_line({"task": "reach-v3", "episode": 0})
    assert line.startswith('{"task": "reach-v3", "episode": 0, "checksum": "')
    assert list(json.loads(line)) == ["task", "episode", "checksum"]


def test_the_format_of_lines_does_not_change():
    # A ledger of an earlier version must stay readable.
    line = '{"task": "reach-v3", "episode": 0, "checksum": "0d5a1222a3b214cd"}\n'
    assert decode_line(line, "line") == {"task": "reach-v3", "episode": 0}


@pytest.mark.parametrize(
    "payload", [{}, {"checksum": "0"}, {"reward": float("nan")}, {"reward": float("inf")}]
)
def test_payloads_without_a_faithful_line_are_refused(payload):
    with pytest.raises(ValueError):  # noqa: PT011  (json's own message for numbers)
        encode_line(payload)


@on_files
@given(lines=st.lists(payloads, min_size=1, max_size=4), data=st.data())
def test_any_altered_byte_is_noticed(tmp_path, lines, data):
    content = "".join(map(encode_line, lines)).encode()
    position = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[position]))
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
    last_line_end = position == len(content) - 1
    with pytest.warns(TornTail) if last_line_end else pytest.raises(LedgerError):
        read_lines(path)


def test_every_altered_byte_of_a_line_is_noticed():
    line = encode_line(PAYLOAD)[:-1]
    for position in range(len(line)):
        for character in map(chr, range(128)):
            if character != line[position]:
                with pytest.raises(LedgerError):
                    decode_line(line[:position] + character + line[position + 1 :], "line")


@on_files
@given(lines=st.lists(payloads, min_size=1, max_size=4), data=st.data())
def test_a_torn_tail_costs_only_its_own_line(tmp_path, lines, data):
    encoded = [encode_line(line).encode() for line in lines]
    kept = data.draw(st.integers(1, len(encoded[-1]) - 1))
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(b"".join(encoded[:-1]) + encoded[-1][:kept])
    with pytest.warns(TornTail, match=f"line {len(lines)} is incomplete"):
        assert read_lines(path) == lines[:-1]

    assert repair_tail(path) == encoded[-1][:kept].decode()
    with path.open("ab") as file:
        file.write(encoded[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_lines(path) == lines


def test_whole_files_are_not_repaired(tmp_path):
    path = tmp_path / "episodes.jsonl"
    assert repair_tail(path) is None
    assert not path.exists()
    for content in ("", encode_line(PAYLOAD) * 2):
        path.write_text(content)
        assert repair_tail(path) is None
        assert path.read_text() == content


def test_an_empty_file_has_no_lines(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.touch()
    assert read_lines(path) == []


@pytest.mark.parametrize("bad", ["", "not JSON", '{"task": "reach-v3"}', encode_line(PAYLOAD)[:-2]])
def test_errors_name_file_and_line_and_what_to_do(tmp_path, bad):
    path = tmp_path / "episodes.jsonl"
    path.write_text(encode_line(PAYLOAD) + bad + "\n" + encode_line(PAYLOAD))
    with pytest.raises(
        LedgerError, match=r"episodes\.jsonl, line 2: wanted .*; got .*remove the line and resume"
    ):
        read_lines(path)


def test_swapped_values_of_two_lines_are_noticed(tmp_path):
    first, second = encode_line({"outcome": "success", "i": 0}), encode_line({"outcome": "failure", "i": 1})
    path = tmp_path / "episodes.jsonl"
    path.write_text(first.replace("success", "failure") + second)
    with pytest.raises(LedgerError, match="line 1: wanted the checksum"):
        read_lines(path)
