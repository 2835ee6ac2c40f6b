"""How the mail is shared among the cells: the part of a definition, and what its keys contradict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Annotated, Any, Final

from abmail._fields import MissingKey, Refusal, choice
from abmail._spec_types import (
    Attribute,
    Dealing,
    Duration,
    Features,
    Flag,
    Goal,
    Policy,
    PositiveShare,
    Seed,
    Share,
    Waves,
    Weights,
)
from abmail._values import BadValue

__all__ = ["LATER_DEFAULTS", "LEARNING", "Allocation", "bad_allocation", "default_floor"]

LEARNING: Final[frozenset[str]] = frozenset({"thompson", "top_two", "exploration", "contextual"})
"""Policies that go by each cell's chance to be the best."""

LATER_DEFAULTS: Final[Mapping[str, Any]] = {"goal": "balance", "assignment": "hash", "standing": False}
"""Keys that the first definitions did not have, with what they mean there."""

_FLOORS: Final[Mapping[str, float]] = {"learn": 0.20, "balance": 0.10, "earn": 0.01}  # of a cell, by goal
_TOGETHER: Final[Mapping[str, float]] = {"learn": 0.4, "balance": 0.4, "earn": 0.04}  # of all cells
_LEANS: Final[Mapping[str, float]] = {"learn": 1.0, "balance": 1.0, "earn": 4.0}
_LEAN_OF_FACTORS: Final = 2.0  # with the goal balance: Thompson sampling alone goes on trying dozens of near cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How the mail is shared among the cells.

    Attributes:
        goal: ``learn`` proves more, ``earn`` gains more while sending, ``balance`` lies between; sets ``min_weight``.
        policy: ``thompson`` shifts mail to what works; ``test_then_send`` tests ``first_wave``, then sends the best.
        weights: Share of each cell by its name, sum 1; with policy ``fixed`` alone.
        min_weight: Smallest share of a cell; by default the goal's: 0.20, 0.10 or 0.01, in all at most 0.4; earn 0.04.
        first_wave: Share of the list in the first wave, fraction in (0, 1].
        every: Time between two waves.
        waves: Planned number of waves.
        features: With policy ``contextual``: attributes with their values, or with the numbers that begin a range.
        segments: Attribute of the recipients; each of its values then learns for itself and from the others.
        assignment: ``hash`` lets chance decide each mail; ``quota`` gives each cell its exact share of a wave.
        standing: Whether people keep coming: an epoch opens every ``every`` for those who wait, without an end.
        half_life: Age at which an answer counts half; with ``standing`` alone, everything counts in full without it.
        seed: Of the assignment and of the draws.
    """

    goal: Annotated[Goal, choice(Goal)] = "balance"
    policy: Annotated[Policy, choice(Policy)] = "thompson"
    weights: Weights | None = None
    min_weight: Share | None = None
    first_wave: PositiveShare = 0.2
    every: Duration = timedelta(hours=1)
    waves: Waves = 8
    features: Features | None = None
    segments: Attribute | None = None
    assignment: Annotated[Dealing, choice(Dealing)] = "hash"
    standing: Flag = False
    half_life: Duration | None = None
    seed: Seed = 0

    @property
    def shared_by(self) -> str | None:
        """The attributes whose values have shares of their own; None where all people share alike."""
        return ", ".join(self.features) if self.features else self.segments

    def lean(self, factors: int) -> float:
        """The power that a cell's chance to be the best is raised to at the end of the list, 1 or more.

        Args:
            factors: Number of factors whose levels the cells combine.
        """
        if self.standing:  # people keep coming: there is no end to lean towards
            return 1.0
        if self.policy == "thompson" and self.goal == "balance" and factors > 1:
            return _LEAN_OF_FACTORS
        return _LEANS[self.goal] if self.policy in {"thompson", "contextual"} else 1.0

    @property
    def learns(self) -> bool:
        """Whether later waves depend on what earlier ones have shown."""
        return self.policy not in {"uniform", "fixed"}


def default_floor(cells: int, goal: str = "balance") -> float:
    """Smallest weight of a cell where none is given: 0.20, 0.10 or 0.01 by goal, at most 0.4, 0.4 or 0.04 together.

    What floors cost grows with what they take together, whatever the number of cells.
    """
    return min(_FLOORS[goal], _TOGETHER[goal] / max(1, cells))


def bad_allocation(read: Mapping[str, Any]) -> Iterator[Refusal]:
    """Say which keys of an allocation have no meaning beside each other; locations below it.

    What says no more than the default is accepted anywhere: a resolved definition spells out every key.
    """
    policy, standing = read.get("policy", "thompson"), read.get("standing", False)
    usual = {field.name: field.default for field in fields(Allocation)}
    for key, reason, hint in (*_bad_with_policy(policy, read), *_bad_with_standing(policy, standing)):
        if key in read and read[key] != usual[key]:
            yield (key,), BadValue(reason, hint=hint)
    if policy == "contextual" and "features" not in read:
        hint = "features: {industry: [retail, health], days: [30, 90]}"
        yield ("features",), MissingKey("policy contextual needs the attributes that it goes by", hint=hint)
    half_life, every = read.get("half_life"), read.get("every", timedelta(hours=1))
    if standing and half_life is not None and half_life < every:
        yield ("half_life",), BadValue("is shorter than every: nothing would be remembered until the next epoch")


def _bad_with_policy(policy: str, read: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    without = f"has no meaning with policy {policy}"
    if policy not in {*LEARNING, "epsilon_greedy"}:
        yield "goal", without, "remove it, or write policy: thompson"
    if policy != "contextual":
        yield "features", without, "remove them, or write policy: contextual"
    if policy == "contextual":
        yield "segments", "are not needed with policy contextual", "name the attribute in features"
    if policy == "test_then_send":
        yield "min_weight", without, "remove it: everybody after the test gets the best"
        yield "waves", without, "remove it: there are two, the test and the rest"
    if policy in {"top_two", "exploration"} and read.get("goal") == "earn":
        yield "goal", f"policy {policy} finds the best at the price of earning less", "write policy: thompson"
    if policy not in LEARNING:
        yield "segments", f"policy {policy} does not learn for each segment", "write policy: thompson"


def _bad_with_standing(policy: str, standing: bool) -> Iterator[tuple[str, str, str]]:
    if not standing:
        yield "half_life", "is for experiments without an end", "add standing: true, or remove it"
        return
    for key in ("first_wave", "waves"):
        yield key, "has no meaning with standing: true", "remove it: an epoch takes everybody who waits"
    if policy == "test_then_send":
        yield "policy", "test_then_send has an end, standing: true has none", "write policy: thompson"
