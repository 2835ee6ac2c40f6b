"""How the mail is shared, as a part of the report: shares, what they started from, stops, champions, delays."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from abmail._report_codec import Part

__all__ = [
    "AllocationReport",
    "ChampionReport",
    "DelayPoint",
    "DelayReport",
    "SegmentWeightsReport",
    "StoppedArmReport",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedArmReport(Part):
    """A variant that gets no more mail while its experiment goes on.

    Attributes:
        arm: The variant.
        at: When it was stopped, aware UTC datetime.
        by: ``hand`` or ``guardrail``.
        reason: Why, in English, or as somebody noted it.
        reason_ja: The same in Japanese; empty where somebody noted it.
    """

    arm: str
    at: datetime
    by: Literal["hand", "guardrail"]
    reason: str
    reason_ja: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionReport(Part):
    """The variant that got most of the mail, from one wave to the next change.

    Attributes:
        arm: The variant.
        since: When the wave opened in which it first got most, aware UTC datetime.
        wave: Number of that wave, from 1.
    """

    arm: str
    since: datetime
    wave: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentWeightsReport(Part):
    """The shares of one segment in the last wave.

    Attributes:
        segment: Value of the attribute.
        n: Mails sent to it so far.
        weights: Share of each variant, fractions that sum to 1.
    """

    segment: str
    n: int
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayPoint(Part):
    """A point of the delay curve.

    Attributes:
        seconds: Age of a mail.
        share: Share of its answers that have come in by then, fraction in [0, 1].
    """

    seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayReport(Part):
    """How long answers are taken to need, by which mails that nobody has answered yet are weighed.

    Attributes:
        arm: The variant; None for the curve of all of them.
        points: The curve, by age.
    """

    arm: str | None
    points: tuple[DelayPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationReport(Part):
    """How the mail is shared among the variants, and what that rests on.

    Attributes:
        goal: ``learn``, ``balance`` or ``earn``.
        policy: Name of the policy in the definition.
        min_weight: Share that every variant keeps.
        assignment: ``hash`` or ``quota``.
        standing: Whether people keep coming and no end is planned.
        half_life_seconds: Age at which an answer counts half; None where all count in full.
        prior_rate: Rate that was expected of every variant; None where nothing was.
        prior_worth: Mails of each variant that the expectation weighs as much as.
        prior_experiments: Earlier experiments that it was learnt from.
        alike: Chance that all variants are answered equally fast, fraction in [0, 1]; None before any answer.
        delays: The delay curve of all variants, and each variant's own where they may differ.
        stopped: Variants that get no more mail, in the order of their stops.
        champions: Who got most of the mail, in the order of the changes; of standing experiments.
        segments_by: Attribute whose values have shares of their own; None where none has.
        segments: Those shares, the largest segment first.
        statements: All this in English sentences.
        statements_ja: The same in Japanese.
    """

    goal: Literal["learn", "balance", "earn"]
    policy: str
    min_weight: float
    assignment: Literal["hash", "quota"] = "hash"
    standing: bool = False
    half_life_seconds: float | None = None
    prior_rate: float | None = None
    prior_worth: float = 0.0
    prior_experiments: int = 0
    alike: float | None = None
    delays: tuple[DelayReport, ...] = ()
    stopped: tuple[StoppedArmReport, ...] = ()
    champions: tuple[ChampionReport, ...] = ()
    segments_by: str | None = None
    segments: tuple[SegmentWeightsReport, ...] = ()
    statements: tuple[str, ...] = ()
    statements_ja: tuple[str, ...] = ()

    def _check(self) -> None:
        for name in ("min_weight", "prior_rate", "alike"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value!r}, must be a fraction in [0, 1]")
