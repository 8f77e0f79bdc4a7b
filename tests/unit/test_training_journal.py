"""When it is time for a report and for a checkpoint."""

from pathlib import Path

import pytest

from robostack.training.journal import Journal, Options
from robostack.training.recipe import Recipe


def due(step, evaluate_every, **options):
    recipe = Recipe(steps=1_000_000, evaluate_every=evaluate_every)
    found = Journal(Path(), recipe, Options(**options), None, None).due(step)
    return found.report, found.checkpoint


@pytest.mark.parametrize(
    ("step", "expected"),
    [(10, (True, True)), (11, (False, False)), (500, (True, True))],
)
def test_a_recipe_that_evaluates_often_saves_often(step, expected):
    """Ten updates of PPO are twenty thousand steps of the robot."""
    assert due(step, evaluate_every=10) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [(499, (False, False)), (500, (True, False)), (5_000, (True, True))],
)
def test_one_that_seldom_does_saves_every_5000_updates(step, expected):
    assert due(step, evaluate_every=100_000) == expected


def test_checkpoints_are_those_asked_for_and_no_others():
    """So that as many as are kept are the ones that somebody counts on."""
    assert due(40, evaluate_every=10, checkpoint_every=40) == (True, True)
    assert due(50, evaluate_every=10, checkpoint_every=40) == (True, False)
