"""Transports against real servers: what arrives, what each refusal and each broken connection means."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from itertools import product
from typing import TYPE_CHECKING, Self

import pytest
from aiosmtpd import smtp as aio
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail._wire import Wire
from abmail.errors import ConfigError, PermanentSendError, SendError, TransientSendError, UncertainSendError
from abmail.events import Signer
from abmail.recipient import Recipient
from abmail.render import RenderedMessage, Renderer
from abmail.send import (
    GROUPS,
    SMTP,
    File,
    Memory,
    Security,
    Throttle,
    Transport,
    mailbox_group,
    retry_delay,
)
from abmail.spec import Experiment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# For localhost alone, valid from 2020 to 2120, made with openssl; the key protects nothing.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgWd6baqFWS6blGQv6
Aeij1tnafej75F9U1rNkJfOL9gOhRANCAARhFJhTMTEcDrsRllISZB9wIUY49OEN
zF1SZW5ut2teXRx4y6XgF/rpo5j195ExEi9gbUPRG0PX3hno5xKws9zm
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBiTCCAS6gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGEUmFMxMRwOuxGW
UhJkH3AhRjj04Q3MXVJlbm63a15dHHjLpeAX+umjmPX3kTESL2BtQ9EbQ9feGejn
ErCz3OajbzBtMA8GA1UdEwEB/wQFMAMBAf8wGgYDVR0RBBMwEYIJbG9jYWxob3N0
hwR/AAABMB0GA1UdDgQWBBQcNK3SMcjqL8e6viOlPsmkykfrZzAfBgNVHSMEGDAW
gBQcNK3SMcjqL8e6viOlPsmkykfrZzAKBggqhkjOPQQDAgNJADBGAiEAjWANCYTC
5oNKFF8fHdx2jHCwOBp71mBRgzvI2rCFLTsCIQDcYRQkUNFdHBM01ahm1Mw93a2K
vie9//kwUbdeX6DxvA==
-----END CERTIFICATE-----
"""
HOST = "127.0.0.1"
PASSWORD = "p@ss:w/rd"


def message(
    number: int = 1, *, recipient: str = "hanako@example.jp", sender: str = "news@example.com", body: str = "Hello"
) -> RenderedMessage:
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"], mail["To"], mail["Subject"] = sender, "hanako@example.jp", f"Number {number}"
    mail.set_content(body)
    return RenderedMessage(
        message_id=f"{number:032x}",
        header_id=f"<{number:032x}@example.com>",
        sender=sender,
        recipient=recipient,
        subject=f"Number {number}",
        html="",
        text=body,
        raw=mail.as_bytes(),
    )


# --- a real server ----------------------------------------------------------------------------------------------------


@dataclass
class Recorder:
    """What a server was asked, and what it is to answer: command -> replies in turn, then "250 OK"."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    greetings: list[str] = field(default_factory=list)
    options: list[list[str]] = field(default_factory=list)
    resets: int = 0
    encrypted: list[bool] = field(default_factory=list)

    def answer(self, command: str) -> str:
        waiting = self.answers.get(command, [])
        return waiting.pop(0) if waiting else "250 2.0.0 OK"

    async def handle_EHLO(  # noqa: N802 - the server looks for this name
        self, server: aio.SMTP, session: aio.Session, envelope: aio.Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.greetings.append(hostname)
        return responses

    async def handle_MAIL(  # noqa: N802
        self, server: aio.SMTP, session: aio.Session, envelope: aio.Envelope, address: str, options: list[str]
    ) -> str:
        self.options.append(options)
        reply = self.answer("MAIL")
        if reply.startswith("250"):
            envelope.mail_from = address
        return reply

    async def handle_RCPT(  # noqa: N802
        self, server: aio.SMTP, session: aio.Session, envelope: aio.Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.answer("RCPT")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_RSET(self, server: aio.SMTP, session: aio.Session, envelope: aio.Envelope) -> str:  # noqa: N802
        self.resets += 1
        return "250 OK"

    async def handle_DATA(self, server: aio.SMTP, session: aio.Session, envelope: aio.Envelope) -> str:  # noqa: N802
        reply = self.answer("end of DATA")
        if reply.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append((envelope.mail_from or "", envelope.rcpt_tos, envelope.content))
        self.connections.add(session.peer)
        self.encrypted.append(session.ssl is not None)
        return reply


def authenticate(
    server: aio.SMTP, session: aio.Session, envelope: aio.Envelope, mechanism: str, data: aio.LoginPassword
) -> aio.AuthResult:
    known = {(b"sender", PASSWORD.encode()), ("送信者".encode(), "秘密".encode())}
    return aio.AuthResult(success=(data.login, data.password) in known, handled=False)


class Running:
    """An asyncio loop in a thread that serves on a free port of the loopback."""

    def __init__(self, make: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None = None) -> None:
        self._make = make
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            self._loop.create_server(self._make, HOST, 0, ssl=self._context), self._loop
        ).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def serving(
    recorder: Recorder,
    *,
    at_once: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    login: bool = False,
    utf8: bool = False,
    size_limit: int | None = None,
) -> Iterator[int]:
    """A real SMTP server, with TLS at once or on demand, with or without a required login; gives its port."""

    def make() -> aio.SMTP:
        return aio.SMTP(
            recorder,
            hostname="mx.example",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=authenticate if login else None,
            auth_required=login,
            auth_require_tls=starttls is not None,
            enable_SMTPUTF8=utf8,
            data_size_limit=size_limit,
        )

    with Running(make, at_once) as running:
        yield running.port


@contextlib.contextmanager
def sending(
    port: int,
    *,
    security: Security = "none",
    login: tuple[str, str] | None = None,
    timeout: float = 5.0,
    data_timeout: float = 5.0,
    max_per_connection: int = 100,
    context: ssl.SSLContext | None = None,
) -> Iterator[SMTP]:
    transport = SMTP(
        HOST,
        port=port,
        security=security,
        username=login[0] if login else None,
        password=login[1] if login else None,
        timeout=timeout,
        data_timeout=data_timeout,
        local_hostname="client.example",
        max_per_connection=max_per_connection,
        context=context,
    )
    with contextlib.closing(transport):
        yield transport


@pytest.fixture(scope="session")
def server_context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_text(CERTIFICATE, encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture(scope="session")
def trusting() -> ssl.SSLContext:
    """Client settings that know the test's certificate."""
    return ssl.create_default_context(cadata=CERTIFICATE[CERTIFICATE.index("-----BEGIN CERT") :])


def test_what_was_sent_arrives() -> None:
    body = "Hello\n.\n..\n.hidden\nEnd."
    with serving(recorder := Recorder()) as port, sending(port) as transport:
        reply = transport.send(sent := message(body=body))
    assert reply == "250 2.0.0 OK"
    ((sender, recipients, content),) = recorder.mails
    assert (sender, recipients, content) == ("news@example.com", ["hanako@example.jp"], sent.raw)
    arrived = BytesParser(policy=policy.default).parsebytes(content)
    assert arrived["Subject"] == "Number 1"
    assert arrived.get_payload(decode=True) == f"{body}\r\n".replace("\n", "\r\n").replace("\r\r", "\r").encode()


def test_a_rendered_mail_arrives_with_its_japanese_texts() -> None:
    definition = Experiment.from_dict(
        {
            "spec": 1,
            "name": "spring",
            "factors": {"subject": {"a": "春のご案内🌸 {{ recipient.name }} 様", "b": "News"}},
            "control": {"subject": "a"},
            "message": {"template": "mails/a.j2", "from": "営業部 <news@example.com>"},
        }
    )
    signer = Signer(b"a secret of 24 bytes ...")
    renderer = Renderer(
        experiment=definition,
        template="<p>.\nこんにちは</p><a href='https://a.example/'>詳細</a>",
        tracker_url="https://t.example.com",
        signer=signer,
    )
    rendered = renderer.render(
        cell=definition.cells[0],
        recipient=Recipient(id="1", email="hanako@example.jp", attributes={"name": "花子"}),
        message_id=signer.message_id("spring", "1"),
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )
    with serving(recorder := Recorder()) as port, sending(port) as transport:
        transport.send(rendered)
    assert recorder.mails == [("news@example.com", ["hanako@example.jp"], rendered.raw)]
    arrived = BytesParser(policy=policy.default).parsebytes(recorder.mails[0][2])
    assert isinstance(arrived, EmailMessage)
    assert arrived["Subject"] == "春のご案内🌸 花子 様"
    html = arrived.get_body(("html",))
    assert isinstance(html, EmailMessage)
    assert html.get_content().replace("\r\n", "\n") == rendered.html


def test_one_connection_carries_many_messages_up_to_its_limit() -> None:
    with serving(recorder := Recorder()) as port, sending(port, max_per_connection=3) as transport:
        for number in range(7):
            transport.send(message(number))
    assert [content for _, _, content in recorder.mails] == [message(number).raw for number in range(7)]
    assert recorder.greetings == ["client.example"] * 3


def test_a_server_that_takes_fewer_messages_on_a_connection_gets_no_more() -> None:
    def script(peer: Peer) -> None:
        peer.greet("LIMITS RCPTMAX=50 MAILMAX=2")
        for _ in range(2):
            peer.begin()
            peer.read_message()
            peer.say("250 OK")
        peer.take("QUIT", "221 Bye")

    with scripted(script, script) as port, sending(port) as transport:
        for number in range(4):
            transport.send(message(number))


def test_a_connection_that_was_idle_for_a_minute_is_not_used_again() -> None:
    clock = Clock()
    with serving(recorder := Recorder()) as port:
        transport = SMTP(HOST, port=port, local_hostname="client.example", clock=clock)
        with contextlib.closing(transport):
            for pause in (0.0, 59.0, 61.0):
                clock.now += pause
                transport.send(message())
    assert len(recorder.greetings) == 2


def test_another_connection_has_the_same_settings_and_a_life_of_its_own() -> None:
    with (
        serving(recorder := Recorder()) as port,
        sending(port, max_per_connection=1) as first,
        contextlib.closing(first.another()) as second,
    ):
        for number, transport in enumerate((first, second, first)):
            transport.send(message(number))
        assert repr(second) == repr(first)
    assert recorder.greetings == ["client.example"] * 3
    assert len(recorder.mails) == 3


def test_after_closing_the_next_message_opens_a_new_connection() -> None:
    with serving(recorder := Recorder()) as port, sending(port) as transport:
        for number in range(2):
            transport.send(message(number))
            transport.close()
            transport.close()
    assert len(recorder.greetings) == 2


def test_without_a_name_the_greeting_is_the_machines_name_or_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(recorder := Recorder()) as port:
        for name in ("mail.example.com", "laptop"):
            monkeypatch.setattr(socket, "gethostname", lambda name=name: name)
            with contextlib.closing(SMTP(HOST, port=port)) as transport:
                transport.send(message())
    assert recorder.greetings == ["mail.example.com", "[127.0.0.1]"]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "reply", "expected"),
    [
        ("MAIL", "451 4.3.0 Try later", TransientSendError),
        ("MAIL", "550 5.7.1 Not you", ConfigError),
        ("MAIL", "530 5.7.0 Authentication required", ConfigError),
        ("MAIL", "503 5.5.1 Transaction in progress", ConfigError),
        ("MAIL", "552 5.3.4 Too big", PermanentSendError),
        ("RCPT", "450 4.2.1 Greylisted", TransientSendError),
        ("RCPT", "452 4.2.2 Mailbox full", TransientSendError),
        ("RCPT", "535 5.7.8 Login", ConfigError),
        ("RCPT", "538 5.7.11 Encrypt", ConfigError),
        ("RCPT", "554 5.7.1 Relay access denied", PermanentSendError),
        ("end of DATA", "451 4.7.1 Try again", TransientSendError),
        ("end of DATA", "421 4.7.0 Rate", TransientSendError),
        ("end of DATA", "554 5.7.1 Spam", PermanentSendError),
        ("end of DATA", "530 5.7.0 Login first", ConfigError),
    ],
)
def test_each_refusal_says_what_to_do(stage: str, reply: str, expected: type[Exception]) -> None:
    with serving(Recorder({stage: [reply]})) as port, sending(port) as transport:
        with pytest.raises((SendError, ConfigError)) as caught:
            transport.send(message())
        assert isinstance(caught.value, expected)
        assert str(caught.value) == f"the server answered {stage} with {reply!r}"
        if isinstance(caught.value, TransientSendError | PermanentSendError):
            assert caught.value.code == int(reply[:3])


@pytest.mark.parametrize(
    ("stage", "reply", "hard"),
    [
        ("RCPT", "550 5.1.1 User unknown", True),
        ("RCPT", "550 5.1.10 Null MX", True),
        ("RCPT", "556 5.1.10 Null MX", True),
        ("RCPT", "550 5.2.1 Mailbox disabled", True),
        ("RCPT", "550 5.4.1 Recipient address rejected", True),
        ("RCPT", "550 No such user here", True),
        ("RCPT", "550 5.7.1 Policy", False),
        ("RCPT", "550 5.7.26 Unauthenticated", False),
        ("RCPT", "550 5.2.2 Over quota", False),
        ("RCPT", "552 5.2.2 Over quota", False),
        ("RCPT", "550 5.1.8 Bad sender address", False),
        ("RCPT", "550 Relaying denied", False),
        ("RCPT", "550 Your address is listed on a black list", False),
        ("RCPT", "553 Not allowed", False),
        ("end of DATA", "550 Rejected", False),
        ("end of DATA", "550 5.1.1 User unknown", True),
        ("end of DATA", "550 15.1.1 is no status", False),
    ],
)
def test_only_a_dead_address_is_a_hard_bounce(stage: str, reply: str, hard: bool) -> None:
    with serving(Recorder({stage: [reply]})) as port, sending(port) as transport:
        with pytest.raises(PermanentSendError) as caught:
            transport.send(message())
        assert (caught.value.hard, caught.value.recipient) == (hard, "hanako@example.jp")


@pytest.mark.parametrize(
    ("stage", "reply", "kind"),
    [
        ("RCPT", "550 5.1.1 User unknown", "hard"),
        ("RCPT", "550 5.4.4 No route to host", "hard"),
        ("RCPT", "552 5.2.2 Over quota", "soft"),
        ("RCPT", "552 Mailbox full", "soft"),
        ("end of DATA", "552 5.2.2 Over quota", "soft"),
        ("RCPT", "554 5.7.1 Access denied", "policy"),
        ("RCPT", "550 5.7.26 Unauthenticated", "policy"),
        ("RCPT", "550 5.1.8 Bad sender address", "policy"),
        ("end of DATA", "554 Spam", "policy"),
        ("end of DATA", "550 Blocked", "policy"),
        ("RCPT", "553 Not allowed", "other"),
        ("end of DATA", "552 5.3.4 Too big", "other"),
    ],
)
def test_a_dead_address_a_full_one_and_a_refusal_of_us_are_told_apart(stage: str, reply: str, kind: str) -> None:
    with serving(Recorder({stage: [reply]})) as port, sending(port) as transport:
        with pytest.raises(PermanentSendError) as caught:
            transport.send(message())
        assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("stage", "reply", "whose"),
    [
        ("MAIL", "421 4.7.0 Too many messages", "relay"),
        ("MAIL", "451 4.7.1 Slow down", "relay"),
        ("RCPT", "450 4.7.28 Rate limited", "recipient"),
        ("end of DATA", "421 4.7.0 Rate", "recipient"),
        ("RCPT", "450 4.2.1 Greylisted", ""),
        ("RCPT", "452 4.2.2 Mailbox full", ""),
        ("end of DATA", "451 4.3.0 Local error", ""),
    ],
)
def test_a_wish_for_fewer_mails_is_told_from_other_delays(stage: str, reply: str, whose: str) -> None:
    with serving(Recorder({stage: [reply, reply]})) as port, sending(port) as transport:
        with pytest.raises(TransientSendError) as caught:
            transport.send(message())
        assert caught.value.throttled == whose


def test_after_a_refusal_the_transaction_is_reset_and_the_connection_goes_on() -> None:
    recorder = Recorder({"RCPT": ["550 5.1.1 Gone"], "end of DATA": ["451 4.0.0 Later"]})
    with serving(recorder) as port, sending(port) as transport:
        with pytest.raises(PermanentSendError):
            transport.send(message(1))
        with pytest.raises(TransientSendError):
            transport.send(message(2))
        transport.send(message(3))
    assert (recorder.resets, len(recorder.greetings)) == (2, 1)
    assert [content for _, _, content in recorder.mails] == [message(3).raw]


def test_the_persons_address_is_masked_in_the_message_and_kept_in_the_error() -> None:
    reply = "550 5.1.1 <Hanako@Example.JP>: unknown"
    with (
        serving(Recorder({"RCPT": [reply]})) as port,
        sending(port) as transport,
        pytest.raises(PermanentSendError) as caught,
    ):
        transport.send(message())
    assert "anako" not in str(caught.value)
    assert "h***@example.jp" in str(caught.value)
    assert caught.value.recipient == "hanako@example.jp"


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Greylisted, try again in 5 minutes", 300.0),
        ("Please retry after 90 seconds", 90.0),
        ("wait 2 hours", 7_200.0),
        ("try again in 30s", 30.0),
        ("Try again later", None),
        ("again: see RFC 5321 section 4", None),
    ],
)
def test_a_waiting_time_that_the_server_names_is_passed_on(words: str, seconds: float | None) -> None:
    with (
        serving(Recorder({"RCPT": [f"450 4.7.1 {words}"]})) as port,
        sending(port) as transport,
        pytest.raises(TransientSendError) as caught,
    ):
        transport.send(message())
    assert caught.value.retry_after == seconds


# --- login and encryption ---------------------------------------------------------------------------------------------

needs_no_tls = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")


@needs_no_tls
@pytest.mark.parametrize("login", [("sender", PASSWORD), ("送信者", "秘密")])
def test_a_login_is_used(login: tuple[str, str]) -> None:
    with serving(recorder := Recorder(), login=True) as port, sending(port, login=login) as transport:
        transport.send(message())
    assert len(recorder.mails) == 1


@needs_no_tls
def test_a_wrong_or_missing_login_is_a_matter_of_settings_and_stays_secret() -> None:
    with serving(recorder := Recorder(), login=True) as port:
        for login in (("sender", "wrong-secret"), ("送信者", "wrong-secret"), None):
            with sending(port, login=login) as transport, pytest.raises(ConfigError, match=r"53[05] ") as caught:
                transport.send(message())
            assert "wrong-secret" not in str(caught.value)
    assert not recorder.mails


@needs_no_tls
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_encrypted_sending_works_with_a_login(
    security: Security, server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    at_once, on_demand = (server_context, None) if security == "tls" else (None, server_context)
    with (
        serving(recorder := Recorder(), at_once=at_once, starttls=on_demand, login=True) as port,
        sending(port, security=security, login=("sender", PASSWORD), context=trusting) as transport,
    ):
        for number in range(2):
            transport.send(message(number))
    assert len(recorder.mails) == 2
    assert recorder.greetings == ["client.example"] * (1 if at_once else 2)
    assert at_once or recorder.encrypted == [True, True]


def test_a_server_without_starttls_gets_no_mail() -> None:
    with (
        serving(recorder := Recorder()) as port,
        sending(port, security="starttls") as transport,
        pytest.raises(ConfigError, match="STARTTLS"),
    ):
        transport.send(message())
    assert recorder.options == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_is_refused(security: Security, server_context: ssl.SSLContext) -> None:
    at_once, on_demand = (server_context, None) if security == "tls" else (None, server_context)
    with (
        serving(recorder := Recorder(), at_once=at_once, starttls=on_demand) as port,
        sending(port, security=security) as transport,
        pytest.raises(ConfigError, match=r"certificate of 127\.0\.0\.1"),
    ):
        transport.send(message())
    assert recorder.options == []


def test_tls_at_once_to_a_plain_port_is_a_matter_of_settings(trusting: ssl.SSLContext) -> None:
    with (
        serving(Recorder()) as port,
        sending(port, security="tls", context=trusting) as transport,
        pytest.raises(ConfigError, match=r"TLS with 127\.0\.0\.1") as caught,
    ):
        transport.send(message())
    assert "smtp+starttls://" in caught.value.hint


# --- extensions -------------------------------------------------------------------------------------------------------


def test_an_address_outside_ascii_goes_with_smtputf8_where_it_is_offered() -> None:
    with serving(recorder := Recorder(), utf8=True) as port, sending(port) as transport:
        transport.send(message(1, recipient="用户@example.jp"))
        transport.send(message(2))
    assert recorder.mails[0][1] == ["用户@example.jp"]
    assert ["SMTPUTF8" in options for options in recorder.options] == [True, False]


def test_where_dsn_is_offered_a_report_is_asked_for_under_our_own_id() -> None:
    def script(peer: Peer) -> None:
        peer.greet("DSN")
        assert peer.expect("MAIL FROM:").endswith(f"> RET=HDRS ENVID={1:032x}")
        peer.say("250 OK")
        assert peer.expect("RCPT TO:") == (
            "RCPT TO:<a+b=c@example.jp> NOTIFY=FAILURE ORCPT=rfc822;a+2Bb+3Dc@example.jp"  # RFC 3461, section 4: xtext
        )
        peer.say("250 OK")
        peer.take("DATA", "354 Go")
        peer.read_message()
        peer.say("250 OK")
        peer.take("QUIT", "221 Bye")

    with scripted(script) as port, sending(port) as transport:
        transport.send(message(recipient="a+b=c@example.jp"))


def test_a_report_is_asked_for_as_in_the_dialogue_of_rfc_3461() -> None:  # section 10.1: one recipient of its three
    said: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet("DSN")
        for _ in range(2):
            said.append(peer.expect(""))
            peer.say("250 OK")
        peer.take("DATA", "354 Go")
        peer.read_message()
        peer.say("250 OK")
        peer.take("QUIT", "221 Bye")

    mail = replace(message(recipient="Carol@Ivory.EDU"), message_id="QQ314159", sender="Alice@Example.ORG")
    with scripted(script) as port, sending(port) as transport:
        transport.send(mail)
    assert said == [
        "MAIL FROM:<Alice@Example.ORG> RET=HDRS ENVID=QQ314159",
        "RCPT TO:<Carol@Ivory.EDU> NOTIFY=FAILURE ORCPT=rfc822;Carol@Ivory.EDU",
    ]


def test_an_address_outside_ascii_is_refused_clearly_where_smtputf8_is_not_offered() -> None:
    with serving(recorder := Recorder()) as port, sending(port) as transport:
        with pytest.raises(PermanentSendError, match="does not offer SMTPUTF8") as caught:
            transport.send(message(1, recipient="用户@example.jp"))
        transport.send(message(2))
    assert (caught.value.hard, len(recorder.greetings)) == (False, 1)


def test_a_message_over_the_servers_size_is_refused_before_it_is_sent() -> None:
    with serving(recorder := Recorder(), size_limit=1_000) as port, sending(port) as transport:
        with pytest.raises(PermanentSendError, match="octets, the server takes 1000"):
            transport.send(message(1, body="x" * 1_000))
        transport.send(message(2))
    assert recorder.options == [[f"SIZE={len(message(2).raw)}"]]


@pytest.mark.parametrize(
    "recipient",
    ["a@b.example>\r\nRCPT TO:<c@d.example", "a b@c.example", "<a@b.example>", "no-at", "a@b@c.example\x7f", "@b"],
)
def test_an_address_that_would_break_the_envelope_is_refused(recipient: str) -> None:
    with (
        serving(recorder := Recorder()) as port,
        sending(port) as transport,
        pytest.raises(PermanentSendError, match="envelope"),
    ):
        transport.send(message(recipient=recipient))
    assert recorder.options == []


def of_bytes(raw: bytes) -> RenderedMessage:
    return replace(message(), raw=raw)


DOTTED = [b"\r\n".join(lines) for n in (1, 2, 3) for lines in product((b"", b".", b"..", b".x", b"x."), repeat=n)]


def test_lines_that_begin_with_dots_arrive_as_they_were_wherever_they_stand() -> None:
    """RFC 5321, section 4.5.2: every text of one to three such lines, with and without a line end after the last."""
    texts = [text + ending for text in DOTTED for ending in (b"", b"\r\n")]
    with serving(recorder := Recorder()) as port, sending(port) as transport:
        for text in texts:
            transport.send(of_bytes(text))
    arrived = [content for _, _, content in recorder.mails]
    assert arrived == [text if text.endswith(b"\r\n") else text + b"\r\n" for text in texts]


def test_on_the_wire_a_dot_that_begins_a_line_is_doubled_and_no_other() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        assert peer.read_message() == b"..\r\n...\r\n..x.\r\nx.y\r\n\r\n..\r\n"
        peer.say("250 OK")
        peer.take("QUIT", "221 Bye")

    with scripted(script) as port, sending(port) as transport:
        transport.send(of_bytes(b".\r\n..\r\n.x.\r\nx.y\r\n\r\n."))


@pytest.mark.parametrize("smuggled", [b"\n.\nMAIL FROM:<x@y.example>", b"\r.\r", b"\r\n.\n", b"\n.\r\n"])
def test_bare_line_ends_that_could_smuggle_a_second_mail_are_refused(smuggled: bytes) -> None:
    bad = of_bytes(message().raw + smuggled)
    with serving(Recorder()) as port, sending(port) as transport, pytest.raises(PermanentSendError, match="CRLF"):
        transport.send(bad)


def test_every_order_of_line_ends_is_taken_where_all_are_crlf_and_refused_elsewhere() -> None:
    """RFC 5321, section 2.3.8. A message that is taken gets as far as the connection, which nobody accepts."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    transport = SMTP(HOST, port=port, local_hostname="client.example")
    for text in map(bytes, (signs for n in range(1, 5) for signs in product(b"\r\n.x", repeat=n))):
        is_clean = not {*b"\r\n"} & {*text.replace(b"\r\n", b"")}
        with pytest.raises(TransientSendError if is_clean else PermanentSendError):
            transport.send(of_bytes(text))


# --- broken connections -----------------------------------------------------------------------------------------------


class Peer:
    """The server's end of one raw connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(5.0)
        self.connection = connection
        self._stream = connection.makefile("rb")

    def say(self, *lines: str) -> None:
        self.connection.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def expect(self, start: str) -> str:
        line = self._stream.readline().decode().rstrip("\r\n")
        assert line.upper().startswith(start.upper()), f"{line!r} does not start with {start!r}"
        return line

    def take(self, start: str, answer: str) -> None:
        self.expect(start)
        self.say(answer)

    def greet(self, *extensions: str) -> None:
        self.say("220 mx.example")
        self.expect("EHLO")
        lines = ["mx.example", *extensions]
        self.say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")

    def begin(self) -> None:
        """All up to the message itself."""
        self.take("MAIL FROM:<news@example.com>", "250 OK")
        self.take("RCPT TO:<hanako@example.jp>", "250 OK")
        self.take("DATA", "354 Go")

    def read_message(self) -> bytes:
        lines = []
        while (line := self._stream.readline()) != b".\r\n":
            assert line, "the message ended without its dot"
            lines.append(line)
        return b"".join(lines)

    def read_to_end(self) -> bytes:
        return self._stream.read()

    def abort(self) -> None:
        """Close with a reset instead of a goodbye."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def scripted(*scripts: Callable[[Peer], None], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server whose connections, one after another, follow these scripts; what fails in them fails the test."""
    failures: list[BaseException] = []

    def run(listener: socket.socket) -> None:
        for script in scripts:
            try:
                connection, _ = listener.accept()
                if context:
                    connection = context.wrap_socket(connection, server_side=True)
                with connection:
                    script(peer := Peer(connection))
                    peer._stream.close()
            except BaseException as error:  # shown in the test's own thread
                failures.append(error)

    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(5.0)
        thread = threading.Thread(target=run, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10.0)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def silence(peer: Peer) -> None:
    """Say nothing until the client gives up."""
    with contextlib.suppress(ConnectionError):
        peer.read_to_end()


def at_greeting(peer: Peer) -> None:
    pass


def at_ehlo(peer: Peer) -> None:
    peer.say("220 mx.example")
    peer.expect("EHLO")


def at_mail(peer: Peer) -> None:
    peer.greet()
    peer.expect("MAIL")


def at_rcpt(peer: Peer) -> None:
    peer.greet()
    peer.take("MAIL", "250 OK")
    peer.expect("RCPT")


def at_data(peer: Peer) -> None:
    peer.greet()
    peer.take("MAIL", "250 OK")
    peer.take("RCPT", "250 OK")
    peer.expect("DATA")


def in_the_message(peer: Peer) -> None:
    peer.greet()
    peer.begin()
    peer.connection.recv(1_000)
    peer.abort()


def after_the_dot(peer: Peer) -> None:
    peer.greet()
    peer.begin()
    peer.read_message()


LARGE = "x" * 70 + "\n"


@pytest.mark.parametrize("stage", [at_greeting, at_ehlo, at_mail, at_rcpt, at_data, in_the_message])
@pytest.mark.parametrize("manner", ["close", "reset"])
def test_a_break_before_the_final_dot_is_transient(stage: Callable[[Peer], None], manner: str) -> None:
    def script(peer: Peer) -> None:
        stage(peer)
        if manner == "reset":
            peer.abort()

    with scripted(script) as port, sending(port) as transport, pytest.raises(TransientSendError):
        transport.send(message(body=LARGE * 100_000 if stage is in_the_message else "Hello"))


@pytest.mark.parametrize("stage", [at_greeting, at_ehlo, at_mail, at_rcpt, at_data])
def test_silence_before_the_final_dot_is_transient(stage: Callable[[Peer], None]) -> None:
    def script(peer: Peer) -> None:
        stage(peer)
        silence(peer)

    with (
        scripted(script) as port,
        sending(port, timeout=0.2) as transport,
        pytest.raises(TransientSendError, match="no answer in time"),
    ):
        transport.send(message())


def test_silence_while_the_message_goes_out_is_transient() -> None:
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        done.wait(5.0)  # the buffers of both ends fill up

    with scripted(script) as port, sending(port, data_timeout=0.3) as transport:
        with pytest.raises(TransientSendError, match="while the message went out"):
            transport.send(message(body=LARGE * 100_000))
        done.set()


@pytest.mark.parametrize("manner", ["close", "reset", "silence", "garbage", "half a reply", "endless line"])
def test_a_break_after_the_final_dot_is_uncertain(manner: str) -> None:
    def script(peer: Peer) -> None:
        after_the_dot(peer)
        if manner == "reset":
            peer.abort()
        elif manner == "silence":
            silence(peer)
        elif manner == "garbage":
            peer.say("OK, thanks")
        elif manner == "half a reply":
            peer.connection.sendall(b"25")
        elif manner == "endless line":
            peer.say("250 " + "x" * 10_000)

    with (
        scripted(script) as port,
        sending(port, data_timeout=0.3) as transport,
        pytest.raises(UncertainSendError) as caught,
    ):
        transport.send(message())
    assert "h***@example.jp" in str(caught.value)
    assert "settle" in caught.value.hint


def test_a_message_is_sent_once_though_its_fate_is_uncertain() -> None:
    seen: list[bytes] = []

    def first(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        seen.append(peer.read_message())

    def second(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        seen.append(peer.read_message())
        peer.say("250 OK")
        peer.take("QUIT", "221 Bye")

    with scripted(first, second) as port, sending(port) as transport:
        with pytest.raises(UncertainSendError):
            transport.send(message(1))
        transport.send(message(2))
    assert seen == [message(1).raw, message(2).raw]


def test_a_reply_before_the_break_counts() -> None:
    def script(peer: Peer) -> None:
        after_the_dot(peer)
        peer.say("250-2.0.0 Ok:", "250 2.0.0 queued\x07 as 4F")

    with scripted(script) as port, sending(port) as transport:
        assert transport.send(message()) == "250 2.0.0 Ok: 2.0.0 queued as 4F"


@pytest.mark.parametrize("farewell", ["", "421 4.4.2 Idle too long"])
def test_a_connection_that_the_server_closed_while_idle_is_replaced(farewell: str) -> None:
    def first(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        peer.read_message()
        peer.say("250 OK")
        if farewell:
            peer.expect("MAIL")
            peer.say(farewell)

    def second(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        peer.read_message()
        peer.say("250 second")
        peer.take("QUIT", "221 Bye")

    with scripted(first, second) as port, sending(port) as transport:
        transport.send(message(1))
        assert transport.send(message(2)) == "250 second"


def test_a_server_that_hangs_up_on_new_connections_too_is_transient() -> None:
    def first(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        peer.read_message()
        peer.say("250 OK")

    def second(peer: Peer) -> None:
        peer.greet()
        peer.take("MAIL", "421 4.3.2 Try again in 10 minutes")

    with scripted(first, second) as port, sending(port) as transport:
        transport.send(message(1))
        with pytest.raises(TransientSendError) as caught:
            transport.send(message(2))
    assert (caught.value.code, caught.value.retry_after) == (421, 600.0)


def test_a_transaction_that_was_interrupted_leaves_no_half_dialogue_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(peer: Peer) -> None:
        peer.greet()
        peer.take("MAIL", "250 OK")
        peer.expect("RCPT")
        peer.say("250 OK")
        silence(peer)

    def second(peer: Peer) -> None:
        peer.greet()
        peer.begin()
        peer.read_message()
        peer.say("250 second")
        peer.take("QUIT", "221 Bye")

    class Interrupted(BaseException):
        pass

    write = Wire.write

    def interrupted(self: Wire, octets: bytes, seconds: float) -> None:
        if octets.startswith(b"DATA"):
            raise Interrupted
        write(self, octets, seconds)

    with scripted(first, second) as port, sending(port) as transport:
        with monkeypatch.context() as patch:
            patch.setattr(Wire, "write", interrupted)
            with pytest.raises(Interrupted):
                transport.send(message(1))
        assert transport.send(message(2)) == "250 second"


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [("421 Busy, retry in 2 min", TransientSendError), ("554 No SMTP service here", ConfigError)],
)
def test_a_server_that_refuses_the_connection_itself(greeting: str, expected: type[Exception]) -> None:
    with (
        scripted(lambda peer: peer.say(greeting)) as port,
        sending(port) as transport,
        pytest.raises(expected, match=greeting),
    ):
        transport.send(message())


def test_a_closed_port_is_transient() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with sending(port) as transport, pytest.raises(TransientSendError, match=f"no connection to {HOST}:{port}: "):
        transport.send(message())


@pytest.mark.parametrize(("answer", "expected"), [("454 4.7.0 Later", TransientSendError), ("502 No", ConfigError)])
def test_starttls_that_is_offered_and_refused_sends_nothing_in_plain(answer: str, expected: type[Exception]) -> None:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.take("STARTTLS", answer)
        assert peer.read_to_end() == b""

    with scripted(script) as port, sending(port, security="starttls") as transport, pytest.raises(expected):
        transport.send(message())


@pytest.mark.parametrize("octets", [100, 10_000])
def test_a_break_in_the_handshake_is_transient(octets: int, trusting: ssl.SSLContext) -> None:
    def script(peer: Peer) -> None:
        peer.connection.recv(octets)

    with (
        scripted(script) as port,
        sending(port, security="tls", context=trusting) as transport,
        pytest.raises(TransientSendError),
    ):
        transport.send(message())


@pytest.mark.parametrize("login", [("sender", PASSWORD), ("送信者", "秘密")])
@pytest.mark.parametrize("extensions", [(), ("AUTH XOAUTH2",)])
def test_a_login_that_the_server_has_no_way_for_is_a_matter_of_settings(
    login: tuple[str, str], extensions: tuple[str, ...]
) -> None:
    with (
        scripted(lambda peer: peer.greet(*extensions)) as port,
        sending(port, login=login) as transport,
        pytest.raises(ConfigError, match=r"(?i)auth"),
    ):
        transport.send(message())


def test_a_login_that_fails_for_now_is_transient() -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.take("AUTH PLAIN", "454 4.7.0 Temporary failure")

    with scripted(script) as port, sending(port, login=("a", "b")) as transport, pytest.raises(TransientSendError):
        transport.send(message())


# --- pipelining -------------------------------------------------------------------------------------------------------


def pipelined(peer: Peer, *answers: str) -> None:
    """Take the three commands before answering any."""
    for command in ("MAIL", "RCPT", "DATA"):
        peer.expect(command)
    peer.say(*answers)


def test_where_it_is_offered_the_envelope_goes_in_one_write() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for number in range(2):
            pipelined(peer, "250 OK", "250 OK", "354 Go")
            assert peer.read_message() == message(number).raw
            peer.say("250 done")
        peer.take("QUIT", "221 Bye")

    with scripted(script) as port, sending(port) as transport:
        assert [transport.send(message(number)) for number in range(2)] == ["250 done"] * 2


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("250 OK", "550 5.1.1 Gone", "503 No recipients"), PermanentSendError),
        (("250 OK", "450 4.2.0 Later", "554 No recipients"), TransientSendError),
        (("550 5.7.1 Not you", "503 No sender", "503 No sender"), ConfigError),
        (("250 OK", "250 OK", "451 4.3.0 Later"), TransientSendError),
        (("250 OK", "250 OK", "554 5.5.1 No"), PermanentSendError),
    ],
)
def test_each_answer_to_a_pipelined_envelope_is_read(answers: tuple[str, ...], expected: type[Exception]) -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        pipelined(peer, *answers)
        peer.take("RSET", "250 OK")
        pipelined(peer, "250 OK", "250 OK", "354 Go")
        peer.read_message()
        peer.say("250 done")
        peer.take("QUIT", "221 Bye")

    with scripted(script) as port, sending(port) as transport:
        with pytest.raises(expected):
            transport.send(message(1))
        assert transport.send(message(2)) == "250 done"


def test_data_that_is_accepted_without_a_recipient_is_ended_empty() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        pipelined(peer, "250 OK", "550 5.1.1 Gone", "354 Go")
        assert peer.read_message() == b""
        peer.say("554 No recipients")
        peer.take("RSET", "250 OK")
        peer.take("QUIT", "221 Bye")

    with scripted(script) as port, sending(port) as transport, pytest.raises(PermanentSendError, match="550") as caught:
        transport.send(message())
    assert caught.value.hard


@pytest.mark.parametrize("before", range(4))
def test_a_goodbye_at_any_point_of_a_pipelined_transaction_is_transient_and_the_next_mail_gets_a_new_connection(
    before: int,
) -> None:
    replies = ["250 OK", "250 OK", "354 Go"][:before]

    def first(peer: Peer) -> None:
        peer.greet("PIPELINING")
        if before < 3:
            pipelined(peer, *replies, "421 4.3.2 Going down")
        else:
            pipelined(peer, *replies)
            peer.read_message()
            peer.say("421 4.3.2 Going down")

    def second(peer: Peer) -> None:
        peer.greet("PIPELINING")
        pipelined(peer, "250 OK", "250 OK", "354 Go")
        assert peer.read_message() == message(2).raw
        peer.say("250 second")
        peer.take("QUIT", "221 Bye")

    with scripted(first, second) as port, sending(port) as transport:
        with pytest.raises(TransientSendError) as caught:
            transport.send(message(1))
        assert (caught.value.code, caught.value.throttled) == (421, "relay" if before == 0 else "recipient")
        assert transport.send(message(2)) == "250 second"


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_message_larger_than_all_buffers_goes_out_whole(
    is_encrypted: bool, server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    large = message(body=LARGE * 100_000)

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        pipelined(peer, "250 OK", "250 OK", "354 Go")
        assert peer.read_message() == large.raw
        peer.say("250 large")
        pipelined(peer, "250 OK", "250 OK", "354 Go")
        assert peer.read_message() == message(2).raw
        peer.say("250 small")
        peer.take("QUIT", "221 Bye")

    security: Security = "tls" if is_encrypted else "none"
    with (
        scripted(script, context=server_context if is_encrypted else None) as port,
        sending(port, security=security, context=trusting) as transport,
    ):
        assert [transport.send(large), transport.send(message(2))] == ["250 large", "250 small"]


@pytest.mark.parametrize("pipelining", [False, True])
def test_a_message_and_its_answer_have_a_time_limit_of_their_own(
    pipelining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def noting(name: str) -> Callable[..., object]:
        real = getattr(Wire, name)

        def call(self: Wire, *given: float) -> object:
            limits.append(given[-1])
            return real(self, *given)

        return call

    for name in ("write", "reply", "skip"):
        monkeypatch.setattr(Wire, name, noting(name))

    def script(peer: Peer) -> None:
        peer.greet(*(("PIPELINING",) if pipelining else ()))
        peer.begin()
        peer.read_message()
        peer.say("250 OK")
        peer.take("QUIT", "221 Bye")

    with scripted(script) as port, sending(port, timeout=5.0, data_timeout=7.0) as transport:
        transport.send(message())
    assert set(limits[:-2]) == {5.0}
    assert limits[-2:] == [7.0, 7.0]


REPLIES = {
    "MAIL": ("250 2.1.0 OK", "451 4.3.0 Later", "550 5.7.1 Not you"),
    "RCPT": ("250-2.1.5 OK\r\n250 2.1.5 really", "450 4.2.1 Greylisted", "550 5.1.1 Gone"),
    "DATA": ("354 Go", "451 4.3.0 Later", "554 5.5.1 No"),
    "end of DATA": ("250 2.0.0 Taken", "451 4.7.1 Later", "554 5.7.1 Spam"),
}
STATES = ("MAIL", "RCPT", "DATA")


def careful_server(peer: Peer, replies: list[dict[str, str]], *, pipelining: bool, chunk: int) -> list[bytes]:
    """Answer each transaction as told, in pieces of ``chunk`` octets; gives the messages that were accepted."""
    peer.greet(*(("PIPELINING",) if pipelining else ()))
    taken: list[bytes] = []
    current: dict[str, str] = {}
    while True:
        command = peer.expect("").split(" ")[0].upper()
        if command == "MAIL":
            current = replies.pop(0)
        answer = {"RSET": "250 Reset", "QUIT": "221 Bye"}.get(command) or current[command]
        if command == "RCPT" and not current["MAIL"].startswith("250"):
            answer = "503 5.5.1 No sender"
        has_recipient = current["MAIL"].startswith("250") and current["RCPT"].startswith("250")
        if command == "DATA" and not has_recipient:
            answer = "503 5.5.1 No recipients" if chunk % 2 else "354 Go on, although nobody gets it"
        for start in range(0, len(answer) + 2, chunk):
            peer.connection.sendall(f"{answer}\r\n".encode()[start : start + chunk])
        if command == "QUIT":
            return taken
        if answer.startswith("354"):
            content = peer.read_message()
            if has_recipient:
                if current["end of DATA"].startswith("250"):
                    taken.append(content)
                peer.say(current["end of DATA"])
            else:
                assert content == b""
                peer.say("554 5.5.1 No valid recipients")


def outcomes(replies: list[dict[str, str]], *, pipelining: bool, chunk: int) -> tuple[list[str], list[bytes]]:
    taken: list[bytes] = []
    words = []
    count = len(replies)

    def script(peer: Peer) -> None:
        taken.extend(careful_server(peer, replies, pipelining=pipelining, chunk=chunk))

    with scripted(script) as port, sending(port) as transport:
        for number in range(count):
            try:
                words.append(transport.send(message(number)))
            except (SendError, ConfigError) as error:
                words.append(f"{type(error).__name__}: {error}")
    return words, taken


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({name: st.sampled_from(known) for name, known in REPLIES.items()}), min_size=1, max_size=4
    ),
    st.integers(1, 40),
)
def test_pipelining_changes_no_outcome_however_the_replies_are_cut(replies: list[dict[str, str]], chunk: int) -> None:
    sequential = outcomes(list(replies), pipelining=False, chunk=4_000)
    assert outcomes(list(replies), pipelining=True, chunk=chunk) == sequential
    accepted = [all(r[s].startswith(("250", "354")) for s in (*STATES, "end of DATA")) for r in replies]
    assert sequential[1] == [message(number).raw for number, good in enumerate(accepted) if good]


def test_a_refusal_counts_though_the_server_hangs_up_after_it() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        pipelined(peer, "250 OK", "550 5.1.1 Gone")

    with scripted(script) as port, sending(port) as transport, pytest.raises(PermanentSendError, match="550"):
        transport.send(message())


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("smtp://localhost", "<SMTP localhost:25 none>"),
        ("smtp://localhost:1025/", "<SMTP localhost:1025 none>"),
        ("smtp+starttls://u:p@mail.example.com", "<SMTP mail.example.com:587 starttls>"),
        ("smtps://u%40x:p%3A%2F@mail.example.com", "<SMTP mail.example.com:465 tls>"),
        ("SMTPS://[::1]:465", "<SMTP ::1:465 tls>"),
    ],
)
def test_settings_are_read_from_a_url(url: str, shown: str) -> None:
    assert repr(SMTP.from_url(url)) == shown


@needs_no_tls
def test_user_and_password_of_a_url_are_decoded() -> None:
    with serving(recorder := Recorder(), login=True) as port:
        url = f"smtp://sender:p%40ss%3Aw%2Frd@{HOST}:{port}"
        with contextlib.closing(SMTP.from_url(url, local_hostname="client.example")) as transport:
            transport.send(message())
    assert len(recorder.mails) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:25",
        "http://u:topsecret@localhost",
        "smtp://",
        "smtp://u:topsecret@",
        "smtp://u:topsecret@localhost:0",
        "smtp://u:topsecret@localhost:99999",
        "smtp://u:top/topsecret@localhost",
        "smtp://u:topsecret@localhost/path",
        "smtp://u:topsecret@localhost?tls=1",
        "smtp://u:topsecret@localhost#x",
        "smtp://u:topsecret@[::1",
        "smtp://topsecret@localhost",
        "u:topsecret@localhost",
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SMTP.from_url(url)
    assert "topsecret" not in f"{caught.value} {caught.value.hint} {caught.value.context} {caught.value.__cause__}"
    assert caught.value.hint or "port 0" in str(caught.value)


def test_a_host_that_can_be_no_name_is_a_matter_of_settings() -> None:
    with pytest.raises(ConfigError, match="is no host name"):
        SMTP("x" * 70 + ".example").send(message())


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="port 0"):
        SMTP("localhost", port=0)
    with pytest.raises(ConfigError, match="must be none, starttls or tls"):
        SMTP("localhost", security="ssl")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="both a user name and a password"):
        SMTP("localhost", username="u")
    with pytest.raises(ConfigError, match="more than zero"):
        SMTP("localhost", max_per_connection=0)
    with pytest.raises(ConfigError, match="more than zero"):
        SMTP("localhost", timeout=0)


def test_send_errors_survive_pickling() -> None:
    with (
        serving(Recorder({"MAIL": ["421 4.3.2 Busy"]})) as port,
        sending(port) as transport,
        pytest.raises(TransientSendError) as caught,
    ):
        transport.send(message())
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.code) == (str(caught.value), 421)


# --- the other transports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["smtp", "file", "memory"])
def test_every_transport_takes_a_message_answers_and_may_be_closed_twice(kind: str, tmp_path: Path) -> None:
    with serving(Recorder()) as port:
        transports: dict[str, Transport] = {"smtp": SMTP(HOST, port=port), "file": File(tmp_path), "memory": Memory()}
        transport = transports[kind]
        assert transport.name == kind
        for each in (transport, transport.another()):
            assert each.name == kind
            assert each.send(message()).startswith("250 ")
            each.close()
            each.close()


def test_memory_keeps_what_was_sent_in_order() -> None:
    transport = Memory()
    for number in (2, 1):
        transport.send(message(number))
    assert transport.messages == [message(2), message(1)]


def test_files_are_numbered_and_the_same_message_replaces_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "mails"
    transport = File(folder)
    assert transport.send(message(7)) == f"250 written to {folder}/001-{7:032x}.eml"
    transport.send(message(5))
    transport.send(message(7, body="again"))
    File(folder).send(message(5, body="later"))
    File(folder).send(message(6))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"001-{7:032x}.eml": message(7, body="again").raw,
        f"002-{5:032x}.eml": message(5, body="later").raw,
        f"003-{6:032x}.eml": message(6).raw,
    }


def test_a_folder_that_cannot_be_written_is_a_matter_of_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="ascii")
    with pytest.raises(ConfigError, match="cannot be written"):
        File(tmp_path / "file" / "mails").send(message())


def test_an_id_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    good = message()
    bad = RenderedMessage(
        message_id="../x", header_id="", sender="", recipient="", subject="", html="", text="", raw=good.raw
    )
    with pytest.raises(ValueError, match="file name"):
        File(tmp_path).send(bad)


# --- pace and retries -------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes where a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_messages_go_out_evenly_at_the_rate() -> None:
    clock = Clock()
    throttle = Throttle(4.0, clock=clock)
    waits = []
    for _ in range(4):
        waits.append(throttle.reserve("a@example.com"))
        clock.now += waits[-1]
    assert waits == [0.0, 0.25, 0.25, 0.25]
    clock.now += 10.0
    assert [throttle.reserve("a@example.com") for _ in range(2)] == [0.0, 0.25]


@given(st.floats(0.1, 100.0), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60))
def test_no_stretch_of_time_carries_more_than_the_rate_allows(rate: float, gaps: list[float]) -> None:
    clock = Clock()
    throttle = Throttle(rate, clock=clock)
    sent = []
    for gap in gaps:
        clock.now += gap
        clock.now += throttle.reserve("a@example.com")
        sent.append(clock.now)
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first <= rate * (sent[last] - start) + 1e-6


def test_threads_share_one_rate() -> None:
    throttle = Throttle(10.0, clock=Clock())
    delays: list[float] = []
    threads = [threading.Thread(target=lambda: delays.append(throttle.reserve("a@b.example"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(delays) == pytest.approx([number / 10 for number in range(20)])


def test_a_group_that_asks_for_less_is_halved_alone_and_comes_back_by_a_tenth_a_minute() -> None:
    clock = Clock()
    throttle = Throttle(groups={"gmail": 8.0}, clock=clock)
    for _ in range(80):
        clock.now += throttle.reserve("a@gmail.com")
    throttle.slow_down("a@googlemail.com")
    assert throttle.rates() == {"gmail": pytest.approx(4.0, rel=0.02)}
    clock.now += 60.0
    assert throttle.rates() == {"gmail": pytest.approx(4.4, rel=0.02)}
    clock.now += 7 * 60.0
    assert throttle.rates() == {"gmail": 8.0}
    assert [throttle.reserve("a@example.com") for _ in range(50)] == [0.0] * 50


def test_refusals_of_one_moment_halve_the_rate_once() -> None:
    clock = Clock()
    throttle = Throttle(groups={"gmail": 8.0}, clock=clock)
    for _ in range(80):
        clock.now += throttle.reserve("a@gmail.com")
    for _ in range(16):
        throttle.slow_down("a@gmail.com")
    assert throttle.rates()["gmail"] == pytest.approx(4.0, rel=0.02)


def test_without_a_limit_the_pace_of_the_last_minute_is_halved() -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    for _ in range(600):
        assert throttle.reserve("a@docomo.ne.jp") == 0.0
        clock.now += 0.1
    assert throttle.rates() == {}
    throttle.slow_down("a@docomo.ne.jp")
    assert throttle.rates() == {"docomo": pytest.approx(5.0, rel=0.02)}


def test_what_the_relay_asks_for_itself_slows_down_everybody() -> None:
    clock = Clock()
    throttle = Throttle(10.0, clock=clock)
    for _ in range(100):
        clock.now += throttle.reserve("a@example.com")
    throttle.slow_down("a@example.com", whole=True)
    waits = [throttle.reserve(address) for address in ("a@gmail.com", "a@docomo.ne.jp", "a@example.com")]
    assert waits == pytest.approx([0.2, 0.4, 0.6], rel=0.05)


def test_mails_that_have_to_wait_longer_are_sent_away_with_turns_of_their_own() -> None:
    clock = Clock()
    throttle = Throttle(groups={"gmail": 2.0}, clock=clock)
    first, *others = [throttle.reserve("a@gmail.com") for _ in range(5)]
    assert first == 0.0
    assert others == pytest.approx([-1.0, -1.5, -2.0, -2.5])
    clock.now += 1.0
    assert throttle.reserve("a@gmail.com") == 0.0
    assert all(throttle.reserve("a@gmail.com") >= -3_600.0 for _ in range(8_000))


@pytest.mark.parametrize(
    ("email", "group"),
    [
        ("a@gmail.com", "gmail"),
        ("a@GoogleMail.com", "gmail"),
        ("a@hotmail.co.jp", "microsoft"),
        ("a@yahoo.co.jp", "yahoo_japan"),
        ("a@yahoo.com", "yahoo"),
        ("a@icloud.com", "apple"),
        ("a@docomo.ne.jp", "docomo"),
        ("a@ezweb.ne.jp", "au"),
        ("a@t.vodafone.ne.jp", "softbank"),
        ("a@notgmail.com", "other"),
        ("a@gmail.com.example", "other"),
        ("", "other"),
    ],
)
def test_a_mailbox_belongs_to_the_group_whose_servers_take_its_mail(email: str, group: str) -> None:
    assert mailbox_group(email) == group
    assert group in GROUPS


@given(st.integers(1, 20), st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), min_size=1, max_size=60))
def test_a_group_never_gets_more_than_its_rate(rate: int, steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    throttle = Throttle(groups={"au": float(rate)}, clock=clock)
    sent = []
    for gap, refused in steps:
        clock.now += gap
        wait = throttle.reserve("a@au.com", patience=10.0)
        if wait >= 0.0:
            clock.now += wait
            sent.append(clock.now)
        if refused:
            throttle.slow_down("a@au.com")
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first <= rate * (sent[last] - start) + 1e-6


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_throttle_without_sense_is_a_wrong_argument(rate: float) -> None:
    with pytest.raises(ValueError, match="messages a second"):
        Throttle(rate)
    with pytest.raises(ValueError, match="gmail is"):
        Throttle(groups={"gmail": rate})
    with pytest.raises(ValueError, match="'hotmail' is no group"):
        Throttle(groups={"hotmail": 1.0})


@given(st.integers(1, 9), st.randoms(use_true_random=False))
def test_retries_wait_a_random_part_of_a_growing_time(attempt: int, rng: random.Random) -> None:
    delay = retry_delay(attempt, rng=rng)
    assert 0.0 < delay <= [60, 300, 900, 3_600, 14_400, 43_200, 43_200, 43_200, 43_200][attempt - 1]


def test_retries_spread_over_the_whole_time() -> None:
    rng = random.Random(7)
    delays = [retry_delay(2, rng=rng) for _ in range(2_000)]
    assert sum(delays) / 2_000 == pytest.approx(150.0, rel=0.1)
    with pytest.raises(ValueError, match="attempt is 0"):
        retry_delay(0, rng=rng)
