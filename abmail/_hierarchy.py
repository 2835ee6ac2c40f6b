"""Segments that learn from each other: an effect of each arm, and what a segment adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from abmail._laplace import Prior
from abmail._structure import Structured, Table

__all__ = ["Hierarchical"]

_ARM_SDS: Final = (0.03, 0.1, 0.25, 0.6)  # of the arms' effects on the log odds, tried side by side
_SEGMENT_SDS: Final = (0.02, 0.06, 0.15, 0.4)  # of what a segment adds to them
_SEGMENT_CHANCES: Final = (0.4, 0.3, 0.2, 0.1)  # before anything is seen: segments mostly like the same
_OWN_SD: Final = 0.5  # of the segments' own log odds


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchical(Structured):
    """Weights for each segment that learn from the other segments as far as they are alike.

    The log odds of an arm in a segment are the segment's level + the arm's effect + what the segment adds to it, all
    normal. How much arms differ, and how much segments differ in that, is not set: a grid of variances is averaged by
    its evidence (HierTS: Hong, Kveton, Zaheer, Katariya & Ghavamzadeh 2022). Where segments are alike, a small one
    follows the whole list; where they are not, each goes its own way.

    Attributes:
        rule: What turns the chance to be the best into weights: `Thompson`, or `Sharpened` to earn, `TopTwo` or
            `ExplorationSampling` to find the best. Its ``prior`` is that of the common rate.

    Example:
        >>> from abmail import Counts, Thompson
        >>> counts = Counts([[500, 500], [50, 50]], [[50, 95], [5, 10]], strata=["large", "small"], epochs=[0, 0])
        >>> weights = Hierarchical(rule=Thompson(min_weight=0.1)).weights_by_segment(counts)
        >>> (weights[:, 1] > 0.8).tolist()
        [True, True]
    """

    name: ClassVar[str] = "hierarchical"

    def _prior(self, table: Table, sd: float) -> Prior:
        n_arms = table.counts.n_arms
        one, flat = np.eye(n_arms), np.ones((n_arms, n_arms))
        arm, segment = (part.ravel() for part in np.meshgrid(_ARM_SDS, _SEGMENT_SDS, indexing="ij"))
        return Prior(
            own=segment[:, None, None] ** 2 * one + _OWN_SD**2 * flat,
            shared=arm[:, None, None] ** 2 * one + sd**2 * flat,
            design=None,
            log_chance=np.log(np.tile(_SEGMENT_CHANCES, len(_ARM_SDS))),
        )
