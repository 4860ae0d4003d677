"""Read and write Protobuf messages field by field, to inspect ONNX files before a runtime opens them."""

from __future__ import annotations

from collections.abc import Iterator

#: Protobuf's wire types.
VARINT, BYTES = 0, 2
_FIXED = {1: 8, 5: 4}


def read_fields(message: memoryview) -> Iterator[tuple[int, memoryview, int | memoryview]]:
    """Yield the fields of a message as (number, bytes of the field, value): a varint is an int, other values are bytes.

    Raises ValueError for a damaged message.
    """
    at = 0
    value: int | memoryview
    while at < len(message):
        begin = at
        tag, at = read_varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = read_varint(message, at)
        elif kind == BYTES:
            length, at = read_varint(message, at)
            value, at = message[at : at + length], at + length
        elif kind in _FIXED:
            value, at = message[at : at + _FIXED[kind]], at + _FIXED[kind]
        else:
            raise ValueError(f"kind {kind} of field {tag >> 3} is not used by ONNX")
        if at > len(message):
            raise ValueError("ends in the middle of a field")
        yield tag >> 3, message[begin:at], value


def read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read the varint at offset ``at`` → (value, offset after it). Raises ValueError if it is truncated."""
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("ends in the middle of a number")


def read_varints(packed: memoryview) -> list[int]:
    """Read consecutive varints."""
    values, at = [], 0
    while at < len(packed):
        value, at = read_varint(packed, at)
        values.append(value)
    return values


def encode_field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes."""
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
