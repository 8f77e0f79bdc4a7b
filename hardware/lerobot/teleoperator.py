"""A LeRobot teleoperator as somebody who says what a robot should do, in its units."""

from __future__ import annotations

from typing import Any

from robostack.spec import Array, ArraySpec, SpecError, float32

from . import features, registry, settings


class LeRobotTeleoperator:
    """Actions from a leader arm, in the order and units of a robot's action."""

    help = "move the leader by hand; end with Ctrl-C"
    intervening = True  # whoever has a leader in hand means it
    finished = False

    def __init__(self, argument: str, action: ArraySpec) -> None:
        """Make LeRobot's teleoperator `TYPE[@FILE]`, and see that it fits `action`.

        Raises:
            PluginError: there is none of that type, or the file is wrong.
            SpecError: it has other elements, or other units.
        """
        kind, told = settings.parse(argument)
        self._device: Any = registry.make_teleoperator(kind, told.robot)
        wanted = self._device.action_features
        self._channels = features.channels(self._device, wanted, told.ranges)
        self._action = action
        names = [channel.name for channel in self._channels]
        if missing := [name for name in action.names if name not in names]:
            raise SpecError(
                f"{kind} has no {', '.join(missing)}; it has {', '.join(names)}"
            )
        self._order = [names.index(name) for name in action.names]
        units = [self._channels[k].unit for k in self._order]
        for name, unit, other in zip(action.names, action.units, units, strict=True):
            if unit != other:
                raise SpecError(
                    f"{name} is in {other} at {kind} and in {unit} at the robot: give "
                    f'the range of "{name}.pos" in its file under "ranges"'
                )

    def connect(self) -> None:
        """Open the device; LeRobot's leaders go limp in it.

        Raises:
            SpecError: it is not calibrated as its file says.
        """
        self._device.connect(calibrate=False)
        if not self._device.is_calibrated:
            self._device.disconnect()
            raise SpecError(f"{self._device} is not calibrated: run lerobot-calibrate")

    def read(self) -> Array | None:
        """Return the action (A,) that it asks for, within bounds; None if none."""
        told = self._device.get_action()
        if not told:
            return None
        values = self._channels.pack(told)
        return self._action.clip(self._action.validate(float32(values[self._order])))

    def begin(self) -> None:
        """Heed that an episode begins: nothing to forget."""

    def start(self, action: Array) -> None:
        """Go on from `action` (A,): a leader is where it is."""

    def close(self) -> None:
        """Release the device. Idempotent."""
        if self._device.is_connected:
            self._device.disconnect()
