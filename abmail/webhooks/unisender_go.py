"""Unisender Go: the body holds an MD5 of itself, with the API key in the place of that digest."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import refusal, secrets_field
from abmail.webhooks._reading import Batch, Report, batch, is_hard, json_of, listed

__all__ = ["ADAPTER", "UnisenderGo"]

_TYPES: Final = {
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "spam": EventType.COMPLAINED,
    "soft_bounced": EventType.BOUNCED,
    "hard_bounced": EventType.BOUNCED,
}
_DEAD: Final = frozenset({"err_user_unknown", "err_user_inactive", "err_domain_inactive", ""})
_AUTH: Final = re.compile(rb'"auth"\s*:\s*"([0-9a-f]{32})"')
_MOST: Final = 4  # places that are tried; one of a mail's own variables may have that name too


@dataclass(frozen=True, slots=True, kw_only=True)
class UnisenderGo:
    """Callbacks, one event a request or many.

    Attributes:
        secrets: The API key of the user or of the project.
    """

    name: ClassVar[str] = "unisender_go"
    secrets: tuple[str, ...] = secrets_field()

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:  # noqa: ARG002
        """See `Adapter.verify`."""
        for secret in filter(None, self.secrets):
            for place in list(_AUTH.finditer(body))[:_MOST]:
                signed = body[: place.start(1)] + secret.encode() + body[place.end(1) :]
                digest = hashlib.md5(signed, usedforsecurity=False).hexdigest().encode()
                if hmac.compare_digest(digest, place[1]):
                    return
        raise refusal("the signature does not fit", hint="check the API key; nothing may change the body on its way")

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, _items(json_of(body)), _read, now=now)


def _items(value: object) -> Iterator[tuple[str, object]]:
    """The events of all users, or the only one."""
    users = value.get("events_by_user") if isinstance(value, dict) else None
    if isinstance(value, dict) and isinstance(value.get("events"), list):  # out of a file, one user's
        users = [value]
    if not isinstance(users, list):
        yield from listed(value)
        return
    for number, user in enumerate(users, start=1):
        events = user.get("events") if isinstance(user, dict) else None
        if isinstance(events, list):
            yield from ((f"user {number}, item {n}", each) for n, each in enumerate(events, start=1))
        else:
            yield f"user {number}", user


def _read(item: Item) -> Iterator[Report]:
    told = item.part("event_data") if "event_data" in item.fields else item
    status, info = told.text("status"), told.part("delivery_info")
    type_ = _TYPES.get(status, EventType.UNKNOWN)
    words = info.text("destination_response")
    opened = type_ in (EventType.OPENED, EventType.CLICKED)
    named = (status or item.text("event_name") or "no kind of event") if type_ is EventType.UNKNOWN else ""
    parts = (named, info.text("delivery_status"), words, told.text("comment"))
    yield Report(
        type=type_,
        at=told.time("event_time", "block_time"),
        ours=(told.part("metadata").our_id(),),
        theirs=told.text("job_id"),
        url=told.text("url"),
        agent=info.text("user_agent"),
        detail="" if opened else ": ".join(filter(None, parts)),
        hard=status == "hard_bounced" and (info.text("delivery_status") in _DEAD or is_hard(words)),
    )


ADAPTER: Final = UnisenderGo
