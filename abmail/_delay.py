"""How long answers take: the curve of all arms together, and each arm's own where they differ.

A mail that nobody has opened yet is no failure. `DelayCurve` says which share of the answers has come in at an age.
When arms differ in speed (send times, mostly), one curve for all is a trap: the slow arm looks bad while its answers
are on their way. `DelayCurve.fit_by_arm` weighs "the arms are alike" against "each has its own speed" by the evidence
of the delays alone, and hands on draws of what the curves may be instead of a single guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abmail._speeds import reverse_counts, speeds

__all__ = ["ArmCurves", "DelayCurve", "answer_table", "chain_ladder", "checked_answers"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_HOUR: Final = 3_600.0
_DEFAULT_WINDOW: Final = 72 * _HOUR
_MEDIAN: Final = 2.5 * _HOUR  # of the default delay, and its share within a day
_WITHIN_A_DAY: Final = 0.70
_NORMAL_SEVENTIETH: Final = 0.5244005127080407  # the standard normal's 70 % point
_SPREAD: Final = math.log(24 * _HOUR / _MEDIAN) / _NORMAL_SEVENTIETH
_PRIOR_STRENGTH: Final = 200.0  # answers that the prior curve is worth

_FIRST: Final = 0.02  # share from which on a curve's shape is trusted
_TINY: Final = 1e-300
_LEAST_SHARE: Final = 1e-12  # of a curve, where its logarithm is averaged


@dataclass(frozen=True, slots=True, eq=False)
class DelayCurve:
    """How much of the answers to a mail has come in at an age: the distribution of the delay, given that one comes.

    Attributes:
        edges: (n_bins,) ends of the bins in seconds, rising; the last is the window.
        values: (n_bins,) share of the answers within each edge, rising to 1.

    Raises:
        ValueError: The edges do not rise, or the values fall or do not end at 1.
    """

    edges: Floats
    values: Floats

    def __post_init__(self) -> None:
        if self.edges.ndim != 1 or self.edges.shape != self.values.shape or not self.edges.size:
            raise ValueError(f"edges and values have shapes {self.edges.shape} and {self.values.shape}, must agree")
        if not (np.isfinite(self.edges).all() and self.edges[0] > 0 and (np.diff(self.edges) > 0).all()):
            raise ValueError("edges of a delay curve must be positive seconds that rise")
        if not (self.values[0] >= 0 and (np.diff(self.values) >= 0).all() and self.values[-1] == 1.0):
            raise ValueError("values of a delay curve must be shares that never fall and end at 1")

    @classmethod
    def default(cls, *, window: float = _DEFAULT_WINDOW) -> Self:
        """The curve to start from: log-normal, median 2.5 h, 70 % within 24 h, cut off at the window.

        Args:
            window: Seconds in which an answer counts.

        Raises:
            ValueError: The window is not a positive number.
        """
        if not 0 < window < math.inf:
            raise ValueError(f"window is {window:g} seconds, must be a positive number")
        return cls(*_default(window))

    @classmethod
    def fit(
        cls,
        delays: ArrayLike,
        ages: ArrayLike,
        *,
        counts: ArrayLike | None = None,
        window: float = _DEFAULT_WINDOW,
        prior: DelayCurve | None = None,
        strength: float = _PRIOR_STRENGTH,
    ) -> Self:
        """Estimate the curve from mails of any age.

        A young mail shows only short delays, so the share of each bin is taken among the answers of those mails alone
        that are old enough to have shown it: the reverse-hazard (chain-ladder) estimator for right-truncated delays
        (Lynden-Bell 1971; Kalbfleisch & Lawless 1989), with the prior's answers added. Mails without an answer say
        nothing about the delay and are passed over. Delays beyond the window are left out.

        Args:
            delays: (n,) seconds from the send to the first answer, NaN where none has come.
            ages: (n,) seconds since the send; at least the delay.
            counts: (n,) how many mails each entry stands for; 1 by default.
            window: Seconds in which an answer counts.
            prior: Curve to shrink to, with the same window; `default` otherwise.
            strength: Answers that the prior is worth, 0 or more.

        Raises:
            ValueError: Shapes differ, or a number is negative or not finite, or an age is below its delay.
        """
        start = _prior(prior, window)
        delay, age, n, _ = checked_answers(delays, ages, counts, None)
        table = answer_table(start.edges, delay, age, n, np.zeros(len(delay), dtype=np.int64), 1)
        return cls(start.edges, chain_ladder(table[0], start.values, strength))

    @staticmethod
    def fit_by_arm(
        delays: ArrayLike,
        ages: ArrayLike,
        arms: ArrayLike,
        *,
        n_arms: int,
        counts: ArrayLike | None = None,
        window: float = _DEFAULT_WINDOW,
        prior: DelayCurve | None = None,
        strength: float = _PRIOR_STRENGTH,
        alike: float = 0.5,
        draws: int = 16,
    ) -> ArmCurves:
        """Estimate a curve for each arm, shrunk to the pooled one by the evidence that the arms differ.

        Three pictures compete: all arms share the curve of `fit`; each follows the prior's curve (for the default one:
        a log-normal), moved along the clock by its own factor; or they share one, except for some that go their own
        way, such as an arm that is opened in two waves. Each answer counts by its chance given that it came before the
        mail's present age, so that neither the arms' rates nor the hour of sending, which are unknown too, can pass
        for speed. An arm that strays takes the tail that nobody has seen yet from the common curve.

        Args:
            delays: (n,) seconds from the send to the first answer, NaN where none has come.
            ages: (n,) seconds since the send; at least the delay.
            arms: (n,) index of each mail's arm.
            n_arms: Number of arms.
            counts: (n,) how many mails each entry stands for; 1 by default.
            window: Seconds in which an answer counts.
            prior: Curve to shrink to, with the same window; `DelayCurve.default` otherwise.
            strength: Answers that the prior is worth in the pooled curve, 0 or more.
            alike: Chance, before any delay was seen, that the arms share one curve; fraction in [0, 1].
            draws: How many draws of curves stand for the other two pictures, at least 1.

        Raises:
            ValueError: As `fit`; or an arm, ``alike`` or ``draws`` is out of range.
        """
        if not 0 <= alike <= 1 or draws < 1:
            raise ValueError(f"alike is {alike:g} and draws {draws}, must be in [0, 1] and at least 1")
        start = _prior(prior, window)
        delay, age, n, arm = checked_answers(delays, ages, counts, arms)
        if len(arm) and not 0 <= arm.min() <= arm.max() < n_arms:
            raise ValueError(f"arms reach from {arm.min()} to {arm.max()}, must be in 0 to {n_arms - 1}")
        table = answer_table(start.edges, delay, age, n, arm, n_arms)
        pooled = DelayCurve(start.edges, chain_ladder(table.sum(axis=0), start.values, strength))
        if n_arms == 1 or alike == 1:
            return ArmCurves(pooled, np.ones((0, n_arms, len(start.edges))), 1.0)
        clock, spread = _clock(start)
        return ArmCurves(pooled, *speeds(table, clock, spread, alike=alike, draws=draws))

    @property
    def window(self) -> float:
        """Seconds in which an answer counts."""
        return float(self.edges[-1])

    def cdf(self, age_seconds: ArrayLike) -> Floats:
        """Share of the answers that have come in by an age.

        Args:
            age_seconds: Ages of any shape, seconds, 0 or more.

        Returns:
            The same shape, fractions in [0, 1]: 0 at 0, 1 from the window on, never falling.
        """
        ages = np.asarray(age_seconds, dtype=np.float64)
        curve: Floats = np.interp(ages, np.append(0.0, self.edges), np.append(0.0, self.values))
        return curve

    def in_steps(self, seconds: float) -> Self:
        """The same curve, known at the ends of whole steps alone: the prior for delays that are counted in such bins.

        Delays that stand in the middle of their bins leave all finer bins empty. No smooth curve fits that, and arms of
        different speed, which are smooth ones, would be given up for the pooled curve that follows every gap.

        Args:
            seconds: Width of the bins, more than 0.

        Raises:
            ValueError: The width is not a positive number.
        """
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds is {seconds:g}, must be a positive number")
        ends = np.unique(np.minimum(np.ceil(self.edges / seconds) * seconds, self.window))
        return type(self)(ends, np.append(self.cdf(ends[:-1]), 1.0))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `from_dict` reads."""
        return {"format_version": 1, "edges": self.edges.tolist(), "values": self.values.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(np.array(data["edges"], dtype=np.float64), np.array(data["values"], dtype=np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class ArmCurves:
    """What the delays say about the arms' curves: scenario 0 is one curve for all, the others are draws that differ.

    Attributes:
        pooled: The curve if the arms are alike.
        drawn: (n_draws, n_arms, n_bins) share of the answers within each edge of the pooled curve, if they differ.
        alike: Chance that the arms share one curve, fraction in [0, 1].
    """

    pooled: DelayCurve
    drawn: Floats
    alike: float

    @property
    def chances(self) -> Floats:
        """(n_draws + 1,) chance of each scenario; they sum to 1."""
        n_draws = len(self.drawn)
        alike = min(self.alike, 1.0)  # a sum of chances may pass 1 by its last digit
        return np.append(alike, np.full(n_draws, (1 - alike) / max(n_draws, 1)))

    def curve(self, arm: int) -> DelayCurve:
        """The curve of one arm: the geometric mean over the scenarios, in which a share and its inverse weigh alike."""
        return DelayCurve(self.pooled.edges, self._mean()[arm])

    def exposure(self, epoch: ArrayLike, arm: ArrayLike, age: ArrayLike, n: ArrayLike, *, n_epochs: int) -> Floats:
        """Delay-weighted trials by each arm's own curve, for ``Counts(..., exposure=...)`` and any policy.

        What a curve's unseen tail holds is learnt by waiting, not by sending more; so one careful guess of the curve
        loses no more answers than trying every scenario does (docs/bandit.md has the figures), and costs less.

        Args:
            epoch: (n_rows,) index of the epoch.
            arm: (n_rows,) index of the arm.
            age: (n_rows,) seconds since the send.
            n: (n_rows,) number of mails of that epoch, arm and age.
            n_epochs: Number of epochs.

        Returns:
            (n_epochs, n_arms) sums of n F(age).
        """
        sums: Floats = self._sums(self._mean()[None], epoch, arm, age, n, n_epochs)[0]
        return sums

    def exposures(self, epoch: ArrayLike, arm: ArrayLike, age: ArrayLike, n: ArrayLike, *, n_epochs: int) -> Floats:
        """Delay-weighted trials in each scenario, as `abmail.bandit.weights_over` takes them.

        Args:
            epoch: As `exposure`.
            arm: As `exposure`.
            age: As `exposure`.
            n: As `exposure`.
            n_epochs: As `exposure`.

        Returns:
            (n_draws + 1, n_epochs, n_arms) sums of n F(age).
        """
        return self._sums(self._values(), epoch, arm, age, n, n_epochs)

    def _sums(
        self, values: Floats, epoch: ArrayLike, arm: ArrayLike, age: ArrayLike, n: ArrayLike, n_epochs: int
    ) -> Floats:
        n_arms = values.shape[1]
        arms = np.asarray(arm, dtype=np.int64)
        cell = np.asarray(epoch, dtype=np.int64) * n_arms + arms
        edges = np.append(0.0, self.pooled.edges)
        ages = np.clip(np.asarray(age, dtype=np.float64), 0.0, self.pooled.window)
        after = np.clip(np.searchsorted(edges, ages, side="left"), 1, len(edges) - 1)
        part = (ages - edges[after - 1]) / (edges[after] - edges[after - 1])
        curve = np.concatenate([np.zeros((*values.shape[:2], 1)), values], axis=2)
        seen = (curve[:, arms, after - 1] * (1 - part) + curve[:, arms, after] * part) * np.asarray(n, dtype=np.float64)
        sums = [np.bincount(cell, row, n_epochs * n_arms).reshape(n_epochs, n_arms) for row in seen]
        return np.stack(sums)

    def _mean(self) -> Floats:
        """(n_arms, n_bins) geometric mean of the scenarios."""
        logs = np.log(np.maximum(self._values(), _LEAST_SHARE))
        mean = np.exp(np.tensordot(self.chances, logs, axes=1))
        mean[:, -1] = 1.0
        return np.maximum.accumulate(mean.clip(0.0, 1.0), axis=1)

    def _values(self) -> Floats:
        n_arms = self.drawn.shape[1]
        alike = np.broadcast_to(self.pooled.values, (1, n_arms, len(self.pooled.values)))
        return np.concatenate([alike, self.drawn])


# -- bins ------------------------------------------------------------------------------------------------------------


def _edges(window: float) -> Floats:
    """Ends of the bins: minutes at first, hours on the first day, coarser after."""
    ends = np.concatenate(
        [
            np.geomspace(30.0, 0.75 * _HOUR, 15),
            np.arange(1, 24) * _HOUR,
            np.arange(24, 72, 3) * _HOUR,
            np.arange(72, 168, 12) * _HOUR,
            np.arange(168, 24 * 400, 24) * _HOUR,
        ]
    )
    return np.append(ends[ends < window], window)


@lru_cache(maxsize=32)
def _default(window: float) -> tuple[Floats, Floats]:
    """Edges and values of the default curve."""
    edges = _edges(window)
    values: Floats = _default_cdf(edges) / _default_cdf(edges[-1:])
    for array in (edges, values):
        array.setflags(write=False)
    return edges, values


def _default_cdf(seconds: Floats) -> Floats:
    from scipy.special import ndtr

    cdf: Floats = ndtr(np.log(seconds / _MEDIAN) / _SPREAD)
    return cdf


def _prior(prior: DelayCurve | None, window: float) -> DelayCurve:
    start = prior or DelayCurve.default(window=window)
    if start.window != window:
        raise ValueError(f"the prior's window is {start.window:g} seconds, the fit's {window:g}")
    return start


def checked_answers(
    delays: ArrayLike, ages: ArrayLike, counts: ArrayLike | None, arms: ArrayLike | None
) -> tuple[Floats, Floats, Floats, Integers]:
    """The answers among the mails: delay, age, number, arm."""
    delay, age = np.asarray(delays, dtype=np.float64), np.asarray(ages, dtype=np.float64)
    n = np.ones(delay.shape) if counts is None else np.asarray(counts, dtype=np.float64)
    arm = np.zeros(delay.shape, dtype=np.int64) if arms is None else np.asarray(arms, dtype=np.int64)
    if delay.ndim != 1 or not delay.shape == age.shape == n.shape == arm.shape:
        shapes = f"{delay.shape}, {age.shape}, {n.shape} and {arm.shape}"
        raise ValueError(f"delays, ages, counts and arms have shapes {shapes}, must agree")
    answered = ~np.isnan(delay)
    for name, values in (("delays", delay[answered]), ("ages", age), ("counts", n)):
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"{name} hold a number that is negative or not finite")
    if (age[answered] < delay[answered]).any():
        raise ValueError("an age is below its delay: the answer would come from the future")
    return delay[answered], age[answered], n[answered], arm[answered]


def answer_table(edges: Floats, delay: Floats, age: Floats, n: Floats, arm: Integers, n_arms: int) -> Floats:
    """(n_arms, n_bins + 1, n_bins) answers by bins that the mail has lived through and bin of the delay.

    An answer in the bin that its mail is just living through is left out: the bin has not shown all of its answers.
    """
    bins = len(edges)
    where = np.searchsorted(edges, delay, side="left")
    complete = np.searchsorted(edges, age, side="right")
    kept = where < complete
    cell = (arm[kept] * (bins + 1) + complete[kept]) * bins + where[kept]
    table: Floats = np.bincount(cell, n[kept], n_arms * (bins + 1) * bins).astype(np.float64)
    return table.reshape(n_arms, bins + 1, bins)


def chain_ladder(table: Floats, prior: Floats, strength: float) -> Floats:
    """The chain ladder's values: downwards from 1 at the window, each bin takes its share of all answers up to it."""
    bins = len(prior)
    seen, so_far = reverse_counts(table)
    shown, up_to = seen + strength * np.diff(prior, prepend=0.0), so_far + strength * prior
    hazard = np.clip(shown / np.maximum(up_to, _TINY), 0.0, 1.0)
    values = np.ones(bins)
    values[:-1] = np.cumprod((1.0 - hazard[1:])[::-1])[::-1]
    return values


def _clock(prior: DelayCurve) -> tuple[Floats, float]:
    """A clock on which the prior's delays are normal around 0, near to log time, and their spread on it.

    For the default curve it is log time itself; for an account's own curve it runs slowly at hours when nobody reads.
    """
    from scipy.special import ndtri

    within = float(_default_cdf(prior.edges[-1:])[0])
    score: Floats = ndtri(np.maximum(within * prior.values, _FIRST / 2))
    first = int(np.argmax(prior.values >= _FIRST))
    if first == len(score) - 1:
        return _SPREAD * score, _SPREAD
    spread = float(np.log(prior.edges[-1] / prior.edges[first]) / (score[-1] - score[first]))
    return spread * score, spread
