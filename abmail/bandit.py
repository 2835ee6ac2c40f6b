"""How the next wave is shared among the arms, from what the earlier waves have shown.

A policy is a frozen value; what it knows is in the counts, so an epoch's weights can be worked out again at any time.
Mails that nobody has opened yet are neither failures nor left out: each counts as the share of a trial whose answer can
have come in by now, which `DelayCurve` estimates (Vernade, Cappé & Perchet 2017; Chapelle 2014). Where the arms may
differ in speed, `DelayCurve.fit_by_arm` gives several pictures of that share, and `weights_over` averages over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abmail._delay import ArmCurves, DelayCurve
from abmail.stats import Counts, p_best

__all__ = [
    "ArmCurves",
    "DelayCurve",
    "Fixed",
    "Policy",
    "Thompson",
    "Uniform",
    "level_weighted",
    "policy_from_dict",
    "quantise",
    "weights_over",
]

Floats = NDArray[np.float64]

WEIGHT_UNIT: Final = 1 << 20
"""Weights are multiples of 1 / WEIGHT_UNIT, so that their sum and their thresholds are exact."""

_ITERATIONS: Final = 8
_LEVEL_SD: Final = 0.25  # an hour of day or a slow provider moves an epoch's rate by about a quarter
_NEGLIGIBLE: Final = 1e-7  # a scenario that could not move any weight by its last digit


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
        prior: Beta parameters (a, b) of every arm; (1, 1) for None.
        level_sd: How much the epochs' levels are expected to vary, relative standard deviation, 0 or more; with 0 all
            differences between epochs are taken for chance.

    Raises:
        ValueError: The floor, the prior or the levels' variation is out of range.

    Example:
        >>> Thompson(min_weight=0.1).weights(Counts([[100, 100]], [[10, 30]])).round(2).tolist()
        [0.1, 0.9]
    """

    name: ClassVar[str] = "thompson"
    min_weight: float | None = 0.05
    prior: tuple[float, float] | None = None
    level_sd: float = _LEVEL_SD

    def __post_init__(self) -> None:
        if self.min_weight is not None and not 0 <= self.min_weight <= 0.5:
            raise ValueError(f"min_weight is {self.min_weight:g}, must be in [0, 0.5]")
        if self.prior is not None and not all(0 < value < math.inf for value in self.prior):
            raise ValueError(f"prior is {self.prior}, must be two positive numbers")
        if not 0 <= self.level_sd < math.inf:
            raise ValueError(f"level_sd is {self.level_sd:g}, must be 0 or a positive number")

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Shares of the next epoch; an even split where nothing is known. See `Policy.weights`; draws nothing."""
        del rng
        chosen = _active(active, counts.n_arms)
        floor = self._floor(len(chosen))
        shares = np.full(len(chosen), 1 / len(chosen))
        if counts.exposure.sum() > 0:
            a, b = self.posterior(counts.arms(chosen))
            order = np.lexsort((b, a))  # the same sums in the same order, whatever the order of the arms
            shares[order] = p_best(a[order], b[order])
        return _spread(quantise(shares, floor=floor), chosen, counts.n_arms)

    def posterior(self, counts: Counts) -> tuple[Floats, Floats]:
        """Beta parameters of each arm's rate, two (n_arms,) arrays."""
        a, b = self.prior or (1.0, 1.0)
        k = counts.successes.sum(axis=0).astype(np.float64)
        m = level_weighted(counts, prior=(a, b), sd=self.level_sd)
        return a + k, b + np.maximum(m - k, 0.0)

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
            "level_sd": self.level_sd,
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
            return Thompson(
                min_weight=data.get("min_weight"),
                prior=None if prior is None else (prior[0], prior[1]),
                level_sd=data.get("level_sd", _LEVEL_SD),
            )
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
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ValueError(f"shares are {given.tolist()}, must be non-negative numbers with a positive sum")
    kept = math.ceil(floor * WEIGHT_UNIT - 1e-9)
    if kept * len(given) > WEIGHT_UNIT:
        kept = WEIGHT_UNIT // len(given)
    free = WEIGHT_UNIT - kept * len(given)
    relative = given / given.max()
    exact = relative / relative.sum() * free
    units = np.floor(exact)
    missing = free - int(units.sum())
    units[np.argsort(-(exact - units), kind="stable")[:missing]] += 1
    result: Floats = (units + kept) / WEIGHT_UNIT
    return result


def level_weighted(counts: Counts, *, prior: tuple[float, float] = (1.0, 1.0), sd: float = _LEVEL_SD) -> Floats:
    """Trials of each arm with the level of each epoch taken out.

    An epoch that was sent at a bad hour, or whose answers an outage held back, has fewer successes than its arms' rates
    promise; it then counts as proportionally fewer trials, for all its arms alike. The factor of an epoch is its
    posterior mean in a gamma-Poisson model, a random effect around 1. Its variance is fixed beforehand: estimated from
    the same counts it would let a further success of an arm lower that arm's weight.

    Args:
        counts: Counts with exposure.
        prior: Beta parameters of every arm.
        sd: Standard deviation of the factors; 0 switches them off.

    Returns:
        (n_arms,) weighted trials. Their sum, each times its arm's rate, stays what it was without the factors.
    """
    exposure: Floats = counts.exposure
    m: Floats = exposure.sum(axis=0)
    if counts.n_epochs < 2 or sd == 0 or not m.any():
        return m
    seen, k = counts.successes.sum(axis=1), counts.successes.sum(axis=0)
    for _ in range(_ITERATIONS):
        expected = exposure @ ((prior[0] + k) / (sum(prior) + m))
        factor = (seen + sd**-2) / (expected + sd**-2)
        factor *= expected.sum() / float(factor @ expected)
        m = factor @ exposure
    return m


def weights_over(
    policy: Policy,
    counts: Counts,
    exposures: Floats,
    chances: Floats,
    *,
    rng: int | np.random.Generator | None = None,
    active: Sequence[bool] | None = None,
) -> Floats:
    """Shares of the next epoch where it is uncertain which part of the answers can have come in.

    The policy's shares are averaged over the scenarios. For Thompson sampling that is the chance to be best with the
    uncertain delays integrated out: an arm that may just be slow keeps being tried.

    Args:
        policy: Any policy.
        counts: What is known; its own exposure is not used.
        exposures: (n_scenarios, n_epochs, n_arms) delay-weighted trials (`ArmCurves.exposures`), clipped to the sends.
        chances: (n_scenarios,) chance of each scenario, non-negative with a positive sum (`ArmCurves.chances`).
        rng: As `Policy.weights`.
        active: As `Policy.weights`.

    Returns:
        (n_arms,) float64, multiples of 2^-20 that sum to 1 exactly.

    Raises:
        ValueError: The shapes do not agree, or the chances are no chances.
    """
    if exposures.shape != (len(chances), *counts.n.shape):
        wanted = (len(chances), *counts.n.shape)
        raise ValueError(f"exposures have shape {exposures.shape}, must be {wanted}: scenarios, epochs, arms")
    if not np.isfinite(chances).all() or (chances < 0).any() or chances.sum() <= 0:
        raise ValueError(f"chances are {chances.tolist()}, must be non-negative numbers with a positive sum")
    mixed = np.zeros(counts.n_arms)
    for chance, exposure in zip(chances / chances.sum(), exposures, strict=True):
        if chance > _NEGLIGIBLE:
            scenario = Counts(
                counts.n, counts.successes, np.clip(exposure, 0.0, counts.n), counts.weights, counts.looks
            )
            mixed += chance * policy.weights(scenario, rng=rng, active=active)
    return quantise(mixed)


def _active(active: Sequence[bool] | None, n_arms: int) -> list[int]:
    chosen = list(range(n_arms)) if active is None else [i for i, on in enumerate(active) if on]
    if not chosen or (active is not None and len(active) != n_arms):
        raise ValueError(f"active is {active}, must name at least one of {n_arms} arms")
    return chosen


def _spread(weights: Floats, chosen: Sequence[int], n_arms: int) -> Floats:
    spread = np.zeros(n_arms)
    spread[list(chosen)] = weights
    return spread
