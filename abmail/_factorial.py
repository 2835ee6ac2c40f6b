"""Several factors at once: cells that share what their levels and pairs of levels do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from abmail._laplace import Prior
from abmail._policies import ChanceToBeBest
from abmail._structure import THOMPSON, Structured, Table
from abmail._weights import chosen_arms
from abmail.stats import Counts

__all__ = ["Factorial"]

Floats = NDArray[np.float64]

_MAIN_SDS: Final = (0.05, 0.15, 0.4)  # of the terms of the log odds, tried side by side
_PAIR_SDS: Final = (0.01, 0.05, 0.12)
_CELL_SDS: Final = (0.01, 0.05)
_PAIR_CHANCES: Final = (0.5, 0.3, 0.2)  # before anything is seen: most factors act on their own
_CELL_CHANCES: Final = (0.85, 0.15)
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
        rule: As `Hierarchical`.

    Raises:
        ValueError: There is no factor, a factor has no level, or a name comes twice.

    Example:
        >>> policy = Factorial.of({"subject": ["plain", "number"], "cta": ["go", "see"]})
        >>> counts = Counts([200, 200, 200, 200], [20, 22, 50, 52])
        >>> round(float(policy.weights(counts)[2:].sum()), 1)
        0.9
    """

    name: ClassVar[str] = "factorial"
    factors: tuple[tuple[str, tuple[str, ...]], ...]

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

    @classmethod
    def of(cls, factors: Mapping[str, Sequence[str]], *, rule: ChanceToBeBest = THOMPSON) -> Self:
        """The policy for a mapping of factors to their levels, as `Experiment.factors` is one."""
        return cls(factors=tuple((factor, tuple(levels)) for factor, levels in factors.items()), rule=rule)

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """The level of each factor, for each cell."""
        return tuple(itertools.product(*(levels for _, levels in self.factors)))

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `policy_from_dict` reads."""
        factors = [[factor, list(levels)] for factor, levels in self.factors]
        return Structured.to_dict(self) | {"factors": factors}

    def _prior(self, table: Table, sd: float) -> Prior:
        self._require(table.counts)
        main, pair, cell = self._kernels()
        a, b, c = (part.ravel()[:, None, None] for part in np.meshgrid(_MAIN_SDS, _PAIR_SDS, _CELL_SDS, indexing="ij"))
        cells = a**2 * main + b**2 * pair + c**2 * cell
        chance = np.log(np.outer(_PAIR_CHANCES, _CELL_CHANCES)).ravel()
        log_chance = np.tile(chance, len(_MAIN_SDS))
        flat = np.ones_like(main)
        if table.n_rows == 1:
            return Prior(own=cells + sd**2 * flat, shared=None, design=None, log_chance=log_chance)
        parts = np.array(_SEGMENT_PARTS)[:, None, None]
        middle = cells.mean(axis=0)
        return Prior(
            own=parts**2 * middle + _OWN_SD**2 * flat,
            shared=np.broadcast_to(middle + sd**2 * flat, (len(parts), *middle.shape)),
            design=None,
            log_chance=np.zeros(len(parts)),
        )

    def _codes(self) -> NDArray[np.int64]:
        """(n_cells, n_factors) number of each cell's level."""
        sizes = [range(len(levels)) for _, levels in self.factors]
        return np.array(list(itertools.product(*sizes)), dtype=np.int64)

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
