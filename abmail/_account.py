"""What the account's past experiments say before a new one has an answer: a rate, a delay curve, and their worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abmail._delay import DelayCurve, answer_table, chain_ladder, checked_answers
from abmail._wording import Language

__all__ = ["AccountCurve", "AccountPrior", "curve_from_history", "prior_from_history"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_FEWEST: Final = 3  # experiments from which on a spread between them can be told
_WORTHS: Final = np.geomspace(1.0, 1e6, 61)  # grid of a + b
_REACHES: Final = (
    2.5,
    0.15,
)  # of the grids of means, in log odds: around the pooled rate, around the best of the first
_DROP: Final = 1.353  # of the profile log likelihood at the end of a one-sided 95 % interval
_STRENGTHS: Final = (25.0, 3_000.0)  # least and most answers that a past curve is worth
_QUANTILES: Final = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the curve, where the experiments are compared
_ENOUGH: Final = 50.0  # answers of an experiment that can be compared
_DEFAULT_STRENGTH: Final = 200.0
_MOST_ANSWERS: Final = 5_000.0  # of one experiment: a huge one is not the whole account


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPrior:
    """Where a new experiment's rates are expected.

    Attributes:
        a: First Beta parameter of every arm.
        b: Second Beta parameter of every arm.
        experiments: Past experiments that it was learnt from.
        arms: Their arms with mails.
    """

    a: float
    b: float
    experiments: int
    arms: int

    @property
    def beta(self) -> tuple[float, float]:
        """The parameters as ``Thompson(prior=...)`` takes them."""
        return self.a, self.b

    @property
    def learnt(self) -> bool:
        """Whether the past had a say; otherwise the prior is flat."""
        return self.experiments >= _FEWEST

    @property
    def rate(self) -> float:
        """The expected rate, fraction."""
        return self.a / (self.a + self.b)

    @property
    def worth(self) -> float:
        """Mails of each arm that the prior weighs as much as."""
        return self.a + self.b

    def statement(self, language: Language = "en") -> str:
        """The prior in words, for the report."""
        if not self.learnt:
            few = self.experiments
            if language == "ja":
                return f"過去の実験が{few}件と少ないため、事前の見込みは使っていません。"
            past = "No past experiment" if not few else f"Only {few} past experiment{'s' if few > 1 else ''}"
            return f"{past} to learn from: every rate was as likely as any other at the start."
        if language == "ja":
            return (
                f"出発点は過去{self.experiments}件の実験({self.arms}パターン)から見込んだ{self.rate:.1%}で、"
                f"各パターンのメール{self.worth:.0f}通分の重みです。"
            )
        return (
            f"The starting point was a rate of {self.rate:.1%}, learnt from {self.experiments} past experiments "
            f"({self.arms} variants); it weighs as much as {self.worth:.0f} mails of each variant."
        )


def prior_from_history(
    successes: ArrayLike, trials: ArrayLike, experiments: Sequence[object], *, most: float = 4.0
) -> AccountPrior:
    """Learn a prior from the arms of past experiments, by empirical Bayes.

    Past rates are taken for draws from one Beta distribution, whose parameters make the past counts likeliest
    (beta-binomial marginal likelihood; Skellam 1948). The arms of an experiment share its list and its day, so each
    experiment counts as one observation, however many arms it had. What the prior is worth, a + b, is the lower end of
    its one-sided 95 % interval (profile likelihood): few experiments, or rates far apart, make it worth little. It is
    never worth more than ``most`` answers: a prior that knows the account's usual rate well still makes the arms look
    alike, and the bandit slow (docs/bandit.md). That are 20 mails at a rate of 0.2, and 400 at one of 0.01.

    Args:
        successes: (n_arms,) successes of each past arm, ``0 <= successes <= trials``.
        trials: (n_arms,) its mails whose window has closed; arms without any are passed over.
        experiments: (n_arms,) what tells the experiments apart, such as their names.
        most: Most answers that the prior may be worth: the largest a, above 0.

    Returns:
        The prior; Beta(1, 1) where fewer than three past experiments are known.

    Raises:
        ValueError: Shapes differ, a count is impossible, or ``most`` is out of range.

    Example:
        >>> prior = prior_from_history([40, 44, 21, 30, 55], [200] * 5, ["may", "may", "june", "june", "july"])
        >>> round(prior.rate, 2), round(prior.worth, 1)
        (0.2, 7.9)
    """
    k, n, group = _past(successes, trials, experiments)
    if not 0 < most < np.inf:
        raise ValueError(f"most is {most:g} answers, must be a positive number")
    names, size = np.unique(group, return_counts=True)
    if len(names) < _FEWEST:
        return AccountPrior(a=1.0, b=1.0, experiments=len(names), arms=len(k))
    weight = 1.0 / size[group]
    pooled = (weight @ (k / n) + 0.5 / len(names)) / (len(names) + 1 / len(names))
    centre = np.log(pooled) - np.log1p(-pooled)
    for reach in _REACHES:
        means = centre + np.linspace(-reach, reach, 51)
        fit = _log_marginal(k, n, weight, 1 / (1 + np.exp(-means)))
        centre = means[int(np.argmax(fit.max(axis=0)))]
    profile = fit.max(axis=1)
    enough = profile >= profile.max() - _DROP
    rate = float(1 / (1 + np.exp(-centre)))
    worth = min(float(_WORTHS[int(np.argmax(enough))]), most / rate)
    return AccountPrior(a=worth * rate, b=worth * (1 - rate), experiments=len(names), arms=len(k))


def _past(successes: ArrayLike, trials: ArrayLike, experiments: Sequence[object]) -> tuple[Floats, Floats, Integers]:
    """Arms that have mails: successes, trials, and number of the experiment from 0."""
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if k.ndim != 1 or k.shape != n.shape or len(experiments) != len(k):
        raise ValueError(f"successes, trials and experiments have {k.shape}, {n.shape} and {len(experiments)} entries")
    wrong = ~(np.isfinite(n) & (k >= 0) & (k <= n))
    if wrong.any():
        arm = int(np.argmax(wrong))
        raise ValueError(f"past arm {arm} has {k[arm]:g} successes in {n[arm]:g} trials: impossible")
    number = {name: i for i, name in enumerate(dict.fromkeys(e for e, m in zip(experiments, n, strict=True) if m > 0))}
    used = n > 0
    group = [number[e] for e, m in zip(experiments, n, strict=True) if m > 0]
    return k[used], n[used], np.array(group, dtype=np.int64)


def _log_marginal(k: Floats, n: Floats, weight: Floats, means: Floats) -> Floats:
    """(n_worths, n_means) weighted beta-binomial log likelihood."""
    from scipy.special import betaln

    fit = np.zeros((len(_WORTHS), len(means)))
    a, b = _WORTHS[:, None] * means, _WORTHS[:, None] * (1 - means)
    alone = betaln(a, b)
    for hits, mails, share in zip(k, n, weight, strict=True):
        fit += share * (betaln(a + hits, b + mails - hits) - alone)
    return fit


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCurve:
    """How long answers took in past experiments, and how far a new one can rely on it.

    Attributes:
        curve: The delay curve, as ``DelayCurve.fit(prior=...)`` takes it.
        strength: Answers that it is worth in a new experiment, as ``DelayCurve.fit(strength=...)`` takes it.
        experiments: Past experiments with answers.
        answers: Their answers.
    """

    curve: DelayCurve
    strength: float
    experiments: int
    answers: int


def curve_from_history(
    delays: ArrayLike,
    ages: ArrayLike,
    experiments: Sequence[object],
    *,
    counts: ArrayLike | None = None,
    window: float,
) -> AccountCurve:
    """Pool the delay histograms of past experiments of one metric.

    The curve is that of `DelayCurve.fit` over all past answers; an experiment of more than 5,000 answers counts as one
    of 5,000. Its worth follows from the spread between the experiments: where every mailing had the same pace,
    thousands of answers; where each had its own, few. With fewer than three experiments it is the usual 200.

    Args:
        delays: (n,) seconds from the send to the first answer, NaN where none has come.
        ages: (n,) seconds since the send; at least the delay. Old enough experiments may give their window.
        experiments: (n,) what tells the experiments apart.
        counts: (n,) how many mails each entry stands for; 1 by default.
        window: Seconds in which an answer counts.

    Raises:
        ValueError: As `DelayCurve.fit`; or the experiments are not as many as the delays.
    """
    names = list(dict.fromkeys(experiments))
    number = {name: i for i, name in enumerate(names)}
    start = DelayCurve.default(window=window)
    delay, age, n, group = checked_answers(delays, ages, counts, [number[name] for name in experiments])
    tables = answer_table(start.edges, delay, age, n, group, len(names))
    answers = tables.sum(axis=(1, 2))
    tables = tables[answers > 0] / np.maximum(answers[answers > 0] / _MOST_ANSWERS, 1.0)[:, None, None]
    curve = DelayCurve(start.edges, chain_ladder(tables.sum(axis=0), start.values, _DEFAULT_STRENGTH))
    strength = _strength(tables, start) if len(tables) >= _FEWEST else _DEFAULT_STRENGTH
    return AccountCurve(curve=curve, strength=strength, experiments=len(tables), answers=int(answers.sum()))


def _strength(tables: Floats, curve: DelayCurve) -> float:
    """Answers after which an experiment's own curve is as near to its truth as the account's: by the spread between.

    A curve from c answers has the variance F (1 - F) / c. The spread between past experiments, less what their own
    numbers explain, is set equal to it; with few experiments the spread may be larger than it looks, and its upper 95 %
    end is taken.
    """
    from scipy.special import chdtri

    answers = tables.sum(axis=(1, 2))
    tables, answers = tables[answers >= _ENOUGH], answers[answers >= _ENOUGH]
    if len(tables) < _FEWEST:
        return _DEFAULT_STRENGTH
    at = np.unique(np.searchsorted(curve.values, _QUANTILES).clip(max=len(curve.values) - 1))
    shares = np.array([chain_ladder(table, curve.values, 1.0)[at] for table in tables])
    noise = (shares * (1 - shares) / answers[:, None]).mean()
    free = len(tables) - 1
    spread = shares.var(axis=0, ddof=1).mean() * free / float(chdtri(free, 0.95))
    ideal = (curve.values[at] * (1 - curve.values[at])).mean()
    return float(np.clip(ideal / max(spread - noise, 1e-12), *_STRENGTHS))
