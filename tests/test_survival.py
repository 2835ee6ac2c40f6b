"""Time-to-event curves: published and recomputed values, censoring by age, and what they refuse to say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight

from abmail.stats import time_to_event

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 3_600.0
NAN = float("nan")

# Remission of 21 leukaemia patients under 6-MP in weeks (Freireich et al. 1963; Klein & Moeschberger, table 1.1).
WEEKS = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35], dtype=np.float64)
RELAPSED = np.array([1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0], dtype=np.bool_)


def test_the_curve_of_the_textbook_has_its_published_values() -> None:
    # Survival as published (Klein & Moeschberger, table 4.1A); log-log bands as lifelines 0.30.3 gives them.
    curve = time_to_event(np.where(RELAPSED, WEEKS, NAN), WEEKS)

    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert (1 - curve.share).tolist() == pytest.approx([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=6e-4)
    assert (1 - curve.upper).tolist() == pytest.approx(
        [0.619718, 0.563147, 0.503200, 0.431610, 0.367511, 0.267779, 0.188052], abs=1e-6
    )
    assert (1 - curve.lower).tolist() == pytest.approx(
        [0.951552, 0.922809, 0.889362, 0.849066, 0.804912, 0.746791, 0.680143], abs=1e-6
    )
    assert (curve.median, curve.n, curve.events, curve.followed) == (23.0, 21, 9, 35.0)


@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.9))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_it_agrees_with_statsmodels_on_mails_of_any_age(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    age = HOUR * rng.integers(1, 72, 300)
    delay = HOUR * np.ceil(rng.lognormal(1, 1.5, 300))
    delay = np.where((rng.random(300) < share) & (delay <= age), delay, NAN)
    came = ~np.isnan(delay)
    curve = time_to_event(delay, age)
    peer = SurvfuncRight(np.where(came, delay, age), came)

    assert curve.share.tolist() == pytest.approx((1 - peer.surv_prob).tolist(), abs=1e-12)
    assert curve.times.tolist() == list(peer.surv_times)
    assert curve.at_risk.tolist() == list(peer.n_risk)
    assert (np.diff(curve.share) > 0).all()
    assert ((curve.lower <= curve.share) & (curve.share <= curve.upper)).all()
    assert ((curve.lower >= 0) & (curve.upper <= 1)).all()


def test_counts_stand_for_as_many_mails() -> None:
    delay, age, counts = [HOUR, 2 * HOUR, NAN, NAN], [9 * HOUR, 3 * HOUR, 9 * HOUR, HOUR], [3, 2, 10, 0]
    binned = time_to_event(delay, age, counts=counts)
    single = time_to_event(np.repeat(delay, counts), np.repeat(age, counts))

    assert binned.to_dict() == single.to_dict()
    assert binned.n == 15


def test_young_mails_do_not_pull_the_curve_down() -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    delay, age = rng.exponential(10 * HOUR, n), rng.uniform(0, 20 * HOUR, n)
    opens = rng.random(n) < 0.4
    curve = time_to_event(np.where(opens & (delay <= age), delay, NAN), age)
    found, truth = curve.at(15 * HOUR), 0.4 * (1 - np.exp(-1.5))

    assert found is not None
    assert found[0] == pytest.approx(truth, abs=0.02)
    assert found[1] is not None
    assert found[2] is not None
    assert found[1] < truth < found[2]
    naive = (opens & (delay <= np.minimum(age, 15 * HOUR))).mean()
    assert naive < truth - 0.08


def test_the_bands_cover_at_each_time_as_often_as_promised() -> None:
    rng = np.random.default_rng(2)
    truth, missed = 0.4 * (1 - np.exp(-0.5)), 0
    for _ in range(1_000):
        delay, age = rng.exponential(10, 200), rng.uniform(2, 20, 200)
        seen = np.where((rng.random(200) < 0.4) & (delay <= age), delay, NAN)
        found = time_to_event(seen, age).at(5.0)
        assert found is not None
        assert found[1] is not None
        assert found[2] is not None
        missed += not found[1] <= truth <= found[2]

    assert missed <= 86  # a true 5 % exceeds it less than once in a million
    assert missed >= 15


def test_the_curve_is_flat_between_events_and_silent_beyond_what_was_followed() -> None:
    curve = time_to_event([2.0, 5.0, NAN, NAN], [9.0, 9.0, 9.0, 7.0])

    assert curve.at(1.9) == (0.0, None, None)
    assert curve.at(2.0) == curve.at(4.9) == (0.25, curve.lower[0], curve.upper[0])
    assert curve.at(9.0) == (0.5, curve.lower[1], curve.upper[1])
    assert curve.at(9.1) is None
    assert (curve.median, curve.time_to(0.25), curve.time_to(0.51)) == (5.0, 2.0, None)


def test_where_every_mail_followed_has_the_event_the_band_reaches_one() -> None:
    curve = time_to_event([1.0, 2.0], [1.0, 2.0])

    assert curve.share.tolist() == [0.5, 1.0]
    assert curve.upper.tolist() == [pytest.approx(0.994, abs=1e-3), 1.0]
    assert curve.lower[1] == curve.lower[0]
    assert time_to_event([3.0], [3.0]).lower.tolist() == [0.0]


@pytest.mark.parametrize("mails", [([], []), ([NAN, NAN], [3.0, 4.0])])
def test_without_an_event_the_curve_has_no_steps(mails: tuple[list[float], list[float]]) -> None:
    curve = time_to_event(*mails)

    assert (curve.times.size, curve.events, curve.median, curve.n) == (0, 0, None, len(mails[0]))
    json.dumps(curve.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: time_to_event([5.0], [4.0]), r"delays\[0\] is 5: must not be more than the age"),
        (lambda: time_to_event([1.0, -1.0], [4.0, 4.0]), r"delays\[1\] is -1: must be seconds, 0 or more, or NaN"),
        (lambda: time_to_event([float("inf")], [4.0]), r"delays\[0\] is inf"),
        (lambda: time_to_event([NAN], [NAN]), r"ages\[0\] is nan: must be seconds, 0 or more"),
        (lambda: time_to_event([1.0], [4.0], counts=[1.5]), r"counts\[0\] is 1.5: must be a whole number from 0"),
        (lambda: time_to_event([1.0], [4.0], counts=[-1]), r"counts\[0\] is -1"),
        (lambda: time_to_event([1.0] * 2, [4.0] * 2, counts=[30_000_000] * 2), "counts sum to 60,000,000 mails"),
        (lambda: time_to_event([1.0], [4.0, 4.0]), r"have shapes \(1,\), \(2,\)"),
        (lambda: time_to_event([1.0], [4.0], alpha=5), r"alpha is 5, must be in \(0, 1\)"),
        (lambda: time_to_event([1.0], [4.0]).time_to(0), r"share is 0, must be in \(0, 1\]"),
        (lambda: time_to_event([1.0], [4.0]).at(-1), "time is -1 seconds, must not be negative"),
    ],
)
def test_impossible_mails_are_refused_in_words(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
