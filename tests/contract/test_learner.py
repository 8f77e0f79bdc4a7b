"""What every algorithm in policies/ has to fulfil."""

import copy

import msgspec
import numpy as np
import pytest

from robostack import plugins
from robostack.export import graph_inputs
from robostack.learner import Batch, LearnerError, Statistics
from robostack.runtime.session import Batched
from robostack.spec import ArraySpec, RobotSpec, float32

ALGORITHMS = plugins.names("policies")
SLOW = {
    "cql",
    "cal_ql",
    "rlpd",
    "ro2o",
    "h2o",
    "famo2o",
    "uni_o4",
    "ppo",
}  # most matmuls
FRAMES = ["absolute", "delta"]
SMALL = {"hidden": (32, 32), "epochs": 1, "horizon": 5, "starts": 50}
STEPS = 60
UNKNOWABLE = 0.0125  # of the actions in `draw`: their mean absolute deviation [rad]
LEARNED = 0.7  # of the way there, from the best action or step that never changes
# Settings that keep an algorithm close to the data, where critics know nothing yet.
CLONING = {"cloning_steps": 400, "policy_learning_rate": 3e-3, "temperature": 1e-3}
CLOSE = {
    "td3_bc": {"alpha": 0.05},
    "famo2o": {"least_balance": 0.5, "largest_balance": 1.0},
    "cql": CLONING,
    "cal_ql": CLONING,
    "ro2o": {"cloning": 100.0, "policy_learning_rate": 3e-3, "temperature": 1e-3},
    "uni_o4": {"cloning_share": 0.9, "improvement_share": 0.1, "normalize": True},
}
SMALLER = {"ro2o": {"critics": 3, "least_of": 3, "samples": 3}}
LOSSES = ("critic", "value", "policy")  # the first that there is has to decrease
UNUSED = {"bc": ("reward", "mc_return"), "cal_ql": ()}  # columns

SPEC = RobotSpec(
    name="two_joints",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="position",
    tracks="joint_position",
    observation={
        "joint_velocity": ArraySpec.uniform(("hip", "knee"), "rad/s", -9.0, 9.0),
        "joint_position": ArraySpec.uniform(("hip", "knee"), "rad", -3.0, 3.0),
        "load": ArraySpec(("gripper",), ("N",), (0.0,), (50.0,)),
    },
    cameras={},
    action=ArraySpec(("hip", "knee"), ("rad", "rad"), (-1.0, -3.0), (2.0, 3.0)),
    home=(0.0, 0.0),
    max_action_step=(0.1, 0.2),
    conventions={},
)
STATISTICS = Statistics(
    mean=float32([0.0, 0.5, 0.0, 0.0, 20.0]),
    std=float32([2.0, 2.0, 1.0, 1.0, 10.0]),
    return_low=0.0,
    return_high=10.0,
)


def make(algorithm, *, seed=0, steps=STEPS, **settings):
    module = plugins.load("policies", algorithm)
    known = {field.name for field in msgspec.structs.fields(module.Config)}
    settings = SMALL | SMALLER.get(algorithm, {}) | settings
    settings = {k: v for k, v in settings.items() if k in known}
    config = msgspec.convert(settings, module.Config)
    return module.Learner(SPEC, config, statistics=STATISTICS, steps=steps, seed=seed)


def draw(rng, size=64, *, gamma=0.99):
    """Return transitions of a robot that steps towards 0, well rewarded if near it."""
    velocity = rng.uniform(-1, 1, (size, 2))
    position = rng.uniform(-1, 1, (size, 2))
    observation = np.hstack([velocity, position, rng.uniform(0, 50, (size, 1))])
    action = position - 0.1 * np.sign(position) * rng.uniform(0.5, 1, (size, 2))
    after = observation.copy()
    after[:, 2:4] = action
    return Batch(
        float32(observation),
        float32(action),
        float32(-np.abs(action).sum(1)),
        np.full(size, gamma, np.float32),
        float32(after),
        float32(rng.uniform(-20, 0, size)),
        float32(np.arange(size) % 2),
    )


def train(learner, *, steps=STEPS, seed=1, gamma=0.99):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        metrics = learner.update(draw(rng, gamma=gamma))
    return {name: float(value) for name, value in metrics.items()}


def _parameter(name):
    return pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))


@pytest.fixture(params=[_parameter(name) for name in ALGORITHMS])
def algorithm(request):
    return request.param


@pytest.mark.parametrize("frame", FRAMES)
def test_it_comes_to_act_as_good_data_does(algorithm, frame):
    if getattr(plugins.load("policies", algorithm), "ONLINE", False):
        pytest.skip(f"{algorithm} learns by acting")
    near = CLOSE.get(algorithm, {})
    learner = make(algorithm, steps=400, action_frame=frame, learning_rate=3e-3, **near)
    batch = draw(np.random.default_rng(5), 512)
    position = batch.observation[:, 2:4]  # the world is symmetrical: 0 is best
    still = position if frame == "delta" else np.zeros_like(position)
    ignorant = np.abs(still - batch.action).mean()
    train(learner, steps=400)
    after = np.abs(learner.act(batch.observation, None) - batch.action).mean()
    assert after < ignorant - LEARNED * (ignorant - UNKNOWABLE)


def test_losses_decrease(algorithm):
    learner = make(algorithm, learning_rate=3e-3, steps=400)
    first = train(learner, steps=1, gamma=0.0)
    last = train(learner, steps=400, gamma=0.0)
    name = next(f"loss/{x}" for x in LOSSES if f"loss/{x}" in first)
    assert last[name] < first[name]


def test_metrics_have_the_same_names_at_every_step(algorithm):
    learner = make(algorithm)
    assert train(learner, steps=1).keys() == train(learner, steps=3).keys()


def test_the_same_seed_gives_the_same_weights(algorithm):
    twins = [make(algorithm, seed=3, dropout=0.1) for _ in range(2)]
    for twin in twins:
        train(twin, steps=5)
    assert twins[0].state() == twins[1].state()


def test_another_seed_gives_another_policy(algorithm):
    observation = draw(np.random.default_rng(0)).observation
    actions = [make(algorithm, seed=s).act(observation, None) for s in (0, 1)]
    assert np.abs(actions[0] - actions[1]).max() > 1e-4


def test_it_leaves_the_random_state_of_the_process_alone(algorithm):
    torch = pytest.importorskip("torch")
    before = torch.random.get_rng_state().clone(), np.random.get_state()[1].copy()
    train(make(algorithm, dropout=0.1), steps=2)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_a_loaded_learner_goes_on_bit_for_bit(algorithm):
    straight = make(algorithm, dropout=0.1)
    train(straight, steps=21)  # no multiple of what is learned only now and then
    resumed = make(algorithm, seed=99, dropout=0.1)
    resumed.load(straight.state())
    assert train(straight, steps=1) == train(resumed, steps=1)
    assert train(straight, steps=20, seed=2) == train(resumed, steps=20, seed=2)
    assert straight.state() == resumed.state()


def test_state_does_not_change_what_is_learned(algorithm):
    plain, saved = make(algorithm, dropout=0.1), make(algorithm, dropout=0.1)
    train(plain, steps=6)
    rng = np.random.default_rng(1)
    for _ in range(6):
        saved.update(draw(rng))
        saved.state()
        saved.act(draw(np.random.default_rng(0)).observation, np.random.default_rng(0))
    assert plain.state() == saved.state()


@pytest.mark.parametrize("damage", [b"", b"nonsense", "cut", "other"])
def test_a_damaged_state_is_refused(algorithm, damage):
    learner = make(algorithm)
    state = learner.state()
    if damage == "cut":
        damage = state[: len(state) // 2]
    elif damage == "other":
        damage = make(algorithm, seed=1, hidden=(32, 32, 32)).state()
    with pytest.raises(LearnerError):
        learner.load(damage)
    assert learner.state() == state


@pytest.mark.parametrize("column", Batch._fields)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name(algorithm, column, value):
    learner = make(algorithm)
    before = learner.state()
    batch = draw(np.random.default_rng(0))
    getattr(batch, column).flat[-1] = value
    if column in UNUSED.get(algorithm, ("mc_return",)):
        learner.update(batch)
        return
    with pytest.raises(LearnerError, match=column):
        learner.update(batch)
    assert learner.state() == before


def test_the_element_that_is_not_finite_is_named(algorithm):
    batch = draw(np.random.default_rng(0))
    batch.observation[3, 1] = np.nan
    batch.observation[4, 4] = np.nan
    with pytest.raises(LearnerError, match=r"joint_velocity knee.*load gripper"):
        make(algorithm).update(batch)


def test_misshapen_columns_are_refused(algorithm):
    batch = draw(np.random.default_rng(0))
    with pytest.raises(LearnerError, match="action of shape"):
        make(algorithm).update(batch._replace(action=batch.action[:, :1]))


def test_targets_get_no_gradient_and_move_slowly(algorithm):
    learner = make(algorithm)
    followed = [name for name in learner._nets if name.startswith("target")]
    if not followed:
        pytest.skip(f"{algorithm} has no target network")
    before = copy.deepcopy(learner._nets)
    train(learner, steps=1)
    for name in followed:
        source = name.removeprefix("target").removeprefix("_") or "critic"
        nets = before[name], learner._nets[name], learner._nets[source]
        for old, slow, fast in zip(*(net.parameters() for net in nets), strict=True):
            assert slow.grad is None
            assert not slow.requires_grad
            expected = old + learner._config.target_rate * (fast.detach() - old)
            assert np.allclose(slow, expected, atol=1e-7)


def test_a_terminated_transition_does_not_look_ahead(algorithm):
    """With discount 0 the next observation is as good as any other."""
    states = []
    for shift in (0.0, 1.0):
        learner, rng = make(algorithm), np.random.default_rng(1)
        for _ in range(3):
            batch = draw(rng)
            learner.update(
                batch._replace(
                    discount=np.zeros_like(batch.discount),
                    next_observation=batch.next_observation + np.float32(shift),
                )
            )
        states.append(learner.state())
    assert states[0] == states[1]


def test_a_truncated_transition_looks_ahead(algorithm):
    if not getattr(plugins.load("policies", algorithm), "NEEDS_REWARD", True):
        pytest.skip(f"{algorithm} looks at one step alone")
    states = []
    for shift in (0.0, 1.0):
        learner, batch = make(algorithm), draw(np.random.default_rng(1))
        after = batch.next_observation + np.float32(shift)
        learner.update(batch._replace(next_observation=after))
        states.append(learner.state())
    assert states[0] != states[1]


def test_actions_keep_within_bounds(algorithm):
    learner = make(algorithm, action_frame="delta")
    rng = np.random.default_rng(0)
    observation = float32(rng.uniform(-20, 20, (200, 5)))
    low, high = float32(SPEC.action.low), float32(SPEC.action.high)
    for action in (learner.act(observation, None), learner.act(observation, rng)):
        assert action.dtype == np.float32
        assert (action >= low).all()
        assert (action <= high).all()


def test_samples_follow_from_the_noise_alone(algorithm):
    learner = make(algorithm)
    observation = draw(np.random.default_rng(0)).observation
    mean = learner.act(observation, None)
    sample, same, other = (
        learner.act(observation, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert np.array_equal(sample, same)
    assert np.array_equal(sample, mean) != learner.stochastic
    assert np.array_equal(sample, other) != learner.stochastic


@pytest.mark.parametrize("frame", FRAMES)
def test_the_exported_graph_acts_as_the_learner_does(algorithm, frame, capfd):
    learner = make(algorithm, action_frame=frame, normalize=True, dropout=0.1)
    train(learner, steps=10)
    run = Batched(learner.export())
    assert capfd.readouterr() == ("", "")  # users need not hear of exporters
    for size in (1, 2, 7, 256):
        observation = draw(np.random.default_rng(size), size).observation
        for seed in (None, 3):
            rngs = [None if seed is None else np.random.default_rng(3) for _ in "ab"]
            outputs = run(graph_inputs(learner, observation, rngs[0]))
            expected = learner.act(observation, rngs[1])
            assert outputs.keys() == {"action"}
            assert outputs["action"].shape == (size, 2)
            assert np.abs(outputs["action"] - expected).max() <= 1e-5


def test_another_robots_state_is_refused(algorithm):
    other = msgspec.structs.replace(SPEC, name="three_joints")
    module = plugins.load("policies", algorithm)
    theirs = module.Learner(
        other, module.Config(), statistics=STATISTICS, steps=1, seed=0
    )
    with pytest.raises(LearnerError, match="two_joints"):
        make(algorithm).load(theirs.state())
