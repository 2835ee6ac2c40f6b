"""Amazon SES: its "Contents of event data that Amazon SES publishes to Amazon SNS" and the notifications' contents."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from abmail.webhooks.amazon_ses import AmazonSES
from webhooks.harness import NOW, OURS, Provider, Request, as_json, seen

TOPIC = "arn:aws:sns:eu-west-1:123456789012:abmail"
OTHER_TOPIC = "arn:aws:sns:eu-west-1:123456789012:abmail-too"
FOREIGN_TOPIC = "arn:aws:sns:eu-west-1:999999999999:abmail"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123.pem"
SUBSCRIBE = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn&Token=t"


@cache
def key_of(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(number: int = 0, *, days: int = 3_650) -> bytes:
    """A certificate that signs itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key_of(number).public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=3_650))
        .not_valid_after(NOW - timedelta(days=3_650) + timedelta(days=2 * days))
        .sign(key_of(number), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def envelope(message: str, *, at: datetime, kind: str = "Notification", topic: str = TOPIC) -> dict[str, Any]:
    found = {
        "Type": kind,
        "MessageId": "8f6dee70-c885-558a-be7d-bd48bbf5335e",
        "TopicArn": topic,
        "Message": message,
        "Timestamp": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "SigningCertURL": CERTIFICATE,
    }
    return found if kind == "Notification" else {**found, "Token": "t", "SubscribeURL": SUBSCRIBE}


def signed(sns: dict[str, Any], *, version: str = "2", secret: int = 0) -> Request:
    """The lines that Amazon documents, in byte order of their names."""
    names = sorted(
        {"Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"} & set(sns)
    )
    text = "".join(f"{name}\n{sns[name]}\n" for name in names)
    digest = hashes.SHA256() if version == "2" else hashes.SHA1()
    signature = key_of(2 if secret == 2 else 0).sign(text.encode(), padding.PKCS1v15(), digest)
    return Request(body=as_json({**sns, "SignatureVersion": version, "Signature": b64encode(signature).decode()}))


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    """Secret 1 is a second topic, and the older version of the signature."""
    topic = (TOPIC, OTHER_TOPIC, TOPIC)[secret]
    sns = envelope(json.dumps(payload), at=at, topic=topic)
    return signed(sns, version="1" if secret == 1 else "2", secret=secret)


EXPECTED = {
    "test_bounce_event": [
        seen(
            "bounced",
            at="2016-01-27T14:59:44.101000Z",
            message="00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000",
            detail="Permanent/General: smtp; 550 5.1.1 <j***@example.com>... User unknown",
            hard=True,
        )
    ],
    "test_multiple_bounce_event": [
        seen(
            "bounced",
            message="00000137860315fd-34208509-5b74-41f3-95c5-22c1edc3c924-000000",
            detail="Permanent/General",
            hard=True,
        ),
        seen(
            "bounced",
            message="00000137860315fd-34208509-5b74-41f3-95c5-22c1edc3c924-000000",
            detail="Permanent/General",
            hard=True,
        ),
    ],
    "test_complaint_event": [
        seen("complained", message="000001378603177f-7a5433e7-8edb-42ae-af10-f0181f34d6ee-000000", detail="abuse")
    ],
    "test_delivery_event": [
        seen(
            "delivered",
            at="2016-01-27T14:59:38.237000Z",
            message="0000014644fe5ef6-9a483358-9170-4cb4-a269-f5dcdf415321-000000",
            detail="250 ok:  Message 64111812 accepted",
        )
    ],
    "test_send_event": [
        seen("sent", at="2016-10-14T05:02:16.645000Z", message="7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000")
    ],
    "test_reject_event": [
        seen(
            "rejected",
            at="2016-10-14T17:38:15.211000Z",
            message="7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000",
            detail="Bad content",
        )
    ],
    "test_open_event": [
        seen(
            "opened",
            agent="browser",
            family="/ios",
            at="2017-08-09T22:00:19.652000Z",
            message="7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000",
        )
    ],
    "test_click_event": [
        seen(
            "clicked",
            agent="browser",
            family="safari/windows",
            at="2017-08-09T23:51:25.570000Z",
            message="7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000",
            detail="https://docs.aws.amazon.com/ses/latest/DeveloperGuide/",
        )
    ],
    "test_rendering_failure_event": [
        seen(
            "failed",
            message="c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000",
            detail="Attribute 'attributeName' is not present in the rendering data.",
        )
    ],
    "test_incorrect_received_event": [seen("unknown", key="8f6dee70-c885-558a-be7d-bd48bbf5335e", detail="Received")],
}
MAIL = {"messageId": "m1", "destination": ["a@example.com"], "timestamp": "2026-03-01T09:00:00.000Z"}
SEEN = {"at": "2026-03-01T10:00:00Z", "message": "m1"}
TOLD = {"at": "2026-03-01T10:00:00Z", "ours": OURS}


def event(kind: str, part: str, about: dict[str, Any], **mail: Any) -> dict[str, Any]:
    return {"eventType": kind, "mail": {**MAIL, **mail}, part: {"timestamp": "2026-03-01T10:00:00.000Z", **about}}


def bounced(sort: str, subsort: str, **person: str) -> dict[str, Any]:
    people = [{"emailAddress": "a@example.com", **person}]
    return event("Bounce", "bounce", {"bounceType": sort, "bounceSubType": subsort, "bouncedRecipients": people})


def complained(**about: str) -> dict[str, Any]:
    return event("Complaint", "complaint", {"complainedRecipients": [{"emailAddress": "a@example.com"}], **about})


DOCUMENTED = [
    *(
        (bounced(sort, subsort), [seen("bounced", detail=f"{sort}/{subsort}", hard=hard, **SEEN)])
        for sort, subsort, hard in (
            ("Undetermined", "Undetermined", False),
            ("Permanent", "General", True),
            ("Permanent", "NoEmail", True),
            ("Permanent", "Suppressed", True),
            ("Permanent", "OnAccountSuppressionList", True),
            ("Transient", "General", False),
            ("Transient", "MailboxFull", False),
            ("Transient", "MessageTooLarge", False),
            ("Transient", "CustomTimeoutExceeded", False),
            ("Transient", "ContentRejected", False),
            ("Transient", "AttachmentRejected", False),
        )
    ),
    (
        bounced("Permanent", "General", status="5.7.1", diagnosticCode="smtp; 550 5.7.1 Message blocked as spam"),
        [seen("bounced", detail="Permanent/General: smtp; 550 5.7.1 Message blocked as spam", **SEEN)],
    ),
    (complained(complaintFeedbackType="abuse"), [seen("complained", detail="abuse", **SEEN)]),
    (complained(complaintFeedbackType="fraud"), [seen("complained", detail="fraud", **SEEN)]),
    (complained(), [seen("complained", **SEEN)]),
    (complained(complaintFeedbackType="not-spam"), [seen("unknown", detail="not-spam", **SEEN)]),
    (complained(complaintFeedbackType="auth-failure"), [seen("unknown", detail="auth-failure", **SEEN)]),
    (complained(complaintFeedbackType="virus"), [seen("unknown", detail="virus", **SEEN)]),
    (
        complained(complaintSubType="OnAccountSuppressionList"),
        [seen("rejected", detail="OnAccountSuppressionList", **SEEN)],
    ),
    (
        event(
            "DeliveryDelay",
            "deliveryDelay",
            {
                "delayType": "TransientCommunicationFailure",
                "delayedRecipients": [
                    {
                        "emailAddress": "a@example.com",
                        "status": "4.4.1",
                        "diagnosticCode": "smtp; 421 4.4.1 Unable to connect",
                    }
                ],
            },
        ),
        [seen("deferred", detail="TransientCommunicationFailure: smtp; 421 4.4.1 Unable to connect", **SEEN)],
    ),
    (
        event(
            "Subscription",
            "subscription",
            {
                "source": "UnsubscribeHeader",
                "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": []},
            },
        ),
        [seen("unsubscribed", detail="UnsubscribeHeader", **SEEN)],
    ),
    (
        event(
            "Subscription",
            "subscription",
            {
                "source": "Form",
                "newTopicPreferences": {
                    "unsubscribeAll": False,
                    "topicSubscriptionStatus": [{"topicName": "news", "subscriptionStatus": "OptOut"}],
                },
            },
        ),
        [seen("unsubscribed", detail="Form", **SEEN)],
    ),
    (
        event(
            "Subscription",
            "subscription",
            {
                "source": "Form",
                "newTopicPreferences": {
                    "unsubscribeAll": False,
                    "topicSubscriptionStatus": [{"topicName": "news", "subscriptionStatus": "OptIn"}],
                },
            },
        ),
        [seen("unknown", detail="Form", **SEEN)],
    ),
    (
        event("Open", "open", {"userAgent": "Mozilla/5.0"}),
        [seen("opened", verdict="machine", reasons=["apple_privacy"], **SEEN)],
    ),
    (
        event("Delivery", "delivery", {"recipients": ["a@example.com"]}, tags={"abmail_message": [OURS]}),
        [seen("delivered", **TOLD)],
    ),
    (
        event("Delivery", "delivery", {}, headers=[{"name": "X-Abmail-Message", "value": OURS}]),
        [seen("delivered", **TOLD)],
    ),
    (
        event("Delivery", "delivery", {}, headers=[{"name": "Message-ID", "value": f"<{OURS}@news.example.com>"}]),
        [seen("delivered", **TOLD)],
    ),
    (
        event("Delivery", "delivery", {}, commonHeaders={"messageId": f"<{OURS}@news.example.com>"}),
        [seen("delivered", **TOLD)],
    ),
]

PROVIDER = Provider(
    adapter=AmazonSES(topics=(TOPIC, OTHER_TOPIC), fetch=lambda url: certificate()),
    sign=sign,
    covers="part",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=({"eventType": "Teleported", "mail": MAIL}, "Teleported"),
)
