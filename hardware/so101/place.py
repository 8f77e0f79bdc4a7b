"""What follows `hardware:so101/`: which arm it is, and what is around it.

PORT[@CALIBRATION][+WORD ...]

/dev/ttyACM0                  the arm alone, calibrated by this user's file
/dev/ttyACM0@left.json        with another calibration; @nominal: built to the letter
/dev/ttyACM0+table            at its table: with tracker and cameras, by
                              ~/.config/robostack/so101_table.toml
/dev/ttyACM0+table=FILE.toml  by another file
emulated                      an emulated arm at the table of the MuJoCo twin
emulated+arm                  that arm alone, its servos in no world

+limp    goes limp if the node dies; else it holds
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from robostack.plugins import PluginError, unknown

from . import calibration, twin

EMULATED = "emulated"
WORDS = ["arm", "limp", "table"]


class Place(NamedTuple):
    """An address, taken apart."""

    port: str
    file: str  # calibration: file, "nominal", or "" for this user's
    table: str | None  # None: the arm alone; "": this user's file of the table
    limp: bool

    @property
    def emulated(self) -> bool:
        """Whether there is no arm."""
        return self.port == EMULATED

    @property
    def path(self) -> Path:
        """The file of its calibration."""
        return Path(self.file).expanduser() if self.file else calibration.default_path()

    def calibrated(self) -> calibration.Calibration:
        """Return the arm's calibration; raises CalibrationError."""
        if self.file == calibration.NOMINAL:
            return calibration.nominal()
        return calibration.load(self.path)


def parse(argument: str) -> Place:
    """Return the parts of an address; raises PluginError."""
    head, *tail = argument.split("+")
    port, _, file = head.partition("@")
    if not port:
        raise PluginError(
            "expected hardware:so101/PORT[@CALIBRATION][+WORD], such as "
            "hardware:so101//dev/ttyACM0, or hardware:so101/emulated"
        )
    if port.startswith("dev/"):
        port = "/" + port
    words = dict(word.partition("=")[::2] for word in tail)
    for word in words:
        if word not in WORDS:
            raise PluginError(unknown("word of hardware:so101", word, WORDS))
    return _consistent(port, file, words)


def _consistent(port: str, file: str, words: dict[str, str]) -> Place:
    if port == EMULATED:
        if words.get("table"):
            raise PluginError(
                "expected no file for the table of an emulated arm: it is the twin's"
            )
        at_table = "arm" not in words and not twin.lacking()
        file = file or calibration.NOMINAL
        return Place(port, file, "" if at_table else None, "limp" in words)
    table = None if "arm" in words else words.get("table")
    return Place(port, file, table, "limp" in words)
