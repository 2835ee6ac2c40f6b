"""What the structured policies share: counts as a table of segments and arms, and each arm's chance to be the best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from abmail._laplace import Fit, Prior, fit, modes, rate_of, roots
from abmail._policies import SIMPLE_POLICIES, ChanceToBeBest, Thompson, read_policy
from abmail._weights import chosen_arms
from abmail.stats import Counts

__all__ = ["MOST_TRIALS", "THOMPSON", "BySegment", "Structured", "Table", "chances", "draws", "fit_table"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

THOMPSON: Final = Thompson()
"""The rule of structured policies where none is given."""

_MEAN_SD: Final = 1.0  # of the common log odds, around those of all mails together
_MOST_DRAWS: Final = 8_192
_FEWEST_DRAWS: Final = 1_024
_DRAWN: Final = 1 << 18  # numbers drawn for a row, unless that is too many or too few draws
_SEED: Final = 20_101_122  # the draws stand for a posterior; they are the same ones every time
_FEWEST: Final = 128  # draws for a point of the grid
_DIGITS: Final = 9  # of a chance: the last ones hang on the machine's linear algebra
_ROUNDS: Final = 3
MOST_TRIALS: Final = 1e8  # of a cell: more move no weight, and matrices bear no more
_ROW_PART: Final = 0.5  # of the epochs' standard deviation: how far a segment's level may lie from its epoch's


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """Counts by row of the model: one row for each segment.

    Attributes:
        counts: The counts.
        place: (n_counted,) row of each row of the counts.
        names: (n_rows,) names of the segments; None for a row that has none. Segments that no count belongs to were
            never sent to.
    """

    counts: Counts
    place: Integers
    names: tuple[str | None, ...]

    @classmethod
    def of(cls, counts: Counts, segments: Sequence[str] = ()) -> Table:
        """One row for each of the named segments, then one for each other stratum of the counts.

        Args:
            counts: Counts; without strata they are one segment, the first.
            segments: Names, each once.
        """
        names = list(dict.fromkeys((*segments, *counts.stratum_names)))
        rows = {name: row for row, name in enumerate(names)}
        place = [rows[own] for own in counts.strata] if counts.strata is not None else [0] * len(counts.n)
        return cls(counts=counts, place=np.array(place, dtype=np.int64), names=tuple(names) or (None,))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.names)

    def with_unknown(self) -> Table:
        """The same with a last row for people of no known segment; where there are no segments, that is all people."""
        if self.counts.strata is None:
            return self
        return Table(counts=self.counts, place=self.place, names=(*self.names, None))

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """(n_counted, n_arms) values summed by row, (n_rows, n_arms)."""
        total: Floats = (np.arange(self.n_rows)[:, None] == self.place).astype(np.float64) @ values
        return total

    def trials(self, rates: Floats, sd: float) -> Floats:
        """Trials with the level of each epoch, and of each segment in it, taken out.

        As `level_weighted`: an epoch with fewer answers than its arms' rates promise counts as fewer trials for all its
        arms alike. A segment may besides have its own good and bad hours.

        Args:
            rates: (n_rows, n_arms) rates.
            sd: Standard deviation of the epochs' levels; 0 takes none out.

        Returns:
            (n_rows, n_arms), never below the successes.
        """
        exposure: Floats = self.counts.exposure
        epochs = np.array(self.counts.epochs, dtype=np.int64)
        factor = np.ones(len(exposure))
        if sd > 0 and self.counts.n_epochs > 1 and exposure.any():
            expected = (exposure * rates[self.place]).sum(axis=1)
            seen = self.counts.successes.sum(axis=1).astype(np.float64)
            _, epochs = np.unique(epochs, return_inverse=True)
            level = (np.bincount(epochs, seen) + sd**-2) / (np.bincount(epochs, expected) + sd**-2)
            factor = level[epochs]
            if len(exposure) > self.counts.n_epochs:
                prior = (_ROW_PART * sd) ** -2
                factor = factor * (seen + prior) / (expected * factor + prior)
            factor *= expected.sum() / float(factor @ expected)
        trials: Floats = np.maximum(self.sums(factor[:, None] * exposure), self.sums(self.counts.successes))
        return trials


def fit_table(table: Table, prior: Prior, offset: float, *, level_sd: float) -> Fit:
    """The posterior of the table's log odds, with the levels of the epochs taken out.

    The levels are those that the rates at the middle of the prior's grid leave unexplained, worked out in turns.
    """
    successes = table.sums(table.counts.successes)
    trials = np.maximum(table.sums(table.counts.exposure), successes)
    less = np.minimum(1.0, MOST_TRIALS / np.maximum(trials, 1.0))
    successes, trials = successes * less, trials * less
    middle = prior.at(np.full(len(prior.own), 1 / len(prior.own)))
    eta = modes(successes, trials, middle, offset)[0]
    if level_sd > 0 and table.counts.n_epochs > 1:
        for _ in range(_ROUNDS):
            trials = table.trials(rate_of(eta), level_sd) * less
            eta = modes(successes, trials, middle, offset, start=eta)[0]
    return fit(successes, trials, prior, offset, start=eta)


def chances(posterior: Fit, rows: Sequence[int], arms: Integers) -> Floats:
    """Each arm's chance to be the best of its row, by draws that are the same every time.

    Args:
        posterior: A fit.
        rows: The rows wanted.
        arms: The arms that take part.

    Returns:
        (n_rows, n_arms) for those rows and arms; each row sums to 1 but for rounding.
    """
    best = np.zeros((len(rows), len(arms)))
    for place, row in enumerate(rows):
        order = np.argsort(posterior.chance @ posterior.mean[:, row][:, arms], kind="stable")
        for part, drawn in draws(posterior, row, arms[order]):  # the same draws whatever the order of the arms
            best[place, order] += part * np.bincount(drawn.argmax(axis=1), minlength=len(order)) / len(drawn)
    return best.round(_DIGITS)


def draws(posterior: Fit, row: int, arms: Integers) -> Iterator[tuple[float, Floats]]:
    """Draws of a row's log odds, for each point of the grid: its chance, and (n_draws, n_arms) as it deserves."""
    root = roots(posterior.cov[:, row][:, arms[:, None], arms])
    dealt = _dealt(posterior.chance, len(arms))
    for part, center, lean, scores in zip(posterior.chance, posterior.mean[:, row][:, arms], root, dealt, strict=True):
        yield float(part), center + scores @ lean.T


def _dealt(chance: Floats, n_arms: int) -> Iterator[Floats]:
    """Draws for each point of the grid: other ones for each, as many as its chance is worth."""
    scores = _scores(n_arms)
    ends = 2 * np.rint(np.cumsum(chance) * len(scores) / 2).astype(np.int64)
    for start, end in pairwise((0, *ends.tolist())):
        first = min(start, len(scores) - _FEWEST)
        yield scores[first : max(end, first + _FEWEST)]


@cache
def _scores(n_arms: int) -> Floats:
    """(n_draws, n_arms) standard normal draws, a Latin hypercube; each draw is followed by its mirror image."""
    from scipy.special import ndtri

    half = min(max(_DRAWN // n_arms, _FEWEST_DRAWS), _MOST_DRAWS) // 2
    order = np.random.default_rng(_SEED).random((half, n_arms)).argsort(axis=0)
    drawn = ndtri((order + 0.5) / half)
    scores: Floats = np.stack((drawn, -drawn), axis=1).reshape(2 * half, n_arms)
    scores.setflags(write=False)
    return scores


@runtime_checkable
class BySegment(Protocol):
    """A policy with weights of its own for each segment."""

    def weights_by_segment(
        self,
        counts: Counts,
        *,
        segments: Sequence[str] | None = None,
        rng: int | np.random.Generator | None = None,
        active: Sequence[bool] | None = None,
    ) -> Floats:
        """Shares of the next epoch in each segment.

        Args:
            counts: What is known; its strata are the segments.
            segments: Names of the segments wanted, in the order of the answer; one without any mails gets what is known
                of the others. ``counts.stratum_names`` by default.
            rng: As `Policy.weights`.
            active: As `Policy.weights`, for all segments alike.

        Returns:
            (n_segments, n_arms) float64; each row holds multiples of 2^-20 that sum to 1 exactly.

        Raises:
            ValueError: A name is given twice, or there are no segments.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Structured(ABC):
    """A model that arms and segments share, and a rule that turns its chances to be the best into weights.

    Attributes:
        rule: Turns chances into weights, with its floor; also gives ``level_sd`` and, as the prior of the common rate,
            ``prior``.
    """

    name: ClassVar[str]
    rule: ChanceToBeBest = THOMPSON

    def __post_init__(self) -> None:
        if not isinstance(self.rule, ChanceToBeBest):
            raise TypeError(f"rule is {self.rule!r}, must be a policy that goes by the chance to be best: Thompson()")

    def weights(
        self, counts: Counts, *, rng: int | np.random.Generator | None = None, active: Sequence[bool] | None = None
    ) -> Floats:
        """Shares of the next epoch where there are no segments, or for people whose segment has no mails yet.

        See `Policy.weights`; draws nothing.
        """
        del rng
        table = Table.of(counts).with_unknown()
        shares: Floats = self._weights(table, [table.n_rows - 1], active)[0]
        return shares

    def weights_by_segment(
        self,
        counts: Counts,
        *,
        segments: Sequence[str] | None = None,
        rng: int | np.random.Generator | None = None,
        active: Sequence[bool] | None = None,
    ) -> Floats:
        """Shares of the next epoch in each segment. See `BySegment.weights_by_segment`; draws nothing."""
        del rng
        names = counts.stratum_names if segments is None else tuple(segments)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"segments are {list(names)}, must be at least one name, each once")
        return self._weights(Table.of(counts, names), range(len(names)), active)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `policy_from_dict` reads."""
        return {"name": self.name, "rule": self.rule.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; fields that are missing keep their defaults.

        Raises:
            ValueError: A field is unknown, or its value is out of range.
        """
        known = [field.name for field in fields(cls)]
        given = {key: value for key, value in data.items() if key != "name"}
        for key in given:
            if key not in known:
                raise ValueError(f"policy {cls.name} has no field {key!r}, it has {', '.join(known)}")
        if isinstance(given.get("rule"), Mapping):
            given["rule"] = read_policy(given["rule"], SIMPLE_POLICIES)
        try:
            return cls(**given)
        except TypeError as error:  # a field is missing, or of another type
            raise ValueError(f"policy {cls.name} cannot be read from {given}: {error}") from error

    def posterior(self, table: Table) -> Fit:
        """The posterior of a table's log odds."""
        center, sd = self._center(table.counts)
        return fit_table(table, self._prior(table, sd), center, level_sd=self.rule.level_sd)

    def _weights(self, table: Table, rows: Sequence[int], active: Sequence[bool] | None) -> Floats:
        on = np.zeros(table.counts.n_arms, dtype=bool)
        on[chosen_arms(active, len(on))] = True
        fitted = self.posterior(table) if table.counts.exposure.any() else None
        return self._shares(table, fitted, rows, on)

    def _shares(self, table: Table, fitted: Fit | None, rows: Sequence[int], on: NDArray[np.bool_]) -> Floats:
        """Weights of some rows by the rule; equal chances where nothing is known."""
        best = np.broadcast_to(on / on.sum(), (len(rows), len(on))).copy()
        if fitted is not None:
            best[:, on] = chances(fitted, rows, np.flatnonzero(on))
        return np.stack([self.rule.weights_from(row, table.counts, active=on.tolist()) for row in best])

    def _center(self, counts: Counts) -> tuple[float, float]:
        """Mean and standard deviation of the common log odds."""
        from scipy.special import psi, zeta

        if self.rule.prior is not None:
            a, b = self.rule.prior
            return float(psi(a) - psi(b)), float(np.sqrt(zeta(2.0, a) + zeta(2.0, b)))
        k = counts.successes.sum() + 0.5
        failures = max(counts.exposure.sum() - counts.successes.sum(), 0.0) + 0.5
        return float(np.log(k / failures)), _MEAN_SD

    @abstractmethod
    def _prior(self, table: Table, sd: float) -> Prior:
        """The prior of a table whose common log odds have that standard deviation."""
