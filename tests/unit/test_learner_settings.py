"""What every algorithm is told: with bfloat16 only products are rounded."""

import numpy as np
import pytest
from policy_examples import bandit, make

torch = pytest.importorskip("torch")

from robostack.policies import _settings, iql  # noqa: E402


def rounds():
    """Return whether a product is less exact than float32 here and now."""
    factors = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    exact = factors[0].double() @ factors[1].double()
    return float((factors[0] @ factors[1] - exact).abs().max()) > 1e-3


def test_the_precision_holds_while_computing_and_is_given_back():
    before = torch.get_float32_matmul_precision()
    with _settings.computing("bf16"):
        assert torch.get_float32_matmul_precision() == "medium"
        with _settings.computing("fp32"):
            assert not rounds()
    with pytest.raises(ZeroDivisionError), _settings.computing("bf16"):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before


def test_the_smallest_numbers_are_0_while_computing_and_no_longer():
    small = torch.tensor([1e-38, 1.0])
    assert float((small * 0.1)[0]) > 0
    with _settings.computing("fp32"):
        with _settings.computing("fp32"):
            pass
        assert (small * 0.1).tolist() == [0.0, pytest.approx(0.1)]
    assert float((small * 0.1)[0]) > 0


def test_with_bfloat16_weights_and_actions_stay_float32(robot):
    with _settings.computing("bf16"):
        able = rounds()
    learners = [make(robot, iql, precision=name) for name in ("fp32", "bf16")]
    batch = bandit(np.random.default_rng(0), 256)
    for learner in learners:
        for _ in range(3):
            learner.update(batch)
    ours, theirs = (
        torch.cat([p.flatten() for p in learner._nets.parameters()])
        for learner in learners
    )
    assert theirs.dtype == torch.float32
    assert torch.allclose(ours, theirs, atol=0.02)
    assert torch.equal(ours, theirs) != able  # some processors have no such products
    learners[0].load(learners[1].state())
    actions = [learner.act(batch.observation, None) for learner in learners]
    np.testing.assert_array_equal(*actions)
