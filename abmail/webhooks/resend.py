"""Resend: signed by Svix after the Standard Webhooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._amazon import is_dead
from abmail.webhooks._item import OUR_KEY, Item
from abmail.webhooks._proof import MINUTES, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, json_of, listed
from abmail.webhooks._standard import require_standard

__all__ = ["ADAPTER", "Resend"]

_TYPES: Final = {
    "email.scheduled": EventType.QUEUED,
    "email.queued": EventType.QUEUED,
    "email.sent": EventType.SENT,
    "email.delivered": EventType.DELIVERED,
    "email.delivery_delayed": EventType.DEFERRED,
    "email.bounced": EventType.BOUNCED,
    "email.suppressed": EventType.REJECTED,
    "email.failed": EventType.FAILED,
    "email.complained": EventType.COMPLAINED,
    "email.opened": EventType.OPENED,
    "email.clicked": EventType.CLICKED,
}
_PARTS: Final = ("bounce", "failed", "suppressed", "click", "open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """Webhooks of mails.

    Attributes:
        secrets: Signing secrets, which begin with ``whsec_``.
        tolerance: Seconds that a signature may be old; each attempt is signed anew.
    """

    name: ClassVar[str] = "resend"
    secrets: tuple[str, ...] = secrets_field()
    tolerance: float = 5 * MINUTES

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """See `Adapter.verify`."""
        require_standard(headers, body, self.secrets, now=now, tolerance=self.tolerance)

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(body)), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    kind, mail = item.text("type"), item.part("data")
    type_ = _TYPES.get(kind, EventType.UNKNOWN)
    about = next((part for part in map(mail.part, _PARTS) if part.fields), Item({}))
    opened = type_ in (EventType.OPENED, EventType.CLICKED)
    yield Report(
        type=type_,
        at=item.time("created_at"),
        ours=_ours(mail),
        theirs=mail.text("email_id"),
        url=about.text("link"),
        agent=about.text("userAgent"),
        detail="" if opened else _told(type_, kind, about),
        hard=type_ is EventType.BOUNCED and _is_dead(about),
    )


def _is_dead(bounce: Item) -> bool:
    """Before the bounce had a type, its words told how hard it was."""
    words = bounce.text("message")
    if sort := bounce.text("type"):
        return is_dead(sort, bounce.text("subType"), _diagnosis(bounce))
    return "hard bounce" in words or "suppressed" in words


def _diagnosis(bounce: Item) -> str:
    found = bounce.fields.get("diagnosticCode")
    return " ".join(map(str, found)) if isinstance(found, list) else bounce.text("diagnosticCode")


def _told(type_: EventType, kind: str, about: Item) -> str:
    named = (kind or "no kind of event") if type_ is EventType.UNKNOWN else ""
    sort = "/".join(filter(None, (about.text("type"), about.text("subType"))))
    return ": ".join(filter(None, (named, sort, about.text("message", "reason"))))


def _ours(mail: Item) -> tuple[str, ...]:
    """Our tag, in either of the forms in which Resend gives tags back, or our own headers."""
    tags = (each.text("value") for each in mail.parts("tags") if each.text("name") == OUR_KEY)
    return (mail.part("tags").our_id(), *tags, *mail.our_header(), mail.text("message_id"))


ADAPTER: Final = Resend
