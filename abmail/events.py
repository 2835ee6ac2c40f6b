"""What happened to a message: events, signed tracking tokens, and verdicts on machine traffic.

Pure: no clock, no network. An event is never thrown away for coming from a machine; it is kept with a verdict and the
reasons for it, so that the counts can be made again when a rule changes.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from abmail._crowd import NONCE, Crowd, crowd_id, crowd_of
from abmail._event_types import HUMAN_LIKELY, EventType, Verdict
from abmail._tokens import (
    HONEYPOT_LINK,
    MAX_LINK,
    MessageSigner,
    Signer,
    Token,
    TokenKind,
    abbreviated,
    parts_of,
    unverified,
)
from abmail._verdict_facts import Agent, RequestFacts, facts_of, own_reasons
from abmail._verdict_reasons import RULES_VERSION, Reason, given_reasons, names_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "HONEYPOT_LINK",
    "HUMAN_LIKELY",
    "NONCE",
    "RULES_VERSION",
    "Agent",
    "Crowd",
    "Event",
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
    "unverified",
]

_MOST_VALUE: Final = 1e12


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
        raise ValueError(f"{name!r} is {abbreviated(text)}, which is no event type{hint}") from None


def _read_verdict(name: str, value: object) -> Verdict:
    text = _read_text(name, value)
    try:
        return Verdict(text)
    except ValueError:
        raise ValueError(f"{name!r} is {abbreviated(text)}, must be one of {', '.join(Verdict)}") from None


def _read_time(name: str, value: object) -> datetime:
    text = _read_text(name, value)
    try:
        at = datetime.fromisoformat(text)
        if at.utcoffset() is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{name!r} is {abbreviated(text)}, not a time such as 2026-03-01T10:00:00Z") from None
    raise ValueError(
        f"{name!r} is {abbreviated(text)}, which has no UTC offset; write for instance {abbreviated(text)[1:-1]}Z"
    )


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
        raise ValueError(f"{name!r} is {abbreviated(text)}, must be one of {', '.join(Agent)}") from None


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
        raise ValueError(f"{name} holds a NUL or half a surrogate pair, which no database takes: {abbreviated(text)}")


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
