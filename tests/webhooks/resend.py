"""Resend: https://resend.com/docs/webhooks/event-types ; signed by the judge of our signatures, standardwebhooks."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Any

from standardwebhooks.webhooks import Webhook

from abmail.webhooks.resend import Resend
from webhooks.harness import OURS, Provider, Request, as_json, seen

SECRETS = tuple(
    f"whsec_{b64encode(text).decode()}" for text in (b"of today " * 3, b"of yesterday" * 2, b"strangers" * 3)
)


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    body = as_json(payload)
    signature = Webhook(SECRETS[secret]).sign("msg_1", at, body.decode())
    headers = {"svix-id": "msg_1", "svix-timestamp": str(int(at.timestamp())), "svix-signature": signature}
    return Request(body=body, headers=headers)


EXPECTED = {
    "test_sent_event": [seen("sent", at="2023-09-28T17:19:43.736000Z", message="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")],
    "test_delivered_event": [
        seen("delivered", at="2023-09-28T17:19:44.823000Z", message="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
    ],
    "test_hard_bounced_event": [
        seen(
            "bounced",
            at="2023-10-02T18:11:26.101000Z",
            message="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            detail="The recipient's email provider sent a hard bounce message, but didn't specify the reason for the hard bounce. We recommend removing the recipient's email address from your mailing list. Sending messages to addresses that produce hard bounces can have a negative impact on your reputation as a sender.",
            hard=True,
        )
    ],
    "test_suppressed_event": [
        seen(
            "bounced",
            at="2023-10-01T20:01:01.598000Z",
            message="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            detail="Resend has suppressed sending to this address because it is on the account-level suppression list. This does not count toward your bounce rate metric",
            hard=True,
        )
    ],
    "test_delivery_delayed_event": [
        seen("deferred", at="2023-02-22T23:41:12.126000Z", message="56761188-7520-42d8-8898-ff6fc54ce618")
    ],
    "test_complained_event": [
        seen("complained", at="2023-10-02T18:10:03.690000Z", message="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
    ],
    "test_opened_event": [
        seen("opened", at="2023-09-28T17:20:38.990000Z", message="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
    ],
    "test_clicked_event": [
        seen(
            "clicked",
            agent="browser",
            at="2023-09-28T17:21:35.257000Z",
            message="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            detail="https://example.com/test",
        )
    ],
}
SEEN = {"at": "2026-02-22T23:41:12.126Z", "message": "m1"}
TOLD = {"at": "2026-02-22T23:41:12.126Z", "ours": OURS}


def told(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "created_at": "2026-02-22T23:41:12.126Z", "data": {"email_id": "m1", **data}}


DOCUMENTED = [
    (told("email.scheduled"), [seen("queued", **SEEN)]),
    (
        told("email.failed", failed={"reason": "reached_daily_quota"}),
        [seen("failed", detail="reached_daily_quota", **SEEN)],
    ),
    (
        told("email.suppressed", suppressed={"message": "On the list", "type": "OnAccountSuppressionList"}),
        [seen("rejected", detail="OnAccountSuppressionList: On the list", **SEEN)],
    ),
    *(
        (
            told("email.bounced", bounce={"type": sort, "subType": subsort, "message": "Words"}),
            [seen("bounced", detail=f"{sort}/{subsort}: Words", hard=hard, **SEEN)],
        )
        for sort, subsort, hard in (
            ("Permanent", "General", True),
            ("Permanent", "NoEmail", True),
            ("Permanent", "Suppressed", True),
            ("Transient", "General", False),
            ("Transient", "MailboxFull", False),
            ("Transient", "ContentRejected", False),
            ("Undetermined", "Undetermined", False),
        )
    ),
    (
        told(
            "email.bounced",
            bounce={
                "type": "Permanent",
                "subType": "General",
                "message": "Words",
                "diagnosticCode": ["smtp; 550 5.7.1 Message blocked as spam"],
            },
        ),
        [seen("bounced", detail="Permanent/General: Words", **SEEN)],
    ),
    (told("email.received"), [seen("unknown", detail="email.received", **SEEN)]),
    (
        {
            "type": "contact.updated",
            "created_at": "2026-02-22T23:41:12.126Z",
            "data": {"id": "c1", "unsubscribed": True},
        },
        [seen("unknown", at="2026-02-22T23:41:12.126Z", detail="contact.updated")],
    ),
    (
        told("email.opened", open={"userAgent": "Mozilla/5.0"}),
        [seen("opened", verdict="machine", reasons=["apple_privacy"], **SEEN)],
    ),
    (told("email.opened", tags={"abmail_message": OURS}), [seen("opened", **TOLD)]),
    (told("email.opened", tags=[{"name": "abmail_message", "value": OURS}]), [seen("opened", **TOLD)]),
    (told("email.opened", headers=[{"name": "X-Abmail-Message", "value": OURS}]), [seen("opened", **TOLD)]),
    (told("email.opened", message_id=f"<{OURS}@news.example.com>"), [seen("opened", **TOLD)]),
]

PROVIDER = Provider(
    adapter=Resend(secrets=SECRETS[:2]),
    sign=sign,
    covers="all",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told("email.teleported"), "email.teleported"),
)
