"""SMTP: one connection that is kept, with a pipelined envelope where the server offers it, and every reply read.

smtplib greets, encrypts and logs in; each step of a transaction is taken here, so that its stage is known when a
connection breaks: before the final dot nothing was sent, after it nobody knows (RFC 1047).
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from base64 import b64encode
from contextlib import contextmanager, suppress
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from abmail._relays import id_header
from abmail._replies import HungUpError, Reply, Stage, goes_on, refusal, setup_refusal
from abmail._wire import LostError, open_wire, reason
from abmail.errors import (
    ConfigError,
    PermanentSendError,
    TransientSendError,
    UncertainSendError,
    bad_certificate,
    mask_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from abmail.render import RenderedMessage

__all__ = ["SMTP", "Security"]

Security = Literal["none", "starttls", "tls"]

_SCHEMES: Final[dict[str, tuple[Security, int]]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
}
_URL_HINT: Final = (
    "write smtp://, smtp+starttls:// or smtps://, then user:password@host:port (percent-encode @ : / in them)"
)
_ADDRESS: Final = re.compile(r"[^\s<>\x00-\x1f\x7f]+@[^\s<>@\x00-\x1f\x7f]+")
_EHLO_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[A-Za-z0-9:.]{2,60}\]")
_NOT_XTEXT: Final = re.compile(rb"[^!-*,-<>-~]")
_QUIT_TIMEOUT: Final = 5.0  # seconds; a goodbye is a courtesy
_TAKEN: Final = re.compile(rb"2\d\d [^\n]*\n2\d\d [^\n]*\n354 [^\n]*\n")  # MAIL, RCPT and DATA in one line each
_DOT: Final = re.compile(rb"\n\.")


class SMTP:
    """Sends over one SMTP connection that is kept open; one recipient in each transaction.

    Use one object for each thread (`another` makes them). Nothing is ever sent unencrypted where `security` asks for
    encryption. Where the server offers DSN (RFC 3461), reports of failure are asked for, under the message's own id.
    The relays of mail providers get that id in a header of theirs, and give it back with their events.

    Args:
        host: Name or address of the server.
        port: 1 to 65535.
        security: `none`, `starttls` (required, not opportunistic) or `tls` from the first byte.
        username: For AUTH; None to send without.
        password: Belongs to `username`.
        timeout: Seconds to wait for the connection and for each answer before the message itself goes out.
        data_timeout: Seconds for the message to go out, and again for its answer (RFC 5321, section 4.5.3.2.6).
        local_hostname: Our name in EHLO; by default the machine's where it has a domain, else its address.
        max_per_connection: Messages before a new connection is made; fewer where the server says so (RFC 9422).
        max_idle: Seconds without a message after which a new connection is made.
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
        max_idle: float = 60.0,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not host or not 1 <= port <= 65_535:
            raise ConfigError(f"the SMTP server is {host!r}, port {port}: a host and a port in 1..65535 are needed")
        if security not in ("none", "starttls", "tls"):
            raise ConfigError(f"SMTP security is {security!r}, must be none, starttls or tls")
        if (username is None) != (password is None):
            raise ConfigError("SMTP needs both a user name and a password, or neither", hint=_URL_HINT)
        if local_hostname is not None and not _EHLO_NAME.fullmatch(local_hostname):
            raise ConfigError(
                f"our name for the SMTP server is {local_hostname!r}, must be a host name, or an address in []",
                hint="write ehlo_name as the name that your sending address resolves to, such as mailer.example.com",
            )
        if max_per_connection < 1 or min(timeout, data_timeout, max_idle) <= 0:
            raise ConfigError("SMTP's max_per_connection and timeouts must be more than zero")
        self._place = f"{host}:{port}"
        self._host, self._port, self._security = host, port, security
        self._login = None if username is None or password is None else (username, password)
        self._timeout, self._data_timeout = timeout, data_timeout
        self._local_hostname = local_hostname
        self._max_per_connection, self._max_idle = max_per_connection, max_idle
        self._context = context
        self._clock = clock
        self._session: _Session | None = None
        self._used_at = 0.0

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

    def another(self) -> SMTP:
        """One more connection with the same settings, for another thread."""
        username, password = self._login or (None, None)
        return SMTP(
            self._host, port=self._port, security=self._security, username=username, password=password,
            timeout=self._timeout, data_timeout=self._data_timeout, local_hostname=self._local_hostname,
            max_per_connection=self._max_per_connection, max_idle=self._max_idle, context=self._context,
            clock=self._clock,
        )  # fmt: skip

    def send(self, message: RenderedMessage) -> str:
        """Send one message; see `Transport.send`.

        A connection that the server closed while it was idle is replaced without a word.
        """
        envelope = _Envelope.of(message, head=id_header(self._host, message.message_id))
        session = self._ready()
        try:
            return session.send(envelope)
        except HungUpError:
            if session.transactions == 1:
                raise
        return self._ready().send(envelope)

    def close(self) -> None:
        """Say goodbye to the server."""
        if self._session is not None:
            self._session.quit()
            self._session = None

    def _ready(self) -> _Session:
        now = self._clock()
        if self._session and (self._is_spent(self._session) or now - self._used_at >= self._max_idle):
            self.close()
        if self._session is None:
            self._session = self._connect()
        self._used_at = now
        return self._session

    def _is_spent(self, session: _Session) -> bool:
        return session.broken or session.transactions >= min(self._max_per_connection, session.limit)

    def _connect(self) -> _Session:
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
                return _Session(client, _socket_of(client), self._timeout, self._data_timeout)
            except BaseException:
                client.close()
                raise

    def _open(self) -> smtplib.SMTP:
        # A name given here keeps smtplib from a DNS query that can stall; the real one is set once the socket is there.
        if self._security != "tls":
            return smtplib.SMTP(self._host, self._port, "localhost", self._timeout)
        context = self._context or ssl.create_default_context()
        return smtplib.SMTP_SSL(self._host, self._port, "localhost", timeout=self._timeout, context=context)


class _Envelope(NamedTuple):
    """A message as SMTP carries it; `is_utf8` where an address needs RFC 6531."""

    sender: str
    recipient: str
    ident: str
    size: int
    data: bytes
    is_utf8: bool

    @classmethod
    def of(cls, message: RenderedMessage, *, head: bytes = b"") -> Self:
        raw, address = head + message.raw, message.recipient
        for each in (message.sender, address):
            if not _ADDRESS.fullmatch(each):
                raise PermanentSendError(f"{mask_address(each)!r} cannot stand in an SMTP envelope", recipient=address)
        # A lone CR or LF can end the message early for some servers and smuggle in another one.
        if not _has_clean_lines(raw):
            raise PermanentSendError("the message has lines that don't end in CRLF", recipient=address)
        data = b"." * raw.startswith(b".") + _DOT.sub(b"\n..", raw)
        ending = b".\r\n" if raw.endswith(b"\r\n") else b"\r\n.\r\n"
        is_utf8 = not (message.sender.isascii() and address.isascii())
        return cls(message.sender, address, message.message_id, len(raw), data + ending, is_utf8)

    def masked(self, text: str) -> str:
        """A server's words without the recipient's address."""
        return re.sub(re.escape(self.recipient), lambda _: mask_address(self.recipient), text, flags=re.IGNORECASE)


def _has_clean_lines(raw: bytes) -> bool:
    """Whether every CR and LF is part of a CRLF.

    The decoder of text files notes which line ends it met, in one pass. numpy is faster in a loop of its own, but takes
    twice the time here, where each mail is checked between two waits for the network.
    """
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(raw.decode("latin-1"), final=True)
    return decoder.newlines in {"\r\n", None}


def _xtext(text: str) -> str:
    """Write text as RFC 3461, section 4 wants it."""
    return _NOT_XTEXT.sub(lambda match: b"+%02X" % match[0][0], text.encode()).decode("ascii")


class _Session:
    """One connection after EHLO, TLS and AUTH.

    Attributes:
        transactions: How many were begun.
        limit: How many the server takes on one connection.
        broken: Whether no further one can be begun.
    """

    def __init__(self, client: smtplib.SMTP, sock: socket.socket, timeout: float, data_timeout: float) -> None:
        self._client, self._sock = client, sock
        self._timeout, self._data_timeout = timeout, data_timeout
        offered = client.esmtp_features
        self._pipelines = "pipelining" in offered
        self._takes_utf8, self._takes_size = "smtputf8" in offered, "size" in offered
        self._takes_dsn = "dsn" in offered
        size = offered.get("size", "")
        self._max_size = int(size) if size.isdigit() and int(size) > 0 else float("inf")
        self.limit = _mail_limit(offered.get("limits", ""))
        self.transactions = 0
        self.broken = False
        # The end of a message must not wait for the server's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = open_wire(sock, patience=min(timeout, data_timeout))

    def send(self, envelope: _Envelope) -> str:
        self._check(envelope)
        self.transactions += 1
        self.broken = True  # until this transaction has ended in order, whatever interrupts it
        stage, reply = self._begin(envelope) or self._hand_over(envelope)
        if stage == "end of DATA" and 200 <= reply.code <= 299:
            self.broken = False
            return str(reply)
        self._recover(reply)
        raise refusal(stage, reply, recipient=envelope.recipient, words=envelope.masked(str(reply)))

    def quit(self) -> None:
        with suppress(LostError, smtplib.SMTPException, OSError):
            if not self.broken:
                self._sock.settimeout(min(self._timeout, _QUIT_TIMEOUT))
                self._client.quit()
        self._client.close()

    def _check(self, envelope: _Envelope) -> None:
        """Refuse what this server is known not to take."""
        if envelope.size > self._max_size:
            raise PermanentSendError(
                f"the message has {envelope.size} octets, the server takes {self._max_size}",
                recipient=envelope.recipient,
            )
        if envelope.is_utf8 and not self._takes_utf8:
            raise PermanentSendError(
                f"{mask_address(envelope.recipient)} or the sender's address is not ASCII before the @, "
                "and the server does not offer SMTPUTF8",
                recipient=envelope.recipient,
                hint="ask for another address, or send through a server that offers SMTPUTF8 (RFC 6531)",
            )

    def _begin(self, envelope: _Envelope) -> tuple[Stage, Reply] | None:
        """Take MAIL, RCPT and DATA; the first refusal, None when the server waits for the message."""
        refused: tuple[Stage, Reply] | None = None
        reply: Reply | None = None
        commands = self._commands(envelope)
        try:
            if self._pipelines:  # one round trip instead of three
                self._wire.write(b"".join([command for _, command in commands]), self._timeout)
                if self._wire.skip(_TAKEN, self._timeout):
                    return None
            for stage, command in commands:
                if not self._pipelines:
                    self._wire.write(command, self._timeout)
                reply = self._wire.reply(self._timeout)
                if refused is None and not goes_on(stage, reply):
                    refused = (stage, reply)
                    if not self._pipelines:
                        break
            if refused and reply is not None and reply.code == 354:  # RFC 2920, section 3.1: no recipient, and yet
                self._wire.write(b".\r\n", self._timeout)
                self._wire.reply(self._timeout)
        except LostError as error:
            if refused is None:
                kind = TransientSendError if reply else HungUpError
                raise kind(f"the connection was lost before the message went out: {error}") from error
        return refused

    def _commands(self, envelope: _Envelope) -> tuple[tuple[Stage, bytes], ...]:
        mail = f" SIZE={envelope.size}" if self._takes_size else ""
        rcpt = ""
        if envelope.is_utf8:
            mail += " BODY=8BITMIME SMTPUTF8"
        if self._takes_dsn:
            kind = "utf-8" if envelope.is_utf8 else "rfc822"
            mail += f" RET=HDRS ENVID={envelope.ident if envelope.ident.isalnum() else _xtext(envelope.ident)}"
            rcpt = f" NOTIFY=FAILURE ORCPT={kind};{_xtext(envelope.recipient)}"
        return (
            ("MAIL", f"MAIL FROM:<{envelope.sender}>{mail}\r\n".encode()),
            ("RCPT", f"RCPT TO:<{envelope.recipient}>{rcpt}\r\n".encode()),
            ("DATA", b"DATA\r\n"),
        )

    def _hand_over(self, envelope: _Envelope) -> tuple[Stage, Reply]:
        """Write the message and wait for the verdict."""
        try:
            # When this fails, the last octets have not left: without the final dot no server accepts a message.
            self._wire.write(envelope.data, self._data_timeout)
        except LostError as error:
            raise TransientSendError(f"the connection was lost while the message went out: {error}") from error
        try:
            reply = self._wire.reply(self._data_timeout)
        except LostError as error:
            raise UncertainSendError(
                f"the whole message to {mask_address(envelope.recipient)} went out, but no answer came: {error}",
                hint="look for it at the server, then `abmail settle`",
            ) from error
        return "end of DATA", reply

    def _recover(self, reply: Reply) -> None:
        """After a refusal: make the connection fit for the next message, where it still lives."""
        if reply.code != 421:
            with suppress(LostError):
                self._wire.write(b"RSET\r\n", self._timeout)
                self.broken = self._wire.reply(self._timeout).code != 250


def _mail_limit(limits: str) -> float:
    """Messages that a server takes on one connection (RFC 9422)."""
    found = re.search(r"(?i)(?:^|\s)MAILMAX=([1-9]\d{0,5})(?:\s|$)", limits)
    return int(found[1]) if found else float("inf")


@contextmanager
def _setup_errors(place: str) -> Iterator[None]:
    """Say what a failure before the first message means."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise bad_certificate(place, error) from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise TransientSendError(f"{place} hung up during the TLS handshake") from error
    except ssl.SSLError as error:
        raise ConfigError(
            f"TLS with {place} failed: {error.reason or error}",
            hint="smtps:// is for ports that speak TLS at once (465), smtp+starttls:// for the others (587)",
        ) from error
    except smtplib.SMTPResponseException as error:
        raise setup_refusal(place, error.smtp_code, error.smtp_error) from error
    except smtplib.SMTPNotSupportedError as error:
        raise ConfigError(f"{place}: {error}", hint="check the scheme of the SMTP URL, and the login in it") from error
    except smtplib.SMTPServerDisconnected as error:
        raise TransientSendError(f"{place} hung up: {reason(error.__context__ or error)}") from error
    except smtplib.SMTPException as error:
        raise ConfigError(f"{place}: {error}", hint="check the login in the SMTP URL") from error
    except UnicodeError as error:
        raise ConfigError(f"{place} is no host name", hint=_URL_HINT) from error
    except OSError as error:
        raise TransientSendError(
            f"no connection to {place}: {reason(error)}", hint="check host and port of the SMTP URL, and the network"
        ) from error


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


def _socket_of(client: smtplib.SMTP) -> socket.socket:
    if client.sock is None:
        raise smtplib.SMTPServerDisconnected("it is closed")
    return client.sock


def _own_name(client: smtplib.SMTP) -> str:
    """The machine's name for EHLO, else the address literal of our end of the connection (RFC 5321, section 4.1.4)."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = client.sock.getsockname()[0] if client.sock else "127.0.0.1"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
