"""Brevo: signs nothing; basic authentication, a token, or a header of one's own tell who it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import SharedSecret
from abmail.webhooks._reading import Batch, Report, batch, json_of, listed

__all__ = ["ADAPTER", "Brevo"]

# Without "_" and case: webhooks say hard_bounce, the report of events hardBounces.
_TYPES: Final = {
    "request": EventType.QUEUED,
    "requests": EventType.QUEUED,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "hardbounce": EventType.BOUNCED,
    "hardbounces": EventType.BOUNCED,
    "softbounce": EventType.BOUNCED,
    "softbounces": EventType.BOUNCED,
    "bounces": EventType.BOUNCED,
    "invalidemail": EventType.BOUNCED,
    "invalid": EventType.BOUNCED,
    "blocked": EventType.REJECTED,
    "error": EventType.FAILED,
    "spam": EventType.COMPLAINED,
    "complaint": EventType.COMPLAINED,
    "opened": EventType.OPENED,
    "open": EventType.OPENED,
    "uniqueopened": EventType.OPENED,
    "proxyopen": EventType.OPENED,
    "uniqueproxyopen": EventType.OPENED,
    "loadedbyproxy": EventType.OPENED,
    "click": EventType.CLICKED,
    "clicks": EventType.CLICKED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "reply": EventType.REPLIED,
}
_DEAD: Final = frozenset({"hardbounce", "hardbounces", "invalidemail", "invalid"})
_BY_PROXY: Final = frozenset({"proxyopen", "uniqueproxyopen", "loadedbyproxy"})
_CUSTOM: Final = "X-Mailin-custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brevo(SharedSecret):
    """Webhooks of transactional and of marketing mails.

    Attributes:
        secrets: ``user:password``, the token, or the value of the header ``X-Webhook-Secret``.
    """

    name: ClassVar[str] = "brevo"

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(body)), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    kind = item.text("event")
    plain = kind.replace("_", "").lower()
    type_ = _TYPES.get(plain, EventType.UNKNOWN)
    words = " ".join(item.text("reason").split())
    named = (kind or "no kind of event") if type_ is EventType.UNKNOWN else ""
    yield Report(
        type=type_,
        # "ts" and "date" are in the account's own time zone, and are not told apart from UTC.
        at=item.time("ts_epoch", "s_epoch", "ts_event", "ts"),
        ours=(item.part(_CUSTOM).our_id(), item.text(_CUSTOM), item.text("message-id", "messageId")),
        theirs=item.text("message-id", "messageId"),
        url=item.text("link", "URL"),
        agent=item.text("user_agent"),
        machine="proxy_open" if plain in _BY_PROXY else "",
        detail=": ".join(filter(None, (named, words))),
        hard=plain in _DEAD,
    )


ADAPTER: Final = Brevo
