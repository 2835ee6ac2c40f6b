"""Postmark: signs nothing; a user and password in the URL, or a header of one's own, tell who it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, NamedTuple

from abmail.events import EventType
from abmail.webhooks._item import Item
from abmail.webhooks._proof import SharedSecret
from abmail.webhooks._reading import Batch, Report, batch, is_hard, json_of, listed

__all__ = ["ADAPTER", "Postmark"]


class _Meaning(NamedTuple):
    type: EventType
    hard: bool = False
    machine: str = ""


_RECORDS: Final = {
    "Delivery": EventType.DELIVERED,
    "Open": EventType.OPENED,
    "Click": EventType.CLICKED,
    "Bounce": EventType.BOUNCED,
    "SpamComplaint": EventType.COMPLAINED,
    "SMTPApiError": EventType.FAILED,
}
# "Bounce types" in Postmark's documentation of its bounce API.
_SORTS: Final = {
    "HardBounce": _Meaning(EventType.BOUNCED, hard=True),
    "Transient": _Meaning(EventType.DEFERRED),
    "Unsubscribe": _Meaning(EventType.UNSUBSCRIBED),
    "Subscribe": _Meaning(EventType.UNKNOWN),
    "AutoResponder": _Meaning(EventType.REPLIED, machine="auto_reply"),
    "AddressChange": _Meaning(EventType.REPLIED, machine="auto_reply"),
    "DnsError": _Meaning(EventType.DEFERRED),
    "SpamNotification": _Meaning(EventType.BOUNCED),
    "OpenRelayTest": _Meaning(EventType.UNKNOWN),
    "Unknown": _Meaning(EventType.UNKNOWN),
    "SoftBounce": _Meaning(EventType.BOUNCED),
    "VirusNotification": _Meaning(EventType.BOUNCED),
    "ChallengeVerification": _Meaning(EventType.REPLIED, machine="challenge"),
    "BadEmailAddress": _Meaning(EventType.REJECTED),
    "SpamComplaint": _Meaning(EventType.COMPLAINED),
    "ManuallyDeactivated": _Meaning(EventType.REJECTED),
    "Unconfirmed": _Meaning(EventType.REJECTED),
    "Blocked": _Meaning(EventType.BOUNCED),
    "SMTPApiError": _Meaning(EventType.FAILED),
    "InboundError": _Meaning(EventType.UNKNOWN),
    "DMARCPolicy": _Meaning(EventType.BOUNCED),
    "TemplateRenderingFailed": _Meaning(EventType.FAILED),
}
_SUPPRESSED: Final = {
    "ManualSuppression": EventType.UNSUBSCRIBED,
    "SpamComplaint": EventType.COMPLAINED,
    "HardBounce": EventType.BOUNCED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmark(SharedSecret):
    """Webhooks of a message stream.

    Attributes:
        secrets: ``user:password`` of the URL, or the value of the header ``X-Webhook-Secret``.
    """

    name: ClassVar[str] = "postmark"

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""
        return batch(cls.name, listed(json_of(body)), _read, now=now)


def _read(item: Item) -> Iterator[Report]:
    meaning = _meaning(item)
    opened = meaning.type in (EventType.OPENED, EventType.CLICKED)
    words = item.text("Details") or item.text("Description")
    yield Report(
        type=meaning.type,
        at=item.time("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt"),
        ours=(item.part("Metadata").our_id(),),
        theirs=item.text("MessageID"),
        id=item.text("ID") and f"{item.text('RecordType')}-{item.text('ID')}",
        url=item.text("OriginalLink"),
        agent=item.text("UserAgent"),
        machine=meaning.machine,
        detail="" if opened else ": ".join(filter(None, (_kind(item, meaning.type), words))),
        hard=meaning.hard,
    )


def _meaning(item: Item) -> _Meaning:
    record = item.text("RecordType")
    if record == "SubscriptionChange":
        return _change(item)
    known = _RECORDS.get(record, EventType.UNKNOWN)
    if known not in (EventType.BOUNCED, EventType.COMPLAINED):
        return _Meaning(known)
    found = _SORTS.get(item.text("Type"))
    if found is None:  # a kind of bounce that came later
        return _Meaning(known, hard=known is EventType.BOUNCED and is_hard(item.text("Details")))
    return found


def _change(item: Item) -> _Meaning:
    """A recipient was suppressed, or is no more; what a bounce or complaint says of it came with that one before."""
    if not item.says("SuppressSending"):
        return _Meaning(EventType.UNKNOWN)
    type_ = _SUPPRESSED.get(item.text("SuppressionReason"), EventType.UNKNOWN)
    return _Meaning(type_, hard=type_ is EventType.BOUNCED)


def _kind(item: Item, type_: EventType) -> str:
    record = item.text("RecordType") or "no kind of event"
    if record == "SubscriptionChange":
        return item.text("SuppressionReason") if item.says("SuppressSending") else "Resubscribed"
    return item.text("Type") or (record if type_ is EventType.UNKNOWN else "")


ADAPTER: Final = Postmark
