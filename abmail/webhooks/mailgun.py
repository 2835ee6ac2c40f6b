"""Mailgun: HMAC-SHA256 over a timestamp and a token, which stand in the body. The event itself is not signed.

So each token is good for one event: it is the event's key, and whoever sends another event with it changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import MINUTES, require_fresh, require_mac, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, form_of, is_hard, json_of, listed, parts_of

__all__ = ["ADAPTER", "Mailgun"]

_TYPES: Final = {
    "accepted": EventType.QUEUED,
    "rejected": EventType.REJECTED,
    "delivered": EventType.DELIVERED,
    "failed": EventType.BOUNCED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "complained": EventType.COMPLAINED,
    "bounced": EventType.BOUNCED,  # this one and the next are from before 2018
    "dropped": EventType.REJECTED,
}
_REFUSED_BEFORE: Final = frozenset({605, 606, 607})  # bounced, unsubscribed, complained before: it was never sent
_SIGNED: Final = ("timestamp", "token", "signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailgun:
    """Webhooks of today (JSON) and from before 2018 (form fields, in several parts where a mail is attached).

    Attributes:
        secrets: The HTTP webhook signing key: the account's, or that of the account above it.
        tolerance: Seconds that a signature may be old.
    """

    name: ClassVar[str] = "mailgun"
    secrets: tuple[str, ...] = secrets_field()
    tolerance: float = 5 * MINUTES

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:  # noqa: ARG002
        """See `Adapter.verify`."""
        for item in map(Item, _objects(body)):
            proof = item.part("signature") if "event-data" in item.fields else item
            stamp, token, signature = (proof.text(name) for name in _SIGNED)
            given = (signature, proof.text("parent-signature"))  # a subaccount's events are signed by its parent, too
            require_mac((s.encode() for s in self.secrets), f"{stamp}{token}".encode("utf-8", "replace"), given)
            require_fresh(stamp, now=now, tolerance=self.tolerance)

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(_value(body)), _read, now=now)


def _objects(body: bytes) -> list[dict[str, Any]]:
    value = _value(body)
    return [value] if isinstance(value, dict) else [{}]


def _value(body: bytes) -> object:
    """The body's JSON, or its form as an object.

    A mail's own variables stand among the fields of a form. Where a name occurs twice, Mailgun's is the first one, and
    the last one of what it signed.
    """
    if body.lstrip()[:1] in (b"{", b"["):
        return json_of(body)
    found: dict[str, str] = {}
    for name, value in parts_of(body) if body.startswith(b"--") else form_of(body):
        if name in _SIGNED or name not in found:
            found[name] = value
    return found


def _read(item: Item) -> Iterator[Report]:
    inner = item.part("event-data")
    told = inner if inner.fields else item
    kind = told.text("event")
    status, info = told.part("delivery-status"), told.part("client-info")
    type_ = _type(kind, told, status)
    words = _words(told, status)
    bot = info.text("bot")
    yield Report(
        type=type_,
        at=told.time("timestamp"),
        ours=_ours(told),
        theirs=_message(told),
        id=_id(item, told),
        url=told.text("url"),
        agent=info.text("user-agent") or told.text("user-agent"),
        machine=f"bot_{bot}" if bot and bot != "none" else "",
        detail=_told(type_, kind, told, words),
        hard=type_ is EventType.BOUNCED and _is_dead(told, status, words),
    )


def _type(kind: str, told: Item, status: Item) -> EventType:
    if kind == "failed" and told.text("severity") == "temporary":
        return EventType.DEFERRED
    if kind == "failed" and _refused_before(told, status):
        return EventType.REJECTED
    return _TYPES.get(kind, EventType.UNKNOWN)


def _refused_before(told: Item, status: Item) -> bool:
    return told.text("reason").startswith("suppress-") or status.text("code") in map(str, _REFUSED_BEFORE)


def _words(told: Item, status: Item) -> str:
    found = status.text("message") or status.text("description") or told.part("reject").text("reason", "description")
    return " ".join((found or told.text("error", "notification", "description")).split())


def _told(type_: EventType, kind: str, told: Item, words: str) -> str:
    if type_ in (EventType.OPENED, EventType.CLICKED):
        return ""
    if type_ is EventType.UNKNOWN:
        return ": ".join(filter(None, (kind or "no kind of event", words)))
    refused = type_ in (EventType.BOUNCED, EventType.DEFERRED, EventType.REJECTED)
    return ": ".join(filter(None, (told.text("reason") if refused else "", words)))


def _is_dead(told: Item, status: Item, words: str) -> bool:
    code = status.text("enhanced-code") or told.text("code")
    return is_hard(words, status=code, recipient=told.text("recipient"))


def _ours(told: Item) -> tuple[str, ...]:
    variables = [told.part("user-variables"), told]
    headers = told.fields.get("message-headers")
    if isinstance(headers, str):
        variables += [Item({"v": value}).part("v") for name, value in _pairs(headers) if name == "X-Mailgun-Variables"]
    return (*(found for each in variables if (found := each.our_id())), _message(told))


def _message(told: Item) -> str:
    return told.part("message").part("headers").text("message-id") or told.text("Message-Id", "message-id")


def _pairs(text: str) -> Iterator[tuple[object, object]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    for each in found if isinstance(found, list) else ():
        if isinstance(each, list) and len(each) == 2:
            yield each[0], each[1]


def _id(item: Item, told: Item) -> str:
    """The token; in what was not signed, the event's id, which is unique within a day, with its time."""
    if token := item.part("signature").text("token") or item.text("token"):
        return token
    own = told.text("id")
    return f"{own}-{told.text('timestamp')}" if own else ""


ADAPTER: Final = Mailgun
