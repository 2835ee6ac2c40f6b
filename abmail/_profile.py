"""From what is remembered of recipients to their weekly activity: class posterior, and an own deviation from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._classes import mixture
from abmail._hazard import CELLS, cell_smoother, reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._classes import Classes
    from abmail._learning import Population
    from abmail._memory import Memory

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]
    Integers = NDArray[np.int64]

__all__ = ["Habits", "Profiler", "decided_by", "reaching"]

_BANDWIDTH: Final = 1.0  # hours, of the personal deviation
_GAIN: Final = 2 * np.sqrt(np.pi) * _BANDWIDTH  # cells that the smoothed count of one cell stands for
_MOVED, _APART = 0.2, 0.1  # total variation from the segment's mix, and of that from the account's
_OWN_OPENS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Habits:
    """Of n recipients, in float32.

    Attributes:
        weights: (n, K) posterior of the classes.
        level: (n, K) weight times mean engagement under the class.
        activity: (n, 168) by hour of the week, about 1 in the mean.
        alpha: (n,) shape of the engagement's Gamma distribution.
        opens: (n,) opens that are remembered.
    """

    weights: Singles
    level: Singles
    activity: Singles
    alpha: Singles
    opens: Singles

    def chances(self, reaching: Singles) -> Floats:
        """Chance of an open within the horizon, engagement mixed out (Lomax distribution).

        Args:
            reaching: (168, m) what makes activity the hazard of a mail at each slot; see `reaching`.

        Returns:
            (n, m) float64.
        """
        hazard = self.activity @ reaching
        hazard *= (self.level.sum(axis=1) / self.alpha)[:, np.newaxis]
        np.log1p(hazard, out=hazard)
        hazard *= -self.alpha[:, np.newaxis]
        return np.asarray(-np.expm1(hazard), dtype=np.float64)


def reaching(population: Population, slots: Integers) -> Singles:
    """(168, m) float32: the hazard that a unit of activity in each hour gives a mail sent at each slot."""
    return (reach(population.ageing)[:, slots] * population.by_hour[slots % 24]).astype(np.float32)


class Profiler:
    """The parts of the reckoning that are the same for all recipients."""

    def __init__(self, population: Population) -> None:
        classes, single = population.classes, np.float32
        self._classes = classes
        self._shapes = classes.shapes.astype(single)
        self._by_cell = (classes.shapes @ CELLS / CELLS.sum(axis=0)).astype(single)
        self._smooth = (cell_smoother(_BANDWIDTH) * _GAIN).astype(single)
        self._own = single(population.residual)

    def habits(self, memory: Memory, segment: Integers) -> Habits:
        """Habits of recipients.

        Args:
            memory: Of n recipients.
            segment: (n,) index of their segments.
        """
        classes, single = self._classes, np.float32
        weights = mixture(
            classes.shares[segment].astype(single), memory.classes[:, 0], memory.classes[:, 1], memory.opens,
            classes.alpha, classes.beta,
        ).astype(single, copy=False)  # fmt: skip
        alpha = memory.opens + single(classes.alpha)
        level = weights * alpha[:, np.newaxis] / (memory.classes[:, 1] + single(classes.beta))
        opens, exposure = memory.unpacked()
        exposure *= level @ self._by_cell
        deviation = (self._own + opens @ self._smooth) / (self._own + exposure @ self._smooth)
        activity = weights @ self._shapes
        by_day = activity.reshape(-1, 7, 24)  # in place: a gather of 168 columns would take longer than all the rest
        by_day[:, :5] *= deviation[:, np.newaxis, :24]
        by_day[:, 5:] *= deviation[:, np.newaxis, 24:]
        return Habits(weights, level, activity, alpha, memory.opens)


def decided_by(habits: Habits, classes: Classes, segment: Integers) -> NDArray[np.str_]:
    """What each choice rests on.

    Returns:
        (n,) ``person`` where opens have moved the class weights by a fifth, else ``segment`` where its mix differs by
        a tenth from the account's, else ``prior``; differences are total variation.
    """
    shares = classes.shares
    account = shares.mean(axis=0)
    moved = 0.5 * np.abs(habits.weights - shares[segment]).sum(axis=1)
    apart = 0.5 * np.abs(shares - account).sum(axis=1)[segment]
    own = (moved >= _MOVED) & (habits.opens >= _OWN_OPENS)
    return np.where(own, "person", np.where((segment > 0) & (apart >= _APART), "segment", "prior"))
