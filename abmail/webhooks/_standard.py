"""Signatures after the Standard Webhooks (standardwebhooks.com), which Svix uses too."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Mapping
from datetime import datetime

from abmail.webhooks._proof import header, refusal, require_fresh, require_mac

__all__ = ["require_standard"]

_PREFIX = "whsec_"


def require_standard(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[str], *, now: datetime, tolerance: float
) -> None:
    """Refuse a request that none of the secrets signed, or whose signature is too old.

    Args:
        headers: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``, or the same with ``svix-``.
        body: The raw bytes.
        secrets: Base64, with or without ``whsec_`` before it.
        now: Aware UTC datetime.
        tolerance: Seconds either way.

    Raises:
        WebhookError: It is refused.
    """
    ident, stamp, signatures = (_either(headers, name) for name in ("id", "timestamp", "signature"))
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 15:
        raise refusal("the request has no time of its signature")
    message = f"{ident}.{stamp}.".encode("utf-8", "surrogatepass") + body
    given = [one.partition(",")[2] for one in signatures.split() if one.startswith("v1,")]
    require_mac(map(_key, secrets), message, given, encoding="base64")
    require_fresh(stamp, now=now, tolerance=tolerance)


def _either(headers: Mapping[str, str], name: str) -> str:
    return header(headers, f"webhook-{name}") or header(headers, f"svix-{name}")


def _key(secret: str) -> bytes:
    text = secret.removeprefix(_PREFIX)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise refusal("the secret of this webhook is no base64", hint="take it over from the provider again") from None
