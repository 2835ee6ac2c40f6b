"""Amazon SES: the API's version 2, with requests signed by ourselves (AWS Signature Version 4)."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlsplit

from abmail._http import Answer, Api, Request
from abmail.errors import ConfigError, PermanentSendError, TransientSendError
from abmail.webhooks import OUR_KEY

if TYPE_CHECKING:
    from abmail.render import RenderedMessage

__all__ = ["SES", "sign"]

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_SET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PATH: Final = "/v2/email/outbound-emails"
_AGAIN: Final = frozenset({"TooManyRequestsException", "LimitExceededException", "ThrottlingException"})
_SETTINGS: Final = frozenset({
    "AccountSuspendedException", "SendingPausedException", "MailFromDomainNotVerifiedException", "NotFoundException",
})  # fmt: skip
_NOT_VERIFIED: Final = "not verified"


class SES:
    """Sends through Amazon SES; the mail goes out as it was made, with our id as the tag ``abmail_message``.

    SES keeps no idempotency key: a request without an answer is uncertain.

    Args:
        region: Such as ``eu-west-1``.
        access_key: Id of the access key.
        secret_key: The key itself.
        session_token: Where the credentials are temporary.
        configuration_set: Its events tell what became of the mails.
        endpoint: Another address of the API.
        timeout: Seconds to connect, and to wait for the answer.
        now: Aware UTC clock, for the signature.

    Raises:
        ConfigError: A setting cannot be used.
        MissingExtra: httpx is not installed.
    """

    name: str = "ses"

    def __init__(
        self,
        region: str,
        *,
        access_key: str,
        secret_key: str,
        session_token: str | None = None,
        configuration_set: str | None = None,
        endpoint: str | None = None,
        timeout: float = 60.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not _REGION.fullmatch(region):
            raise ConfigError(f"the AWS region is {region!r}, must be one such as eu-west-1")
        if not access_key or not secret_key:
            raise ConfigError("Amazon SES needs an access key", hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if configuration_set is not None and not _SET.fullmatch(configuration_set):
            raise ConfigError(f"the configuration set {configuration_set!r} is none: letters, digits, _ and - only")
        self._settings: dict[str, Any] = {
            "access_key": access_key, "secret_key": secret_key, "session_token": session_token,
            "configuration_set": configuration_set, "endpoint": endpoint, "timeout": timeout, "now": now,
        }  # fmt: skip
        self._region = region
        self._credentials = (access_key, secret_key)
        self._session_token, self._configuration_set, self._now = session_token, configuration_set, now
        self._url = (endpoint or f"https://email.{region}.amazonaws.com").rstrip("/") + _PATH
        self._api = Api("Amazon SES", timeout=timeout)

    def __repr__(self) -> str:
        return f"<SES {self._region}>"

    @classmethod
    def from_url(cls, url: str, environ: Mapping[str, str]) -> Self:
        """Read the settings from ``ses://eu-west-1`` or ``ses://eu-west-1/configuration-set`` and the environment.

        Raises:
            ConfigError: The URL or the environment's ``AWS_...`` variables cannot be used.
        """
        parts = urlsplit(url)
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ConfigError("the SES URL must be ses://region or ses://region/configuration-set")
        return cls(
            parts.netloc,
            access_key=environ.get("AWS_ACCESS_KEY_ID", ""),
            secret_key=environ.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=environ.get("AWS_SESSION_TOKEN") or None,
            configuration_set=parts.path.strip("/") or None,
        )

    def another(self) -> SES:
        """One more connection with the same settings, for another thread."""
        return SES(self._region, **self._settings)

    def close(self) -> None:
        """Give the connection back."""
        self._api.close()

    def send(self, message: RenderedMessage) -> str:
        """Send one message; see `Transport.send`."""
        answer = self._api.post(self._request(message), message)
        if answer.status == 200:
            return f"200 {answer.body.get('MessageId', '')}".rstrip()
        raise self._refusal(answer, message)

    def _request(self, message: RenderedMessage) -> Request:
        body: dict[str, Any] = {
            "Destination": {"ToAddresses": [message.recipient]},
            "Content": {"Raw": {"Data": b64encode(message.raw).decode("ascii")}},
            "EmailTags": [{"Name": OUR_KEY, "Value": message.message_id}],
        }
        if self._configuration_set is not None:
            body["ConfigurationSetName"] = self._configuration_set
        content = json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        if self._session_token:
            headers["X-Amz-Security-Token"] = self._session_token
        signed = sign(
            "POST", self._url, headers, content, credentials=self._credentials, region=self._region, service="ses",
            now=self._now(),
        )  # fmt: skip
        return Request(url=self._url, headers=signed, body=content)

    def _refusal(
        self, answer: Answer, message: RenderedMessage
    ) -> ConfigError | PermanentSendError | TransientSendError:
        # The type comes as "TooManyRequestsException:http://internal.amazon.com/...", or in the body with a prefix.
        kind = answer.headers.get("x-amzn-errortype", "") or str(answer.body.get("__type", ""))
        kind = kind.partition(":")[0].rpartition("#")[2]
        known = self._api.refusal(answer, message, code=kind)
        if kind in _AGAIN:
            return TransientSendError(str(known), code=answer.status, retry_after=answer.retry_after, throttled="relay")
        if kind in _SETTINGS or _NOT_VERIFIED in answer.words():
            return ConfigError(str(known), hint="look at the account, and at the identities that may send, in SES")
        if kind == "MessageRejected":
            return PermanentSendError(str(known), code=answer.status, recipient=message.recipient, kind="policy")
        return known


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    credentials: tuple[str, str],
    region: str,
    service: str,
    now: datetime,
) -> dict[str, str]:
    """Sign a request as AWS wants it (Signature Version 4, "Create a signed AWS API request").

    Args:
        method: ``GET``, ``POST``.
        url: With host, path and query; the path as it goes over the wire.
        headers: All that are to be signed, without ``Host`` and ``X-Amz-Date``.
        body: The payload.
        credentials: Id of the access key and the key.
        region: Such as ``us-east-1``.
        service: Such as ``ses``.
        now: Aware UTC datetime.

    Returns:
        The headers of the request, signature included.
    """
    parts = urlsplit(url)
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "Host": parts.netloc, "X-Amz-Date": stamp}
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in signed.items())
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join([
        method, quote(parts.path or "/", safe="/-_.~%"), _query(parts.query),
        *(f"{name}:{value}" for name, value in lines), "", names, hashlib.sha256(body).hexdigest(),
    ])  # fmt: skip
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials[1]}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    signature = _mac(key, text).hex()
    signed["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials[0]}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed


def _query(query: str) -> str:
    pairs = sorted((name, value) for name, _, value in (p.partition("=") for p in query.split("&") if p))
    return "&".join(f"{name}={value}" for name, value in pairs)  # by name: "a" stands before "a-", though "-" < "="


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
