"""JSON as providers export it, item by item: lines, one list, or answers of an API that hold a list; of any size."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["JsonProblem", "items"]

_BLANK: Final = " \t\r\n"
_MOST: Final = 1 << 24
"""Longest item in characters."""

Item = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonProblem:
    """What is no item.

    Attributes:
        line: 1-based line in which it begins.
        message: What is wrong with it.
        text: The line, as far as there is one; what follows a fault inside a list is not read.
    """

    line: int
    message: str
    text: str = ""


def items(pieces: Iterable[str], *, lines: bool = False) -> Iterator[tuple[int, Item | JsonProblem]]:
    """Read the objects of a JSON text, each with the line in which it begins.

    A line that is whole by itself is an item, or an answer with a list of them; a list gives its elements; an object
    over several lines gives the elements of its lists, each with the object's other values under their names.

    Args:
        pieces: The text, cut anywhere.
        lines: Whether each line is known to be meant as an item, whatever the first one looks like.
    """
    text = _Text(iter(pieces))
    if lines or text.begins_with_line():
        yield from _lines(text)
        return
    try:
        while text.next_sign():
            yield from _value(text)
    except _Broken as broken:
        yield text.line, JsonProblem(line=text.line, message=f"{broken}; what follows is not read")


def _lines(text: _Text) -> Iterator[tuple[int, Item | JsonProblem]]:
    for number, line in text.lines():
        stripped = line.strip()
        if not stripped:
            continue
        try:
            found = json.loads(stripped)
        except (ValueError, RecursionError) as error:
            yield number, JsonProblem(line=number, message=_words(error), text=stripped)
            continue
        if isinstance(found, dict):
            yield from ((number, item) for item in _inside(found))
        else:
            message = f"a line must be a JSON object, not {_kind(found)}"
            yield number, JsonProblem(line=number, message=message, text=stripped)


def _inside(answer: Item) -> Iterator[Item]:
    """The elements of an answer that holds one list of objects and little else; the item itself otherwise."""
    lists = [key for key, value in answer.items() if _is_list_of_objects(value)]
    if len(lists) != 1 or any(isinstance(value, str) and "@" in value for value in answer.values()):
        yield answer
        return
    around = {key: value for key, value in answer.items() if key != lists[0]}
    for item in answer[lists[0]]:
        yield {**around, **item}


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _value(text: _Text) -> Iterator[tuple[int, Item | JsonProblem]]:
    """A value at the top: a list, or an object with lists in it."""
    sign = text.next_sign()
    if sign == "[":
        yield from _elements(text, {})
    elif sign == "{":
        yield from _members(text)
    else:
        raise _Broken(f"neither an object nor a list: {text.shown()}")


def _members(text: _Text) -> Iterator[tuple[int, Item | JsonProblem]]:
    begin, around, had_list = text.line, dict[str, Any](), False
    text.skip("{")
    while text.next_sign() != "}":
        name = text.take()
        text.skip(":")
        if not isinstance(name, str):
            raise _Broken("the name of a value is no text")
        if text.next_sign() == "[" and text.next_sign(1) == "{":
            had_list = True
            yield from _elements(text, around)
        else:
            around[name] = text.take()
        if text.next_sign() == ",":
            text.skip(",")
    text.skip("}")
    if not had_list:
        yield begin, around


def _elements(text: _Text, around: Item) -> Iterator[tuple[int, Item | JsonProblem]]:
    text.skip("[")
    while text.next_sign() != "]":
        line, found = text.line, text.take()
        if isinstance(found, dict):
            yield line, {**around, **found}
        else:
            yield line, JsonProblem(line=line, message=f"an element must be an object, not {_kind(found)}")
        if text.next_sign() == ",":
            text.skip(",")
    text.skip("]")


class _Broken(ValueError):
    """The text is no JSON from here on."""


@dataclass(slots=True)
class _Text:
    """A window on a text that comes in pieces.

    Attributes:
        line: Line of the place in which reading stands.
    """

    pieces: Iterator[str]
    line: int = 1
    _seen: str = ""
    _at: int = 0
    _decoder: json.JSONDecoder = field(default_factory=json.JSONDecoder)

    def next_sign(self, further: int = 0) -> str:
        """The next character that is no blank, or the one so many further; empty at the end."""
        self._skip_blanks()
        place = self._at
        for _ in range(further):
            place = self._beyond_blanks(place + 1)
        return self._seen[place : place + 1]

    def skip(self, sign: str) -> None:
        """Go on behind a sign that has to be here."""
        if self.next_sign() != sign:
            raise _Broken(f"there should be {sign!r}, not {self.shown()}")
        self._at += 1

    def take(self) -> Any:
        """Read a whole value."""
        self._skip_blanks()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._seen, self._at)
            except json.JSONDecodeError as error:
                if len(self._seen) - self._at < _MOST and self._more():
                    continue
                raise _Broken(f"not JSON: {error.msg}, at {self._seen[error.pos : error.pos + 20]!r}") from None
            except (ValueError, RecursionError) as error:
                raise _Broken(_words(error)) from None
            if end == len(self._seen) and self._more():  # a number may go on
                continue
            self._move(end)
            return value

    def shown(self) -> str:
        """The next few characters, for a message."""
        return repr(self._seen[self._at : self._at + 20]) if self.next_sign() else "the end"

    def begins_with_line(self) -> bool:
        """Whether the first line that is not blank, or the one below it, is a JSON object by itself."""
        if self.next_sign() != "{":
            return False
        while self._seen.count("\n", self._at) < 2 and len(self._seen) - self._at < _MOST and self._more():
            pass
        return any(map(_is_object, self._seen[self._at :].split("\n", 2)[:2]))

    def lines(self) -> Iterator[tuple[int, str]]:
        """What is left, line by line."""
        number, rest = self.line, self._seen[self._at :]
        for piece in self.pieces:
            *whole, rest = (rest + piece).split("\n")
            yield from enumerate(whole, start=number)
            number += len(whole)
        yield from enumerate(rest.split("\n"), start=number)

    def _skip_blanks(self) -> None:
        self._move(self._beyond_blanks(self._at))

    def _beyond_blanks(self, place: int) -> int:
        while True:
            while place < len(self._seen) and self._seen[place] in _BLANK:
                place += 1
            if place < len(self._seen):
                return place
            passed = place - self._at
            if not self._more():
                return place
            place = self._at + passed

    def _move(self, place: int) -> None:
        self.line += self._seen.count("\n", self._at, place)
        self._at = place

    def _more(self) -> bool:
        """Read on; what lies behind is let go of."""
        piece = next(self.pieces, None)
        if piece is None:
            return False
        self._seen, self._at = self._seen[self._at :] + piece, 0
        return True


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return "a number has too many digits"


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names[type(value)]
