"""One JSON object of a provider, read leniently: what is absent or of another kind is empty."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

__all__ = ["OUR_KEY", "Item", "moment"]

OUR_KEY: Final = "abmail_message"
"""Name under which our id of a message travels in the providers' metadata."""
_OUR_HEADER: Final = "x-abmail-message"
_MILLISECONDS: Final = 1e11  # as seconds this is the year 5138
_MAX_MOMENT: Final = 4e12


@dataclass(frozen=True, slots=True)
class Item:
    """An object's fields."""

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, value: object) -> Self:
        """An item of a body.

        Raises:
            ValueError: The value is no object.
        """
        if not isinstance(value, dict):
            raise ValueError("the item is no JSON object")  # noqa: TRY004 - it is a value in somebody's body
        return cls(value)

    def text(self, *names: str) -> str:
        """The first of the fields that holds a text or a number, as text; empty for none."""
        for name in names:
            value = self.fields.get(name)
            if isinstance(value, str) and value:
                return value
            if isinstance(value, int | float) and not isinstance(value, bool):
                return str(value)
        return ""

    def part(self, name: str) -> Item:
        """A field that is an object, or JSON text of one; empty for none."""
        value = self.fields.get(name)
        if isinstance(value, str):
            value = _json(value)
        return Item(value if isinstance(value, dict) else {})

    def parts(self, name: str) -> Iterator[Item]:
        """The objects of a field that is a list."""
        value = self.fields.get(name)
        yield from (Item(each) for each in (value if isinstance(value, list) else ()) if isinstance(each, dict))

    def says(self, name: str) -> bool:
        """Whether a field is true, in any of the spellings of JSON and forms."""
        value = self.fields.get(name)
        return value is True or value == 1 or (isinstance(value, str) and value.lower() in {"true", "1", "yes"})

    def time(self, *names: str) -> datetime | None:
        """The first of the fields that holds a time; None for none.

        Raises:
            ValueError: It cannot be read.
        """
        for name in names:
            value = self.fields.get(name)
            if value is not None and value != "":
                return moment(value, name)
        return None

    def our_id(self) -> str:
        """Our id, where it stands among these fields; empty where it does not."""
        return self.text(OUR_KEY)

    def header(self, name: str) -> str:
        """A header of the mail, of a list of objects with ``name`` and ``value``; empty for none."""
        found = (each for each in self.parts("headers") if each.text("name").lower() == name.lower())
        return next((each.text("value") for each in found), "")

    def our_header(self) -> tuple[str, str]:
        """What the mail's own headers say of our id."""
        return self.header(_OUR_HEADER), self.header("message-id")


def moment(value: object, name: str = "time") -> datetime:
    """Read a time: seconds or milliseconds since 1970, as number or text, or ISO 8601, in UTC where no offset is told.

    Raises:
        ValueError: It is none; the message names the field.

    >>> moment(1_520_363_423_000) == moment("2018-03-06T19:10:23Z") == moment("1520363423")
    True
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _since_1970(value)
        if isinstance(value, str):
            text = value.strip()
            return _since_1970(float(text)) if text.replace(".", "", 1).isdigit() else _written(text)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{name!r} is {ascii(value)[:60]}, not a time")


def _since_1970(seconds: float) -> datetime:
    if not 0 <= seconds < _MAX_MOMENT:
        raise ValueError("out of range")
    return datetime.fromtimestamp(seconds / 1_000 if seconds >= _MILLISECONDS else seconds, tz=UTC)


def _written(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
