"""Moments: they add without loss, hold what they were given, refuse what cannot be, and count companies as one."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail.stats import Moments, winsorize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


@dataclasses.dataclass(frozen=True)
class Table:
    """Recipients, one row each."""

    y: Floats
    arm: NDArray[np.int64]
    epoch: NDArray[np.int64]
    d: Floats
    x: Floats
    company: list[str | None]


def table(seed: int = 0, n: int = 600, *, n_epochs: int = 3, n_arms: int = 2) -> Table:
    rng = np.random.default_rng(seed)
    x = rng.gamma(2.0, 1.0, n)
    return Table(
        y=rng.normal(3, 2, n) + x,
        arm=rng.integers(0, n_arms, n),
        epoch=rng.integers(0, n_epochs, n),
        d=rng.integers(0, 5, n).astype(np.float64),
        x=x,
        company=[None if i == 0 else f"c{i}" for i in rng.integers(0, 40, n)],
    )


def moments_of(rows: Table, some: slice = slice(None), **more: Any) -> Moments:
    return Moments.from_values(
        rows.y[some],
        arm=rows.arm[some],
        epoch=rows.epoch[some],
        denominator=rows.d[some],
        covariate=rows.x[some],
        n_epochs=3,
        n_arms=2,
        **more,
    )


def assert_close(one: Moments, other: Moments, rel: float = 1e-9) -> None:
    assert one.variables == other.variables
    assert np.array_equal(one.n, other.n)
    np.testing.assert_allclose(one.mean, other.mean, rtol=rel, atol=1e-12)
    scale = np.abs(other.product).max(initial=0.0)
    np.testing.assert_allclose(one.product, other.product, rtol=rel, atol=rel * scale)


# --- From values ------------------------------------------------------------------------------------------------------


def test_means_variances_and_covariances_are_those_of_the_values_of_each_epoch_and_arm() -> None:
    rows = table()
    moments = moments_of(rows)

    assert moments.variables == ("value", "denominator", "covariate")
    for epoch in range(3):
        for arm in range(2):
            here = (rows.epoch == epoch) & (rows.arm == arm)
            columns = np.stack([rows.y[here], rows.d[here], rows.x[here]])
            assert moments.n[epoch, arm] == here.sum()
            np.testing.assert_allclose(moments.mean[epoch, arm], columns.mean(axis=1), rtol=1e-12)
            np.testing.assert_allclose(moments.product[epoch, arm], np.cov(columns) * (here.sum() - 1), rtol=1e-10)
            assert moments.variance[epoch, arm] == pytest.approx(rows.y[here].var(ddof=1), rel=1e-12)


def test_a_mean_of_a_billion_with_a_spread_of_one_survives_being_cut_up_and_added() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, 40_000)
    y, arm = 1e9 + noise, rng.integers(0, 2, 40_000)
    parts = [Moments.from_values(y[i : i + 1_000], arm=arm[i : i + 1_000], n_arms=2) for i in range(0, 40_000, 1_000)]

    for moments in (Moments.from_values(y, arm=arm), sum(parts)):
        assert isinstance(moments, Moments)
        for one in range(2):
            assert moments.variance[0, one] == pytest.approx(noise[arm == one].var(ddof=1), rel=1e-6)
    naive = (y**2).sum() - y.sum() ** 2 / len(y)  # what sums of squares would have given
    assert abs(naive / (noise.var() * len(y)) - 1) > 0.01


@given(st.integers(0, 10_000), st.integers(0, 600))
@PROPERTY
def test_moments_of_two_parts_add_up_to_those_of_the_whole(seed: int, cut: int) -> None:
    rows = table(seed)

    assert_close(moments_of(rows, slice(cut)) + moments_of(rows, slice(cut, None)), moments_of(rows))


@given(st.integers(0, 10_000))
@PROPERTY
def test_addition_does_not_care_about_the_order(seed: int) -> None:
    rows = table(seed)
    a, b, c = (moments_of(rows, slice(i, i + 200)) for i in (0, 200, 400))

    assert_close(a + b, b + a)
    assert_close((a + b) + c, a + (b + c))
    assert_close(sum([a, b, c]) or a, a + b + c)


def test_the_total_is_what_one_epoch_of_all_values_would_have_been() -> None:
    rows = table()
    whole = Moments.from_values(rows.y, arm=rows.arm, denominator=rows.d, covariate=rows.x)

    assert_close(moments_of(rows).total(), whole)


def test_nobody_added_changes_nothing() -> None:
    rows = table()
    moments, nobody = moments_of(rows), moments_of(rows, slice(0))

    assert nobody.n.sum() == 0
    assert_close(moments + nobody, moments, rel=1e-15)
    assert_close(nobody + moments, moments, rel=1e-15)


def test_bare_numbers_yes_and_no_and_whole_numbers_are_values_too() -> None:
    yes = Moments.from_values([True, False, True, True], arm=[0, 0, 1, 1])
    whole = Moments.from_values([1, 0, 1, 1], arm=np.array([False, False, True, True]))

    assert yes == whole
    assert yes.variance.tolist() == [[0.5, 0.0]]


def test_nobody_at_all_is_allowed() -> None:
    moments = Moments.from_values([], arm=[], n_epochs=2, n_arms=3)

    assert moments.n.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert np.isnan(moments.variance).all()


# --- Companies --------------------------------------------------------------------------------------------------------


def test_people_of_a_company_are_summed_within_epoch_and_arm_and_people_without_one_stand_alone() -> None:
    moments = Moments.from_values(
        [1, 2, 4, 8, 16, 32, 64],
        arm=[0, 0, 0, 0, 1, 1, 1],
        epoch=[0, 0, 0, 1, 0, 0, 0],
        cluster=["acme", "acme", "bolt", "acme", "acme", None, float("nan")],
    )

    assert moments.variables == ("value", "size")
    assert moments.n.tolist() == [[2, 3], [1, 0]]
    assert moments.mean[0, 0].tolist() == [3.5, 1.5]  # (1 + 2) and 4; two people and one
    assert moments.mean[0, 1].tolist() == [pytest.approx(112 / 3), 1.0]
    assert moments.mean[1, 0].tolist() == [8.0, 1.0]


@pytest.mark.parametrize(
    "ids",
    [
        [7, 7, 8, 9, 8],
        ["g", "g", "h", "i", "h"],
        np.array([7, 7, 8, 9, 8]),
        np.array(["g", "g", "h", "i", "h"]),
        [7.0, 7.0, 8.0, None, 8.0],
        np.array([7.0, 7.0, 8.0, np.nan, 8.0]),
        [("g", 1), ("g", 1), ("h", 1), ("g", 2), ("h", 1)],
    ],
)
def test_companies_may_be_named_by_anything(ids: Any) -> None:
    moments = Moments.from_values([1, 2, 3, 4, 5], arm=[0, 0, 0, 0, 0], cluster=ids)

    assert moments.n.tolist() == [[3]]
    assert moments.mean[0, 0].tolist() == [5.0, pytest.approx(5 / 3)]


def test_missing_companies_of_a_pandas_column_stand_alone() -> None:
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(["a", "a", None, None], dtype="string")

    assert Moments.from_values([1, 2, 3, 4], arm=[0, 0, 0, 0], cluster=column).n.tolist() == [[3]]


def test_denominators_and_covariates_are_summed_over_the_company_too() -> None:
    moments = Moments.from_values(
        [1, 2, 4], arm=[0, 0, 0], denominator=[1, 3, 5], covariate=[10, 20, 40], cluster=["a", "a", "b"]
    )

    assert moments.variables == ("value", "denominator", "covariate", "size")
    assert moments.mean[0, 0].tolist() == [3.5, 4.5, 35.0, 1.5]


def test_companies_that_keep_their_arm_over_the_epochs_are_refused_and_those_drawn_afresh_are_not() -> None:
    rng = np.random.default_rng(3)
    company, epoch = np.tile(np.arange(80), 3), np.repeat([0, 1, 2], 80)
    y = rng.normal(0, 1, 240)
    for share in (0.5, 0.1):
        sticky = (rng.random(80) < share).astype(np.int64)[company]
        fresh = (rng.random(240) < share).astype(np.int64)
        assert Moments.from_values(y, arm=fresh, epoch=epoch, cluster=company).n.sum() == 240
        assert Moments.from_values(y, arm=sticky, cluster=company).n.sum() == 80
        with pytest.raises(ValueError, match=r"companies keep their arm .* \(160 of 160 times\)"):
            Moments.from_values(y, arm=sticky, epoch=epoch, cluster=company)


def test_people_of_a_company_drawn_one_by_one_are_no_company_that_keeps_its_arm() -> None:
    rng = np.random.default_rng(4)
    company, epoch, arm = rng.integers(0, 60, 5_000), rng.integers(0, 4, 5_000), rng.integers(0, 2, 5_000)

    assert Moments.from_values(rng.normal(0, 1, 5_000), arm=arm, epoch=epoch, cluster=company).n.sum() == 480
    assert Moments.from_values(np.ones(5_000), arm=np.zeros(5_000), epoch=epoch, cluster=company).n.sum() == 240


# --- From count, mean and variance ------------------------------------------------------------------------------------


def test_a_warehouse_summary_gives_the_same_moments_as_the_values() -> None:
    rows = table()
    moments = Moments.from_values(rows.y, arm=rows.arm, epoch=rows.epoch)

    assert_close(Moments.from_summary(moments.n, moments.mean[..., 0], moments.variance), moments)


def test_a_summary_of_one_epoch_needs_no_nesting_and_missing_numbers_where_nobody_was_are_passed_over() -> None:
    moments = Moments.from_summary([100, 1, 0], [2.0, 5.0, float("nan")], [1.5, float("nan"), float("nan")])

    assert moments.n.tolist() == [[100, 1, 0]]
    assert moments.mean[0, :, 0].tolist() == [2.0, 5.0, 0.0]
    assert moments.variance[0, 0] == pytest.approx(1.5)
    assert np.isnan(moments.variance[0, 1:]).all()


# --- Winsorising ------------------------------------------------------------------------------------------------------


def test_winsorising_caps_and_the_cap_is_remembered() -> None:
    y, arm = [0.0, 35.0, 12_000.0, 3.0], [0, 0, 1, 1]
    capped = Moments.from_values(y, arm=arm, limit=500)

    assert winsorize(y, limit=500, lower=1).tolist() == [1.0, 35.0, 500.0, 3.0]
    assert capped.limit == 500.0
    assert capped.mean.tolist() == Moments.from_values(winsorize(y, limit=500), arm=arm).mean.tolist()
    assert capped.total().limit == capped[:1].limit == capped.arms([1]).limit == 500.0
    with pytest.raises(ValueError, match=r"limits 500.0 and None do not add"):
        capped + Moments.from_values(y, arm=arm)


def test_the_cap_is_for_each_recipient_and_not_for_the_company() -> None:
    moments = Moments.from_values([400, 700, 100], arm=[0, 0, 0], cluster=["a", "a", "b"], limit=500)

    assert moments.mean[0, 0, 0] == (400 + 500 + 100) / 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: winsorize([1.0], limit=float("nan")), "limit is nan, must be a finite number, fixed before"),
        (lambda: winsorize([1.0], limit=float("inf")), "limit is inf"),
        (lambda: winsorize([1.0], limit=1, lower=2), "lower is 2, must be a finite number up to limit, 1"),
        (lambda: winsorize([1.0, float("nan")], limit=1), r"values\[1\] is nan"),
    ],
)
def test_impossible_caps_are_refused_in_words(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_cap_must_be_a_number() -> None:
    with pytest.raises(TypeError, match="limit is '500', must be a number"):
        winsorize([1.0], limit="500")  # type: ignore[arg-type]


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Moments.from_values([1.0, np.nan], arm=[0, 1]), r"y\[1\] is nan, must be a number of at most 1e\+100"),
        (lambda: Moments.from_values([1.0, 1e200], arm=[0, 1]), r"y\[1\] is 1e\+200, must be a number of at most"),
        (lambda: Moments.from_values([1.0, np.inf], arm=[0, 1]), r"y\[1\] is inf"),
        (lambda: Moments.from_values([[1.0]], arm=[0]), r"y has shape \(1, 1\), must be \(n,\)"),
        (lambda: Moments.from_values([[1.0], [1.0, 2.0]], arm=[0]), "y has rows of different length"),
        (lambda: Moments.from_values([1.0], arm=[0, 1]), "arm has 2 entries, y has 1: they must agree"),
        (lambda: Moments.from_values([1.0], arm=[-1]), r"arm\[0\] is -1, must be an index from 0"),
        (lambda: Moments.from_values([1.0], arm=[0.5]), r"arm\[0\] is 0.5, must be an index from 0"),
        (lambda: Moments.from_values([1.0], arm=[2], n_arms=2), r"arm\[0\] is 2, must be an index from 0 to 1"),
        (
            lambda: Moments.from_values([1.0], arm=[0], epoch=[3], n_epochs=3),
            r"epoch\[0\] is 3, must be .* from 0 to 2",
        ),
        (lambda: Moments.from_values([1.0], arm=[0], denominator=[-1]), "denominator is -1, must not be negative"),
        (lambda: Moments.from_values([1.0], arm=[0], covariate=[np.nan]), r"covariate\[0\] is nan"),
        (lambda: Moments.from_values([1.0], arm=[0], cluster=["a", "b"]), "cluster has 2 entries, y has 1"),
        (lambda: Moments.from_values([1.0], arm=[0], n_arms=0), "n_arms is 0, must be at least 1"),
        (lambda: Moments.from_values([1.0], arm=[0], weights=[0.5]), "weights of epoch 0 sum to 0.5, must sum to 1"),
        (
            lambda: Moments.from_summary([5, 5], [1, 1], [1, -1]),
            "variance of epoch 0, arm 1 is -1: must not be negative",
        ),
        (lambda: Moments.from_summary([5, 5], [1, 1, 1], [1, 1]), r"mean has shape \(1, 3\), must be \(1, 2\)"),
        (lambda: Moments.from_summary([5, 5], [1, np.nan], [1, 1]), "mean of the value of epoch 0, arm 1 is nan"),
        (
            lambda: Moments.from_summary([5, 5], [1, 1], [1, np.nan]),
            "sum of squares of the value of epoch 0, arm 1 is nan",
        ),
        (lambda: Moments.from_summary([5, -5], [1, 1], [1, 1]), "n of epoch 0, arm 1 is -5: must not be negative"),
        (lambda: Moments.from_summary([5, 5], [1, 1], [1, 1], looks=0), "looks is 0, must be at least 1"),
        (lambda: Moments([5], [[[1]]], [[[[1]]]], variables=["covariate"]), "must be 'value' and then any of"),
        (lambda: Moments([5], [[[1]]], [[[[1]]]], variables=["value", "value"]), "each once"),
        (lambda: Moments([5], [[[1]]], [[[[1]]]], variables=["value", "age"]), "must be 'value' and then any of"),
        (lambda: Moments([5], [[1]], [[[[1]]]]), r"mean has shape \(1, 1\), must be \(1, 1, 1\)"),
        (
            lambda: Moments([5], [[[1, -1]]], [[[[1, 0], [0, 1]]]], variables=["value", "denominator"]),
            "mean of the denominator of epoch 0, arm 0 is -1: must not be negative",
        ),
        (
            lambda: Moments([5], [[[1, 1]]], [[[[1, 2], [2, 1]]]], variables=["value", "covariate"]),
            "sum of products of the covariate and the value of epoch 0, arm 0 is 2: is more than their sums of squares",
        ),
        (
            lambda: Moments([5], [[[1, 1]]], [[[[1, 0.5], [0.1, 1]]]], variables=["value", "covariate"]),
            "must be the same both ways",
        ),
    ],
)
def test_impossible_moments_are_refused_in_words(make: Callable[[], Moments], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Moments.from_values(["a"], arm=[0]), "y holds <U1 values, must hold numbers"),
        (lambda: Moments.from_values([1.0], arm=["a"]), "arm holds"),
        (lambda: Moments.from_values([1.0], arm=[0], n_arms=True), "n_arms is True, must be a whole number"),
        (lambda: Moments.from_values([1.0], arm=[0], looks=2.5), "looks is 2.5"),  # type: ignore[arg-type]
        (lambda: Moments.from_summary([5], ["a"], [1]), "mean must hold numbers"),
    ],
)
def test_things_that_are_no_numbers_are_refused_by_type(make: Callable[[], Moments], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make()


def test_moments_of_other_shapes_variables_or_plans_do_not_add() -> None:
    plain = Moments.from_values([1, 2], arm=[0, 1])

    with pytest.raises(ValueError, match="do not add: same epochs"):
        plain + Moments.from_values([1, 2, 3], arm=[0, 1, 2])
    with pytest.raises(ValueError, match="same variables needed"):
        plain + Moments.from_values([1, 2], arm=[0, 1], covariate=[1, 2])
    with pytest.raises(ValueError, match="planned for 3 and for 4 looks"):
        Moments.from_values([1, 2], arm=[0, 1], looks=3) + Moments.from_values([1, 2], arm=[0, 1], looks=4)
    with pytest.raises(TypeError):
        plain + 1  # type: ignore[operator]


# --- A value like any other -------------------------------------------------------------------------------------------


def test_moments_are_frozen_and_keep_no_hold_of_what_they_were_made_from() -> None:
    mean = np.array([[[1.0], [2.0]]])
    moments = Moments([5, 5], mean, np.ones((1, 2, 1, 1)))
    mean[0, 0, 0] = 7

    assert moments.mean[0, 0, 0] == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        moments.limit = 3.0  # type: ignore[misc]
    for array in (moments.mean, moments.product, moments.n):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_epochs_can_be_cut_and_only_a_beginning_keeps_the_planned_looks() -> None:
    moments = moments_of(table(), looks=5)

    assert len(moments[:2]) == 2
    assert moments[:2].looks == 5
    assert moments[1:].looks is None
    assert moments[-1] == moments[2]
    assert np.array_equal(moments[2].mean[0], moments.mean[2])
    with pytest.raises(IndexError, match="epoch 3 does not exist: there are 3"):
        moments[3]


def test_arms_can_be_picked_and_their_weights_become_shares() -> None:
    weights = [[0.2, 0.3, 0.5]]
    moments = Moments.from_summary([10, 20, 30], [1, 2, 3], [1, 1, 1], weights=weights).arms([2, 1])

    assert moments.n.tolist() == [[30, 20]]
    assert moments.mean[0, :, 0].tolist() == [3.0, 2.0]
    assert moments.weights is not None
    assert moments.weights.tolist() == [pytest.approx([0.625, 0.375])]
    with pytest.raises(ValueError, match="arms are"):
        moments.arms([0, 0])


@given(st.integers(0, 10_000), st.booleans())
@PROPERTY
def test_moments_come_back_from_json_and_from_a_pickle_unchanged(seed: int, clustered: bool) -> None:
    rows = table(seed, 90)
    even = np.full((3, 2), 0.5)
    more: dict[str, Any] = {"weights": even, "looks": 4, "limit": 9.0}
    moments = moments_of(rows, cluster=rows.company, **more) if clustered else moments_of(rows, **more)

    assert Moments.from_dict(json.loads(json.dumps(moments.to_dict()))) == moments
    assert pickle.loads(pickle.dumps(moments)) == moments
    assert hash(pickle.loads(pickle.dumps(moments))) == hash(moments)
    assert moments != moments_of(rows)


def test_no_epochs_at_all_come_back_with_their_shape() -> None:
    nothing = moments_of(table(), weights=np.full((3, 2), 0.5))[:0]
    back = Moments.from_dict(json.loads(json.dumps(nothing.to_dict())))

    assert back == nothing
    assert back.mean.shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"n": [[1]], "mean": [[[1]]]}, "lack the field 'product'"),
        ({"n": [[1]], "mean": [[[1]]], "product": None}, "must be lists"),
        ({"n": [[1]], "mean": [[[1]]], "product": [[[[0]]]], "sum": 1}, "unknown field 'sum'"),
        ({"n": [[1.5]], "mean": [[[1]]], "product": [[[[0]]]]}, "must be a whole number"),
    ],
)
def test_other_dicts_are_refused_in_words(data: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Moments.from_dict(data)


def test_moments_show_themselves_in_a_line() -> None:
    assert repr(Moments.from_summary([[10, 20], [10, 20]], [[1, 2], [3, 2]], [[1, 1], [1, 1]])) == (
        "Moments(2 epochs, 2 arms, n×mean 20×2 40×2, value)"
    )
