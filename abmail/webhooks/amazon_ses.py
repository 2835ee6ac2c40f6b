"""Amazon SES over Amazon SNS: signed with RSA over some of the fields; the certificate is Amazon's.

Over EventBridge, Firehose and raw message delivery nothing is signed: there a shared secret tells who it is.

"Verifying the signatures of Amazon SNS messages"; "Contents of event data that Amazon SES publishes to Amazon SNS";
"Amazon SNS notification contents for Amazon SES".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from abmail.errors import WebhookError
from abmail.events import EventType
from abmail.webhooks._amazon import complaint, is_dead
from abmail.webhooks._item import OUR_KEY, Item
from abmail.webhooks._proof import MINUTES, refusal, require_fresh, require_shared_secret
from abmail.webhooks._reading import Batch, Report, batch, documents_of, json_of, listed

__all__ = ["ADAPTER", "AmazonSES"]

_HOST: Final = re.compile(r"sns\.[a-z]{2}(?:-[a-z]+)+-\d\.amazonaws\.com(?:\.cn)?")
_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SUBSCRIPTION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Final = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _SUBSCRIPTION,
    "UnsubscribeConfirmation": _SUBSCRIPTION,
}
_DIGESTS: Final[dict[str, Literal["sha1", "sha256"]]] = {"1": "sha1", "2": "sha256"}
_GREETING: Final = "Successfully validated SNS topic"
_TYPES: Final = {
    "Send": EventType.SENT,
    "Reject": EventType.REJECTED,
    "Bounce": EventType.BOUNCED,
    "Complaint": EventType.COMPLAINED,
    "Delivery": EventType.DELIVERED,
    "Open": EventType.OPENED,
    "Click": EventType.CLICKED,
    "Rendering Failure": EventType.FAILED,
    "DeliveryDelay": EventType.DEFERRED,
    "Subscription": EventType.UNSUBSCRIBED,
}
_PARTS: Final = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
_AT_SENDING: Final = frozenset({"Send", "Reject", "Rendering Failure"})


def _no_fetching(url: str) -> bytes:
    raise WebhookError(f"the certificate {url} was not fetched", hint="pass `fetch` to the adapter", status=503)


@dataclass(frozen=True, slots=True, kw_only=True)
class AmazonSES:
    """Event publishing and feedback notifications, through Amazon SNS, which signs them, or without a signature.

    Attributes:
        topics: ARNs of the topics that are listened to; nobody else's is confirmed or read.
        secrets: For what Amazon signs not, which is raw message delivery of SNS and EventBridge: ``user:password`` of
            the URL, a token, or the value of the header ``X-Webhook-Secret``. Without them such bodies are refused.
        fetch: Gets a certificate from an address that was checked to be Amazon's; what it raises passes through.
        tolerance: Seconds that a notification may be old; SNS signs once, and tries again for an hour.
    """

    name: ClassVar[str] = "amazon_ses"
    topics: tuple[str, ...] = field(metadata={"kind": tuple})
    secrets: tuple[str, ...] = field(default=(), repr=False, metadata={"given": True})
    fetch: Callable[[str], bytes] = field(default=_no_fetching, repr=False, metadata={"given": True})
    tolerance: float = 60 * MINUTES

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """See `Adapter.verify`."""
        value = json_of(body)
        sns = Item(value if isinstance(value, dict) else {})
        if self.secrets and not sns.text("Type", "TopicArn"):
            require_shared_secret(headers, self.secrets)
            return
        topic, kind = sns.text("TopicArn"), sns.text("Type")
        if topic not in self.topics:
            raise refusal(f"the topic {topic[:200]!r} is not listened to", hint="name it in `topics`, if it is yours")
        if kind not in _SIGNED or sns.text("SignatureVersion") not in _DIGESTS:
            raise refusal(
                "the body is no signed message of Amazon SNS", hint="switch raw message delivery off, or give a secret"
            )
        from abmail.webhooks._crypto import key_of_certificate, require_rsa  # which reading needs not

        pem = self.fetch(_amazons(sns.text("SigningCertURL", "SigningCertUrl"), ending=".pem"))
        digest = _DIGESTS[sns.text("SignatureVersion")]
        key = key_of_certificate(pem, now=now)
        require_rsa([key], _signed(sns, _SIGNED[kind]), sns.text("Signature"), digest=digest)
        require_fresh(sns.text("Timestamp"), now=now, tolerance=self.tolerance)

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`; bare events, one or several, and those of EventBridge are read too."""
        values = documents_of(body)
        value = values[0] if len(values) == 1 else values
        sns = Item(value if isinstance(value, dict) else {})
        if sns.text("Type") not in _SIGNED or "TopicArn" not in sns.fields:
            return batch(cls.name, listed(value), _bare, now=now)
        if sns.text("Type") == "SubscriptionConfirmation":
            return Batch(confirm=_amazons(sns.text("SubscribeURL")))
        if sns.text("Type") == "UnsubscribeConfirmation" or sns.text("Message").startswith(_GREETING):
            return Batch()
        return batch(cls.name, [("", value)], _unwrapped, now=now)


def _amazons(url: str, *, ending: str = "") -> str:
    """The URL, if Amazon SNS answers there.

    Raises:
        WebhookError: It does not.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme == "https" and _HOST.fullmatch(parts.netloc) and parts.path.endswith(ending)
    except ValueError:
        fits = False
    if not fits or not url.isascii() or not url.isprintable() or "\\" in url:
        raise refusal(f"the address {url[:200]!r} is not Amazon's")
    return url


def _signed(sns: Item, names: tuple[str, ...]) -> bytes:
    """What SNS signs: names and values, a line each; a subject only where there is one."""
    present = [name for name in names if name != "Subject" or sns.fields.get(name) is not None]
    return "".join(f"{name}\n{sns.fields.get(name, '')}\n" for name in present).encode("utf-8", "surrogatepass")


def _unwrapped(sns: Item) -> Iterator[Report]:
    """The event in a message of SNS, under the message's id."""
    try:
        told = json.loads(sns.text("Message"))
    except (ValueError, RecursionError):
        raise ValueError("the message of Amazon SNS holds no JSON") from None
    yield from _under(sns.text("MessageId"), _read(Item.of(told)), at=sns.time("Timestamp"))


def _bare(item: Item) -> Iterator[Report]:
    """An event as SES publishes it, or in the envelope of EventBridge, under the envelope's id."""
    if item.text("source") != "aws.ses":
        yield from _read(item)
        return
    yield from _under(item.text("id"), _read(item.part("detail")), at=item.time("time"))


def _under(ident: str, reports: Iterable[Report], *, at: datetime | None) -> Iterator[Report]:
    """Reports under the id, and at the time, of what carried them."""
    every = list(reports)
    for number, report in enumerate(every):
        yield replace(report, id=ident if len(every) == 1 else f"{ident}-{number}", at=report.at or at)


class _Person(NamedTuple):
    address: str = ""
    status: str = ""
    words: str = ""


def _read(item: Item) -> Iterator[Report]:
    kind = item.text("eventType", "notificationType")
    about, mail = item.part(_PARTS.get(kind, kind.lower())), item.part("mail")
    at = about.time("timestamp") or (mail.time("timestamp") if kind in _AT_SENDING else None)
    for person in _people(kind, about, mail):
        yield Report(
            type=_type(kind, about),
            at=at,
            ours=_ours(mail),
            theirs=mail.text("messageId"),
            url=about.text("link"),
            agent=about.text("userAgent") if kind in {"Open", "Click"} else "",
            detail=_told(kind, about, person),
            hard=kind == "Bounce" and _is_dead(about, person),
        )


def _people(kind: str, about: Item, mail: Item) -> list[_Person]:
    """Whom an event is about: one person each, where it says so, else everybody to whom the mail went."""
    listed = {"Bounce": "bouncedRecipients", "Complaint": "complainedRecipients", "DeliveryDelay": "delayedRecipients"}
    named = [
        _Person(each.text("emailAddress"), each.text("status"), each.text("diagnosticCode"))
        for each in about.parts(listed.get(kind, ""))
    ]
    destination = about.fields.get("recipients") if kind == "Delivery" else mail.fields.get("destination")
    everybody = [_Person(to) for to in destination if isinstance(to, str)] if isinstance(destination, list) else []
    return named or everybody or [_Person()]


def _type(kind: str, about: Item) -> EventType:
    if kind == "Complaint":
        if about.text("complaintSubType") == "OnAccountSuppressionList":  # never sent at all
            return EventType.REJECTED
        return complaint(about.text("complaintFeedbackType"))
    if kind == "Subscription" and not _is_leaving(about):
        return EventType.UNKNOWN
    return _TYPES.get(kind, EventType.UNKNOWN)


def _is_leaving(about: Item) -> bool:
    """Whether the preferences of a contact changed towards no mail: of all topics, or of one."""
    preferences = about.part("newTopicPreferences")
    topics = [*preferences.parts("topicSubscriptionStatus"), *preferences.parts("topicDefaultSubscriptionStatus")]
    return preferences.says("unsubscribeAll") or any(t.text("subscriptionStatus").lower() == "optout" for t in topics)


def _is_dead(about: Item, person: _Person) -> bool:
    return is_dead(
        about.text("bounceType"), about.text("bounceSubType"), person.words,
        status=person.status, recipient=person.address,
    )  # fmt: skip


def _told(kind: str, about: Item, person: _Person) -> str:
    known: dict[str, tuple[str, ...]] = {
        "Bounce": (_pair(about.text("bounceType"), about.text("bounceSubType")), person.words),
        "Complaint": (about.text("complaintSubType"), about.text("complaintFeedbackType")),
        "DeliveryDelay": (about.text("delayType"), person.words),
        "Delivery": (about.text("smtpResponse"),),
        "Reject": (about.text("reason"),),
        "Rendering Failure": (about.text("errorMessage"),),
        "Open": (), "Click": (), "Send": (),
        "Subscription": (about.text("source"),),
    }  # fmt: skip
    return ": ".join(filter(None, known.get(kind, (kind or "no kind of event",))))


def _pair(one: str, other: str) -> str:
    return "/".join(filter(None, (one, other)))


def _ours(mail: Item) -> tuple[str, ...]:
    tags = mail.part("tags").fields.get(OUR_KEY)
    tagged = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return (*tagged, *mail.our_header(), mail.part("commonHeaders").text("messageId"))


ADAPTER: Final = AmazonSES
