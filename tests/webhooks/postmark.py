"""Postmark: https://postmarkapp.com/developer/webhooks/webhooks-overview , and the bounce types of its API."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Any

from abmail.webhooks.postmark import Postmark
from webhooks.harness import OURS, Provider, Request, as_json, seen

SECRETS = ("postmark:today", "postmark:yesterday", "postmark:a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    return Request(
        body=as_json(payload), headers={"Authorization": f"Basic {b64encode(SECRETS[secret].encode()).decode()}"}
    )


EXPECTED = {
    "test_bounce_event": [
        seen(
            "bounced",
            at="2016-04-27T20:28:50.396393Z",
            message="2706ee8a-737c-4285-b032-ccd317af53ed",
            key="Bounce-901542550",
            detail="HardBounce: smtp;550 5.1.1 The email account that you tried to reach does not exist.",
            hard=True,
        )
    ],
    "test_delivered_event": [
        seen(
            "delivered",
            at="2014-08-01T17:28:10.273539Z",
            message="883953f4-6105-42a2-a16a-77a8eac79483",
            detail="Test delivery webhook details",
        )
    ],
    "test_open_event": [
        seen(
            "opened",
            agent="browser",
            family="firefox/windows",
            at="2016-04-27T20:21:41.249368Z",
            message="f4830d10-9c35-4f0c-bca3-3d9b459821f8",
        )
    ],
    "test_click_event": [
        seen(
            "clicked",
            agent="browser",
            family="/mac",
            at="2017-10-25T15:21:11.906561Z",
            message="f4830d10-9c35-4f0c-bca3-3d9b459821f8",
            detail="https://example.com/click/me",
        )
    ],
    "test_spam_event": [
        seen(
            "complained",
            at="2016-04-27T20:28:50.396393Z",
            message="2706ee8a-737c-4285-b032-ccd317af53ed",
            key="SpamComplaint-901542550",
            detail="SpamComplaint: Test spam complaint details",
        )
    ],
    "test_unsubscribe": [
        seen(
            "unsubscribed",
            at="2022-06-05T17:17:32Z",
            message="a4909a96-73d7-4c49-b148-a54522d3f7ac",
            detail="ManualSuppression",
        )
    ],
    "test_resubscribe": [
        seen(
            "unknown", at="2022-06-05T17:17:32Z", message="a4909a96-73d7-4c49-b148-a54522d3f7ac", detail="Resubscribed"
        )
    ],
    "test_subscription_change_bounce": [
        seen(
            "bounced",
            at="2022-06-05T17:17:32Z",
            message="b4cb783d-78ed-43f2-983b-63f55c712dc8",
            detail="HardBounce",
            hard=True,
        )
    ],
    "test_bounce_unsubscribe_variant": [
        seen(
            "unsubscribed",
            message="5555555-5555555-5555-5555555",
            key="Bounce-555555555",
            detail="Unsubscribe: Unsubscribe or Remove request.",
        )
    ],
}
AT = {"RecordType": "Bounce", "ID": 42, "MessageID": "m1", "BouncedAt": "2019-11-05T16:33:54.9070259Z",
      "Email": "a@example.com"}  # fmt: skip
SEEN = {"at": "2019-11-05T16:33:54.907025Z", "key": "Bounce-42", "message": "m1"}


def bounce(kind: str) -> dict[str, Any]:
    return {**AT, "Type": kind, "Details": "Words"}


DOCUMENTED = [
    *(
        (bounce(kind), [seen(type_, detail=f"{kind}: Words", **SEEN)])
        for kind, type_ in {
            "Transient": "deferred",
            "Unsubscribe": "unsubscribed",
            "Subscribe": "unknown",
            "DnsError": "deferred",
            "SpamNotification": "bounced",
            "OpenRelayTest": "unknown",
            "Unknown": "unknown",
            "SoftBounce": "bounced",
            "VirusNotification": "bounced",
            "BadEmailAddress": "rejected",
            "SpamComplaint": "complained",
            "ManuallyDeactivated": "rejected",
            "Unconfirmed": "rejected",
            "Blocked": "bounced",
            "SMTPApiError": "failed",
            "InboundError": "unknown",
            "DMARCPolicy": "bounced",
            "TemplateRenderingFailed": "failed",
            "Newfangled": "bounced",
        }.items()
    ),
    *(
        (bounce(kind), [seen("replied", verdict="machine", reasons=[word], detail=f"{kind}: Words", **SEEN)])
        for kind, word in {
            "AutoResponder": "auto_reply",
            "AddressChange": "auto_reply",
            "ChallengeVerification": "challenge",
        }.items()
    ),
    (
        {
            "RecordType": "Open",
            "MessageID": "m1",
            "ReceivedAt": "2019-11-05T16:33:54Z",
            "UserAgent": "Mozilla/5.0",
            "Metadata": {"abmail_message": OURS},
        },
        [seen("opened", at="2019-11-05T16:33:54Z", ours=OURS, verdict="machine", reasons=["apple_privacy"])],
    ),
    (
        {
            "RecordType": "Open",
            "MessageID": "m1",
            "ReceivedAt": "2019-11-05T16:33:54Z",
            "UserAgent": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        },
        [
            seen(
                "opened",
                at="2019-11-05T16:33:54Z",
                message="m1",
                verdict="proxy",
                reasons=["image_proxy"],
                family="firefox/windows",
            )
        ],
    ),
    (
        {
            "RecordType": "SubscriptionChange",
            "MessageID": "m1",
            "ChangedAt": "2020-02-01T10:53:34.416071Z",
            "SuppressSending": True,
            "SuppressionReason": "SpamComplaint",
        },
        [seen("complained", at="2020-02-01T10:53:34.416071Z", message="m1", detail="SpamComplaint")],
    ),
    (
        {"RecordType": "SMTPApiError", "MessageID": "m1", "Description": "No such stream"},
        [seen("failed", message="m1", detail="No such stream")],
    ),
    ({"RecordType": "Inbound", "MessageID": "m1"}, [seen("unknown", message="m1", detail="Inbound")]),
]

PROVIDER = Provider(
    adapter=Postmark(secrets=SECRETS[:2]),
    sign=sign,
    covers="nothing",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=({**AT, "RecordType": "Teleported"}, "Teleported"),
)
