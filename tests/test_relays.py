"""Our id goes to a provider's relay in its own header, and comes back with the provider's events."""

from __future__ import annotations

import email
import json
import socket
from collections.abc import Callable
from email.message import Message
from typing import Any

import pytest
from mailserver import recording
from webhooks.harness import NOW, OURS, as_json

from abmail.render import RenderedMessage
from abmail.send import SMTP
from abmail.webhooks import parse

RAW = b"From: news@example.com\r\nTo: a@example.com\r\nMessage-ID: <x@example.com>\r\nSubject: Hello\r\n\r\n.dot\r\n"
MESSAGE = RenderedMessage(
    message_id=OURS, header_id="<x@example.com>", sender="news@example.com", recipient="a@example.com",
    subject="Hello", html="", text="", raw=RAW,
)  # fmt: skip


def variables(mail: Message, header: str) -> Any:
    return json.loads(mail[header])


# Host -> provider, and what its documentation says that becomes of the header in its events.
RELAYS: dict[str, tuple[str, Callable[[Message], Any]]] = {
    "email-smtp.eu-west-1.amazonaws.com": (
        "amazon_ses",
        lambda mail: {
            "eventType": "Open",
            "mail": {"tags": {name: [value] for name, _, value in [mail["X-SES-MESSAGE-TAGS"].partition("=")]}},
        },
    ),
    "smtp-relay.brevo.com": ("brevo", lambda mail: {"event": "opened", "X-Mailin-custom": mail["X-Mailin-custom"]}),
    "smtp-relay.sendinblue.com": (
        "brevo", lambda mail: {"event": "opened", "X-Mailin-custom": mail["X-Mailin-custom"]},
    ),
    "smtp.mailersend.net": (
        "mailersend",
        lambda mail: {"type": "activity.opened", "data": {"tags": mail["X-MailerSend-Tags"].split(",")}},
    ),
    "smtp.eu.mailgun.org": (
        "mailgun",
        lambda mail: {"event-data": {"event": "opened", "user-variables": variables(mail, "X-Mailgun-Variables")}},
    ),
    "in-v3.mailjet.com": ("mailjet", lambda mail: {"event": "open", "CustomID": mail["X-MJ-CustomID"]}),
    "live.smtp.mailtrap.io": (
        "mailtrap",
        lambda mail: {"events": [{"event": "open", "custom_variables": variables(mail, "X-MT-Custom-Variables")}]},
    ),
    "smtp.mandrillapp.com": (
        "mandrill", lambda mail: [{"event": "open", "msg": {"metadata": variables(mail, "X-MC-Metadata")}}],
    ),
    "smtp-broadcasts.postmarkapp.com": (
        "postmark",
        lambda mail: {
            "RecordType": "Open",
            "Metadata": {name[14:]: value for name, value in mail.items() if name.startswith("X-PM-Metadata-")},
        },
    ),
    "SMTP.SendGrid.net.": ("sendgrid", lambda mail: [{"event": "open", **variables(mail, "X-SMTPAPI")["unique_args"]}]),
    "smtp.sparkpostmail.com": (
        "sparkpost",
        lambda mail: [
            {"msys": {"track_event": {"type": "open", "rcpt_meta": variables(mail, "X-MSYS-API")["metadata"]}}}
        ],
    ),
}  # fmt: skip


def delivered(host: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a relay of that name gets."""
    found = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more, **options: found("127.0.0.1", *more, **options))
    with recording() as inbox:
        transport = SMTP(host, port=inbox.port)
        transport.send(MESSAGE)
        transport.close()
    return inbox.mails[0][1]


@pytest.mark.parametrize("host", RELAYS)
def test_the_id_comes_back_from_the_relay_that_replaces_our_message_id(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = delivered(host, monkeypatch)
    name, given_back = RELAYS[host]
    assert raw.endswith(RAW)
    (event,) = parse(name, as_json(given_back(email.message_from_bytes(raw))), now=NOW).events
    assert event.message_id == OURS


@pytest.mark.parametrize("host", ["mail.example.com", "smtp.resend.com", "127.0.0.1", "mailgun.org.example.com", "x"])
def test_any_other_server_gets_the_mail_as_it_is(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivered(host, monkeypatch) == RAW
