"""Writes a mail with a text and an HTML part as bytes: RFC 5322 headers, RFC 2047 words, RFC 2045 bodies.

The standard library's writer is some thirty times slower, encodes long List-Unsubscribe addresses
(python/cpython#85725) and lets some control characters into headers. Whatever is written here, its parser reads back.
"""

from __future__ import annotations

import re
import textwrap
from base64 import b64encode, encodebytes
from binascii import b2a_qp
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["address_header", "boundary", "message_bytes", "structured_header", "text_header"]

_LINE = 76  # octets; RFC 2045 section 6.7 and RFC 2047 section 2
_MAX_LINE = 998  # octets; RFC 5322 section 2.1.1
_MAX_NAME = 200  # characters of a display name that is written as it is, on one line
_WORD = "=?utf-8?b?{}?="
_FORBIDDEN = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
_ADDRESS = re.compile(r"[^\s\"(),:;<>@\[\\\]]+@[A-Za-z0-9.\-]+")
_QP_PLAIN = bytes(octet for octet in range(0x20, 0x7F) if octet != ord("=")) + b"\n"


def text_header(name: str, text: str) -> bytes:
    """A header of free text, such as Subject: ASCII as it is, anything else as RFC 2047 words.

    Raises:
        ValueError: The text holds a line break or another control character.
    """
    checked = _checked(name, text)
    if not _is_plain(checked):
        return _header(name, _words(checked, room=_LINE - len(name) - 2))
    if len(name) + 2 + len(checked) <= _LINE:
        return _header(name, checked)
    folded = textwrap.wrap(checked, _LINE - len(name) - 2, break_long_words=False, break_on_hyphens=False)
    # Only single spaces survive folding; a text with others, or with endless words, is safe as encoded words.
    if " ".join(folded) == checked and max(map(len, folded)) < _MAX_LINE - len(name) - 2:
        return _header(name, "\r\n ".join(folded))
    return _header(name, _words(checked, room=_LINE - len(name) - 2))


def address_header(name: str, address: str, display_name: str = "") -> bytes:
    """A header with one mailbox: From, To, Reply-To.

    Args:
        name: Header name.
        address: `local@domain`, the domain in ASCII. A local part outside ASCII is written raw (RFC 6532).
        display_name: The name before it, empty for none.

    Raises:
        ValueError: A control character in either, or no address.
    """
    _checked(name, address)
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{name} holds no address that can be written")
    shown = _checked(name, display_name)
    if not shown:
        return _header(name, address)
    phrase = _phrase(shown, room=_LINE - len(name) - 2)
    last_line = phrase.rpartition("\r\n")[2] if "\r\n" in phrase else f"{name}: {phrase}"
    glue = " " if len(last_line) + len(address) + 3 <= _LINE else "\r\n "
    return _header(name, f"{phrase}{glue}<{address}>")


def structured_header(name: str, *items: str) -> bytes:
    """A header of ASCII items that are never encoded nor cut; several stand one a line, with commas between.

    Raises:
        ValueError: An item is not printable ASCII, or too long for a line.
    """
    for item in items:
        _checked(name, item)
        if not item.isascii() or len(name) + len(item) + 3 > _MAX_LINE:
            raise ValueError(f"{name} must be ASCII and fit into a line of {_MAX_LINE} octets")
    return _header(name, ",\r\n ".join(items))


def boundary(message_id: str) -> str:
    """The line between the parts, the same for the same message.

    It holds "=_", which neither quoted-printable nor base64 ever writes: it cannot occur in a body.
    """
    return "=_" + blake2b(b"boundary", key=message_id.encode()[:64], digest_size=12).hexdigest()


def message_bytes(
    headers: Iterable[bytes],
    *,
    text: str,
    html: str,
    separator: str,
    images: Sequence[bytes] = (),
    attached: Sequence[bytes] = (),
) -> bytes:
    """A whole multipart/alternative message, CRLF line ends throughout, no line over 998 octets.

    Pictures make it a part of multipart/related (RFC 2387), attachments of multipart/mixed.

    Args:
        headers: Lines as the header functions give them.
        text: Plain part.
        html: HTML part.
        separator: See `boundary`.
        images: MIME parts that the HTML shows.
        attached: MIME parts that stand beside the mail.

    Raises:
        ValueError: A part holds half of a surrogate pair.
    """
    line = f"--{separator}".encode()
    body = b"".join([
        f'Content-Type: multipart/alternative; boundary="{separator}"\r\n\r\n'.encode(),
        line, b"\r\n", _part("plain", text), b"\r\n",
        line, b"\r\n", _part("html", html), b"\r\n",
        line, b"--\r\n",
    ])  # fmt: skip
    # A letter after "=_" keeps the boundaries apart, of which none may begin with another (RFC 2046, section 5.1.1).
    if images:
        kind = 'related; type="multipart/alternative"'
        body = _around(body, images, kind=kind, separator=separator.replace("=_", "=_r", 1))
    if attached:
        body = _around(body, attached, kind="mixed", separator=separator.replace("=_", "=_m", 1))
    return b"".join([*headers, b"MIME-Version: 1.0\r\n", body])


def _around(body: bytes, parts: Iterable[bytes], *, kind: str, separator: str) -> bytes:
    """A part with others behind it in one multipart."""
    line = f"\r\n--{separator}".encode()
    head = f'Content-Type: multipart/{kind}; boundary="{separator}"\r\n'.encode()
    return b"".join([head, *(piece for part in (body, *parts) for piece in (line, b"\r\n", part)), line, b"--\r\n"])


def _header(name: str, value: str) -> bytes:
    return f"{name}: {value}\r\n".encode()


def _checked(name: str, text: str) -> str:
    match = _FORBIDDEN.search(text)
    if match:
        raise ValueError(f"{name} holds a line break or another control character (U+{ord(match[0]):04X})")
    _utf8(text, name)
    return text


def _utf8(text: str, place: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place} holds half of a surrogate pair (U+{ord(text[error.start]):04X})") from None


def _is_plain(text: str) -> bool:
    """Whether a reader takes the text as it stands: ASCII, nothing like an encoded word, no space to be trimmed."""
    return text.isascii() and "=?" not in text and text == text.strip(" ") and bool(text)


def _words(text: str, *, room: int) -> str:
    """RFC 2047 section 2: words of at most 75 octets, none cutting a character, one a line.

    Args:
        text: Not checked for control characters.
        room: Octets left on the header's first line.
    """
    words, chunk, space = [], b"", room
    for char in text:
        octets = char.encode()
        if len(_WORD) - 2 + (len(chunk) + len(octets) + 2) // 3 * 4 > space:
            words.append(_WORD.format(b64encode(chunk).decode()))
            chunk, space = b"", _LINE - 1
        chunk += octets
    words.append(_WORD.format(b64encode(chunk).decode()))
    return "\r\n ".join(words)


def _phrase(text: str, *, room: int) -> str:
    if not _is_plain(text) or len(text) > _MAX_NAME:
        return _words(text, room=room)
    if _ATOMS.fullmatch(text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _part(subtype: str, text: str) -> bytes:
    lines = _utf8(text.replace("\r\n", "\n").replace("\r", "\n"), f"the {subtype} part")
    quoted = len(lines.translate(None, delete=_QP_PLAIN))
    if 2 * quoted > len(lines) // 3:
        encoding, body = "base64", encodebytes(lines.replace(b"\n", b"\r\n"))
    else:
        encoding, body = "quoted-printable", b2a_qp(lines, istext=True)
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body.replace(b"\n", b"\r\n")
