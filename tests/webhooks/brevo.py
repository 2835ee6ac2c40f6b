"""Brevo: https://developers.brevo.com/docs/transactional-webhooks and the report of events of its API."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from abmail.webhooks.brevo import Brevo
from webhooks.harness import OURS, Provider, Request, as_json, seen

SECRETS = ("token-of-today", "token-of-yesterday", "a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    return Request(body=as_json(payload), headers={"X-Webhook-Secret": SECRETS[secret]})


EXPECTED = {
    "test_sent_event": [
        seen("queued", at="2018-03-06T19:10:23Z", message="201803062010.27287306012@smtp-relay.mailin.fr")
    ],
    "test_delivered_event": [
        seen("delivered", at="2018-03-06T19:10:23Z", message="201803011158.9876543210@smtp-relay.mailin.fr")
    ],
    "test_hard_bounce": [
        seen(
            "bounced",
            at="2018-03-06T19:10:23Z",
            message="201803011158.9876543210@smtp-relay.mailin.fr",
            detail="RecipientError: 550 5.5.0 Requested action not taken: mailbox unavailable.",
            hard=True,
        )
    ],
    "test_soft_bounce_event": [
        seen(
            "bounced",
            at="2018-03-06T19:10:23Z",
            message="201803011158.9876543210@smtp-relay.mailin.fr",
            detail="undefined Unable to find MX of domain no-mx.example.com",
        )
    ],
    "test_blocked": [
        seen(
            "rejected",
            at="2018-03-06T19:10:23Z",
            message="201803011158.9876543210@smtp-relay.mailin.fr",
            detail="blocked : due to blacklist user",
        )
    ],
    "test_spam": [
        seen("complained", at="2018-03-06T19:10:23Z", message="201803011158.9876543210@smtp-relay.mailin.fr")
    ],
    "test_complaint": [seen("complained", at="2020-11-09T14:54:14Z", message="201798300811.5787683@relay.domain.com")],
    "test_invalid_email": [
        seen(
            "bounced",
            at="2018-03-06T19:10:23Z",
            message="201803011158.9876543210@smtp-relay.mailin.fr",
            detail="(guessing invalid_email includes a reason)",
            hard=True,
        )
    ],
    "test_error_email": [seen("failed", at="2020-11-09T14:53:43Z", message="201798300811.5787683@relay.domain.com")],
    "test_deferred_event": [
        seen(
            "deferred",
            at="2018-03-06T19:10:23Z",
            message="201803011158.9876543210@smtp-relay.mailin.fr",
            detail="550 RecipientError: 550 5.1.1 <n***@example.com>: Recipient address rejected: User unknown in virtual alias table",
        )
    ],
    "test_opened_event": [
        seen("opened", at="2018-03-06T19:10:23Z", message="201803011158.9876543210@smtp-relay.mailin.fr")
    ],
    "test_unique_opened_event": [
        seen("opened", at="2018-03-06T19:10:23Z", message="201803011158.9876543210@smtp-relay.mailin.fr")
    ],
    "test_proxy_open_event": [
        seen(
            "opened",
            at="2018-08-17T06:18:02Z",
            message="201798300811.5787683@relay.domain.com",
            verdict="machine",
            reasons=["proxy_open"],
        )
    ],
    "test_unique_proxy_open_event": [
        seen(
            "opened",
            at="2018-08-17T06:18:02Z",
            message="201798300811.5787683@relay.domain.com",
            verdict="machine",
            reasons=["proxy_open"],
        )
    ],
    "test_clicked_event": [
        seen(
            "clicked",
            at="2018-03-06T19:10:23Z",
            message="201803011158.9876543210@smtp-relay.mailin.fr",
            detail="https://example.com/click/me",
        )
    ],
    "test_unsubscribe": [
        seen("unsubscribed", at="2018-03-06T19:10:23Z", message="201803011158.9876543210@smtp-relay.mailin.fr")
    ],
}
AT = {"message-id": "<m1@smtp-relay.mailin.fr>", "ts_epoch": 1520363423000, "email": "a@example.com"}
SEEN = {"at": "2018-03-06T19:10:23Z", "message": "m1@smtp-relay.mailin.fr"}
TOLD = {"at": "2018-03-06T19:10:23Z", "ours": OURS}
DOCUMENTED = [
    *(
        ({**AT, "event": kind}, [seen(type_, hard=kind in ("hardBounces", "invalid"), **SEEN)])
        for kind, type_ in {
            "sent": "sent",
            "requests": "queued",
            "hardBounces": "bounced",
            "softBounces": "bounced",
            "bounces": "bounced",
            "clicks": "clicked",
            "uniqueOpened": "opened",
            "open": "opened",
            "invalid": "bounced",
            "unsubscribed": "unsubscribed",
            "blocked": "rejected",
            "reply": "replied",
        }.items()
    ),
    *(
        ({**AT, "event": kind}, [seen("opened", verdict="machine", reasons=["proxy_open"], **SEEN)])
        for kind in ("proxy_open", "unique_proxy_open", "loadedByProxy")
    ),
    *(({**AT, "event": kind}, [seen("unknown", detail=kind, **SEEN)]) for kind in ("list_addition", "contact_updated")),
    (
        {**AT, "event": "click", "link": "https://example.com/", "user_agent": "curl/8.0"},
        [seen("clicked", detail="https://example.com/", verdict="machine", reasons=["known_machine"], **SEEN)],
    ),
    ({**AT, "event": "opened", "X-Mailin-custom": json.dumps({"abmail_message": OURS})}, [seen("opened", **TOLD)]),
    ({**AT, "event": "opened", "X-Mailin-custom": OURS}, [seen("opened", **TOLD)]),
    ({**AT, "event": "opened", "message-id": f"<{OURS}@news.example.com>"}, [seen("opened", **TOLD)]),
    (
        {"event": "opened", "ts_event": 1604933654, "ts": 1604933619, "message-id": "m1"},
        [seen("opened", at="2020-11-09T14:54:14Z", message="m1")],
    ),
    ({"event": "opened", "ts": 1604933619}, [seen("opened", at="2020-11-09T14:53:39Z")]),
]

PROVIDER = Provider(
    adapter=Brevo(secrets=SECRETS[:2]),
    sign=sign,
    covers="nothing",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=({**AT, "event": "teleported"}, "teleported"),
)
