"""Rows of an export to events: columns looked up, words and times understood."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from abmail._export_shapes import IGNORED, Shape
from abmail._table import plain
from abmail._written_times import WrittenTimes
from abmail.events import Event, EventType, Verdict
from abmail.recipient import normalise_email

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["REASON", "Draft", "Reader", "Refused", "Row", "exploded", "flat", "own_event", "spelled"]

REASON: Final = "reject_reason"
"""Column or key under which a file of refused rows says why; it is no part of a row that is read again."""

_FUTURE: Final = timedelta(days=1)
_OUR_ID: Final = re.compile(r"(?<![0-9a-zA-Z-])[0-9a-f]{32}(?![0-9a-zA-Z-])")
_YES: Final = frozenset({"1", "true", "yes", "y", "t"})
_MAX_SHOWN: Final = 60

spelled = lru_cache(maxsize=4_096)(plain)
"""A column's name as shapes spell it."""

Row = list[str] | dict[str, Any] | str
"""A row as it was read: cells, a JSON object, or a line that is neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event of a file, whose message is still to be found.

    Attributes:
        line: Where it stands.
        raw: The row as it was read; not for logs.
        fields: What `Event` takes, without the message.
        message_id: Our id of the message, where the row has it.
        experiment: Name of the experiment otherwise.
        recipient: Id of the recipient, where the row has one.
        email: Address of the recipient, normalised, where there is no id.
        url: Where a click led to; part of the event's identity.
        foreign: Whether the mail may be none of ours.
    """

    line: int
    raw: Row = field(repr=False)
    fields: Mapping[str, Any]
    message_id: str = ""
    experiment: str = ""
    recipient: str = ""
    email: str = ""
    url: str = ""
    foreign: bool = False

    def event(self, message_id: str) -> Event:
        """The event of a message that was found.

        Raises:
            ValueError: A field cannot be stored or is out of range.
        """
        event = Event(**self.fields, message_id=message_id)
        return replace(event, key=_key(event, self.url)) if self.url and "key" not in self.fields else event


def _key(event: Event, url: str) -> str:
    """Two links of a mail that are followed in one second are two events."""
    parts = [event.source, event.type.value, event.message_id, url, int(event.at.timestamp())]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row that is no event.

    Attributes:
        line: Where it stands.
        message: What is wrong with it.
        raw: The row as it was read; not for logs.
    """

    line: int
    message: str
    raw: Row = field(default="", repr=False)


def own_event(line: int, item: dict[str, Any], now: datetime) -> Event | Refused:
    """Read an event as `Event.to_dict` writes it."""
    try:
        event = Event.from_dict({key: value for key, value in item.items() if key != REASON})
        _require_past(event.at, now)
    except ValueError as error:
        return Refused(line=line, message=str(error), raw=item)
    return event


def _require_past(at: datetime, now: datetime) -> None:
    if at > now + _FUTURE:
        raise ValueError(f"'at' is {at.isoformat()}, more than a day in the future; check the sender's clock")


class Reader:
    """Makes events of the rows of one shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._zone = ZoneInfo(shape.zone)
        self._times = WrittenTimes(shape.zone, shape.day_first)

    def read(self, line: int, raw: Row, cells: Mapping[str, str], now: datetime) -> Draft | Refused | None:
        """Read one row.

        Args:
            line: Where it stands.
            raw: The row as it was read.
            cells: Its values by the columns' plain names.
            now: Aware UTC datetime; what is more than a day after it is refused as a clock error.

        Returns:
            None where the row says nothing of a mail.
        """
        try:
            kind = self._type(cells)
            return None if kind is None else self._draft(line, raw, cells, kind, now)
        except ValueError as error:
            return Refused(line=line, message=str(error), raw=raw)

    def _draft(self, line: int, raw: Row, cells: Mapping[str, str], kind: EventType, now: datetime) -> Draft:
        at = self._at(self._text(cells, "at"))
        _require_past(at, now)
        fields: dict[str, Any] = {"type": kind, "at": at, "source": self._shape.source, **self._judged(cells, kind)}
        for name in ("key", "detail"):
            if text := self._text(cells, name):
                fields[name] = text if name == "detail" else f"{self._shape.source}:{kind}:{text}"
        for name in ("value", "link"):
            if text := self._text(cells, name):
                fields[name] = _number(name, text)
        email = self._text(cells, "email")
        recipient = self._text(cells, "recipient")
        return Draft(
            line=line, raw=raw, fields=fields, message_id=self._message_id(cells), experiment=self._experiment(cells),
            recipient=recipient, email=normalise_email(email) if email and not recipient else "",
            url=self._text(cells, "url"), foreign=self._shape.foreign,
        )  # fmt: skip

    def _text(self, cells: Mapping[str, str], name: str) -> str:
        """The value of a field, by its first column that is not empty."""
        if constant := self._shape.constants.get(name):
            return constant
        return next((cells[column] for column in self._shape.columns.get(name, ()) if cells.get(column)), "")

    def _type(self, cells: Mapping[str, str]) -> EventType | None:
        word = spelled(self._text(cells, "type"))
        if not word:
            raise ValueError("the row does not say what happened")
        types, kind = self._shape.types, spelled(self._text(cells, "kind"))
        found = types.get(f"{word}/{kind}") or types.get(word)
        if found is None:
            raise ValueError(f"{_shown(word)} is no event that is known; a mapping can say under `types` what it means")
        return None if found == IGNORED else EventType(found)

    def _judged(self, cells: Mapping[str, str], kind: EventType) -> dict[str, Any]:
        """What the export says beside the event itself: a dead address, or that no person did it."""
        words = spelled(self._text(cells, "kind"))
        judged: dict[str, Any] = {}
        if kind is EventType.BOUNCED:
            judged["hard"] = words in self._shape.hard or self._text(cells, "hard").casefold() in _YES
        machine = self._text(cells, "machine").casefold()
        if given := self._text(cells, "verdict"):
            judged["verdict"] = _verdict(given)
        elif machine not in {"", "false", "0", "no", "n", "f"} or words in self._shape.machines:
            judged |= {"verdict": Verdict.MACHINE, "reasons": ("told_by_provider",)}
        return judged

    def _at(self, text: str) -> datetime:
        if not text:
            raise ValueError("the time is missing")
        try:
            if self._shape.time_format:
                return self._in_utc(datetime.strptime(text, self._shape.time_format))  # noqa: DTZ007 - the zone follows
            return self._in_utc(datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            if self._shape.time_format:
                raise ValueError(f"the time {_shown(text)} is not written as {self._shape.time_format}") from None
        try:
            return datetime.fromtimestamp(self._times.read(text), UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise ValueError(f"the time {_shown(text)} {error}") from None

    def _in_utc(self, at: datetime) -> datetime:
        return (at if at.tzinfo else at.replace(tzinfo=self._zone)).astimezone(UTC)

    def _message_id(self, cells: Mapping[str, str]) -> str:
        for column in self._shape.columns.get("message_id", ()):
            if found := _OUR_ID.search(cells.get(column, "")):
                return found[0]
        return ""

    def _experiment(self, cells: Mapping[str, str]) -> str:
        name = self._text(cells, "experiment")
        return self._shape.experiments.get(name, name)


def _verdict(text: str) -> Verdict:
    try:
        return Verdict(text.casefold())
    except ValueError:
        raise ValueError(f"the verdict is {_shown(text)}, must be one of {', '.join(Verdict)}") from None


def _number(name: str, text: str) -> float | int:
    try:
        return int(text) if name == "link" else float(text.replace(",", ""))
    except ValueError:
        raise ValueError(f"the {name} is {_shown(text)}, which is no number") from None


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...")


def exploded(item: dict[str, Any], each: str) -> Iterator[dict[str, Any]]:
    """The events inside an item, each with the item's other values; the item itself where it has no such list."""
    inside = item.get(each) if each else None
    if not isinstance(inside, list):
        yield item
        return
    around = {key: value for key, value in item.items() if key != each}
    for element in inside:
        yield {**around, **element} if isinstance(element, dict) else {**around, each: element}


def flat(item: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """The values of a JSON object as texts, by their plain names; nested ones by their path."""
    cells: dict[str, str] = {}
    for key, value in item.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            cells |= flat(value, name)
        elif isinstance(value, bool):
            cells[spelled(name)] = str(value).lower()
        elif isinstance(value, (str, int, float)):
            cells[spelled(name)] = str(value).strip()
        elif isinstance(value, list):
            cells[spelled(name)] = " ".join(str(each) for each in value if isinstance(each, (str, int)))
    return cells
