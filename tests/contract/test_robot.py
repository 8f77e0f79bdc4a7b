"""What every driver and every world has to do; runs over all plug-ins there are."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from installed import need

from robostack import plugins
from robostack.limiting import ActionLimiter
from robostack.limits import derive
from robostack.node.device import make as make_robot
from robostack.spec import RobotSpec, difference, float32

ARGUMENTS = {
    "sim:gym": "/Hopper-v5",
    "hardware:so101": "/emulated",
    "hardware:dynamixel": "/emulated",
    "hardware:rig": "/example",
    "hardware:ur": "/emulated",
}
ADDRESSES = [
    f"{kind}:{name}{ARGUMENTS.get(f'{kind}:{name}', '')}"
    for kind in ("hardware", "sim")
    for name in plugins.names(kind)
    if name != "lerobot"  # wants a file: see tests/integration/test_lerobot.py
]

SLOW = {"hardware:ur/emulated"}  # ur_rtde sleeps half a second here and there


def _parameter(address):
    return pytest.param(address, marks=[pytest.mark.slow] * (address in SLOW))


@pytest.fixture(params=[_parameter(a) for a in ADDRESSES])
def address(request):
    need(request.param)
    return request.param


@pytest.fixture
def robot(address):
    """Return a robot that is not connected; close it afterwards."""
    with contextlib.closing(make_or_skip(address)) as robot:
        yield robot


def make_or_skip(address):
    """Return the robot, or skip where a vendor's package is not installed."""
    try:
        return make_robot(address)
    except plugins.PluginError as error:
        if not address.startswith("hardware:") or "not installed" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def ready(robot):
    """Return a robot at home, with its actuators enabled."""
    robot.connect()
    robot.reset()
    return robot


def test_there_is_something_to_test():
    assert "hardware:fake" in ADDRESSES
    assert len(ADDRESSES) >= 2


def test_spec_is_known_without_making_a_robot(address, robot):
    kind, name, argument = plugins.parse(address)
    assert difference(plugins.load(kind, name).spec(argument), robot.spec) == []


def test_spec_survives_the_wire(robot):
    frame = msgspec.msgpack.encode(robot.spec)
    assert msgspec.msgpack.decode(frame, type=RobotSpec) == robot.spec


def test_limits_follow_from_the_spec(robot):
    limits = derive(robot.spec)
    pairs = zip(limits.first, limits.step, strict=True)
    assert all(0 < first <= step for first, step in pairs)
    assert np.isfinite([limits.low, limits.high, limits.step, limits.first]).all()


def test_stop_works_before_connect_and_twice(robot):
    robot.stop()
    robot.stop()


def test_close_works_twice_and_before_connect(address):
    robot = make_or_skip(address)
    robot.close()
    robot.close()
    robot = make_or_skip(address)
    robot.connect()
    robot.close()
    robot.close()


def test_reading_is_what_the_spec_says(ready):
    arrays = ready.read()
    assert list(arrays) == list(ready.spec.observation)
    for name, spec in ready.spec.observation.items():
        assert arrays[name].dtype == np.float32
        assert arrays[name].shape == (spec.size,)
        assert arrays[name].flags.c_contiguous
        assert np.isfinite(arrays[name]).all()


def test_reading_is_within_bounds_after_reset(ready):
    for name, array in ready.read().items():
        spec = ready.spec.observation[name]
        assert (array >= float32(spec.low) - 1e-6).all(), name
        assert (array <= float32(spec.high) + 1e-6).all(), name


def test_reading_is_a_copy(ready):
    first = ready.read()
    before = {name: array.copy() for name, array in first.items()}
    for array in first.values():
        np.add(array, 1.0, out=array)
    again = ready.read()
    for name, array in again.items():
        assert not np.shares_memory(array, first[name])
        assert np.abs(array - before[name]).max() < 0.5


def test_apply_takes_read_only_actions_and_returns_what_was_sent(ready):
    home = float32(ready.spec.home)
    home.flags.writeable = False
    sent = ready.apply(home)
    assert sent.dtype == np.float32
    assert sent.shape == home.shape
    spec = ready.spec.action
    assert (sent >= float32(spec.low)).all()
    assert (sent <= float32(spec.high)).all()


def test_reset_leaves_the_robot_within_one_step_of_home(ready):
    tracks = ready.spec.tracks
    if not tracks:
        pytest.skip("its action is no target for anything measured")
    limiter = ActionLimiter(derive(ready.spec))
    limiter.settle(ready.read()[tracks])
    assert limiter(float32(ready.spec.home)).changed == ()


def test_robot_works_again_after_stop(ready):
    ready.apply(float32(ready.spec.home))
    ready.stop()
    ready.read()
    ready.reset()
    ready.apply(float32(ready.spec.home))
    ready.read()


def test_stop_may_come_from_another_thread_at_any_time(ready):
    over = threading.Event()

    def keep_stopping():
        while not over.is_set():
            ready.stop()

    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(keep_stopping)
        for _ in range(50):
            ready.apply(float32(ready.spec.home))
            assert all(np.isfinite(a).all() for a in ready.read().values())
        over.set()
        assert stopping.result(timeout=10) is None


def test_one_thread_may_make_it_and_another_drive_it(robot):
    def drive():
        robot.connect()
        robot.reset()
        robot.apply(float32(robot.spec.home))
        readings = robot.read()
        robot.close()
        return readings

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(drive).result(timeout=30)


def test_frames_are_what_the_spec_says(ready):
    frames = ready.frames()
    assert frames.keys() == ready.spec.cameras.keys()
    for name, camera in ready.spec.cameras.items():
        assert frames[name].dtype == np.uint8
        assert frames[name].shape == (camera.height, camera.width, 3)
