"""Choosing slots: the best one, some at random, a control group at a fixed hour; and what is to be logged of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from abmail._hash import HASH_BITS, hash52_array
from abmail._profile import decided_by, reaching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail._learning import Population
    from abmail._memory import Memory
    from abmail._profile import Habits

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = ["Arm", "Choices", "Why", "control_group", "draw_slots", "pick"]

_CONTROL_SALT: Final = "abmail-sendtime-control"


class Arm(StrEnum):
    """Why a recipient got a slot."""

    BEST = "best"
    EXPLORE = "explore"
    CONTROL = "control"
    FORCED = "forced"
    TEST = "test"
    MOVED = "moved"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Slots for n recipients, with what has to be logged.

    Attributes:
        slot: (n,) local hour of the week; -1 where none was allowed.
        propensity: (n,) chance that the recipient had of this slot, given that he or she is (not) in the control
            group; 0 where none was allowed.
        arm: (n,) text: ``best``, ``explore``, ``control``, ``forced`` (only one slot was allowed) or ``none``.
        chance: (n,) predicted chance of an open at the slot; NaN where none was allowed.
        chance_fixed: (n,) predicted chance at the control's slot; NaN without one.
        chance_best: (n,) predicted chance at the best slot if all were allowed: what the constraints cost.
    """

    slot: Integers
    propensity: Floats
    arm: NDArray[np.str_]
    chance: Floats
    chance_fixed: Floats
    chance_best: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What speaks for one recipient's best slot.

    Attributes:
        recipient: The id.
        known: Whether there is any history.
        segment: Its name; empty for none.
        decided_by: ``person``, ``segment`` or ``prior``.
        sends: Mails that are remembered, faded.
        opens: Opens that are remembered, faded.
        opens_by_hour: (2, 24) opens on weekdays and at weekends by local hour.
        weights: (K,) how likely each class is.
        activity: (168,) expected activity by hour of the week, mean 1.
        usual: (168,) that of the recipient's segment.
        best: The best of the slots.
        chance: Chance of an open there.
        fixed: The slot to compare with, or None.
        chance_fixed: Chance of an open there, or None.
    """

    recipient: Any
    known: bool
    segment: str
    decided_by: str
    sends: float
    opens: float
    opens_by_hour: Floats
    weights: Floats
    activity: Floats
    usual: Floats
    best: int
    chance: float
    fixed: int | None
    chance_fixed: float | None

    @classmethod
    def of(
        cls, recipient: Any, *, known: bool, segment: str, memory: Memory, habits: Habits, population: Population,
        where: Integers, slots: Integers, fixed: int | None,
    ) -> Why:  # fmt: skip
        """From the memory and habits of one recipient."""
        chances = habits.chances(reaching(population, slots))[0]
        best, classes = int(np.argmax(chances)), population.classes
        activity = habits.activity[0].astype(np.float64)
        return cls(
            recipient=recipient,
            known=known,
            segment=segment,
            decided_by=str(decided_by(habits, classes, where)[0]),
            sends=float(memory.sends[0]),
            opens=float(memory.opens[0]),
            opens_by_hour=memory.unpacked()[0][0].astype(np.float64).reshape(2, 24),
            weights=habits.weights[0].astype(np.float64),
            activity=activity / activity.mean(),
            usual=classes.shares[where[0]] @ classes.shapes,
            best=int(slots[best]),
            chance=float(chances[best]),
            fixed=fixed,
            chance_fixed=None
            if fixed is None
            else float(habits.chances(reaching(population, np.array([fixed])))[0, 0]),
        )


def control_group(ids: ArrayLike | Sequence[str], salt: str, *, share: float = 0.1) -> Booleans:
    """Who belongs to the standing control group: the same people every time, by a keyed hash.

    Args:
        ids: (n,) recipients, text or integers.
        salt: The account's; another salt makes another group.
        share: Size of the group, fraction in [0, 0.5].

    Returns:
        (n,) bool.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"share is {share}, must be in [0, 0.5]")
    array = np.asarray(ids)
    if not len(array):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(hash52_array(f"{_CONTROL_SALT}:{salt}", array) < round(share * 2**HASH_BITS))


def draw_slots(
    weights: ArrayLike, slots: ArrayLike, rng: np.random.Generator | int, *, allowed: ArrayLike
) -> tuple[Integers, Floats]:
    """Draw a slot for each recipient by weights that are the same for all, such as those of a bandit over slots.

    Args:
        weights: (m,) weight of each slot, at least 0.
        slots: (m,) local hours of the week.
        rng: A generator or a seed.
        allowed: (n, m) whether each slot may be used; weights are rescaled over the allowed ones.

    Returns:
        Slot (n,), -1 where no slot with a weight is allowed; and its propensity (n,).
    """
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not np.isfinite(shares).all() or (shares < 0).any():
        raise ValueError(f"weights are {weights!r}, must be finite numbers >= 0, one a slot")
    open_ = np.asarray(allowed, dtype=np.bool_) * shares
    total = open_.sum(axis=1)
    some = total > 0
    cumulated = np.cumsum(open_, axis=1)
    drawn = np.random.default_rng(rng).uniform(size=len(total)) * total
    place = np.minimum((cumulated <= drawn[:, np.newaxis]).sum(axis=1), len(shares) - 1)
    chance = np.take_along_axis(open_, place[:, np.newaxis], axis=1)[:, 0] / np.where(some, total, 1.0)
    return np.where(some, np.asarray(slots, dtype=np.int64)[place], -1), np.where(some, chance, 0.0)


def pick(
    chances: Floats, slots: Integers, rng: np.random.Generator | int | None, *, allowed: ArrayLike | None,
    explore: float, control: ArrayLike | None, fixed: int | None,
) -> Choices:  # fmt: skip
    """Choose from predicted chances (n, m); see `SendTime.decide`."""
    n, m = chances.shape
    mask = np.ones((n, m), np.bool_) if allowed is None else np.broadcast_to(np.asarray(allowed, np.bool_), (n, m))
    if not 0 <= explore <= 1:
        raise ValueError(f"explore is {explore}, must be in [0, 1]")
    if explore and rng is None:
        raise ValueError("rng is missing: some slots are drawn at random; give a seed or a generator, or explore=0")
    held = np.zeros(n, np.bool_) if control is None else np.asarray(control, np.bool_)
    if held.shape != (n,):
        raise ValueError(f"control has shape {held.shape}, must be ({n},)")
    if held.any() and fixed is None:
        raise ValueError("fixed is missing: the control group needs the slot at which it gets its mail")
    n_allowed = mask.sum(axis=1)
    best = np.argmax(np.where(mask, chances, -1.0), axis=1)
    place, arm = _explored(best, mask, n_allowed, explore, rng)
    propensity = np.where(place == best, 1 - explore, 0.0) + explore / np.maximum(n_allowed, 1)
    home = _fixed_place(slots, fixed)
    if home is not None:
        place = np.where(held, _next_allowed(mask, home), place)
        propensity, arm = np.where(held, 1.0, propensity), np.where(held, Arm.CONTROL, arm)
    arm = np.where(n_allowed == 0, Arm.NONE, np.where((n_allowed == 1) & ~held, Arm.FORCED, arm))
    some, row = n_allowed > 0, np.arange(n)
    return Choices(
        slot=np.where(some, slots[place], -1),
        propensity=np.where(some, propensity, 0.0),
        arm=arm,
        chance=np.where(some, chances[row, place], np.nan),
        chance_fixed=np.full(n, np.nan) if home is None else chances[:, home].copy(),
        chance_best=chances.max(axis=1),
    )


def _explored(
    best: Integers, mask: Booleans, n_allowed: Integers, explore: float, rng: np.random.Generator | int | None
) -> tuple[Integers, NDArray[np.str_]]:
    """Index of the slot, best or drawn, and the arm."""
    if not explore:
        return best, np.full(len(best), Arm.BEST, dtype="<U7")
    generator = np.random.default_rng(rng)
    at_random = generator.uniform(size=len(best)) < explore
    rank = np.floor(generator.uniform(size=len(best)) * n_allowed)
    drawn = np.argmax(np.cumsum(mask, axis=1) > rank[:, np.newaxis], axis=1)
    return np.where(at_random, drawn, best), np.where(at_random, Arm.EXPLORE, Arm.BEST).astype("<U7")


def _fixed_place(slots: Integers, fixed: int | None) -> int | None:
    if fixed is None:
        return None
    found = np.flatnonzero(slots == fixed)
    if not len(found):
        raise ValueError(f"fixed is {fixed}, must be one of the slots")
    return int(found[0])


def _next_allowed(mask: Booleans, home: int) -> Integers:
    """(n,) index of the first allowed slot from ``home`` on, round the end."""
    turned = np.roll(mask, -home, axis=1)
    return np.asarray((np.argmax(turned, axis=1) + home) % mask.shape[1])
