import pytest

from robostack.training.scores import ScoreError, normalized, reference


@pytest.mark.parametrize(
    ("task", "random", "expert"),
    [
        ("hopper-medium-v2", -20.272305, 3234.3),
        ("halfcheetah-medium-expert-v0", -280.178953, 12135.0),
        ("walker2d-full-replay-v2", 1.629008, 4592.3),
        ("ant-random-v2", -325.6, 3879.7),
        ("antmaze-umaze-diverse-v2", 0.0, 1.0),
        ("antmaze-large-play-v0", 0.0, 1.0),
        ("kitchen-mixed-v0", 0.0, 4.0),
        ("pen-human-v1", 96.262799, 3076.8331017826877),
        ("hammer-cloned-v0", -274.856578, 12794.134825156867),
        ("door-expert-v1", -56.512833, 2880.5693087298737),
        ("relocate-human-v1", -6.425911, 4233.877797728884),
        ("maze2d-umaze-v1", 23.85, 161.86),
        ("maze2d-large-dense-v1", 30.569041, 303.4857382709002),
    ],
)
def test_the_constants_are_d4rls(task, random, expert):
    assert reference(task) == (random, expert)
    assert normalized(task, random) == pytest.approx(0.0)
    assert normalized(task, expert) == pytest.approx(100.0)


def test_a_hopper_point_is_worth_32_55():
    better = normalized("hopper-medium-v2", 1032.55) - normalized(
        "hopper-medium-v2", 1000.0
    )
    assert better == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    "task", ["Hopper-v5", "hopper", "hopper-medium", "hopper-medium-v5", "so101_table"]
)
def test_other_tasks_have_no_such_score(task):
    with pytest.raises(ScoreError, match="D4RL"):
        normalized(task, 0.0)
