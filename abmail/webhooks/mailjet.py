"""Mailjet: signs nothing; user and password in the URL tell who it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import SharedSecret
from abmail.webhooks._reading import Batch, Report, batch, json_of, listed

__all__ = ["ADAPTER", "Mailjet"]

_TYPES: Final = {
    "sent": EventType.DELIVERED,  # "successfully delivered to the recipient's server", whose reply it holds
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "bounce": EventType.BOUNCED,
    "blocked": EventType.REJECTED,
    "spam": EventType.COMPLAINED,
    "unsub": EventType.UNSUBSCRIBED,
}
_ABOUT_ADDRESS: Final = frozenset({"recipient", "domain", ""})
_NOT_DEAD: Final = frozenset({"quota exceeded", "greylisted", "relay/access denied", "blacklisted", "spam reporter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailjet(SharedSecret):
    """The event API, events one by one or grouped.

    Attributes:
        secrets: ``user:password`` of the URL.
    """

    name: ClassVar[str] = "mailjet"

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(body)), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    type_ = _type(item)
    opened = type_ in (EventType.OPENED, EventType.CLICKED)
    yield Report(
        type=type_,
        at=item.time("time"),
        ours=(item.part("Payload").our_id(), item.text("CustomID"), item.text("Payload")),
        theirs=item.text("MessageID", "mj_message_id"),
        url=item.text("url") if type_ is EventType.CLICKED else "",
        agent=item.text("agent"),
        detail="" if opened else _told(type_, item),
        hard=_is_dead(item),
    )


def _type(item: Item) -> EventType:
    if item.text("event") == "bounce" and item.text("error") == "greylisted" and not item.says("hard_bounce"):
        return EventType.DEFERRED  # "delivery will be re-attempted"
    return _TYPES.get(item.text("event"), EventType.UNKNOWN)


def _is_dead(item: Item) -> bool:
    about, error = item.text("error_related_to"), item.text("error")
    return item.says("hard_bounce") and about in _ABOUT_ADDRESS and error not in _NOT_DEAD


def _told(type_: EventType, item: Item) -> str:
    named = (item.text("event") or "no kind of event") if type_ is EventType.UNKNOWN else ""
    words = (named, item.text("error_related_to"), item.text("error"), item.text("comment", "smtp_reply", "source"))
    return ": ".join(filter(None, words))


ADAPTER: Final = Mailjet
