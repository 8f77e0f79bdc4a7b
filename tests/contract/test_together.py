"""What every algorithm whose runs learn together has to fulfil: each as if alone."""

import io

import numpy as np
import pytest
from test_learner import ALGORITHMS, SLOW, draw, make

from robostack import plugins
from robostack.export import graph_inputs
from robostack.learner import Joining, LearnerError
from robostack.runtime.session import Batched

torch = pytest.importorskip("torch")

RUNS = 3
UPDATES = 12
PROMISED = {"bc", "iql", "td3_bc", "awac", "famo2o", "cql", "cal_ql", "ro2o"}
JOINING = [
    name
    for name in ALGORITHMS
    if issubclass(plugins.load("policies", name).Learner, Joining)
]
WAYS = {
    "bc": [{}, {"head": "deterministic"}],
    "awac": [{}, {"samples": 2, "weights": "batch"}],
    "famo2o": [{}, {"base": "awac"}, {"phase": "online"}],
    "cql": [
        {},
        {"gradient_samples": 3, "gap": 1.0},
        {"max_backup": True, "cloning_steps": 4, "entropy_backup": True},
        {"critics": 3, "policy_critic": "mean"},
    ],
    "cal_ql": [{}, {"gradient_samples": 4}],
    "ro2o": [
        {},
        {"td_target": "own", "cloning": 0.5, "policy_critic": "mean"},
        {"phase": "online", "penalty": 0.0, "shared_perturbations": False},
        {"policy_smoothing": 0.0, "critic_smoothing": 0.0},
    ],
}
OTHERWISE = {"dropout": 0.1, "action_frame": "delta", "normalize": True}


def otherwise(name):
    """Return those of the settings that the algorithm has."""
    known = plugins.load("policies", name).Config.__struct_fields__
    return {key: value for key, value in OTHERWISE.items() if key in known}


def _cases(ways):
    for name in JOINING:
        for way in ways(name):
            marks = [pytest.mark.slow] * (name in SLOW)
            words = "-".join([name, *map(str, way.values())])
            yield pytest.param(name, way, marks=marks, id=words)


def each(case):
    """Mark a test as one of every algorithm."""
    return pytest.mark.parametrize(
        ("algorithm", "settings"), list(_cases(lambda name: [otherwise(name)]))
    )(case)


def learners(algorithm, settings=None):
    told = otherwise(algorithm) if settings is None else settings
    return [make(algorithm, seed=seed, **told) for seed in range(RUNS)]


def batches(seed=0, updates=UPDATES):
    rng = np.random.default_rng(seed)
    return [[draw(rng) for _ in range(RUNS)] for _ in range(updates)]


def alone(runs, drawn):
    for some in drawn:
        metrics = [run.update(batch) for run, batch in zip(runs, some, strict=True)]
    return metrics


def together(runs, drawn):
    joined = runs[0].join(runs[1:])
    for some in drawn:
        metrics = joined.update(some)
    return metrics


def content(learner):
    """Return everything that a learner is, by name."""
    return dict(_leaves("", torch.load(io.BytesIO(learner.state()))))


def _leaves(path, tree):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(f"{path}/{name}", value)
        else:
            yield f"{path}/{name}", value


def assert_close(one, other):
    """Compare all but for rounding; counts and random numbers to the bit."""
    ours, theirs = content(one), content(other)
    for name, value in theirs.items():
        if torch.is_tensor(value) and value.is_floating_point():
            size = max(float(value.abs().max()), 1e-12)
            assert (ours[name] - value).abs().max() <= 1e-4 * size, name
        elif torch.is_tensor(value):
            assert torch.equal(ours[name], value), name
        elif isinstance(value, float):
            assert ours[name] == pytest.approx(value, rel=1e-4), name
        else:
            assert ours[name] == value, name


def test_all_that_should_can():
    assert set(JOINING) >= PROMISED


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    list(_cases(lambda name: [*WAYS.get(name, [{}]), otherwise(name)])),
)
def test_runs_that_learn_together_become_what_each_is_alone(algorithm, settings):
    ones, several = learners(algorithm, settings), learners(algorithm, settings)
    expected, found = alone(ones, batches()), together(several, batches())
    observation = draw(np.random.default_rng(5)).observation
    for run, one in enumerate(ones):
        assert_close(several[run], one)
        actions = [x.act(observation, None) for x in (several[run], one)]
        np.testing.assert_allclose(*actions, rtol=1e-4, atol=1e-5)
        assert found[run].keys() == expected[run].keys()
        for name, value in expected[run].items():
            metric = float(found[run][name])
            assert metric == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


@each
def test_one_that_leaves_goes_on_as_what_loads_its_state(algorithm, settings):
    runs = learners(algorithm)
    together(runs, batches())
    fresh = make(algorithm, seed=99, **settings)
    fresh.load(runs[1].state())
    rng = np.random.default_rng(1)
    for batch in [draw(rng) for _ in range(7)]:
        fresh.update(batch)
        runs[1].update(batch)
    assert fresh.state() == runs[1].state()


@each
def test_one_that_leaves_moves_no_other(algorithm, settings):
    runs = learners(algorithm)
    together(runs, batches())
    before = [run.state() for run in runs]
    runs[1].update(draw(np.random.default_rng(1)))
    assert [run.state() == old for run, old in zip(runs, before, strict=True)] == [
        True,
        False,
        True,
    ]


@each
def test_they_go_on_together_as_ever_once_joined_again(algorithm, settings):
    ever, again = learners(algorithm), learners(algorithm)
    together(ever, batches() + batches(1))
    together(again, batches())
    loaded = learners(algorithm)
    for new, old in zip(loaded, again, strict=True):
        new.load(old.state())
    together(loaded, batches(1))
    together(again, batches(1))
    states = [[run.state() for run in runs] for runs in (ever, again, loaded)]
    assert states[0] == states[1] == states[2]


@each
def test_a_state_is_no_larger_for_having_been_joined(algorithm, settings):
    ones, several = learners(algorithm), learners(algorithm)
    alone(ones, batches(updates=1))
    together(several, batches(updates=1))
    assert len(several[0].state()) < 1.1 * len(ones[0].state())


@each
def test_what_is_not_finite_in_one_run_stays_there(algorithm, settings):
    runs, sound = learners(algorithm), learners(algorithm)
    for param in runs[1]._nets.parameters():
        param.data.fill_(np.nan)
    together(sound, batches())
    together(runs, batches())
    assert runs[0].state() == sound[0].state()
    assert runs[2].state() == sound[2].state()


@each
@pytest.mark.parametrize("column", ["observation", "action", "discount"])
def test_a_batch_that_cannot_be_used_teaches_none_of_them(algorithm, settings, column):
    runs = learners(algorithm)
    joined = runs[0].join(runs[1:])
    joined.update(batches()[0])
    before = [run.state() for run in runs]
    drawn = batches()[1]
    getattr(drawn[1], column).flat[-1] = np.nan
    with pytest.raises(LearnerError, match=f"not finite in a batch: {column}"):
        joined.update(drawn)
    drawn[1] = draw(np.random.default_rng(0), 8)
    with pytest.raises(LearnerError, match="batches of one size"):
        joined.update(drawn)
    assert [run.state() for run in runs] == before


@each
def test_only_runs_of_one_kind_at_one_update_can_be_joined(algorithm, settings):
    runs = learners(algorithm)
    others = {
        "one configuration": make(algorithm, seed=1, action_frame="absolute"),
        "at the same update": make(algorithm, seed=1, **settings),
    }
    others["at the same update"].update(draw(np.random.default_rng(0)))
    for words, other in others.items():
        with pytest.raises(LearnerError, match=words):
            runs[0].join([runs[1], other])
    joined = runs[0].join(runs[1:])
    runs[2].update(draw(np.random.default_rng(0)))
    with pytest.raises(LearnerError, match="join them again"):
        joined.update(batches()[0])


def test_what_was_joined_exports_as_it_acts():
    runs = learners("bc")
    together(runs, batches(updates=2))
    observation = draw(np.random.default_rng(5)).observation
    run = Batched(runs[1].export())
    outputs = run(graph_inputs(runs[1], observation, None))
    expected = runs[1].act(observation, None)
    assert np.abs(outputs["action"] - expected).max() <= 1e-5


def test_on_a_processor_heavy_algorithms_learn_in_turn():
    gaining = {name for name in JOINING if learners(name)[0].gains()}
    assert gaining == set(JOINING) - {"cql", "cal_ql", "ro2o"}
