"""Guardrails: exact e-processes by enumeration, bounds, verdicts, and the promise under a bandit by simulation."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import binom, hypergeom, nchypergeom_fisher

from abmail import _conditional, _guardrail
from abmail._multiple import holm
from abmail._sequential import Pair
from abmail.stats import Counts, check_guardrails, exceeds_limit, rate_bounds, worse_than_control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from abmail.stats import GuardrailResult

    Floats = NDArray[np.float64]

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


def most(replications: int, share: float) -> int:
    """Alarms that a true share exceeds with a chance below 1e-6."""
    return int(binom.isf(1e-6, replications, share))


def evidence(n: float, k: float, limit: float) -> float:
    return float(_guardrail._limit_evidence(np.array(n), np.array(k), np.array(limit)))


def tables(rows: Sequence[Sequence[float | np.integer]]) -> Pair:
    """Epochs as (n_a, k_a, n_b, k_b)."""
    n_a, k_a, n_b, k_b = np.array(rows, dtype=np.float64).T
    return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b)


def only(results: tuple[GuardrailResult, ...], arm: str) -> GuardrailResult:
    (found,) = [result for result in results if result.arm == arm]
    return found


# --- A rate and its limit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "limit"), [(1_000, 6, 0.005), (50, 20, 0.3), (20_000, 10, 0.001), (8, 8, 0.5)])
def test_the_evidence_is_the_likelihood_ratio_mixed_over_rates_above_the_limit(n: int, k: int, limit: float) -> None:
    def mixed(rate: float) -> float:
        density = (1 - rate) ** (1 / limit - 1) / limit / (1 - limit) ** (1 / limit)
        ratio = k * math.log(rate / limit) + (n - k) * (math.log1p(-rate) - math.log1p(-limit))
        return float(density * math.exp(ratio))

    peak = max(k / n, limit)
    points = sorted({limit, *(min(limit + step * peak, 1 - 1e-12) for step in (0.1, 0.5, 1, 2, 5, 20, 100)), 1 - 1e-12})
    total = sum(quad(mixed, low, high)[0] for low, high in pairwise(points))

    assert evidence(n, k, limit) == pytest.approx(math.log(total), abs=1e-6)


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.4])
def test_the_evidence_is_1_on_average_at_the_limit_and_less_below(limit: float) -> None:
    n = 300
    k = np.arange(n + 1)
    log_e = _guardrail._limit_evidence(np.full(n + 1, float(n)), k.astype(float), np.array(limit))

    assert np.exp(binom.logpmf(k, n, limit) + log_e).sum() == pytest.approx(1.0)
    assert np.exp(binom.logpmf(k, n, 0.7 * limit) + log_e).sum() < 1.0


@PROPERTY
@given(n=st.integers(1, 5_000), share=st.floats(0, 1), limit=st.floats(1e-4, 0.9))
def test_more_events_only_raise_the_evidence(n: int, share: float, limit: float) -> None:
    k = round(share * (n - 1))  # so young mails, whose events are to come, never raise a false alarm

    assert evidence(n, k + 1, limit) >= evidence(n, k, limit) - 1e-9


@PROPERTY
@given(n=st.integers(0, 5_000), share=st.floats(0, 1), limit=st.floats(1e-4, 0.9), alpha=st.floats(0.001, 0.3))
def test_the_lower_bound_is_above_exactly_those_limits_that_are_exceeded(
    n: int, share: float, limit: float, alpha: float
) -> None:
    k = round(share * n)
    low, high = rate_bounds(n, k, alpha=alpha)

    assert 0 <= low <= (k / n if n else 0) <= high <= 1
    if abs(low - limit) > 1e-9:
        assert exceeds_limit(n, k, limit, alpha=alpha) == (low > limit)


@PROPERTY
@given(n=st.integers(0, 5_000), share=st.floats(0, 1))
def test_bounds_of_what_happened_mirror_those_of_what_did_not(n: int, share: float) -> None:
    k = round(share * n)
    low, high = rate_bounds(n, k)

    assert rate_bounds(n, n - k) == pytest.approx((1 - high, 1 - low))


def test_bounds_close_in_on_the_rate_and_widen_with_the_level() -> None:
    few, many, strict = rate_bounds(1_000, 5), rate_bounds(1_000_000, 5_000), rate_bounds(1_000, 5, alpha=0.001)

    assert strict[0] < few[0] < many[0] < 0.005 < many[1] < few[1] < strict[1]
    assert many == pytest.approx((0.00477, 0.00524), abs=2e-5)
    assert rate_bounds(0, 0) == (0.0, 1.0)


def test_twice_a_small_limit_is_found_after_a_third_of_the_sends_that_an_even_mixture_needs() -> None:
    from scipy.special import betaincc, betaln

    limit, size, looks = 0.001, 1_000, 40
    k = np.random.default_rng(7).binomial(size, 2 * limit, (400, looks)).cumsum(axis=1).astype(float)
    n = np.broadcast_to(size * np.arange(1.0, looks + 1), k.shape)
    even = betaln(k + 1, n - k + 1) + np.log(betaincc(k + 1, n - k + 1, limit)) - math.log1p(-limit)
    even = even - k * math.log(limit) - (n - k) * math.log1p(-limit)
    ours = _guardrail._limit_evidence(n, k, np.array(limit))
    ours_at, even_at = (
        float(np.median(np.where((e >= math.log(20)).any(axis=1), (e >= math.log(20)).argmax(axis=1), looks)))
        for e in (ours, even)
    )

    assert (ours.max(axis=1) >= math.log(20)).mean() > 0.95
    assert ours_at < 0.5 * even_at


def test_bounds_hold_at_all_looks_together() -> None:
    rate, size, looks, replications = 0.005, 400, 8, 250
    k = np.random.default_rng(3).binomial(size, rate, (replications, looks)).cumsum(axis=1).astype(float)
    n = np.broadcast_to(size * np.arange(1.0, looks + 1), k.shape)
    low, high = _guardrail._lower_bound(n, k, 0.05), 1 - _guardrail._lower_bound(n, n - k, 0.05)

    assert int((low > rate).any(axis=1).sum()) <= most(replications, 0.05)
    assert int((high < rate).any(axis=1).sum()) <= most(replications, 0.05)


@pytest.mark.parametrize(
    ("n", "k", "alpha", "words"),
    [(5, 6, 0.05, "k is 6 of n = 5"), (5, -1, 0.05, "must be in 0..n"), (5, 1, 5.0, "alpha is 5, must be in")],
)
def test_bounds_of_nonsense_are_refused_in_words(n: int, k: int, alpha: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rate_bounds(n, k, alpha=alpha)


# --- An arm and the control -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", [(12, 4, 9, 5), (400, 3, 100, 4), (3_000, 600, 3_000, 700), (20_000, 4_000, 9_000, 2_000)]
)
@pytest.mark.parametrize("base", [0.0, 0.4])
def test_the_comparison_is_the_likelihood_ratio_of_the_noncentral_hypergeometric(
    row: tuple[int, int, int, int], base: float
) -> None:
    n_a, k_a, n_b, k_b = row
    likelihood = [
        nchypergeom_fisher.logpmf(k_b, n_a + n_b, k_a + k_b, n_b, math.exp(base + tilt))
        for tilt in (0.0, *_conditional._TILTS)
    ]
    ratios = np.array(likelihood[1:]) - likelihood[0]
    finite = np.isfinite(ratios)  # the reference underflows far from the data; those terms add nothing
    expected = math.log(np.exp(ratios[finite]).sum() / len(ratios))

    assert _conditional.excess_evidence(tables([row]), base)[-1] == pytest.approx(expected, abs=1e-6)


def test_the_comparison_is_1_on_average_when_the_arms_are_alike_and_less_when_the_arm_is_better() -> None:
    n_a, n_b, k = 60, 35, 14
    x = np.arange(k + 1)
    weight = np.array([np.exp(_conditional.excess_evidence(tables([(n_a, k - i, n_b, i)]))[-1]) for i in x])

    assert hypergeom.pmf(x, n_a + n_b, k, n_b) @ weight == pytest.approx(1.0)
    assert nchypergeom_fisher.pmf(x, n_a + n_b, k, n_b, 0.8) @ weight < 1.0


def test_a_margin_moves_the_odds_ratio_that_counts_as_alike() -> None:
    n_a, n_b, k = 60, 35, 14
    x = np.arange(k + 1)
    weight = np.array(
        [np.exp(_conditional.excess_evidence(tables([(n_a, k - i, n_b, i)]), math.log(1.5))[-1]) for i in x]
    )

    assert nchypergeom_fisher.pmf(x, n_a + n_b, k, n_b, 1.5) @ weight == pytest.approx(1.0)


def test_epochs_that_compare_nothing_change_nothing() -> None:
    rows = [(100, 3, 80, 9), (90, 4, 70, 6)]
    plain = _conditional.excess_evidence(tables(rows))
    padded = _conditional.excess_evidence(tables([(0, 0, 50, 9), rows[0], (40, 0, 40, 0), rows[1], (9, 9, 9, 9)]))

    assert padded[[1, 3, 4]] == pytest.approx(plain[[0, 1, 1]])
    assert padded[0] == 0.0


def test_evidence_of_many_tables_at_once_is_that_of_each() -> None:
    rng = np.random.default_rng(5)
    n = rng.integers(0, 3_000, (2, 6, 4)).astype(float)
    k = rng.binomial(n.astype(int), rng.choice([0.001, 0.05, 0.4], (2, 6, 4))).astype(float)
    together = _conditional.excess_evidence(Pair(n_a=n[0], k_a=k[0], n_b=n[1], k_b=k[1]))

    for row in range(6):
        alone = _conditional.excess_evidence(Pair(n_a=n[0, row], k_a=k[0, row], n_b=n[1, row], k_b=k[1, row]))
        assert together[row] == pytest.approx(alone, abs=1e-9)


def test_an_arm_with_twice_the_unsubscribes_is_worse_than_the_control() -> None:
    counts = Counts([[5_000, 5_000, 5_000]] * 4, [[15, 30, 14]] * 4)
    worse, alike = worse_than_control(counts, names=["plain", "loud", "kind"])

    assert (worse.arm, worse.worse, alike.worse) == ("loud", True, False)
    assert worse.effect == pytest.approx(0.003)
    assert worse.odds_ratio == pytest.approx(2.0, rel=0.01)
    assert 1 < worse.odds_ratio_lower < 2
    assert alike.p_value == 1.0
    assert not worse_than_control(counts, margin=1.0)[0].worse


@PROPERTY
@given(
    k=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=4),
    margin=st.sampled_from([0.0, 0.5]),
)
def test_the_odds_ratio_is_bounded_above_the_margin_exactly_when_the_arm_is_worse(
    k: list[tuple[int, int]], margin: float
) -> None:
    (found,) = worse_than_control(Counts([[500, 400]] * len(k), k), margin=margin)

    assert found.worse == (found.odds_ratio_lower > 1 + margin)


def test_a_proof_against_an_arm_stands_although_later_epochs_disagree() -> None:
    bad, good = ([[4_000, 4_000]] * 2, [[8, 40]] * 2), ([[4_000, 4_000]] * 12, [[20, 12]] * 12)
    alone, followed = Counts(*bad), Counts(bad[0] + good[0], bad[1] + good[1])

    assert worse_than_control(alone)[0].worse
    assert worse_than_control(followed)[0].worse
    assert worse_than_control(followed)[0].p_value == pytest.approx(worse_than_control(alone)[0].p_value)


def test_an_arm_without_sends_is_not_accused() -> None:
    (found,) = worse_than_control(Counts([[500, 0]], [[20, 0]]))

    assert (found.effect, found.odds_ratio, found.odds_ratio_lower, found.p_value) == (None, None, 0.0, 1.0)
    assert worse_than_control(Counts(np.zeros((0, 2)), np.zeros((0, 2))))[0].p_value == 1.0


def test_the_control_without_events_leaves_the_odds_ratio_to_one_step() -> None:
    (found,) = worse_than_control(Counts([[1_000, 1_000]], [[0, 30]]))

    assert found.worse
    assert found.odds_ratio is not None
    assert np.isfinite(found.odds_ratio)


def test_huge_counts_are_compared_without_a_warning() -> None:
    rng = np.random.default_rng(9)
    n = np.full((3, 2), 50_000_000)
    (found,) = worse_than_control(Counts(n, rng.binomial(n, [0.2, 0.204])))

    assert found.worse
    assert 1 < found.odds_ratio_lower < 1.0252


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 5}, "alpha is 5, must be in"),
        ({"margin": -0.1}, "margin is -0.1, must be 0 or a positive"),
        ({"control": "C"}, "control is 'C', must be one of A, B"),
        ({"control": 2}, "control is 2, must be an arm's index from 0 to 1"),
        ({"names": ["x", "x"]}, "must be 2 different names"),
    ],
)
def test_wrong_arguments_are_refused_in_words(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        worse_than_control(Counts([10, 10], [1, 1]), **arguments)  # type: ignore[arg-type]


def test_one_arm_has_no_control_to_be_worse_than() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        worse_than_control(Counts([10], [1]))


# --- Verdicts ---------------------------------------------------------------------------------------------------------


def test_every_verdict_has_its_arm_and_its_sentence() -> None:
    unsubscribed = Counts([[10_000, 10_000, 10_000, 100, 0]], [[18, 120, 60, 0, 0]])
    results = check_guardrails({"unsubscribed": unsubscribed}, {"unsubscribed": 0.007})

    assert [(r.arm, r.verdict, r.ok) for r in results] == [
        ("A", "ok", True),
        ("B", "broken", False),
        ("C", "worse_than_control", False),
        ("D", "too_few", True),
        ("E", "too_few", True),
    ]
    assert [r.sentence for r in results] == [
        "'A' keeps the limit on unsubscribed: 0.18% (18 of 10,000), at most 0.38%; the limit is 0.70%.",
        "'B' breaks the limit on unsubscribed: 1.20% (120 of 10,000), at least 0.84%; the limit is 0.70%.",
        "'C' is worse than 'A' on unsubscribed: 0.60% (60 of 10,000), +0.42 points.",
        "Too few sends of 'D' to judge unsubscribed: 0 of 100, which may stand for up to 7.12%.",
        "'E' has not been sent: nothing can be said on unsubscribed.",
    ]
    assert results[1].sentence_in("ja").startswith("「B」はunsubscribedの上限を超えています。1.20%(10,000通中120件)")
    assert all("{" not in r.sentence_in("ja") for r in results)


def test_the_remaining_sayings_are_said_where_they_fit() -> None:
    below = check_guardrails({"bounced": Counts([[9_000, 9_000]], [[30, 36]])}, {"bounced": 0.004})
    free = check_guardrails({"bounced": Counts([[9_000, 9_000]], [[30, 36]])}, {})
    recovered = Counts([[4_000, 4_000], [90_000, 90_000]], [[8, 40], [200, 200]])
    before = check_guardrails({"bounced": recovered}, {"bounced": 0.004})

    assert below[1].sentence.startswith("'B' is not proved above the limit on bounced: 0.40% (36 of 9,000), between ")
    assert free[1].sentence == "'B' is not proved worse than 'A' on bounced: 0.40% (36 of 9,000)."
    assert before[1].verdict == "broken"
    assert "proved at an earlier look" in before[1].sentence
    assert "以前の時点" in before[1].sentence_in("ja")
    with pytest.raises(ValueError, match="language is 'fr'"):
        free[0].sentence_in("fr")  # type: ignore[arg-type]


@pytest.mark.parametrize("arms", [1, 2, 4])
@pytest.mark.parametrize("limit", [0.005, 0.0, 1.0, None])
def test_a_look_for_broken_limits_finds_those_that_the_whole_check_finds(arms: int, limit: float | None) -> None:
    rng = np.random.default_rng(7)
    seen = set()
    for _ in range(60):
        n = rng.integers(0, 3_000, (3, arms))
        counts = Counts(n, rng.binomial(n, rng.choice([0.0, 0.004, 0.007, 0.012])))
        (*found,) = check_guardrails({"bounced": counts}, {"bounced": limit})
        seen.add(_guardrail.breaks_limit(counts, limit))
        assert _guardrail.breaks_limit(counts, limit) == any(one.verdict == "broken" for one in found)
    assert seen == ({True, False} if limit in {0.005, 0.0} else {False})


def test_a_limit_and_the_control_share_the_level_and_arms_share_it_further() -> None:
    counts = Counts([[20_000] * 4], [[40, 44, 39, 47]])
    (first, *_) = check_guardrails({"complained": counts}, {"complained": 0.01})
    (free, *_) = check_guardrails({"complained": counts}, {"complained": None})

    assert (first.lower, first.upper) == pytest.approx(rate_bounds(20_000, 40, alpha=0.05 / 8))
    assert (free.lower, free.upper) == pytest.approx(rate_bounds(20_000, 40, alpha=0.05 / 4))


def test_a_single_arm_is_held_against_its_limit_alone() -> None:
    (found,) = check_guardrails({"bounced": Counts([5_000], [90])}, {"bounced": 0.01})

    assert (found.verdict, found.effect, found.p_value) == ("broken", None, None)
    assert found.lower == pytest.approx(rate_bounds(5_000, 90)[0])


@pytest.mark.parametrize(
    ("k", "limit", "verdict"), [(0, 0.0, "ok"), (1, 0.0, "broken"), (500, 1.0, "ok"), (3, 0.9, "ok")]
)
def test_limits_at_the_ends_have_a_verdict(k: int, limit: float, verdict: str) -> None:
    (found,) = check_guardrails({"m": Counts([500], [k])}, {"m": limit})

    assert found.verdict == verdict


def test_no_epochs_and_two_hundred_arms_are_answered() -> None:
    empty = check_guardrails({"m": Counts(np.zeros((0, 3)), np.zeros((0, 3)))}, {"m": 0.01})
    n = np.full((4, 200), 300)
    many = check_guardrails({"m": Counts(n, np.random.default_rng(1).binomial(n, 0.01))}, {"m": 0.02})

    assert {r.verdict for r in empty} == {"too_few"}
    assert len(many) == 200
    assert all(r.ok for r in many)


def test_metrics_are_checked_each_for_itself() -> None:
    good, bad = Counts([[8_000, 8_000]], [[8, 9]]), Counts([[8_000, 8_000]], [[90, 200]])
    results = check_guardrails({"complained": good, "bounced": bad}, {"complained": None, "bounced": 0.015})

    assert [(r.metric, r.arm, r.verdict) for r in results] == [
        ("complained", "A", "ok"),
        ("complained", "B", "ok"),
        ("bounced", "A", "ok"),
        ("bounced", "B", "broken"),
    ]
    assert [r.verdict for r in check_guardrails({"complained": good}, {}, margin=0.5)] == ["ok", "ok"]


def test_a_result_is_a_frozen_value_that_travels() -> None:
    found = check_guardrails({"bounced": Counts([900, 900], [9, 8])}, {"bounced": 0.02}, "B", names=["A", "B"])[0]

    assert pickle.loads(pickle.dumps(found)) == found
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["sentence"] == found.sentence
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.ok = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("limits", "arguments", "words"),
    [
        ({"opened": 0.1}, {}, "limits name 'opened', which has no counts; there are bounced"),
        ({"bounced": 1.5}, {}, "limit is 1.5, must be in"),
        ({}, {"alpha": 0}, "alpha is 0, must be in"),
        ({}, {"control": "Z"}, "control is 'Z'"),
        ({}, {"margin": float("nan")}, "margin is nan"),
    ],
)
def test_wrong_guardrails_are_refused_in_words(
    limits: dict[str, float | None], arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        check_guardrails({"bounced": Counts([10, 10], [1, 1])}, limits, **arguments)  # type: ignore[arg-type]


# --- Under a bandit ---------------------------------------------------------------------------------------------------

REPLICATIONS, EPOCHS, SIZE = 1_000, 20, 3_000


@cache
def thompson(rates: tuple[float, ...], floor: float, seed: int = 11, swing: float = 0.0) -> tuple[Floats, Floats]:
    """Sends and events, (replications, n_arms, epochs): the bandit chases the guarded metric itself, the worst case."""
    rng = np.random.default_rng(seed)
    n_arms = len(rates)
    n = np.zeros((REPLICATIONS, n_arms, EPOCHS))
    k = np.zeros_like(n)
    for epoch in range(EPOCHS):
        a, b = 1 + k.sum(axis=2), 1 + n.sum(axis=2) - k.sum(axis=2)
        if n_arms == 2:
            mean, var = a / (a + b), a * b / (a + b) ** 2 / (a + b + 1)
            second = ndtr((mean[:, 1] - mean[:, 0]) / np.sqrt(var.sum(axis=1)))
            best = np.column_stack((1 - second, second))
        else:
            draws = rng.beta(a, b, (60, *a.shape))
            best = (draws.argmax(axis=2)[..., None] == np.arange(n_arms)).mean(axis=0)
        weights = floor + (1 - n_arms * floor) * best if epoch else np.full_like(best, 1 / n_arms)
        n[:, :, epoch] = rng.multinomial(SIZE, weights)
        level = 1 + swing * np.sin(2 * np.pi * epoch / 7)
        k[:, :, epoch] = rng.binomial(n[:, :, epoch].astype(int), np.array(rates) * level)
    return n, k


def stops(
    n: Floats, k: Floats, limit: float | None, alpha: float = 0.05
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Arms that check_guardrails stops at any look: for the limit, and against arm 0, (replications, n_arms) each."""
    n_arms = n.shape[1]
    share = alpha if limit is None else alpha / 2
    broken = np.zeros(n.shape[:2], dtype=np.bool_)
    if limit is not None:
        log_e = _guardrail._limit_evidence(n.cumsum(axis=2), k.cumsum(axis=2), np.array(limit))
        broken = (log_e >= -np.log(share / n_arms)).any(axis=2)
    pair = Pair(
        n_a=np.broadcast_to(n[:, :1], n[:, 1:].shape), k_a=np.broadcast_to(k[:, :1], n[:, 1:].shape),
        n_b=n[:, 1:], k_b=k[:, 1:],
    )  # fmt: skip
    p = np.exp(-np.maximum(_conditional.excess_evidence(pair).max(axis=-1), 0.0))
    worse = np.zeros_like(broken)
    worse[:, 1:] = np.array([holm(row) for row in p]) <= share
    return broken, worse


@pytest.mark.parametrize(("rate", "n_arms", "floor"), [(0.001, 3, 0.0), (0.001, 2, 0.1), (0.005, 3, 0.05)])
def test_innocent_arms_are_stopped_at_any_look_in_at_most_alpha_of_runs(rate: float, n_arms: int, floor: float) -> None:
    broken, worse = stops(*thompson((rate,) * n_arms, floor), limit=rate)

    assert int((broken | worse).any(axis=1).sum()) <= most(REPLICATIONS, 0.05)


def test_a_swinging_base_rate_makes_no_arm_look_worse_than_the_control() -> None:
    _, worse = stops(*thompson((0.004, 0.004), 0.05, swing=0.8), limit=None)

    assert int(worse.any(axis=1).sum()) <= most(REPLICATIONS, 0.05)


def test_an_arm_at_twice_the_limit_is_stopped_and_the_innocent_ones_are_not() -> None:
    broken, worse = stops(*thompson((0.0025, 0.005, 0.0025), 0.1), limit=0.0025)
    stopped = broken | worse

    assert stopped[:, 1].mean() > 0.9
    assert int(stopped[:, [0, 2]].any(axis=1).sum()) <= most(REPLICATIONS, 0.05)


def test_an_arm_at_twice_the_controls_rate_is_found_without_a_limit() -> None:
    _, worse = stops(*thompson((0.0025, 0.005), 0.1), limit=None)

    assert worse[:, 1].mean() > 0.6


def test_check_guardrails_stops_those_that_were_simulated() -> None:
    n, k = thompson((0.0025, 0.005, 0.0025), 0.1)
    broken, worse = stops(n, k, limit=0.0025)
    for run in range(25):
        counts = Counts(n[run].T, k[run].T)
        results = check_guardrails({"unsubscribed": counts}, {"unsubscribed": 0.0025})
        assert [r.ok for r in results] == (~(broken | worse)[run]).tolist()
        assert [r.verdict == "broken" for r in results] == broken[run].tolist()
