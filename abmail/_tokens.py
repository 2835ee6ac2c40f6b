"""Signed tokens: what a mail's links carry so that we know which message they are of. Pure: no clock, no network."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from abmail._networks import neighbourhood_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "HONEYPOT_LINK",
    "MAX_LINK",
    "MessageSigner",
    "Signer",
    "Token",
    "TokenKind",
    "abbreviated",
    "parts_of",
    "unverified",
]

TokenKind = Literal["o", "c", "u", "v", "b", "k", "O", "C"]
"""What a token is for: ``o`` open pixel, ``c`` click redirect, ``u`` unsubscribe, ``v`` hosted copy, ``b`` bounces,
``k`` conversions.

``O`` and ``C`` are pixels and redirects that name a variant and no message.
"""

MAX_LINK: Final = 0xFFFF
"""Links are numbered with two bytes."""
HONEYPOT_LINK: Final = 0xFFFF
"""Number of the link that nobody can see; the author's links are numbered from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a valid token says.

    Attributes:
        kind: ``o``, ``c`` or ``u``.
        message_id: 32 hexadecimal digits.
        link: Number of the link for ``c``, None otherwise.
    """

    kind: TokenKind
    message_id: str
    link: int | None = None

    @classmethod
    def of(cls, signed: bytes) -> Token:
        """Read what `Signer.signed` gives."""
        kind, message_id, link = parts_of(signed)
        return cls(kind=kind, message_id=message_id, link=link)


def parts_of(signed: bytes) -> tuple[TokenKind, str, int | None]:
    """Kind, message and link of what `Signer.signed` gives."""
    link = int.from_bytes(signed[_HEAD:], "big") if len(signed) > _HEAD else None
    return chr(signed[1]), signed[3:_HEAD].hex(), link  # type: ignore[return-value]  # it was verified


_quoted = json.encoder.encode_basestring_ascii
_VERSION = 1
_TAG = 16
_HEAD = 19  # version, kind, key id, message id
_LENGTHS: Final[dict[str, int]] = {
    "o": 47, "c": 50, "u": 47, "v": 47, "b": 47, "k": 47, "O": 47, "C": 50,
}  # fmt: skip
_CLICKS: Final = frozenset({"c", "C"})
_MIN_SECRET = 16


class Signer:
    """Makes message ids and signs the tokens in a mail's links.

    A token is base64url without padding of: version (1 byte), kind (1), key id (1), message id (16), for clicks the
    link's number (2), and a tag of 16 bytes: keyed BLAKE2b-128 (RFC 7693) over all before it and, for clicks, the
    target URL. Keys are derived per kind. A token never expires.

    Args:
        secret: Signing key, at least 16 random bytes.
        previous: Older secrets whose tokens stay valid; never used to sign.

    Raises:
        ValueError: A secret is too short.

    >>> signer = Signer(b"sixteen bytes or more")
    >>> token = signer.sign("c", signer.message_id("spring", "17"), link=2, target="https://example.com/")
    >>> signer.verify("c", token, target="https://example.com/").link
    2
    >>> signer.verify("c", token, target="https://example.org/") is None
    True
    """

    __slots__ = ("_current", "_rings")

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        self._rings = tuple(_KeyRing.derive(each) for each in (secret, *previous))
        self._current = self._rings[0]

    def __repr__(self) -> str:
        return f"<Signer with {len(self._rings)} key(s)>"

    def message_id(self, experiment: str, recipient_id: str, step: int = 0) -> str:
        """The id of the one message that a recipient gets in a step: always the same under the same secret.

        Opaque: without the secret nothing about the recipient can be learned or guessed from it.

        Args:
            experiment: Name of the experiment.
            recipient_id: Id of the recipient.
            step: Number of the step mail, 0 for a single mailing.

        Returns:
            32 hexadecimal digits.
        """
        return self.message_ids(experiment, step)(recipient_id)

    def network(self, address: str) -> str:
        """A keyed hash of the network that an address belongs to: /24, or /48 of IPv6; empty for what is no address.

        Without the secret nothing can be learned from it but that two requests came from one network.

        >>> signer = Signer(b"sixteen bytes or more")
        >>> signer.network("203.0.113.7") == signer.network("203.0.113.200") != signer.network("198.51.100.7")
        True
        """
        network = neighbourhood_of(address)
        if network is None:
            return ""
        hashed = self._current.network.start()
        hashed.update(network)
        return hashed.hexdigest()

    def message_ids(self, experiment: str, step: int = 0) -> Callable[[str], str]:
        """The same for many recipients of one experiment: a function from their ids to the messages'."""
        # JSON keeps the parts apart: ("a", "bc") and ("ab", "c") are different messages.
        start = hashlib.blake2b(f"[{_quoted(experiment)}, ".encode(), key=self._current.message, digest_size=16)
        end = f", {step}]".encode()

        def of(recipient_id: str) -> str:
            ident = start.copy()
            ident.update(_quoted(recipient_id).encode() + end)
            return ident.hexdigest()

        return of

    def fingerprints(self, email: str) -> tuple[str, ...]:
        """Keyed hashes that stand for an address where it must not be kept, the first one under the current secret.

        Args:
            email: The address, normalised.

        Returns:
            64 hexadecimal digits for each secret.
        """
        return tuple(
            hashlib.blake2b(email.encode(), key=ring.person, digest_size=32).hexdigest() for ring in self._rings
        )

    def sign(self, kind: TokenKind, message_id: str, *, link: int | None = None, target: str | None = None) -> str:
        """Make a token.

        Args:
            kind: ``o``, ``c`` or ``u``.
            message_id: 32 hexadecimal digits, see `message_id`.
            link: For ``c``: the link's number in the mail, 0 to 65535.
            target: For ``c``: the URL to redirect to, which travels beside the token and is covered by its tag.

        Returns:
            50 characters for ``c``, else 47; safe in a URL's path.

        Raises:
            ValueError: The id is none of ours, or link and target don't fit the kind.
        """
        body = bytes([_VERSION, ord(kind), self._current.number]) + _id_bytes(message_id) + _link_bytes(kind, link)
        if (target is not None) != (kind in _CLICKS):
            raise ValueError(f"a token of kind {kind!r} {'needs a' if kind in _CLICKS else 'takes no'} target")
        return _encode(body + self._current.tag(kind, body, _target_bytes(target)))

    def of(self, message_id: str, *, crowd: bool = False) -> MessageSigner:
        """Make the tokens of one message: the same as `sign` gives, many at a time.

        Args:
            message_id: 32 hexadecimal digits; of a message, or what `crowd_id` gives.
            crowd: Whether it is the latter.

        Raises:
            ValueError: The id is none of ours.
        """
        return MessageSigner(self._current, message_id, crowd=crowd)

    def verify(self, kind: TokenKind, token: str, *, target: str | None = None) -> Token | None:
        """Read a token; None for anything that this signer did not make for this kind and target. Never raises.

        Each token has one spelling only, and the tag is compared in constant time.

        Args:
            kind: The kind that is expected here.
            token: What came in the URL.
            target: For ``c``: the URL that came with it.
        """
        if kind in _CLICKS and target is None:
            return None
        try:
            signed = self.signed(kind, token, covered=_target_bytes(target if kind in _CLICKS else None))
        except ValueError:
            return None
        return None if signed is None else Token.of(signed)

    def signed(self, kinds: str, token: str, *, covered: bytes = b"") -> bytes | None:
        """The same in bytes, for who reads many: what a token of one of some kinds says; `Token.of` reads it.

        Args:
            kinds: Letters of the kinds that are expected here.
            token: What came in the URL.
            covered: For clicks: the URL that came with it, in UTF-8.
        """
        whole = _bytes_of(token)
        if whole is None or len(whole) < _HEAD + _TAG or whole[0] != _VERSION:
            return None
        kind, body, tag = chr(whole[1]), whole[:-_TAG], whole[-_TAG:]
        if kind not in kinds or _LENGTHS.get(kind) != len(token):
            return None
        for ring in self._rings:
            if ring.number == body[2] and hmac.compare_digest(ring.tag(kind, body, covered), tag):
                return body
        return None


class MessageSigner:
    """Signs the tokens of one message; made by `Signer.of`.

    Attributes:
        message_id: 32 hexadecimal digits.
    """

    __slots__ = ("_click_head", "_clicks", "_crowd", "_id", "_ring", "message_id")

    def __init__(self, ring: _KeyRing, message_id: str, *, crowd: bool = False) -> None:
        self.message_id = message_id
        self._ring = ring
        self._id = _id_bytes(message_id)
        self._crowd = crowd
        self._click_head = self._head("C" if crowd else "c")
        self._clicks = ring.tokens["C" if crowd else "c"].start()
        self._clicks.update(self._click_head)

    def pixel(self) -> str:
        """Make the token of the open pixel."""
        return self.sign("O" if self._crowd else "o")

    def sign(self, kind: Literal["o", "u", "v", "b", "k", "O"]) -> str:
        """Make the token of a kind that carries no link."""
        head = self._head(kind)
        return _encode(head + self._ring.tag(kind, head, b""))

    def click(self, link: int, target: str) -> str:
        """Make the token of a link.

        Args:
            link: Its number in the mail, 0 to 65535.
            target: The URL to redirect to.

        Raises:
            ValueError: The number is out of range, or the URL cannot be written in UTF-8.
        """
        number = _link_bytes("c", link)
        hashed = self._clicks.copy()  # the key and the head are in it already
        hashed.update(number + _target_bytes(target))
        return _encode(self._click_head + number + hashed.digest())

    def _head(self, kind: TokenKind) -> bytes:
        return bytes((_VERSION, ord(kind), self._ring.number)) + self._id


class _Keyed:
    """BLAKE2b under a key, ready to be started; it can go to another process, which a started hash cannot."""

    __slots__ = ("_made_of", "start")

    def __init__(self, key: bytes, size: int) -> None:
        self._made_of = (key, size)
        self.start = hashlib.blake2b(key=key, digest_size=size).copy

    def __reduce__(self) -> tuple[type[_Keyed], tuple[bytes, int]]:
        return _Keyed, self._made_of


@dataclass(frozen=True, slots=True)
class _KeyRing:
    """The keys that come from one secret; the secret itself is not kept."""

    number: int
    message: bytes = field(repr=False)
    network: _Keyed = field(repr=False)
    person: bytes = field(repr=False)
    tokens: dict[str, _Keyed] = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes) -> _KeyRing:
        if len(secret) < _MIN_SECRET:
            raise ValueError(f"a signing secret has {len(secret)} bytes, must have at least {_MIN_SECRET}")
        master = hashlib.blake2b(secret, digest_size=32, person=b"abmail secret").digest()

        def key(purpose: str) -> bytes:
            return hashlib.blake2b(purpose.encode(), key=master, digest_size=32).digest()

        return cls(
            key("key id")[0],
            key("message id"),
            _Keyed(key("network"), 6),
            key("person"),
            {kind: _Keyed(key(f"token {kind}"), _TAG) for kind in _LENGTHS},
        )

    def tag(self, kind: str, body: bytes, covered: bytes) -> bytes:
        hashed = self.tokens[kind].start()
        hashed.update(body + covered)
        return hashed.digest()


def _id_bytes(message_id: str) -> bytes:
    if not re.fullmatch(r"[0-9a-f]{32}", message_id):
        raise ValueError(f"a message id has 32 hexadecimal digits in lower case, this one is {abbreviated(message_id)}")
    return bytes.fromhex(message_id)


def _link_bytes(kind: TokenKind, link: int | None) -> bytes:
    if kind not in _CLICKS:
        if link is not None:
            raise ValueError(f"a token of kind {kind!r} takes no link number")
        return b""
    if link is None or not 0 <= link <= MAX_LINK:
        raise ValueError(f"link is {link}, must be in 0..{MAX_LINK}")
    return link.to_bytes(2, "big")


def _target_bytes(target: str | None) -> bytes:
    try:
        return (target or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"the target {abbreviated(target or '')} cannot be written in UTF-8") from None


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def _encode(whole: bytes) -> str:
    return binascii.b2a_base64(whole, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


def _bytes_of(token: str) -> bytes | None:
    """What is written in base64url; None for another spelling than `_encode`'s."""
    try:
        given = token.encode("ascii")
        whole = binascii.a2b_base64(given.translate(_STANDARD) + b"==")
    except ValueError:  # no ASCII, or no such number of digits
        return None
    # Other characters were passed over, and the last one has spare bits: the token is only what comes out again.
    return whole if binascii.b2a_base64(whole, newline=False).translate(_URL_SAFE, b"=") == given else None


def unverified(token: str) -> Token | None:
    """What a token says, without asking who made it; None for what has not the form of one.

    For tokens out of a source that is trusted itself, such as a provider's report of the link that was followed.
    """
    whole = _bytes_of(token)
    if whole is None or len(whole) < _HEAD + _TAG or whole[0] != _VERSION:
        return None
    return Token.of(whole[:-_TAG]) if _LENGTHS.get(chr(whole[1])) == len(token) else None


def abbreviated(text: str) -> str:
    """The beginning of a text, in ASCII and quotes, for a message that says what is wrong with it."""
    return ascii(text if len(text) <= 60 else f"{text[:60]}...")
