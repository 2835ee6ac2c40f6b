"""The companies of an experiment as the statistics take them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from abmail.stats import Clusters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from abmail._evidence import Evidence
    from abmail._records import CompanyMails
    from abmail.stats import Counts

__all__ = ["clusters_of", "clusters_within", "thinning"]


def clusters_of(evidence: Evidence, counts: Counts, chosen: Sequence[int] | NDArray[np.int64]) -> Clusters | None:
    """What each company did, by the rows of the counts; None where recipients are assigned one by one.

    Args:
        evidence: What is known.
        counts: Some epochs of it, with a row for each or for each of its strata.
        chosen: Index of the epoch that each epoch of the counts is.
    """
    if not evidence.companies or not len(chosen):
        return None
    strata = counts.strata or ("",) * len(counts.n)
    rows = {
        (int(chosen[epoch]), name): row for row, (epoch, name) in enumerate(zip(counts.epochs, strata, strict=True))
    }

    def place(mails: CompanyMails) -> tuple[int | None, int]:
        own = rows.get((mails.epoch, mails.stratum))
        return rows.get((mails.epoch, "")) if own is None else own, mails.cell

    return _clusters(evidence, place)


def clusters_within(evidence: Evidence, axis: int, kept: NDArray[np.bool_]) -> Clusters | None:
    """The same for the levels of one factor, compared within the levels of the others.

    Args:
        evidence: What is known.
        axis: Which factor.
        kept: (n_epochs x combinations of the other factors' levels,) which of them are rows of the counts.
    """
    experiment = evidence.experiment
    shape = [len(levels) for levels in experiment.factors.values()]
    others = [size for other, size in enumerate(shape) if other != axis]
    rows = np.cumsum(kept) - 1

    def place(mails: CompanyMails) -> tuple[int | None, int]:
        levels = [int(level) for level in np.unravel_index(experiment.order[mails.cell], shape)]
        level = levels.pop(axis)
        row = mails.epoch * math.prod(others) + int(np.ravel_multi_index(levels, others))
        return int(rows[row]) if kept[row] else None, level

    return _clusters(evidence, place)


def thinning(evidence: Evidence, outcome: str | None = None) -> float:
    """What part of a mail to a stranger a mail says, by all epochs: 1 where recipients are assigned one by one.

    Args:
        evidence: What is known.
        outcome: The outcome that is counted; the primary one by default.
    """
    found = _clusters(evidence, lambda mails: (mails.epoch, mails.cell), outcome)
    return 1.0 if found is None else 1 / found.design_effect()


def _clusters(
    evidence: Evidence, place: Callable[[CompanyMails], tuple[int | None, int]], outcome: str | None = None
) -> Clusters | None:
    if not evidence.companies:
        return None
    codes: dict[str, int] = {}
    entries = [
        (
            *placed,
            codes.setdefault(mails.company, len(codes)),
            mails.n,
            mails.answered.get(outcome or evidence.outcome, 0),
        )
        for mails in evidence.companies
        if (placed := place(mails))[0] is not None
    ]
    row, arm, company, n, successes = np.array(entries, dtype=np.int64).reshape(-1, 5).T
    return Clusters(row=row, arm=arm, company=company, n=n.astype(np.float64), successes=successes.astype(np.float64))
