"""Our own events; signed by the judge of our signatures, standardwebhooks."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Any

from standardwebhooks.webhooks import Webhook

from abmail.webhooks.standard import Standard
from webhooks.harness import OURS, Provider, Request, as_json, seen

SECRETS = tuple(b64encode(text).decode() for text in (b"of today " * 3, b"of yesterday" * 2, b"strangers" * 3))


def sign(payload: Any, *, at: datetime, secret: int = 0) -> Request:
    body = as_json(payload)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRETS[secret]).sign("msg_1", at, body.decode()),
    }
    return Request(body=body, headers=headers)


ONE = {"type": "opened", "at": "2026-03-01T10:00:00+09:00", "message_id": OURS}
WHOLE = {**ONE, "type": "clicked", "verdict": "machine", "reasons": ["our_firewall"], "link": 3, "key": "standard:k1"}
SEEN = {"at": "2026-03-01T01:00:00Z", "ours": OURS}
DOCUMENTED = [
    (ONE, [seen("opened", **SEEN)]),
    (
        [ONE, WHOLE],
        [
            seen("opened", **SEEN),
            seen("clicked", verdict="machine", reasons=["our_firewall"], link=3, key="k1", **SEEN),
        ],
    ),
    (
        {"type": "bounced", "timestamp": "2026-03-01T01:00:00Z", "data": {"message_id": OURS, "hard": True}},
        [seen("bounced", hard=True, **SEEN)],
    ),
    ({**ONE, "type": "unknown", "detail": "teleported"}, [seen("unknown", detail="teleported", **SEEN)]),
]

PROVIDER = Provider(
    adapter=Standard(secrets=SECRETS[:2]),
    sign=sign,
    covers="all",
    expected={},
    documented=DOCUMENTED,
    unknown=({**ONE, "type": "unknown", "detail": "teleported"}, "teleported"),
)
