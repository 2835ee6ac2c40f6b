"""Resend: its HTTP API, with an idempotency key, so that a request without an answer can safely be repeated."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any, Final, Self

from abmail._http import Answer, Api, Request
from abmail.errors import ConfigError, PermanentSendError, TransientSendError, UncertainSendError
from abmail.webhooks import OUR_KEY

if TYPE_CHECKING:
    from abmail.render import RenderedMessage

__all__ = ["Resend"]

_ENDPOINT: Final = "https://api.resend.com"
# Resend makes these itself, or has a field for them.
_OWN: Final = frozenset({
    "from", "to", "cc", "bcc", "reply-to", "subject", "date", "mime-version", "content-type",
    "content-transfer-encoding", "content-disposition", "dkim-signature",
})  # fmt: skip
_SETTINGS: Final = frozenset({
    "missing_api_key", "invalid_api_key", "restricted_api_key", "daily_quota_exceeded", "monthly_quota_exceeded",
    "invalid_from_address", "suspended_api_key",
})  # fmt: skip


class Resend:
    """Sends through Resend; our id goes along as the tag ``abmail_message`` and as the idempotency key.

    The API takes the parts of a mail, not its bytes: texts, headers and attachments are handed over one by one.

    Args:
        api_key: The key.
        endpoint: Another address of the API.
        timeout: Seconds to connect, and to wait for the answer.

    Raises:
        ConfigError: There is no key.
        MissingExtra: httpx is not installed.
    """

    name: str = "resend"

    def __init__(self, *, api_key: str, endpoint: str = _ENDPOINT, timeout: float = 60.0) -> None:
        if not api_key or not api_key.isascii() or not api_key.isprintable():
            raise ConfigError("Resend needs a key", hint="set RESEND_API_KEY")
        self._key, self._endpoint, self._timeout = api_key, endpoint, timeout
        self._api = Api("Resend", timeout=timeout)

    def __repr__(self) -> str:
        return "<Resend>"

    @classmethod
    def from_url(cls, url: str, environ: Mapping[str, str]) -> Self:
        """Read the settings from ``resend://`` and the environment's ``RESEND_API_KEY``.

        Raises:
            ConfigError: The URL says more than its scheme, or there is no key.
        """
        if url.partition("://")[2]:
            raise ConfigError("the Resend URL must be resend:// alone", hint="the key belongs into RESEND_API_KEY")
        return cls(api_key=environ.get("RESEND_API_KEY", ""))

    def another(self) -> Resend:
        """One more connection with the same settings, for another thread."""
        return Resend(api_key=self._key, endpoint=self._endpoint, timeout=self._timeout)

    def close(self) -> None:
        """Give the connection back."""
        self._api.close()

    def send(self, message: RenderedMessage) -> str:
        """Send one message; see `Transport.send`.

        A request without an answer is made once more under the same idempotency key: Resend sends one mail.
        """
        request = self._request(message)
        try:
            answer = self._api.post(request, message)
        except UncertainSendError as first:
            try:
                answer = self._api.post(request, message)
            except TransientSendError as second:
                raise UncertainSendError(str(first), hint=first.hint) from second
        if answer.status == 200:
            return f"200 {answer.body.get('id', '')}".rstrip()
        raise self._refusal(answer, message)

    def _request(self, message: RenderedMessage) -> Request:
        parsed = BytesParser(policy=policy.default).parsebytes(message.raw)
        body: dict[str, Any] = {
            "from": str(parsed["From"]),
            "to": [message.recipient],
            "subject": message.subject,
            "html": message.html,
            "text": message.text,
            "headers": {name: str(value) for name, value in parsed.items() if name.lower() not in _OWN},
            "tags": [{"name": OUR_KEY, "value": message.message_id}],
        }
        if parsed["Reply-To"]:
            body["reply_to"] = str(parsed["Reply-To"])
        if attachments := list(_attachments(parsed)):
            body["attachments"] = attachments
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Idempotency-Key": message.message_id,
        }
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return Request(url=f"{self._endpoint.rstrip('/')}/emails", headers=headers, body=content)

    def _refusal(
        self, answer: Answer, message: RenderedMessage
    ) -> ConfigError | PermanentSendError | TransientSendError | UncertainSendError:
        kind = str(answer.body.get("name", ""))
        known = self._api.refusal(answer, message, code=kind)
        if kind in _SETTINGS:
            return ConfigError(str(known), hint="look at the account, the key and the sender's domain at Resend")
        if kind == "security_error":
            return PermanentSendError(str(known), code=answer.status, recipient=message.recipient, kind="policy")
        if kind == "invalid_idempotent_request":  # an earlier request under this id said something else
            return UncertainSendError(str(known), hint="look for the earlier mail at Resend, then `abmail settle`")
        return known


def _attachments(parsed: EmailMessage) -> Iterator[dict[str, str]]:
    """Files and inline images, which the HTML names by their content id."""
    for part in parsed.walk():
        name, ident = part.get_filename(), part.get("Content-ID")
        if part.is_multipart() or (name is None and ident is None):
            continue
        content = part.get_payload(decode=True)
        found = {
            "filename": name or "inline",
            "content": b64encode(content if isinstance(content, bytes) else b"").decode("ascii"),
            "content_type": part.get_content_type(),
        }
        yield {**found, "content_id": str(ident).strip("<>")} if ident else found
