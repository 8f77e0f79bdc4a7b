"""A robot computer needs little: what a bare install serves, and [cpu] runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import linear_graph, linear_manifest

from robostack import bundle, plugins

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "mujoco", "onnx", "gymnasium", "h5py", "matplotlib")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def environment(folder: Path, source: Path, extra: str) -> Path:
    """Make a virtual environment with robostack from `source`; return its bin."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    binaries = folder / "bin"
    install = [str(binaries / "pip"), "install", "--quiet", f"{source}{extra}"]
    subprocess.run(install, check=True)
    return binaries


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Copy what git would give: builds leave traces in the folder they run in."""
    copy = tmp_path_factory.mktemp("source") / "robostack"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def bare(tmp_path_factory, source) -> Path:
    return environment(tmp_path_factory.mktemp("bare"), source, "")


@pytest.fixture(scope="module")
def cpu(tmp_path_factory, source) -> Path:
    return environment(tmp_path_factory.mktemp("cpu"), source, "[cpu]")


def missing(binaries: Path, names: tuple[str, ...]) -> list[str]:
    code = (
        "import importlib.util as u, sys;"
        "print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
    )
    command = [str(binaries / "python"), "-c", code, *names]
    return output(binaries, command).split()


def output(binaries: Path, command: list[str]) -> str:
    """Run away from the source, which python would import in place of the install."""
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=binaries
    )
    return done.stdout.strip()


def test_a_bare_install_brings_nothing_heavy(bare):
    assert missing(bare, (*HEAVY, "onnxruntime")) == [*HEAVY, "onnxruntime"]


def test_the_cpu_extra_brings_onnx_runtime_and_nothing_else_heavy(cpu):
    assert missing(cpu, (*HEAVY, "onnxruntime")) == list(HEAVY)


def test_plug_ins_travel_with_their_files(bare):
    code = "import robostack.sim as s; print(s.__path__[0])"
    command = [str(bare / "python"), "-c", code]
    sim = Path(output(bare, command))
    assert sim.parent.name == "robostack"
    assert (sim / "pendulum" / "world.xml").is_file()
    assert list((sim.parent / "policies" / "recipes").glob("*.toml"))


def test_what_is_missing_is_named_with_its_cure(bare, tmp_path):
    command = [str(bare / "robostack"), "serve", "sim:pendulum"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=tmp_path
    )
    words = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "Traceback" not in words
    assert "pip install" in words


def test_a_bare_node_is_driven_by_a_cpu_runtime(bare, cpu, tmp_path):
    robot = plugins.load("hardware", "fake").spec("")
    policy = tmp_path / "policy.onnx"
    bundle.write(policy, linear_graph(robot), linear_manifest(robot))
    endpoint = f"ipc://{tmp_path}/node"
    node = subprocess.Popen(
        [str(bare / "robostack"), "serve", "hardware:fake", "--bind", endpoint],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        command = [str(cpu / "robostack"), "run", str(policy), "--robot", endpoint]
        command += ["--episodes", "1", "--steps", "50", "--wait", "20"]
        for _ in range(3):  # a busy computer may be later than the watchdog allows
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
                cwd=tmp_path,
            )
            if "no fresh command" not in done.stderr:
                break
        assert done.returncode == 0, done.stdout + done.stderr
        assert "50 steps" in done.stdout
    finally:
        node.terminate()
        node.wait(10)
    assert node.returncode == 0
