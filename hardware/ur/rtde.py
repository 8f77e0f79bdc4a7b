"""Universal Robots' real-time data exchange, version 2, as bytes.

    package   size uint16 | type uint8 | payload       all numbers big-endian
    data      recipe uint8 | one value for each name of the recipe

Only the emulator speaks it by hand; the driver says a greeting, and leaves the rest to
ur_rtde.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

VERSION_2 = 2
REQUEST_VERSION = ord("V")
CONTROLLER_VERSION = ord("v")
TEXT = ord("M")
DATA = ord("U")
SETUP_OUTPUTS = ord("O")
SETUP_INPUTS = ord("I")
START = ord("S")
PAUSE = ord("P")

Value = float | int | Sequence[float]

_HEADER = struct.Struct(">HB")
_FORMATS = {"DOUBLE": "d", "INT32": "i", "UINT32": "I", "UINT8": "B", "VECTOR6D": "6d"}
_VECTORS = ("target_q", "target_qd", "actual_q", "actual_qd", "external_force_torque")
_POSES = ("actual_TCP_pose", "actual_TCP_speed", "actual_TCP_force", "target_TCP_pose")
_UNSIGNED = ("runtime_state", "robot_status_bits", "safety_status_bits")
_OUTPUTS = {
    "timestamp": "DOUBLE",
    "speed_scaling": "DOUBLE",
    "target_speed_fraction": "DOUBLE",
    "robot_mode": "INT32",
    "safety_mode": "INT32",
    **dict.fromkeys(_UNSIGNED, "UINT32"),
    **dict.fromkeys((*_VECTORS[:-1], *_POSES), "VECTOR6D"),
}
_REGISTER = re.compile(r"(input|output)_(int|double)_register_(\d+)")


class Recipe(NamedTuple):
    """Names in the order of a data package, and their types; "NOT_FOUND" is one."""

    names: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether every name is one of the controller's."""
        return all(kind in _FORMATS for kind in self.types)

    def layout(self) -> struct.Struct:
        """Return how its values are packed."""
        return struct.Struct(">" + "".join(_FORMATS[kind] for kind in self.types))

    def pack(self, number: int, values: Mapping[str, Value]) -> bytes:
        """Return a data package of recipe `number`."""
        flat: list[float | int] = []
        for name in self.names:
            value = values.get(name, 0)
            flat.extend(value if isinstance(value, Sequence) else (value,))
        return package(DATA, bytes([number]) + self.layout().pack(*flat))

    def unpack(self, payload: bytes) -> dict[str, float]:
        """Return the scalars of a data package's payload after the recipe's number."""
        layout = self.layout()
        if len(payload) != layout.size or "VECTOR6D" in self.types:
            return {}
        return dict(zip(self.names, layout.unpack(payload), strict=True))


def recipe(names: bytes, *, inputs: bool) -> Recipe:
    """Return the recipe that a set-up asks for, by names between commas."""
    wanted = tuple(name for name in names.decode("ascii").split(",") if name)
    return Recipe(wanted, tuple(_type(name, inputs=inputs) for name in wanted))


def package(kind: int, payload: bytes) -> bytes:
    """Return a package with its header."""
    return _HEADER.pack(_HEADER.size + len(payload), kind) + payload


def greeting() -> list[tuple[int, bytes]]:
    """Return what to send, in order, to be told the time by a controller."""
    outputs = struct.pack(">d", 10.0) + b"timestamp"
    return [
        (REQUEST_VERSION, VERSION_2.to_bytes(2, "big")),
        (SETUP_OUTPUTS, outputs),
        (START, b""),
    ]


def split(stream: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole packages off the front of `stream`: type and payload of each."""
    while len(stream) >= _HEADER.size:
        size, kind = _HEADER.unpack_from(stream)
        if size < _HEADER.size:
            raise ValueError(f"expected a package of 3 bytes or more, got size {size}")
        if len(stream) < size:
            return
        payload = bytes(stream[_HEADER.size : size])
        del stream[:size]
        yield kind, payload


def _type(name: str, *, inputs: bool) -> str:
    register = _REGISTER.fullmatch(name)
    if register and int(register[3]) < 48:
        fits = register[1] == "input" or not inputs
        return ("INT32" if register[2] == "int" else "DOUBLE") if fits else "NOT_FOUND"
    if inputs:
        return "VECTOR6D" if name == "external_force_torque" else "NOT_FOUND"
    return _OUTPUTS.get(name, "NOT_FOUND")
