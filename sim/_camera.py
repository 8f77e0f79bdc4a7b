"""Cameras of a MuJoCo world, drawn off screen.

All drawing happens on one thread of its own, because an OpenGL context belongs to the
thread that made it; so any thread may ask for frames. Shadows, reflections and
multisampling are off: without a GPU they cost ten times the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import mujoco
import numpy as np

from robostack.spec import CameraSpec, Image

from ._headless import HINT


class RenderError(RuntimeError):
    """This computer cannot draw; the message says which packages it lacks."""


class Cameras:
    """The cameras of a spec; each is the MJCF camera of its name."""

    def __init__(
        self, model: mujoco.MjModel, specs: Mapping[str, CameraSpec], dropped: float
    ) -> None:
        self._model = model
        self._specs = specs
        self._dropped = dropped  # probability that a frame repeats the one before
        self._random = np.random.default_rng()
        self._last: dict[str, tuple[int, Image]] = {}  # number of the frame, frame
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._thread: ThreadPoolExecutor | None = None
        _cheapen(model, specs)

    def reset(self) -> None:
        """Forget the frames of the episode before."""
        self._last.clear()

    def seed(self, seed: np.random.SeedSequence) -> None:
        """Fix which frames are dropped."""
        self._random = np.random.default_rng(seed)

    def frames(self, data: mujoco.MjData, now_s: float) -> dict[str, Image]:
        """Return the newest frame (H, W, 3) of each camera, a copy.

        Raises:
            RenderError: there is no way to draw on this computer.
        """
        return {name: self._frame(name, data, now_s).copy() for name in self._specs}

    def close(self) -> None:
        """Free the OpenGL contexts. Idempotent."""
        if self._thread is None:
            return
        for renderer in self._renderers.values():
            self._thread.submit(renderer.close).result()
        self._renderers.clear()
        self._thread.shutdown()
        self._thread = None

    def _frame(self, name: str, data: mujoco.MjData, now_s: float) -> Image:
        number = math.floor(now_s / self._specs[name].period_s + 1e-6)
        if name in self._last:
            taken, last = self._last[name]
            if taken == number:
                return last
            if self._dropped and self._random.random() < self._dropped:
                self._last[name] = number, last
                return last
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="cameras")
        image = self._thread.submit(self._draw, name, data).result()
        self._last[name] = number, image
        return image

    def _draw(self, name: str, data: mujoco.MjData) -> Image:
        camera = self._specs[name]
        try:
            renderer = self._renderer(camera.height, camera.width)
            renderer.update_scene(data, camera=name)
            image: Image = renderer.render()
            return image
        except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
            raise RenderError(
                f"expected to draw camera {name!r} off screen, got "
                f"{type(error).__name__}: {str(error).splitlines()[0]}; {HINT}"
            ) from error

    def _renderer(self, height: int, width: int) -> mujoco.Renderer:
        if (height, width) not in self._renderers:
            renderer = mujoco.Renderer(self._model, height, width)
            for flag in (
                mujoco.mjtRndFlag.mjRND_SHADOW,
                mujoco.mjtRndFlag.mjRND_REFLECTION,
            ):
                renderer.scene.flags[flag] = 0
            self._renderers[height, width] = renderer
        return self._renderers[height, width]


def _cheapen(model: mujoco.MjModel, specs: Mapping[str, CameraSpec]) -> None:
    """Set what a renderer reads from the model when it is made."""
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    size = model.vis.global_
    size.offheight = max([size.offheight, *(c.height for c in specs.values())])
    size.offwidth = max([size.offwidth, *(c.width for c in specs.values())])
