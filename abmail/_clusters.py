"""Recipients who are assigned by company: how much less their answers say than those of as many strangers.

Where colleagues get one arm and answer alike, a rate spreads more than its binomial says, by the design effect: the
variance between companies over the binomial one. Sends and successes divided by it make counts that every method reads
rightly (Rao & Scott 1992, Biometrics 48:577). The variance is that of sums over whole companies, over all epochs
together, so it holds for whatever likeness there is, also where a company keeps its arm from one epoch to the next
(Liang & Zeger 1986). Three things keep a few large companies from passing for certainty: each residual is raised by its
leverage (Bell & McCaffrey 2002, Survey Methodology 28:169), the degrees of freedom are those of the companies as they
weigh (Satterthwaite 1946), and answers are never taken for more telling than strangers'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._moments import cluster_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Clusters"]

_MOST_LEVERAGE: Final = 0.9
_TAIL: Final = 0.9995  # where boundaries of several looks lie, and those of several arms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clusters:
    """Sends and successes of each company, by row (epoch, or stratum of one) and arm.

    All arrays are (n_parts,), one entry for each company in each row and arm. Make them with `from_values`.

    Attributes:
        row: Row of the counts that the entry is a part of.
        arm: Index of the arm.
        company: Number of the company.
        n: Its sends there.
        successes: Its successes there, 0 <= successes <= n.

    Example:
        >>> answers = [1, 1, 1, 0, 0, 0] * 40
        >>> people = Clusters.from_values(answers, arm=[0, 0, 0, 1, 1, 1] * 40, company=np.repeat(range(80), 3))
        >>> people.units((1, 2)).tolist()
        [[40, 40]]
    """

    row: Integers
    arm: Integers
    company: Integers
    n: Floats
    successes: Floats

    @classmethod
    def from_values(
        cls,
        y: ArrayLike,
        *,
        arm: ArrayLike,
        company: Sequence[object] | NDArray[np.generic],
        row: ArrayLike | None = None,
    ) -> Clusters:
        """Sum what the recipients of each company did.

        Args:
            y: Whether each recipient had the outcome, (n,) of 0 and 1.
            arm: Index of the recipient's arm, (n,) whole numbers.
            company: (n,) company of each recipient: text or numbers; None or NaN for one who stands alone.
            row: Index of the row of the counts, (n,) whole numbers: the epoch; all 0 by default.

        Raises:
            ValueError: Lengths differ, or a value is none of 0 and 1.
        """
        answers = np.asarray(y, dtype=np.float64)
        if answers.ndim != 1 or not np.isin(answers, (0.0, 1.0)).all():
            raise ValueError("y must be (n,) of 0 and 1: whether each recipient had the outcome")
        arms, rows = (
            np.asarray(index, dtype=np.int64) for index in (arm, np.zeros(len(answers)) if row is None else row)
        )
        for name, index in (("arm", arms), ("row", rows)):
            if index.shape != answers.shape or (index < 0).any():
                raise ValueError(f"{name} has shape {index.shape}, must be {answers.shape} indices from 0")
        codes = cluster_codes(company, len(answers))
        parts, place = np.unique(np.stack((rows, arms, codes)), axis=1, return_inverse=True)
        place = place.reshape(-1)
        return cls(
            row=parts[0], arm=parts[1], company=parts[2],
            n=np.bincount(place, minlength=parts.shape[1]).astype(np.float64),
            successes=np.bincount(place, answers, parts.shape[1]).astype(np.float64),
        )  # fmt: skip

    def design_effect(self) -> float:
        """By how much the answers' rates spread more than those of as many strangers, at least 1.

        Twice the variance halves what the mails can say. With few companies, or a few large ones, the variance is
        hardly known, and the factor rises to pay for it.
        """
        rate, rest = self._residuals()
        strangers = float((self.n * rate * (1 - rate)).sum())
        if not strangers > 0:
            return 1.0
        by_company, size = self._by_company(rest)
        spread = float((by_company**2).sum()) / strangers
        return max(spread, 1.0) * _price(_freedom(size, spread))

    def units(self, shape: tuple[int, ...]) -> Integers:
        """Companies that were assigned in each row and arm: each where it came first, as it may keep its arm.

        Args:
            shape: (n_rows, n_arms) of the counts.
        """
        order = np.lexsort((self.row, self.company))
        company, row = self.company[order], self.row[order]
        first = np.concatenate(([True], company[1:] != company[:-1]))
        came = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
        where = order[row == row[came]] if len(order) else order
        cells = np.bincount(self.row[where] * shape[1] + self.arm[where], minlength=shape[0] * shape[1])
        return cells.reshape(shape)

    def _residuals(self) -> tuple[Floats, Floats]:
        """What each entry's rate should be by row and arm, and its successes beyond that, raised by their leverage."""
        of_row, of_arm = (_total(index, self.n)[index] for index in (self.row, self.arm))
        base = _total(self.row, self.successes)[self.row] / of_row
        ahead = (_total(self.arm, self.successes - base * self.n)[self.arm]) / of_arm
        rate = np.clip(base + ahead, 0.0, 1.0)
        share = self.n / of_row + self.n / of_arm - self.n / max(float(self.n.sum()), 1.0)
        raised = np.sqrt(1 - np.minimum(share, _MOST_LEVERAGE))
        return rate, (self.successes - rate * self.n) / raised

    def _by_company(self, rest: Floats) -> tuple[Floats, Floats]:
        """Residual and sends of each company in each arm, over all rows."""
        _, place = np.unique(self.arm * (int(self.company.max(initial=0)) + 1) + self.company, return_inverse=True)
        return _total(place, rest), _total(place, self.n)


def _total(index: Integers, values: Floats) -> Floats:
    return np.bincount(index, values).astype(np.float64)


def _freedom(size: Floats, spread: float) -> float:
    """Degrees of freedom of the variance between companies that differ in size.

    A company weighs by the variance that its size and the likeness of colleagues give it.
    """
    mean = float(size @ size / size.sum())  # of the company that a recipient is in
    likeness = min(max((spread - 1) / (mean - 1), 0.0), 1.0) if mean > 1 else 0.0
    weight = size * (1 + (size - 1) * likeness)
    return max(float(weight.sum() ** 2 / (weight @ weight)) - 1, 1.0)


def _price(freedom: float) -> float:
    """How much more variance a normal law must have to reach as far as Student's does."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(freedom, _TAIL) / ndtri(_TAIL)) ** 2
