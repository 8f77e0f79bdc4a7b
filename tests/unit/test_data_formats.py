"""Facts about finding formats by name."""

import sys

import pytest

from robostack.data import formats
from robostack.data.formats import FormatError


@pytest.mark.parametrize("name", formats.NAMES)
def test_every_format_offers_what_the_protocol_asks(name, tmp_path):
    module = formats.load(name)
    assert (module.__doc__ or "").strip()
    assert module.sniff(tmp_path) is False
    assert module.sniff(tmp_path / "absent") is False
    formats.check_options(name, {})


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(FormatError, match="did you mean 'd4rl'"):
        formats.load("d4lr")


def test_a_format_whose_package_is_missing_hides_no_other(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "robostack.data.d4rl", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "x.mcap").write_bytes(b"\x89MCAP0\r\n")
    assert formats.sniff(tmp_path / "x.mcap") == "recording"
    (tmp_path / "x.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FormatError, match=r"needs the package 'h5py'.*pip install"):
        formats.sniff(tmp_path / "x.hdf5")
