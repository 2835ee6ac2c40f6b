"""The policies: frozen values that turn counts into the weights of the next epoch."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Protocol, Self, get_args, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abmail._weights import LEVEL_SD, chosen_arms, level_weighted, quantise, spread
from abmail.stats import Counts, p_best

__all__ = [
    "SIMPLE_POLICIES",
    "ChanceToBeBest",
    "EpsilonGreedy",
    "ExplorationSampling",
    "Fixed",
    "Policy",
    "Sharpened",
    "TestThenSend",
    "Thompson",
    "TopTwo",
    "Uniform",
    "read_policy",
]

Floats = NDArray[np.float64]

_TINY: Final = 1e-300  # smaller chances cannot be told apart
_A_MAIL: Final = 1.0  # rounding of waves: a test is out when less than this is missing


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
            rng: Seed or generator, for policies that draw. None of those here does: the same counts, the same weights.
            active: (n_arms,) False for arms that are stopped: they get 0, their share goes to the rest.

        Returns:
            (n_arms,) float64, multiples of 2^-20 that sum to 1 exactly.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `policy_from_dict` reads."""
        ...


class _Written:
    """A policy as JSON: its name and its fields."""

    __slots__ = ()
    name: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `policy_from_dict` reads."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]  # all are
        return {"name": self.name} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; fields that are missing keep their defaults.

        Raises:
            ValueError: A field is unknown, or its value is out of range.
        """
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # all are dataclasses
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items() if key != "name"}
        for key in given:
            if key not in known:
                raise ValueError(f"policy {cls.name} has no field {key!r}{_nearest(key, known)}")
        try:
            return cls(**given)
        except TypeError as error:  # a field is missing, or is no number
            raise ValueError(f"policy {cls.name} cannot be read from {given}: {error}") from error


# -- policies that learn ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learner(_Written):
    """What is known of the arms' rates: independent Beta posteriors over delay-weighted, level-weighted trials."""

    prior: tuple[float, float] | None = None
    level_sd: float = LEVEL_SD

    def __post_init__(self) -> None:
        if self.prior is not None and [0 < value < math.inf for value in self.prior] != [True, True]:
            raise ValueError(f"prior is {self.prior}, must be two positive numbers")
        if not 0 <= self.level_sd < math.inf:
            raise ValueError(f"level_sd is {self.level_sd:g}, must be 0 or a positive number")

    def posterior(self, counts: Counts, *, exposures: Floats | None = None) -> tuple[Floats, Floats]:
        """Beta parameters of each arm's rate, two (n_arms,) arrays.

        Args:
            counts: What is known.
            exposures: (..., n_rows, n_arms) other exposures, which give two (..., n_arms) arrays.
        """
        a, b = self.prior or (1.0, 1.0)
        k = counts.successes.sum(axis=0).astype(np.float64)
        m = level_weighted(counts, prior=(a, b), sd=self.level_sd, exposures=exposures)
        return np.broadcast_to(a + k, m.shape), b + np.maximum(m - k, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChanceToBeBest(_Learner, ABC):
    """What policies have in common that share the mails by each arm's chance to be the best.

    The chance can also come from elsewhere: `weights_over` averages it over what the delays may be, and structured
    models (segments, factors) work it out from their own posterior and hand it to `weights_from`.
    """

    min_weight: float | None = 0.05

    def __post_init__(self) -> None:
        _Learner.__post_init__(self)
        if self.min_weight is not None and not 0 <= self.min_weight <= 0.5:
            raise ValueError(f"min_weight is {self.min_weight:g}, must be in [0, 0.5]")

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Shares of the next epoch; an even split where nothing is known. See `Policy.weights`; draws nothing."""
        del rng
        return self.weights_from(self.chances(counts, active=active), counts, active=active)

    def chances(
        self, counts: Counts, *, active: Sequence[bool] | None = None, exposures: Floats | None = None
    ) -> Floats:
        """Each arm's chance to be the best of the active ones; equal where nothing is known.

        Args:
            counts: What is known.
            active: As `Policy.weights`.
            exposures: (..., n_rows, n_arms) the exposure in several pictures of the delays, in place of the counts'.

        Returns:
            (n_arms,), or (..., n_arms) for those pictures.
        """
        chosen = chosen_arms(active, counts.n_arms)
        trials = (counts.exposure if exposures is None else exposures)[..., chosen]
        a, b = self.posterior(counts.arms(chosen), exposures=trials)
        order = np.lexsort((b, a), axis=-1)  # the same sums in the same order, whatever the order of the arms
        best = p_best(np.take_along_axis(a, order, axis=-1), np.take_along_axis(b, order, axis=-1))
        known = trials.sum(axis=(-2, -1), keepdims=True)[..., 0] > 0
        everywhere = np.zeros((*best.shape[:-1], counts.n_arms))
        np.put_along_axis(everywhere, np.array(chosen)[order], np.where(known, best, 1 / len(chosen)), axis=-1)
        return everywhere

    def weights_from(self, chances: ArrayLike, counts: Counts, *, active: Sequence[bool] | None = None) -> Floats:
        """Shares of the next epoch from chances to be the best that were worked out elsewhere.

        Args:
            chances: (n_arms,) non-negative numbers with a positive sum; those of stopped arms are passed over.
            counts: What was sent so far, for policies that change with it; the successes are not used.
            active: As `Policy.weights`.

        Returns:
            As `Policy.weights`: the floor, and the rest by this policy's rule.

        Raises:
            ValueError: The chances are no chances, or the floor is too high for so many arms.
        """
        chosen = chosen_arms(active, counts.n_arms)
        given = np.asarray(chances, dtype=np.float64)
        if given.shape != (counts.n_arms,) or not np.isfinite(given).all() or (given < 0).any():
            raise ValueError(f"chances are {given.tolist()}, must be {counts.n_arms} non-negative numbers")
        best = given[chosen]
        if not best.any():
            raise ValueError(f"chances are {given.tolist()}: no active arm has any")
        best = best / best.max()
        order = np.argsort(best, kind="stable")
        shares = np.empty(len(chosen))
        shares[order] = quantise(self._shares(best[order] / best[order].sum(), counts), floor=self._floor(len(chosen)))
        return spread(shares, chosen, counts.n_arms)

    @abstractmethod
    def _shares(self, chances: Floats, counts: Counts) -> Floats:
        """Shares of the active arms before the floor, in proportion."""

    def _floor(self, n_arms: int) -> float:
        floor = min(0.10, 0.4 / n_arms) if self.min_weight is None else self.min_weight
        if floor * n_arms > 1 + 1e-9:
            raise ValueError(f"min_weight is {floor:g} for {n_arms} arms, must be at most {1 / n_arms:g}")
        return min(floor, 1 / n_arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thompson(ChanceToBeBest):
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

    def _shares(self, chances: Floats, counts: Counts) -> Floats:
        del counts
        return chances


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharpened(ChanceToBeBest):
    """Thompson sampling that leans on the leader as the list runs out: the goal ``earn``.

    Shares are in proportion to P(best)^g, and g rises in a straight line from 1 to ``power`` with the share of the
    planned mails that were sent. Late in a finite list there is little left for which learning would pay.

    Attributes:
        planned: Mails on the whole list, 1 or more. None reads the planned number of epochs from ``counts.looks``
            instead; where that is unknown too, nothing tells how near the end is, and g stays at 1.
        power: What g ends at, 1 or more. 4 earned most in simulations, 10 is too bold.
        min_weight: As `Thompson`; low by default, since the floor costs what this policy is to earn.
        prior: As `Thompson`.
        level_sd: As `Thompson`.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> late = Counts([450, 450], [90, 100])
        >>> Thompson(min_weight=0.0).weights(late).round(2).tolist()
        [0.21, 0.79]
        >>> Sharpened(planned=1_000, min_weight=0.0).weights(late).round(2).tolist()
        [0.01, 0.99]
    """

    name: ClassVar[str] = "sharpened"
    planned: int | None = None
    power: float = 4.0
    min_weight: float | None = 0.01

    def __post_init__(self) -> None:
        ChanceToBeBest.__post_init__(self)
        _require_planned(self.planned)
        if not 1 <= self.power < math.inf:
            raise ValueError(f"power is {self.power:g}, must be at least 1")

    def exponent(self, counts: Counts) -> float:
        """The power g to which the chances are raised in the next epoch, from 1 to ``power``."""
        return 1 + (self.power - 1) * (_share_sent(counts, self.planned) or 0.0)

    def _shares(self, chances: Floats, counts: Counts) -> Floats:
        sharper: Floats = (chances / chances.max()) ** self.exponent(counts)
        return sharper


@dataclass(frozen=True, slots=True, kw_only=True)
class TopTwo(ChanceToBeBest):
    """Top-two Thompson sampling (Russo 2020, Operations Research 68:1625): half to the leader, half to its rivals.

    A first arm is drawn by its chance to be the best; it is taken with probability ``beta``, otherwise the draw is
    repeated until another arm comes up. The shares are those probabilities in closed form. It tells the best arm from
    the second best sooner than Thompson sampling and earns much less meanwhile: for a test that ends in one choice.

    Attributes:
        beta: Share of the first arm drawn, fraction in (0, 1].
        min_weight: As `Thompson`.
        prior: As `Thompson`.
        level_sd: As `Thompson`.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> TopTwo().weights(Counts([500, 500, 500], [10, 60, 100])).round(3).tolist()
        [0.05, 0.475, 0.475]
    """

    name: ClassVar[str] = "top_two"
    beta: float = 0.5

    def __post_init__(self) -> None:
        ChanceToBeBest.__post_init__(self)
        if not 0 < self.beta <= 1:
            raise ValueError(f"beta is {self.beta:g}, must be in (0, 1]")

    def _shares(self, chances: Floats, counts: Counts) -> Floats:
        del counts
        if len(chances) == 1:
            return chances
        p = np.maximum(chances, _TINY)
        odds = p / _others(p)
        shares: Floats = p * (self.beta + (1 - self.beta) * _others(odds))
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationSampling(ChanceToBeBest):
    """Exploration sampling (Kasy & Sautmann 2021, Econometrica 89:113): shares in proportion to P(best) (1 - P(best)).

    For a test that ends in one choice: no arm gets much more than half, and those that may still be the best get most.

    Attributes:
        min_weight: As `Thompson`.
        prior: As `Thompson`.
        level_sd: As `Thompson`.

    Raises:
        ValueError: A number is out of range.
    """

    name: ClassVar[str] = "exploration"

    def _shares(self, chances: Floats, counts: Counts) -> Floats:
        del counts
        if len(chances) == 1:
            return chances
        p = np.maximum(chances, _TINY)
        shares: Floats = p * _others(p)
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonGreedy(_Learner):
    """The arm with the highest posterior mean gets everything but a fixed share that all arms divide: a baseline.

    Attributes:
        epsilon: Share that is divided evenly, fraction in [0, 1].
        prior: As `Thompson`.
        level_sd: As `Thompson`.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> EpsilonGreedy(epsilon=0.2).weights(Counts([100, 100], [10, 30])).round(2).tolist()
        [0.1, 0.9]
    """

    name: ClassVar[str] = "epsilon_greedy"
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        _Learner.__post_init__(self)
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon is {self.epsilon:g}, must be in [0, 1]")

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Shares of the next epoch; leaders that are level divide the leader's share. See `Policy.weights`."""
        del rng
        chosen = chosen_arms(active, counts.n_arms)
        a, b = self.posterior(counts.arms(chosen))
        mean = a / (a + b)
        floor = self.epsilon / len(chosen)
        return spread(quantise(mean == mean.max(), floor=floor), chosen, counts.n_arms)


# -- policies that don't ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform(_Written):
    """An even split, whatever was seen."""

    name: ClassVar[str] = "uniform"

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Equal shares of the active arms. See `Policy.weights`; draws nothing."""
        del rng
        chosen = chosen_arms(active, counts.n_arms)
        return spread(quantise(np.full(len(chosen), 1 / len(chosen))), chosen, counts.n_arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed(_Written):
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
        chosen = chosen_arms(active, counts.n_arms)
        return spread(quantise(np.array(self.shares)[chosen]), chosen, counts.n_arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestThenSend(_Written):
    """What marketers know: a part of the list evenly, a wait, and the arm with the highest rate to everybody else.

    The winner is the arm with the most answers per mail of the test, pending mails and all: that is the classical rule.
    Once the rest goes out the choice stands, whatever comes in later. Arms that are level divide the rest.

    Counts know no clock. Whoever opens the epochs asks `room` how many mails the test may still take, and `pause` how
    long to wait before the rest goes out.

    Attributes:
        share: Part of the list that is the test, fraction in (0, 1).
        wait: Seconds between the last mail of the test and the choice, 0 or more.
        planned: Mails on the whole list, 1 or more. None reads the planned number of epochs from ``counts.looks``
            instead; where that is unknown too, the first epoch with mails is the test.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> policy = TestThenSend(share=0.2, wait=14_400, planned=5_000)
        >>> policy.weights(Counts([250, 250], [40, 60])).tolist(), policy.room(Counts([250, 250], [40, 60]))
        ([0.5, 0.5], 500)
        >>> tested = Counts([500, 500], [80, 120])
        >>> policy.weights(tested).tolist(), policy.pause(tested, age=3_600.0)
        ([0.0, 1.0], 10800.0)
    """

    __test__: ClassVar[bool] = False  # pytest takes the name for a class of tests
    name: ClassVar[str] = "test_then_send"
    share: float = 0.2
    wait: float = 14_400.0
    planned: int | None = None

    def __post_init__(self) -> None:
        _require_planned(self.planned)
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share:g}, must be in (0, 1)")
        if not 0 <= self.wait < math.inf:
            raise ValueError(f"wait is {self.wait:g} seconds, must be 0 or more")

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """An even split during the test, then the winner. See `Policy.weights`; draws nothing."""
        del rng
        chosen = chosen_arms(active, counts.n_arms)
        even = np.ones(len(chosen))
        shares = even
        if not self.testing(counts):
            n, k, rest = self._parts(counts)
            rate = k[chosen] / np.maximum(n[chosen], 1)
            level = (rate == rate.max()) & (n[chosen] > 0)
            shares = next((part for part in (rest[chosen], level) if part.any()), even)
        return spread(quantise(shares), chosen, counts.n_arms)

    def testing(self, counts: Counts) -> bool:
        """Whether the next epoch still belongs to the test."""
        return self._epochs(counts) is None

    def room(self, counts: Counts) -> int | None:
        """Mails that the test may still take; None once it is out, or where its size was not planned in mails."""
        if self.planned is None or not self.testing(counts):
            return None
        return max(1, round(self.share * self.planned) - int(counts.n.sum()))

    def pause(self, counts: Counts, *, age: float) -> float:
        """Seconds until the next epoch may open: what is left of the wait between the test and the rest, else 0.

        Args:
            counts: What was sent.
            age: Seconds since the last mail was sent.
        """
        epochs = self._epochs(counts)
        waiting = epochs is not None and not counts.n[epochs:].any()
        return float(max(0.0, self.wait - age)) if waiting else 0.0

    def _epochs(self, counts: Counts) -> int | None:
        """Number of rows that the test takes up, None while it goes on."""
        sent = counts.n.sum(axis=1).cumsum()
        if self.planned is not None:
            done = sent > self.share * self.planned - _A_MAIL
        elif counts.looks is not None:
            done = np.array(counts.epochs) + 1 >= self.share * counts.looks - 1e-9
        else:
            done = sent > 0
        if not done.any():
            return None
        last = counts.epochs[int(np.argmax(done))]
        return int(np.searchsorted(counts.epochs, last, side="right"))  # an epoch has a row for each of its strata

    def _parts(self, counts: Counts) -> tuple[Floats, Floats, Floats]:
        """Mails and answers of the test; and the shares in which the first epoch after it went out."""
        end = self._epochs(counts) or 0
        test, after = slice(None, end), np.flatnonzero(counts.n[end:].any(axis=1))
        rest = np.zeros(counts.n_arms)
        if len(after) and counts.weights is not None:
            rest = counts.weights[end + after[0]]
        elif len(after):
            most = counts.n[end + after[0]]
            rest = (most == most.max()).astype(np.float64)
        return counts.n[test].sum(axis=0).astype(float), counts.successes[test].sum(axis=0).astype(float), rest


# -- by name ---------------------------------------------------------------------------------------------------------

_Kind = Thompson | Sharpened | TopTwo | ExplorationSampling | EpsilonGreedy | Uniform | Fixed | TestThenSend

SIMPLE_POLICIES: Final[Mapping[str, type[_Kind]]] = {kind.name: kind for kind in get_args(_Kind)}
"""The policies of this module by their names."""


class _Readable(Protocol):
    def from_dict(self, data: Mapping[str, Any]) -> Policy: ...


def read_policy(data: Mapping[str, Any], kinds: Mapping[str, _Readable]) -> Policy:
    """Read what the ``to_dict`` of a policy wrote that is one of these kinds.

    Raises:
        ValueError: None of them has that name, or one of its fields is unknown or out of range.
    """
    name = str(data.get("name"))
    if name not in kinds:
        raise ValueError(f"policy is {name!r}, must be one of {', '.join(kinds)}{_nearest(name, list(kinds))}")
    return kinds[name].from_dict(data)


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _others(values: Floats) -> Floats:
    """Sum of all the other values for each; as a sum, since 1 - p loses every digit where p is nearly 1."""
    rest: Floats = np.where(np.eye(len(values), dtype=bool), 0.0, values).sum(axis=1)
    return rest


def _require_planned(planned: int | None) -> None:
    if planned is not None and not 1 <= planned < math.inf:
        raise ValueError(f"planned is {planned}, must be a number of mails, 1 or more")


def _share_sent(counts: Counts, planned: int | None) -> float | None:
    """Share of the plan that has gone out, fraction in [0, 1]; None where there is no plan."""
    if planned is not None:
        return min(1.0, float(counts.n.sum()) / planned)
    if counts.looks is None:
        return None
    used = np.unique(np.array(counts.epochs)[counts.n.sum(axis=1) > 0])
    return min(1.0, len(used) / counts.looks)
