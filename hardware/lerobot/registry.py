"""Finding a robot or teleoperator in LeRobot's registries, by type.

LeRobot knows a type once its module was imported. Its own modules are imported one by
one until the type is known, as each wants other vendors' packages; plug-in packages
(`lerobot_robot_*`, `lerobot_teleoperator_*`) by LeRobot's own discovery.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import draccus
import lerobot.cameras
import lerobot.robots
import lerobot.teleoperators
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config
from lerobot.utils.import_utils import register_third_party_plugins

from robostack.plugins import PluginError, unknown


def make_robot(kind: str, fields: Mapping[str, Any]) -> Any:
    """Return LeRobot's robot of that type, not connected."""
    config = _config(RobotConfig, lerobot.robots, kind, fields)
    return make_robot_from_config(config)


def make_teleoperator(kind: str, fields: Mapping[str, Any]) -> Any:
    """Return LeRobot's teleoperator of that type, not connected."""
    config = _config(TeleoperatorConfig, lerobot.teleoperators, kind, fields)
    return make_teleoperator_from_config(config)


def _config(base: Any, package: Any, kind: str, fields: Mapping[str, Any]) -> Any:
    missing = _import_until(base, package, kind)
    if kind not in base.get_known_choices():
        sentence = unknown("LeRobot type", kind, sorted(base.get_known_choices()))
        lost = f"; not importable here: {', '.join(missing)}" if missing else ""
        raise PluginError(sentence + lost)
    for _ in _modules(lerobot.cameras):  # "cameras" are chosen by type, too
        pass
    try:
        return draccus.decode(base.get_choice_class(kind), dict(fields))
    except Exception as error:  # of draccus: several kinds
        raise PluginError(
            f'expected LeRobot\'s configuration of {kind} under "robot": {error}'
        ) from error


def _import_until(base: Any, package: Any, kind: str) -> list[str]:
    """Import what there is until `kind` is known; return what cannot be imported."""
    if kind not in base.get_known_choices():
        register_third_party_plugins()
    missing = []
    modules = _modules(package)
    while kind not in base.get_known_choices():
        lost = next(modules, None)
        if lost is None:
            break
        missing += [lost] if lost else []
    return missing


def _modules(package: Any) -> Iterator[str]:
    """Import every folder of `package`; give the name of each that fails, else ""."""
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            lost = module.name
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{package.__name__}.{module.name}")
                lost = ""
            yield lost
