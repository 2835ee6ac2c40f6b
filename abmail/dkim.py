"""DKIM signatures (RFC 6376, RFC 8463): relaxed/relaxed, with RSA or Ed25519 keys.

Most relays and all sending services sign by themselves; this is for those that don't. A signature is made of the bytes
that go out, so it comes last.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from abmail.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

__all__ = ["Dkim"]

_SIGNED: Final = (
    b"from", b"to", b"subject", b"date", b"message-id", b"reply-to", b"list-unsubscribe", b"list-unsubscribe-post",
    b"list-id", b"feedback-id", b"mime-version", b"content-type",
)  # fmt: skip
_NO_SECOND: Final = (b"from", b"to", b"subject", b"list-unsubscribe", b"list-unsubscribe-post")
"""Fields whose number is signed too: a second one, put before ours on the way, breaks the signature."""

_FEWEST_BITS: Final = 1024  # RFC 8301
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_LINE: Final = 72  # characters of the signature in one line
_BLANKS = re.compile(rb"[ \t]+")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_HINT: Final = "make one with: openssl genpkey -algorithm ed25519 -out dkim.pem (or -algorithm rsa)"


class Dkim:
    """Signs mails with one key.

    Args:
        key: Private key as PEM, RSA of at least 1,024 bits or Ed25519; not encrypted.
        selector: Name under which the public key is published: ``<selector>._domainkey.<domain>``.
        domain: Domain that vouches for the mail; that of the sender's address, or one above it.

    Attributes:
        selector: As given.
        domain: As given, in lower case.

    Raises:
        ConfigError: The key, selector or domain cannot be used; the message never shows the key.
        MissingExtra: The package cryptography is not installed.
    """

    __slots__ = ("_algorithm", "_public", "_sign", "domain", "selector")
    _sign: Callable[[bytes], bytes]

    def __init__(self, key: bytes, *, selector: str, domain: str) -> None:
        for what, name in (("selector", selector), ("domain", domain)):
            if not _NAME.fullmatch(name):
                raise ConfigError(f"the DKIM {what} is {name!r}, must be made of letters, digits, hyphens and dots")
        self.selector, self.domain = selector, domain.lower()
        self._load(key)

    def __repr__(self) -> str:
        return f"<Dkim {self._algorithm} {self.selector}._domainkey.{self.domain}>"

    def _load(self, key: bytes) -> None:
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
        except ModuleNotFoundError as error:
            raise MissingExtra("signing with DKIM", "dkim") from error
        try:
            private = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError("the DKIM key is no unencrypted private key in PEM", hint=_HINT) from None
        if isinstance(private, ed25519.Ed25519PrivateKey):
            self._algorithm = "ed25519-sha256"
            self._sign = lambda octets: private.sign(hashlib.sha256(octets).digest())
            kind, encoding, form = "ed25519", serialization.Encoding.Raw, serialization.PublicFormat.Raw
        elif isinstance(private, rsa.RSAPrivateKey):
            if private.key_size < _FEWEST_BITS:
                raise ConfigError(f"the DKIM key has {private.key_size} bits, must have {_FEWEST_BITS}", hint=_HINT)
            self._algorithm = "rsa-sha256"
            self._sign = lambda octets: private.sign(octets, padding.PKCS1v15(), hashes.SHA256())
            kind, encoding = "rsa", serialization.Encoding.DER
            form = serialization.PublicFormat.SubjectPublicKeyInfo
        else:
            raise ConfigError("the DKIM key is neither RSA nor Ed25519", hint=_HINT)
        self._public = f"v=DKIM1; k={kind}; p={b64encode(private.public_key().public_bytes(encoding, form)).decode()}"

    @property
    def record(self) -> tuple[str, str]:
        """Name and content of the TXT record to publish."""
        return f"{self.selector}._domainkey.{self.domain}", self._public

    def require_for(self, sender_domain: str) -> None:
        """Refuse to vouch for another's mail: receivers that check DMARC would not count such a signature.

        Raises:
            ConfigError: The sender's domain is neither the signing one nor below it.
        """
        found = sender_domain.lower()
        if found != self.domain and not found.endswith(f".{self.domain}"):
            raise ConfigError(
                f"mails from {found} cannot be signed for {self.domain}",
                hint="set dkim_domain to the domain in message.from, or to one above it",
            )

    def sign(self, raw: bytes, at: datetime) -> bytes:
        """Put a signature before a mail.

        Args:
            raw: The whole mail with CRLF line ends, as it goes out.
            at: When it is signed, aware UTC.

        Returns:
            The mail with the header field DKIM-Signature before the others.
        """
        head, _, body = raw.partition(b"\r\n\r\n")
        fields = [(line.partition(b":")[0].strip().lower(), line) for line in _FIELD_END.split(head)]
        present = {name for name, _ in fields}
        names = [name for name in _SIGNED if name in present]
        names += [name for name in _NO_SECOND if name in present]
        start = (
            f"DKIM-Signature: v=1; a={self._algorithm}; c=relaxed/relaxed; d={self.domain};\r\n s={self.selector}; "
            f"t={int(at.timestamp())};\r\n h={_listed(names)};\r\n bh={body_hash(body)};\r\n b="
        )
        value = b64encode(self._sign(header_input(fields, names, start.encode()))).decode()
        folded = "\r\n ".join(value[begin : begin + _LINE] for begin in range(0, len(value), _LINE))
        return f"{start}{folded}\r\n".encode() + raw


def body_hash(body: bytes) -> str:
    """The SHA-256 of a body that ends with a line end, in relaxed form (RFC 6376, section 3.4.4)."""
    relaxed = _BLANKS.sub(b" ", body).replace(b" \r\n", b"\r\n").rstrip(b"\r\n")
    return b64encode(hashlib.sha256(relaxed + b"\r\n" if relaxed else b"").digest()).decode()


def header_input(fields: Sequence[tuple[bytes, bytes]], names: Iterable[bytes], signature: bytes) -> bytes:
    """What is signed: the named fields from the bottom up, and the signature's own with an empty ``b=`` (section 3.7).

    Args:
        fields: Name in lower case and the whole field, in order.
        names: The ``h=`` list; a name that has no field left stands for none.
        signature: The signature's field up to ``b=``.
    """
    left: dict[bytes, list[bytes]] = {}
    for name, line in fields:
        left.setdefault(name, []).append(line)
    signed = [_relaxed(left[name].pop()) for name in names if left.get(name)]
    return b"".join([*(line + b"\r\n" for line in signed), _relaxed(signature)])


def _relaxed(line: bytes) -> bytes:
    name, _, value = line.partition(b":")
    return name.strip().lower() + b":" + _BLANKS.sub(b" ", value.replace(b"\r\n", b"")).strip(b" \t")


def _listed(names: Sequence[bytes]) -> str:
    """The ``h=`` list in lines."""
    lines, line = [], ""
    for name in names:
        if len(line) + len(name) > _LINE:
            lines.append(line)
            line = ""
        line += f"{name.decode()}:"
    return "\r\n  ".join([*lines, line.rstrip(":")])
