"""SendGrid: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event ."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from abmail.webhooks.sendgrid import SendGrid
from webhooks.harness import OURS, Provider, Request, as_json, seen

KEYS = [ec.derive_private_key(number, ec.SECP256R1()) for number in (11, 12, 13)]


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    body, stamp = as_json(payload), str(int(at.timestamp()))
    signature = KEYS[secret].sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
    }
    return Request(body=body, headers=headers)


EXPECTED = {
    "test_processed_event": [
        seen(
            "queued",
            at="2016-04-19T19:47:26Z",
            message="wrfRRvF7Q0GgwUo2CvDmEA.filter0425p1mdw1.13037.57168B4A1D.0",
            key="ZyjAM5rnQmuI1KFInHQ3Nw",
        )
    ],
    "test_delivered_event": [
        seen(
            "delivered",
            at="2016-04-19T19:47:30Z",
            message="wrfRRvF7Q0GgwUo2CvDmEA.filter0425p1mdw1.13037.57168B4A1D.0",
            key="nOSv8m0eTQ-vxvwNwt3fZQ",
            detail="250 2.0.0 OK 1461095248 m143si2210036ioe.159 - gsmtp",
        )
    ],
    "test_dropped_invalid_event": [
        seen(
            "rejected",
            at="2016-04-19T19:47:30Z",
            message="filter0093p1las1.9128.5717FB8127.0",
            key="3NPOePGOTkeM_U3fgWApfg",
            detail="Invalid",
        )
    ],
    "test_dropped_bounced": [
        seen(
            "rejected",
            at="2017-12-15T00:59:29Z",
            message="14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
            key="zmzJhfJgAfUSOW80yEbPyw==",
            detail="Bounced Address",
        )
    ],
    "test_dropped_unsubscribed_event": [
        seen(
            "rejected",
            at="2016-04-19T19:47:30Z",
            message="filter0199p1las1.4745.5717FB6F5.0",
            key="oxy9OLwMTAy5EsuZn1qhIg",
            detail="Unsubscribed Address",
        )
    ],
    "test_bounce_event": [
        seen(
            "bounced",
            at="2016-04-19T19:47:30Z",
            message="Lli-03HcQ5-JLybO9fXsJg.filter0077p1las1.21536.5717FC482.0",
            key="lC0Rc-FuQmKbnxCWxX1jRQ",
            detail="bounce: 550 5.1.1 The email account that you tried to reach does not exist.",
            hard=True,
        )
    ],
    "test_deferred_event": [
        seen(
            "deferred",
            at="2016-04-21T01:09:50Z",
            message="u9Gvi3mzT6iC2poAb58_qQ.filter0465p1mdw1.8054.5718271B40.0",
            key="b_syL5UiTvWC_Ky5L6Bs5Q",
            detail="Email was deferred due to the following reason(s): [IPs were throttled by recipient server]",
        )
    ],
    "test_open_event": [
        seen(
            "opened",
            agent="browser",
            family="firefox/windows",
            at="2016-04-19T19:47:30Z",
            message="wrfRRvF7Q0GgwUo2CvDmEA.filter0425p1mdw1.13037.57168B4A1D.0",
            key="MjIwNDg5NTgtZGE3OC00NDI1LWFiMmMtMDUyZTU2ZmFkOTFm",
        )
    ],
    "test_click_event": [
        seen(
            "clicked",
            agent="browser",
            family="safari/mac",
            at="2016-04-19T19:47:30Z",
            message="_fjPjuJfRW-IPs5SuvYotg.filter0590p1mdw1.2098.57168CFC4B.0",
            key="OTdlOGUzYjctYjc5Zi00OWE4LWE4YWUtNjIxNjk2ZTJlNGVi",
            detail="http://www.example.com",
        )
    ],
    "test_compatibility_message_id_from_smtp_id": [
        seen(
            "delivered",
            at="2016-04-19T19:47:30Z",
            message="wrfRRvF7Q0GgwUo2CvDmEA.filter0425p1mdw1.13037.57168B4A1D.0",
            key="nOSv8m0eTQ-vxvwNwt3fZQ",
            detail="250 2.0.0 OK 1461095248 m143si2210036ioe.159 - gsmtp",
        )
    ],
}
AT = {"timestamp": 1513299569, "sg_event_id": "e1", "sg_message_id": "m1", "email": "a@example.com"}
SEEN = {"at": "2017-12-15T00:59:29Z", "key": "e1", "message": "m1"}
TOLD = {"at": "2017-12-15T00:59:29Z", "key": "e1", "ours": OURS}
DOCUMENTED = [
    ([{**AT, "event": "spamreport"}], [seen("complained", **SEEN)]),
    ([{**AT, "event": "unsubscribe"}], [seen("unsubscribed", **SEEN)]),
    ([{**AT, "event": "group_unsubscribe", "asm_group_id": 10}], [seen("unsubscribed", **SEEN)]),
    ([{**AT, "event": "group_resubscribe", "asm_group_id": 10}], [seen("unknown", detail="group_resubscribe", **SEEN)]),
    (
        [{**AT, "event": "account_status_change", "type": "compliance_suspend"}],
        [seen("unknown", detail="account_status_change", **SEEN)],
    ),
    (
        [{**AT, "event": "open", "sg_machine_open": True, "useragent": "Mozilla/5.0"}],
        [seen("opened", verdict="machine", reasons=["sg_machine_open"], **SEEN)],
    ),
    ([{**AT, "event": "open", "sg_machine_open": False}], [seen("opened", **SEEN)]),
    (
        [{**AT, "event": "bounce", "type": "blocked", "status": "5.1.1", "reason": "550 5.1.1 User unknown"}],
        [seen("bounced", detail="blocked: 550 5.1.1 User unknown", **SEEN)],
    ),
    (
        [{**AT, "event": "bounce", "type": "bounce", "bounce_classification": "Invalid Address", "reason": "550 no"}],
        [seen("bounced", detail="bounce: 550 no", hard=True, **SEEN)],
    ),
    (
        [{**AT, "event": "bounce", "type": "bounce", "bounce_classification": "Reputation", "reason": "550 5.1.1 no"}],
        [seen("bounced", detail="bounce: 550 5.1.1 no", **SEEN)],
    ),
    (
        [{**AT, "event": "bounce", "status": "5.2.2", "reason": "552 5.2.2 The mailbox of <a@example.com> is full"}],
        [seen("bounced", detail="552 5.2.2 The mailbox of <a***@example.com> is full", **SEEN)],
    ),
    (
        [{**AT, "event": "delivered", "abmail_message": OURS, "response": "250 OK"}],
        [seen("delivered", detail="250 OK", **TOLD)],
    ),
    ([{**AT, "event": "delivered", "unique_args": {"abmail_message": OURS}}], [seen("delivered", **TOLD)]),
    ([{**AT, "event": "delivered", "smtp-id": f"<{OURS}@news.example.com>"}], [seen("delivered", **TOLD)]),
]

PROVIDER = Provider(
    adapter=SendGrid(
        secrets=(
            b64encode(_public(KEYS[0])).decode(),
            KEYS[1]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode(),
        )
    ),
    sign=sign,
    covers="all",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=([{**AT, "event": "teleported"}], "teleported"),
)
