"""The little of protobuf that a bundle needs: walk fields, append a metadata entry.

A message is a row of (field number, wire type, content). Only what ONNX files use is
understood: varints, 64-bit, length-delimited and 32-bit fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_MODEL_GRAPH, _MODEL_METADATA = 7, 14  # onnx.proto: ModelProto
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12  # GraphProto
_INITIALIZER_NAME = 8  # TensorProto
_ELEMENT_TYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 11: "float64"}


class ProtobufError(ValueError):
    """Bytes that are not a protobuf message."""


class Field(NamedTuple):
    """One field; an integer content is in `number`, all else in `data`."""

    tag: int
    start: int  # offset of the field in the message
    number: int
    data: memoryview


class Port(NamedTuple):
    """An input or output of a graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]  # a dynamic dimension is its name


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of `message` in order.

    Raises:
        ProtobufError: the bytes end within a field, or hold an unknown wire type.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, size = 0, 0
        match key & 7:
            case 0:
                number, at = _varint(message, at)
            case 1:
                size = 8
            case 2:
                size, at = _varint(message, at)
            case 5:
                size = 4
            case wire:
                raise ProtobufError(f"unknown wire type {wire} at byte {start}")
        if at + size > len(message):
            raise ProtobufError(f"the field at byte {start} runs past the end")
        yield Field(key >> 3, start, number, message[at : at + size])
        at += size


def metadata_entry(key: str, value: str) -> bytes:
    """Return the bytes of one metadata_props entry, to be appended to a model."""
    entry = _delimited(1, key.encode()) + _delimited(2, value.encode())
    return _delimited(_MODEL_METADATA, entry)


def metadata(model: memoryview) -> dict[str, tuple[int, str]]:
    """Return key -> (offset of the entry, value) of a model's metadata_props."""
    found = {}
    for field in fields(model):
        if field.tag == _MODEL_METADATA:
            parts = {part.tag: bytes(part.data) for part in fields(field.data)}
            key, value = parts.get(1, b"").decode(), parts.get(2, b"").decode()
            found[key] = (field.start, value)
    return found


def ports(model: memoryview) -> tuple[list[Port], list[Port]]:
    """Return the inputs and outputs of a model's graph."""
    inputs, outputs, initializers = [], [], set()
    for graph in (f.data for f in fields(model) if f.tag == _MODEL_GRAPH):
        for field in fields(graph):
            if field.tag == _GRAPH_INPUT:
                inputs.append(_port(field.data))
            elif field.tag == _GRAPH_OUTPUT:
                outputs.append(_port(field.data))
            elif field.tag == _GRAPH_INITIALIZER:
                initializers.add(_text(field.data, _INITIALIZER_NAME))
    return [port for port in inputs if port.name not in initializers], outputs


def _port(value_info: memoryview) -> Port:
    name = _text(value_info, 1)
    tensor = _child(_child(value_info, 2), 1)  # TypeProto.tensor_type
    element = next((f.number for f in fields(tensor) if f.tag == 1), 0)
    dims = [f.data for f in fields(_child(tensor, 2)) if f.tag == 1]
    dtype = _ELEMENT_TYPES.get(element, f"type {element}")
    return Port(name, dtype, tuple(_dimension(dim) for dim in dims))


def _dimension(dim: memoryview) -> int | str:
    for field in fields(dim):
        return field.number if field.tag == 1 else bytes(field.data).decode()
    return "?"


def _child(message: memoryview, tag: int) -> memoryview:
    return next((f.data for f in fields(message) if f.tag == tag), memoryview(b""))


def _text(message: memoryview, tag: int) -> str:
    return bytes(_child(message, tag)).decode()


def _delimited(tag: int, data: bytes) -> bytes:
    return _encode_varint(tag << 3 | 2) + _encode_varint(len(data)) + data


def _encode_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ProtobufError("the message ends within a number")
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ProtobufError(f"a number of more than ten bytes ends at byte {at}")
