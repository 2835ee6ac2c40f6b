"""Mailjet: https://dev.mailjet.com/email/guides/webhooks/ ."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from typing import Any

from abmail.webhooks.mailjet import Mailjet
from webhooks.harness import OURS, Provider, Request, Seen, as_json, seen

SECRETS = ("mailjet:today", "mailjet:yesterday", "mailjet:a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    return Request(
        body=as_json(payload), headers={"Authorization": f"Basic {b64encode(SECRETS[secret].encode()).decode()}"}
    )


EXPECTED = {
    "test_sent_event": [
        seen(
            "delivered",
            at="2017-06-22T01:05:27Z",
            message="12345678901234567",
            detail="sent (250 2.0.0 OK 1498093527 a67bc12345def.22 - gsmtp)",
        )
    ],
    "test_open_event": [
        seen(
            "opened",
            agent="image_proxy",
            at="2017-06-22T01:05:27Z",
            message="12345678901234567",
            verdict="proxy",
            reasons=["image_proxy"],
        )
    ],
    "test_click_event": [
        seen("opened", agent="browser", family="chrome/mac", at="2017-06-22T01:05:27Z", message="12345678901234567")
    ],
    "test_bounce_event": [
        seen(
            "bounced",
            at="2017-06-22T01:05:27Z",
            message="12345678901234567",
            detail="domain: invalid domain",
            hard=True,
        )
    ],
    "test_blocked_event": [
        seen("rejected", at="2017-06-22T01:05:27Z", message="12345678901234567", detail="domain: typofix")
    ],
    "test_spam_event": [
        seen("complained", at="2017-06-22T01:05:27Z", message="12345678901234567", detail="greylisted")
    ],
    "test_unsub_event": [seen("unsubscribed", at="2017-06-22T01:05:27Z", message="12345678901234567")],
    "test_bounced_greylist_event": [
        seen("deferred", at="2017-06-22T01:05:27Z", message="12345678901234567", detail="domain: greylisted")
    ],
    "test_non_grouped_event": [
        seen(
            "delivered",
            at="2017-06-22T01:05:27Z",
            message="12345678901234567",
            detail="sent (250 2.0.0 OK 1498093527 a67bc12345def.22 - gsmtp)",
        )
    ],
}
AT: dict[str, Any] = {"time": 1433333949, "MessageID": 19421777835146490, "email": "a@example.com"}
SEEN = {"at": "2015-06-03T12:19:09Z", "message": "19421777835146490"}
TOLD = {"at": "2015-06-03T12:19:09Z", "ours": OURS}


def bounce(about: str, error: str, *, hard: bool) -> dict[str, Any]:
    return {**AT, "event": "bounce", "blocked": hard, "hard_bounce": hard, "error_related_to": about, "error": error}


DOCUMENTED: list[tuple[Any, list[Seen]]] = [
    (
        [
            {
                **AT,
                "event": "click",
                "url": "https://mailjet.com",
                "agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/126.0",
            }
        ],
        [seen("clicked", agent="browser", family="chrome/linux", detail="https://mailjet.com", **SEEN)],
    ),
    *(
        (bounce(about, error, hard=flagged), [seen("bounced", detail=f"{about}: {error}", hard=hard, **SEEN)])
        for about, error, flagged, hard in (
            ("recipient", "user unknown", True, True),
            ("recipient", "mailbox inactive", True, True),
            ("recipient", "quota exceeded", True, False),
            ("recipient", "blacklisted", True, False),
            ("recipient", "spam reporter", True, False),
            ("domain", "invalid domain", True, True),
            ("domain", "no mail host", True, True),
            ("domain", "relay/access denied", True, False),
            ("domain", "greylisted", True, False),
            ("domain", "typofix", True, True),
            ("spam", "sender blocked", True, False),
            ("spam", "content blocked", True, False),
            ("spam", "policy issue", True, False),
            ("system", "system issue", False, False),
            ("system", "protocol issue", True, False),
            ("system", "connection issue", False, False),
            ("mailjet", "preblocked", True, False),
            ("mailjet", "duplicate in campaign", False, False),
            ("content", "error in template language", True, False),
            ("recipient", "user unknown", False, False),
        )
    ),
    (
        {**bounce("recipient", "user unknown", hard=True), "comment": "550 5.1.1 <a@example.com> unknown"},
        [seen("bounced", detail="recipient: user unknown: 550 5.1.1 <a***@example.com> unknown", hard=True, **SEEN)],
    ),
    ({**AT, "event": "open", "CustomID": OURS}, [seen("opened", **TOLD)]),
    ({**AT, "event": "open", "Payload": json.dumps({"abmail_message": OURS})}, [seen("opened", **TOLD)]),
    ({**AT, "event": "open", "Payload": OURS}, [seen("opened", **TOLD)]),
    (
        {**AT, "event": "open", "agent": "Mozilla/5.0"},
        [seen("opened", verdict="machine", reasons=["apple_privacy"], **SEEN)],
    ),
]

PROVIDER = Provider(
    adapter=Mailjet(secrets=SECRETS[:2]),
    sign=sign,
    covers="nothing",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=({**AT, "event": "teleported"}, "teleported"),
)
