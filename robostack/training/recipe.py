"""A recipe: algorithm, settings, and what is done to rewards; one TOML file.

    algorithm = "iql"                     policies/recipes/iql_antmaze.toml
    steps = 1_000_000
    reward_shift = -1.0
    [config]                              fields of the algorithm's own Config
    expectile = 0.9

Every key may be left out, but no key may be unknown: a misspelt one would be a default
that somebody believes to have changed.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from robostack import plugins
from robostack.sentence import clause
from robostack.training.process import load_algorithm


class RecipeError(ValueError):
    """A recipe that is not there, or says what cannot be meant."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to train."""

    algorithm: str = "iql"
    steps: int = 100_000  # updates
    batch_size: int = 256  # on-policy: steps of a rollout
    gamma: float = 0.99  # discount per step
    labeller: str = "logged"  # whose rewards
    reward_scale: float | Literal["return_range"] = 1.0  # or: spread of returns to 1000
    reward_shift: float = 0.0  # added after scaling
    evaluate_every: int = 5_000  # updates
    evaluate_episodes: int = 10
    updates_per_step: float = 1.0  # online: updates per step of the robot
    online_share: float | Literal["uniform"] = 0.5  # of a batch, beside a dataset
    random_steps: int = 0  # of the robot, online, by chance: before the first update
    warmup_steps: int = 0  # then, by the policy as it is: before the first update
    exploration: float = 0.1  # online, of policies without spread [half action range]
    replay_capacity: int = 1_000_000  # newest steps of the robot that are drawn from
    config: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if min(self.steps, self.batch_size, self.evaluate_every) < 1:
            raise RecipeError(
                f"expected steps, batch_size and evaluate_every of at least 1, got "
                f"{self.steps}, {self.batch_size} and {self.evaluate_every}"
            )
        if not 0 <= self.gamma <= 1:
            raise RecipeError(f"expected gamma between 0 and 1, got {self.gamma}")
        self._require_online()

    def _require_online(self) -> None:
        share = self.online_share
        if share != "uniform" and not 0 < share <= 1:
            raise RecipeError(
                f"expected online_share above 0, at most 1, or 'uniform' (every "
                f"transition as likely as any other), got {share}"
            )
        least = {
            "updates_per_step": self.updates_per_step > 0,
            "random_steps": self.random_steps >= 0,
            "warmup_steps": self.warmup_steps >= 0,
            "exploration": self.exploration >= 0,
            "replay_capacity": self.replay_capacity > 0,
        }
        if bad := [
            f"{k} = {getattr(self, k)}" for k, good in least.items() if not good
        ]:
            raise RecipeError(
                f"expected updates_per_step and replay_capacity above 0, and no "
                f"negative number of steps or exploration, got {', '.join(bad)}"
            )


def names(algorithm: str) -> list[str]:
    """Return the names of the recipes that come with `algorithm`."""
    prefix = f"{algorithm}_"
    found = (entry.name for entry in _folder().iterdir())
    toml = (n for n in found if n.startswith(prefix) and n.endswith(".toml"))
    return sorted(n.removeprefix(prefix).removesuffix(".toml") for n in toml)


def read(
    algorithm: str,
    name: str = "",
    changes: Iterable[str] = (),
    inherited: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return a recipe of `algorithm`, with `changes` such as "expectile=0.9".

    Args:
        algorithm: one of `robostack list algorithms`.
        name: one of `names`, or the path of a .toml file, or "" for plain defaults.
        changes: KEY=VALUE, of the recipe's keys or the algorithm's settings.
        inherited: what holds where the recipe is silent; `run.heritage` gives it.
    """
    settings = _fields(load_algorithm(algorithm).Config)
    own, base = _table(algorithm, name) if name else {}, dict(inherited or {})
    table = base | own
    if not isinstance(own.get("config", {}), dict):
        raise RecipeError(f"expected [config] to be a table in {name}")
    table["config"] = base.get("config", {}) | own.get("config", {})
    if table.setdefault("algorithm", algorithm) != algorithm:
        raise RecipeError(
            f"expected a recipe for {algorithm}, {name} is for {table['algorithm']}"
        )
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise RecipeError(f"expected KEY=VALUE, got {change!r}")
        general = key in _fields(Recipe) and key != "config"
        _require(key, [*_fields(Recipe), *settings], "a setting")
        into = table if general else table["config"]
        into[key] = _value(text)
    return convert(table)


def convert(table: dict[str, Any]) -> Recipe:
    """Return the recipe in `table`, checked down to the algorithm's own settings."""
    for key in table:
        _require(key, _fields(Recipe), "a recipe's key")
    try:
        recipe = msgspec.convert(table, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"the recipe is not valid: {clause(error)}") from error
    configure(recipe)
    return recipe


def configure(recipe: Recipe) -> Any:
    """Return the `Config` of the recipe's algorithm."""
    kind = load_algorithm(recipe.algorithm).Config
    for key in recipe.config:
        _require(key, _fields(kind), f"a setting of {recipe.algorithm}")
    try:
        return msgspec.convert(recipe.config, kind)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"the settings of {recipe.algorithm} are not valid: {clause(error)}"
        ) from error


def _table(algorithm: str, name: str) -> dict[str, Any]:
    try:
        if name.endswith(".toml"):
            return tomllib.loads(Path(name).read_text())
        known = names(algorithm)
        if name not in known:
            raise RecipeError(plugins.unknown(f"{algorithm} recipe", name, known))
        return tomllib.loads((_folder() / f"{algorithm}_{name}.toml").read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"the recipe {name} cannot be read: {error}") from error


def _folder() -> Any:
    return importlib.resources.files("robostack.policies") / "recipes"


def _fields(kind: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind)]


def _require(key: str, known: list[str], what: str) -> None:
    if key not in known:
        raise RecipeError(plugins.unknown(what, key, known))


def _value(text: str) -> Any:
    """Return `text` as TOML has it; as a string where it is no TOML value."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text
