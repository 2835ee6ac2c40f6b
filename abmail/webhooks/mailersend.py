"""MailerSend: HMAC-SHA256 over the raw body. Nothing tells when it was signed; the event's own id stops replays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.errors import WebhookError
from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import header, require_mac, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, json_of, listed

__all__ = ["ADAPTER", "MailerSend"]

_TYPES: Final = {
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "soft_bounced": EventType.BOUNCED,
    "hard_bounced": EventType.BOUNCED,
    "suppressed": EventType.REJECTED,
    "opened": EventType.OPENED,
    "opened_unique": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "clicked_unique": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "spam_complaint": EventType.COMPLAINED,
    "spam_complaints": EventType.COMPLAINED,
}
_PING: Final = "webhook.test"
_PING_SECRET: Final = b"test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G"  # published; it signs nothing but the ping
_REASONS: Final = (
    "readable_reason", "bounce_reason", "reject_reason", "suppression_reason", "unsubscribe_reason", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerSend:
    """Webhooks of a domain, in versions 1 and 2.

    Attributes:
        secrets: The webhook's signing secret.
    """

    name: ClassVar[str] = "mailersend"
    secrets: tuple[str, ...] = secrets_field()

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:  # noqa: ARG002
        """See `Adapter.verify`."""
        signature = (header(headers, "Signature"),)
        try:
            require_mac((secret.encode() for secret in self.secrets), body, signature)
        except WebhookError:
            if not _is_ping(body):
                raise
            require_mac((_PING_SECRET,), body, signature)

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        value = json_of(body)
        return Batch() if _kind(value) == _PING else batch(cls.name, listed(value), _read, now=now)


def _is_ping(body: bytes) -> bool:
    try:
        return _kind(json_of(body)) == _PING
    except WebhookError:
        return False


def _kind(value: object) -> str:
    return Item(value).text("type") if isinstance(value, dict) else ""


def _read(item: Item) -> Iterator[Report]:
    told = item.part("data")
    mail = told.part("email")  # an object in version 1, an address in version 2
    more = Item({**told.part("morph").fields, **told.part("meta").fields})
    kind = item.text("type").removeprefix("activity.") or told.text("type")
    type_ = _TYPES.get(kind, EventType.UNKNOWN)
    opened = type_ in (EventType.OPENED, EventType.CLICKED)
    words = ": ".join(filter(None, (more.text("bounce_code"), more.text(*_REASONS))))
    named = (item.text("type") or "no kind of event") if type_ is EventType.UNKNOWN else ""
    yield Report(
        type=type_,
        at=told.time("created_at") or item.time("created_at"),
        ours=(*_tags(mail), *_tags(told)),
        theirs=mail.part("message").text("id") or told.text("message_id"),
        id=told.text("id"),
        url=more.text("url"),
        agent=more.text("user_agent"),
        detail="" if opened else ": ".join(filter(None, (named, words))),
        hard=kind == "hard_bounced",
    )


def _tags(told: Item) -> Iterator[str]:
    """Tags are all of ours that MailerSend gives back."""
    found = told.fields.get("tags")
    yield from (tag for tag in (found if isinstance(found, list) else ()) if isinstance(tag, str))


ADAPTER: Final = MailerSend
