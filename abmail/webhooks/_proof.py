"""How requests prove where they come from: signatures and secrets, compared in constant time, and the age of a time."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from abmail.errors import WebhookError
from abmail.webhooks._item import moment

__all__ = [
    "MINUTES",
    "SharedSecret",
    "header",
    "refusal",
    "require_fresh",
    "require_mac",
    "require_shared_secret",
    "secrets_field",
]

MINUTES: Final = 60.0
SHARED_HEADER: Final = "X-Webhook-Secret"


def secrets_field() -> Any:
    """A dataclass field of the secrets: one at least, several while they are exchanged; never shown."""
    return field(repr=False, metadata={"given": True})


def header(headers: Mapping[str, str], name: str) -> str:
    """A header by its name in any case; empty where it is missing."""
    wanted = name.lower()
    return next((value for key, value in headers.items() if key.lower() == wanted), "")


def refusal(message: str, *, hint: str = "") -> WebhookError:
    """A request that does not come from the provider."""
    return WebhookError(message, hint=hint, status=401)


def require_fresh(stamp: str, *, now: datetime, tolerance: float) -> None:
    """Refuse a signed time that lies too far away.

    Args:
        stamp: Seconds since 1970, or ISO 8601.
        now: Aware UTC datetime.
        tolerance: Seconds either way.

    Raises:
        WebhookError: It does, or is none.
    """
    try:
        away = abs((now - moment(stamp, "timestamp")).total_seconds())
    except ValueError as error:
        raise refusal(f"the signature's {error}") from None
    if away > tolerance:
        raise refusal(
            f"the signature's time is {away:.0f} s away, at most {tolerance:g} s are allowed",
            hint="check this machine's clock; `tolerance` sets the limit",
        )


def require_mac(
    secrets: Iterable[bytes],
    message: bytes,
    given: Iterable[str],
    *,
    digest: Literal["sha1", "sha256"] = "sha256",
    encoding: Literal["hex", "base64"] = "hex",
) -> None:
    """Refuse a message none of whose signatures is an HMAC under one of the secrets.

    Raises:
        WebhookError: None is.
    """
    signatures = [found for text in given if (found := _bytes(text, encoding))]
    expected = [hmac.digest(secret, message, digest) for secret in secrets if secret]
    if not any(hmac.compare_digest(one, other) for one in expected for other in signatures):
        raise refusal(
            "the signature does not fit" if signatures else "there is no signature that could be read",
            hint="check the secret at the provider; the signed bytes must not be changed on their way",
        )


def _bytes(text: str, encoding: str) -> bytes:
    try:
        if encoding == "hex":
            return bytes.fromhex(text) if text.isascii() and text.isalnum() else b""
        return b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def require_shared_secret(headers: Mapping[str, str], secrets: Iterable[str]) -> None:
    """Refuse a request that carries none of the secrets.

    A secret may come as ``Authorization: Basic`` (then it is ``user:password``), as ``Authorization: Bearer``, or in
    the header ``X-Webhook-Secret``.

    Raises:
        WebhookError: It carries none.
    """
    scheme, _, credentials = header(headers, "Authorization").strip().partition(" ")
    presented = [header(headers, SHARED_HEADER).encode("utf-8", "surrogatepass")]
    if scheme.lower() == "bearer":
        presented.append(credentials.strip().encode("utf-8", "surrogatepass"))
    elif scheme.lower() == "basic":
        presented.append(_bytes(credentials.strip(), "base64"))
    allowed = [secret.encode() for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in allowed for other in presented if other):
        raise refusal(
            "the request carries no secret that is known here",
            hint=f"give the provider user and password in the URL, or the header {SHARED_HEADER}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSecret:
    """The proof of a provider that signs nothing; see `require_shared_secret` for how a secret may come."""

    secrets: tuple[str, ...] = secrets_field()

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:  # noqa: ARG002
        """See `Adapter.verify`."""
        require_shared_secret(headers, self.secrets)
