"""AWAC: its losses by hand, and its claim at toy size."""

import math

import pytest
from policy_examples import make, train

torch = pytest.importorskip("torch")

from robostack.learner import LearnerError  # noqa: E402
from robostack.policies import awac  # noqa: E402


def test_weights_are_exponential_and_limited():
    advantage = torch.tensor([0.0, -1.0, 10.0])
    config = awac.Config(inverse_temperature=2.0, max_weight=50.0)
    weight = awac.advantage_weight(advantage, config)
    assert weight.tolist() == pytest.approx([1.0, math.exp(-2.0), 50.0])


def test_weights_of_a_batch_have_mean_one():
    advantage = torch.tensor([0.0, math.log(3.0)])
    weight = awac.advantage_weight(advantage, awac.Config(weights="batch"))
    assert weight.tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.slow
def test_it_learns_the_weighted_mean_of_the_data(robot):
    """exp(-5 (a - 0.5)^2) times a normal density of spread 0.3 has its mean at 0.237.

    That of the data is 0, and the best action 0.5.
    """
    learned = train(
        make(robot, awac, weights="batch", inverse_temperature=5.0), steps=1200
    )
    assert learned.mean(0) == pytest.approx([0.237, 0.237], abs=0.06)


def test_settings_that_no_run_could_mean_are_refused(robot):
    with pytest.raises(LearnerError, match="samples"):
        make(robot, awac, samples=0)


def test_the_spread_begins_where_it_is_told_to(robot):
    learner = make(robot, awac, first_log_std=-3.0)
    assert (learner.policy.log_std == -3.0).all()
    with pytest.raises(LearnerError, match="first_log_std within -5 and 2, got -6"):
        awac.Config(first_log_std=-6.0)
