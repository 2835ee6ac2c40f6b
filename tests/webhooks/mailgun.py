"""Mailgun: https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-payloads ."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from abmail.webhooks.mailgun import Mailgun
from webhooks.harness import OURS, Provider, Request, as_json, seen

SECRETS = ("key-of-today", "key-of-yesterday", "a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    stamp, token = str(int(at.timestamp())), "c0ffee" * 8 + "12"
    signature = hmac.new(SECRETS[secret].encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    proof = {"timestamp": stamp, "token": token, "signature": signature}
    event = payload.get("event-data", payload) if isinstance(payload, dict) else payload
    return Request(body=as_json({"signature": proof, "event-data": event}))


EXPECTED = {
    "test_delivered_event": [
        seen(
            "delivered",
            at="2018-08-12T21:17:17.153125Z",
            message="20180812211713.1.DF5966851B4BAA99@example.org",
            key="651869375b9df3c98fc15c4889b102119add1235c38fc92824",
            detail="OK",
        )
    ],
    "test_failed_permanent_event": [
        seen(
            "bounced",
            at="2018-08-12T21:47:02.389832Z",
            message="20180812214658.1.0DF563D0B3597700@example.org",
            detail="bounce: 5.1.1 The email account that you tried to reach does not exist. Please try 5.1.1 double-checking the recipient's email address for typos",
            hard=True,
        )
    ],
    "test_failed_temporary_event": [
        seen(
            "deferred",
            at="2018-08-12T22:11:39.659519Z",
            message="20180812214638.1.4A7D468E9BC18C5D@example.org",
            detail="generic: No MX for nomx.example.com",
        )
    ],
    "test_failed_greylisted_event": [
        seen(
            "deferred",
            at="2018-08-12T22:11:39.659519Z",
            message="20180812214638.1.4A7D468E9BC18C5D@example.org",
            detail="greylisted: Recipient address rejected: Greylisted",
        )
    ],
    "test_rejected_event": [
        seen(
            "rejected",
            at="2018-06-22T22:02:56.104692Z",
            message="20180622220256.1.B31A451A2E5422BB@sandbox55887.mailgun.org",
            detail="Sandbox subdomains are for test purposes only.",
        )
    ],
    "test_complained_event": [
        seen(
            "complained",
            at="2013-08-22T23:31:00.049634Z",
            message="20130718032413.263EE2E0926@example.org",
            key="ncV2XwymRUKbPek_MIM-Gw-1377214260.049634",
        )
    ],
    "test_unsubscribed_event": [
        seen(
            "unsubscribed",
            at="2013-08-22T23:23:11.421473Z",
            message="20130822232216.13966.79700@samples.mailgun.org",
            key="W3X4JOhFT-OZidZGKKr9iA-1377213791.421473",
        )
    ],
    "test_opened_event": [
        seen(
            "opened",
            agent="browser",
            family="/mac",
            at="2018-08-12T21:33:20.089676Z",
            message="20180812213139.1.BC6694A917BB7E6A@example.org",
        )
    ],
    "test_clicked_event": [seen("clicked", at="2018-08-12T21:33:20.089676Z", detail="https://example.com/test")],
    "test_delivery_status_is_none_event": [seen("queued")],
    "test_dropped_spam": [
        seen("rejected", detail="hardfail: Not delivering to a user who marked your messages as spam")
    ],
    "test_dropped_timed_out": [seen("rejected", detail="old: Unable to connect to MX servers: [example.com]")],
    "test_invalid_mailbox": [
        seen(
            "bounced",
            detail="550 5.1.1 The email account that you tried to reach does not exist. Please try 5.1.1 double-checking the recipient's email address for typos or 5.1.1 unnecessary spaces.",
            hard=True,
        )
    ],
    "test_alt_smtp_code": [seen("bounced", detail="smtp;550 5.1.1 RESOLVER.ADR.RecipNotFound; not found", hard=True)],
    "test_metadata_post_fields": [seen("clicked")],
    "test_metadata_key_conflicts": [
        seen(
            "clicked",
            at="2016-04-21T17:55:30Z",
            key="actual-event-token",
            detail="http://clicked.example.com/actual/event/param",
        )
    ],
    "test_misconfigured_inbound": [seen("unknown", detail="no kind of event")],
}
HEADERS = {"message": {"headers": {"message-id": "m1@example.org"}}}
AT = {"id": "e1", "timestamp": 1534109600.5, "recipient": "a@example.com", **HEADERS}
SEEN = {"at": "2018-08-12T21:33:20.5Z", "key": "e1-1534109600.5", "message": "m1@example.org"}
OUR_OWN = {"message": {"headers": {"message-id": f"{OURS}@news.example.com"}}}
TOLD = {**SEEN, "message": "", "ours": OURS}
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"


def told(**event: Any) -> dict[str, Any]:
    return {"event-data": {**AT, **event}}


DOCUMENTED = [
    (told(event="accepted"), [seen("queued", **SEEN)]),
    ({**AT, "event": "accepted"}, [seen("queued", **SEEN)]),
    (told(event="stored"), [seen("unknown", detail="stored", **SEEN)]),
    (told(event="list_member_uploaded"), [seen("unknown", detail="list_member_uploaded", **SEEN)]),
    *(
        (
            told(event=event, **{"client-info": {"bot": bot, "user-agent": CHROME}}),
            [seen(type_, verdict="machine", reasons=[f"bot_{bot}"], **SEEN)],
        )
        for event, type_ in (("opened", "opened"), ("clicked", "clicked"))
        for bot in ("apple", "gmail", "generic")
    ),
    (
        told(event="opened", **{"client-info": {"bot": "", "user-agent": CHROME}}),
        [seen("opened", agent="browser", family="chrome/linux", **SEEN)],
    ),
    (
        told(event="opened", **{"client-info": {"user-agent": "Mozilla/5.0"}}),
        [seen("opened", verdict="machine", reasons=["apple_privacy"], **SEEN)],
    ),
    (
        told(event="failed", severity="permanent", reason="suppress-bounce", **{"delivery-status": {"code": 605}}),
        [seen("rejected", detail="suppress-bounce", **SEEN)],
    ),
    (
        told(event="failed", severity="permanent", reason="generic", **{"delivery-status": {"code": 607}}),
        [seen("rejected", detail="generic", **SEEN)],
    ),
    (
        told(
            event="failed",
            severity="permanent",
            reason="old",
            **{"delivery-status": {"code": 602, "message": "Too old"}},
        ),
        [seen("bounced", detail="old: Too old", **SEEN)],
    ),
    (
        told(
            event="failed",
            severity="permanent",
            reason="bounce",
            **{"delivery-status": {"code": 550, "enhanced-code": "5.7.1", "message": "Message blocked as spam"}},
        ),
        [seen("bounced", detail="bounce: Message blocked as spam", **SEEN)],
    ),
    (told(event="delivered", **{"user-variables": {"abmail_message": OURS}}), [seen("delivered", **TOLD)]),
    (told(event="delivered", **OUR_OWN), [seen("delivered", **TOLD)]),
    (
        {"event": "opened", "abmail_message": OURS, "timestamp": "1461261330", "token": "t1"},
        [seen("opened", at="2016-04-21T17:55:30Z", ours=OURS, key="t1")],
    ),
    (
        {
            "event": "delivered",
            "timestamp": "1461261330",
            "token": "t1",
            "message-headers": json.dumps(
                [["X-Mailgun-Variables", json.dumps({"abmail_message": OURS})], ["Subject", "Hello"]]
            ),
        },
        [seen("delivered", at="2016-04-21T17:55:30Z", ours=OURS, key="t1")],
    ),
]

PROVIDER = Provider(
    adapter=Mailgun(secrets=SECRETS[:2]),
    sign=sign,
    covers="part",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told(event="teleported"), "teleported"),
)
