#!/bin/sh
# Make headless rendering work: try it; where it fails and we may, install what it needs.
set -eu
python=$1
packages="libegl1 libopengl0 libgl1-mesa-dri"
[ "$(uname -s)" = Linux ] || exit 0

renders() {
    MUJOCO_GL=egl "$python" - >/dev/null 2>&1 <<'PYTHON'
import mujoco

model = mujoco.MjModel.from_xml_string("<mujoco/>")
mujoco.Renderer(model, 16, 16).close()
PYTHON
}

renders && exit 0
if [ "$(id -u)" = 0 ]; then
    run=""
elif sudo -n true 2>/dev/null; then
    run="sudo -n"
else
    run="none"
fi
if [ "$run" != none ] && command -v apt-get >/dev/null; then
    echo "headless rendering needs system packages: installing $packages"
    $run apt-get update -qq && $run apt-get install -y -qq $packages >/dev/null
    renders && exit 0
fi
echo "Headless rendering does not work here. Install EGL and software GL, on Debian or" \
    "Ubuntu: sudo apt-get install $packages. Everything but cameras works without." >&2
