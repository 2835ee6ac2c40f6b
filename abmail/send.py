"""Hands finished mails over: the transports (SMTP, providers' HTTP APIs, files, memory) and what they promise.

A transport answers with the server's words or raises what the caller has to do about it: `TransientSendError` (try
again later), `PermanentSendError` (never again), `ConfigError` (stop: every message would fail), `UncertainSendError`
(the whole message went out, but no answer came: it may have been delivered).
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from abmail._resend import Resend
from abmail._ses import SES
from abmail._smtp import SMTP, Security
from abmail._throttle import GROUPS, Throttle, mailbox_group, retry_delay
from abmail.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from abmail.render import RenderedMessage

__all__ = [
    "GROUPS",
    "SES",
    "SMTP",
    "File",
    "Memory",
    "Resend",
    "Security",
    "Throttle",
    "Transport",
    "mailbox_group",
    "retry_delay",
    "transport_from_url",
]

_FILE_NAME = re.compile(r"(\d+)-([A-Za-z0-9_-]+)\.eml")


class Transport(Protocol):
    """Takes mails over, one at a time; not to be shared between threads.

    Attributes:
        name: Short name for logs and the ledger.
    """

    name: str

    def send(self, message: RenderedMessage) -> str:
        """Hand one message over.

        Returns:
            What the server answered.

        Raises:
            TransientSendError: Not now.
            PermanentSendError: Never.
            UncertainSendError: It may or may not have been accepted.
            ConfigError: No message can be sent with these settings.
        """
        ...

    def close(self) -> None:
        """Give connections back; sending again opens a new one."""
        ...

    def another(self) -> Transport:
        """One more of the kind, to be used by another thread."""
        ...


def transport_from_url(
    url: str, *, environ: Mapping[str, str] | None = None, ehlo_name: str | None = None
) -> Transport:
    """The transport that a URL names: ``smtp://``, ``smtp+starttls://``, ``smtps://``, ``ses://region``, ``resend://``.

    Args:
        url: The URL; of a provider's API it holds no secret.
        environ: Where the providers' keys are found; the process's environment by default.
        ehlo_name: Our name for an SMTP server, see `SMTP`.

    Raises:
        ConfigError: The URL or a key cannot be used. The message shows neither password nor key.
        MissingExtra: The provider's API needs the extra ``api``.
    """
    known = os.environ if environ is None else environ
    match url.partition("://")[0].lower():
        case "ses":
            return SES.from_url(url, known)
        case "resend":
            return Resend.from_url(url, known)
        case _:
            return SMTP.from_url(url, local_hostname=ehlo_name)


class Memory:
    """Keeps messages in a list, for tests.

    Attributes:
        messages: What was sent, in order.
    """

    name: str = "memory"

    def __init__(self) -> None:
        self.messages: list[RenderedMessage] = []

    def send(self, message: RenderedMessage) -> str:
        """Keep the message."""
        self.messages.append(message)
        return f"250 kept as number {len(self.messages)}"

    def close(self) -> None:
        """Do nothing."""

    def another(self) -> Self:
        """This one: threads may share it."""
        return self


class File:
    """Writes each message into a folder as `NNN-<message_id>.eml`; the same message again replaces its file.

    Args:
        directory: The folder; made when the first message comes.
    """

    name: str = "file"

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._names: dict[str, str] | None = None  # read when the first message comes
        self._last = 0
        self._lock = threading.Lock()

    def send(self, message: RenderedMessage) -> str:
        """Write the message; a reader never sees half a file.

        Raises:
            ConfigError: The folder cannot be written.
            ValueError: The message's id cannot be part of a file name.
        """
        try:
            path = self._path(message.message_id)
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(message.raw)
            unfinished.replace(path)
        except OSError as error:
            raise ConfigError(
                f"mails cannot be written to {self.directory}: {error.strerror}", hint="choose a folder you may write"
            ) from error
        return f"250 written to {path}"

    def close(self) -> None:
        """Do nothing."""

    def another(self) -> Self:
        """This one: threads may share it."""
        return self

    def _path(self, message_id: str) -> Path:
        if not _FILE_NAME.fullmatch(f"0-{message_id}.eml"):
            raise ValueError(f"message id {message_id!r} cannot be part of a file name")
        with self._lock:
            if self._names is None:
                self._names = self._written()
                self._last = max((int(name.partition("-")[0]) for name in self._names.values()), default=0)
            if message_id not in self._names:
                self._last += 1
                self._names[message_id] = f"{self._last:03d}-{message_id}.eml"
            return self.directory / self._names[message_id]

    def _written(self) -> dict[str, str]:
        """Message id -> file name, of what earlier runs left."""
        self.directory.mkdir(parents=True, exist_ok=True)
        found = map(_FILE_NAME.fullmatch, sorted(each.name for each in self.directory.iterdir()))
        return {match[2]: match[0] for match in found if match}
