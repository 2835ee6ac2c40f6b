"""Mailtrap: HMAC-SHA256 over the raw body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import header, require_mac, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, is_hard, json_of, listed

__all__ = ["ADAPTER", "Mailtrap"]

_TYPES: Final = {
    "delivery": EventType.DELIVERED,
    "soft bounce": EventType.DEFERRED,  # Mailtrap tries again
    "bounce": EventType.BOUNCED,
    "suspension": EventType.DEFERRED,
    "reject": EventType.REJECTED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spam": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
}
_DEAD: Final = frozenset({"badmailbox", "baddomain", "inactivemailbox"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailtrap:
    """Webhooks of sending.

    Attributes:
        secrets: The webhook's signature secret.
    """

    name: ClassVar[str] = "mailtrap"
    secrets: tuple[str, ...] = secrets_field()

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:  # noqa: ARG002
        """See `Adapter.verify`."""
        require_mac((secret.encode() for secret in self.secrets), body, (header(headers, "Mailtrap-Signature"),))

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        value = json_of(body)
        inner = value.get("events") if isinstance(value, dict) else None
        return batch(cls.name, listed(inner if isinstance(inner, list) else value), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    kind = item.text("event")
    type_ = _TYPES.get(kind, EventType.UNKNOWN)
    opened = type_ in (EventType.OPENED, EventType.CLICKED)
    named = (kind or "no kind of event") if type_ is EventType.UNKNOWN else ""
    parts = (named, item.text("bounce_category"), item.text("response", "reason"))
    yield Report(
        type=type_,
        at=item.time("timestamp"),
        ours=(item.part("custom_variables").our_id(),),
        theirs=item.text("message_id"),
        id=item.text("event_id"),
        url=item.text("url"),
        agent=item.text("user_agent"),
        detail="" if opened else ": ".join(filter(None, parts)),
        hard=kind == "bounce" and _is_dead(item),
    )


def _is_dead(item: Item) -> bool:
    """By Mailtrap's own category where that is about the address, else by the words of the server, if there are any."""
    category = "".join(filter(str.isalpha, item.text("bounce_category").lower()))
    words = item.text("response")
    return category in _DEAD or (is_hard(words, recipient=item.text("email")) if words else category in {"", "hard"})


ADAPTER: Final = Mailtrap
