"""What Amazon's bounces and complaints mean, which Resend passes on as they are."""

from __future__ import annotations

from typing import Final

from abmail.events import EventType
from abmail.webhooks._reading import is_hard

__all__ = ["complaint", "is_dead"]

_LISTED: Final = frozenset({"NoEmail", "Suppressed", "OnAccountSuppressionList"})
_BY_NOBODY: Final = frozenset({"not-spam", "auth-failure", "dmarc", "virus"})  # of RFC 5965, and its relatives


def is_dead(sort: str, subsort: str, words: str, *, status: str = "", recipient: str = "") -> bool:
    """Whether a bounce says that the address is dead.

    Args:
        sort: ``Permanent``, ``Transient`` or ``Undetermined``.
        subsort: Such as ``General``, ``NoEmail``, ``Suppressed``, ``MailboxFull``.
        words: What the other server said; where it said nothing, the sort decides.
        status: Enhanced status code.
        recipient: Address.
    """
    if sort != "Permanent":
        return False
    return subsort in _LISTED or not words or is_hard(words, status=status, recipient=recipient)


def complaint(feedback: str) -> EventType:
    """What a feedback report of a kind is: most are a person's complaint."""
    if feedback.startswith("opt-out"):
        return EventType.UNSUBSCRIBED
    return EventType.UNKNOWN if feedback in _BY_NOBODY else EventType.COMPLAINED
