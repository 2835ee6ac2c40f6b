"""What `compare` promises over time and over many experiments: it never un-decides, and every form gives one answer."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import lognorm, multivariate_normal

from abmail import _boundary
from abmail.errors import MissingExtra
from abmail.stats import Comparison, Counts, compare, compare_many, obrien_fleming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abmail.stats import Correction

MOST_ALARMS = 149  # of 2,000 at a true 5 %: a false alarm of this test is rarer than 1e-6
PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
METHODS = ("sequential", "anytime")
CORRECTIONS: tuple[Correction, ...] = ("bonferroni", "dunnett")


def simulated(
    seed: int, rates: Sequence[float] = (0.2, 0.24), epochs: int = 8, size: int = 400, looks: int | None = None
) -> Counts:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet([6.0] * len(rates), epochs)
    n = rng.multinomial(size, weights)
    return Counts(n, rng.binomial(n, rates), weights=weights, looks=looks or epochs)


# --- Looking again ----------------------------------------------------------------------------------------------------

some_counts = st.builds(
    simulated,
    st.integers(0, 10_000),
    st.lists(st.sampled_from([0.02, 0.2, 0.23, 0.3]), min_size=2, max_size=4),
    st.integers(2, 12),
    st.sampled_from([60, 400, 4_000]),
)


@PROPERTY
@given(some_counts, st.sampled_from(METHODS), st.sampled_from([None, 0.01, 0.05]))
def test_what_was_decided_at_a_look_stays_decided(counts: Counts, method: Any, mde: float | None) -> None:
    looks = [compare(counts[:t], method=method, mde=mde, horizon=5_000) for t in range(1, counts.n_epochs + 1)]

    for before, after in pairwise(looks):
        if before.decision.state in ("winner", "no_difference") and after.decision.state != "stopped":
            assert after.decision == before.decision
    decided = [r.decision.look for r in looks if r.decision.look is not None]
    assert not decided or decided[0] == next(i for i, r in enumerate(looks) if r.decision.look is not None)


@PROPERTY
@given(some_counts, st.sampled_from(METHODS), st.integers(1, 11))
def test_an_answer_that_is_updated_is_the_answer_to_everything(counts: Counts, method: Any, at: int) -> None:
    at = min(at, counts.n_epochs)
    step_by_step = compare(counts[:at], method=method, mde=0.02)
    for t in range(at, counts.n_epochs):
        step_by_step = step_by_step.updated(counts[t])

    assert step_by_step.to_dict() == compare(counts, method=method, mde=0.02).to_dict()


def test_a_proof_in_both_directions_stays_with_the_first() -> None:
    n = [[4_000, 4_000]] * 6
    back = Counts(n, [[800, 1_000], [800, 800], [1_400, 800], [1_400, 800], [1_400, 800], [1_400, 800]], looks=6)

    first = compare(back[:1], method="anytime")
    assert (first.decision.state, first.decision.arm, first.decision.look) == ("winner", "B", 0)
    last = compare(back, method="anytime")
    assert last.decision == first.decision
    assert last.arms[1].effect is not None
    assert last.arms[1].effect < 0  # the table shows what became of it


def test_no_difference_is_not_taken_back_by_a_later_lead() -> None:
    n = [[20_000, 20_000]] * 4
    counts = Counts(n, [[4_000, 4_010]] * 3 + [[4_000, 4_900]], looks=4)
    early = compare(counts[:3], mde=0.015)

    assert (early.decision.state, early.decision.look) == ("no_difference", 1)
    assert compare(counts, mde=0.015).decision == early.decision
    assert compare(counts).decision.state == "winner"


def test_the_anytime_interval_never_widens_while_it_holds_the_estimate() -> None:
    widths = []
    counts = simulated(5, epochs=15, looks=15)
    for t in range(1, 16):
        arm = compare(counts[:t], method="anytime", horizon=6_000).arms[1]
        assert arm.ci_lower is not None
        assert arm.ci_upper is not None
        widths.append((arm.ci_lower, arm.ci_upper))

    assert all(low >= before for (before, _), (low, _) in pairwise(widths))
    assert all(high <= before for (_, before), (_, high) in pairwise(widths))


def test_an_effect_that_moved_out_of_its_history_gets_the_present_interval() -> None:
    n = [[20_000, 20_000]] * 3
    arm = compare(Counts(n, [[4_000, 4_600], [6_000, 3_000], [6_000, 3_000]]), method="anytime").arms[1]

    assert arm.ci_lower is not None
    assert arm.ci_upper is not None
    assert arm.effect is not None
    assert arm.ci_lower < arm.effect < arm.ci_upper < 0


# --- Plans that change ------------------------------------------------------------------------------------------------


def test_looks_before_a_change_of_plan_keep_their_boundary_and_later_ones_get_what_is_left() -> None:
    boundary = _boundary.Boundary(tuple(t / 10 for t in range(1, 11)), kept=6)
    constants = boundary.constants(0.05, 9)

    assert constants[:6].tolist() == pytest.approx([obrien_fleming(10)] * 6)
    spent = _boundary.crossing_probability(obrien_fleming(10), boundary.clock and boundary.clock[:6])
    assert constants[6:].tolist() == pytest.approx([obrien_fleming(None, 0.05 - float(spent))] * 3)
    distance = np.zeros(9)
    distance[7] = constants[7]
    assert boundary.p_value(distance) == pytest.approx(0.05, abs=1e-9)
    distance[3] = obrien_fleming(10, 0.01)
    assert boundary.p_value(distance) == pytest.approx(0.01, abs=1e-9)


def test_a_test_that_was_extended_after_its_last_look_has_nothing_left_to_spend() -> None:
    counts = simulated(3, rates=(0.2, 0.21), epochs=8)
    plan = [400] * 5
    finished = compare(counts[:5], weights=plan).arms[1]
    extended = compare(counts, weights=[400] * 8, plan=plan).arms[1]

    assert extended.effect == pytest.approx(finished.effect)
    assert extended.p_value == pytest.approx(finished.p_value, abs=0.01)


def test_a_plan_that_stretches_while_it_runs_holds_its_level() -> None:
    """Promising tests are extended after six of ten waves: the trap that the allowance is for."""
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(600):
        n = np.full((14, 2), 500)
        k = rng.binomial(n, 0.2)
        counts = Counts(n, k)
        z = (k[:6, 1].sum() - k[:6, 0].sum()) / np.sqrt(2 * 3_000 * 0.2 * 0.8)
        if 0.8 < abs(z) < 2.5:  # shares of the six are fixed; four tenths are spread over eight more
            result = compare(counts, weights=[100] * 6 + [50] * 8, plan=[100] * 10)
        else:
            result = compare(counts[:10], looks=10)
        alarms += result.decision.state == "winner"

    assert 5 <= alarms <= 58  # of 600 at a true 5 %, more is rarer than 1e-6


@pytest.mark.parametrize(
    ("shape", "looks", "constant"), [(0.25, 5, 2.136), (0.5, 5, 2.413), (0.5, 10, 2.555), (0.5, 20, 2.672)]
)
def test_other_shapes_have_their_published_constants(shape: float, looks: int, constant: float) -> None:
    """Jennison & Turnbull 2000, tables 2.1 (Pocock) and 2.9 (Wang & Tsiatis)."""
    assert obrien_fleming(looks, shape=shape) == pytest.approx(constant, abs=6e-4)


def test_a_flatter_boundary_stops_earlier_and_holds_its_level() -> None:
    rng = np.random.default_rng(4)
    n = np.full((2_000, 10, 2), 400)
    null, real = (rng.binomial(n, rates) for rates in ([0.2, 0.2], [0.2, 0.25]))
    stops = {}
    for shape in (0.0, 0.25, 0.5):
        assert 30 <= (compare_many(n, null, looks=10, shape=shape).winner >= 0).sum() <= MOST_ALARMS
        found = compare_many(n, real, looks=10, shape=shape)
        stops[shape] = found.decided_at[found.winner == 1].mean()

    assert stops[0.5] < stops[0.25] < stops[0.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": 0.7, "looks": 3}, "shape is 0.7, must be in"),
        ({"shape": 0.25, "method": "anytime"}, "shape is 0.25, but method 'anytime'"),
        ({"shape": 0.25, "method": "sequential", "horizon": 500}, "the looks are not planned"),
        ({"weights": [1, 1], "plan": [1, 0]}, "plan hold a share"),
        ({"method": "anytime", "correction": "dunnett"}, "method 'anytime' has no last look"),
    ],
)
def test_a_boundary_that_does_not_exist_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare(Counts([[90, 90, 90]] * 2, [[20, 30, 25]] * 2), **arguments)


# --- Mails whose answers are still coming in --------------------------------------------------------------------------


def alarms_while_young(rate: float, epochs: int, method: Any, replications: int = 2_000) -> int:
    """A/A tests of 10,000 mails with a false winner at any of 25 looks while opens trickle in.

    Epochs start 4 hours apart; delays are log-normal with a median of 2.5 hours, 70 % within a day.
    """
    rng = np.random.default_rng(epochs)
    n = np.full((replications, epochs, 2), 5_000 // epochs)
    hours = np.concatenate((np.linspace(0.5, 12, 13), np.linspace(16, 72, 12)))
    k = np.zeros(n.shape, dtype=np.int64)
    before = np.zeros(epochs)
    won = np.zeros(replications, dtype=np.bool_)
    for hour in hours:
        age = np.maximum(hour - 4 * np.arange(epochs), 0)
        came, known = (rate * lognorm.cdf(a, s=4.3, scale=2.5) for a in (age, before))
        k += rng.binomial(n - k, ((came - known) / (1 - known))[:, None])
        before, open_by_now = age, int((age > 0).sum())
        answer = compare_many(n[:, :open_by_now], k[:, :open_by_now], method=method, horizon=10_000, baseline=rate)
        won |= answer.winner >= 0
    return int(won.sum())


@pytest.mark.parametrize("rate", [0.2, 0.03])
@pytest.mark.parametrize("epochs", [1, 5])
def test_reading_young_mails_again_and_again_needs_the_method_for_any_number_of_looks(rate: float, epochs: int) -> None:
    assert alarms_while_young(rate, epochs, "anytime") <= MOST_ALARMS
    if epochs == 1:
        assert alarms_while_young(rate, 1, "fixed") > 1.5 * MOST_ALARMS  # one look was paid for, 25 were taken


# --- Many arms --------------------------------------------------------------------------------------------------------


def test_dunnetts_level_lies_between_bonferronis_and_the_exact_one() -> None:
    level = _boundary.dunnett_level(3, 0.5, 0.05, (1.0,))
    c = obrien_fleming(1, level)

    assert 2.349 < c < obrien_fleming(1, 0.05 / 3)  # Dunnett 1964, two-sided, three contrasts: 2.35
    joint = multivariate_normal(cov=0.5 * np.eye(3) + 0.5)
    inside = joint.cdf([c] * 3, lower_limit=[-c] * 3)  # scipy 1.17
    assert 0.045 < 1 - inside < 0.05


@pytest.mark.parametrize("clock", [(1.0,), (0.2, 0.4, 0.6, 0.8, 1.0)])
def test_dunnetts_p_value_meets_alpha_at_dunnetts_level(clock: tuple[float, ...]) -> None:
    for alpha in (0.2, 0.05, 0.001):
        level = _boundary.dunnett_level(4, 0.5, alpha, clock)
        p = _boundary.dunnett_p_value(np.array([level, level / 2]), 4, 0.5, clock)
        assert p[0] == pytest.approx(alpha, rel=1e-3)
        assert level / 2 <= p[1] < alpha


def test_dunnett_gains_on_bonferroni_and_holds_its_level_over_many_looks() -> None:
    rng = np.random.default_rng(12)
    n = np.full((2_000, 8, 4), 300)
    weights = np.full((8, 4), 0.25)
    k = rng.binomial(n, 0.2)
    alarms = dict.fromkeys(CORRECTIONS, 0)
    for each in range(300):
        for correction in CORRECTIONS:
            arms = compare(Counts(n[each], k[each], weights=weights, looks=8), correction=correction).arms
            alarms[correction] += any(arm.p_value is not None and arm.p_value <= 0.05 for arm in arms)
    wide, narrow = (compare(Counts(n[0], k[0], weights=weights, looks=8), correction=c).arms[1] for c in CORRECTIONS)
    assert wide.ci_upper is not None
    assert narrow.ci_upper is not None
    assert narrow.ci_upper < wide.ci_upper
    assert alarms["bonferroni"] <= alarms["dunnett"] <= 36  # of 300 at a true 5 %, more is rarer than 1e-6


def test_the_winner_stands_beside_its_runner_up() -> None:
    counts = Counts([[2_000] * 4] * 3, [[400, 420, 520, 430]] * 3, looks=3)
    result = compare(counts, names=["a", "b", "c", "d"])

    assert result.decision.arm == "c"
    assert result.runner_up is not None
    assert (result.runner_up.arm, result.runner_up.rival) == ("c", "d")
    assert result.runner_up.effect == pytest.approx(0.045)
    assert result.runner_up.ci_lower is not None
    assert 0 < result.runner_up.ci_lower < 0.045
    assert "'d'" in result.sentence
    assert "「d」" in result.sentence_in("ja")


def test_two_arms_are_each_others_runner_up() -> None:
    result = compare(Counts([1_000, 1_000], [200, 260]))

    assert result.runner_up is not None
    arm = result.arms[1]
    assert (result.runner_up.effect, result.runner_up.ci_lower, result.runner_up.p_value) == pytest.approx(
        (arm.effect, arm.ci_lower, arm.p_value)
    )


# --- Strata -----------------------------------------------------------------------------------------------------------


def strata_of(seed: int, rates: Sequence[float] = (0.2, 0.2), epochs: int = 8) -> Counts:
    """Two segments with different base rates and different, moving weights."""
    rng = np.random.default_rng(seed)
    n, k, strata, numbers = [], [], [], []
    for epoch in range(epochs):
        for name, factor, size in (("cold", 0.5, 500), ("hot", 2.0, 100)):
            share = rng.uniform(0.1, 0.9)
            sends = rng.multinomial(size, [share, 1 - share])
            n.append(sends)
            k.append(rng.binomial(sends, np.array(rates) * factor))
            strata.append(name)
            numbers.append(epoch)
    return Counts(n, k, looks=epochs, strata=strata, epochs=numbers)


def test_looks_come_at_the_end_of_an_epoch_of_several_strata() -> None:
    result = compare(strata_of(1))

    assert (result.method.name, result.method.looks) == ("sequential", 8)
    assert result.method.spent == pytest.approx(1.0)


def test_strata_with_weights_and_rates_of_their_own_raise_no_false_alarm() -> None:
    found = [compare(strata_of(seed)).decision.state == "winner" for seed in range(400)]

    assert sum(found) <= 44  # of 400 at a true 5 %, more is rarer than 1e-6


def test_mixing_the_strata_would_have_raised_it() -> None:
    """Simpson's trap: the hot segment gets more of B."""
    n = [[450, 50], [10, 90]] * 5
    k = [[45, 5], [4, 36]] * 5
    apart = Counts(n, k, strata=["cold", "hot"] * 5, epochs=[e for e in range(5) for _ in range(2)], looks=5)
    mixed = compare(Counts(np.array(n)[0::2] + np.array(n)[1::2], np.array(k)[0::2] + np.array(k)[1::2], looks=5))

    assert mixed.decision.state == "winner"
    effect = compare(apart).arms[1].effect
    assert effect == pytest.approx(0.0, abs=1e-12)


def test_counts_are_sliced_by_epoch_arm_and_stratum() -> None:
    counts = strata_of(2)

    assert counts.n_epochs == len(counts) == 8
    assert counts[:3].n.shape == (6, 2)
    assert counts[-1].strata == ("cold", "hot")
    assert counts.stratum_names == ("cold", "hot")
    assert counts.stratum("hot").n.tolist() == counts.n[1::2].tolist()
    assert counts.arms([1]).strata == counts.strata
    assert (counts + counts).strata == counts.strata
    assert Counts.from_dict(counts.to_dict()) == counts
    assert pickle.loads(pickle.dumps(counts)) == counts
    assert counts[:3].followed_by(counts[3:]) == counts
    with pytest.raises(ValueError, match="no stratum 'warm', there are: cold, hot"):
        counts.stratum("warm")
    with pytest.raises(ValueError, match="no stratum 'warm', there are: none"):
        simulated(1).stratum("warm")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strata": ["a"]}, "1 strata for 2 rows"),
        ({"epochs": [0]}, "1 epoch numbers for 2 rows"),
        ({"epochs": [1, 0]}, "must not fall"),
        ({"epochs": [0, 0]}, "epoch 0 has two rows"),
        ({"epochs": [0, 0], "strata": ["a", "a"]}, "epoch 0 has two rows of the stratum 'a'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Counts([[5, 5], [5, 5]], [[1, 1], [1, 1]], **arguments)


def test_counts_that_do_not_follow_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 arms"):
        simulated(1).followed_by(simulated(1, (0.1, 0.1, 0.1)))
    with pytest.raises(ValueError, match="with strata and counts without"):
        simulated(1).followed_by(strata_of(1))


# --- Rows and frames --------------------------------------------------------------------------------------------------

ROWS = [
    {"wave": "2026-01-02", "segment": "cold", "variant": "b", "sends": 40, "clicks": 4, "share": 0.4},
    {"wave": "2026-01-01", "segment": "cold", "variant": "a", "sends": 50, "clicks": 5, "share": 0.5},
    {"wave": "2026-01-01", "segment": "cold", "variant": "b", "sends": 30, "clicks": 6, "share": 0.5},
    {"wave": "2026-01-01", "segment": "cold", "variant": "b", "sends": 20, "clicks": 1, "share": 0.5},
    {"wave": "2026-01-02", "segment": "cold", "variant": "a", "sends": 60, "clicks": 9, "share": 0.6},
]
COLUMNS: dict[str, Any] = {"epoch": "wave", "arm": "variant", "n": "sends", "successes": "clicks", "weight": "share"}


def test_rows_of_a_query_become_counts() -> None:
    counts = Counts.from_rows(ROWS, **COLUMNS, stratum="segment", looks=4)

    assert counts.n.tolist() == [[50, 50], [60, 40]]
    assert counts.successes.tolist() == [[5, 7], [9, 4]]
    assert counts.weights is not None
    assert counts.weights.tolist() == [[0.5, 0.5], [0.6, 0.4]]
    assert (counts.strata, counts.epochs, counts.looks) == (("cold", "cold"), (0, 1), 4)


def test_a_frame_gives_the_counts_of_its_rows() -> None:
    frame = pd.DataFrame(ROWS)

    assert Counts.from_frame(frame, **COLUMNS) == Counts.from_rows(ROWS, **COLUMNS)


def test_a_frame_of_single_mails_is_counted() -> None:
    mails = pd.DataFrame({"epoch": [0, 0, 0, 1], "arm": ["x", "y", "y", "x"], "successes": [1, 0, 1, 0]})
    counts = Counts.from_frame(mails, n=None, arms=["y", "x"])

    assert counts.n.tolist() == [[2, 1], [0, 1]]
    assert counts.successes.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"arm": "a", "n": 5}, "row 1 lacks the column 'successes'"),
        ({"arm": "a", "n": 5, "successes": 6}, "successes of row 1 is 6, more than the 5 sent"),
        ({"arm": "a", "n": -5, "successes": 0}, "n of row 1 is -5"),
        ({"arm": "a", "n": 2.5, "successes": 0}, "n of row 1 is 2.5"),
        ({"arm": "a", "n": "5", "successes": 0}, "n of row 1 is '5'"),
        ({"arm": "a", "n": float("nan"), "successes": 0}, "n of row 1 is nan"),
        ({"arm": "c", "n": 5, "successes": 0}, "there is an arm 'c', the arms are a, b"),
    ],
)
def test_a_bad_row_is_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Counts.from_rows([{"arm": "b", "n": 5, "successes": 1}, row], epoch=None, arms=["a", "b"])


def test_a_frame_without_a_column_says_which() -> None:
    with pytest.raises(ValueError, match="lacks the column 'epoch', it has wave"):
        Counts.from_frame(pd.DataFrame(ROWS))


def test_a_frame_without_narwhals_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "narwhals", None)
    with pytest.raises(MissingExtra, match="extra 'frames'"):
        Counts.from_frame(pd.DataFrame(ROWS))


# --- Thousands at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(0.2, 0.24), (0.2, 0.2, 0.25), (0.03, 0.03, 0.04, 0.05)])
@pytest.mark.parametrize("method", ["auto", "anytime", "fixed", "bayes"])
def test_the_array_form_gives_the_answers_of_the_single_one(rates: tuple[float, ...], method: Any) -> None:
    many = [simulated(seed, rates) for seed in range(6)]
    plain = [Counts(c.n, c.successes, looks=8) for c in many]
    answers = compare_many(
        [c.n for c in many], [c.successes for c in many], method=method, looks=8, mde=0.03, control=1
    )

    for i, counts in enumerate(plain):
        one = compare(counts, method=method, mde=0.03, control=1)
        for arm in one.arms:
            expected = [np.nan if v is None else v for v in (arm.effect, arm.lift, arm.ci_lower, arm.p_value)]
            found = [a[i, arm.index] for a in (answers.effect, answers.lift, answers.ci_lower, answers.p_value)]
            assert found == pytest.approx(expected, nan_ok=True, abs=1e-6)
        state = "winner" if answers.winner[i] >= 0 else "no_difference" if answers.no_difference[i] else None
        assert state == (one.decision.state if one.decision.look is not None else None)
        assert (answers.decided_at[i] if state else None) == one.decision.look
        assert tuple("ABCD"[j] for j in np.flatnonzero(answers.not_beaten[i])) == one.not_beaten


@pytest.mark.parametrize(
    ("n", "successes", "words"),
    [
        ([[1, 2]], [[1, 1]], "must be \\(n_experiments, n_epochs, n_arms\\)"),
        ([[[5, 5]]], [[[6, 1]]], "experiment 0, epoch 0, arm 0 are 6 of 5"),
        ([[[5, 5.5]]], [[[1, 1]]], "n must hold whole numbers"),
        ([[[5, 5]]], [[[1, float("nan")]]], "successes must hold whole numbers"),
    ],
)
def test_impossible_arrays_are_refused(n: Any, successes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare_many(n, successes)


# --- Posterior alone --------------------------------------------------------------------------------------------------


def test_credible_intervals_of_the_difference_are_those_of_draws() -> None:
    counts = Counts([120, 90], [30, 31])
    arm = compare(counts, method="bayes", prior=(2.0, 5.0)).arms[1]
    rng = np.random.default_rng(3)
    a, b = rng.beta(32, 95, 2_000_000), rng.beta(33, 64, 2_000_000)

    assert (arm.ci_lower, arm.ci_upper) == pytest.approx(np.quantile(b - a, [0.025, 0.975]), abs=5e-4)
    assert (arm.lift_lower, arm.lift_upper) == pytest.approx(np.quantile(b / a - 1, [0.025, 0.975]), abs=4e-3)
    assert arm.effect == pytest.approx(33 / 97 - 32 / 127)
    assert arm.p_value is None


def test_a_posterior_says_that_it_promises_no_error_rate() -> None:
    result: Comparison = compare(Counts([1_000, 1_000], [200, 270]), method="bayes")

    assert result.decision.state == "winner"
    assert "posterior" in result.sentence
    assert "no error rate" in result.sentence
    assert "p " not in result.sentence
