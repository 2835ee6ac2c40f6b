"""Segments and cells that learn from each other: the posterior is right, and the weights do what is promised."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, ndtr

from abmail._laplace import Fit, Prior, fit
from abmail._structure import Table, chances
from abmail.bandit import (
    WEIGHT_UNIT,
    BySegment,
    Contextual,
    Factorial,
    Hierarchical,
    Policy,
    Sharpened,
    Thompson,
    Uniform,
    policy_from_dict,
)
from abmail.stats import Counts, p_best

Floats = NDArray[np.float64]

EAGER = Hierarchical(rule=Thompson(min_weight=0.0))
SUBJECTS = {"subject": ["plain", "number", "question"], "cta": ["go", "see"]}


def a_table(seed: int, n_rows: int, n_arms: int, n: int = 60) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    m = rng.integers(n // 3, n, (n_rows, n_arms)).astype(float)
    return rng.binomial(m.astype(int), rng.uniform(0.1, 0.5, (n_rows, n_arms))).astype(float), m


def a_cov(seed: int, size: int, n_grid: int = 2) -> Floats:
    root = np.random.default_rng(seed).standard_normal((n_grid, size, size)) / size
    cov: Floats = root @ root.swapaxes(1, 2) + 0.05 * np.eye(size)
    return cov


def a_prior(n_rows: int, n_arms: int, kind: str) -> Prior:
    design = np.random.default_rng(5).standard_normal((n_rows, n_arms, 3)) if kind == "design" else None
    shared = {"own": None, "shared": a_cov(2, n_arms), "design": a_cov(3, 3)}[kind]
    return Prior(own=a_cov(1, n_arms), shared=shared, design=design, log_chance=np.log([0.3, 0.7]))


def dense(prior: Prior, point: int, n_rows: int) -> Floats:
    """The prior's covariance of the whole table written out."""
    own = np.kron(np.eye(n_rows), prior.own[point])
    if prior.shared is None:
        return own
    n_arms = prior.own.shape[-1]
    design = np.stack([np.eye(n_arms)] * n_rows) if prior.design is None else prior.design
    flat = design.reshape(n_rows * n_arms, -1)
    cov: Floats = own + flat @ prior.shared[point] @ flat.T
    return cov


@pytest.mark.parametrize("kind", ["own", "shared", "design"])
def test_mode_covariance_and_evidence_are_those_of_the_dense_problem(kind: str) -> None:
    """Mode by scipy's BFGS, curvature and evidence by the textbook's dense formulas."""
    k, m = a_table(0, 3, 4)
    prior, offset = a_prior(3, 4, kind), -0.8
    found = fit(k, m, prior, offset)
    scores = []
    for point in range(2):
        inverse = np.linalg.inv(dense(prior, point, 3))

        def fall(eta: Floats, inverse: NDArray[Any] = inverse) -> float:
            off = eta - offset
            seen = k.ravel() * log_expit(eta) + (m - k).ravel() * log_expit(-eta)
            return float(-seen.sum() + off @ inverse @ off / 2)

        best = minimize(fall, np.full(12, offset), method="BFGS", options={"gtol": 1e-9})
        assert found.mean[point].ravel() == pytest.approx(best.x, abs=1e-5)
        curvature = inverse + np.diag(m.ravel() * expit(best.x) * expit(-best.x))
        cov = np.linalg.inv(curvature).reshape(3, 4, 3, 4)
        for row in range(3):
            assert found.cov[point, row] == pytest.approx(cov[row, :, row], abs=1e-6)
        logs = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(curvature)[1]
        scores.append(-best.fun + logs / 2 + prior.log_chance[point])
    chance = np.exp(np.array(scores) - max(scores))
    assert found.chance == pytest.approx(chance / chance.sum(), abs=1e-6)


def test_the_normal_posterior_is_near_to_the_exact_one() -> None:
    """Against elliptical slice sampling (Murray, Adams & MacKay 2010) of the exact posterior."""
    k, m = a_table(4, 2, 3, n=200)
    both = a_prior(2, 3, "shared")
    assert both.shared is not None
    prior = Prior(own=both.own[:1], shared=both.shared[:1], design=None, log_chance=np.zeros(1))
    found = fit(k, m, prior, -0.8)
    rng, root = np.random.default_rng(6), np.linalg.cholesky(dense(prior, 0, 2))

    def seen(off: Floats) -> float:
        eta = off - 0.8
        return float(k.ravel() @ log_expit(eta) + (m - k).ravel() @ log_expit(-eta))

    off, drawn = found.mean[0].ravel() + 0.8, np.zeros((6_000, 6))
    for step in range(len(drawn)):
        other, level = root @ rng.standard_normal(6), seen(off) + np.log(rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        low, high = angle - 2 * np.pi, angle
        while seen(moved := off * np.cos(angle) + other * np.sin(angle)) < level:
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = rng.uniform(low, high)
        off = drawn[step] = moved
    sd = np.sqrt(np.diagonal(found.cov[0], axis1=1, axis2=2)).ravel()
    assert np.abs(drawn.mean(axis=0) - 0.8 - found.mean[0].ravel()).max() < 0.25 * sd.min()
    assert drawn.std(axis=0) == pytest.approx(sd, rel=0.12)


def normal_fit(mean: Floats, cov: Floats) -> Fit:
    return Fit(mean=mean[None, None], cov=cov[None, None], chance=np.ones(1), places=np.zeros(1, dtype=np.int64))


def test_the_chance_to_be_best_of_two_arms_is_the_normal_one() -> None:
    for gap, sds, rho in ((0.0, (0.1, 0.1), 0.0), (0.1, (0.1, 0.2), 0.5), (-0.3, (0.3, 0.1), -0.7)):
        cross = rho * sds[0] * sds[1]
        best = chances(
            normal_fit(np.array([0.0, gap]), np.array([[sds[0] ** 2, cross], [cross, sds[1] ** 2]])), [0], np.arange(2)
        )
        exact = ndtr(gap / np.sqrt(sds[0] ** 2 + sds[1] ** 2 - 2 * cross))
        assert best == pytest.approx(np.array([[1 - exact, exact]]), abs=0.005)


def test_the_chance_to_be_best_agrees_with_quadrature_where_arms_are_independent() -> None:
    a, b = np.array([400.0, 420, 380, 430]), np.array([1600.0, 1580, 1620, 1570])
    normal = normal_fit(np.log(a / b), np.diag(1 / a + 1 / b))
    assert chances(normal, [0], np.arange(4))[0] == pytest.approx(p_best(a, b), abs=0.01)


@st.composite
def segmented(draw: st.DrawFn) -> Counts:
    epochs = draw(st.integers(1, 3))
    strata = ["x", "y", "z"][: draw(st.integers(1, 3))]
    size = epochs * len(strata) * 3
    n = np.array(draw(st.lists(st.integers(0, 2_000), min_size=size, max_size=size))).reshape(-1, 3)
    part = np.array(draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))).reshape(-1, 3)
    numbers = np.repeat(np.arange(epochs), len(strata)).tolist()
    return Counts(n, (n * part**3).astype(int), n * part, strata=strata * epochs, epochs=numbers, looks=9)


@settings(deadline=None, max_examples=25)
@given(segmented(), st.floats(0, 1 / 3), st.permutations([0, 1, 2]))
def test_each_segment_gets_exact_shares_above_the_floor_whatever_the_order(
    counts: Counts, floor: float, order: list[int]
) -> None:
    policy = Hierarchical(rule=Thompson(min_weight=floor))
    weights = policy.weights_by_segment(counts)
    assert weights.shape == (len(counts.stratum_names), 3)
    assert (weights.sum(axis=1) == 1).all()
    assert (weights * WEIGHT_UNIT == np.rint(weights * WEIGHT_UNIT)).all()
    assert weights.min() >= min(floor, 1 / 3) - 1 / WEIGHT_UNIT
    assert policy.weights_by_segment(counts.arms(order)) == pytest.approx(weights[:, order], abs=0.05)
    names = counts.stratum_names[::-1]
    assert policy.weights_by_segment(counts, segments=names) == pytest.approx(weights[::-1], abs=0.02)
    stopped = policy.weights_by_segment(counts, active=[True, False, True])
    assert (stopped[:, 1] == 0).all()
    assert (stopped.sum(axis=1) == 1).all()


@settings(deadline=None, max_examples=25)
@given(segmented(), st.integers(0, 8), st.integers(0, 2), st.integers(1, 80))
def test_more_successes_hardly_ever_lower_an_arms_weight_in_its_segment(
    counts: Counts, row: int, arm: int, more: int
) -> None:
    """Not exactly never: they may also speak for another size of the differences, and chances are shares of draws."""
    row %= len(counts.n)
    successes = counts.successes.copy()
    successes[row, arm] = min(successes[row, arm] + more, counts.n[row, arm])
    better = Counts(
        counts.n, successes, np.maximum(counts.exposure, successes), strata=counts.strata, epochs=counts.epochs
    )
    before = Counts(counts.n, counts.successes, better.exposure, strata=counts.strata, epochs=counts.epochs)
    place = counts.stratum_names.index((counts.strata or ())[row])
    gain = EAGER.weights_by_segment(better)[place, arm] - EAGER.weights_by_segment(before)[place, arm]
    assert gain > -0.03


def two_segments(large: list[int], small: list[int], *, sizes: tuple[int, int] = (20_000, 400)) -> Counts:
    n = [[sizes[0]] * len(large), [sizes[1]] * len(small)]
    return Counts(n, [large, small], strata=["large", "small"], epochs=[0, 0])


def test_a_small_segment_follows_the_others_where_they_are_alike() -> None:
    names = [f"s{i}" for i in range(6)]
    n, k = [[4_000] * 3] * 5 + [[50] * 3], [[800, 820, 1_000]] * 5 + [[10, 11, 10]]
    weights = EAGER.weights_by_segment(Counts(n, k, strata=names, epochs=[0] * 6))
    alone = EAGER.weights(Counts(n[5], k[5]))
    assert weights[5, 2] > 0.9
    assert alone[2] < 0.5


def test_segments_go_their_own_way_where_they_are_not_alike() -> None:
    k = np.array([[1_000, 800, 800], [800, 1_000, 800], [800, 800, 1_000], [1_000, 800, 800]])
    counts = Counts(np.full((4, 3), 4_000), k, strata=[*"abcd"], epochs=[0] * 4)
    assert (EAGER.weights_by_segment(counts).argmax(axis=1) == k.argmax(axis=1)).all()
    assert EAGER.weights_by_segment(counts).max(axis=1).min() > 0.99


def test_a_segment_without_mails_gets_what_is_known_of_the_others() -> None:
    counts = two_segments([4_000, 5_000], [80, 100])
    weights = EAGER.weights_by_segment(counts, segments=["new", "large"])
    assert 0.6 < weights[0, 1] < weights[1, 1]
    assert EAGER.weights(counts) == pytest.approx(weights[0], abs=0.02)
    assert EAGER.weights_by_segment(Counts([5, 5], [1, 1]), segments=["new"]).sum() == 1


def test_one_segment_is_the_plain_case() -> None:
    n, k = [[900, 1_100, 1_000], [300, 1_400, 1_300]], [[180, 242, 210], [57, 301, 280]]
    plain, named = Counts(n, k), Counts(n, k, strata=["all", "all"], epochs=[0, 1])
    assert EAGER.weights_by_segment(named)[0].tolist() == EAGER.weights(plain).tolist()
    thompson = Thompson(min_weight=0.0).weights(plain)
    assert EAGER.weights(plain) == pytest.approx(thompson, abs=0.1)  # arms are shrunk to each other besides
    assert EAGER.weights(plain).argmax() == thompson.argmax()


def test_the_hour_of_an_epoch_is_no_arms_merit() -> None:
    """The worse arm has nearly all of a good hour, the better one of a bad hour: raw rates are the wrong way round."""
    n = [[900, 100], [900, 100], [100, 900], [100, 900]]
    k = [[270, 36], [270, 36], [10, 108], [10, 108]]
    counts = Counts(n, k, strata=["a", "b"] * 2, epochs=[0, 0, 1, 1])
    raw = counts.successes.sum(axis=0) / counts.n.sum(axis=0)
    assert raw[0] > raw[1]
    assert (EAGER.weights_by_segment(counts)[:, 1] > 0.5).all()
    fooled = Hierarchical(rule=Thompson(min_weight=0.0, level_sd=0.0)).weights_by_segment(counts)
    assert (fooled[:, 1] < 0.5).all()


def test_pending_mails_are_no_failures() -> None:
    late = Counts([[1_000, 1_000]], [[200, 100]], [[1_000, 450]], strata=["a"], epochs=[0])
    assert EAGER.weights_by_segment(late)[0, 1] > 0.5


ODD_COUNTS = {
    "nothing sent": Counts(np.zeros((4, 6)), np.zeros((4, 6)), strata=[*"abab"], epochs=[0, 0, 1, 1]),
    "no answers": Counts(np.full((4, 6), 500), np.zeros((4, 6)), strata=[*"abab"], epochs=[0, 0, 1, 1]),
    "all answer": Counts(np.full((2, 6), 500), np.full((2, 6), 500), strata=[*"ab"], epochs=[0, 0]),
    "answers before their time": Counts(
        np.full((2, 6), 500), np.full((2, 6), 90), np.full((2, 6), 3.5), strata=[*"ab"], epochs=[0, 1]
    ),
    "one segment has all": Counts([[10**9] * 6, [0] * 6], [[10**8] * 6, [0] * 6], strata=[*"ab"], epochs=[0, 0]),
    "absurd": Counts([[10**15] * 6, [1] * 6], [[10**14 + i for i in range(6)], [1] * 6], strata=[*"ab"], epochs=[0, 1]),
    "no epoch": Counts(np.zeros((0, 6)), np.zeros((0, 6)), strata=[], epochs=[]),
}


@pytest.mark.parametrize("policy", [Hierarchical(), Factorial.of(SUBJECTS)])
@pytest.mark.parametrize("name", ODD_COUNTS)
def test_odd_counts_still_give_shares(policy: Hierarchical | Factorial, name: str) -> None:
    for weights in (
        policy.weights_by_segment(ODD_COUNTS[name], segments=["a", "b"]),
        policy.weights(ODD_COUNTS[name])[None],
    ):
        assert np.isfinite(weights).all()
        assert (weights.sum(axis=1) == 1).all()
        assert weights.min() >= 0.05 - 1e-6


def test_one_arm_gets_everything_and_two_hundred_cells_their_shares() -> None:
    assert Hierarchical().weights(Counts([10], [3])).tolist() == [1.0]
    many = Factorial.of(
        {"a": [str(i) for i in range(20)], "b": [str(i) for i in range(10)]}, rule=Sharpened(min_weight=0.0)
    )
    rng = np.random.default_rng(3)
    n = np.full(200, 40)
    weights = many.weights(Counts(n, rng.binomial(n, np.repeat(expit(np.linspace(-2, -1, 20)), 10))))
    assert weights.sum() == 1
    assert weights[100:].sum() > 0.9


def test_a_policy_says_what_is_wrong_with_it() -> None:
    with pytest.raises(TypeError, match="rule is Uniform"):
        Hierarchical(rule=Uniform())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot be read"):
        policy_from_dict({"name": "hierarchical", "rule": {"name": "uniform"}})
    with pytest.raises(ValueError, match="segments are"):
        Hierarchical().weights_by_segment(Counts([1, 1], [0, 0]))
    with pytest.raises(ValueError, match="each once"):
        Hierarchical().weights_by_segment(Counts([1, 1], [0, 0]), segments=["a", "a"])
    with pytest.raises(ValueError, match=r"3 x 2 = 6 cells, the counts have 2 arms"):
        Factorial.of(SUBJECTS).weights(Counts([1, 1], [0, 0]))
    with pytest.raises(ValueError, match="no factor 'slot', there are: subject, cta"):
        Factorial.of(SUBJECTS).weights_given(Counts([1] * 6, [0] * 6), "slot")


@pytest.mark.parametrize("factors", [{}, {"subject": []}, {"subject": ["a", "a"]}])
def test_factors_that_are_none_are_refused(factors: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="at least one name, each once"):
        Factorial.of(factors)


def test_structured_policies_come_back_from_json_and_keep_their_promise_of_segments() -> None:
    for policy in (Hierarchical(rule=Sharpened(planned=500, prior=(2.0, 40.0))), Factorial.of(SUBJECTS)):
        again = policy_from_dict(json.loads(json.dumps(policy.to_dict())))
        assert again == policy
        assert hash(again) == hash(policy)
        assert isinstance(again, BySegment)
        assert isinstance(again, Policy)


@pytest.mark.parametrize(("common", "own"), [(0.15, 0.0), (0.0, 0.2)])
def test_the_hierarchy_is_never_far_from_the_better_of_one_for_all_and_each_alone(common: float, own: float) -> None:
    """Answers lost over 12 epochs of 3,000 mails, five lists: nearer to the better of the two than to the worse."""
    lost = np.zeros(3)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rates = expit(-1.3 + common * rng.standard_normal(4) + own * rng.standard_normal((5, 4)))
        lost += [_lost(rates, policy, np.random.default_rng(seed)) for policy in ("hierarchy", "pooled", "alone")]
    assert lost[0] < (lost[1] + lost[2]) / 2
    assert lost[0] < 1.7 * min(lost[1], lost[2])


def _lost(rates: Floats, policy: str, rng: np.random.Generator) -> float:
    """Answers that a policy loses on five segments of 600 mails an epoch."""
    gap, lost, weights = rates.max(axis=1, keepdims=True) - rates, 0.0, np.full(rates.shape, 0.25)
    n, k = np.zeros((0, 4), dtype=np.int64), np.zeros((0, 4), dtype=np.int64)
    plain = Thompson(min_weight=0.0)
    for epoch in range(1, 13):
        sent = np.stack([rng.multinomial(600, row / row.sum()) for row in weights])
        n, k = np.vstack([n, sent]), np.vstack([k, rng.binomial(sent, rates)])
        lost += float((sent * gap).sum())
        if policy == "hierarchy":
            numbers = np.repeat(np.arange(epoch), 5).tolist()
            weights = EAGER.weights_by_segment(Counts(n, k, strata=[*"abcde"] * epoch, epochs=numbers))
        elif policy == "alone":
            weights = np.stack([plain.weights(Counts(n[row::5], k[row::5])) for row in range(5)])
        else:
            weights = np.broadcast_to(plain.weights(Counts(n, k).total()), rates.shape)
    return lost


def additive(seed: int, n: int, *, pair: float = 0.0) -> tuple[Counts, Floats]:
    """Counts of 4 x 3 x 7 cells and the true log odds."""
    rng = np.random.default_rng(seed)
    main = [0.2 * rng.standard_normal(size) for size in (4, 3, 7)]
    odds = -1.2 + main[0][:, None, None] + main[1][:, None] + main[2] + pair * rng.standard_normal((4, 3, 1))
    sends = np.full(84, n)
    return Counts(sends, rng.binomial(sends, expit(odds.ravel()))), odds.ravel()


CELLS = Factorial.of({"s": [*"abcd"], "c": [*"xyz"], "t": [*"1234567"]}, rule=Thompson(min_weight=0.0))


def test_cells_that_share_levels_are_known_from_few_mails_each() -> None:
    """Cells of 100 mails have a standard error of 0.25 on their own; the levels' mails add up."""
    counts, odds = additive(1, 100)
    fitted = CELLS.posterior(Table.of(counts))
    mean = np.tensordot(fitted.chance, fitted.mean[:, 0], axes=1)
    alone = np.log((counts.successes[0] + 0.5) / (counts.n[0] - counts.successes[0] + 0.5))
    error, error_alone = (float(np.sqrt(np.mean((known - odds) ** 2))) for known in (mean, alone))
    assert error < 0.12
    assert error < 0.6 * error_alone


def test_interactions_are_found_where_there_are_many() -> None:
    counts, odds = additive(2, 3_000, pair=0.3)
    fitted = CELLS.posterior(Table.of(counts))
    mean = np.tensordot(fitted.chance, fitted.mean[:, 0], axes=1)
    assert float(np.sqrt(np.mean((mean - odds) ** 2))) < 0.05
    assert CELLS.weights(counts)[odds > odds.max() - 0.1].sum() > 0.95


def test_a_cell_that_was_stopped_gets_nothing_and_the_others_still_learn_from_it() -> None:
    counts, odds = additive(3, 1_000)
    active = np.ones(84, dtype=bool)
    active[odds.argmax()] = False
    weights = CELLS.weights(counts, active=active.tolist())
    assert weights[odds.argmax()] == 0
    assert weights.sum() == 1
    assert odds[active].argmax() in np.argsort(-weights[active])[:3]


def test_weights_given_a_level_lie_on_its_cells_alone() -> None:
    counts, odds = additive(4, 2_000)
    weights = CELLS.weights_given(counts, "t")
    assert weights.shape == (7, 84)
    assert (weights.sum(axis=1) == 1).all()
    own = np.arange(84) % 7
    assert all((weights[level, own != level] == 0).all() for level in range(7))
    best = [int(np.where(own == level, odds, -9.0).argmax()) for level in range(7)]
    assert np.mean([weights[level, cell] for level, cell in enumerate(best)]) > 0.5
    none = CELLS.weights_given(counts, "t", active=(own != 2).tolist())
    assert none[2].sum() == 0


def test_cells_in_segments_follow_the_list_and_leave_it_where_they_must() -> None:
    counts, odds = additive(5, 400)
    few = np.full(84, 10)
    rng = np.random.default_rng(6)
    n = np.stack([counts.n[0], few])
    k = np.stack([counts.successes[0], rng.binomial(few, expit(odds))])
    weights = CELLS.weights_by_segment(Counts(n, k, strata=["large", "small"], epochs=[0, 0]))
    best = np.argsort(-odds)[:8]
    assert weights[0, best].sum() > 0.8
    assert weights[1, best].sum() > 0.5


@pytest.mark.parametrize(
    ("kind", "data"), [("hierarchical", {"rule": "thompson"}), ("factorial", {"factors": 5}), ("factorial", {})]
)
def test_json_that_is_no_policy_is_refused(kind: str, data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        policy_from_dict({"name": kind} | data)


PEOPLE = Contextual.of(
    categories={"role": ["sales", "it"]}, numbers={"days": [30, 60, 90]}, rule=Thompson(min_weight=0.0)
)


def test_people_are_put_into_strata_by_their_values() -> None:
    for attributes, name in (
        ({"role": "sales", "days": 29.9}, "sales|under 30"),
        ({"role": "it", "days": "30"}, "it|30 to 60"),
        ({"role": "IT", "days": 1e9}, "other|from 90"),
        ({"role": None, "days": float("nan")}, "other|unknown"),
        ({"role": "it|x", "days": "soon"}, "other|unknown"),
        ({}, "other|unknown"),
    ):
        assert PEOPLE.stratum(attributes) == name


def people(by_role: Floats, *, n: int) -> Counts:
    """Answers in every stratum of two roles and four ranges, by the role's (2, n_arms) rates."""
    names = [f"{role}|{days}" for role in ("sales", "it") for days in ("under 30", "30 to 60", "60 to 90", "from 90")]
    rates = np.repeat(by_role, 4, axis=0)
    return Counts(np.full(rates.shape, n), np.rint(rates * n), strata=names, epochs=[0] * len(names))


def test_an_attribute_that_changes_the_best_arm_is_used_also_where_nothing_was_sent() -> None:
    counts = people(np.array([[0.2, 0.26], [0.26, 0.2]]), n=500)
    weights = PEOPLE.weights_by_segment(counts, segments=["sales|unknown", "it|unknown", "it|60 to 90"])
    assert weights[0, 1] > 0.7
    assert weights[1, 0] > 0.7
    assert weights[2, 0] > weights[1, 0]


def test_attributes_that_change_nothing_leave_the_strata_together() -> None:
    counts = people(np.array([[0.2, 0.24], [0.2, 0.24]]), n=150)
    assert PEOPLE.weights_by_segment(counts)[:, 1].min() > 0.9
    alone = Thompson(min_weight=0.0).weights(counts.stratum("it|from 90"))
    assert alone[1] < 0.85


def test_what_a_number_changes_is_carried_to_the_ranges_beside() -> None:
    """People of long ago like another arm; the range before the last has hardly any mails."""
    counts = Counts(
        [[3_000, 3_000], [3_000, 3_000], [20, 20], [3_000, 3_000]],
        [[750, 600], [700, 640], [4, 4], [600, 750]],
        strata=["it|under 30", "it|30 to 60", "it|60 to 90", "it|from 90"],
        epochs=[0] * 4,
    )
    weights = PEOPLE.weights_by_segment(counts)
    assert weights[0, 0] > 0.95
    assert weights[3, 1] > 0.95
    assert 0.05 < weights[2, 1] < 0.95


@pytest.mark.parametrize("name", ["sales", "sales|soon", "boss|under 30", ""])
def test_a_stratum_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no stratum .*role\|days"):
        PEOPLE.weights_by_segment(people(np.full((2, 2), 0.2), n=10), segments=[name])


@pytest.mark.parametrize(
    ("fields", "fault"),
    [({}, "attributes are"), ({"categories": {"a": []}}, "values of a"),
     ({"categories": {"a": ["x", "x"]}}, "values of a"),
     ({"categories": {"a": ["other"]}}, "values of a"), ({"categories": {"a": ["x|y"]}}, "values of a"),
     ({"categories": {"a": ["x"]}, "numbers": {"a": [1]}}, "each once"), ({"numbers": {"d": []}}, "cuts of d"),
     ({"numbers": {"d": [2, 1]}}, "cuts of d"), ({"numbers": {"d": [1, float("nan")]}}, "cuts of d")],
)  # fmt: skip
def test_attributes_that_are_none_are_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Contextual.of(**fields)


def test_a_contextual_policy_comes_back_from_json() -> None:
    assert policy_from_dict(json.loads(json.dumps(PEOPLE.to_dict()))) == PEOPLE


@pytest.mark.parametrize("name", ODD_COUNTS)
def test_odd_counts_of_strata_still_give_shares(name: str) -> None:
    given = ODD_COUNTS[name]
    places = {"a": "it|under 30", "b": "other|unknown"}
    names = [places[own] for own in given.strata or ()]
    counts = Counts(given.n, given.successes, given.exposure, strata=names, epochs=given.epochs)
    weights = PEOPLE.weights_by_segment(counts, segments=list(places.values()))
    assert np.isfinite(weights).all()
    assert (weights.sum(axis=1) == 1).all()


def test_factors_that_act_together_are_told_from_those_that_do_not() -> None:
    apart, together = (
        CELLS.acting_together(additive(seed, 1_500, pair=pair)[0]) for seed, pair in ((31, 0.0), (32, 0.3))
    )
    assert apart < 0.3
    assert together > 0.99
    assert CELLS.acting_together(Counts(np.zeros(84), np.zeros(84))) == 0.5
    assert Factorial.of({"subject": ["a", "b"]}).acting_together(Counts([2_000, 2_000], [200, 400])) == 0.5
    with pytest.raises(ValueError, match="84 cells"):
        CELLS.acting_together(Counts([1, 1], [0, 0]))


def test_cells_in_another_order_get_the_weights_of_their_own() -> None:
    rng = np.random.default_rng(4)
    levels = {"subject": ("plain", "number"), "cta": ("go", "see", "buy")}
    n = rng.integers(100, 300, (3, 6))
    k = rng.binomial(n, 0.2)
    joined = (0, 1, 3, 4, 2, 5)  # "buy" came later
    usual, later = Factorial.of(levels), Factorial.of(levels, order=joined)
    assert later.cells[4] == ("plain", "buy")
    counts = Counts(n[:, joined], k[:, joined])
    assert later.weights(counts) == pytest.approx(usual.weights(Counts(n, k))[list(joined)], abs=2e-6)
    given = later.weights_given(counts, "cta")
    assert (given[2] > 0).tolist() == [False] * 4 + [True] * 2
    assert policy_from_dict(json.loads(json.dumps(later.to_dict()))) == later
    with pytest.raises(ValueError, match="each once"):
        Factorial.of(levels, order=(0, 1, 2, 3, 4, 4))
