"""Peers and what each of them answers to summed counts of a control and other arms.

Peers are optional: ``make peers`` installs them. A peer that is missing is named, never left out in silence.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PEERS = ("statsmodels", "gbstats", "tea-tasting")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer says of an arm against the control; NaN where it has no such figure."""

    effect: float
    ci_lower: float
    ci_upper: float
    p_value: float
    lift_lower: float = float("nan")
    lift_upper: float = float("nan")


Table = Sequence[tuple[int, int]]
"""Successes and sends of each arm, the control first."""


def version(peer: str) -> str | None:
    """Installed version of a peer, None where it is missing."""
    try:
        return importlib.metadata.version(peer)
    except importlib.metadata.PackageNotFoundError:
        return None


def statsmodels_score(table: Table) -> list[Answer]:
    """Pooled z test; Miettinen and Nurminen's score intervals for the difference and the ratio.

    Its search ends in a ValueError where its tested rate is NaN; the interval of the difference is NaN there.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

    (k_a, n_a), *others = table
    answers = []
    for k_b, n_b in others:
        _, p_value = proportions_ztest([k_b, k_a], [n_b, n_a])
        with np.errstate(invalid="ignore"):
            try:
                low, high = confint_proportions_2indep(k_b, n_b, k_a, n_a, method="score", compare="diff")
            except ValueError:
                low = high = float("nan")
        near, far = confint_proportions_2indep(k_b, n_b, k_a, n_a, method="score", compare="ratio")
        answers.append(Answer(k_b / n_b - k_a / n_a, low, high, float(p_value), near - 1, far - 1))
    return answers


def statsmodels_difference(table: Table) -> list[Answer]:
    """Pooled z test; an interval for the difference in closed form (Newcombe's), statsmodels' default."""
    from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

    (k_a, n_a), *others = table
    answers = []
    for k_b, n_b in others:
        _, p_value = proportions_ztest([k_b, k_a], [n_b, n_a])
        low, high = confint_proportions_2indep(k_b, n_b, k_a, n_a)
        answers.append(Answer(k_b / n_b - k_a / n_a, low, high, float(p_value)))
    return answers


def _gbstats(table: Table, kind: str) -> list[Answer]:
    from gbstats.bayesian.tests import EffectBayesianABTest, EffectBayesianConfig
    from gbstats.frequentist.tests import (
        FrequentistConfig,
        SequentialConfig,
        SequentialTwoSidedTTest,
        TwoSidedTTest,
    )
    from gbstats.models.statistics import ProportionStatistic, SampleMeanStatistic

    stat = SampleMeanStatistic if kind == "welch" else ProportionStatistic

    def of(k: int, n: int) -> object:
        return stat(n=n, sum=k, sum_squares=k) if kind == "welch" else stat(n=n, sum=k)

    (k_a, n_a), *others = table
    answers = []
    for k_b, n_b in others:
        pair = (of(k_a, n_a), of(k_b, n_b))
        if kind == "bayes":
            result = EffectBayesianABTest(*pair, EffectBayesianConfig(difference_type="absolute")).compute_result()
            p_value = float("nan")
        else:
            chosen, config = {
                "welch": (TwoSidedTTest, FrequentistConfig),
                "sequential": (SequentialTwoSidedTTest, SequentialConfig),
            }[kind]
            result = chosen(*pair, config(difference_type="absolute")).compute_result()
            p_value = float(result.p_value)
        answers.append(Answer(float(result.expected), float(result.ci[0]), float(result.ci[1]), p_value))
    return answers


def gbstats_welch(table: Table) -> list[Answer]:
    """Welch's t test of means."""
    return _gbstats(table, "welch")


def gbstats_sequential(table: Table) -> list[Answer]:
    """Asymptotic confidence sequence tuned to 5,000 sends."""
    return _gbstats(table, "sequential")


def gbstats_bayes(table: Table) -> list[Answer]:
    """Normal posterior of the difference under a flat prior; no p-value."""
    return _gbstats(table, "bayes")


def tea_tasting_proportion(table: Table) -> list[Answer]:
    """Pooled z test, Wald intervals, from aggregates."""
    import tea_tasting

    return _tea_tasting(table, tea_tasting.Proportion("opened", method="norm", correction=False))


def tea_tasting_mean(table: Table) -> list[Answer]:
    """Welch's t test of means, from aggregates."""
    import tea_tasting

    return _tea_tasting(table, tea_tasting.Mean("opened"))


def _tea_tasting(table: Table, metric: object) -> list[Answer]:
    import tea_tasting

    aggregates = {
        arm: tea_tasting.aggr.Aggregates(
            count_=n, mean_={"opened": k / n}, var_={"opened": (k - k * k / n) / (n - 1)}, cov_={}
        )
        for arm, (k, n) in enumerate(table)
    }
    experiment = tea_tasting.Experiment({"opened": metric})
    answers = []
    for arm in range(1, len(table)):
        result = experiment.analyze({0: aggregates[0], arm: aggregates[arm]}, control=0)["opened"]
        answers.append(
            Answer(
                result.effect_size, result.effect_size_ci_lower, result.effect_size_ci_upper, result.pvalue,
                result.rel_effect_size_ci_lower, result.rel_effect_size_ci_upper,
            )
        )  # fmt: skip
    return answers


JOBS: dict[str, tuple[str, Callable[[Table], list[Answer]]]] = {
    "score test, score intervals of difference and ratio": ("statsmodels", statsmodels_score),
    "score test, Newcombe's interval": ("statsmodels", statsmodels_difference),
    "Welch": ("gbstats", gbstats_welch),
    "sequential": ("gbstats", gbstats_sequential),
    "Bayes": ("gbstats", gbstats_bayes),
    "Proportion": ("tea-tasting", tea_tasting_proportion),
    "Mean": ("tea-tasting", tea_tasting_mean),
}
"""By what is computed: the peer and its function."""
