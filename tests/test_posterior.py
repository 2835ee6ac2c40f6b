"""Posteriors side by side: the coarser quadrature rule gives the answers of the full one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail import _posterior
from abmail._posterior import PosteriorTest
from abmail.stats import Counts, compare

SENDS = st.integers(0, 10**9) | st.integers(0, 3_000)


def posterior_test(sends: list[int], successes: list[int]) -> PosteriorTest:
    """Every arm beside the first and the last arm."""
    n, k = (np.array(part, dtype=np.float64)[:, None] for part in (sends, successes))
    b = np.arange(len(sends))
    a = np.where(b == 0, len(sends) - 1, 0)
    return PosteriorTest.of(k, n, (1.0, 1.0), a, b)


def with_all_scores(sends: list[int], successes: list[int]) -> PosteriorTest:
    """The same by the rule that steps on every score."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_posterior, "_stride", lambda *_: 1)
        return posterior_test(sends, successes)


@settings(max_examples=60, deadline=None)
@given(
    arms=st.lists(
        st.tuples(SENDS, st.floats(0, 1) | st.sampled_from((0.0, 1.0)) | st.floats(0.1, 0.3)), min_size=2, max_size=4
    ),
    level=st.sampled_from((0.001, 0.05, 0.3)),
)
def test_a_coarser_rule_answers_what_all_scores_do(arms: list[tuple[int, float]], level: float) -> None:
    sends, successes = [n for n, _ in arms], [round(n * rate) for n, rate in arms]
    quick, full = posterior_test(sends, successes), with_all_scores(sends, successes)
    deviation = np.sqrt(quick._variance_a + quick._variance_b)
    for one, other in zip(quick.difference(level), full.difference(level), strict=True):
        assert (np.abs(one - other)[..., 0] <= 1e-9 * deviation + 2e-11).all()
    for low, high in zip(quick.lift(level), full.lift(level), strict=True):
        odds = [(end + 1) / (end + 2) for end in (low, high)]  # what the search looks for, within 1e-11
        assert odds[0] == pytest.approx(odds[1], abs=3e-11)
    assert (quick.proved(level) == full.proved(level)).all()
    for at in (-0.01, 0.0, 0.02):
        delta = np.full(deviation.shape, at)
        assert quick._below(delta) == pytest.approx(full._below(delta), abs=1e-12)


def test_many_successes_take_fewer_scores_and_few_or_uneven_ones_all() -> None:
    assert len(posterior_test([25_000, 25_000], [4_500, 5_000]).weights) == 33
    assert len(posterior_test([25_000, 25_000, 900], [4_500, 5_000, 50]).weights) == 161
    assert len(posterior_test([2_000, 10**9], [400, 2 * 10**8]).weights) == 161


@pytest.mark.parametrize(("sends", "successes"), [([10**9, 10**9], [2 * 10**8, 2 * 10**8 + 9_000]), ([0, 0], [0, 0])])
def test_weights_of_the_rule_sum_to_one(sends: list[int], successes: list[int]) -> None:
    assert posterior_test(sends, successes).weights.sum() == pytest.approx(1.0, abs=1e-13)


def test_swapping_the_arms_turns_the_interval_round() -> None:
    counts = Counts([3_000, 2_000], [600, 430])
    there, back = (compare(counts, control=control, method="bayes").arms[1 - control] for control in (0, 1))
    assert there.ci_lower is not None
    assert there.ci_upper is not None
    assert (-there.ci_upper, -there.ci_lower) == pytest.approx((back.ci_lower, back.ci_upper), abs=1e-9)
