"""SendGrid: the signed Event Webhook (ECDSA P-256 with SHA-256 over the timestamp and the raw body)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import MINUTES, header, require_fresh, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, is_hard, json_of, listed

__all__ = ["ADAPTER", "SendGrid"]

_TYPES: Final = {
    "processed": EventType.QUEUED,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "blocked": EventType.BOUNCED,
    "dropped": EventType.REJECTED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spamreport": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "group_unsubscribe": EventType.UNSUBSCRIBED,
}
_DEAD: Final = frozenset({"invalid", "invalid address"})  # of its seven classes of bounces


@dataclass(frozen=True, slots=True, kw_only=True)
class SendGrid:
    """The Event Webhook.

    Attributes:
        secrets: Public keys, as the page "Signed Event Webhook Requests" shows them (base64), or in PEM.
        tolerance: Seconds that a signature may be old; SendGrid tries again for 24 hours.
    """

    name: ClassVar[str] = "sendgrid"
    secrets: tuple[str, ...] = secrets_field()
    tolerance: float = 24 * 60 * MINUTES + 5 * MINUTES

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """See `Adapter.verify`."""
        from abmail.webhooks._crypto import require_ecdsa  # which reading needs not

        stamp = header(headers, "X-Twilio-Email-Event-Webhook-Timestamp")
        signature = header(headers, "X-Twilio-Email-Event-Webhook-Signature")
        require_ecdsa(self.secrets, stamp.encode("utf-8", "replace") + body, signature)
        require_fresh(stamp, now=now, tolerance=self.tolerance)

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(body)), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    kind = item.text("event")
    type_ = _TYPES.get(kind, EventType.UNKNOWN)
    words = item.text("reason", "response")
    sort = item.text("type") if type_ in (EventType.BOUNCED, EventType.REJECTED) else ""
    yield Report(
        type=type_,
        at=item.time("timestamp"),
        # Unique arguments stand among the event's own fields.
        ours=(item.our_id(), item.part("unique_args").our_id(), item.text("smtp-id")),
        theirs=item.text("sg_message_id", "smtp-id"),
        id=item.text("sg_event_id"),
        url=item.text("url"),
        agent=item.text("useragent"),
        machine="sg_machine_open" if item.says("sg_machine_open") else "",
        detail=_told(type_, kind, sort, words),
        hard=_is_dead(item, words),
    )


def _told(type_: EventType, kind: str, sort: str, words: str) -> str:
    if type_ in (EventType.OPENED, EventType.CLICKED):
        return ""
    return ": ".join(filter(None, (kind if type_ is EventType.UNKNOWN else sort, words.strip())))


def _is_dead(item: Item, words: str) -> bool:
    """Of a bounce: a ``blocked`` mail, or one of another class than an invalid address, says nothing against it."""
    sort = item.text("bounce_classification").lower()
    if item.text("type") == "blocked" or item.text("event") == "blocked":
        return False
    if sort and sort != "unclassified":
        return sort in _DEAD
    return is_hard(words, status=item.text("status"), recipient=item.text("email"))


ADAPTER: Final = SendGrid
