"""Learning on-policy: a rollout is what the policy just did, all of it, in order."""

import os
import signal

import numpy as np
import pytest
import toy_world
from toy_training import CHANGES, OPTIONS, final, make_dataset, train

pytest.importorskip("torch")

from robostack.training import checkpoint, curves, offline, online, recipe, run
from robostack.training.evaluate import Arena
from robostack.training.recipe import RecipeError
from robostack.training.run import CHECKPOINTS, load_run

ROLLOUTS = ["steps=4", "batch_size=40", "epochs=2", "minibatch=10"]


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Let every address lead to the toy world."""
    monkeypatch.setattr(online, "open_arena", toy_world.open_arena)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "set")


class Watching:
    """A learner that keeps what it did and was given."""

    def __init__(self, learner, kept):
        self._learner, self._kept = learner, kept

    def __getattr__(self, name):
        return getattr(self._learner, name)

    def act(self, observation, rng):
        action = self._learner.act(observation, rng)
        self._kept.append(("act", observation[0], action[0]))
        return action

    def update(self, batch):
        self._kept.append(("update", batch))
        return self._learner.update(batch)


def test_a_rollout_is_what_the_policy_just_did_and_asked_for(tmp_path, monkeypatch):
    """Whole, in order, with the actions it chose, though limits made others of them."""
    kept, make = [], run.make_learner
    monkeypatch.setattr(run, "make_learner", lambda about: Watching(make(about), kept))
    plan = recipe.read("ppo", "", [*CHANGES, *ROLLOUTS, "evaluate_every=100"])
    train(tmp_path, plan)
    updates = [i for i, (kind, *_) in enumerate(kept) if kind == "update"]
    assert np.diff([-1, *updates]).tolist() == [41] * 4
    for i in updates:
        batch = kept[i][1]
        _, seen, chosen = zip(*kept[i - 40 : i], strict=True)
        assert np.array_equal(batch.observation, seen)
        assert np.array_equal(batch.action, chosen)
        moved = batch.next_observation[:, 0] - batch.observation[:, 0]
        assert (np.abs(batch.action[:, 0] - batch.observation[:, 0]) > 0.2).any()
        assert np.abs(moved).max() <= 0.2 + 1e-6
        fell = np.abs(batch.next_observation[:, 0]) > 1.5
        assert np.array_equal(batch.discount == 0, fell)


def test_learning_from_rollouts_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    """In the middle of a rollout too: nothing of it is lost, nor lived by another."""
    changes = [*CHANGES, *ROLLOUTS, "evaluate_every=1"]
    plan = recipe.read("uni_o4", "online", changes)

    class Halting(toy_world.World):
        left = 10**9

        def apply(self, action):
            Halting.left -= 1
            if Halting.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            return super().apply(action)

    def arena(*_):
        return Arena(Halting(), toy_world.task())

    monkeypatch.setattr(online, "open_arena", arena)
    train(tmp_path / "straight", plan)
    rows = []
    for _ in range(2):
        Halting.left = 1000 + 40 + 20 + 15  # a survey, and beyond the first rollout
        train(tmp_path / "cut", plan, resume=True)
        rows.append(checkpoint.newest(tmp_path / "cut" / CHECKPOINTS).experience.rows)
    assert any(n % 40 for n in rows)
    Halting.left = 10**9
    assert train(tmp_path / "cut", plan, resume=True).finished
    assert final(tmp_path / "straight") == final(tmp_path / "cut")


def test_schedules_begin_anew_with_another_run(tmp_path):
    plan = recipe.read("ppo", "", [*CHANGES, *ROLLOUTS])
    train(tmp_path / "one", plan)
    train(tmp_path / "two", plan, parent=tmp_path / "one")
    before, after = (load_run(tmp_path / name).state() for name in ("one", "two"))
    assert before != after
    assert curves.read(tmp_path / "two")[-1]["loss/value"] > 0
    weights = [load_run(tmp_path / name).policy.state_dict() for name in ("one", "two")]
    assert any(
        not a.equal(b) for a, b in zip(*(w.values() for w in weights), strict=True)
    )


@pytest.mark.parametrize(
    ("algorithm", "changes", "beside", "words"),
    [
        ("ppo", [], True, "expected no --dataset beside --online: ppo"),
        ("uni_o4", [], False, 'phase = "online" to learn by acting, got "offline"'),
        ("famo2o", [], True, 'phase = "online" to learn by acting'),
        ("ppo", ["batch_size=99", "replay_capacity=50"], False, "rollout .* 99 steps"),
    ],
)
def test_what_no_rollout_can_be_is_a_sentence(
    dataset, tmp_path, algorithm, changes, beside, words
):
    plan = recipe.read(algorithm, "", [*CHANGES, *changes])
    with pytest.raises(RecipeError, match=words):
        train(tmp_path / "run", plan, dataset if beside else None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("algorithm", "phase"), [("ppo", ""), ("uni_o4", "online")])
def test_logs_alone_are_no_rollouts(dataset, tmp_path, algorithm, phase):
    changes = [*CHANGES, *([f"phase={phase}"] if phase else [])]
    plan = recipe.read(algorithm, "", changes)
    with pytest.raises(RecipeError, match="what its own policy does"):
        offline.train(dataset, tmp_path / "run", plan, OPTIONS)
    assert not (tmp_path / "run").exists()
