import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack.learner import LearnerError, Statistics  # noqa: E402
from robostack.policies._codec import EDGE, Codec  # noqa: E402
from robostack.spec import float32  # noqa: E402

STATISTICS = Statistics(
    float32([1.0, -1.0, 0.0, 4.0]), float32([0.5, 2.0, 1.0, 0.0]), 0.0, 1.0
)
# the `robot` of conftest: positions then velocities, actions in [-2, 2], steps of 0.1


def codec(robot, *, normalize=False, frame="absolute", reach=2.0):
    return Codec(robot, STATISTICS, normalize=normalize, frame=frame, reach=reach)


def test_observations_are_left_alone_by_default(robot):
    x = torch.tensor([[0.3, -0.2, 5.0, 1e-3]])
    assert torch.equal(codec(robot).observation(x), x)


def test_observations_are_standardized_by_fixed_statistics(robot):
    x = torch.tensor([[1.501, 1.001, 0.0, 4.0]])
    y = codec(robot, normalize=True).observation(x)
    assert y[0].tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-5)


def test_bounds_become_plus_and_minus_one(robot):
    action = torch.tensor([[-2.0, 1.0]])
    unit = codec(robot).encode(action, torch.zeros(1, 4))
    assert unit[0].tolist() == pytest.approx([-EDGE, 0.5])


def test_what_the_data_does_beyond_its_rim_is_clipped(robot):
    unit = codec(robot).encode(torch.tensor([[9.0, -9.0]]), torch.zeros(1, 4))
    assert unit[0].tolist() == pytest.approx([EDGE, -EDGE])
    assert EDGE == 1 - 1e-5


def test_delta_is_counted_in_largest_steps_from_the_tracked_array(robot):
    position = torch.tensor([[0.5, -0.5, 7.0, 7.0]])
    unit = codec(robot, frame="delta").encode(torch.tensor([[0.6, -0.6]]), position)
    assert unit[0].tolist() == pytest.approx([0.5, -0.5], abs=1e-5)


@pytest.mark.parametrize("frame", ["absolute", "delta"])
def test_decoding_undoes_encoding(robot, frame):
    rng = np.random.default_rng(0)
    position = torch.tensor(float32(rng.uniform(-1, 1, (50, 4))))
    action = position[:, :2] + torch.tensor(float32(rng.uniform(-0.19, 0.19, (50, 2))))
    both = codec(robot, frame=frame)
    again = both.decode(both.encode(action, position), position)
    assert torch.allclose(again, action, atol=1e-5)


def test_what_is_decoded_is_within_bounds(robot):
    position = torch.tensor([[1.99, -1.99, 0.0, 0.0]])
    action = codec(robot, frame="delta").decode(torch.tensor([[1.0, -1.0]]), position)
    assert action.tolist() == [[2.0, -2.0]]


def test_auto_is_delta_where_the_robot_tracks_and_absolute_elsewhere(robot):
    torque = msgspec.structs.replace(robot, tracks="", control="torque")
    assert codec(robot, frame="auto").reach.tolist() == pytest.approx([0.2, 0.2])
    assert codec(torque, frame="auto").reach.tolist() == pytest.approx([2.0, 2.0])


def test_delta_is_refused_where_nothing_is_tracked(robot):
    torque = msgspec.structs.replace(robot, tracks="", control="torque")
    with pytest.raises(LearnerError, match=r'action_frame = "absolute"'):
        codec(torque, frame="delta")


def test_an_element_that_cannot_move_stays_where_it_is(robot):
    action = msgspec.structs.replace(robot.action, low=(1.0, -2.0), high=(1.0, 2.0))
    fixed = msgspec.structs.replace(robot, action=action, home=(1.0, 0.0))
    both = codec(fixed)
    unit = both.encode(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 4))
    assert both.decode(unit, torch.zeros(1, 4))[0].tolist() == [1.0, 0.0]


def test_statistics_of_another_robot_are_refused(robot):
    wrong = Statistics(float32([0.0]), float32([1.0]), 0.0, 1.0)
    with pytest.raises(LearnerError, match="statistics of 4"):
        Codec(robot, wrong, normalize=True, frame="absolute", reach=1.0)
