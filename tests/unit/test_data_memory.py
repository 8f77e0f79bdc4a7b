"""Facts about how much memory may be taken."""

import subprocess
import sys
from pathlib import Path

import pytest

from robostack.data import memory

SCRIPT = """
import resource
from robostack.data import memory
free = memory.available()
used = memory.table(memory.Path("/proc/self/status"))["VmData"] * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 2**20, used + 2**20))
print(free, memory.available())
"""


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Make a control group of ours within one that is limited."""
    root = tmp_path / "cgroup"
    (root / "pod" / "ours").mkdir(parents=True)
    own = (("/pod/ours", "memory.max", "max"), ("/pod", "memory.max", "1000000"))
    for path, name, text in own:
        (root / path[1:] / name).write_text(f"{text}\n")
        (root / path[1:] / "memory.current").write_text("700000\n")
    stat = "anon 400000\ninactive_file 100000\nactive_file 50000\n"
    (root / "pod" / "memory.stat").write_text(stat)
    monkeypatch.setattr(
        memory, "_CGROUPS", ((str(root), "0::", "memory.max", "memory.current"),)
    )
    own_groups = tmp_path / "self"
    own_groups.write_text("1:name=systemd:/\n0::/pod/ours\n")
    monkeypatch.setattr(memory, "_OWN", own_groups)


def test_what_is_available_is_no_more_than_the_machine_has():
    total = memory.table(Path("/proc/meminfo"))["MemTotal"] * 1024
    assert 0 < memory.available() <= total


@pytest.mark.usefixtures("group")
def test_a_control_group_around_ours_limits_us_but_not_by_cached_files():
    assert memory.available() == 1_000_000 - 700_000 + 150_000


def test_a_limit_of_the_process_counts_less_what_it_has():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    free, left = map(int, done.stdout.split())
    assert left <= 2**20 < free
