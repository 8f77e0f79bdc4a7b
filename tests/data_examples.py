"""The golden episodes that tests of data share."""

import numpy as np

from robostack.data.episode import End, Episode, Frames
from robostack.spec import ArraySpec, CameraSpec, RobotSpec, float32

SPEC = RobotSpec(
    name="arm",
    control_period_s=0.1,
    command_timeout_s=0.3,
    control="position",
    tracks="position",
    observation={
        "position": ArraySpec.uniform(["shoulder", "elbow"], "rad", -3.0, 3.0),
        "force": ArraySpec.uniform(["tip"], "N", -10.0, 10.0),
    },
    cameras={"front": CameraSpec(40, 48, 0.2)},
    action=ArraySpec.uniform(["shoulder", "elbow"], "rad", -3.0, 3.0),
    home=(0.0, 0.0),
    max_action_step=(0.1, 0.1),
    conventions={},
)


def make_episode(steps=5, seed=0, end=End.TRUNCATED, **changes):
    rng = np.random.default_rng(seed)
    episode = Episode(
        observation={
            "position": float32(rng.normal(size=(steps + 1, 2))),
            "force": float32(rng.normal(size=(steps + 1, 1))),
        },
        action=float32(rng.normal(size=(steps, 2))),
        requested=float32(rng.normal(size=(steps, 2))),
        time_s=np.cumsum(rng.uniform(0.09, 0.11, steps + 1)),
        end=end,
        reward=float32(rng.normal(size=steps)),
        truth={"cube": float32(rng.normal(size=(steps + 1, 3)))},
        frames={"front": Frames(np.array([0, 2]), (b"\xff\xd8one", b"\xff\xd8two!"))},
        labels={"seed": str(seed)},
    )
    return episode._replace(**changes)


GOLDEN = [make_episode(), make_episode(3, 1, End.TERMINATED)]


def assert_same(a, b):
    assert a.end is b.end
    assert a.labels == b.labels
    np.testing.assert_array_equal(a.time_s, b.time_s)
    np.testing.assert_array_equal(a.action, b.action)
    np.testing.assert_array_equal(a.requested, b.requested)
    assert (a.reward is None) == (b.reward is None)
    if a.reward is not None:
        np.testing.assert_array_equal(a.reward, b.reward)
    for ours, theirs in ((a.observation, b.observation), (a.truth, b.truth)):
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype
    assert list(a.frames) == list(b.frames)
    for name in a.frames:
        np.testing.assert_array_equal(a.frames[name].step, b.frames[name].step)
        assert a.frames[name].jpeg == b.frames[name].jpeg
