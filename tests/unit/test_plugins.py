import sys
import types
from importlib.metadata import EntryPoint

import pytest

from robostack import plugins
from robostack.plugins import Address, PluginError


def test_finds_what_lies_in_the_folders():
    assert "fake" in plugins.names("hardware")
    assert not any(name.startswith("_") for name in plugins.names("sim"))


def test_parse_takes_an_address_apart():
    assert plugins.parse("hardware:fake") == Address("hardware", "fake", "")
    assert str(plugins.parse("hardware:fake")) == "hardware:fake"


def test_what_follows_the_first_slash_is_the_argument():
    address = plugins.parse("hardware:fake/a/b")
    assert address == Address("hardware", "fake", "a/b")
    assert str(address) == "hardware:fake/a/b"


@pytest.mark.parametrize("text", ["fake", "policies:bc", "", ":", "robot:fake"])
def test_parse_says_what_an_address_looks_like(text):
    with pytest.raises(PluginError, match=r"hardware:ROBOT, .*robots: .*fake"):
        plugins.parse(text)


def test_unknown_names_get_the_nearest():
    with pytest.raises(PluginError, match="did you mean 'fake'"):
        plugins.parse("hardware:fkae")


def test_a_missing_package_is_named(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'servo_sdk'", name="servo_sdk")

    monkeypatch.setattr(plugins.importlib, "import_module", absent)
    monkeypatch.setattr(plugins, "names", lambda kind: ["arm"])
    with pytest.raises(PluginError, match="'arm' needs the package 'servo_sdk'"):
        plugins.load("hardware", "arm")


def test_another_package_adds_a_robot_by_entry_point(monkeypatch):
    module = types.ModuleType("their_robot")
    monkeypatch.setitem(sys.modules, "their_robot", module)
    entry = EntryPoint("theirs", "their_robot", "robostack.hardware")

    def entry_points(*, group, name=None):
        return [entry] if group == entry.group and name in (None, "theirs") else []

    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", entry_points)
    assert "theirs" in plugins.names("hardware")
    assert plugins.load("hardware", "theirs") is module
    assert plugins.load("hardware", "fake").__name__ == "robostack.hardware.fake"
