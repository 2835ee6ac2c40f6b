"""What a planned test would find: in closed form where there is one, else by simulating the whole experiment.

One arm is better than the others, which are alike. A look counts as `compare` counts it: at the level of its pairs,
with the boundary of its method, and not before a pair has successes and failures enough for a claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from abmail._aipw import average_effect
from abmail._boundary import Boundary, check_alpha, obrien_fleming
from abmail._drift import drift_crossing
from abmail._exact import exact
from abmail._fixed import ScoreTest
from abmail._sequential import FEWEST_SUCCESSES, Pair, combine, mix
from abmail._trials import Allocation, Even, FixedShares, ThompsonShares, run_trials

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from abmail._drift import Crossing

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Bools = NDArray[np.bool_]

__all__ = ["MOST_MAILS", "Design", "Method", "Power", "Waves"]

Method = Literal["sequential", "fixed", "anytime", "exact", "aipw"]
_METHODS: tuple[Method, ...] = ("sequential", "fixed", "anytime", "exact", "aipw")
_OPEN: tuple[Method, ...] = ("anytime", "exact", "aipw")  # no planned end: simulated
Claim = Literal["best", "control"]
Waves: TypeAlias = int | Sequence[float] | Callable[[int], Sequence[float]]

MOST_MAILS = 1_000_000_000
_BATCH = 1_000_000  # replications x arms x epochs that are worked on at a time
_AFFORDABLE = 200_000  # replications x arms x epochs of one step of a search, quadrature counted twelvefold
_FEWEST_REPLICATIONS, _SEARCH_REPLICATIONS = 60, 1_000


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
    method: Method = "sequential"
    claim: Claim = "best"
    allocation: Literal["even"] | Allocation = "even"
    epochs: Waves = 10
    delay: ArrayLike | None = None
    fewest: int | None = None
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
    def affordable(self) -> int:
        """Replications with which a simulation takes about half a second."""
        learning = self.shares is None
        cells = self.n_arms * len(self.waves(MOST_MAILS)[0]) * (1 + learning * (1 if self.n_arms == 2 else 12))
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
        check_mails(n)
        n = int(n)
        sizes, clock = self.waves(n)
        shares = np.full(self.n_arms, 1 / self.n_arms) if self._never_learns(sizes) else self.shares
        if shares is not None and self.method not in _OPEN and (self.n_arms == 2 or self.claim == "control"):
            return self._closed(effect, n, clock, shares)
        return self._simulated(effect, n, sizes, clock)

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
        """The pair's score: mean sqrt(h) d / sigma, variance that of d by that under the hypothesis, at time 1."""
        c = obrien_fleming(clock, self.level)
        both: float = shares.sum()
        pooled = float(shares @ rates) / both
        null = pooled * (1 - pooled)
        if not null or not shares.all():
            return drift_crossing(c, clock, 0.0, ready=np.zeros(len(clock)))
        drift = math.sqrt(n * shares.prod() / both / null) * effect
        variance = float(shares[::-1] @ (rates * (1 - rates))) / both / null
        return drift_crossing(c, clock, drift, variance=variance, ready=self._ready(n, clock, both * pooled, both))

    def _ready(self, n: float, clock: tuple[float, ...], hit: float, both: float) -> Floats:
        """Chance that the pair has successes and failures enough by each look; so few of each exclude one another."""
        sends = n * np.asarray(clock)
        enough = _at_least(self.needed, sends, hit) + _at_least(self.needed, sends, both - hit) - 1
        return np.clip(enough, 0.0, 1.0)

    # -- simulation -------------------------------------------------------------------------------------------------

    def _simulated(self, effect: float, n: int, sizes: Integers, clock: tuple[float, ...]) -> Power:
        most = max(1, _BATCH // (self.n_arms * len(sizes)))
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
        parts = (trials.n, trials.successes, trials.weights)
        n, k, weights = (np.moveaxis(part, 1, 2).astype(np.float64) for part in parts)
        found, wrong, look = self._outcome(n, k, weights, clock, best)
        gap = rates[best] - rates
        path = np.einsum("rat,a->rt", n, gap).cumsum(axis=1)
        left = 1 - np.asarray(clock)[look]
        at_end, ended = path[:, -1], found | wrong
        wasted = np.where(wrong, left * sizes.sum() * gap.max(), 0.0)
        shipped = np.where(ended, np.take_along_axis(path, look[:, None], 1)[:, 0] + wasted, at_end)
        return np.stack((found.astype(np.float64), np.where(ended, 1 - left, 1.0), at_end, shipped))

    def _outcome(
        self, n: Floats, k: Floats, weights: Floats, clock: tuple[float, ...], best: int
    ) -> tuple[Bools, Bools, Integers]:
        """Whether the best arm was named or (where there is but one pair) the other one, and at which look."""
        rivals = [0] if self.claim == "control" and best else [i for i in range(self.n_arms) if i != best]
        pair = _pair(n, k, best, rivals)
        if self.method == "aipw":
            sign = self._average_signs(pair, n, weights, best, rivals)
        else:
            sign = self._signs(pair, clock, float(n[0].sum()))
        first = (sign != 0).argmax(axis=-1)
        verdict = np.take_along_axis(sign, first[..., None], -1)[..., 0]
        found, wrong = verdict.min(axis=-1) > 0, (verdict.min(axis=-1) < 0) & (len(rivals) == 1)
        return found, wrong, np.where(found | wrong, first.max(axis=-1), 0)

    def _signs(self, pair: Pair, clock: tuple[float, ...], mails: float) -> Floats:
        """At each look, +1 where the best arm stands beyond the boundary, -1 where the other does; (..., n_looks)."""
        if self.method == "fixed":
            z = ScoreTest(pair).z
            outside = np.abs(z) >= obrien_fleming(1, self.level)
        elif self.method == "anytime":
            mixture = mix(pair, self.alpha, 2 * mails / self.n_arms)
            z, outside = mixture.score.sum, mixture.path() <= self.level
        elif self.method == "exact":
            sign = exact(pair, self.alpha, 2 * mails / self.n_arms, self.baseline).proved(self.level)
            return self._claimed(pair, sign, sign != 0)
        else:
            walk = combine(pair, np.diff(np.array((0.0, *clock))), Boundary(clock))
            z, outside = walk.z, walk.distance() >= obrien_fleming(clock, self.level)
        return self._claimed(pair, z, outside)

    def _average_signs(self, pair: Pair, n: Floats, weights: Floats, best: int, rivals: list[int]) -> Floats:
        """`_signs` of the average effect over all mail sent, from the weights that each epoch was opened with."""
        shape = pair.n_a.shape
        sends = np.broadcast_to(n.sum(axis=1, keepdims=True), shape)
        mine = np.broadcast_to(weights[:, [best]], shape)
        sign = average_effect(pair, sends, weights[:, rivals], mine, self.alpha, float(n[0].sum())).proved(self.level)
        return self._claimed(pair, sign, sign != 0)

    def _claimed(self, pair: Pair, z: NDArray[np.float64] | NDArray[np.int8], outside: Bools) -> Floats:
        """The sign of what is proved, where the pair has successes and failures enough."""
        successes = pair.k.cumsum(axis=-1)
        rarer = np.minimum(successes, pair.n.cumsum(axis=-1) - successes)
        signs: Floats = np.where(outside & (rarer >= self.needed), np.sign(z), 0.0)
        return signs


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
    if design.method not in _METHODS:
        raise ValueError(f"method is '{design.method}', must be {', '.join(_METHODS[:-1])} or {_METHODS[-1]}")
    if design.claim not in ("best", "control"):
        raise ValueError(f"claim is '{design.claim}', must be best or control")
    if design.replications < 1:
        raise ValueError(f"replications is {design.replications}, must be at least 1")
    if design.fewest is not None and design.fewest < 0:
        raise ValueError(f"fewest is {design.fewest}, must be at least 0")
    _check_allocation(design)
    _check_epochs(design.epochs)


def _check_allocation(design: Design) -> None:
    allocation = design.allocation
    if isinstance(allocation, str):
        if allocation != "even":
            raise ValueError(f"allocation is '{allocation}', must be even, or shares such as ThompsonShares()")
        return
    if design.method == "fixed" and not isinstance(allocation, Even | FixedShares):
        raise ValueError("method is 'fixed', but the shares may move: use 'sequential' or 'anytime'")
    if isinstance(allocation, FixedShares) and len(allocation.shares) != design.n_arms:
        raise ValueError(f"allocation has {len(allocation.shares)} shares for {design.n_arms} arms")
    if isinstance(allocation, ThompsonShares) and allocation.min_weight * design.n_arms > 1 + 1e-6:
        raise ValueError(
            f"min_weight is {allocation.min_weight:g} for {design.n_arms} arms, must be at most {1 / design.n_arms:g}"
        )


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
