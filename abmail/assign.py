"""Who gets which cell: a pure function of experiment, recipient and the epoch's weights.

A unit id is hashed with the experiment's salt to 52 bits; the share of the unit interval in which the hash falls names
the cell, the holdout first. Nothing is drawn and nothing is remembered, so a retry, a second process or a later audit
finds the same cell. Everything is integer arithmetic, so the scalar and the array form agree to the bit everywhere:

* weights and the holdout are rounded to multiples of 2^-20, and the thresholds are exact multiples of 2^-40;
* in a small wave chance can leave a cell short; `assign_quota` orders the whole wave by a hash and cuts it exactly;
* the hash is that of `abmail._hash`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abmail._company import company_of
from abmail._hash import HASH_BITS, hash52, hash52_array, in_chunks
from abmail.spec import Experiment

__all__ = [
    "HOLDOUT",
    "Assignment",
    "assign",
    "assign_array",
    "assign_quota",
    "assign_quota_array",
    "hash52",
    "hash52_array",
    "salt_of",
    "unit_of",
]

HOLDOUT: Final = -1
"""The cell of a recipient who is deliberately not mailed."""

_WEIGHT_UNIT: Final = 1 << 20
_FEW_CELLS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one recipient gets in one epoch.

    Attributes:
        cell: Index of the cell, or -1 for the holdout.
        propensity: Chance in (0, 1] that this recipient had of this cell, holdout included in the reckoning.
        epoch: Number of the epoch whose weights were used, where the caller named it.
        u: The hash as a fraction in [0, 1), a multiple of 2^-52.
    """

    cell: int
    propensity: float
    epoch: int | None = None
    u: float

    @property
    def held_out(self) -> bool:
        """Whether the recipient gets no mail."""
        return self.cell == HOLDOUT


def unit_of(recipient_id: str, domain: str, unit: str) -> str:
    """The text that is hashed: the recipient's id, or with ``unit="company"`` the mail domain, shared by colleagues.

    People whose mailboxes are where everybody can have one (gmail.com) are nobody's colleagues.
    """
    return (company_of(domain) or recipient_id) if unit == "company" else recipient_id


def salt_of(experiment: Experiment) -> str:
    """What keys the hash: the definition's salt, its name by default; different salts split people independently."""
    return experiment.salt or experiment.name


def assign(
    experiment: Experiment,
    unit_id: str,
    *,
    weights: Sequence[float] | NDArray[np.float64],
    epoch: int | None = None,
) -> Assignment:
    """Assign one unit to a cell under the epoch's weights.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_id: The recipient's id (what `unit_of` says where the unit is the company).
        weights: (n_cells,) shares that sum to 1.
        epoch: Number of the epoch, copied into the result.

    Raises:
        ValueError: The weights are negative, not finite or do not sum to 1.

    Example:
        >>> from abmail.spec import Experiment
        >>> exp = Experiment.from_dict({
        ...     "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        ...     "control": {"subject": "plain"}, "message": {"template": "mails/a.html.j2", "from": "a@example.com"},
        ... })
        >>> assign(exp, "u-1017", weights=[0.5, 0.5]).cell in (0, 1)
        True
    """
    thresholds = _thresholds(weights, experiment.audience.holdout)
    hashed = hash52(salt_of(experiment), unit_id)
    cell = int(np.searchsorted(thresholds, hashed, side="right")) - 1
    low = int(thresholds[cell]) if cell >= 0 else 0
    high = int(thresholds[cell + 1]) if cell + 1 < len(thresholds) else 1 << HASH_BITS
    return Assignment(cell=cell, propensity=(high - low) / (1 << HASH_BITS), epoch=epoch, u=hashed / (1 << HASH_BITS))


def assign_array(
    experiment: Experiment,
    unit_ids: Sequence[str] | NDArray[np.generic],
    *,
    weights: Sequence[float] | NDArray[np.float64],
) -> NDArray[np.int64]:
    """Assign many units under one epoch's weights; the same bits as `assign` for each.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_ids: (n,) ids as for `hash52_array`.
        weights: (n_cells,) shares that sum to 1.

    Returns:
        (n,) int64 cell indices, -1 for the holdout.

    Raises:
        TypeError: The ids are neither text nor integers.
        ValueError: The weights are not shares that sum to 1, or the ids cannot be hashed.
    """
    thresholds = _thresholds(weights, experiment.audience.holdout)
    hashed = hash52_array(salt_of(experiment), unit_ids)
    if len(thresholds) > _FEW_CELLS:
        return np.searchsorted(thresholds, hashed, side="right") - 1
    return in_chunks(lambda part: _passed(part, thresholds), hashed)


def assign_quota(
    experiment: Experiment, unit_ids: Sequence[str], *, weights: Sequence[float] | NDArray[np.float64], epoch: int
) -> list[Assignment]:
    """Assign everybody of one epoch at once, each cell getting its share to within one unit.

    The holdout is as in `assign`. The others are put in the order of a hash of their own for each epoch, and the order
    is cut at the cells' shares of it. Where a share is no whole number of units, a hashed offset decides which cell
    gets the odd one (systematic sampling; Madow & Madow 1944), so that each unit's chance of a cell is its weight to
    the bit. That chance is the propensity: those of two units are not independent, as each cell's size is settled.

    Within its epoch this is an ordinary completely randomised split, which `compare` conditions on: rates, intervals
    and error rates are those of independent draws of the same size. The sample ratio fits better than chance would
    have it. Colleagues who share a unit keep together; shares are then exact in units, not in mails.

    The split depends on the experiment, the epoch and the *set* of units, not on their order or on repetitions. One
    unit more may move others, so a wave is split once, as a whole, and its cells are stored.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_ids: (n,) ids of everybody in the epoch, as for `assign`.
        weights: (n_cells,) shares that sum to 1.
        epoch: Number of the epoch, 0 or more; every epoch is ordered anew.

    Returns:
        The assignments, in the order of the ids.

    Raises:
        ValueError: The weights are not shares that sum to 1, or the epoch is negative.
    """
    shares, held = _quota_shares(weights, experiment.audience.holdout)
    salt = salt_of(experiment)
    order_salt, offset = _quota_order(salt, epoch)
    hashed = [hash52(salt, unit) for unit in unit_ids]
    ranked = {unit: hash52(order_salt, unit) for unit, u in zip(unit_ids, hashed, strict=True) if u >= held}
    places = {place: rank for rank, place in enumerate(sorted(set(ranked.values())))}
    cuts = [int(share) * len(places) for share in shares[1:]]
    mailed = (1 << HASH_BITS) - held
    assigned = []
    for unit, u in zip(unit_ids, hashed, strict=True):
        cell, chance = HOLDOUT, held / (1 << HASH_BITS)
        if unit in ranked:
            cell = bisect_right(cuts, places[ranked[unit]] * _WEIGHT_UNIT + offset)
            weight = int(np.append(shares, _WEIGHT_UNIT)[cell + 1] - shares[cell])
            chance = weight / _WEIGHT_UNIT * mailed / (1 << HASH_BITS)
        assigned.append(Assignment(cell=cell, propensity=chance, epoch=epoch, u=u / (1 << HASH_BITS)))
    return assigned


def assign_quota_array(
    experiment: Experiment,
    unit_ids: Sequence[str] | NDArray[np.generic],
    *,
    weights: Sequence[float] | NDArray[np.float64],
    epoch: int,
) -> NDArray[np.int64]:
    """Assign everybody of one epoch at once with exact shares; the same cells as `assign_quota`.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_ids: (n,) ids of everybody in the epoch, as for `hash52_array`.
        weights: (n_cells,) shares that sum to 1.
        epoch: Number of the epoch, 0 or more.

    Returns:
        (n,) int64 cell indices, -1 for the holdout.

    Raises:
        TypeError: The ids are neither text nor integers.
        ValueError: The weights are not shares that sum to 1, the epoch is negative, or the ids cannot be hashed.
    """
    shares, held = _quota_shares(weights, experiment.audience.holdout)
    salt = salt_of(experiment)
    order_salt, offset = _quota_order(salt, epoch)
    hashed, place = hash52_array(salt, unit_ids), hash52_array(order_salt, unit_ids)
    mailed = hashed >= held
    cells = np.full(len(hashed), HOLDOUT, dtype=np.int64)
    distinct, rank = np.unique(place[mailed], return_inverse=True)
    cells[mailed] = np.searchsorted(shares[1:] * len(distinct), rank * _WEIGHT_UNIT + offset, side="right")
    return cells


def _quota_shares(weights: Sequence[float] | NDArray[np.float64], holdout: float) -> tuple[NDArray[np.int64], int]:
    """Cumulated shares below each cell in units of 2^-20, and the hash from which on a unit is mailed."""
    thresholds = _thresholds(weights, holdout)
    return _cumulated(np.asarray(weights, dtype=np.float64)), int(thresholds[0])


def _quota_order(salt: str, epoch: int) -> tuple[str, int]:
    """What keys the order of an epoch, and its offset in [0, 2^20)."""
    if epoch < 0:
        raise ValueError(f"epoch is {epoch}, must be 0 or more")
    key = f"{salt}\0quota\0{epoch}"
    return key, hash52(key, "\0offset") >> (HASH_BITS - 20)


def _passed(hashed: NDArray[np.int64], thresholds: NDArray[np.int64]) -> NDArray[np.int64]:
    """What ``searchsorted`` finds, less one; for a few thresholds five times faster, as nothing branches."""
    cells = np.full(len(hashed), -1, dtype=np.int8)
    for threshold in thresholds:
        cells += (hashed >= threshold).view(np.int8)
    return cells.astype(np.int64)


def _thresholds(weights: Sequence[float] | NDArray[np.float64], holdout: float) -> NDArray[np.int64]:
    """Lower ends of the cells in [0, 2^52), exact: hash >= threshold k and < threshold k + 1 means cell k."""
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"weights have shape {shares.shape}, must be (n_cells,)")
    if not np.isfinite(shares).all() or (shares < 0).any() or abs(float(shares.sum()) - 1) > 1e-6:
        raise ValueError(f"weights are {shares.tolist()}, must be shares >= 0 that sum to 1")
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout is {holdout}, must be in [0, 1)")
    held = round(holdout * _WEIGHT_UNIT)
    lower = held * _WEIGHT_UNIT + _cumulated(shares) * (_WEIGHT_UNIT - held)
    return lower << (HASH_BITS - 40)


def _cumulated(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Weight below each cell, in units of 2^-20."""
    below: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    return np.rint(below * _WEIGHT_UNIT).astype(np.int64)
