"""SparkPost: https://developers.sparkpost.com/api/webhooks/ and its bounce classification codes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from abmail.webhooks.sparkpost import SparkPost
from webhooks.harness import OURS, Provider, Request, as_json, seen

SECRETS = ("token-of-today", "token-of-yesterday", "a stranger's")


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    return Request(body=as_json(payload), headers={"Authorization": f"Bearer {SECRETS[secret]}"})


EXPECTED = {
    "test_injection_event": [
        seen("queued", at="2016-02-02T19:50:00Z", message="000443ee14578172be22", key="92356927693813856")
    ],
    "test_delivery_event": [
        seen("delivered", at="2016-02-02T19:50:00Z", message="65832150921904138", key="92356927693813856")
    ],
    "test_bounce_event": [
        seen(
            "bounced",
            at="2016-06-01T23:42:28Z",
            message="0004e3724f57753a3561",
            key="84345317653491230",
            detail="class 10: 550 5.1.1 <b***@example.com>: Recipient address rejected: User unknown",
            hard=True,
        )
    ],
    "test_delay_event": [
        seen(
            "deferred",
            at="2016-06-02T00:02:28Z",
            message="0004e3724f57753a3861",
            key="84345317653675522",
            detail="class 21: 454 4.4.4 [internal] no MX or A for domain",
        )
    ],
    "test_unsubscribe_event": [
        seen("unsubscribed", at="2016-06-02T19:04:40Z", message="0004278150574660124d", key="66331590532986193")
    ],
    "test_generation_rejection_event": [
        seen(
            "rejected",
            at="2016-06-02T20:40:34Z",
            message="0005c29950577c61695d",
            key="102360394390563734",
            detail="554 5.7.1 recipient address suppressed due to customer policy",
        )
    ],
    "test_generation_failure_event": [
        seen(
            "failed",
            at="2018-10-11T23:24:45Z",
            message="139013368081177607",
            key="139013368081587254",
            detail="554 5.3.3 [internal] Error while rendering part html: ...",
        )
    ],
    "test_bounce_challenge_response": [seen("replied", verdict="machine", reasons=["auto_reply"], detail="class 60")],
    "test_open_event": [seen("opened", agent="browser", family="safari/mac")],
    "test_initial_open_event_as_opened": [
        seen("opened", agent="browser", family="safari/mac", reasons=["initial_open"])
    ],
    "test_initial_open_event_as_unknown": [
        seen("opened", agent="browser", family="safari/mac", reasons=["initial_open"])
    ],
    "test_click_event": [seen("clicked", agent="browser", family="safari/mac", detail="http://example.com")],
    "test_amp_events": [seen("opened"), seen("opened", reasons=["initial_open"]), seen("clicked")],
}
AT = {"event_id": "e1", "message_id": "m1", "timestamp": "1454442600", "rcpt_to": "a@example.com"}
SEEN = {"at": "2016-02-02T19:50:00Z", "key": "e1", "message": "m1"}


def told(group: str, kind: str, **more: Any) -> list[dict[str, Any]]:
    return [{"msys": {group: {**AT, "type": kind, **more}}}]


DOCUMENTED: list[tuple[Any, list[Any]]] = [
    ([{"msys": {}}], []),
    *(
        (
            told("message_event", "bounce", bounce_class=number),
            [seen("bounced", detail=f"class {number}", hard=hard, **SEEN)],
        )
        for number, hard in {
            "1": False,
            "10": True,
            "20": False,
            "21": False,
            "22": False,
            "23": False,
            "24": False,
            "25": False,
            "30": True,
            "40": False,
            "50": False,
            "51": False,
            "52": False,
            "53": False,
            "54": False,
            "70": False,
        }.items()
    ),
    (
        told("message_event", "bounce", bounce_class="100"),
        [seen("replied", verdict="machine", reasons=["challenge"], detail="class 100", **SEEN)],
    ),
    (told("message_event", "bounce", bounce_class="90"), [seen("unsubscribed", detail="class 90", **SEEN)]),
    (told("message_event", "bounce", bounce_class="80"), [seen("unknown", detail="bounce: class 80", **SEEN)]),
    (
        told("message_event", "out_of_band", bounce_class="10", raw_reason="550 unknown"),
        [seen("bounced", detail="class 10: 550 unknown", hard=True, **SEEN)],
    ),
    (told("message_event", "spam_complaint", fbtype="abuse"), [seen("complained", detail="abuse", **SEEN)]),
    (
        told("message_event", "spam_complaint", fbtype="not-spam"),
        [seen("unknown", detail="spam_complaint: not-spam", **SEEN)],
    ),
    (
        told("message_event", "policy_rejection", raw_reason="550 5.7.1 policy"),
        [seen("rejected", detail="550 5.7.1 policy", **SEEN)],
    ),
    (told("message_event", "sms_status"), [seen("unknown", detail="sms_status", **SEEN)]),
    (told("relay_event", "relay_injection"), [seen("unknown", detail="relay_injection", **SEEN)]),
    (told("unsubscribe_event", "link_unsubscribe"), [seen("unsubscribed", **SEEN)]),
    (
        told("track_event", "click", target_link_url="https://example.com/"),
        [seen("clicked", detail="https://example.com/", **SEEN)],
    ),
    (
        told("track_event", "open", is_prefetched=True, user_agent="Mozilla/5.0"),
        [seen("opened", verdict="machine", reasons=["is_prefetched"], **SEEN)],
    ),
    (
        told("track_event", "initial_open", is_prefetched="true"),
        [seen("opened", verdict="machine", reasons=["is_prefetched", "initial_open"], **SEEN)],
    ),
    (
        told("message_event", "delivery", rcpt_meta={"abmail_message": OURS}),
        [seen("delivered", at="2016-02-02T19:50:00Z", key="e1", ours=OURS)],
    ),
    ([{**AT, "type": "delivery"}], [seen("delivered", **SEEN)]),
]

PROVIDER = Provider(
    adapter=SparkPost(secrets=SECRETS[:2]),
    sign=sign,
    covers="nothing",
    expected=EXPECTED,
    documented=DOCUMENTED,
    unknown=(told("message_event", "teleported"), "teleported"),
)
