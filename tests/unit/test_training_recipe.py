import pytest

from robostack import plugins
from robostack.training import recipe
from robostack.training.recipe import RecipeError

pytest.importorskip("torch")

ALL = [(a, n) for a in plugins.names("policies") for n in recipe.names(a)]


@pytest.mark.parametrize(("algorithm", "name"), ALL)
def test_every_recipe_that_comes_along_is_valid(algorithm, name):
    assert recipe.read(algorithm, name).algorithm == algorithm


def test_the_papers_settings_are_in_the_recipes():
    locomotion = recipe.read("iql", "locomotion")
    config = recipe.configure(locomotion)
    assert (locomotion.steps, locomotion.batch_size) == (1_000_000, 256)
    assert (config.expectile, config.inverse_temperature) == (0.7, 3.0)
    assert (config.max_weight, config.target_rate) == (100.0, 0.005)
    assert (config.hidden, config.critics, config.learning_rate) == (
        (256, 256),
        2,
        3e-4,
    )
    assert (locomotion.reward_scale, locomotion.gamma) == ("return_range", 0.99)
    antmaze = recipe.read("iql", "antmaze")
    config = recipe.configure(antmaze)
    assert (config.expectile, config.inverse_temperature) == (0.9, 10.0)
    assert (antmaze.reward_scale, antmaze.reward_shift) == (1.0, -1.0)
    assert antmaze.evaluate_episodes == 100
    for name in ("adroit", "kitchen"):
        config = recipe.configure(recipe.read("iql", name))
        assert (config.expectile, config.inverse_temperature) == (0.7, 0.5)
        assert config.dropout == 0.1


def test_changes_reach_the_recipe_and_the_algorithm():
    changed = recipe.read("iql", "", ["steps=7", "expectile=0.9", "action_frame=auto"])
    assert changed.steps == 7
    config = recipe.configure(changed)
    assert (config.expectile, config.action_frame) == (0.9, "auto")


def test_lists_are_written_as_in_toml():
    changed = recipe.read("bc", "", ["hidden=[64, 32]"])
    assert recipe.configure(changed).hidden == (64, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("expectil=0.9", "did you mean 'expectile'"),
        ("step=10", "did you mean 'steps'"),
        ("expectile", "KEY=VALUE"),
        ("expectile=much", "expected `float`, got `str`"),
        ("expectile=1.5", "0 < expectile < 1"),
        ("steps=0", "at least 1"),
        ("gamma=1.1", "gamma between 0 and 1"),
        ("reward_scale=returns", "reward_scale"),
    ],
)
def test_a_change_that_means_nothing_is_refused(change, words):
    with pytest.raises(RecipeError, match=words):
        recipe.read("iql", "", [change])


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'antmaze'"):
        recipe.read("iql", "ant_maze")


def test_a_recipe_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("steps = 5\n[config]\nexpectile = 0.6\n")
    assert recipe.read("iql", str(path)).config == {"expectile": 0.6}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz = 5", "did you mean 'steps'"),
        ("[config]\nexpectle = 0.5", "did you mean 'expectile'"),
        ("steps = ", "cannot be read"),
        ('algorithm = "bc"', "expected a recipe for iql"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_refused(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        recipe.read("iql", str(path))


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe.read("iql", str(tmp_path / "none.toml"))
