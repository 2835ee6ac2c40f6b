"""What holds for the tests of all methods: short ways to answers about now, and about some pairs, change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail import _contest
from abmail._method import METHODS, Arrays, make_plan
from abmail.stats import Counts, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._method import MethodName, PairTest

    Floats = NDArray[np.float64]

FIRST, SECOND = np.array([0, 0, 1]), np.array([1, 2, 2])
RATES = st.sampled_from((0.0, 1.0, 1e-3)) | st.floats(0.01, 0.6)


@st.composite
def experiments(draw: st.DrawFn) -> Counts:
    """Three arms: empty ones, one epoch, no success, nothing but successes, a single send, a billion."""
    size = draw(st.sampled_from((1, 3, 40, 300, 10**5, 10**9)))
    n_epochs = draw(st.sampled_from((1, 2, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = rng.integers(0, size + 1, (n_epochs, 3)) if draw(st.booleans()) else np.full((n_epochs, 3), size)
    n[:, 2] *= draw(st.integers(0, 1))
    rates = np.array([draw(RATES) for _ in range(3)])
    moved = rng.uniform(0.2, 1.0, (n_epochs, 1)) if draw(st.booleans()) else 1.0
    turned = rates[::-1] if draw(st.booleans()) else rates  # the effect turns round in the second half
    by_epoch = np.where(np.arange(n_epochs)[:, None] < n_epochs // 2, turned, rates)
    return Counts(n, rng.binomial(n, by_epoch * moved), weights=np.full(n.shape, 1 / 3), looks=n_epochs)


def both_ways(counts: Counts, method: MethodName) -> tuple[PairTest, PairTest]:
    """All three pairs, and the last of them alone."""
    plan = make_plan(
        counts, method=method, alpha=0.05, weights=None, plan=None, looks=None, horizon=None, shape=0.0, prior=None,
        baseline=None,
    )  # fmt: skip
    arrays = plan.view(Arrays.of(counts))
    return plan.test(arrays, FIRST, SECOND), plan.test(arrays, FIRST[2:], SECOND[2:])


def as_share(lift: Floats) -> Floats:
    """p_b of p_a + p_b, by which ends of lifts are searched, within 1e-11."""
    return 1 - 1 / (2 + lift)


def same(one: Floats, other: Floats, within: float) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=within, equal_nan=True))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40, deadline=None)
@given(counts=experiments(), level=st.sampled_from((0.003, 0.05, 0.4)))
def test_the_latest_interval_is_the_last_of_all(method: MethodName, counts: Counts, level: float) -> None:
    test, _ = both_ways(counts, method)
    low, high, left, right = test.latest_intervals(level)
    differences, lifts = test.difference(level), test.lift(level)
    assert same(low, differences[0][..., -1], 4e-11)
    assert same(high, differences[1][..., -1], 4e-11)
    assert same(as_share(left), as_share(lifts[0][..., -1]), 4e-11)
    assert same(as_share(right), as_share(lifts[1][..., -1]), 4e-11)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30, deadline=None)
@given(counts=experiments())
def test_a_pair_among_others_is_judged_as_alone(method: MethodName, counts: Counts) -> None:
    # `exact` and `bayes` integrate on a grid that looks at all pairs
    within = 1e-6 if method in ("exact", "bayes") else 1e-10
    together, alone = both_ways(counts, method)
    one = together.only(slice(2, 3))
    effect, relative = one.estimates()
    assert same(effect, alone.effect[..., -1], within)
    assert same(as_share(relative), as_share(alone.relative[..., -1]), within)
    assert same(one.p_value(), alone.p_value(), within)
    assert (one.proved(0.01) == alone.proved(0.01)).all()
    ends, others = one.latest_intervals(0.05), alone.latest_intervals(0.05)
    assert all(same(mine, theirs, within) for mine, theirs in zip(ends[:2], others[:2], strict=True))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None)
@given(counts=experiments(), mde=st.sampled_from((None, 0.02, 0.5)))
def test_pairs_tested_in_blocks_are_judged_as_those_tested_at_once(
    method: MethodName, counts: Counts, mde: float | None
) -> None:
    at_once = compare(counts, method=method, mde=mde)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_contest, "_TOGETHER", 0)
        in_blocks = compare(counts, method=method, mde=mde)
        beside = in_blocks.runner_up
    assert at_once.decision == in_blocks.decision
    assert at_once.not_beaten == in_blocks.not_beaten
    assert (at_once.runner_up is None) == (beside is None)
    if at_once.runner_up is not None and beside is not None and beside.ci_lower is not None:
        assert (at_once.runner_up.arm, at_once.runner_up.rival) == (beside.arm, beside.rival)
        assert at_once.runner_up.ci_lower == pytest.approx(beside.ci_lower, abs=1e-6)


def test_a_turned_effect_ends_the_intersection() -> None:
    n = np.full((20, 3), 2_000)
    k = np.where(np.arange(20)[:, None] < 8, [200, 500, 200], [500, 200, 500])
    test, _ = both_ways(Counts(n, k), "anytime")
    low, high, _, _ = test.latest_intervals(0.05)
    running = np.max(test.difference(0.05)[0][0]), np.min(test.difference(0.05)[1][0])
    assert running[0] > running[1]
    assert low[0] < test.estimates()[0][0] < high[0] < running[0]
