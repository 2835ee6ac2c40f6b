"""What happened to a message: events, signed tracking tokens, and verdicts on machine traffic.

Pure: no clock, no network. An event is never thrown away for coming from a machine; it is kept with a verdict and the
reasons for it, so that the counts can be made again when a rule changes.
"""

from __future__ import annotations

import binascii
import difflib
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from abmail._crowd import NONCE, Crowd, crowd_id, crowd_of
from abmail._event_types import HUMAN_LIKELY, EventType, Verdict
from abmail._verdict_facts import HONEYPOT_LINK, Agent, RequestFacts, facts_of, neighbourhood_of, own_reasons
from abmail._verdict_reasons import RULES_VERSION, Reason, given_reasons, names_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "HONEYPOT_LINK",
    "HUMAN_LIKELY",
    "NONCE",
    "RULES_VERSION",
    "Agent",
    "Crowd",
    "Event",
    "EventProblem",
    "EventType",
    "Judgement",
    "MessageSigner",
    "Reason",
    "RequestFacts",
    "Signer",
    "Token",
    "TokenKind",
    "Verdict",
    "crowd_id",
    "crowd_of",
    "facts_of",
    "given_reasons",
    "judge",
    "judge_facts",
    "parts_of",
    "read_jsonl",
    "unverified",
]

TokenKind = Literal["o", "c", "u", "v", "b", "k", "O", "C"]
"""What a token is for: ``o`` open pixel, ``c`` click redirect, ``u`` unsubscribe, ``v`` hosted copy, ``b`` bounces,
``k`` conversions.

``O`` and ``C`` are pixels and redirects that name a variant and no message.
"""

MAX_LINK: Final = 0xFFFF
_MOST_VALUE: Final = 1e12
_FUTURE = timedelta(days=1)


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to one message.

    Attributes:
        type: What happened.
        at: When, aware UTC datetime.
        message_id: The message's id from `Signer.message_id`; empty when ``experiment`` and ``recipient`` are given.
        experiment: Name of the experiment; needed without ``message_id``.
        recipient: Id of the recipient; needed without ``message_id``.
        verdict: Who caused it.
        reasons: Why that verdict; names of rules, see `judge`.
        link: Number of the clicked link in the mail, 0 to 65535.
        source: Who reports it: ``own``, ``smtp``, or a provider's name.
        key: Two events with the same key are one event; when empty, made from source, type, message, link and second.
        detail: Text for people, such as a bounce's diagnostic; characters that a database refuses are replaced.
        hard: For a bounce: the address is dead for good.
        value: What a conversion is worth, in the unit of the definition's ``metrics.value``: money, or points of a lead
            score; negative for a refund. None counts as 1. Give each order a ``key`` of its own: two without one in
            the same second are taken for one.
        facts: What the request said of itself. With it the store makes the verdict, from this and from the events
            around it, and can make it anew; without it ``verdict`` is taken as given.

    Raises:
        ValueError: ``at`` is not aware UTC, no message is named, or a field cannot be stored or is out of range.
    """

    type: EventType
    at: datetime
    message_id: str = ""
    experiment: str = ""
    recipient: str = ""
    verdict: Verdict = Verdict.HUMAN
    reasons: tuple[str, ...] = ()
    link: int | None = None
    source: str = "own"
    key: str = ""
    detail: str = ""
    hard: bool = False
    value: float | None = None
    facts: RequestFacts | None = None

    def __post_init__(self) -> None:
        if self.at.utcoffset() != timedelta(0):
            raise ValueError(f"an event's time must be an aware UTC datetime, not {self.at.isoformat()}")
        if not (self.message_id or (self.experiment and self.recipient)):
            raise ValueError("an event names its message: give message_id, or both experiment and recipient")
        if self.link is not None and not 0 <= self.link <= MAX_LINK:
            raise ValueError(f"link is {self.link}, must be in 0..{MAX_LINK}")
        if self.value is not None and not abs(self.value) <= _MOST_VALUE:
            raise ValueError(f"value is {self.value:g}, must be a number from -{_MOST_VALUE:g} to {_MOST_VALUE:g}")
        for name in ("message_id", "experiment", "recipient", "source", "key"):
            _require_storable(name, getattr(self, name))
        for reason in self.reasons:
            _require_storable("reasons", reason)
        object.__setattr__(self, "detail", _storable(self.detail))
        object.__setattr__(self, "key", self.key or self._default_key())

    def _default_key(self) -> str:
        message = [self.message_id] if self.message_id else [self.experiment, self.recipient]
        parts = [self.source, self.type.value, message, self.link, int(self.at.timestamp())]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """All fields as JSON values; times in ISO 8601. `from_dict` gives the same event back, with the same key."""
        return {
            "type": self.type.value,
            "at": self.at.astimezone(UTC).isoformat(),
            "message_id": self.message_id,
            "experiment": self.experiment,
            "recipient": self.recipient,
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "link": self.link,
            "source": self.source,
            "key": self.key,
            "detail": self.detail,
            "hard": self.hard,
            "value": self.value,
            "facts": None if self.facts is None else self.facts.to_dict(),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> Event:
        """Read an event from JSON values; only ``type``, ``at`` and the message are required.

        Args:
            fields: Names as in `to_dict`; ``at`` is ISO 8601 text with an offset, which is converted to UTC.

        Raises:
            ValueError: A field is missing, unknown or of the wrong kind; the message names it and its value.

        >>> Event.from_dict({"type": "opened", "at": "2026-03-01T10:00:00+09:00", "message_id": "ab"}).at.hour
        1
        """
        unknown = sorted(set(fields) - set(_READERS))
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}{_nearest(unknown[0], _READERS)}")
        for name in ("type", "at"):
            if name not in fields:
                raise ValueError(f"the field {name!r} is missing")
        read = {name: _READERS[name](name, value) for name, value in fields.items()}
        return cls(**read)  # type: ignore[arg-type]  # each reader returns its field's type


@dataclass(frozen=True, slots=True, kw_only=True)
class EventProblem:
    """A line that holds no event.

    Attributes:
        line: 1-based line of the file.
        message: What is wrong with it.
        text: The whole line (undecodable bytes as hexadecimal escapes), so that nothing is lost. Not for logs.
    """

    line: int
    message: str
    text: str


def read_jsonl(lines: Iterable[bytes | str], *, now: datetime) -> Iterator[Event | EventProblem]:
    """Read events from JSON lines; a bad line becomes a problem and the rest goes on.

    Args:
        lines: One JSON object a line, UTF-8 with or without a byte order mark; blank lines are skipped.
        now: Aware UTC datetime; an event more than a day after it is refused: that is a wrong date. One that is less
            ahead comes from a clock that is, and the store takes the moment at which it saw it.

    Yields:
        One event or problem for each line that is not blank, in order.
    """
    for number, raw in enumerate(lines, start=1):
        text = raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
        text = text.removeprefix("\ufeff").strip() if number == 1 else text.strip()
        if not text:
            continue
        try:
            yield _event_of_line(raw, now)
        except (ValueError, RecursionError) as error:
            message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            yield EventProblem(line=number, message=message, text=text)


def _event_of_line(raw: bytes | str, now: datetime) -> Event:
    try:
        found = json.loads(raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8: byte {error.start + 1} of the line is 0x{error.object[error.start]:02x}"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except ValueError:
        raise ValueError("a number has too many digits") from None
    if not isinstance(found, dict):
        raise _wrong_kind("a line", "a JSON object", found)
    event = Event.from_dict(found)
    if event.at > now + _FUTURE:
        raise ValueError(f"'at' is {event.at.isoformat()}, more than a day in the future; check the sender's clock")
    return event


def _read_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_kind(repr(name), "text", value)
    return value


def _read_type(name: str, value: object) -> EventType:
    text = _read_text(name, value)
    try:
        return EventType(text)
    except ValueError:
        hint = _nearest(text, EventType)
        raise ValueError(f"{name!r} is {_short(text)}, which is no event type{hint}") from None


def _read_verdict(name: str, value: object) -> Verdict:
    text = _read_text(name, value)
    try:
        return Verdict(text)
    except ValueError:
        raise ValueError(f"{name!r} is {_short(text)}, must be one of {', '.join(Verdict)}") from None


def _read_time(name: str, value: object) -> datetime:
    text = _read_text(name, value)
    try:
        at = datetime.fromisoformat(text)
        if at.utcoffset() is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{name!r} is {_short(text)}, not a time such as 2026-03-01T10:00:00Z") from None
    raise ValueError(f"{name!r} is {_short(text)}, which has no UTC offset; write for instance {_short(text)[1:-1]}Z")


def _read_link(name: str, value: object) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise _wrong_kind(repr(name), "a whole number or null", value)
    return value


def _read_number(name: str, value: object) -> float | None:
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise _wrong_kind(repr(name), "a number or null", value)
    return None if value is None else float(value)


def _read_reasons(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong_kind(repr(name), "a list of texts", value)
    return tuple(_read_text(name, item) for item in value)


def _read_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong_kind(repr(name), "true or false", value)
    return value


def _read_facts(name: str, value: object) -> RequestFacts | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _wrong_kind(repr(name), "an object or null", value)
    unknown = sorted(set(value) - set(_FACTS))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r} in {name!r}{_nearest(unknown[0], _FACTS)}")
    read = {part: _FACTS[part](f"{name}.{part}", each) for part, each in value.items()}
    return RequestFacts(**read)  # type: ignore[arg-type]  # each reader returns its field's type


def _read_agent(name: str, value: object) -> Agent:
    text = _read_text(name, value)
    try:
        return Agent(text)
    except ValueError:
        raise ValueError(f"{name!r} is {_short(text)}, must be one of {', '.join(Agent)}") from None


def _read_storable(name: str, value: object) -> str:
    text = _read_text(name, value)
    _require_storable(name, text)
    return text


_FACTS: Final = {
    "head": _read_flag,
    "prefetch": _read_flag,
    "agent": _read_agent,
    "family": _read_storable,
    "network": _read_storable,
}
_READERS: Final = {
    "type": _read_type,
    "at": _read_time,
    "message_id": _read_text,
    "experiment": _read_text,
    "recipient": _read_text,
    "verdict": _read_verdict,
    "reasons": _read_reasons,
    "link": _read_link,
    "source": _read_text,
    "key": _read_text,
    "detail": _read_text,
    "hard": _read_flag,
    "value": _read_number,
    "facts": _read_facts,
}


def _require_storable(name: str, text: str) -> None:
    if _storable(text) != text:
        raise ValueError(f"{name} holds a NUL or half a surrogate pair, which no database takes: {_short(text)}")


def _storable(text: str) -> str:
    """The text without what PostgreSQL or UTF-8 refuse: NUL and lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\0", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def _nearest(text: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(text, list(known), n=1)
    return f"; did you mean {str(found[0])!r}?" if found else ""


def _wrong_kind(what: str, wanted: str, value: object) -> ValueError:
    """A ValueError on purpose: what has the wrong kind is a value in somebody's file."""
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    found = "null" if value is None else names.get(type(value), type(value).__name__)
    return ValueError(f"{what} must be {wanted}, not {found}")


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:60]}...")


# --- tokens ---------------------------------------------------------------------------------------------------------


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
        raise ValueError(f"a message id has 32 hexadecimal digits in lower case, this one is {_short(message_id)}")
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
        raise ValueError(f"the target {_short(target or '')} cannot be written in UTF-8") from None


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


# --- verdicts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict and the names of the rules that led to it (empty for a plain human)."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


def judge(
    *,
    type: EventType,  # noqa: A002 - the event's own word for it
    method: str,
    user_agent: str,
    headers: Mapping[str, str],
    seconds_since_sent: float | None,
) -> Judgement:
    """Judge one request by what it says of itself; the store judges it again among the events around it.

    ============================  =========  ==========================================================================
    reason                        verdict    rule
    ============================  =========  ==========================================================================
    ``head_request``              machine    HEAD shows nothing to a person
    ``prefetch_header``           machine    Purpose, Sec-Purpose, X-Purpose or X-Moz says prefetch, prerender, preview
    ``no_user_agent``             machine    empty User-Agent
    ``apple_privacy``             machine    User-Agent exactly ``Mozilla/5.0``: Apple's prefetching mail privacy
    ``gmail_prefetch``            machine    Gmail's prefetcher in the guise of Edge 12
    ``image_proxy_early``         machine    Gmail's or Yahoo's image proxy within 10 s of sending
    ``image_proxy_click``         machine    an image proxy follows a link
    ``known_machine``             machine    crawlers, scanners, link previews, HTTP libraries
    ``image_proxy``               proxy      Gmail's or Yahoo's image proxy later: a person opened, the device is hidden
    ``fast_click``                suspected  a click within 5 s of sending
    ``early``                     human      a click within two minutes of sending: a hint, which others may add to
    ``not_a_browser``             suspected  a click from what does not even claim to be a browser
    ============================  =========  ==========================================================================

    Two suspicions together are a machine. Events other than opens and clicks are taken as a person's.

    Args:
        type: The event to be recorded.
        method: HTTP method.
        user_agent: The request's User-Agent, empty where it had none.
        headers: Its other headers; names in any case.
        seconds_since_sent: Seconds between the server's acceptance of the mail and now; None where not known.
    """
    facts = facts_of(method=method, user_agent=user_agent, headers=headers)
    return judge_facts(type, facts, age=seconds_since_sent)


def judge_facts(type_: EventType, facts: RequestFacts, *, age: float | None, link: int | None = None) -> Judgement:
    """The same for a request that was reduced to its facts.

    Args:
        type_: The event.
        facts: What `facts_of` made of the request.
        age: Seconds since the mail was handed over; None where not known.
        link: Number of the link that was followed.
    """
    reasons = own_reasons(type_, facts, age=age, link=link)
    return Judgement(verdict=verdict_of(reasons), reasons=names_of(reasons))
