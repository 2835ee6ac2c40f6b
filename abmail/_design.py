"""What a planned test would find: in closed form where there is one, else by simulating the whole experiment.

One arm is better than the others, which are alike. A look counts as `compare` counts it: at the level of its pairs,
with the boundary of its method, and not before a pair has successes and failures enough for a claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from abmail._aipw import LOWEST_WEIGHT, average_effect
from abmail._boundary import MOST_SHAPE, Boundary, check_alpha, obrien_fleming
from abmail._drift import drift_crossing
from abmail._exact import exact
from abmail._fixed import ScoreTest
from abmail._sequential import FEWEST_SUCCESSES, Pair, combine, mix
from abmail._trials import Allocation, Even, FixedShares, ThompsonShares, run_trials, split_trials

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from abmail._drift import Crossing
    from abmail._trials import Trials

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Bools = NDArray[np.bool_]

__all__ = ["MOST_MAILS", "Design", "PlanMethod", "Power", "Strata", "Waves", "design_effect"]

PlanMethod = Literal["sequential", "fixed", "anytime", "exact", "aipw"]
Claim = Literal["best", "control"]
Waves: TypeAlias = int | Sequence[float] | Callable[[int], Sequence[float]]
Strata: TypeAlias = Sequence[tuple[float, float]]

MOST_MAILS = 1_000_000_000
_BATCH = 1_000_000  # replications x arms x epochs that are worked on at a time
_AFFORDABLE = 200_000  # replications x arms x epochs of one step of a search, quadrature counted twelvefold
_FEWEST_REPLICATIONS, _SEARCH_REPLICATIONS = 60, 1_000
_EXTRA_WORK = {"exact": 100, "aipw": 2}  # for each stratum, measured against `sequential`
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What a test of a given size would find.

    Attributes:
        power: Chance that the better arm is proved better, fraction in [0, 1].
        se: Monte-Carlo standard error of it; 0 for a closed form.
        how: ``closed form`` or ``simulation``.
        share_used: Expected share of the mails that are sent when a winner is named; 1 where none is.
        lost: Expected successes lost against sending everybody the best arm, if the test runs to its end.
        lost_if_shipped: The same if everybody left gets the winner as soon as one is named.
        baseline: Rate of the other arms, fraction.
        effect: What the better arm's rate exceeds that by; negative where the control is the better one.
        n: Mails to all arms.
    """

    power: float
    se: float
    how: Literal["closed form", "simulation"]
    share_used: float
    lost: float
    lost_if_shipped: float
    baseline: float
    effect: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Design:
    """A test without its size and its effect; see `abmail._power.power` for the arguments.

    Raises:
        ValueError: An argument is out of range.
    """

    baseline: float
    n_arms: int = 2
    alpha: float = 0.05
    method: PlanMethod = "sequential"
    claim: Claim = "best"
    allocation: Literal["even"] | Allocation = "even"
    epochs: Waves = 10
    delay: ArrayLike | None = None
    fewest: int | None = None
    strata: Strata | None = None
    shape: float = 0.0
    design_effect: float = 1.0
    replications: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def level(self) -> float:
        """Two-sided level of each pair."""
        share = 2 / self.n_arms if self.claim == "best" else 1 / (self.n_arms - 1)
        return self.alpha * share

    @cached_property
    def shares(self) -> Floats | None:
        """Shares of the arms where they never move, else None."""
        if isinstance(self.allocation, FixedShares):
            return np.array(self.allocation.shares) / sum(self.allocation.shares)
        return np.full(self.n_arms, 1 / self.n_arms) if isinstance(self.allocation, Even | str) else None

    @cached_property
    def needed(self) -> int:
        """Successes, and failures, that a pair needs for a claim."""
        if self.fewest is not None:
            return self.fewest
        return FEWEST_SUCCESSES if self.method in ("sequential", "anytime") else 0

    @cached_property
    def parts(self) -> tuple[Floats, Floats]:
        """Share of the mails and rate of each stratum, (n_strata,) each; one of the baseline's rate without strata."""
        if self.strata is None:
            return np.ones(1), np.array([self.baseline])
        given = np.asarray(self.strata, dtype=np.float64)
        shares = given[:, 0] / given[:, 0].sum()
        return shares, self.baseline * given[:, 1] / float(shares @ given[:, 1])

    @cached_property
    def affordable(self) -> int:
        """Replications with which a simulation takes about half a second."""
        learning = self.shares is None
        work = 1 + learning * (1 if self.n_arms == 2 else 12) + _EXTRA_WORK.get(self.method, 0) * len(self.parts[0])
        cells = self.n_arms * len(self.waves(MOST_MAILS)[0]) * work
        return int(np.clip(_AFFORDABLE // cells, _FEWEST_REPLICATIONS, _SEARCH_REPLICATIONS))

    def waves(self, n: int) -> tuple[Integers, tuple[float, ...]]:
        """Mails of each epoch, and the clock: the share of the plan that is spent after each."""
        if self.method == "fixed":
            return np.array([n]), (1.0,)
        if callable(self.epochs):
            sizes = np.asarray(self.epochs(n), dtype=np.int64)
            if sizes.ndim != 1 or (sizes < 0).any() or sizes.sum() != n:
                raise ValueError(f"epochs gives waves of {sizes.tolist()} for {n} mails: they must sum to that")
            return _clocked(sizes)
        relative = np.asarray([1] * int(self.epochs) if isinstance(self.epochs, int | np.integer) else self.epochs)
        clock = relative.cumsum() / relative.sum()
        sizes = np.diff(np.rint(clock * n), prepend=0.0).astype(np.int64)
        if (sizes == 0).any():
            return _clocked(sizes)
        return sizes, (*clock[:-1].tolist(), 1.0)

    def power(self, effect: float, n: int) -> Power:
        """What the test finds with that effect and that many mails.

        Raises:
            ValueError: The effect or the number is out of range.
        """
        check_effect(effect, self.baseline, self.n_arms)
        _check_stratum_rates(effect, self.parts[1])
        check_mails(n)
        n = int(n)
        sizes, clock = self.waves(n)
        if self.design_effect > 1:
            return self._clustered(effect, n, sizes)
        shares = np.full(self.n_arms, 1 / self.n_arms) if self._never_learns(sizes) else self.shares
        one_pair = self.n_arms == 2 or self.claim == "control"
        if shares is not None and one_pair and self.method in ("fixed", "sequential"):
            return self._closed(effect, n, clock, shares)
        return self._simulated(effect, n, sizes, clock)

    def _clustered(self, effect: float, n: int, sizes: Integers) -> Power:
        """As if so many fewer mails had gone to recipients who answer by themselves (Kish 1965)."""
        alone = replace(self, design_effect=1.0, epochs=1 if self.method == "fixed" else sizes.tolist())
        found = alone.power(effect, max(1, round(n / self.design_effect)))
        more = n / found.n
        return replace(found, n=n, lost=found.lost * more, lost_if_shipped=found.lost_if_shipped * more)

    def _never_learns(self, sizes: Integers) -> bool:
        return isinstance(self.allocation, ThompsonShares) and len(sizes) == 1

    def _rates(self, effect: float) -> tuple[Floats, int]:
        """True rates, and the index of the best arm; the control is arm 0."""
        rates = np.full(self.n_arms, self.baseline)
        rates[1] += effect
        return np.clip(rates, 0.0, 1.0), 1 if effect > 0 else 0

    # -- closed form ------------------------------------------------------------------------------------------------

    def _closed(self, effect: float, n: int, clock: tuple[float, ...], shares: Floats) -> Power:
        """Shares that never move: the pair's score is a Brownian motion with drift."""
        rates, best = self._rates(effect)
        gap = rates[best] - rates
        crossing = self._crossing(abs(effect), n, clock, rates[:2], shares[:2])
        used = 1 - float((crossing.upper + crossing.lower) @ (1 - crossing.clock))
        lost, most = n * float(shares @ gap), n * float(gap.max())
        after_wrong = float(crossing.lower @ (1 - crossing.clock)) * most
        return Power(
            power=min(float(crossing.upper.sum()), 1.0),
            se=0.0,
            how="closed form",
            share_used=used,
            lost=lost,
            lost_if_shipped=lost * used + after_wrong,
            baseline=self.baseline,
            effect=effect,
            n=n,
        )

    def _crossing(self, effect: float, n: float, clock: tuple[float, ...], rates: Floats, shares: Floats) -> Crossing:
        """The pair's score: mean sqrt(h) d / sigma, variance that of d by that under the hypothesis, at time 1.

        Each stratum brings its share of the clock, in units of its own sigma.
        """
        c = obrien_fleming(clock, self.level, shape=self.shape) * np.asarray(clock) ** self.shape
        both: float = shares.sum()
        parts, of_part = self._parts_seen(rates)
        pooled = of_part @ shares / both
        null = pooled * (1 - pooled)
        if not null.all() or not shares.all():
            return drift_crossing(c, clock, 0.0, ready=np.zeros(len(clock)))
        drift = math.sqrt(n * shares.prod() / both) * effect * float(parts @ null**-0.5)
        variance = float(parts @ ((of_part * (1 - of_part)) @ shares[::-1] / null)) / both
        ready = self._ready(n, clock, float(shares @ rates), both)
        return drift_crossing(c, clock, drift, variance=variance, ready=ready)

    def _parts_seen(self, rates: Floats) -> tuple[Floats, Floats]:
        """Shares of the strata that the method compares within, and the arms' rates in each, (n_strata, n_arms)."""
        if self.method == "fixed":
            return np.ones(1), rates[None, :]
        shares, levels = self.parts
        return shares, np.clip(levels[:, None] + (rates - self.baseline), 0.0, 1.0)

    def _ready(self, n: float, clock: tuple[float, ...], hit: float, both: float) -> Floats:
        """Chance that the pair has successes and failures enough by each look; so few of each exclude one another."""
        sends = n * np.asarray(clock)
        enough = _at_least(self.needed, sends, hit) + _at_least(self.needed, sends, both - hit) - 1
        return np.clip(enough, 0.0, 1.0)

    # -- simulation -------------------------------------------------------------------------------------------------

    def _simulated(self, effect: float, n: int, sizes: Integers, clock: tuple[float, ...]) -> Power:
        most = max(1, _BATCH // (self.n_arms * len(sizes) * (1 + _EXTRA_WORK.get(self.method, 0)) * len(self.parts[0])))
        starts = range(0, self.replications, most)
        parts = [
            self._batch(effect, sizes, clock, min(most, self.replications - start), [self.seed, i])
            for i, start in enumerate(starts)
        ]
        found, used, lost, shipped = np.concatenate(parts, axis=1)
        power = float(found.mean())
        return Power(
            power=power,
            se=math.sqrt(power * (1 - power) / self.replications),
            how="simulation",
            share_used=float(used.mean()),
            lost=float(lost.mean()),
            lost_if_shipped=float(shipped.mean()),
            baseline=self.baseline,
            effect=effect,
            n=n,
        )

    def _batch(
        self, effect: float, sizes: Integers, clock: tuple[float, ...], replications: int, seed: list[int]
    ) -> Floats:
        """Whether the best arm was named, share used, lost and lost if shipped; (4, replications)."""
        rates, best = self._rates(effect)
        trials = run_trials(
            rates,
            sizes=sizes,
            allocation=Even() if isinstance(self.allocation, str) else self.allocation,
            replications=replications,
            rng=np.random.default_rng(seed),
            delay=self.delay,
        )
        n = np.moveaxis(trials.n, 1, 2).astype(np.float64)
        found, wrong, look = self._outcome(self._as_compared(trials, rates, seed), clock, best)
        gap = rates[best] - rates
        path = np.einsum("rat,a->rt", n, gap).cumsum(axis=1)
        left = 1 - np.asarray(clock)[look]
        at_end, ended = path[:, -1], found | wrong
        wasted = np.where(wrong, left * sizes.sum() * gap.max(), 0.0)
        shipped = np.where(ended, np.take_along_axis(path, look[:, None], 1)[:, 0] + wasted, at_end)
        return np.stack((found.astype(np.float64), np.where(ended, 1 - left, 1.0), at_end, shipped))

    def _as_compared(self, trials: Trials, rates: Floats, seed: list[int]) -> Trials:
        """The trials with the rows that the method compares within: an epoch's strata after one another."""
        shares, of_part = self._parts_seen(rates)
        return trials if len(shares) == 1 else split_trials(trials, shares, of_part, np.random.default_rng([*seed, 1]))

    def _outcome(self, trials: Trials, clock: tuple[float, ...], best: int) -> tuple[Bools, Bools, Integers]:
        """Whether the best arm was named or (where there is but one pair) the other one, and after which epoch."""
        rivals = [0] if self.claim == "control" and best else [i for i in range(self.n_arms) if i != best]
        sign = self._signs(trials, best, rivals, clock)
        first = (sign != 0).argmax(axis=-1)
        verdict = np.take_along_axis(sign, first[..., None], -1)[..., 0]
        found, wrong = verdict.min(axis=-1) > 0, (verdict.min(axis=-1) < 0) & (len(rivals) == 1)
        return found, wrong, np.where(found | wrong, first.max(axis=-1) * len(clock) // sign.shape[-1], 0)

    def _signs(self, trials: Trials, best: int, rivals: list[int], clock: tuple[float, ...]) -> Floats:
        """At each row, +1 where the best arm stands beyond the boundary, -1 where the other does; (..., n_rows)."""
        n, k, weights = (_by_arm(part) for part in (trials.n, trials.successes, trials.weights))
        pair, mails = _pair(n, k, best, rivals), float(n[0].sum())
        horizon = 2 * mails / self.n_arms
        match self.method:
            case "fixed":
                z = ScoreTest(pair).z
                outside = np.abs(z) >= obrien_fleming(1, self.level)
            case "anytime":
                mixture = mix(pair, self.alpha, horizon)
                z, outside = mixture.score.sum, mixture.path() <= self.level
            case "exact":
                process = exact(pair, self.alpha, horizon)
                z, outside = process.excess, process.log_e >= -math.log(self.level)
            case "aipw":
                sends, mine = (np.broadcast_to(part, pair.n_a.shape) for part in (_all_arms(n), weights[:, [best]]))
                average = average_effect(pair, sends, weights[:, rivals], mine, self.alpha, mails)
                z, outside = average.sum_b - average.sum_a, average.path() <= self.level
            case _:
                walk = combine(pair, _spent(n, clock), Boundary(clock, self.shape))
                z, outside = walk.z, walk.distance() >= obrien_fleming(clock, self.level, shape=self.shape)
        successes = pair.k.cumsum(axis=-1)
        rarer = np.minimum(successes, pair.n.cumsum(axis=-1) - successes)
        signs: Floats = np.where(outside & (rarer >= self.needed), np.sign(z), 0.0)
        return signs


def design_effect(sizes: ArrayLike, icc: float) -> float:
    """How many times as many mails a test needs where recipients come in clusters that answer alike.

    1 + (m - 1) icc, with m the size of the cluster that a recipient is in on average, sum of squares over sum: for a
    mean or a rate over all recipients whose clusters differ in size (Kish 1965; Eldridge, Ashby & Kerry 2006,
    International Journal of Epidemiology 35:1292).

    Args:
        sizes: Recipients of each cluster (company), (n_clusters,) positive numbers.
        icc: Intra-cluster correlation of the answers, fraction in [0, 1].

    Returns:
        The factor, at least 1 for clusters of one recipient or more.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> round(design_effect([1, 1, 2, 6], 0.05), 6)
        1.16
    """
    members = np.asarray(sizes, dtype=np.float64)
    if members.ndim != 1 or not members.size or not (np.isfinite(members) & (members >= 1)).all():
        raise ValueError("sizes must be numbers of recipients, one or more for each cluster")
    if not 0 <= icc <= 1:
        raise ValueError(f"icc is {icc:g}, must be in [0, 1]")
    return 1 + (float(members @ members / members.sum()) - 1) * icc


def check_effect(effect: float, baseline: float, n_arms: int) -> None:
    """Raise ValueError where no arm can differ so much."""
    if not math.isfinite(effect) or effect == 0:
        raise ValueError(f"effect is {effect:g}, must be a difference of rates other than 0")
    if not 0 <= baseline + effect <= 1:
        raise ValueError(f"baseline {baseline:g} and effect {effect:g} give a rate of {baseline + effect:g}: no rate")
    if effect < 0 and n_arms > 2:
        raise ValueError(f"effect is {effect:g}, must be positive where one of {n_arms} arms is the best")


def check_mails(n: int) -> None:
    """Raise ValueError where that is no number of mails."""
    if not 1 <= n <= MOST_MAILS or n % 1:
        raise ValueError(f"n is {n}, must be a whole number from 1 to {MOST_MAILS:,}")


def _check(design: Design) -> None:
    check_alpha(design.alpha)
    if not 0 < design.baseline < 1:
        raise ValueError(f"baseline is {design.baseline:g}, must be in (0, 1)")
    if not 2 <= design.n_arms <= 1_000:
        raise ValueError(f"n_arms is {design.n_arms}, must be from 2 to 1,000")
    if design.method not in ("sequential", "fixed", "anytime", "exact", "aipw"):
        raise ValueError(f"method is '{design.method}', must be sequential, fixed, anytime, exact or aipw")
    if design.claim not in ("best", "control"):
        raise ValueError(f"claim is '{design.claim}', must be best or control")
    if design.replications < 1:
        raise ValueError(f"replications is {design.replications}, must be at least 1")
    if design.fewest is not None and design.fewest < 0:
        raise ValueError(f"fewest is {design.fewest}, must be at least 0")
    if not 0 <= design.shape <= MOST_SHAPE:
        raise ValueError(f"shape is {design.shape:g}, must be in [0, {MOST_SHAPE}]")
    if design.shape and design.method != "sequential":
        raise ValueError(f"shape is {design.shape:g}, but method '{design.method}' has no boundary to shape")
    if not 1 <= design.design_effect < math.inf:
        raise ValueError(f"design_effect is {design.design_effect:g}, must be at least 1")
    _check_allocation(design)
    _check_epochs(design.epochs)
    _check_strata(design.strata)


def _check_allocation(design: Design) -> None:
    allocation = design.allocation
    if isinstance(allocation, str) and allocation != "even":
        raise ValueError(f"allocation is '{allocation}', must be even, or shares such as ThompsonShares()")
    if design.method == "fixed" and not isinstance(allocation, Even | FixedShares | str):
        raise ValueError("method is 'fixed', but the shares may move: use 'sequential' or 'anytime'")
    if design.method == "aipw" and _least_share(design) < LOWEST_WEIGHT - _ROUNDING:
        raise ValueError(
            f"method is 'aipw', but an arm's share may fall to {_least_share(design):.3g}: it needs {LOWEST_WEIGHT:g} "
            "in every epoch"
        )
    if isinstance(allocation, FixedShares) and len(allocation.shares) != design.n_arms:
        raise ValueError(f"allocation has {len(allocation.shares)} shares for {design.n_arms} arms")
    if isinstance(allocation, ThompsonShares) and allocation.min_weight * design.n_arms > 1 + 1e-6:
        raise ValueError(
            f"min_weight is {allocation.min_weight:g} for {design.n_arms} arms, must be at most {1 / design.n_arms:g}"
        )


def _least_share(design: Design) -> float:
    """What every arm gets at least, as far as the allocation says so."""
    allocation = design.allocation
    if isinstance(allocation, ThompsonShares):
        return allocation.min_weight
    return 1.0 if design.shares is None else float(design.shares.min())


def _check_strata(strata: Strata | None) -> None:
    if strata is None:
        return
    given = np.asarray(strata, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != 2 or not len(given):
        raise ValueError("strata hold no pairs: give (share of the mails, rate) for each")
    if not (np.isfinite(given) & (given > 0)).all():
        raise ValueError("strata hold a share or a rate that is not a positive number")


def _check_stratum_rates(effect: float, rates: Floats) -> None:
    for rate in (rates.min(), rates.max()):
        if not (0 < rate < 1 and -_ROUNDING <= rate + effect <= 1 + _ROUNDING):
            raise ValueError(f"a stratum has the rate {rate:.3g}, with the effect {rate + effect:.3g}: no rate")


def _check_epochs(epochs: Waves) -> None:
    if callable(epochs):
        return
    if isinstance(epochs, int | np.integer):
        if not 1 <= epochs <= 1_000:
            raise ValueError(f"epochs is {epochs}, must be from 1 to 1,000")
        return
    sizes = np.asarray(epochs, dtype=np.float64)
    if sizes.ndim != 1 or not sizes.size or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError("epochs hold a size that is not a positive number: every planned wave needs one")


def _clocked(sizes: Integers) -> tuple[Integers, tuple[float, ...]]:
    sent = sizes[sizes > 0]
    clock = sent.cumsum() / sent.sum()
    return sent, (*clock[:-1].tolist(), 1.0)


def _at_least(k: int, sends: Floats, rate: float) -> Floats:
    """P(Binomial(sends, rate) >= k), for sends that need not be whole."""
    from scipy.special import betainc

    if not k:
        return np.ones(len(sends))
    chance: Floats = betainc(float(k), np.maximum(sends - k + 1, 1e-9), rate)
    return np.where(sends >= k, chance, 0.0)


def _pair(n: Floats, k: Floats, best: int, rivals: list[int]) -> Pair:
    """The best arm (b) against its rivals, (replications, n_rivals, n_epochs)."""
    shape = n[:, rivals].shape
    mine = (np.broadcast_to(counts[:, [best]], shape) for counts in (n, k))
    n_b, k_b = mine
    return Pair(n_a=n[:, rivals], k_a=k[:, rivals], n_b=n_b, k_b=k_b)


def _by_arm(counts: Floats | Integers) -> Floats:
    """(replications, n_rows, n_arms) as (replications, n_arms, n_rows)."""
    return np.moveaxis(counts, 1, 2).astype(np.float64)


def _all_arms(n: Floats) -> Floats:
    total: Floats = n.sum(axis=1, keepdims=True)
    return total


def _spent(n: Floats, clock: tuple[float, ...]) -> Floats:
    """Share of the plan that each row spends: its epoch's, in proportion to the row's sends; (..., n_rows)."""
    epochs = np.diff(np.array((0.0, *clock)))
    if n.shape[-1] == len(epochs):
        return epochs
    sends = _all_arms(n).reshape(len(n), 1, len(epochs), -1)
    rows: Floats = sends / np.maximum(sends.sum(axis=-1, keepdims=True), 1.0) * epochs[:, None]
    return rows.reshape(len(n), 1, n.shape[-1])
