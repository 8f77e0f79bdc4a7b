"""Whether this computer draws without a display, tried in a process of its own.

A broken GL library kills or hangs the process that loads it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator

from robostack.robot import Finding

_TIMEOUT_S = 30.0
_CURE = (
    "on Debian or Ubuntu: sudo apt-get install libegl1 libopengl0 libgl1-mesa-dri; or "
    "run with MUJOCO_GL=osmesa after sudo apt-get install libosmesa6"
)
_CODE = """
import os, time
from robostack.sim._headless import choose_gl
choose_gl()
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom size='.1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 64, 64) as renderer:
    renderer.update_scene(data)
    image = renderer.render()
    start = time.perf_counter()
    for _ in range(5):
        renderer.render()
    seconds = (time.perf_counter() - start) / 5
assert image.any(), "the picture is black"
print(os.environ.get("MUJOCO_GL", "default"), f"{1e3 * seconds:.1f} ms a picture")
"""


def rendering(code: str = _CODE, timeout_s: float = _TIMEOUT_S) -> Iterator[Finding]:
    """Yield whether MuJoCo draws off screen here."""
    if importlib.util.find_spec("mujoco") is None:
        yield Finding("ok", "rendering", "not tried: mujoco is not installed", "")
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield Finding("advice", "rendering", f"no picture in {timeout_s:g} s", _CURE)
        return
    if done.returncode == 0:
        yield Finding("ok", "rendering", f"works: {done.stdout.strip()}", "")
        return
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    yield Finding("advice", "rendering", f"does not work: {lines[-1]}", _CURE)
