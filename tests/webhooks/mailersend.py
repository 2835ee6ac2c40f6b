"""MailerSend: https://developers.mailersend.com/api/v1/webhooks.html ; data in versions 1 and 2."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from abmail.webhooks.mailersend import MailerSend
from webhooks.harness import OURS, Provider, Request, seen

SECRETS = ("secret-of-today", "secret-of-yesterday", "a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    body = json.dumps(payload).replace("/", "\\/").encode()  # as MailerSend writes it
    return Request(
        body=body, headers={"Signature": hmac.new(SECRETS[secret].encode(), body, hashlib.sha256).hexdigest()}
    )


EXPECTED = {
    "test_sent_event": [
        seen(
            "sent", at="2023-02-27T21:09:49.506000Z", message="63fd1c1d5f010335ed07066b", key="63fd1c1d31b9c750540fe85c"
        )
    ],
    "test_delivered_event": [
        seen(
            "delivered",
            at="2023-02-27T21:09:51.865000Z",
            message="63fd1c1d5f010335ed07066b",
            key="63fd1c1fcfbe46145d003a7b",
        )
    ],
    "test_hard_bounced_event": [
        seen(
            "bounced",
            at="2023-02-27T21:48:13.593000Z",
            message="63fd25194d5edba3da09e044",
            key="63fd251d5c00f8e52001fce6",
            detail="Host or domain name not found",
            hard=True,
        )
    ],
    "test_soft_bounced_event": [
        seen(
            "bounced",
            at="2022-08-08T13:51:52.747000Z",
            message="62fb66bef54a112e920b5493",
            key="62f114f8165fe0d8db0288e5",
            detail="Unknown reason",
        )
    ],
    "test_spam_complaint_event": [
        seen(
            "complained",
            at="2022-08-08T13:51:52.747000Z",
            message="62fb66bef54a112e920b5493",
            key="62f114f8165fe0d8db0288e5",
        )
    ],
    "test_unsubscribed_event": [
        seen(
            "unsubscribed",
            at="2023-02-27T21:33:54.791000Z",
            message="63fd1c1d5f010335ed07066b",
            key="63fd21c23f2bdd360e07d6b2",
            detail="I get too many emails",
        )
    ],
    "test_opened_event": [
        seen(
            "opened",
            at="2023-02-27T21:17:57.025000Z",
            message="63fd1c1d5f010335ed07066b",
            key="63fd1e05532bd6cc700a793b",
        )
    ],
    "test_clicked_event": [
        seen(
            "clicked",
            at="2023-02-27T21:14:11.691000Z",
            message="63fd1c1d5f010335ed07066b",
            key="63fd1d23afa3c770b00da7d3",
            detail="https://example.com/test",
        )
    ],
}
SEEN = {"at": "2025-08-05T21:23:54Z", "key": "e1", "message": "m1"}


def told(kind: str, meta: Any = (), **data: Any) -> dict[str, Any]:
    """Version 2, whose ``meta`` is an empty list where there is nothing to say."""
    own = {"id": "e1", "message_id": "m1", "type": kind, "email": "a@example.com", "meta": meta or [], **data}
    return {"type": f"activity.{kind}", "created_at": "2025-08-05T21:23:54.000000Z", "data": own}


DOCUMENTED: list[tuple[Any, list[Any]]] = [
    (
        {"type": "webhook.test", "message": "This is a ping test message", "created_at": "2026-03-27T07:24:20.577080Z"},
        [],
    ),
    *(
        (told(kind), [seen(type_, **SEEN)])
        for kind, type_ in {
            "sent": "sent",
            "delivered": "delivered",
            "deferred": "deferred",
            "soft_bounced": "bounced",
            "opened": "opened",
            "opened_unique": "opened",
            "clicked": "clicked",
            "clicked_unique": "clicked",
            "unsubscribed": "unsubscribed",
            "spam_complaint": "complained",
            "spam_complaints": "complained",
            "suppressed": "rejected",
        }.items()
    ),
    (
        told("hard_bounced", {"bounce_code": 550, "bounce_reason": "User unknown"}),
        [seen("bounced", detail="550: User unknown", hard=True, **SEEN)],
    ),
    (
        told("clicked", {"url": "https://example.com/", "user_agent": "curl/8.0"}),
        [seen("clicked", detail="https://example.com/", verdict="machine", reasons=["known_machine"], **SEEN)],
    ),
    (told("unsubscribed", {"unsubscribe_reason": "Too many"}), [seen("unsubscribed", detail="Too many", **SEEN)]),
    (told("survey_opened"), [seen("unknown", detail="activity.survey_opened", **SEEN)]),
    (
        {"type": "maintenance.start", "created_at": "2025-08-05 22:27:14", "data": {}},
        [seen("unknown", at="2025-08-05T22:27:14Z", detail="maintenance.start")],
    ),
    (told("opened", tags=["spring", OURS]), [seen("opened", at="2025-08-05T21:23:54Z", key="e1", ours=OURS)]),
]

PROVIDER = Provider(
    adapter=MailerSend(secrets=SECRETS[:2]),
    sign=sign,
    covers="all",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told("teleported"), "activity.teleported"),
)
