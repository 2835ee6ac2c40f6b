"""Mandrill: HMAC-SHA1 over the webhook's URL and the form's fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

from abmail.errors import WebhookError
from abmail.events import EventType
from abmail.webhooks._item import OUR_KEY, Item
from abmail.webhooks._proof import header, require_mac, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, form_of, json_of, listed

__all__ = ["ADAPTER", "Mandrill"]

_TYPES: Final = {
    "send": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "deferral": EventType.DEFERRED,
    "hard_bounce": EventType.BOUNCED,
    "soft_bounce": EventType.BOUNCED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spam": EventType.COMPLAINED,
    "unsub": EventType.UNSUBSCRIBED,
    "reject": EventType.REJECTED,
}
_FIELD: Final = "mandrill_events"
_PING_KEY: Final = b"test-webhook"  # published; it signs nothing but an empty list


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandrill:
    """Message webhooks, and those that tell of changes to the lists of allowed and denied addresses.

    Attributes:
        secrets: The webhook's key.
        url: The webhook's URL, exactly as it is written at Mandrill.
    """

    name: ClassVar[str] = "mandrill"
    secrets: tuple[str, ...] = secrets_field()
    url: str = field(metadata={"kind": str})

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:  # noqa: ARG002
        """See `Adapter.verify`."""
        fields = dict(form_of(body))
        message = self.url + "".join(f"{name}{value}" for name, value in sorted(fields.items()))
        signature = header(headers, "X-Mandrill-Signature")
        keys = [secret.encode() for secret in self.secrets]
        if fields == {_FIELD: "[]"}:  # what is sent when a webhook is made, before it has a key
            keys.append(_PING_KEY)
        require_mac(keys, message.encode("utf-8", "surrogatepass"), (signature,), digest="sha1", encoding="base64")

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(_events(body))), _read, now=now)


def _events(body: bytes) -> bytes:
    """The JSON of the events, out of the form or bare."""
    if body.lstrip()[:1] in (b"{", b"["):
        return body
    fields = dict(form_of(body))
    if _FIELD not in fields:
        raise WebhookError(f"the form has no field {_FIELD}", status=400)
    return fields[_FIELD].encode("utf-8", "surrogatepass")


def _read(item: Item) -> Iterator[Report]:
    kind, message = item.text("event", "type"), item.part("msg")
    type_ = _TYPES.get(kind, EventType.UNKNOWN)
    opened = type_ in (EventType.OPENED, EventType.CLICKED)
    yield Report(
        type=type_,
        at=item.time("ts"),
        ours=_ours(message),
        theirs=item.text("_id") or message.text("_id"),
        url=item.text("url"),
        agent=item.text("user_agent"),
        detail="" if opened else _told(type_, kind, item, message),
        hard=kind == "hard_bounce",
    )


def _told(type_: EventType, kind: str, item: Item, message: Item) -> str:
    """Words of the server, or of a change to a list."""
    places = (item.part("reject"), item.part("entry"), message.part("reject"))
    entry = next((place for place in places if place.fields), Item({}))
    named = (kind or "no kind of event") if type_ is EventType.UNKNOWN else ""
    last = list(message.parts("smtp_events"))[-1:] if type_ in (EventType.DEFERRED, EventType.DELIVERED) else []
    words = message.text("diag") or "".join(each.text("diag") for each in last) or entry.text("detail", "reason")
    parts = (named, item.text("action"), message.text("bounce_description"), words)
    return ": ".join(filter(None, parts))


def _ours(message: Item) -> tuple[str, ...]:
    """Our id among the metadata, which is an object, or a list of them."""
    listed_ids = (each.text(OUR_KEY) for each in message.parts("metadata"))
    return (message.part("metadata").our_id(), *listed_ids)


ADAPTER: Final = Mandrill
