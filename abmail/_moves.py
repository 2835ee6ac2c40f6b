"""How many people another definition would give another variant: both are dealt over the same list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from abmail._planning import units
from abmail._rules.base import Moves
from abmail.assign import assign_array
from abmail.audience import in_segment

if TYPE_CHECKING:
    from abmail.recipient import Recipient
    from abmail.spec import Experiment

__all__ = ["counted", "moves"]


def counted(recipients: Sequence[Recipient]) -> Callable[[Experiment, Experiment], Moves]:
    """`moves` over a list, as `abmail.check.drift` takes it."""
    return lambda old, new: moves(old, new, recipients)


def moves(old: Experiment, new: Experiment, recipients: Sequence[Recipient]) -> Moves:
    """Deal a list by two definitions and count who does not get the same.

    Shares are those of the first wave: given weights, else even ones. Cells are compared by their names, the holdout is
    one, and so is to be out of the segment.

    Args:
        old: The definition that runs.
        new: Another one.
        recipients: The list.

    Returns:
        Those with another variant, and those who are in either audience.
    """
    before, after = _dealt(old, recipients), _dealt(new, recipients)
    concerned = (before != "") | (after != "")
    return Moves(moved=int((before != after)[concerned].sum()), people=int(concerned.sum()))


def _dealt(experiment: Experiment, recipients: Sequence[Recipient]) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """What each recipient gets, (n,): the name of a cell, a sign for the holdout, nothing outside of the segment."""
    if not recipients:
        return np.array([], dtype=np.str_)
    names = [cell.name for cell in experiment.cells]
    given = experiment.allocation.weights
    weights = [given[name] for name in names] if given else [1 / len(names)] * len(names)
    cells = assign_array(experiment, units(experiment, recipients), weights=weights)
    found = np.array([*names, "(held out)"])[cells]  # -1, the holdout, is the last
    inside = np.array([in_segment(experiment.audience.segment, each) for each in recipients])
    return np.where(inside, found, "")
