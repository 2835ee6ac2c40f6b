"""Relays of mail providers: the header in which each takes our id of a message, to give it back with its events.

Several providers replace the Message-ID, so that it alone would not bring an event back to its message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from abmail.webhooks import OUR_KEY

__all__ = ["id_header"]


def _json(header: str, *around: str) -> Callable[[str], str]:
    """A header of JSON: the id under our key, inside of further objects."""

    def made(message_id: str) -> str:
        value: dict[str, object] = {OUR_KEY: message_id}
        for name in reversed(around):
            value = {name: value}
        return f"{header}: {json.dumps(value)}"

    return made


_HEADERS: Final[dict[str, Callable[[str], str]]] = {
    "amazonaws.com": lambda ident: f"X-SES-MESSAGE-TAGS: {OUR_KEY}={ident}",
    "brevo.com": _json("X-Mailin-custom"),
    "mailersend.net": lambda ident: f"X-MailerSend-Tags: {ident}",
    "mailgun.org": _json("X-Mailgun-Variables"),
    "mailjet.com": lambda ident: f"X-MJ-CustomID: {ident}",
    "mailtrap.io": _json("X-MT-Custom-Variables"),
    "mandrillapp.com": _json("X-MC-Metadata"),
    "postmarkapp.com": lambda ident: f"X-PM-Metadata-{OUR_KEY}: {ident}",
    "sendgrid.net": _json("X-SMTPAPI", "unique_args"),
    "sendinblue.com": _json("X-Mailin-custom"),
    "sparkpostmail.com": _json("X-MSYS-API", "metadata"),
}
"""Domain of the relay -> the header. Resend and Postal give back headers of ours, which need no further one."""


def id_header(host: str, message_id: str) -> bytes:
    """The header, as a line; nothing for a relay that wants none.

    >>> id_header("smtp.postmarkapp.com", "0" * 32).split()
    [b'X-PM-Metadata-abmail_message:', b'00000000000000000000000000000000']
    """
    domain = ".".join(host.lower().rstrip(".").split(".")[-2:])
    make = _HEADERS.get(domain)
    return f"{make(message_id)}\r\n".encode() if make else b""
