"""Mandrill: https://mailchimp.com/developer/transactional/docs/webhooks/ ."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from abmail.webhooks.mandrill import Mandrill
from webhooks.harness import OURS, Provider, Request, seen

URL = "https://t.example.com/w/mandrill"
SECRETS = ("key-of-today", "key-of-yesterday", "a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    events = json.dumps(payload)
    digest = hmac.new(SECRETS[secret].encode(), f"{URL}mandrill_events{events}".encode(), hashlib.sha1).digest()
    return Request(
        body=urlencode({"mandrill_events": events}).encode(),
        headers={"X-Mandrill-Signature": b64encode(digest).decode()},
    )


EXPECTED = {
    "test_send_event": [seen("sent", at="2016-04-19T19:47:26Z", message="abcdef012345789abcdef012345789")],
    "test_hard_bounce_event": [
        seen(
            "bounced",
            at="2016-04-19T19:47:26Z",
            message="abcdef012345789abcdef012345789",
            detail="bad_mailbox: smtp;550 5.1.1 The email account that you tried to reach does not exist.",
            hard=True,
        )
    ],
    "test_click_event": [
        seen(
            "clicked",
            agent="browser",
            family="firefox/windows",
            at="2016-04-19T19:47:26Z",
            message="abcdef012345789abcdef012345789",
            detail="http://example.com",
        )
    ],
    "test_sync_event": [seen("unknown", detail="blacklist: add: manual edit")],
    "test_old_tracking_url": [seen("sent", at="2016-04-19T19:47:26Z", message="abcdef012345789abcdef012345789")],
}
AT = {"ts": 1384954004, "_id": "m1"}
SEEN = {"at": "2013-11-20T13:26:44Z", "message": "m1"}
TOLD = {"at": "2013-11-20T13:26:44Z", "ours": OURS}
DELAY = {"diag": "451 4.3.5 Temporarily unavailable, try again later.", "type": "deferred"}


def told(event: str, **msg: Any) -> list[dict[str, Any]]:
    return [{**AT, "event": event, "msg": {"_id": "m1", "email": "a@example.com", **msg}}]


DOCUMENTED: list[tuple[Any, list[Any]]] = [
    ([], []),
    (told("delivered", smtp_events=[{"diag": "250 OK", "type": "sent"}]), [seen("delivered", detail="250 OK", **SEEN)]),
    (told("deferral", smtp_events=[DELAY]), [seen("deferred", detail=DELAY["diag"], **SEEN)]),
    (
        told("soft_bounce", bounce_description="mailbox_full", diag="smtp;552 5.2.2 Over Quota"),
        [seen("bounced", detail="mailbox_full: smtp;552 5.2.2 Over Quota", **SEEN)],
    ),
    (told("reject"), [seen("rejected", **SEEN)]),
    (told("reject", reject={"reason": "hard-bounce"}), [seen("rejected", detail="hard-bounce", **SEEN)]),
    (told("spam"), [seen("complained", **SEEN)]),
    (told("unsub"), [seen("unsubscribed", **SEEN)]),
    (
        [{**told("open")[0], "user_agent": "Mozilla/5.0"}],
        [seen("opened", verdict="machine", reasons=["apple_privacy"], **SEEN)],
    ),
    (
        [
            {
                "type": "whitelist",
                "action": "remove",
                "entry": {"email": "a@example.com", "detail": "by hand"},
                "ts": 1384954004,
            }
        ],
        [seen("unknown", at="2013-11-20T13:26:44Z", detail="whitelist: remove: by hand")],
    ),
    ([{**AT, "event": "inbound", "msg": {}}], [seen("unknown", detail="inbound", **SEEN)]),
    (told("send", metadata={"abmail_message": OURS}), [seen("sent", **TOLD)]),
    (told("send", metadata=[{"abmail_message": OURS}]), [seen("sent", **TOLD)]),
    (told("send", metadata=[]), [seen("sent", **SEEN)]),
]

PROVIDER = Provider(
    adapter=Mandrill(secrets=SECRETS[:2], url=URL),
    sign=sign,
    covers="all",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told("teleported"), "teleported"),
)
