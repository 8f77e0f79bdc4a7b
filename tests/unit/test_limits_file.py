"""A file of limits narrows; what it may not say is refused in one clear sentence."""

import msgspec
import pytest

from robostack import cli
from robostack.hardware import fake
from robostack.limits import Box, derive
from robostack.limits_file import LimitsError, dump, load

LIMITS = fake.limits()


@pytest.fixture
def loaded(tmp_path):
    def load_text(text, limits=LIMITS, spec=fake.SPEC):
        path = tmp_path / "limits.toml"
        path.write_text(text)
        return load(path, limits, spec)

    return load_text


def test_what_is_printed_is_a_file_that_changes_nothing(loaded):
    box = {"joint_velocity": Box((-5.0, -5.0), (5.0, 5.0), 0.5)}
    limits = msgspec.structs.replace(LIMITS, boxes=box)
    assert loaded(dump(limits), LIMITS) == limits


def test_a_file_narrows_one_element_and_leaves_the_other(loaded):
    limits = loaded("[action.elbow]\nhigh = 1.0\nvelocity = 2.0\ngate = 0.3\n")
    assert limits.velocity == (5.0, 2.0)
    assert limits.gate == (0.8, 0.3)
    assert limits.high == LIMITS.high  # beyond it are other units
    assert limits.margin_high == (0.0, 0.5)


def test_a_file_gives_a_box(loaded):
    text = "[box.joint_position]\nlow = [-1, -1]\nhigh = [1, 1]\ntolerance = 0.1\n"
    assert loaded(text).boxes == {"joint_position": Box((-1, -1), (1, 1), 0.1)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[action.wrist]\nhigh = 1.0", "one of shoulder, elbow, got 'wrist'"),
        ("[action.elbow]\nspeed = 1.0", "unknown field `speed`"),
        ("[aktion.elbow]\nhigh = 1.0", "unknown field `aktion`"),
        ("[action.elbow]\nhigh = 1.6", "high of elbow within the robot's own bound"),
        ("[action.elbow]\nlow = -1.51", "low of elbow within the robot's own bound"),
        ("[action.elbow]\nlow = 0.1", "expected home, 0, within the bounds of elbow"),
        ("[action.elbow]\nstep = 0.2", "step of elbow at most the robot's own 0.1"),
        ("[action.elbow]\njerk = nan", "a finite jerk for elbow, got nan"),
        ("[action.elbow]\nvelocity = inf", "a finite velocity for elbow, got inf"),
        ("[action.elbow]\nvelocity = 0", "velocity of elbow above 0"),
        ("[action.elbow]\nvelocity = 'fast'", "Expected `float | null`"),
        ("[action.elbow]\njerk = 1e-9", "elbow to come to rest within 1000"),
        ("[box.tip]\nlow = [0]\nhigh = [1]", "an observation array, one of joint_pos"),
        ("[box.joint_position]\nlow = [0]\nhigh = [1]", "expected 2 numbers"),
        ("[box.joint_position]\nlow = [0, nan]\nhigh = [1, 1]", "finite numbers"),
        ("[box.joint_position]\nlow = [0, 2]\nhigh = [1, 1]", "low at most high"),
        ("[action.elbow", "cannot be used"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say_is_refused(loaded, text, sentence):
    with pytest.raises(LimitsError) as caught:
        loaded(text)
    assert sentence in str(caught.value)
    assert "limits.toml cannot be used" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LimitsError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml", LIMITS, fake.SPEC)


def test_a_torque_has_no_velocity_to_limit(loaded, robot):
    torque = msgspec.structs.replace(robot, tracks="", control="torque")
    with pytest.raises(LimitsError, match="no velocity for hip: its action is no targ"):
        loaded("[action.hip]\nvelocity = 1.0", derive(torque), torque)


def test_the_command_line_prints_the_limits_in_effect(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("[action.elbow]\nvelocity = 2.5\n")
    words = ["serve", "hardware:fake", "--limits", str(path), "--print-limits"]
    assert cli.main(words) == 0
    assert "velocity = 2.5" in capsys.readouterr().out
