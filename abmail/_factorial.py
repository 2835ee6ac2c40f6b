"""Several factors at once: cells that share what their levels and pairs of levels do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from abmail._laplace import Prior, fit
from abmail._policies import ChanceToBeBest
from abmail._structure import MOST_TRIALS, THOMPSON, Structured, Table, fit_table
from abmail._weights import chosen_arms
from abmail.stats import Counts

__all__ = ["Factorial"]

Floats = NDArray[np.float64]

_MAIN_SDS: Final = (0.05, 0.15, 0.4)  # of the terms of the log odds, tried side by side
_PAIR_SDS: Final = (0.01, 0.05, 0.12)
_CELL_SDS: Final = (0.01, 0.05)
_PAIR_CHANCES: Final = (0.5, 0.3, 0.2)  # before anything is seen: most factors act on their own
_CELL_CHANCES: Final = (0.85, 0.15)
_NONE: Final = 1e-3  # of a term that is not there
_TOGETHER_SDS: Final = ((0.05, 0.01), (0.12, 0.01), (0.25, 0.01), (0.05, 0.05), (0.12, 0.05))  # of pairs and cells
_SEGMENT_PARTS: Final = (0.1, 0.4, 1.0)  # of the cells' standard deviations: what a segment adds
_OWN_SD: Final = 0.5  # of the segments' own log odds


@dataclass(frozen=True, slots=True, kw_only=True)
class Factorial(Structured):
    """Weights for the cells of several factors, learned from all cells that share a level or a pair of levels.

    The log odds of a cell are a sum of main effects, pairwise terms and a term of the cell, all normal; their variances
    are averaged over a grid by its evidence, so that no switch decides whether factors act together (Scott 2010,
    Applied Stochastic Models in Business and Industry 26:639; Hill, Nassif, Liu, Iyer & Vishwanathan 2017).

    Attributes:
        factors: ((factor, (level, ...)), ...): the cells are all combinations, the last factor varies fastest.
        order: (n_cells,) which of the combinations each arm of the counts is, where they come in another order: a level
            that joined later brought its cells to the end. Empty where they come as they are.
        rule: As `Hierarchical`.

    Raises:
        ValueError: There is no factor, a factor has no level, a name comes twice, or the order is none of all cells.

    Example:
        >>> policy = Factorial.of({"subject": ["plain", "number"], "cta": ["go", "see"]})
        >>> counts = Counts([200, 200, 200, 200], [20, 22, 50, 52])
        >>> round(float(policy.weights(counts)[2:].sum()), 1)
        0.9
    """

    name: ClassVar[str] = "factorial"
    factors: tuple[tuple[str, tuple[str, ...]], ...]
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        Structured.__post_init__(self)
        factors = tuple((factor, tuple(levels)) for factor, levels in self.factors)  # JSON has lists
        object.__setattr__(self, "factors", factors)
        names = [factor for factor, _ in factors]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"factors are {names}, must be at least one name, each once")
        for factor, levels in factors:
            if not levels or len(set(levels)) < len(levels):
                raise ValueError(f"levels of {factor} are {list(levels)}, must be at least one name, each once")
        object.__setattr__(self, "order", tuple(self.order))
        n_cells = math.prod(len(levels) for _, levels in factors)
        if self.order and sorted(self.order) != list(range(n_cells)):
            raise ValueError(f"order is {list(self.order)}, must be the numbers 0 to {n_cells - 1}, each once")

    @classmethod
    def of(
        cls, factors: Mapping[str, Sequence[str]], *, order: Sequence[int] = (), rule: ChanceToBeBest = THOMPSON
    ) -> Self:
        """The policy for a mapping of factors to their levels, as `Experiment.factors` is one."""
        named = tuple((factor, tuple(levels)) for factor, levels in factors.items())
        return cls(factors=named, order=tuple(order), rule=rule)

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """The level of each factor, for each cell."""
        levels = [own for _, own in self.factors]
        return tuple(tuple(own[code] for own, code in zip(levels, codes, strict=True)) for codes in self._codes())

    def weights_given(
        self,
        counts: Counts,
        factor: str,
        *,
        rng: int | np.random.Generator | None = None,
        active: Sequence[bool] | None = None,
    ) -> Floats:
        """Shares of the cells where one factor's level is decided elsewhere: a send slot that each recipient has.

        Args:
            counts: What is known.
            factor: The factor whose level is given.
            rng: As `Policy.weights`; nothing is drawn.
            active: As `Policy.weights`.

        Returns:
            (n_levels, n_cells) float64: a row for each level of the factor, 0 in cells of other levels; rows hold
            multiples of 2^-20 that sum to 1 exactly. A level without any active cell has zeros alone.

        Raises:
            ValueError: There is no such factor.
        """
        del rng
        names = [name for name, _ in self.factors]
        if factor not in names:
            raise ValueError(f"there is no factor {factor!r}, there are: {', '.join(names)}")
        self._require(counts)
        column = self._codes()[:, names.index(factor)]
        on = np.zeros(counts.n_arms, dtype=bool)
        on[chosen_arms(active, counts.n_arms)] = True
        table = Table.of(counts)
        fitted = self.posterior(table) if counts.exposure.any() else None
        shares = np.zeros((len(self.factors[names.index(factor)][1]), counts.n_arms))
        for level in np.unique(column[on]):
            shares[level] = self._shares(table, fitted, [0], on & (column == level))[0]
        return shares

    def acting_together(self, counts: Counts) -> float:
        """Chance that levels of different factors act together: the check whether main effects tell it all.

        By the evidence of all mails for pairwise or cell terms; one half before anything was seen, or with one factor.

        Raises:
            ValueError: The cells are not those of the factors.
        """
        self._require(counts)
        if not counts.exposure.any() or len(self.factors) == 1:
            return 0.5
        grid = [(a, *own) for a in _MAIN_SDS for own in ((_NONE, _NONE), *_TOGETHER_SDS)]
        a, b, c = (np.array(part) for part in zip(*grid, strict=True))
        log_chance = np.where(b == _NONE, 0.0, -np.log(len(_TOGETHER_SDS)))
        center, sd = self._center(counts)
        whole = Table(counts=counts, place=np.zeros(len(counts.n), dtype=np.int64), names=(None,))
        fitted = fit_table(whole, self._of_cells(a, b, c, sd, log_chance), center, level_sd=self.rule.level_sd)
        return float(fitted.chance[b[fitted.places] > _NONE].sum())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `policy_from_dict` reads."""
        factors = [[factor, list(levels)] for factor, levels in self.factors]
        order = {"order": list(self.order)} if self.order else {}
        return Structured.to_dict(self) | {"factors": factors} | order

    def _prior(self, table: Table, sd: float) -> Prior:
        self._require(table.counts)
        a, b, c = (part.ravel() for part in np.meshgrid(_MAIN_SDS, _PAIR_SDS, _CELL_SDS, indexing="ij"))
        chance = np.log(np.outer(_PAIR_CHANCES, _CELL_CHANCES)).ravel()
        alone = self._of_cells(a, b, c, sd, np.tile(chance, len(_MAIN_SDS)))
        return alone if table.n_rows == 1 else self._of_segments(table, alone)

    def _of_cells(self, a: Floats, b: Floats, c: Floats, sd: float, log_chance: Floats) -> Prior:
        """The prior of a single row, for (n_grid,) standard deviations of the terms."""
        main, pair, cell = self._kernels()
        parts = zip((a, b, c), (main, pair, cell), strict=True)
        own = sum(size[:, None, None] ** 2 * kernel for size, kernel in parts) + sd**2 * np.ones_like(main)
        return Prior(own=np.asarray(own), shared=None, design=None, log_chance=log_chance)

    def _of_segments(self, table: Table, alone: Prior) -> Prior:
        """Cells by the variances that all segments together speak for; each segment adds terms of a common size."""
        k, m = (
            table.sums(values).sum(axis=0, keepdims=True) for values in (table.counts.successes, table.counts.exposure)
        )
        less = min(1.0, MOST_TRIALS / max(1.0, float(m.max(initial=0.0))))
        known = fit(k * less, np.maximum(m, k) * less, alone, self._center(table.counts)[0])
        cells = np.tensordot(known.chance, alone.own[known.places], axes=1)
        parts = np.array(_SEGMENT_PARTS)
        between = cells - cells.min()  # what cells do not have in common
        own = parts[:, None, None] ** 2 * between + _OWN_SD**2 * np.ones_like(cells)
        shared = np.broadcast_to(cells, own.shape)
        return Prior(own=own, shared=shared, design=None, log_chance=np.zeros(len(parts)))

    def _codes(self) -> NDArray[np.int64]:
        """(n_cells, n_factors) number of each cell's level."""
        sizes = [range(len(levels)) for _, levels in self.factors]
        codes = np.array(list(itertools.product(*sizes)), dtype=np.int64)
        return codes[list(self.order)] if self.order else codes

    def _kernels(self) -> tuple[Floats, Floats, Floats]:
        """Number of factors, and of pairs of factors, in which two cells agree; and whether they are the same."""
        codes = self._codes()
        same = (codes[:, None] == codes[None, :]).astype(np.float64)
        main = same.sum(axis=2)
        return main, main * (main - 1) / 2, np.eye(len(codes))

    def _require(self, counts: Counts) -> None:
        n_cells = len(self._codes())
        if n_cells != counts.n_arms:
            sizes = " x ".join(str(len(levels)) for _, levels in self.factors)
            raise ValueError(f"the factors have {sizes} = {n_cells} cells, the counts have {counts.n_arms} arms")
