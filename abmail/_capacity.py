"""When more mails want an hour than the sender can send: who moves, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abmail._hash import HASH_BITS, hash52_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = ["Fitted", "fit_capacity", "spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Places for n people in hours of limited size.

    Attributes:
        place: (n,) index of the hour, -1 where none is left.
        value: Sum of the values of the places.
        bound: Most that any other assignment could gain on this one, wishes that were kept apart; 0 proves it the best.
    """

    place: Integers
    value: float
    bound: float


def fit_capacity(value: Floats, allowed: Booleans, capacity: ArrayLike, *, wanted: Integers | None = None) -> Fitted:
    """Give everybody an hour, moving the least hurt first.

    Round by round everybody asks for his or her best hour that is not full. An hour that is asked for too often keeps
    those who would lose most by their second best one, and is full. The bound is the Lagrangian dual of the assignment
    (Geoffrion 1974) at prices that the rounds suggest, so it holds whatever the rounds did.

    Args:
        value: (n, m) worth of each hour to each person, at least 0, such as the chance of an open.
        allowed: (n, m) whether the hour may be used.
        capacity: (m,) or one number: people that an hour takes.
        wanted: (n,) index of an hour that a person keeps if it has room (a random or a fixed one), -1 for none; who
            cannot keep it takes the best that is left.

    Returns:
        The places. As many people as possible are placed in each round; who finds all allowed hours full gets none.
    """
    n, m = value.shape
    room = np.broadcast_to(np.asarray(capacity, dtype=np.int64), (m,)).copy()
    if (room < 0).any():
        raise ValueError(f"capacity is {capacity!r}, must be 0 or more")
    worth = np.where(allowed, value, -np.inf)
    asked = worth if wanted is None else _with_wishes(worth, wanted)
    place, price = np.full(n, -1, dtype=np.int64), np.zeros(m)
    waiting = np.flatnonzero(allowed.any(axis=1))
    while len(waiting):
        open_ = np.where(room > 0, asked[waiting], -np.inf)
        best = open_.argmax(axis=1)
        top = open_[np.arange(len(waiting)), best]
        waiting, best, top, open_ = (x[np.isfinite(top)] for x in (waiting, best, top, open_))
        if not len(waiting):
            break
        regret = _regret(open_, best, top)
        order = np.lexsort((-regret, best))
        rank = np.arange(len(order)) - np.searchsorted(best[order], best[order], side="left")
        kept = rank < room[best[order]]
        place[waiting[order[kept]]] = best[order[kept]]
        room -= np.bincount(best[order[kept]], minlength=m)
        turned = order[~kept]
        np.maximum.at(price, best[turned], np.where(np.isfinite(regret[turned]), regret[turned], 0.0))
        waiting = waiting[turned]
    if wanted is not None:  # an hour that was kept by wish is no choice of the split, and no part of what it might save
        kept = np.flatnonzero((wanted >= 0) & (place == wanted))
        mine = worth[kept, wanted[kept]]
        worth[kept] = -np.inf
        worth[kept, wanted[kept]] = mine
    return _judged(worth, place, price, np.broadcast_to(np.asarray(capacity, dtype=np.float64), (m,)))


def _with_wishes(worth: Floats, wanted: Integers) -> Floats:
    asked = worth.copy()
    some = np.flatnonzero(wanted >= 0)
    mine = asked[some, wanted[some]]
    asked[some, wanted[some]] = np.where(np.isfinite(mine), 2.0 + mine, mine)
    return asked


def _regret(open_: Floats, best: Integers, top: Floats) -> Floats:
    others = open_.copy()
    others[np.arange(len(best)), best] = -np.inf
    return np.asarray(top - others.max(axis=1))


def _judged(worth: Floats, place: Integers, price: Floats, capacity: Floats) -> Fitted:
    some: Booleans = np.asarray(np.isfinite(worth).any(axis=1))
    worth, place = worth[some], place[some]
    reached = float(worth[np.flatnonzero(place >= 0), place[place >= 0]].sum())
    # Any prices give a bound: what everybody would get if hours were for sale, plus what the hours would earn. Scaling
    # the suggested ones costs nothing and helps.
    bounds = [
        float(np.maximum((worth - s * price).max(axis=1), 0).sum() + s * price @ capacity) if len(worth) else 0.0
        for s in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    full = np.full(len(some), -1, dtype=np.int64)
    full[some] = place
    return Fitted(place=full, value=reached, bound=max(min(bounds) - reached, 0.0))


def spread(
    start: Floats, end: Floats, ids: ArrayLike | Sequence[str], *, salt: str, company: ArrayLike | None = None
) -> Floats:
    """Moments within the slots, so that neither a slot's mail nor a company's goes out at once.

    Colleagues with the same slot are spread evenly over it from a hashed beginning, the others by a hash: the same ids
    get the same moments every time.

    Args:
        start: (n,) first moment of each one's slot, seconds.
        end: (n,) its end.
        ids: (n,) recipients.
        salt: Such as the name of the mailing.
        company: (n,) mail domains; nobody is anybody's colleague without them.

    Returns:
        (n,) seconds, ``start <= at < end``.
    """
    own = hash52_array(f"{salt}:spread", np.asarray(ids)) / 2**HASH_BITS if len(start) else np.zeros(0)
    if company is None or not len(start):
        return np.asarray(start + own * (end - start))
    firm = hash52_array(f"{salt}:company", np.asarray(company))
    order = np.lexsort((own, start, firm))
    new = np.ones(len(order), np.bool_)
    new[1:] = (firm[order][1:] != firm[order][:-1]) | (start[order][1:] != start[order][:-1])
    group = np.cumsum(new) - 1
    size = np.bincount(group)
    rank = np.arange(len(order)) - np.flatnonzero(new)[group]
    begin = (own[order][new])[group]  # the first colleague's hash begins; one alone keeps his or her own
    part = np.empty(len(order))
    part[order] = (begin + rank / size[group]) % 1.0
    return np.asarray(np.minimum(start + part * (end - start), np.nextafter(end, start)))
