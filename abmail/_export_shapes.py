"""Shapes of exports: which column of a provider's report is what, and which of its words is which event.

The names are those of the providers' own documentation, spelled as `abmail._table.plain` does; a dot leads into nested
JSON. Several names for a field stand in order of preference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from abmail.events import EventType

__all__ = ["FIELDS", "IGNORED", "SHAPES", "Shape", "recognised"]

FIELDS: Final = (
    "type", "at", "message_id", "experiment", "recipient", "email", "kind", "machine", "key", "detail", "value", "url",
    "link", "hard", "verdict",
)  # fmt: skip
"""What a column can be."""

IGNORED: Final = "ignore"
"""Stands for the event of a word that says nothing of a mail."""

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the rows of an export become events.

    Attributes:
        name: For people: the provider and which of its reports.
        source: Who reports; part of an event's identity.
        columns: Field -> names of its column, in order of preference; see `FIELDS`.
        types: Word -> event type or `IGNORED`; ``word/kind`` goes before ``word``.
        known_by: Columns by which the export is told from others.
        each: Name of a list inside each row of which every element is an event.
        constants: Field -> value in all rows.
        experiments: Value of the experiment's column -> name of the experiment.
        zone: IANA zone of times without an offset.
        time_format: As `datetime.strptime` reads it; empty: found out.
        day_first: Whether 03/04/2026 is the third of April; None where nobody knows.
        hard: Kinds of a bounce that say that the address is dead.
        machines: Kinds of an open that say that no person did it.
        foreign: Whether the export also tells of mails that are not abmail's.
    """

    name: str
    source: str
    columns: Mapping[str, Names]
    types: Mapping[str, str]
    known_by: frozenset[str] = frozenset()
    each: str = ""
    constants: Mapping[str, str] = field(default_factory=dict)
    experiments: Mapping[str, str] = field(default_factory=dict)
    zone: str = "UTC"
    time_format: str = ""
    day_first: bool | None = None
    hard: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()
    foreign: bool = True


_OWN_ID: Final = ("abmail message", "x-abmail-message", "unique args", "metadata.abmail message")
_SAME: Final = {str(each): str(each) for each in EventType}

_SENDGRID: Final = {
    "processed": "queued", "dropped": "rejected", "drop": "rejected", "delivered": "delivered", "deferred": "deferred",
    "bounce": "bounced", "bounced": "bounced", "blocked": "bounced", "open": "opened",
    "opened": "opened", "click": "clicked", "clicked": "clicked", "spamreport": "complained",
    "spam report": "complained", "unsubscribe": "unsubscribed", "group unsubscribe": "unsubscribed",
    "group resubscribe": IGNORED,
}  # fmt: skip

_BREVO: Final = Shape(  # the answer of /smtp/statistics/events, and the raw events that are exported weekly
    name="Brevo events", source="brevo", known_by=frozenset({"event", "email", "messageid"}),
    types={
        "requests": "queued", "request": "queued", "delivered": "delivered", "hardbounces": "bounced",
        "hard bounce": "bounced", "softbounces": "bounced", "soft bounce": "bounced", "bounces": "bounced",
        "clicks": "clicked", "click": "clicked", "opened": "opened", "unique opened": "opened", "spam": "complained",
        "loadedbyproxy": "opened", "proxy open": "opened", "unique proxy open": "opened", "deferred": "deferred",
        "blocked": "rejected", "invalid": "bounced", "invalid email": "bounced", "error": "failed",
        "unsubscribed": "unsubscribed", "unsubscribe": "unsubscribed",
    },
    machines=frozenset({"loadedbyproxy", "proxy open", "unique proxy open"}),
    hard=frozenset({"hardbounces", "hard bounce", "invalid", "invalid email"}),
    columns={
        "type": ("event",), "at": ("date", "ts event", "ts"), "email": ("email",), "kind": ("event",),
        "message_id": ("x-mailin-custom", "messageid", "message-id"), "detail": ("reason",), "url": ("link",),
    },
)  # fmt: skip

SHAPES: Final = (
    Shape(
        name="SendGrid event webhook", source="sendgrid", known_by=frozenset({"sg event id", "event", "timestamp"}),
        types=_SENDGRID, hard=frozenset({"bounce"}),
        columns={
            "type": ("event",), "at": ("timestamp",), "message_id": (*_OWN_ID, "smtp-id"), "email": ("email",),
            "kind": ("type",), "machine": ("sg machine open",), "key": ("sg event id",),
            "detail": ("reason", "response"), "url": ("url",),
        },
    ),
    Shape(  # Email Activity: "Download CSV", and the events of a message in its API
        name="SendGrid email activity", source="sendgrid", known_by=frozenset({"processed", "event", "email"}),
        types=_SENDGRID, hard=frozenset({"bounce", "hard"}),
        columns={
            "type": ("event",), "at": ("processed",), "message_id": (*_OWN_ID, "smtp-id", "message id"),
            "email": ("email",), "kind": ("type", "bounce type"), "detail": ("reason",), "url": ("url",),
        },
    ),
    Shape(
        name="SendGrid email activity API", source="sendgrid", known_by=frozenset({"event name", "processed"}),
        types=_SENDGRID, hard=frozenset({"hard"}), each="events",
        columns={
            "type": ("event name",), "at": ("processed",), "message_id": (*_OWN_ID, "msg id"), "email": ("to email",),
            "kind": ("bounce type",), "detail": ("reason",), "url": ("url",),
        },
    ),
    Shape(
        name="Mailgun events", source="mailgun",
        known_by=frozenset({"event", "timestamp", "message.headers.message-id"}),
        types={
            "accepted": "queued", "rejected": "rejected", "delivered": "delivered", "failed/permanent": "bounced",
            "failed/temporary": "deferred", "opened": "opened", "clicked": "clicked", "unsubscribed": "unsubscribed",
            "complained": "complained", "stored": IGNORED,
        },
        hard=frozenset({"permanent"}),
        columns={
            "type": ("event",), "at": ("timestamp",), "email": ("recipient",), "kind": ("severity",),
            "message_id": ("user-variables.abmail message", "message.headers.message-id"),
            "machine": ("client-info.bot",), "key": ("id",), "url": ("url",),
            "detail": ("delivery-status.message", "delivery-status.description", "reason"),
        },
    ),
    Shape(  # the answers of /messages/outbound/opens and /clicks
        name="Postmark opens and clicks", source="postmark",
        known_by=frozenset({"recordtype", "receivedat", "recipient"}), types={"open": "opened", "click": "clicked"},
        columns={
            "type": ("recordtype",), "at": ("receivedat",), "email": ("recipient",), "message_id": _OWN_ID,
            "url": ("originallink",),
        },
    ),
    Shape(
        name="Postmark bounces", source="postmark", known_by=frozenset({"typecode", "bouncedat", "email"}),
        types={
            "hardbounce": "bounced", "softbounce": "bounced", "bademailaddress": "bounced", "dnserror": "bounced",
            "blocked": "bounced", "transient": "deferred", "spamnotification": "bounced",
            "manuallydeactivated": "rejected", "spamcomplaint": "complained", "unsubscribe": "unsubscribed",
            "subscribe": IGNORED, "autoresponder": IGNORED, "addresschange": IGNORED, "challengeverification": IGNORED,
            "openrelaytest": IGNORED, "unknown": "bounced", "smtpapierror": "failed", "inbounderror": IGNORED,
            "dmarcpolicy": "bounced", "templaterenderingfailed": "failed", "virusnotification": "bounced",
        },
        hard=frozenset({"hardbounce", "bademailaddress"}),
        columns={
            "type": ("type",), "at": ("bouncedat",), "email": ("email",), "message_id": _OWN_ID, "key": ("id",),
            "kind": ("type",), "detail": ("details", "description"),
        },
    ),
    _BREVO,
    replace(_BREVO, name="Brevo raw events", known_by=frozenset({"event", "email", "message-id"})),
    Shape(  # the answer of /reports/{campaign_id}/email-activity
        name="Mailchimp email activity", source="mailchimp", each="activity",
        known_by=frozenset({"campaign id", "email address", "action", "timestamp"}),
        types={"open": "opened", "click": "clicked", "bounce": "bounced", "sent": "sent"}, hard=frozenset({"hard"}),
        columns={
            "type": ("action",), "at": ("timestamp",), "email": ("email address",), "experiment": ("campaign id",),
            "kind": ("type",), "url": ("url",),
        },
    ),
    Shape(  # the answer of /reports/{campaign_id}/unsubscribed
        name="Mailchimp unsubscribes", source="mailchimp", constants={"type": "unsubscribed"},
        known_by=frozenset({"campaign id", "email address", "timestamp", "reason"}), types=_SAME,
        columns={
            "at": ("timestamp",), "email": ("email address",), "experiment": ("campaign id",), "detail": ("reason",),
        },
    ),
    Shape(  # the answer of /email/public/v1/events
        name="HubSpot email events", source="hubspot", known_by=frozenset({"created", "recipient", "emailcampaignid"}),
        types={
            "sent": "sent", "processed": "queued", "delivered": "delivered", "deferred": "deferred",
            "dropped": "rejected", "bounce": "bounced", "open": "opened", "click": "clicked",
            "spamreport": "complained", "print": "read", "forward": IGNORED,
            "statuschange": IGNORED, "unbounce": IGNORED, "suppression": "rejected",
        },
        hard=frozenset({"permanent failure", "unknown user", "mailbox misconfiguration"}),
        columns={
            "type": ("type",), "at": ("created",), "email": ("recipient",), "experiment": ("emailcampaignid",),
            "key": ("id",), "machine": ("filteredevent",), "kind": ("category",),
            "detail": ("response",), "url": ("url",), "message_id": ("smtpid",),
        },
    ),
    Shape(
        name="a table of events", source="file", types=_SAME | {
            "open": "opened", "click": "clicked", "bounce": "bounced", "unsubscribe": "unsubscribed",
            "complaint": "complained", "conversion": "converted", "reply": "replied", "delivery": "delivered",
            "send": "sent",
        },
        foreign=False,
        columns={
            "type": ("type", "event", "event type", "action", "イベント"),
            "at": ("at", "time", "timestamp", "date", "occurred at", "日時"),
            "message_id": ("message id", "x-abmail-message"), "experiment": ("experiment", "campaign", "実験"),
            "recipient": ("recipient", "recipient id", "contact id", "id"),
            "email": ("email", "e-mail", "email address", "address", "メールアドレス"),
            "kind": ("bounce type",), "key": ("key", "event id"), "detail": ("detail", "reason"), "value": ("value",),
            "url": ("url", "link url"), "hard": ("hard",), "verdict": ("verdict",),
            "machine": ("machine", "bot", "is bot"),
        },
        hard=frozenset({"hard", "permanent"}),
    ),
)  # fmt: skip
"""The exports that are known, the last one for any table whose columns speak for themselves."""


def recognised(columns: frozenset[str], source: str = "") -> Shape | None:
    """The shape that names most of an export's columns; None where none fits.

    Args:
        columns: Names in the export, plain.
        source: Only this provider's shapes.
    """
    fitting = [
        shape for shape in SHAPES
        if source in {"", shape.source} and shape.known_by and shape.known_by <= columns
    ]  # fmt: skip
    if fitting:
        return max(fitting, key=lambda shape: len(shape.known_by))
    last = SHAPES[-1]
    known = {role for role, names in last.columns.items() if columns & set(names)}
    usable = {"type", "at"} <= known and bool(known & {"message_id", "recipient", "email"})
    return last if usable and source in {"", last.source} else None
