"""What chosen hours are worth: an interval that holds, and no claim where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from abmail.sendtime import History, Uplift, UpliftStatus, hour_curve, open_rate_before, uplift

Floats = NDArray[np.float64]


def account(
    rng: np.random.Generator, n: int, campaigns: int, *, lift: float = 0.0, control: float = 0.1, looks: int = 1
) -> tuple[list[Uplift], float]:
    """Answers at evenly spaced looks at one account, and the true effect in its campaigns."""
    engagement = rng.beta(0.5, 1.8, n)
    held = rng.uniform(size=n) < control
    who, number = np.tile(np.arange(n), campaigns), np.repeat(np.arange(campaigns), n)
    appeal = np.exp(0.3 * rng.standard_normal(campaigns))[number]
    fixed = np.clip(engagement[who] * appeal, 0, 1)
    chosen = np.clip(fixed * (1 + lift), 0, 1)
    opened = rng.uniform(size=len(who)) < np.where(held[who], fixed, chosen)
    before = (rng.binomial(10, engagement) / 10)[who]
    ends = [n * (campaigns * (k + 1) // looks) for k in range(looks)]
    answers = [uplift(who[:e], number[:e], held[who[:e]], opened[:e], before=before[:e]) for e in ends]
    return answers, float((chosen - fixed).mean())


def test_where_everybody_opened_nothing_is_claimed() -> None:
    people = np.array([f"p{i}" for i in range(120)])
    found = uplift(people, np.repeat("spring", 120), np.arange(120) < 50, np.ones(120, dtype=bool))
    assert found.status is UpliftStatus.NOT_PROVEN
    assert found.effect == 0.0
    assert 0.0 < found.watched_upper < 0.001


def test_the_interval_holds_its_promise_and_nothing_is_claimed_where_nothing_is() -> None:
    rng = np.random.default_rng(11)
    drawn = [account(rng, 500, 5) for _ in range(1_000)]
    answers = [answer[0] for answer, _ in drawn]
    missed = sum(not a.ci_lower <= 0 <= a.ci_upper for a in answers if a.status != UpliftStatus.TOO_FEW)
    claimed = sum(a.status in (UpliftStatus.PROVEN, UpliftStatus.WORSE) for a in answers)
    # A true 5 % at 1,000 accounts: more than 86 misses are rarer than one in a million. Claims hold at all looks.
    assert missed <= 86
    assert claimed <= 10
    assert sum(a.status == UpliftStatus.TOO_FEW for a in answers) < 50


def test_looking_again_and_again_claims_nothing_either() -> None:
    rng = np.random.default_rng(12)
    claims = 0
    for _ in range(150):
        answers, _ = account(rng, 400, 12, looks=6)
        claims += any(a.status in (UpliftStatus.PROVEN, UpliftStatus.WORSE) for a in answers)
    assert claims <= 24  # a true 5 % of 150 exceeds it less than once in a million


def test_a_real_uplift_is_found_with_its_size() -> None:
    rng = np.random.default_rng(13)
    (found,), truth = account(rng, 20_000, 12, lift=0.2, control=0.2)
    assert found.status == UpliftStatus.PROVEN
    assert found.ci_lower <= truth <= found.ci_upper
    assert found.lift_lower < truth / found.rate < found.lift_upper
    assert found.lift == pytest.approx(found.effect / found.rate)
    assert found.watched_lower < found.ci_lower < found.effect < found.ci_upper < found.watched_upper
    assert 0 < found.detectable < found.effect * 2


def test_swapping_the_groups_flips_the_sign() -> None:
    rng = np.random.default_rng(14)
    who, campaign = np.tile(np.arange(400), 3), np.repeat(np.arange(3), 400)
    held, opened = rng.uniform(size=400)[who] < 0.5, rng.uniform(size=1_200) < 0.3
    one, two = uplift(who, campaign, held, opened), uplift(who, campaign, ~held, opened)
    assert one.effect == pytest.approx(-two.effect)
    assert one.ci_lower == pytest.approx(-two.ci_upper)


def test_one_campaign_without_a_covariate_is_the_difference_of_two_means() -> None:
    rng = np.random.default_rng(15)
    held, opened = rng.uniform(size=900) < 0.4, rng.uniform(size=900) < 0.3
    found = uplift(np.arange(900), np.zeros(900, np.int64), held, opened)
    a, b = opened[~held].astype(float), opened[held].astype(float)
    assert found.effect == pytest.approx(a.mean() - b.mean())
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    assert (found.ci_upper - found.ci_lower) / 2 == pytest.approx(1.96 * error, rel=0.02)


def test_a_small_group_whose_people_happen_to_be_alike_counts_as_no_less_varied_than_all() -> None:
    rng = np.random.default_rng(19)
    held = np.arange(1_000) < 60
    opened = np.where(held, np.arange(1_000) < 20, rng.uniform(size=1_000) < 0.5)
    found = uplift(np.arange(1_000), np.zeros(1_000, np.int64), held, opened)
    a, b = opened[~held].astype(float), opened[held].astype(float)
    one = (a.var(ddof=1) * (len(a) - 1) + b.var(ddof=1) * (len(b) - 1)) / (len(a) + len(b) - 2)
    assert b.var(ddof=1) < one < a.var(ddof=1)
    error = np.sqrt(a.var(ddof=1) / len(a) + one / len(b))
    assert (found.ci_upper - found.ci_lower) / 2 == pytest.approx(2.0 * error, rel=0.02)


def test_a_covariate_narrows_the_interval_and_a_useless_one_does_no_harm() -> None:
    rng = np.random.default_rng(16)
    n, campaigns = 3_000, 4
    engagement = rng.beta(0.5, 1.8, n)
    who, number = np.tile(np.arange(n), campaigns), np.repeat(np.arange(campaigns), n)
    held, opened = (rng.uniform(size=n) < 0.1)[who], rng.uniform(size=n * campaigns) < engagement[who]
    plain = uplift(who, number, held, opened)
    sharp = uplift(who, number, held, opened, before=(rng.binomial(10, engagement) / 10)[who])
    noise = uplift(who, number, held, opened, before=rng.uniform(size=n)[who])
    gaps = uplift(who, number, held, opened, before=np.full(len(who), np.nan))
    width = [a.ci_upper - a.ci_lower for a in (plain, sharp, noise)]
    assert width[1] < 0.75 * width[0]
    assert width[2] == pytest.approx(width[0], rel=0.03)
    assert gaps.effect == plain.effect


def test_a_campaign_that_only_one_group_got_is_left_out() -> None:
    rng = np.random.default_rng(17)
    held, opened = rng.uniform(size=400) < 0.5, rng.uniform(size=400) < 0.4
    more = np.flatnonzero(~held)
    ids, campaign = np.append(np.arange(400), more), np.append(np.zeros(400, int), np.ones(len(more), int))
    both = uplift(ids, campaign, np.append(held, held[more]), np.append(opened, np.ones(len(more), bool)))
    assert both.effect == pytest.approx(uplift(np.arange(400), np.zeros(400), held, opened).effect)


def test_too_few_people_get_no_answer_but_a_status() -> None:
    found = uplift(np.arange(20), np.zeros(20), np.arange(20) < 5, np.ones(20))
    assert found.status == UpliftStatus.TOO_FEW
    assert np.isnan(found.effect)
    assert found.people == (15, 5)
    assert uplift([], [], [], []).status == UpliftStatus.TOO_FEW


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "a"], ["x", "x"], [True, False], [0, 1]), "in both groups"),
        ((["a", "b"], ["x"], [True, False], [0, 1]), "campaign has shape"),
        ((["a", "b"], ["x", "x"], [True, False], [0, 2]), "0 and 1 alone"),
    ],
)
def test_mails_that_do_not_fit_are_refused_in_words(arguments: tuple[list[object], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        uplift(*arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha is 2"):
        uplift(["a"], ["x"], [True], [0], alpha=2)


def test_hour_curves_are_free_of_the_favour_of_chosen_hours() -> None:
    rng = np.random.default_rng(18)
    m = 60_000
    keen = rng.uniform(size=m) < 0.5  # keen people are mailed at 20, the others at 9, mostly
    best = np.where(keen, 20, 9)
    at_random = rng.uniform(size=m) < 0.2
    slot = np.where(at_random, rng.choice([9, 20], m), best)
    propensity = np.where(slot == best, 0.9, 0.1)
    opened = rng.uniform(size=m) < np.where(keen, 0.4, 0.1)
    found = hour_curve(slot, propensity, opened)
    naive = opened[slot == 20].mean() - opened[slot == 9].mean()
    assert naive > 0.2
    assert np.abs(found.rate - 0.25).max() < 5 * found.error.max()
    assert found.slots.tolist() == [9, 20]
    assert (found.effective < m / 2).all()


def test_earlier_open_rates_are_the_covariate() -> None:
    past = History.of(["a", "a", "b"], [1e9, 2e9, 1e9], [1e9 + 60, np.nan, np.nan])
    ids, rates = open_rate_before(past, 1.5e9)
    assert ids.tolist() == ["a", "b"]
    assert rates.tolist() == [1.0, 0.0]
