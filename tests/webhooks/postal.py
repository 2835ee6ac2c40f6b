"""Postal: https://docs.postalserver.io/developer/webhooks ."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from abmail.webhooks.postal import Postal
from webhooks.amazon_ses import key_of
from webhooks.harness import OURS, Provider, Request, as_json, seen


def _public(number: int) -> str:
    der = (
        key_of(number)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return b64encode(der).decode()


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    """Secret 1 is a server before version 3."""
    body, old = as_json(payload), secret == 1
    signature = key_of(secret).sign(body, padding.PKCS1v15(), hashes.SHA1() if old else hashes.SHA256())
    name = "X-Postal-Signature" if old else "X-Postal-Signature-256"
    return Request(body=body, headers={name: b64encode(signature).decode()})


EXPECTED = {
    "test_bounce_event": [
        seen(
            "bounced",
            at="2020-11-30T16:18:21.961181Z",
            message="7b82aac4-5d63-41b8-8e35-9faa31a892dc@rp.postal.example.com",
            key="0fcc831f-92b9-4e2b-97f2-d873abc77fab",
            detail="details: server output",
        )
    ],
    "test_deferred_event": [
        seen(
            "deferred",
            at="2020-11-30T16:18:21.961181Z",
            message="7b095c0e-2c98-4e68-a41f-7bd217a83925@rp.postal.example.com",
            key="0fcc831f-92b9-4e2b-97f2-d873abc77fab",
            detail="details: server output",
        )
    ],
    "test_queued_event": [
        seen(
            "queued",
            at="2020-11-30T16:18:21.330977Z",
            message="ec7b6375-4045-451a-9503-2a23a607c1c1@rp.postal.example.com",
            key="9be13015-2e54-456c-bf66-eacbe33da824",
            detail="Recipient (s***@example.com) is on the suppression list: server output",
        )
    ],
    "test_failed_event": [
        seen(
            "failed",
            at="2020-11-30T16:18:21.084981Z",
            ours="cfb29da8ed1e4ed5a6c8a0f24d7a9ef3",
            key="5fec5077-dae7-4989-94d5-e1963f3e9181",
            detail="Could not deliver: server output",
        )
    ],
    "test_delivered_event": [
        seen(
            "delivered",
            at="2020-11-30T16:18:21.354368Z",
            message="c462ad36-be49-469c-b7b2-dfd317eb40fa@rp.postal.example.com",
            key="58e8d7ee-2cd5-4db2-9af3-3f436105795a",
            detail="Message for r***@example.com accepted: 250 2.0.0 OK",
        )
    ],
    "test_ignore_incoming_events": [
        seen(
            "unknown",
            at="2020-11-30T17:06:54.694645Z",
            message="asdf@other-mta.example.com",
            key="a01724c0-0d1a-4090-89aa-c3da5a683375",
            detail="incoming: MessageDeliveryFailed: Received a 400 from https://anymail.example.com/anymail/postal/tracking/.: Not found",
        )
    ],
}
SEEN = {"at": "2016-12-30T17:00:08.25Z", "key": "e1", "message": "m1@rp.postal.example.com"}
MESSAGE = {"id": 12345, "direction": "outgoing", "message_id": "m1@rp.postal.example.com", "to": "a@example.com"}


def told(event: str, message: dict[str, Any] | None = None, **payload: Any) -> dict[str, Any]:
    inner = {"message": {**MESSAGE, **(message or {})}, **payload}
    return {"event": event, "timestamp": 1483117208.25, "payload": inner, "uuid": "e1"}


DOCUMENTED = [
    (
        told("MessageLoaded", user_agent="Mozilla/5.0"),
        [seen("opened", verdict="machine", reasons=["apple_privacy"], **SEEN)],
    ),
    (
        told("MessageLinkClicked", url="https://example.com/", token="t", user_agent="Mozilla/5.0 (X11) Firefox/126.0"),
        [seen("clicked", agent="browser", family="firefox/linux", detail="https://example.com/", **SEEN)],
    ),
    (
        told("MessageDeliveryFailed", status="HardFail", details="Refused", output="550 5.1.1 User unknown"),
        [seen("bounced", detail="Refused: 550 5.1.1 User unknown", hard=True, **SEEN)],
    ),
    (
        told("MessageDeliveryFailed", status="HardFail", details="Refused", output="550 5.7.1 Message blocked as spam"),
        [seen("failed", detail="Refused: 550 5.7.1 Message blocked as spam", **SEEN)],
    ),
    (
        {"event": "DomainDNSError", "timestamp": 1483117208.25, "uuid": "e1", "payload": {"domain": "example.com"}},
        [seen("unknown", at=SEEN["at"], key="e1", detail="DomainDNSError")],
    ),
    (
        told("MessageSent", {"message_id": f"{OURS}@news.example.com"}),
        [seen("delivered", at=SEEN["at"], key="e1", ours=OURS)],
    ),
    (told("MessageSent", {"tag": OURS}), [seen("delivered", at=SEEN["at"], key="e1", ours=OURS)]),
]

PROVIDER = Provider(
    adapter=Postal(secrets=(_public(0), f"v=DKIM1; t=s; h=sha256; p={_public(1)};")),
    sign=sign,
    covers="all",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told("MessageTeleported"), "MessageTeleported"),
)
