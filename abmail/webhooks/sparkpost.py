"""SparkPost: signs nothing; basic authentication, an OAuth 2 token, or a header of one's own tell who it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, NamedTuple

from abmail.events import EventType
from abmail.webhooks._amazon import complaint
from abmail.webhooks._item import Item
from abmail.webhooks._proof import SharedSecret
from abmail.webhooks._reading import Batch, Report, batch, json_of, listed

__all__ = ["ADAPTER", "SparkPost"]

_TYPES: Final = {
    "injection": EventType.QUEUED,
    "delivery": EventType.DELIVERED,
    "delay": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "out_of_band": EventType.BOUNCED,
    "policy_rejection": EventType.REJECTED,
    "generation_rejection": EventType.REJECTED,
    "generation_failure": EventType.FAILED,
    "spam_complaint": EventType.COMPLAINED,
    "open": EventType.OPENED,
    "initial_open": EventType.OPENED,
    "amp_open": EventType.OPENED,
    "amp_initial_open": EventType.OPENED,
    "click": EventType.CLICKED,
    "amp_click": EventType.CLICKED,
    "list_unsubscribe": EventType.UNSUBSCRIBED,
    "link_unsubscribe": EventType.UNSUBSCRIBED,
}


class _Class(NamedTuple):
    type: EventType = EventType.BOUNCED
    hard: bool = False
    machine: str = ""


# "Bounce classification codes"; those that are not listed are soft bounces, or about the mail and its sender.
_CLASSES: Final = {
    "10": _Class(hard=True),  # invalid recipient
    "30": _Class(hard=True),  # no recipient could be determined
    "60": _Class(EventType.REPLIED, machine="auto_reply"),
    "80": _Class(EventType.UNKNOWN),  # a request to subscribe
    "90": _Class(EventType.UNSUBSCRIBED),
    "100": _Class(EventType.REPLIED, machine="challenge"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkPost(SharedSecret):
    """Event webhooks.

    Attributes:
        secrets: ``user:password``, the token, or the value of the header ``X-Webhook-Secret``.
    """

    name: ClassVar[str] = "sparkpost"

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(body)), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    if "msys" not in item.fields:  # an export of the events API
        yield _report(item)
        return
    groups = item.part("msys").fields  # empty where SparkPost only asks whether we are there
    for told in groups.values():
        yield _report(Item.of(told))


def _report(told: Item) -> Report:
    kind = told.text("type")
    known = _TYPES.get(kind, EventType.UNKNOWN)
    sort = _CLASSES.get(told.text("bounce_class"), _Class()) if known is EventType.BOUNCED else _Class(known)
    type_ = complaint(told.text("fbtype")) if known is EventType.COMPLAINED else sort.type
    return Report(
        type=type_,
        at=told.time("timestamp"),
        ours=(told.part("rcpt_meta").our_id(),),
        theirs=told.text("message_id", "transmission_id"),
        id=told.text("event_id"),
        url=told.text("target_link_url"),
        agent=told.text("user_agent"),
        machine="is_prefetched" if told.says("is_prefetched") else sort.machine,
        # A mail has a pixel at its top and one at its bottom; which of them it was stays known.
        note="initial_open" if kind.endswith("initial_open") else "",
        detail=_told(type_, kind, told),
        hard=sort.hard,
    )


def _told(type_: EventType, kind: str, told: Item) -> str:
    if type_ in (EventType.OPENED, EventType.CLICKED):
        return ""
    sort = told.text("bounce_class")
    words = told.text("raw_reason", "reason", "fbtype")
    named = kind or "no kind of event" if type_ is EventType.UNKNOWN else ""
    return ": ".join(filter(None, (named, sort and f"class {sort}", words)))


ADAPTER: Final = SparkPost
