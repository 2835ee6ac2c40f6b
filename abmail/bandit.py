"""How the next wave is shared among the arms, from what the earlier waves have shown.

A policy is a frozen value; what it knows is in the counts, so an epoch's weights can be worked out again at any time.
Mails that nobody has opened yet are neither failures nor left out: each counts as the share of a trial whose answer can
have come in by now, which `DelayCurve` estimates (Vernade, Cappé & Perchet 2017; Chapelle 2014).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abmail.stats import Counts, p_best

__all__ = ["DelayCurve", "Fixed", "Policy", "Thompson", "Uniform", "level_weighted", "policy_from_dict", "quantise"]

Floats = NDArray[np.float64]

WEIGHT_UNIT: Final = 1 << 20
"""Weights are multiples of 1 / WEIGHT_UNIT, so that their sum and their thresholds are exact."""

_HOUR: Final = 3_600.0
_DEFAULT_WINDOW: Final = 72 * _HOUR
_MEDIAN: Final = 2.5 * _HOUR  # of the default delay, and its share within a day
_WITHIN_A_DAY: Final = 0.70
_PRIOR_STRENGTH: Final = 200.0  # answers that the default curve is worth
_ITERATIONS: Final = 8


# -- policies --------------------------------------------------------------------------------------------------------


@runtime_checkable
class Policy(Protocol):
    """Turns counts into the weights of the next epoch."""

    @property
    def name(self) -> str:
        """Name in logs and definitions."""
        ...

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Shares of the next epoch.

        Args:
            counts: What is known; ``exposure`` carries the pending mails.
            rng: Seed or generator, for policies that draw.
            active: (n_arms,) False for arms that are stopped: they get 0, their share goes to the rest.

        Returns:
            (n_arms,) float64, multiples of 2^-20 that sum to 1 exactly.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `policy_from_dict` reads."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Thompson:
    """Thompson sampling with a floor: each arm's share is its probability of being the best.

    The probability is computed by quadrature instead of drawn, so the same counts give the same weights. The posterior
    of an arm is Beta(a + k, b + m - k), with k its successes and m its trials: sends weighted by the share of their
    answer that can have come in, with the level of each epoch (hour of day, outages) taken out (`level_weighted`).

    Attributes:
        min_weight: Share that every arm keeps, fraction in [0, 1 / n_arms]; None for 0.4 / n_arms but at most 0.10.
            Without a floor the losing arms starve before they are measured.
        prior: Beta parameters (a, b) of every arm.

    Raises:
        ValueError: The floor or the prior is out of range.

    Example:
        >>> Thompson(min_weight=0.1).weights(Counts([[100, 100]], [[10, 30]])).round(2).tolist()
        [0.1, 0.9]
    """

    name: ClassVar[str] = "thompson"
    min_weight: float | None = 0.05
    prior: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.min_weight is not None and not 0 <= self.min_weight <= 0.5:
            raise ValueError(f"min_weight is {self.min_weight:g}, must be in [0, 0.5]")
        if self.prior is not None and not all(0 < value < math.inf for value in self.prior):
            raise ValueError(f"prior is {self.prior}, must be two positive numbers")

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Shares of the next epoch; an even split where nothing is known. See `Policy.weights`; draws nothing."""
        del rng
        chosen = _active(active, counts.n_arms)
        floor = self._floor(len(chosen))
        shares = np.full(len(chosen), 1 / len(chosen))
        if counts.exposure.sum() > 0:
            a, b = self.prior or (1.0, 1.0)
            known = counts.arms(chosen)
            k = known.successes.sum(axis=0).astype(np.float64)
            m = level_weighted(known, prior=(a, b))
            shares = p_best(a + k, b + np.maximum(m - k, 0.0))
        return _spread(quantise(shares, floor=floor), chosen, counts.n_arms)

    def _floor(self, n_arms: int) -> float:
        floor = min(0.10, 0.4 / n_arms) if self.min_weight is None else self.min_weight
        if floor * n_arms > 1 + 1e-9:
            raise ValueError(f"min_weight is {floor:g} for {n_arms} arms, must be at most {1 / n_arms:g}")
        return min(floor, 1 / n_arms)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "name": self.name,
            "min_weight": self.min_weight,
            "prior": None if self.prior is None else [*self.prior],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """An even split, whatever was seen."""

    name: ClassVar[str] = "uniform"

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Equal shares of the active arms. See `Policy.weights`; draws nothing."""
        del rng
        chosen = _active(active, counts.n_arms)
        return _spread(quantise(np.full(len(chosen), 1 / len(chosen))), chosen, counts.n_arms)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"name": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Shares that were chosen beforehand.

    Attributes:
        shares: (n_arms,) fractions that sum to 1.

    Raises:
        ValueError: They are not.
    """

    name: ClassVar[str] = "fixed"
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in self.shares) or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares are {self.shares}, must be fractions that sum to 1")

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """The shares, in proportion over the active arms. See `Policy.weights`; draws nothing."""
        del rng
        if len(self.shares) != counts.n_arms:
            raise ValueError(f"there are {len(self.shares)} fixed shares for {counts.n_arms} arms")
        chosen = _active(active, counts.n_arms)
        return _spread(quantise(np.array(self.shares)[chosen]), chosen, counts.n_arms)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"name": self.name, "shares": list(self.shares)}


def policy_from_dict(data: Mapping[str, Any]) -> Policy:
    """Read what a policy's ``to_dict`` wrote.

    Raises:
        ValueError: No policy has that name.
    """
    match data.get("name"):
        case "thompson":
            prior = data.get("prior")
            return Thompson(min_weight=data.get("min_weight"), prior=None if prior is None else (prior[0], prior[1]))
        case "uniform":
            return Uniform()
        case "fixed":
            return Fixed(shares=tuple(data["shares"]))
    raise ValueError(f"policy is {data.get('name')!r}, must be thompson, uniform or fixed")


def quantise(shares: ArrayLike, *, floor: float = 0.0) -> Floats:
    """Mix shares with a floor and round them to multiples of 2^-20 that sum to 1 exactly.

    Args:
        shares: (n_arms,) any non-negative numbers with a positive sum.
        floor: Share that every arm keeps, fraction in [0, 1 / n_arms].

    Returns:
        (n_arms,) floor + (1 - n_arms x floor) x share, rounded by the largest remainder and never under the floor
        unless 1 / n_arms is no multiple of 2^-20 itself.

    Raises:
        ValueError: A share is negative or not finite, or all are 0.
    """
    given = np.asarray(shares, dtype=np.float64)
    if not np.isfinite(given).all() or (given < 0).any() or given.sum() <= 0:
        raise ValueError(f"shares are {given.tolist()}, must be non-negative numbers with a positive sum")
    kept = math.ceil(floor * WEIGHT_UNIT - 1e-9)
    if kept * len(given) > WEIGHT_UNIT:
        kept = WEIGHT_UNIT // len(given)
    free = WEIGHT_UNIT - kept * len(given)
    exact = given / given.sum() * free
    units = np.floor(exact)
    missing = free - int(units.sum())
    units[np.argsort(-(exact - units), kind="stable")[:missing]] += 1
    result: Floats = (units + kept) / WEIGHT_UNIT
    return result


def level_weighted(counts: Counts, *, prior: tuple[float, float] = (1.0, 1.0)) -> Floats:
    """Trials of each arm with the level of each epoch taken out.

    An epoch that was sent at a bad hour, or whose answers an outage held back, has fewer successes than its arms' rates
    promise; it then counts as proportionally fewer trials, for all its arms alike. The factor of an epoch is shrunk
    towards 1 by how much epochs differ beyond chance: a gamma-Poisson model, whose variance is estimated by moments.

    Args:
        counts: Counts with exposure.
        prior: Beta parameters of every arm.

    Returns:
        (n_arms,) weighted trials. Their sum, each times its arm's rate, stays what it was without the factors.
    """
    exposure: Floats = counts.exposure
    m: Floats = exposure.sum(axis=0)
    if counts.n_epochs < 2:
        return m
    seen, k = counts.successes.sum(axis=1).astype(np.float64), counts.successes.sum(axis=0)
    for _ in range(_ITERATIONS):
        rate = (prior[0] + k) / (sum(prior) + m)
        expected = exposure @ rate
        total = float(np.sum(expected**2))
        if total <= 0:
            return m
        excess = float(np.sum((seen - expected) ** 2 - expected)) * len(seen) / (len(seen) - 1)
        kappa = 1.0 / max(excess / total, 1e-6)
        factor = (seen + kappa) / (expected + kappa)
        factor *= expected.sum() / float(factor @ expected)
        m = factor @ exposure
    return m


def _active(active: Sequence[bool] | None, n_arms: int) -> list[int]:
    chosen = list(range(n_arms)) if active is None else [i for i, on in enumerate(active) if on]
    if not chosen or (active is not None and len(active) != n_arms):
        raise ValueError(f"active is {active}, must name at least one of {n_arms} arms")
    return chosen


def _spread(weights: Floats, chosen: Sequence[int], n_arms: int) -> Floats:
    spread = np.zeros(n_arms)
    spread[list(chosen)] = weights
    return spread


# -- delay -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class DelayCurve:
    """How much of the answers to a mail has come in at an age: the distribution of the delay, given that one comes.

    Attributes:
        edges: (n_bins,) ends of the bins in seconds, rising; the last is the window.
        values: (n_bins,) share of the answers within each edge, rising to 1.
    """

    edges: Floats
    values: Floats

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
        edges = _edges(window)
        return cls(edges, _default_cdf(edges) / _default_cdf(edges[-1:]))

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
        start = prior or cls.default(window=window)
        if start.edges[-1] != _edges(window)[-1]:
            raise ValueError(f"the prior's window is {start.edges[-1]:g} seconds, the fit's {window:g}")
        delay, age, n = _checked(delays, ages, counts)
        seen = delay <= window
        shown, later = _triangle(start.edges, delay[seen], age[seen], n[seen])
        prior_mass = np.diff(start.values, prepend=0.0)
        hazard = (shown + strength * prior_mass) / np.maximum(later + strength * start.values, 1e-300)
        values = np.ones(len(start.edges))
        values[:-1] = np.cumprod((1.0 - np.clip(hazard[1:], 0.0, 1.0))[::-1])[::-1]
        return cls(start.edges, values)

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `from_dict` reads."""
        return {"format_version": 1, "edges": self.edges.tolist(), "values": self.values.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(np.array(data["edges"], dtype=np.float64), np.array(data["values"], dtype=np.float64))


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


def _default_cdf(seconds: Floats) -> Floats:
    from scipy.special import ndtr, ndtri

    spread = math.log(24 * _HOUR / _MEDIAN) / float(ndtri(_WITHIN_A_DAY))
    cdf: Floats = ndtr(np.log(seconds / _MEDIAN) / spread)
    return cdf


def _checked(delays: ArrayLike, ages: ArrayLike, counts: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    delay, age = np.asarray(delays, dtype=np.float64), np.asarray(ages, dtype=np.float64)
    n = np.ones(len(delay)) if counts is None else np.asarray(counts, dtype=np.float64)
    if delay.ndim != 1 or not delay.shape == age.shape == n.shape:
        raise ValueError(f"delays, ages and counts have shapes {delay.shape}, {age.shape} and {n.shape}, must agree")
    answered = ~np.isnan(delay)
    for name, values in (("delays", delay[answered]), ("ages", age), ("counts", n)):
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"{name} hold a number that is negative or not finite")
    if (age[answered] < delay[answered]).any():
        raise ValueError("an age is below its delay: the answer would come from the future")
    return delay[answered], age[answered], n[answered]


def _triangle(edges: Floats, delay: Floats, age: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Per bin: answers in it, and answers up to it, both among the mails that are old enough to have shown it."""
    bins = len(edges)
    where = np.searchsorted(edges, delay, side="left")
    complete = np.searchsorted(edges, age, side="right")  # bins that a mail of this age has lived through
    table = np.zeros((bins + 1, bins))
    kept = where < complete
    np.add.at(table, (complete[kept], where[kept]), n[kept])
    old_enough = np.arange(bins + 1)[:, None] > np.arange(bins)[None, :]
    shown = (table * old_enough).sum(axis=0)
    up_to = (table.cumsum(axis=1) * old_enough).sum(axis=0)
    return shown, up_to
