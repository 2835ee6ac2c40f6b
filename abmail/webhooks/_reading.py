"""From bytes to events: bodies that are decoded, items that are read one by one, and what each of them says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

from abmail._refusals import reading_of
from abmail.errors import WebhookError, mask_address
from abmail.events import (
    Event,
    EventType,
    Judgement,
    RequestFacts,
    Verdict,
    facts_of,
    judge_facts,
    unverified,
)
from abmail.webhooks._item import Item

__all__ = [
    "Batch", "Problem", "Report", "batch", "documents_of", "form_of", "gathered", "is_hard", "json_of", "listed",
    "parts_of", "require_past",
]  # fmt: skip

_MAX_DETAIL: Final = 2_000
_MAX_ID: Final = 200  # characters of a provider's id that are taken as they are
_FUTURE: Final = timedelta(days=1)
_OURS: Final = re.compile(r"<?([0-9a-f]{32})(?:\.\d{1,9})?(?:@[^\s<>@]{1,253})?>?")
_OUR_LINK: Final = re.compile(r"/([cuv])/([A-Za-z0-9_-]{47,50})(?=[/?#]|\Z)")
_ADDRESS: Final = re.compile(r"[^\s<>\"',;:()]{1,64}@[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An item that holds no event.

    Attributes:
        place: Which item of the body; empty where the body is a single one.
        message: What is wrong with it.
        raw: The whole item as JSON, so that nothing is lost. Not for logs: it may hold an address.
    """

    place: str
    message: str
    raw: str

    def to_event(self, source: str, *, at: datetime) -> Event:
        """The item as an event of unknown kind, so that it can be kept with the others; addresses are masked."""
        told = f"{self.place}: {self.message}" if self.place else self.message
        return Event(
            type=EventType.UNKNOWN,
            at=at,
            message_id=f"{source}:",
            source=source,
            key=f"{source}:{_digest(self.raw)}",
            detail=f"{told}: {_masked(self.raw)}"[:_MAX_DETAIL],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one body holds.

    Attributes:
        events: The events, in the body's order. One that names no message of ours has the provider's id of the
            message as its ``message_id``, with the provider's name before it: it is kept apart by the store.
        problems: Items that hold no event.
        confirm: URL that must be fetched before the provider sends anything; empty for none.
    """

    events: tuple[Event, ...] = ()
    problems: tuple[Problem, ...] = ()
    confirm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a provider says of one message, in our words.

    Attributes:
        type: The event.
        at: When; None where it does not say.
        ours: Where our id of the message may stand, the surest first: an id, or a Message-ID.
        theirs: The provider's id of the message.
        id: The provider's id of the event; empty where it has none, and then the item itself stands for it.
        url: The link that was followed.
        agent: The reader's User-Agent; empty where it is not told.
        machine: The provider's own words for a machine that did it.
        note: A further word of the provider's that is kept with the verdict and decides nothing.
        detail: Words for people; addresses in them are masked.
        hard: For a bounce: the address is dead for good.
    """

    type: EventType
    at: datetime | None
    ours: tuple[str, ...] = ()
    theirs: str = ""
    id: str = ""
    url: str = ""
    agent: str = ""
    machine: str = ""
    note: str = ""
    detail: str = ""
    hard: bool = False

    def event(self, source: str, *, raw: str, now: datetime) -> Event:
        """Make the event; the same item always gives the same key.

        Raises:
            ValueError: The time lies in the future, or a text cannot be stored.
        """
        at = self.at or now
        require_past(at, now)
        kind, told, link = self._followed()
        judgement, facts = self._judged(link)
        return Event(
            type=kind,
            at=at,
            message_id=self._message(source, told),
            link=link,
            verdict=judgement.verdict,
            reasons=judgement.reasons,
            facts=None if kind is EventType.UNKNOWN else facts,
            source=source,
            key=f"{source}:{_short_id(self.id) or _digest(raw)}",
            detail=(_masked(self.detail) or self.url)[:_MAX_DETAIL],
            hard=self.hard and kind is EventType.BOUNCED,
        )

    def _message(self, source: str, told: str) -> str:
        for candidate in (*self.ours, told):
            if found := _OURS.fullmatch(candidate.strip().lower()):
                return found[1]
        return f"{source}:{_short_id(self.theirs.strip(' <>'))}"

    def _followed(self) -> tuple[EventType, str, int | None]:
        """The type, our message id and the link's number, where a link of our tracker was followed.

        Who follows the link to unsubscribe, or to the hosted copy, does not follow a link of the mail's author.
        """
        found = _OUR_LINK.search(self.url) if self.type is EventType.CLICKED else None
        token = unverified(found[2]) if found else None
        if token is None:
            return self.type, "", None
        return (EventType.CLICKED if token.kind == "c" else EventType.UNKNOWN), token.message_id, token.link

    def _judged(self, link: int | None) -> tuple[Judgement, RequestFacts | None]:
        """Who did it; with the facts, from which the store judges it again among the events around it."""
        noted = (self.note,) if self.note else ()
        if self.machine:
            return Judgement(verdict=Verdict.MACHINE, reasons=(self.machine, *noted)), None
        if self.type not in (EventType.OPENED, EventType.CLICKED):
            return Judgement(verdict=Verdict.HUMAN, reasons=noted), None
        facts = facts_of(user_agent=self.agent.strip() or None)
        found = judge_facts(self.type, facts, age=None, link=link)
        return replace(found, reasons=(*found.reasons, *noted)), facts


def batch(
    source: str, items: Iterable[tuple[str, object]], read: Callable[[Item], Iterable[Report]], *, now: datetime
) -> Batch:
    """Read items one by one; a bad one becomes a problem and the rest goes on.

    Args:
        source: The provider's name.
        items: Each with its place.
        read: What an item says: nothing, or something of one or several messages.
        now: When the body came.
    """

    def events(item: Item, raw: str) -> list[Event]:
        reports = list(read(item))
        several = len(reports) > 1
        return [
            each.event(source, raw=f"{number} {raw}" if several else raw, now=now)
            for number, each in enumerate(reports)
        ]

    return gathered(items, events)


def gathered(items: Iterable[tuple[str, object]], read: Callable[[Item, str], Iterable[Event]]) -> Batch:
    """The events of items that are read one by one, from the item and its JSON, and the problems of the bad ones."""
    events: list[Event] = []
    problems: list[Problem] = []
    for place, value in items:
        raw = _as_json(value)
        try:
            events += read(Item.of(value), raw)
        except ValueError as error:
            problems.append(Problem(place=place, message=str(error), raw=raw))
    return Batch(events=tuple(events), problems=tuple(problems))


def require_past(at: datetime, now: datetime) -> None:
    """Refuse an event more than a day after now as a clock error.

    Raises:
        ValueError: It is one.
    """
    if at > now + _FUTURE:
        raise ValueError(f"the time is {at.isoformat()}, more than a day in the future")


def listed(value: object) -> Iterator[tuple[str, object]]:
    """The items of a body that is a list, or a single item."""
    if isinstance(value, list):
        yield from ((f"item {number}", each) for number, each in enumerate(value, start=1))
    else:
        yield "", value


def json_of(body: bytes) -> object:
    """Decode a body of JSON.

    Raises:
        WebhookError: It is none.
    """
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise WebhookError(f"the body is not UTF-8: byte {error.start + 1}", status=400) from None
    except json.JSONDecodeError as error:
        raise WebhookError(f"the body is not JSON: {error.msg} at character {error.pos + 1}", status=400) from None
    except RecursionError:
        raise WebhookError("the body is nested too deeply", status=400) from None
    except ValueError as error:
        raise WebhookError(f"a number in the body cannot be read: {error}", status=400) from None


def documents_of(body: bytes) -> list[object]:
    """Decode a body of JSON, or of several one after another, as streams are stored: at least one.

    Raises:
        WebhookError: It is none.
    """
    try:
        return [json_of(body)]
    except WebhookError:
        found, text, at = [], body.decode("utf-8-sig", "replace"), 0
        decoder = json.JSONDecoder(parse_constant=_no_number)
        try:
            while at < len(text):
                value, at = decoder.raw_decode(text, at)
                at += len(text[at:]) - len(text[at:].lstrip())
                found.append(value)
        except (ValueError, RecursionError):
            found = []
        if len(found) < 2 or "\ufffd" in text:
            raise
        return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is none")


def form_of(body: bytes) -> list[tuple[str, str]]:
    """Decode a body of URL-encoded form fields, in their order.

    Raises:
        WebhookError: It is none.
    """
    try:
        found = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise WebhookError("the body holds no form fields", status=400) from None
    return found


def parts_of(body: bytes) -> list[tuple[str, str]]:
    """Decode a body of form fields in several parts (``multipart/form-data``), in their order, without the files in it.

    Raises:
        WebhookError: It is none.
    """
    boundary = body.split(b"\r\n", 1)[0].removeprefix(b"--")
    if not _BOUNDARY.fullmatch(boundary) or b"\r\n--" + boundary + b"--" not in body:
        raise WebhookError("the body holds no form in parts", status=400)
    found = []
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = _FIELD_NAME.search(head)
        if name is not None and not _FILE_NAME.search(head):
            found.append((name[1].decode("utf-8", "replace"), value.decode("utf-8", "replace")))
    return found


_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=?-]{1,200}")
_FIELD_NAME: Final = re.compile(
    rb'^content-disposition: *form-data;[^\r\n]*\bname="([^"\r\n]{0,200})"', re.IGNORECASE | re.MULTILINE
)
_FILE_NAME: Final = re.compile(rb"^content-disposition:[^\r\n]*\bfilename\*?=", re.IGNORECASE | re.MULTILINE)


def is_hard(words: str, *, status: str = "", recipient: str = "") -> bool:
    """Whether a server's refusal says that the address is dead, and not merely that this mail is not wanted now."""
    found = reading_of(recipient=recipient.lower(), status=status, diagnostic=words, words="", action="failed")
    return found.kind == "hard"


def _masked(text: str) -> str:
    """Words without the addresses in them: an event names its message, and not the person."""
    return _ADDRESS.sub(lambda found: mask_address(found[0]), text)


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise WebhookError("the body is nested too deeply", status=400) from None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _short_id(text: str) -> str:
    return text if len(text) <= _MAX_ID else _digest(text)
