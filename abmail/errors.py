"""The exceptions of abmail: every error that a caller can act on derives from AbmailError.

A message says what happened, with the value and the place; ``hint`` says what to do next. Wrong arguments of a
function are plain ``ValueError`` or ``TypeError``. Addresses are masked before they enter a message (`mask_address`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ssl import SSLCertVerificationError

    from abmail.diagnostics import Diagnostic

__all__ = [
    "AbmailError",
    "AudienceError",
    "ConfigError",
    "ExpressionError",
    "MissingExtra",
    "NotMigrated",
    "PermanentSendError",
    "Refusal",
    "RenderError",
    "SendError",
    "SpecError",
    "StalePlan",
    "StoreError",
    "TransientSendError",
    "UncertainSendError",
    "UnknownExperiment",
    "WebhookError",
    "bad_certificate",
    "mask_address",
]

Refusal = Literal["hard", "soft", "policy", "other"]
"""Why a message was refused for good."""


def mask_address(address: str) -> str:
    """Hide the person in an address but keep what helps: ``hanako@example.jp`` -> ``h***@example.jp``."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***{at}{domain}" if at else f"{address[:1]}***"


class AbmailError(Exception):
    """Base of all errors of abmail.

    Attributes:
        hint: What to do next, one sentence; empty where nothing can be advised.
        context: Further facts for a program (never a person's address or a secret).
    """

    def __init__(self, message: str, *, hint: str = "", **context: Any) -> None:
        super().__init__(message)
        self.hint = hint
        self.context: Mapping[str, Any] = context

    @property
    def message(self) -> str:
        """What happened, where, with which value."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(kind: type[AbmailError], args: tuple[Any, ...], state: dict[str, Any]) -> AbmailError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class SpecError(AbmailError, ValueError):
    """A definition cannot be used; ``diagnostics`` holds every problem with its file, line and column."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        lines = [str(d) for d in diagnostics]
        super().__init__("\n".join(lines), hint="`abmail check` shows each problem with its source line")
        self.diagnostics = diagnostics


class ExpressionError(AbmailError, ValueError):
    """A segment expression cannot be parsed; ``offset`` points into ``expression`` (0-based characters)."""

    def __init__(self, message: str, *, expression: str, offset: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.expression = expression
        self.offset = offset

    @property
    def excerpt(self) -> str:
        """The expression with a caret under the place."""
        return f"{self.expression}\n{' ' * self.offset}^"


class AudienceError(AbmailError, ValueError):
    """A list of recipients cannot be read at all (single bad rows are reported and skipped instead)."""


class ModelError(AbmailError, ValueError):
    """A saved send-time model cannot be read."""


class ConfigError(AbmailError, ValueError):
    """A setting is missing or wrong; the message names where it was set."""


class StoreError(AbmailError):
    """The database refuses or lacks something."""


class NotMigrated(StoreError):
    """The database has no tables, or older or newer ones than this version of abmail needs."""


class StalePlan(StoreError):
    """The store moved on after the plan was made."""


class UnknownExperiment(StoreError, LookupError):
    """No experiment of that name was applied."""


class RenderError(AbmailError):
    """A mail cannot be made; says which variant, template, line and variable, as far as known."""

    def __init__(
        self,
        message: str,
        *,
        template: str = "",
        line: int | None = None,
        variant: str = "",
        variable: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.template = template
        self.line = line
        self.variant = variant
        self.variable = variable


class SendError(AbmailError):
    """A message was not accepted by the transport."""


class TransientSendError(SendError):
    """Not now: trying again later can help.

    Attributes:
        code: The server's reply code.
        retry_after: Seconds to wait, where the server named them.
        throttled: Who asks for fewer messages at a time: the ``relay`` for itself, or those who take the
            ``recipient``'s mail; empty where nobody does.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        retry_after: float | None = None,
        throttled: Literal["", "relay", "recipient"] = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.retry_after = retry_after
        self.throttled = throttled


class PermanentSendError(SendError):
    """Never: the server refused this message for good.

    Attributes:
        code: The server's reply code.
        recipient: Address of the recipient.
        kind: ``hard`` where the address is dead, ``soft`` where it is full, ``policy`` where the refusal is about us.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        recipient: str = "",
        kind: Refusal = "other",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.recipient = recipient
        self.kind = kind

    @property
    def hard(self) -> bool:
        """Whether no mail may go to this address again."""
        return self.kind == "hard"


class UncertainSendError(SendError):
    """The connection broke after the whole message had gone out and before the server answered (RFC 1047)."""


class WebhookError(AbmailError, ValueError):
    """A provider's request has a bad signature or body: answer 4xx."""


class MissingExtra(AbmailError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}'", hint=f"pip install 'abmail[{extra}]'")
        self.extra = extra


def bad_certificate(place: str, error: SSLCertVerificationError) -> ConfigError:
    """What a certificate means that cannot be verified; ``place`` is host and port."""
    return ConfigError(
        f"the certificate of {place} is not valid: {error.verify_message}",
        hint="use the host name that the certificate is made for",
    )
