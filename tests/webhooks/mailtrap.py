"""Mailtrap: https://docs.mailtrap.io/email-api-smtp/advanced/webhooks ."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Any

from abmail.webhooks.mailtrap import Mailtrap
from webhooks.harness import OURS, Provider, Request, as_json, seen

SECRETS = ("secret-of-today", "secret-of-yesterday", "a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    body = as_json(payload)
    signature = hmac.new(SECRETS[secret].encode(), body, hashlib.sha256).hexdigest()
    return Request(body=body, headers={"Mailtrap-Signature": signature})


EXPECTED = {
    "test_sent_event": [
        seen(
            "delivered",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
        )
    ],
    "test_open_event": [
        seen(
            "opened",
            agent="image_proxy",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
            verdict="proxy",
            reasons=["image_proxy"],
        )
    ],
    "test_click_event": [
        seen(
            "clicked",
            agent="browser",
            family="chrome/mac",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
            detail="http://example.com/anymail",
        )
    ],
    "test_bounce_event": [
        seen(
            "bounced",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
            detail="hard: bounced (550 5.1.1 The email account that you tried to reach does not exist. a67bc12345def.22 - gsmtp)",
            hard=True,
        )
    ],
    "test_soft_bounce_event": [
        seen(
            "deferred",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
            detail="unavailable: soft bounce (450 4.2.0 The email account that you tried to reach is temporarily unavailable. a67bc12345def.22 - gsmtp)",
        )
    ],
    "test_spam_event": [
        seen(
            "complained",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
        )
    ],
    "test_unsubscribe_event": [
        seen(
            "unsubscribed",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
        )
    ],
    "test_suspension_event": [
        seen(
            "deferred",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
            detail="other",
        )
    ],
    "test_reject_event": [
        seen(
            "rejected",
            at="2017-06-22T01:05:27Z",
            message="1df37d17-0286-4d8b-8edf-bc4ec5be86e6",
            key="bede7236-2284-43d6-a953-1fdcafd0fdbc",
            detail="unknown",
        )
    ],
}
AT = {"timestamp": 1498093527, "message_id": "m1", "email": "a@example.com", "event_id": "e1"}
SEEN = {"at": "2017-06-22T01:05:27Z", "key": "e1", "message": "m1"}


def told(event: str, **more: Any) -> dict[str, Any]:
    return {"events": [{**AT, "event": event, **more}]}


DOCUMENTED = [
    (
        told("bounce", response="552 5.2.2 Mailbox full", response_code=552, bounce_category="mailboxfull"),
        [seen("bounced", detail="mailboxfull: 552 5.2.2 Mailbox full", **SEEN)],
    ),
    (told("open", user_agent="Mozilla/5.0"), [seen("opened", verdict="machine", reasons=["apple_privacy"], **SEEN)]),
    *(
        (told("bounce", bounce_category=category), [seen("bounced", detail=category, hard=hard, **SEEN)])
        for category, hard in {
            "hard": True,
            "badmailbox": True,
            "bad-domain": True,
            "inactive_mailbox": True,
            "quotaissues": False,
            "spamrelated": False,
        }.items()
    ),
    (told("bounce"), [seen("bounced", hard=True, **SEEN)]),
    (told("inbound.message_received"), [seen("unknown", detail="inbound.message_received", **SEEN)]),
    (
        told("delivery", custom_variables={"abmail_message": OURS}),
        [seen("delivered", at="2017-06-22T01:05:27Z", key="e1", ours=OURS)],
    ),
    ({**AT, "event": "delivery"}, [seen("delivered", **SEEN)]),
]

PROVIDER = Provider(
    adapter=Mailtrap(secrets=SECRETS[:2]),
    sign=sign,
    covers="all",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told("teleported"), "teleported"),
)
