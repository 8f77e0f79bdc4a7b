"""What a Go1 is: joints, limits, what is sensed, and the command it is given.

Numbers are those of the model in the package; a test compares them.
"""

from __future__ import annotations

import msgspec

from robostack.limits import Box, Limits, derive
from robostack.plugins import PluginError
from robostack.spec import ArraySpec, RobotSpec

LEGS = ("FR", "FL", "RR", "RL")
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("hip", "thigh", "calf"))

LOW = (-0.863, -0.686, -2.818) * len(LEGS)  # [rad]
HIGH = (0.863, 4.501, -0.888) * len(LEGS)
HOME = (0.1, 0.9, -1.8, -0.1, 0.9, -1.8) * 2  # [rad] the keyframe `home`
HOME_HEIGHT = 0.278  # [m] of the trunk in it
HOME_NOISE = 0.02  # [rad] by which joints are elsewhere when an episode begins

PERIOD_S = 0.02
MOTOR_SPEED = 30.0  # [rad/s] Unitree's descriptions give such motors 30.1
JOINT_SPEED = 30.0  # [rad/s] at which readings saturate
SPEED = 4.0  # [m/s] the same
SPIN = 20.0  # [rad/s] the same

COMMAND = ("forward", "left", "turn")
LARGEST = (1.5, 0.8, 1.2)  # m/s, m/s, rad/s: what such policies are trained for
STRAIGHT_ON = (1.0, 0.0, 0.0)

SPEC = RobotSpec(
    name="go1",
    control_period_s=PERIOD_S,
    command_timeout_s=5 * PERIOD_S,
    control="position",
    tracks="joint_position",
    observation={
        "linear_velocity": ArraySpec.uniform(("x", "y", "z"), "m/s", -SPEED, SPEED),
        "gyro": ArraySpec.uniform(("x", "y", "z"), "rad/s", -SPIN, SPIN),
        "gravity": ArraySpec.uniform(("x", "y", "z"), "", -1.0, 1.0),
        "joint_position": ArraySpec(JOINTS, ("rad",) * len(JOINTS), LOW, HIGH),
        "joint_velocity": ArraySpec.uniform(JOINTS, "rad/s", -JOINT_SPEED, JOINT_SPEED),
        "command": ArraySpec(
            COMMAND,
            ("m/s", "m/s", "rad/s"),
            tuple(-most for most in LARGEST),
            LARGEST,
        ),
    },
    cameras={},
    action=ArraySpec(JOINTS, ("rad",) * len(JOINTS), LOW, HIGH),
    home=HOME,
    max_action_step=(MOTOR_SPEED * PERIOD_S,) * len(JOINTS),
    conventions={
        "frame": "trunk: x forward, y left, z up; the IMU's place, the trunk's axes",
        "linear_velocity": "of the IMU, in the frame of the trunk",
        "gyro": "angular velocity in the frame of the trunk",
        "gravity": "direction of the pull in the frame of the trunk: 0, 0, -1 upright",
        "zero pose": "Menagerie's: thighs straight down, calves in line with them",
        "sign": "hip about x, thigh and calf about y; right-handed, all legs alike",
        "quaternion": "w, x, y, z (truth only)",
    },
)

TILT = 0.8  # least share of gravity along the trunk's down: 37 degrees


def limits() -> Limits:
    """Return the limits of a Go1: those of its spec, and a posture.

    Well-sized motions can be the wrong ones. What gives them away is the trunk, which
    in walking tilts by less than 4 degrees.
    """
    upright = Box(low=(-1.0, -1.0, -1.0), high=(1.0, 1.0, -TILT))
    return msgspec.structs.replace(derive(SPEC), boxes={"gravity": upright})


def command(argument: str) -> tuple[float, ...]:
    """Return the command (3,) that `argument` asks for: forward, left, turn.

    Raises:
        PluginError: it is not three numbers, or one is beyond what is sensible.
    """
    if not argument:
        return STRAIGHT_ON
    try:
        numbers = tuple(float(word) for word in argument.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(COMMAND):
        raise PluginError(
            f"expected sim:go1/FORWARD,LEFT,TURN in m/s, m/s and rad/s, such as "
            f"sim:go1/1.0,0,0, got {argument!r}"
        )
    for name, x, most in zip(COMMAND, numbers, LARGEST, strict=True):
        if not -most <= x <= most:  # or NaN
            raise PluginError(f"expected {name} from {-most} to {most}, got {x}")
    return numbers
