"""What a chain of servos is: joints by name, in a TOML file.

    value = sign * (tick - zero) * unit per tick        2 pi / 4096 rad, or metres

Everything a person decides about an arm stands in this file; `nominal.toml` beside this
module is one with every key. Speeds are the servo shaft's, always in rad.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.spec import Array, ArraySpec, RobotSpec

from .._camera_source import CameraSettings
from . import registers as r

Ticks = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

RADIANS_PER_TICK = 2 * math.pi / r.TICKS_PER_TURN
NOMINAL = Path(__file__).with_name("nominal.toml")
BLOCK_START, BLOCK_SIZE = r.TORQUE_ENABLE.address, r.SIZE - r.TORQUE_ENABLE.address
_FRAME = 11  # [byte] of a status packet without its data
_BUSY = 0.8  # part of the period that the bus may take


class ChainError(ValueError):
    """A chain file that is missing, broken, or asks what no servo can."""


class Joint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One joint: its servo, what its ticks mean, and how it may be moved."""

    id: int  # of the servo on the bus
    low: float  # smallest target [rad], or [m] with `metres_per_turn`
    high: float  # largest
    home: float  # where reset() goes
    model: str = "auto"  # such as "XM430-W350"; "auto": whatever answers
    zero: int = 2048  # [tick] at 0
    sign: Literal[-1, 1] = 1  # of the value over ticks
    metres_per_turn: float = 0.0  # of a linear gripper; 0: a hinge
    homing_offset: int = 0  # [tick] in the servo; it shifts all ticks
    speed: float = 2.0  # [rad/s] of a target, at most
    profile_velocity: float = 2.5  # [rad/s] of the shaft, whatever goal it gets
    profile_acceleration: float = 30.0  # [rad/s^2]
    pwm_limit: float = 1.0  # part of the full voltage
    current_limit_a: float = 0.0  # [A]; above 0: current-based position mode

    def __post_init__(self) -> None:
        """Refuse what no X-series servo in position mode can be."""
        for wrong in self._wrongs():
            raise ChainError(wrong)

    @property
    def unit(self) -> str:
        """Of its value."""
        return "m" if self.metres_per_turn else "rad"

    @property
    def per_tick(self) -> float:
        """Its value's change over one tick, unsigned."""
        return (self.metres_per_turn or 2 * math.pi) / r.TICKS_PER_TURN

    @property
    def per_radian(self) -> float:
        """Its value's change over one radian of the shaft."""
        return self.per_tick / RADIANS_PER_TICK

    @property
    def mode(self) -> int:
        """The operating mode that its servo must be in."""
        return r.CURRENT_POSITION_MODE if self.current_limit_a else r.POSITION_MODE

    @property
    def ends(self) -> tuple[int, int]:
        """Smallest and largest tick it may go to."""
        at = [self.zero + self.sign * x / self.per_tick for x in (self.low, self.high)]
        return math.ceil(min(at) - 1e-6), math.floor(max(at) + 1e-6)

    @property
    def velocity(self) -> int:
        """Profile velocity as the servo has it; at least the slowest."""
        return max(1, round(self.profile_velocity / r.VELOCITY_UNIT))

    @property
    def acceleration(self) -> int:
        """Profile acceleration as the servo has it."""
        return max(1, round(self.profile_acceleration / r.ACCELERATION_UNIT))

    @property
    def pwm(self) -> int:
        """PWM limit as the servo has it."""
        return round(self.pwm_limit * r.PWM_FULL)

    def _wrongs(self) -> Iterator[str]:
        last = r.TICKS_PER_TURN - 1
        known = ", ".join(r.BY_NAME)
        if not 0 <= self.id <= 252:
            yield f"expected an id in 0..252, got {self.id}"
        if self.model != "auto" and self.model not in r.BY_NAME:
            yield f"expected model 'auto' or one of {known}, got {self.model!r}"
        if not self.low <= self.home <= self.high or self.low == self.high:
            order = (self.low, self.home, self.high)
            yield f"expected low <= home <= high, got {order}"
        if not 0 <= self.ends[0] < self.ends[1] <= last:
            yield f"expected low and high within ticks 0..{last}, got {self.ends}"
        if min(self.speed, self.profile_velocity, self.profile_acceleration) <= 0:
            yield "expected speed and profile above 0: 0 means unbounded to a servo"
        if not 0 < self.pwm_limit <= 1 or self.current_limit_a < 0:
            yield "expected 0 < pwm_limit <= 1 and current_limit_a >= 0"


class Care(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the driver holds the servos to. Angles are the shaft's."""

    hottest_c: int = 65  # at or above this: a fault
    homing_speed: float = 0.5  # [rad/s] of the joint with the longest way
    homing_tick_s: float = 0.02  # between two goals on the way home
    lag: float = 0.35  # [rad] behind its goal: the joint is blocked
    arrival: float = 0.04  # [rad] from home that will do
    settle_s: float = 1.0  # to get there after the last goal
    outside: float = 0.1  # [rad] beyond its limits from where a joint is not moved
    rest: float = 0.03  # [rad] from its goal at which a stopped joint keeps the goal
    lowering_s: float = 1.0  # in which close() lets go of the arm


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chain of servos on one bus."""

    name: str
    joints: dict[str, Joint]
    control_period_s: float = 0.02
    baud: int = 1_000_000
    bus_watchdog_s: float = 0.5  # of silence after which servos stop by themselves
    zero_pose: str = "as in the chain file"  # in words, for the spec
    care: Care = Care()
    cameras: Mapping[str, CameraSettings] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse repeated ids, and times that cannot be."""
        if not self.joints:
            raise ChainError("expected at least one joint")
        if len(set(self.ids)) != len(self.ids):
            raise ChainError(f"expected different ids, got {self.ids}")
        longest_s = r.WATCHDOG_LAST * r.WATCHDOG_UNIT_S
        if not 2 * self.control_period_s < self.bus_watchdog_s <= longest_s:
            raise ChainError(
                f"expected bus_watchdog_s above two control periods and at most "
                f"{longest_s} s, got {self.bus_watchdog_s}"
            )
        if self.wire_s > _BUSY * self.control_period_s:
            raise ChainError(
                f"one cycle of {len(self.ids)} servos takes {self.wire_s * 1e3:.1f} ms "
                f"at {self.baud} baud, more than {_BUSY:.0%} of the control period "
                f"of {self.control_period_s * 1e3:g} ms: raise one of them"
            )

    @property
    def ids(self) -> tuple[int, ...]:
        """The servos' ids, in the order of the joints."""
        return tuple(joint.id for joint in self.joints.values())

    @property
    def digest(self) -> str:
        """Identity of this chain: 16 hexadecimal digits."""
        content = msgspec.json.encode(self, order="sorted")
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def watchdog(self) -> int:
        """Bus watchdog as the servos have it."""
        return max(1, round(self.bus_watchdog_s / r.WATCHDOG_UNIT_S))

    @property
    def wire_s(self) -> float:
        """Time on the wire of one read and one write."""
        n = len(self.ids)
        asked, answered = 14 + n, n * (_FRAME + BLOCK_SIZE)
        written = 14 + n * (1 + r.GOAL_POSITION.end - r.PROFILE_ACCELERATION.address)
        return 10 * (asked + answered + written) / self.baud

    def values(self, ticks: npt.ArrayLike) -> Values:
        """Return the joints' values (n,) at `ticks` (n,)."""
        turned = np.asarray(ticks, np.float64) - self.column("zero")
        return self.column("sign") * turned * self.column("per_tick")

    def rates(self, velocity: npt.ArrayLike) -> Values:
        """Return the joints' rates (n,) of `velocity` (n,) [0.229 rev/min]."""
        radians = np.asarray(velocity, np.float64) * r.VELOCITY_UNIT
        return self.column("sign") * radians * self.column("per_radian")

    def ticks(self, values: npt.ArrayLike) -> Ticks:
        """Return the nearest ticks (n,) within the limits to `values` (n,)."""
        way = np.round(np.asarray(values, np.float64) / self.column("per_tick"))
        low, high = self.column("ends").T
        raw = self.column("zero") + self.column("sign") * way
        return np.clip(raw, low, high).astype(np.int64)

    def column(self, field: str) -> Values:
        """Return one property of all joints (n,), or (n, 2) of their ends."""
        return np.array([getattr(j, field) for j in self.joints.values()], np.float64)


def spec_of(chain: Chain) -> RobotSpec:
    """Return the spec of a chain, without cameras."""
    names, joints = tuple(chain.joints), tuple(chain.joints.values())
    units = tuple(joint.unit for joint in joints)
    low, high = tuple(j.low for j in joints), tuple(j.high for j in joints)
    fastest = tuple(j.profile_velocity * abs(j.per_radian) for j in joints)
    period_s = chain.control_period_s
    position = ArraySpec(names, units, low, high)
    return RobotSpec(
        name=chain.name,
        control_period_s=period_s,
        command_timeout_s=3 * period_s,
        control="position",
        tracks="joint_position",
        observation={
            "joint_position": position,
            "joint_velocity": ArraySpec(
                names,
                tuple(f"{unit}/s" for unit in units),
                tuple(-v for v in fastest),
                fastest,
            ),
        },
        cameras={},
        action=position,
        home=tuple(joint.home for joint in joints),
        max_action_step=tuple(j.speed * j.per_radian * period_s for j in joints),
        conventions={"zero pose": chain.zero_pose},
    )


def load(path: Path) -> Chain:
    """Read a chain file; raises ChainError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Chain)
    except FileNotFoundError:
        raise ChainError(
            f"no chain file {path}: copy {NOMINAL} and write your servos into it"
        ) from None
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise ChainError(f"cannot use the chain file {path}: {error}") from error


def clip(spec: RobotSpec, values: Values) -> Array:
    """Return values as an action that is within the bounds of `spec`."""
    return spec.action.clip(values.astype(np.float32))
