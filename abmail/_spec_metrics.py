"""What a definition measures, and whose word counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final

from abmail._fields import choice
from abmail._spec_types import Duration, Guardrails, Name, Outcome, ValueCap, Valued, ValueUnit
from abmail._values import FrozenDict

__all__ = ["LATER_DEFAULTS", "EventSources", "Metrics", "ValueMetric"]

LATER_DEFAULTS: Final[Mapping[str, Any]] = {"provisional": "5m"}
"""Keys that the first definitions did not have, with what they mean there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueMetric:
    """What mails bring in: the values of later events, summed per mail and compared beside the primary metric.

    Attributes:
        event: The event that carries the value; one without a value counts as 1.
        unit: What it is counted in, such as EUR; for the page alone.
        winsorize: Cap on what one mail can bring in, fixed before the test: a single huge order then decides nothing.
    """

    event: Annotated[Valued, choice(Valued)] = "converted"
    unit: ValueUnit = ""
    winsorize: ValueCap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSources:
    """Whose reports of a kind of event count: ``own`` for the tracker, or a mail service such as ``sendgrid``.

    Attributes:
        opened: Of opens.
        clicked: Of clicks.
        replied: Of replies.
        converted: Of conversions.
    """

    opened: Name | None = None
    clicked: Name | None = None
    replied: Name | None = None
    converted: Name | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What is measured.

    Attributes:
        primary: The event that decides.
        window: Time after the send in which the event counts.
        guardrails: Highest accepted rate of each unwanted event, fraction in [0, 1].
        value: What mails bring in, such as revenue; nothing where it is absent.
        attribution: Time after the send in which a conversion or reply belongs to the mail; ``window`` if absent.
        provisional: How long an open or click waits before shares go by it, as it may still prove a machine's.
        sources: Whose reports count where several report the same; by default the own tracker, else the first.
    """

    primary: Annotated[Outcome, choice(Outcome)] = "clicked"
    window: Duration = timedelta(hours=72)
    guardrails: Guardrails = field(default_factory=FrozenDict)
    value: ValueMetric | None = None
    attribution: Duration | None = None
    provisional: Duration = timedelta(minutes=5)
    sources: EventSources | None = None

    @property
    def belongs_within(self) -> timedelta:
        """Time after the send in which what a mail brings in is its own."""
        return self.attribution or self.window
