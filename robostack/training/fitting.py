"""What an algorithm can learn from: logs, its own acting, or both.

Files of `policies/` say it by flags, False unless they are there:

    NEEDS_REWARD   it learns from rewards (True unless it is there)
    NEEDS_RETURN   and from returns, which are known once an episode is over
    ONLINE         it learns by acting; a fixed dataset alone leads it astray
    HYBRID         by acting, beside a dataset
    ON_POLICY      by acting, from what its policy just did and from nothing else

A setting `phase`, where there is one, says which of both a run is.
"""

from __future__ import annotations

from robostack.training.process import load_algorithm
from robostack.training.recipe import Recipe, RecipeError, configure


def has(algorithm: str, flag: str, *, default: bool = False) -> bool:
    """Return a flag of `algorithm`."""
    return bool(getattr(load_algorithm(algorithm), flag, default))


def require_logs(recipe: Recipe) -> None:
    """Raise RecipeError unless `recipe` can learn from a dataset alone."""
    name = recipe.algorithm
    if has(name, "ON_POLICY") and (has(name, "ONLINE") or _phase(recipe) == "online"):
        raise RecipeError(
            f"expected --online sim:WORLD to learn from what its own policy does, as "
            f"{name} must{' online' * (not has(name, 'ONLINE'))}; got logs alone"
        )


def require_acting(recipe: Recipe, *, beside_data: bool) -> None:
    """Raise RecipeError unless `recipe` can learn by acting, `beside_data` or not."""
    name = recipe.algorithm
    if not has(name, "NEEDS_REWARD", default=True):
        raise RecipeError(
            f"expected an algorithm that learns from rewards to learn by acting, "
            f"{name} imitates what was logged"
        )
    if has(name, "HYBRID") and not beside_data:
        raise RecipeError(
            f"expected --dataset, the real data that {name} learns from beside its "
            f"simulator, got none"
        )
    if _phase(recipe) == "offline":
        raise RecipeError(
            f'expected phase = "online" to learn by acting, got "offline"; --recipe '
            f"online has it, or --set phase=online beside another recipe of {name}"
        )
    if has(name, "ON_POLICY"):
        _require_rollouts(recipe, beside_data=beside_data)


def _require_rollouts(recipe: Recipe, *, beside_data: bool) -> None:
    if beside_data:
        raise RecipeError(
            f"expected no --dataset beside --online: {recipe.algorithm} learns online "
            f"from what its own policy does; what was learned from logs comes by --from"
        )
    if recipe.replay_capacity < recipe.batch_size:
        raise RecipeError(
            f"expected a replay_capacity of at least one rollout (batch_size), "
            f"{recipe.batch_size} steps, got {recipe.replay_capacity}"
        )


def _phase(recipe: Recipe) -> str:
    return str(getattr(configure(recipe), "phase", ""))
