"""What a mail server's reply means for the message, the address and the relay (RFC 5321, RFC 3463)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from abmail.errors import ConfigError, PermanentSendError, TransientSendError

if TYPE_CHECKING:
    from abmail.errors import Refusal

__all__ = ["HungUpError", "Reply", "Stage", "goes_on", "refusal", "setup_refusal"]

Stage = Literal["MAIL", "RCPT", "DATA", "end of DATA"]

_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")
_AGAIN: Final = re.compile(
    r"(?:again|retry|wait)\D{0,24}(\d{1,5})\s*(s|m|h)(?:ec|econd|in|inute|our)?s?\b", re.IGNORECASE
)
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0}
# RFC 3463: states of the sender's address, not of the recipient's.
_SENDER_STATUS: Final = frozenset({"5.1.7", "5.1.8", "5.1.9"})
# A reply without a status code that speaks of us says nothing about the recipient's address.
_ABOUT_US: Final = re.compile(r"relay|block|black.?list|spam|polic|reputation|listed|spf|dkim|dmarc", re.IGNORECASE)
_MAX_WORDS: Final = 500  # characters kept of a server's answer


class HungUpError(TransientSendError):
    """The server said goodbye, or nothing, when a transaction was to begin: nothing of the message went out."""


class Reply(NamedTuple):
    """One reply of a server: its code and its words as they came."""

    code: int
    words: bytes

    @property
    def text(self) -> str:
        """The words on one line, without signs that could disturb a log."""
        text = " ".join(self.words.decode("utf-8", "replace").split())
        return (text if text.isprintable() else "".join(filter(str.isprintable, text)))[:_MAX_WORDS]

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()

    @property
    def status(self) -> str:
        """Enhanced status code (RFC 3463), empty where there is none."""
        match = _STATUS.match(self.text)
        return match[0] if match else ""

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, where the server named them."""
        match = _AGAIN.search(self.text)
        return float(match[1]) * _UNITS[match[2].lower()] if match else None

    @property
    def throttles(self) -> bool:
        """Whether we are asked to send more slowly: 421, or a 450 or 451 whose status speaks of policy (4.7.x)."""
        return self.code == 421 or (self.code in {450, 451} and self.status.startswith("4.7."))


def goes_on(stage: Stage, reply: Reply) -> bool:
    """Whether the server takes the next step after this reply."""
    return reply.code == 354 if stage == "DATA" else 200 <= reply.code <= 299


def refusal(
    stage: Stage, reply: Reply, *, recipient: str, words: str
) -> ConfigError | PermanentSendError | TransientSendError:
    """What a refusal means.

    Args:
        stage: The command that was refused.
        reply: The refusal.
        recipient: Address of the message's recipient.
        words: The reply without any address in clear.
    """
    message = f"the server answered {stage} with {words!r}"
    if reply.code < 500:
        kind = HungUpError if reply.code == 421 and stage == "MAIL" else TransientSendError
        whose: Literal["relay", "recipient"] = "relay" if stage == "MAIL" else "recipient"
        return kind(message, code=reply.code, retry_after=reply.retry_after, throttled=whose if reply.throttles else "")
    about_message = reply.code == 552 or reply.status in {"5.3.4", "5.6.7"}
    if reply.code in {530, 535, 538} or (stage == "MAIL" and not about_message):
        hint = "check the SMTP login, and whether this server may send for the sender's address"
        return ConfigError(message, hint=hint)
    return PermanentSendError(message, code=reply.code, recipient=recipient, kind=_kind(stage, reply))


def _kind(stage: Stage, reply: Reply) -> Refusal:
    """Whether an address is dead, only full, or the refusal is about us or this mail."""
    if _is_dead(stage, reply):
        return "hard"
    if reply.status == "5.2.2" or (reply.code == 552 and not reply.status):
        return "soft"
    about_us = reply.status.startswith("5.7.") or reply.status in _SENDER_STATUS
    if about_us or (not reply.status and (reply.code == 554 or _ABOUT_US.search(reply.text))):
        return "policy"
    return "other"


def _is_dead(stage: Stage, reply: Reply) -> bool:
    """Whether the recipient's address is dead: no mail is to go there again."""
    status = reply.status
    if status.startswith("5.1.") or status in {"5.2.1", "5.4.4"}:
        return status not in _SENDER_STATUS
    if stage != "RCPT" or reply.code != 550:
        return False
    return not status.startswith(("5.2.", "5.3.", "5.7.")) if status else not _ABOUT_US.search(reply.text)


def setup_refusal(place: str, code: int, words: bytes | str) -> ConfigError | TransientSendError:
    """What a refusal of the greeting, of STARTTLS or of the login means."""
    reply = Reply(code, words.encode() if isinstance(words, str) else words)
    if 400 <= reply.code <= 499:
        throttled: Literal["", "relay"] = "relay" if reply.throttles else ""
        said = f"{place} answered {reply}"
        return TransientSendError(said, code=reply.code, retry_after=reply.retry_after, throttled=throttled)
    return ConfigError(f"{place} answered {reply}", hint="check the SMTP login, and whether you may use this server")
