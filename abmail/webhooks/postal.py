"""Postal: signed with the server's own key, RSA with SHA-256, or with SHA-1 before version 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import header, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, is_hard, json_of, listed

__all__ = ["ADAPTER", "Postal"]

_TYPES: Final = {
    "MessageSent": EventType.DELIVERED,
    "MessageDelayed": EventType.DEFERRED,
    "MessageDeliveryFailed": EventType.FAILED,
    "MessageHeld": EventType.QUEUED,
    "MessageBounced": EventType.BOUNCED,
    "MessageLoaded": EventType.OPENED,
    "MessageLinkClicked": EventType.CLICKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postal:
    """Webhooks of a mail server.

    Attributes:
        secrets: Public keys: what ``postal default-dkim-record`` shows, whole or behind ``p=``, or PEM.
    """

    name: ClassVar[str] = "postal"
    secrets: tuple[str, ...] = secrets_field()

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:  # noqa: ARG002
        """See `Adapter.verify`; where there is a signature with SHA-256, the one with SHA-1 counts for nothing."""
        from abmail.webhooks._crypto import require_rsa  # which reading needs not

        newer = header(headers, "X-Postal-Signature-256")
        if newer:
            require_rsa(self.secrets, body, newer, digest="sha256")
        else:
            require_rsa(self.secrets, body, header(headers, "X-Postal-Signature"), digest="sha1")

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(body)), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    told = item.part("payload")
    message = told.part("original_message") if "original_message" in told.fields else told.part("message")
    words = " ".join((told.text("output") or told.text("details")).split())
    type_ = _type(item, told, message, words)
    opened = type_ in (EventType.OPENED, EventType.CLICKED)
    yield Report(
        type=type_,
        at=item.time("timestamp") or told.time("timestamp"),
        ours=(message.text("message_id"), message.text("tag")),
        theirs=message.text("message_id"),
        id=item.text("uuid"),
        url=told.text("url"),
        agent=told.text("user_agent"),
        detail="" if opened else _told(type_, item, told, message),
        hard=is_hard(words, recipient=message.text("to")),
    )


def _type(item: Item, told: Item, message: Item, words: str) -> EventType:
    """What was refused because the address is dead has bounced, whatever Postal calls it."""
    if message.text("direction") == "incoming":
        return EventType.UNKNOWN
    if "bounce" in told.fields:
        return EventType.BOUNCED
    found = _TYPES.get(item.text("event"), EventType.UNKNOWN)
    return EventType.BOUNCED if found is EventType.FAILED and is_hard(words) else found


def _told(type_: EventType, item: Item, told: Item, message: Item) -> str:
    direction = "incoming" if message.text("direction") == "incoming" else ""
    named = (item.text("event") or "no kind of event") if type_ is EventType.UNKNOWN else ""
    parts = (direction, named, told.text("details"), " ".join(told.text("output").split()))
    return ": ".join(filter(None, parts))


ADAPTER: Final = Postal
