"""What the providers' HTTP APIs have in common: one connection that is kept, and what each failure means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from abmail.errors import (
    ConfigError,
    MissingExtra,
    PermanentSendError,
    TransientSendError,
    UncertainSendError,
    mask_address,
)

if TYPE_CHECKING:
    import httpx

    from abmail.render import RenderedMessage

__all__ = ["Answer", "Api", "Request"]

_KEPT: Final = 5.0  # seconds; an older connection may be closed by now, and nobody could tell how far a request came
_LOST_BEHIND: Final = frozenset({502, 504})  # a gateway that got no answer itself
_MAX_WORDS: Final = 300  # characters kept of a provider's answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of an API: always a POST of JSON."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a provider answered.

    Attributes:
        status: HTTP status.
        headers: Names in lower case.
        body: JSON object, empty where there was none.
    """

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, where the provider named them (RFC 9110, section 10.2.3; dates are not used here)."""
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdigit() else None

    def words(self) -> str:
        """The provider's own words, on one line."""
        said = self.body.get("message") or self.body.get("Message") or ""
        return "".join(filter(str.isprintable, " ".join(str(said).split())))[:_MAX_WORDS]


class Api:
    """Posts to an HTTPS API over one connection; not to be shared between threads.

    Args:
        name: The provider's name, for messages.
        timeout: Seconds to connect, and to wait for the answer.

    Raises:
        MissingExtra: httpx is not installed.
    """

    def __init__(self, name: str, *, timeout: float = 60.0) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra(f"sending through {name}", "api") from error
        self._name, self._timeout = name, timeout
        self._httpx = httpx
        self._client: httpx.Client | None = None

    def close(self) -> None:
        """Give the connection back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def post(self, request: Request, message: RenderedMessage) -> Answer:
        """Make one call.

        Raises:
            TransientSendError: It did not get as far as the provider.
            UncertainSendError: It did, but no answer came.
        """
        httpx = self._httpx
        try:
            response = self._connection().post(request.url, headers=dict(request.headers), content=request.body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise TransientSendError(f"no connection to {self._name}: {error}") from error
        except (httpx.WriteError, httpx.WriteTimeout) as error:  # without its end no server takes a request
            raise TransientSendError(f"the connection to {self._name} was lost on the way: {error}") from error
        except httpx.TransportError as error:
            self.close()
            raise self._uncertain(message, str(error) or type(error).__name__) from error
        if response.status_code in _LOST_BEHIND:
            raise self._uncertain(message, f"{response.status_code} from a server in between")
        return Answer(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=_object(response.content),
        )

    def _uncertain(self, message: RenderedMessage, why: str) -> UncertainSendError:
        return UncertainSendError(
            f"the message to {mask_address(message.recipient)} was given to {self._name}, but no answer came: {why}",
            hint="look for it at the provider, then `abmail settle`",
        )

    def refusal(
        self, answer: Answer, message: RenderedMessage, *, code: str
    ) -> ConfigError | PermanentSendError | TransientSendError:
        """What an HTTP status means where the provider's own error code decides nothing else.

        Args:
            answer: The answer.
            message: What was to be sent.
            code: The provider's name of the error.
        """
        words = answer.words().replace(message.recipient, mask_address(message.recipient))
        said = " ".join(part for part in (f"{self._name} answered {answer.status}", code, words) if part)
        if answer.status == 429:
            return TransientSendError(said, code=429, retry_after=answer.retry_after, throttled="relay")
        if answer.status >= 500 or answer.status in {408, 409, 425}:
            return TransientSendError(said, code=answer.status, retry_after=answer.retry_after)
        if answer.status in {401, 403, 404, 405}:
            return ConfigError(said, hint="check the key, the sender's domain, and what the key may do")
        return PermanentSendError(said, code=answer.status, recipient=message.recipient)

    def _connection(self) -> httpx.Client:
        if self._client is None:
            httpx = self._httpx
            limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT)
            self._client = httpx.Client(timeout=self._timeout, limits=limits, follow_redirects=False)
        return self._client


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
