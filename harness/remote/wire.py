"""Wire format of policy servers: msgpack with NumPy arrays, as openpi and vla-evaluation-harness encode them.

Decoding is safe for bytes from anywhere. It executes nothing, takes numeric and text arrays only, reads nothing beyond
the message, and needs memory in proportion to it: at most `MAX_ITEMS` entries of lists and maps, nested at most
`MAX_DEPTH` times, beside one copy of the bytes of arrays.

An array is a map with the entries `__ndarray__`, `data`, `dtype` and `shape`, a NumPy scalar one with `__npgeneric__`,
`data` and `dtype`. The keys are binary in openpi's messages and text in those of vla-evaluation-harness.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import Any, Literal

import msgpack
import numpy as np

MAX_BYTES = 64 << 20
"""Size of a message, which holds ten raw images of 1920 x 1080 pixels."""
MAX_ITEMS = 16_384
"""Entries of all lists and maps of a message; arrays count as one."""
MAX_LENGTH = 4_096
"""Entries of one list or map. Its memory is reserved before its entries are read."""
MAX_DEPTH = 16
"""Lists and maps inside each other."""
MAX_PIXELS = 16 << 20
"""Pixels of a compressed image."""

Keys = Literal["binary", "text"]
"""How the keys of encoded arrays are written: `binary` by openpi, `text` by vla-evaluation-harness."""

_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|U[1-9]\d{0,3}|S[1-9]\d{0,3})")
_NUMERIC = "biuf"


class WireError(ValueError):
    """A message that is refused: malformed, larger than the limits, or with types that are not taken."""


def pack(message: object, keys: Keys = "binary") -> bytes:
    """Encode a message of maps, lists, text, numbers and NumPy arrays.

    Raises:
      WireError: If it holds anything else, such as an array of Python objects or complex numbers.
    """
    name: Callable[[str], str | bytes] = str.encode if keys == "binary" else str

    def encode(value: object) -> dict[str | bytes, Any]:
        if isinstance(value, np.ndarray | np.generic):
            if not _DTYPE.fullmatch(value.dtype.str):
                raise WireError(f"Arrays hold numbers or text; got {value.dtype}.")
            tag = "__ndarray__" if isinstance(value, np.ndarray) else "__npgeneric__"
            data: Any = _bytes_of(value) if isinstance(value, np.ndarray) else value.item()
            shape = {name("shape"): value.shape} if isinstance(value, np.ndarray) else {}
            return {name(tag): True, name("data"): data, name("dtype"): value.dtype.str} | shape
        raise WireError(f"Messages hold maps, lists, text, numbers and arrays; got a {type(value).__name__}.")

    try:
        return bytes(msgpack.packb(message, default=encode))
    except WireError:
        raise
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise WireError(f"The message cannot be encoded: {error}.") from error


def _bytes_of(array: np.ndarray) -> memoryview | bytes:
    """The bytes of an array in C order, without a copy where it has them."""
    return array.reshape(-1).view(np.uint8).data if array.flags.c_contiguous else array.tobytes()


def unpack(data: bytes) -> Any:
    """Decode a message. Arrays are read-only, in the byte order of this machine.

    Raises:
      WireError: If it is malformed or breaks a limit of this module.
    """
    if len(data) > MAX_BYTES:
        raise WireError(f"A message has at most {MAX_BYTES} bytes; got {len(data)}.")
    items = _Counter()
    try:
        message = msgpack.unpackb(
            data,
            object_hook=lambda found: _decoded(items.counted(found)),
            list_hook=items.counted,
            max_array_len=MAX_LENGTH,
            max_map_len=MAX_LENGTH,
            max_ext_len=0,
        )
    except WireError:
        raise
    except msgpack.StackError as error:
        raise _too_deep() from error
    except Exception as error:  # msgpack fails in many ways on damaged bytes.
        detail = str(error) or type(error).__name__
        raise WireError(f"The message is not msgpack with text or binary keys: {detail}.") from error
    _require_shallow(message)
    return message


def unpack_map(data: bytes) -> dict[str, Any]:
    """Decode a message that is a map with text keys.

    Raises:
      WireError: As `unpack`, and if it is anything else.
    """
    message = unpack(data)
    if not isinstance(message, dict):
        raise WireError(f"The message must be a map; got {described(message)}.")
    if not all(isinstance(key, str) for key in message):
        raise WireError(f"The keys of the message must be text; got {', '.join(map(repr, message))[:200]}.")
    return message


def described(value: object) -> str:
    """Describe a decoded value in a message, briefly."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return "nothing" if value is None else f"a {type(value).__name__}"


class _Counter:
    """Count the entries of the lists and maps of one message."""

    def __init__(self) -> None:
        self._items = 0

    def counted(self, container: Any) -> Any:
        self._items += 1 + len(container)
        if self._items > MAX_ITEMS:
            raise WireError(
                f"Lists and maps of a message have at most {MAX_ITEMS} entries. Send numbers as arrays."
            )
        return container


_TAGS = frozenset(
    {b"__ndarray__", b"__npgeneric__", b"__image__", "__ndarray__", "__npgeneric__", "__image__"}
)


def _decoded(found: dict[Any, Any]) -> Any:
    """Return the array, scalar or image that a map encodes; another map unchanged."""
    if _TAGS.isdisjoint(found):
        return found
    entries = _Entries(
        {key.decode("ascii", "replace") if type(key) is bytes else key: found[key] for key in found}
    )
    if "__ndarray__" in entries:
        return _array(entries)
    return _scalar(entries) if "__npgeneric__" in entries else _image(entries)


class _Entries(dict[str, Any]):
    """Entries of a map that encodes an array, with text keys."""

    def __missing__(self, name: str) -> Any:
        raise WireError(f"An encoded array lacks its entry {name!r}.")

    def dtype(self) -> np.dtype[Any]:
        written = self["dtype"]
        written = written.decode("ascii", "replace") if isinstance(written, bytes) else written
        if not isinstance(written, str) or not _DTYPE.fullmatch(written):
            raise WireError(
                f"Arrays hold numbers, truth values or text, such as '<f4' or '|u1'; got the type {written!r:.40}."
            )
        return np.dtype(written)

    def shape(self) -> tuple[int, ...]:
        shape = self["shape"]
        whole = isinstance(shape, list | tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not whole or len(shape) > 8:
            raise WireError(f"The shape of an array is a list of at most 8 sizes; got {shape!r:.60}.")
        return tuple(shape)


def _array(entries: _Entries) -> np.ndarray:
    data, dtype, shape = entries["data"], entries.dtype(), entries.shape()
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else described(data)
        raise WireError(
            f"An array of {dtype} and shape {shape} has {math.prod(shape) * dtype.itemsize} bytes; got {got}."
        )
    array = np.ndarray(shape, dtype, data)
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
        array.flags.writeable = False
    return array


def _scalar(entries: _Entries) -> np.generic:
    data, dtype = entries["data"], entries.dtype()
    if not isinstance(data, bool | int | float | str | bytes):
        raise WireError(f"A NumPy scalar holds one number or text; got {described(data)}.")
    try:
        scalar = np.asarray(data).astype(dtype.newbyteorder("="))[()]
    except (ValueError, OverflowError, TypeError) as error:
        raise WireError(f"A NumPy scalar of {dtype} cannot hold {data!r:.40}: {error}.") from error
    assert isinstance(scalar, np.generic)
    return scalar


def _image(entries: _Entries) -> np.ndarray:
    """Decode an image of vla-evaluation-harness to uint8 [h, w, channels]."""
    form, data = entries["format"], entries["data"]
    if form == "raw":
        shape = entries.shape()
        if not isinstance(data, bytes) or len(data) != math.prod(shape):
            raise WireError(
                f"A raw image of shape {shape} has {math.prod(shape)} bytes; got {described(data)}."
            )
        return np.ndarray(shape, np.uint8, data)
    if form not in ("png", "jpeg") or not isinstance(data, bytes):
        raise WireError(f"An image is encoded as png, jpeg or raw bytes; got {form!r:.20}.")
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=(form.upper(),)) as image:
            if math.prod(image.size) > MAX_PIXELS:
                raise WireError(f"An image has at most {MAX_PIXELS} pixels; got {image.size}.")
            return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"), np.uint8)
    except WireError:
        raise
    except Exception as error:  # Pillow fails in many ways on damaged bytes.
        raise WireError(f"An image cannot be decoded as {form}: {type(error).__name__}: {error}.") from error


def _require_shallow(message: object) -> None:
    """Raise `WireError` if lists and maps are nested more than `MAX_DEPTH` times."""
    level = [message]
    for _ in range(MAX_DEPTH + 1):
        level = [
            entry
            for container in level
            if isinstance(container, dict | list)
            for entry in (container.values() if isinstance(container, dict) else container)
            if isinstance(entry, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> WireError:
    return WireError(f"Lists and maps of a message are nested at most {MAX_DEPTH} times.")
