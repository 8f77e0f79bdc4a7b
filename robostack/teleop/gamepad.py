"""The sticks of a game controller push joints; through pygame, without a window.

sticks            each axis moves one joint
shoulder buttons  the joints before, the joints after
button 0 (A)      take over from the policy, and give back
button 7 (start)  end the episode
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Protocol

from robostack.spec import Array, RobotSpec
from robostack.teleop.jog import Jog
from robostack.teleop.teleoperator import TeleopError

_DEAD = 0.15  # of a stick's travel, around its middle
_STICKS = 4  # axes of two sticks; what follows are triggers, which rest at -1
_TAKE, _BEFORE, _AFTER, _FINISH = 0, 4, 5, 7


class Pad(NamedTuple):
    """What a controller says at one moment."""

    axes: tuple[float, ...]  # -1 to 1
    buttons: frozenset[int]  # that are pressed


class Source(Protocol):
    """Where a controller's state comes from."""

    def open(self) -> None:
        """Find the controller."""

    def look(self) -> Pad:
        """Return its state now."""

    def close(self) -> None:
        """Let go of it."""


class Gamepad:
    """A game controller."""

    help = (
        "gamepad: each stick axis moves a joint, shoulder buttons choose which, "
        "A takes over and gives back, start ends the episode"
    )

    def __init__(self, robot: RobotSpec, source: Source | None = None) -> None:
        self.intervening = False
        self.finished = False
        self._jog = Jog(robot)
        self._source = source or _Pygame()
        self._first = 0  # joint of the first axis
        self._pressed: frozenset[int] = frozenset()

    def connect(self) -> None:
        """Find the controller."""
        self._source.open()

    def begin(self) -> None:
        """Heed that an episode begins."""
        self.finished = False

    def start(self, action: Array) -> None:
        """Go on from `action` (A,)."""
        self._jog.start(action)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the joints that the sticks move."""
        return self._jog.names[self._first : self._first + _STICKS]

    def read(self) -> Array:
        """Heed buttons and sticks; return the action (A,) wanted now."""
        pad = self._source.look()
        new = pad.buttons - self._pressed
        self._pressed = pad.buttons
        last = max(0, len(self._jog.names) - _STICKS)
        if _TAKE in new:
            self.intervening = not self.intervening
        if _FINISH in new:
            self.finished = True
        if _BEFORE in new:
            self._first = max(0, self._first - _STICKS)
        if _AFTER in new:
            self._first = min(last, self._first + _STICKS)
        for i, value in enumerate(pad.axes[: len(self.chosen)]):
            if abs(value) > _DEAD:
                self._jog.push(self._first + i, value)
        return self._jog.advance()

    def close(self) -> None:
        """Let go of the controller."""
        self._source.close()


class _Pygame:
    """The first controller that SDL knows."""

    def __init__(self) -> None:
        self._pygame: Any = None
        self._stick: Any = None

    def open(self) -> None:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ModuleNotFoundError as error:
            raise TeleopError(
                "a gamepad needs the package 'pygame', which is not installed: "
                "pip install 'robostack[gamepad]'"
            ) from error
        self._pygame = pygame
        pygame.display.init()
        pygame.joystick.init()
        if not pygame.joystick.get_count():
            raise TeleopError(
                "expected a game controller, found none: plug one in, and check that "
                "/dev/input/js0 or an event device may be read"
            )
        self._stick = pygame.joystick.Joystick(0)

    def look(self) -> Pad:
        self._pygame.event.pump()
        stick = self._stick
        pressed = (i for i in range(stick.get_numbuttons()) if stick.get_button(i))
        axes = tuple(
            stick.get_axis(i) for i in range(min(_STICKS, stick.get_numaxes()))
        )
        return Pad(axes, frozenset(pressed))

    def close(self) -> None:
        if self._pygame is not None:
            self._pygame.joystick.quit()
            self._pygame.display.quit()
            self._pygame = None
