"""Addresses that bounce softly again and again: full mailboxes that nobody empties; `abmail.store` alone imports it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail.bounces import SOFT_BOUNCES, SOFT_DAYS
from abmail.events import Event, EventType

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["soft_bouncer"]

_WINDOW: Final = timedelta(days=SOFT_DAYS)
_BOUNCES: Final = (
    sa.select(t.events.c.message, t.events.c.at, t.events.c.body)
    .join(t.messages, t.messages.c.id == t.events.c.message)
    .where(t.messages.c.recipient == sa.bindparam("recipient"), t.events.c.type == EventType.BOUNCED.value)
    .where(t.events.c.at.between(sa.bindparam("first"), sa.bindparam("last")))
    .order_by(t.events.c.at)
)
"""The bounces of a recipient in a stretch of time."""


def soft_bouncer(db: sa.Connection, recipient: str, event: Event) -> str:
    """Why a recipient is to be mailed no more after a soft bounce that was just stored; empty where it may be.

    The bounces must be of different messages, within 30 days around this one: reports come late and in any order.
    """
    if not _is_soft(event):
        return ""
    bounds = {"recipient": recipient, "first": event.at - _WINDOW, "last": event.at + _WINDOW}
    found = [(row.message, row.at) for row in db.execute(_BOUNCES, bounds) if _is_soft(Event.from_dict(row.body))]
    return "soft-bounced" if any(_too_many(found, at) for _, at in found) else ""


def _is_soft(event: Event) -> bool:
    """A refusal of the message or its sender says nothing against the address."""
    return event.type == EventType.BOUNCED and not event.hard and not event.detail.startswith("policy:")


def _too_many(found: list[tuple[str, datetime]], begin: datetime) -> bool:
    return len({message for message, at in found if begin <= at <= begin + _WINDOW}) >= SOFT_BOUNCES
