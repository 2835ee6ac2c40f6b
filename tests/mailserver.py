"""A real SMTP server on loopback that records what it takes, for tests."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # aiosmtpd's own
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Recorder:
    """Keeps (recipient, raw bytes) in the order of arrival, and who greeted it; refuses the addresses it is told to."""

    mails: list[tuple[str, bytes]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    greeted_by: set[str | None] = field(default_factory=set)
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def handle_RCPT(  # noqa: N802  (the names are aiosmtpd's)
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.greeted_by.add(session.host_name)
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: object, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content or b""
        raw = content if isinstance(content, bytes) else content.encode()
        with self._lock:
            for recipient in envelope.rcpt_tos:
                self.keep(recipient, raw)
        return "250 taken"

    def keep(self, recipient: str, raw: bytes) -> None:
        """Take one mail; called by one thread at a time."""
        self.mails.append((recipient, raw))

    def __len__(self) -> int:
        with self._lock:
            return len(self.mails)

    @property
    def recipients(self) -> list[str]:
        with self._lock:
            return [recipient for recipient, _ in self.mails]

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"


def free_port() -> int:
    """A TCP port on loopback that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def recording(recorder: Recorder | None = None) -> Iterator[Recorder]:
    """Run the server for the length of a ``with`` block."""
    recorder = Recorder() if recorder is None else recorder
    recorder.port = free_port()
    controller = Controller(recorder, hostname="127.0.0.1", port=recorder.port)
    controller.start()
    try:
        yield recorder
    finally:
        controller.stop()
