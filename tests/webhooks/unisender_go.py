"""Unisender Go: https://godocs.unisender.ru/web-api-ref#callback-format and its statuses of mails."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from abmail.webhooks.unisender_go import UnisenderGo
from webhooks.harness import OURS, Provider, Request, seen

SECRETS = ("key-of-today", "key-of-yesterday", "a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    """The digest of the body with the key in it takes the key's place."""
    fields = payload if isinstance(payload, dict) else {"events_by_user": payload}
    with_key = json.dumps({"auth": SECRETS[secret], **fields}, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.md5(with_key.encode()).hexdigest()
    return Request(body=with_key.replace(SECRETS[secret], digest, 1).encode())


EXPECTED = {
    "test_error_includes_project_id_single_event": [
        seen("sent", at="2024-09-07T19:27:17Z", message="1sn15Z-0007Le-GtVN")
    ],
    "test_sent_event": [seen("sent", at="2024-09-06T23:14:19Z", message="1smi9f-00057m-86zr")],
    "test_delivered_event": [seen("delivered", at="2024-09-06T23:14:24Z", message="1smi9f-00057m-86zr")],
    "test_hard_bounced_event": [
        seen(
            "bounced",
            at="2024-09-06T23:22:40Z",
            detail="err_user_unknown: 555 5.7.1 User unknown 'b***@example.com'.",
            hard=True,
        )
    ],
    "test_soft_bounced_event": [
        seen(
            "bounced", at="2024-09-06T23:22:40Z", detail="err_mailbox_full: 554 5.2.2 Mailbox full 'f***@example.com'."
        )
    ],
    "test_spam_event": [seen("complained", detail="err_spam_rejected: 550 Spam rejected")],
    "test_unsubscribed_event": [seen("unsubscribed", detail="From unsubscribe page 'comment' field")],
    "test_opened_event": [seen("opened", agent="image_proxy", verdict="proxy", reasons=["image_proxy"])],
    "test_clicked_event": [seen("clicked", agent="browser", family="safari/", detail="https://example.com")],
    "test_multiple_event_option": [
        seen("sent", at="2024-09-07T19:27:17Z", message="1sn15Z-0007Le-GtVN"),
        seen("delivered", at="2024-09-07T19:27:17Z", message="1sn15Z-0007Le-GtVN"),
    ],
}
SEEN = {"at": "2015-11-30T15:09:42Z", "message": "j1"}


def told(status: str, **data: Any) -> dict[str, Any]:
    own = {"job_id": "j1", "email": "a@example.com", "status": status, "event_time": "2015-11-30 15:09:42", **data}
    event = {"event_name": "transactional_email_status", "event_data": own}
    return {"events_by_user": [{"user_id": 456, "project_id": "6432890213745872", "events": [event]}]}


def bounce(status: str, delivery: str, words: str) -> dict[str, Any]:
    return told(status, delivery_info={"delivery_status": delivery, "destination_response": words})


BLOCK = {"block_time": "2015-11-30 15:09:42", "block_type": "one_smtp", "domain": "domain_name", "SMTP_blocks_count": 8}
DOCUMENTED: list[tuple[Any, list[Any]]] = [
    (
        bounce("hard_bounced", "err_user_inactive", "550 no"),
        [seen("bounced", detail="err_user_inactive: 550 no", hard=True, **SEEN)],
    ),
    (
        bounce("hard_bounced", "err_domain_inactive", "550 no"),
        [seen("bounced", detail="err_domain_inactive: 550 no", hard=True, **SEEN)],
    ),
    (
        bounce("hard_bounced", "err_spam_rejected", "550 Spam rejected"),
        [seen("bounced", detail="err_spam_rejected: 550 Spam rejected", **SEEN)],
    ),
    (
        bounce("soft_bounced", "err_will_retry", "451 later"),
        [seen("bounced", detail="err_will_retry: 451 later", **SEEN)],
    ),
    (told("subscribed"), [seen("unknown", detail="subscribed", **SEEN)]),
    (
        {
            "events_by_user": [
                {"user_id": 456, "events": [{"event_name": "transactional_spam_block", "event_data": BLOCK}]}
            ]
        },
        [seen("unknown", at="2015-11-30T15:09:42Z", detail="transactional_spam_block")],
    ),
    (told("sent", metadata={"abmail_message": OURS}), [seen("sent", at="2015-11-30T15:09:42Z", ours=OURS)]),
    ({"events_by_user": []}, []),
]

PROVIDER = Provider(
    adapter=UnisenderGo(secrets=SECRETS[:2]),
    sign=sign,
    covers="all",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told("teleported"), "teleported"),
)
