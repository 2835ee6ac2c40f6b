"""The vocabulary of events: what can happen to a message, and who may have caused it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["HUMAN_LIKELY", "EventType", "Verdict"]


class EventType(StrEnum):
    """One vocabulary for all sources: the own tracker, SMTP, files and the providers' webhooks."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    REJECTED = "rejected"
    FAILED = "failed"
    OPENED = "opened"
    CLICKED = "clicked"
    READ = "read"
    REPLIED = "replied"
    CONVERTED = "converted"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """Who caused an event."""

    HUMAN = "human"
    PROXY = "proxy"  # a mailbox provider's image proxy, which fetches because a person opened
    SUSPECTED = "suspected"
    MACHINE = "machine"


HUMAN_LIKELY: Final = frozenset({Verdict.HUMAN, Verdict.PROXY})
"""The verdicts that count as a person's act in the default view of a result."""
