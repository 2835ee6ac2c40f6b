"""Hands finished mails over: transports (SMTP, files, memory), the rate limiter and the schedule of retries.

A transport answers with the server's words or raises what the caller has to do about it: `TransientSendError` (try
again later), `PermanentSendError` (never again), `ConfigError` (stop: every message would fail), `UncertainSendError`
(the whole message went out, but no answer came: it may have been delivered).
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
import time
from base64 import b64encode
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self
from urllib.parse import unquote, urlsplit

from abmail.errors import ConfigError, PermanentSendError, TransientSendError, UncertainSendError, mask_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from abmail.render import RenderedMessage

__all__ = ["SMTP", "File", "Memory", "RateLimiter", "Security", "Transport", "retry_delay"]

Security = Literal["none", "starttls", "tls"]
_Stage = Literal["MAIL", "RCPT", "DATA", "end of DATA"]

_SCHEMES: Final[dict[str, tuple[Security, int]]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
}
_URL_HINT = "write smtp://, smtp+starttls:// or smtps://, then user:password@host:port (percent-encode @ : / in them)"
_DELAYS = (60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0)  # seconds: 1 m, 5 m, 15 m, 1 h, 4 h, 12 h
_ADDRESS = re.compile(r"[^\s<>\x00-\x1f\x7f]+@[^\s<>@\x00-\x1f\x7f]+")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")
_AGAIN = re.compile(r"(?:again|retry|wait)\D{0,24}(\d{1,5})\s*(s|m|h)(?:ec|econd|in|inute|our)?s?\b", re.IGNORECASE)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0}
# RFC 3463: states of the sender's address, not of the recipient's.
_SENDER_STATUS = frozenset({"5.1.7", "5.1.8", "5.1.9"})
# A 550 without a status code that speaks of us says nothing about the recipient's address.
_ABOUT_US = re.compile(r"relay|block|black.?list|spam|polic|reputation|listed|spf|dkim|dmarc", re.IGNORECASE)
_FILE_NAME = re.compile(r"(\d+)-([A-Za-z0-9_-]+)\.eml")
_MAX_WORDS = 500  # characters kept of a server's answer
_QUIT_TIMEOUT = 5.0  # seconds; a goodbye is a courtesy


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


class _HasRandom(Protocol):
    def random(self) -> float: ...


def retry_delay(attempt: int, *, rng: _HasRandom) -> float | None:
    """How long to wait after a failed attempt: full jitter below 1 m, 5 m, 15 m, 1 h, 4 h, 12 h.

    Args:
        attempt: How many attempts have failed, from 1.
        rng: Source of the jitter (`random.Random` or a numpy generator).

    Returns:
        Seconds, more than zero; None when nothing is to be tried any more.

    Raises:
        ValueError: `attempt` is below 1.

    >>> import random
    >>> 0 < retry_delay(1, rng=random.Random(7)) <= 60
    True
    >>> retry_delay(7, rng=random.Random(7)) is None
    True
    """
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}, must be 1 or more")
    return _DELAYS[attempt - 1] * (1.0 - rng.random()) if attempt <= len(_DELAYS) else None


class RateLimiter:
    """A token bucket: on average so many messages a second, at most `burst` at once. May be shared between threads.

    Args:
        rate_per_second: Messages a second, more than zero.
        burst: Size of the bucket, 1 or more; it is full at the start.
        clock: Seconds, never running backwards.
        sleep: Waits for so many seconds.

    Raises:
        ValueError: A rate or burst out of range.
    """

    __slots__ = ("_clock", "_full_at", "_gap", "_lock", "_slack", "_sleep")

    def __init__(
        self,
        rate_per_second: float,
        *,
        burst: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0.0 < rate_per_second < float("inf"):
            raise ValueError(f"rate_per_second is {rate_per_second}, must be more than 0 and finite")
        if burst < 1:
            raise ValueError(f"burst is {burst}, must be 1 or more")
        self._gap = 1.0 / rate_per_second
        self._slack = (burst - 1) * self._gap
        self._full_at = float("-inf")  # when the bucket would be full again
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take a token now or from the future.

        Returns:
            Seconds to wait before the message may go, 0.0 when it may go at once.
        """
        with self._lock:
            now = self._clock()
            self._full_at = max(self._full_at, now)
            delay = max(0.0, self._full_at - self._slack - now)
            self._full_at += self._gap
        return delay

    def wait(self) -> float:
        """Wait until a message may go.

        Returns:
            Seconds that were waited.
        """
        delay = self.reserve()
        if delay > 0.0:
            self._sleep(delay)
        return delay


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

    def _path(self, message_id: str) -> Path:
        if not _FILE_NAME.fullmatch(f"0-{message_id}.eml"):
            raise ValueError(f"message id {message_id!r} cannot be part of a file name")
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


class SMTP:
    """Sends over one SMTP connection that is kept open; one recipient in each transaction.

    Use one object for each thread. Nothing is ever sent unencrypted where `security` asks for encryption.

    Args:
        host: Name or address of the server.
        port: 1 to 65535.
        security: `none`, `starttls` (required, not opportunistic) or `tls` from the first byte.
        username: For AUTH; None to send without.
        password: Belongs to `username`.
        timeout: Seconds to wait for the connection and for each answer before the message itself goes out.
        data_timeout: Seconds for the message to go out, and again for its answer (RFC 5321, section 4.5.3.2.6).
        local_hostname: Our name in EHLO; by default the machine's where it has a domain, else its address.
        max_per_connection: Messages before a new connection is made.
        context: TLS settings; by default certificates are checked against the system's authorities.

    Raises:
        ConfigError: A setting is out of range.
    """

    name: str = "smtp"

    def __init__(
        self,
        host: str,
        *,
        port: int = 25,
        security: Security = "none",
        username: str | None = None,
        password: str | None = None,
        timeout: float = 30.0,
        data_timeout: float = 600.0,
        local_hostname: str | None = None,
        max_per_connection: int = 100,
        context: ssl.SSLContext | None = None,
    ) -> None:
        if not host or not 1 <= port <= 65_535:
            raise ConfigError(f"the SMTP server is {host!r}, port {port}: a host and a port in 1..65535 are needed")
        if security not in ("none", "starttls", "tls"):
            raise ConfigError(f"SMTP security is {security!r}, must be none, starttls or tls")
        if (username is None) != (password is None):
            raise ConfigError("SMTP needs both a user name and a password, or neither", hint=_URL_HINT)
        if max_per_connection < 1 or timeout <= 0 or data_timeout <= 0:
            raise ConfigError("SMTP's max_per_connection and timeouts must be more than zero")
        self._place = f"{host}:{port}"
        self._host, self._port, self._security = host, port, security
        self._login = None if username is None or password is None else (username, password)
        self._timeout, self._data_timeout = timeout, data_timeout
        self._local_hostname = local_hostname
        self._max_per_connection = max_per_connection
        self._context = context
        self._session: _Session | None = None

    def __repr__(self) -> str:
        return f"<SMTP {self._place} {self._security}>"

    @classmethod
    def from_url(cls, url: str, *, local_hostname: str | None = None, context: ssl.SSLContext | None = None) -> Self:
        """Read the settings from a URL such as `smtp+starttls://user:password@mail.example.com:587`.

        Schemes: `smtp` (plain, port 25), `smtp+starttls` (587), `smtps` (465). User and password are percent-decoded.

        Raises:
            ConfigError: The URL cannot be used. The message never shows the password.
        """
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        except ValueError:
            raise ConfigError("the SMTP URL cannot be read: its host or port is malformed", hint=_URL_HINT) from None
        if scheme not in _SCHEMES or not host or parts.path.strip("/") or parts.query or parts.fragment:
            shown = f"{scheme}://{'***@' if '@' in url else ''}…" if scheme in _SCHEMES else "of another kind"
            raise ConfigError(f"the SMTP URL is {shown}, must be scheme, host and port alone", hint=_URL_HINT)
        security, default_port = _SCHEMES[scheme]
        return cls(
            host,
            port=default_port if port is None else port,
            security=security,
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            local_hostname=local_hostname,
            context=context,
        )

    def send(self, message: RenderedMessage) -> str:
        """Send one message; see `Transport.send`.

        A connection that the server closed while it was idle is replaced without a word.
        """
        envelope = _Envelope.of(message)
        session = self._ready()
        try:
            return session.send(envelope)
        except _HungUpError:
            if session.transactions == 1:
                raise
        return self._ready().send(envelope)

    def close(self) -> None:
        """Say goodbye to the server."""
        if self._session is not None:
            self._session.quit()
            self._session = None

    def _ready(self) -> _Session:
        if self._session and (self._session.broken or self._session.transactions >= self._max_per_connection):
            self.close()
        if self._session is None:
            self._session = _Session(self._connect(), self._timeout, self._data_timeout)
        return self._session

    def _connect(self) -> smtplib.SMTP:
        with _setup_errors(self._place):
            client = self._open()
            try:
                client.local_hostname = self._local_hostname or _own_name(client)
                client.ehlo_or_helo_if_needed()
                if self._security == "starttls":
                    client.starttls(context=self._context or ssl.create_default_context())
                    client.ehlo_or_helo_if_needed()
                if self._login:
                    _authenticate(client, *self._login)
            except BaseException:
                client.close()
                raise
        return client

    def _open(self) -> smtplib.SMTP:
        # A name given here keeps smtplib from a DNS query that can stall; the real one is set once the socket is there.
        if self._security != "tls":
            return smtplib.SMTP(self._host, self._port, "localhost", self._timeout)
        context = self._context or ssl.create_default_context()
        return smtplib.SMTP_SSL(self._host, self._port, "localhost", timeout=self._timeout, context=context)


class _LostError(Exception):
    """The connection broke, timed out, or brought something that is no SMTP reply."""


class _HungUpError(TransientSendError):
    """The server said goodbye, or nothing, when a transaction was to begin: nothing of the message went out."""


@dataclass(frozen=True, slots=True)
class _Envelope:
    """A message as SMTP carries it."""

    sender: str
    recipient: str
    size: int
    data: bytes

    @classmethod
    def of(cls, message: RenderedMessage) -> Self:
        raw, address = message.raw, message.recipient
        for each in (message.sender, address):
            if not _ADDRESS.fullmatch(each):
                raise PermanentSendError(f"{mask_address(each)!r} cannot stand in an SMTP envelope", recipient=address)
        # A lone CR or LF can end the message early for some servers and smuggle in another one.
        in_lines = raw.replace(b"\r\n", b"")
        if b"\r" in in_lines or b"\n" in in_lines:
            raise PermanentSendError("the message has lines that don't end in CRLF", recipient=address)
        stuffed = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]
        ending = b".\r\n" if raw.endswith(b"\r\n") else b"\r\n.\r\n"
        return cls(message.sender, address, len(raw), stuffed + ending)

    @property
    def is_utf8(self) -> bool:
        """Whether an address needs RFC 6531."""
        return not (self.sender.isascii() and self.recipient.isascii())

    def masked(self, text: str) -> str:
        """A server's words without the recipient's address."""
        return re.sub(re.escape(self.recipient), lambda _: mask_address(self.recipient), text, flags=re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Reply:
    code: int
    text: str

    @classmethod
    def of(cls, code: int, words: bytes | str) -> Self:
        """Make a reply of one line, without signs that could disturb a log."""
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
        return cls(code, "".join(filter(str.isprintable, " ".join(text.split())))[:_MAX_WORDS])

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


class _Session:
    """One connection after EHLO, TLS and AUTH; each step of a transaction is taken here, so that its stage is known."""

    def __init__(self, client: smtplib.SMTP, timeout: float, data_timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._data_timeout = data_timeout
        self._extensions = client.esmtp_features
        self.transactions = 0
        self.broken = False

    def send(self, envelope: _Envelope) -> str:
        self._check(envelope)
        self.transactions += 1
        self.broken = True  # until this transaction has ended in order, whatever interrupts it
        stage, reply = self._begin(envelope) or self._hand_over(envelope)
        if stage == "end of DATA" and 200 <= reply.code <= 299:
            self.broken = False
            return str(reply)
        self._recover(reply)
        raise _refusal(envelope, stage, reply)

    def quit(self) -> None:
        with suppress(_LostError, smtplib.SMTPException, OSError):
            if not self.broken:
                self._set_timeout(min(self._timeout, _QUIT_TIMEOUT))
                self._client.quit()
        self._client.close()

    def _check(self, envelope: _Envelope) -> None:
        """Refuse what this server is known not to take."""
        limit = self._extensions.get("size", "")
        if limit.isdigit() and 0 < int(limit) < envelope.size:
            raise PermanentSendError(
                f"the message has {envelope.size} octets, the server takes {limit}", recipient=envelope.recipient
            )
        if envelope.is_utf8 and "smtputf8" not in self._extensions:
            raise PermanentSendError(
                f"{mask_address(envelope.recipient)} or the sender's address is not ASCII before the @, "
                "and the server does not offer SMTPUTF8",
                recipient=envelope.recipient,
                hint="ask for another address, or send through a server that offers SMTPUTF8 (RFC 6531)",
            )

    def _begin(self, envelope: _Envelope) -> tuple[_Stage, _Reply] | None:
        """Take MAIL, RCPT and DATA; the first refusal, None when the server waits for the message."""
        refusal: tuple[_Stage, _Reply] | None = None
        reply = _Reply(0, "")
        try:
            for stage, reply in self._replies(self._commands(envelope)):
                if refusal is None and not _goes_on(stage, reply):
                    refusal = (stage, reply)
                if refusal and not self._pipelines:
                    break
            if refusal and reply.code == 354:  # RFC 2920, section 3.1: accepted without a recipient
                self._write(b".\r\n")
                self._read()
        except _LostError as error:
            if refusal is None:
                kind = TransientSendError if reply.code else _HungUpError
                raise kind(f"the connection was lost before the message went out: {error}") from error
        return refusal

    def _commands(self, envelope: _Envelope) -> list[tuple[_Stage, bytes]]:
        options = f" SIZE={envelope.size}" if "size" in self._extensions else ""
        options += " BODY=8BITMIME SMTPUTF8" if envelope.is_utf8 else ""
        return [
            ("MAIL", f"MAIL FROM:<{envelope.sender}>{options}\r\n".encode()),
            ("RCPT", f"RCPT TO:<{envelope.recipient}>\r\n".encode()),
            ("DATA", b"DATA\r\n"),
        ]

    @property
    def _pipelines(self) -> bool:
        return "pipelining" in self._extensions

    def _replies(self, commands: list[tuple[_Stage, bytes]]) -> Iterator[tuple[_Stage, _Reply]]:
        if self._pipelines:  # one round trip instead of three
            self._write(b"".join(command for _, command in commands))
        for stage, command in commands:
            if not self._pipelines:
                self._write(command)
            yield stage, self._read()

    def _hand_over(self, envelope: _Envelope) -> tuple[_Stage, _Reply]:
        """Write the message and wait for the verdict."""
        self._set_timeout(self._data_timeout)
        try:
            # When this fails, the last octets have not left: without the final dot no server accepts a message.
            self._write(envelope.data)
        except _LostError as error:
            raise TransientSendError(f"the connection was lost while the message went out: {error}") from error
        try:
            reply = self._read()
            self._set_timeout(self._timeout)
        except _LostError as error:
            raise UncertainSendError(
                f"the whole message to {mask_address(envelope.recipient)} went out, but no answer came: {error}",
                hint="look for it at the server, then `abmail settle`",
            ) from error
        return "end of DATA", reply

    def _recover(self, reply: _Reply) -> None:
        """After a refusal: make the connection fit for the next message, where it still lives."""
        if reply.code != 421:
            with suppress(_LostError):
                self._write(b"RSET\r\n")
                self.broken = self._read().code != 250

    def _write(self, octets: bytes) -> None:
        if self._client.sock is None:
            raise _LostError("it is closed")
        try:
            self._client.sock.sendall(octets)
        except OSError as error:
            raise _LostError(_reason(error)) from error

    def _read(self) -> _Reply:
        try:
            code, text = self._client.getreply()
        except smtplib.SMTPServerDisconnected as error:
            raise _LostError(_reason(error.__context__ or error)) from error
        except smtplib.SMTPResponseException as error:
            raise _LostError("the answer is no SMTP reply") from error
        if not 200 <= code <= 599:
            raise _LostError("the answer is no SMTP reply")
        return _Reply.of(code, text)

    def _set_timeout(self, seconds: float) -> None:
        if self._client.sock is not None:
            self._client.sock.settimeout(seconds)


def _goes_on(stage: _Stage, reply: _Reply) -> bool:
    return reply.code == 354 if stage == "DATA" else 200 <= reply.code <= 299


def _refusal(
    envelope: _Envelope, stage: _Stage, reply: _Reply
) -> ConfigError | PermanentSendError | TransientSendError:
    """What a refusal means (RFC 5321 section 4.2.1, RFC 3463)."""
    message = f"the server answered {stage} with {envelope.masked(str(reply))!r}"
    code, status = reply.code, reply.status
    if code < 500:
        kind = _HungUpError if code == 421 and stage == "MAIL" else TransientSendError
        return kind(message, code=code, retry_after=reply.retry_after)
    about_message = code == 552 or status in ("5.3.4", "5.6.7")
    if code in (530, 535, 538) or (stage == "MAIL" and not about_message):
        hint = "check the SMTP login, and whether this server may send for the sender's address"
        return ConfigError(message, hint=hint)
    return PermanentSendError(message, code=code, recipient=envelope.recipient, hard=_is_hard(stage, reply))


def _is_hard(stage: _Stage, reply: _Reply) -> bool:
    """Whether the recipient's address is dead: no mail is to go there again."""
    status = reply.status
    if status.startswith("5.1.") or status == "5.2.1":
        return status not in _SENDER_STATUS
    if stage != "RCPT" or reply.code != 550:
        return False
    return not status.startswith(("5.2.", "5.3.", "5.7.")) if status else not _ABOUT_US.search(reply.text)


@contextmanager
def _setup_errors(place: str) -> Iterator[None]:
    """Say what a failure before the first message means."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"the certificate of {place} is not valid: {error.verify_message}",
            hint="use the host name that the certificate is made for",
        ) from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise TransientSendError(f"{place} hung up during the TLS handshake") from error
    except ssl.SSLError as error:
        raise ConfigError(
            f"TLS with {place} failed: {error.reason or error}",
            hint="smtps:// is for ports that speak TLS at once (465), smtp+starttls:// for the others (587)",
        ) from error
    except smtplib.SMTPResponseException as error:
        raise _setup_refusal(place, error) from error
    except smtplib.SMTPNotSupportedError as error:
        raise ConfigError(f"{place}: {error}", hint="check the scheme of the SMTP URL, and the login in it") from error
    except smtplib.SMTPServerDisconnected as error:
        raise TransientSendError(f"{place} hung up: {_reason(error.__context__ or error)}") from error
    except smtplib.SMTPException as error:
        raise ConfigError(f"{place}: {error}", hint="check the login in the SMTP URL") from error
    except UnicodeError as error:
        raise ConfigError(f"{place} is no host name", hint=_URL_HINT) from error
    except OSError as error:
        raise TransientSendError(
            f"no connection to {place}: {_reason(error)}", hint="check host and port of the SMTP URL, and the network"
        ) from error


def _setup_refusal(place: str, error: smtplib.SMTPResponseException) -> ConfigError | TransientSendError:
    reply = _Reply.of(error.smtp_code, error.smtp_error)
    if 400 <= reply.code <= 499:
        return TransientSendError(f"{place} answered {reply}", code=reply.code, retry_after=reply.retry_after)
    return ConfigError(f"{place} answered {reply}", hint="check the SMTP login, and whether you may use this server")


def _authenticate(client: smtplib.SMTP, username: str, password: str) -> None:
    if username.isascii() and password.isascii():
        client.login(username, password)
        return
    # smtplib writes logins in ASCII alone; RFC 4616 lets PLAIN carry UTF-8.
    if "PLAIN" not in client.esmtp_features.get("auth", "").upper().split():
        raise smtplib.SMTPNotSupportedError("a login outside ASCII needs AUTH PLAIN, which the server does not offer")
    secret = b64encode(f"\0{username}\0{password}".encode()).decode()
    code, words = client.docmd("AUTH", f"PLAIN {secret}")
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, words)


def _own_name(client: smtplib.SMTP) -> str:
    """The machine's name for EHLO, else the address literal of our end of the connection (RFC 5321, section 4.1.4)."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = client.sock.getsockname()[0] if client.sock else "127.0.0.1"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
