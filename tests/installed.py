"""Which robots and worlds can be made here: some need a vendor's package."""

from __future__ import annotations

import functools

import pytest

from robostack.node.device import make
from robostack.plugins import PluginError


@functools.cache
def missing(address: str) -> str:
    """Return the sentence that says what `address` needs and has not, or nothing."""
    try:
        make(address).close()
    except PluginError as error:
        if "not installed" in str(error):
            return str(error)
        raise
    return ""


def need(address: str) -> None:
    """Skip the test if `address` cannot be made here."""
    if sentence := missing(address):
        pytest.skip(sentence)
