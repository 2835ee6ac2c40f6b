"""From what validation found to findings in words, each at its key or value in the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from abmail._values import BadValue, nearest, shown
from abmail._yaml import ListNode, MapNode, Node, Problem, Scalar
from abmail.diagnostics import Diagnostic, Place, Rule, Source
from abmail.errors import ExpressionError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from abmail._yaml import Key

__all__ = [
    "DUPLICATE_KEY",
    "MISSING_KEY",
    "SEGMENT_SYNTAX",
    "UNKNOWN_KEY",
    "UNREADABLE_FILE",
    "WRONG_TYPE",
    "WRONG_VALUE",
    "YAML_SYNTAX",
    "Location",
    "MissingKey",
    "Origin",
    "UnknownKey",
    "WrongType",
    "dotted",
    "from_text",
    "from_validation",
]

UNREADABLE_FILE: Final = Rule("AB100", "unreadable-file")
YAML_SYNTAX: Final = Rule("AB101", "yaml-syntax")
DUPLICATE_KEY: Final = Rule("AB102", "duplicate-key")
UNKNOWN_KEY: Final = Rule("AB103", "unknown-key")
MISSING_KEY: Final = Rule("AB105", "missing-key")
WRONG_TYPE: Final = Rule("AB106", "wrong-type")
WRONG_VALUE: Final = Rule("AB107", "wrong-value")
SEGMENT_SYNTAX: Final = Rule("AB108", "segment-syntax")

Location = tuple[str | int, ...]

_MOST_FINDINGS: Final = 100
_KEY_MARK: Final = "[key]"


class UnknownKey(BadValue):
    """A key that names nothing, such as a factor or cell that is not defined."""

    @classmethod
    def among(cls, name: str, known: tuple[str, ...]) -> UnknownKey:
        """Name the nearest known key, or all of them."""
        near = nearest(name, known)
        return cls("unknown key", hint=f"did you mean {near!r}?" if near else f"known here: {', '.join(known)}")


class MissingKey(BadValue):
    """A key that has to be there and is not."""


class WrongType(BadValue):
    """A value of another kind than what is wanted."""

    def __init__(self, wanted: str, found: object) -> None:
        super().__init__(f"expected {wanted}, found {_kind_of(found)}", hint=_WRITE.get(wanted, ""))


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The text that a definition was read from. No part of its value: any two are equal.

    Attributes:
        source: The text with its name; None where the definition came from plain data.
        root: The nodes of the text with their places.
    """

    source: Source | None = None
    root: Node | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return 0

    def place(self, location: Location, *, key: bool = False, offset: int | None = None) -> Place:
        """Find a key or value in the text; what is absent is placed at the nearest key around it.

        Args:
            location: Keys and list indices from the top.
            key: Whether the key is meant, not its value.
            offset: Character of the value that is meant, 0-based; the whole value where None.
        """
        if self.source is None:
            return Place(path="<definition>")
        if self.root is None:
            return self.source.place(0)
        found = _find(self.root, location)
        node = found.node
        bare = key or not found.complete or (isinstance(node, Scalar) and node.start == node.end)
        if bare and found.key is not None:
            return self.source.place(found.key.start, found.key.end)
        if not isinstance(node, Scalar):
            return self.source.place(node.start)
        return self.source.place(node.start, node.end) if offset is None else self.source.place(node.offset_of(offset))


class _Found(NamedTuple):
    key: Key | None
    node: Node
    complete: bool


def _find(root: Node, location: Location) -> _Found:
    found = _Found(None, root, complete=True)
    for part in location:
        node = found.node
        if isinstance(node, MapNode) and part in node.entries:
            found = _Found(*node.entries[str(part)], complete=True)
        elif isinstance(node, ListNode) and isinstance(part, int) and part < len(node.items):
            found = _Found(None, node.items[part], complete=True)
        else:
            return found._replace(complete=False)
    return found


def dotted(location: Location) -> str:
    """Write a location as people read it: ``send_time.days[0]``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != _KEY_MARK)
    return "".join(parts).lstrip(".")


def from_text(problems: Iterable[Problem], source: Source) -> Iterator[Diagnostic]:
    """Make findings of what is wrong with the text itself."""
    for problem in problems:
        rule = YAML_SYNTAX if problem.kind == "syntax" else DUPLICATE_KEY
        yield rule.at(source.place(problem.start, problem.end), problem.message, hint=problem.hint)


def from_validation(
    errors: list[ErrorDetails], origin: Origin, known_keys: Callable[[Location], tuple[str, ...]]
) -> tuple[Diagnostic, ...]:
    """Make findings of what validation refused, the first hundred in the order of the text.

    Args:
        errors: As validation lists them.
        origin: Where the definition was read from.
        known_keys: The keys that a place of the definition may have.
    """
    placed = sorted(
        ((_place(error, origin), error) for error in errors), key=lambda pair: (pair[0].line, pair[0].column)
    )
    found = [_finding(error, place, known_keys) for place, error in placed[:_MOST_FINDINGS]]
    if len(placed) > _MOST_FINDINGS:
        rest = placed[_MOST_FINDINGS][0]
        found.append(
            WRONG_VALUE.at(rest, f"{len(placed) - _MOST_FINDINGS} more problems follow", hint="mend these first")
        )
    return tuple(found)


def _place(error: ErrorDetails, origin: Origin) -> Place:
    location = error["loc"]
    problem = _raised(error)
    at_key = error["type"] == "extra_forbidden" or _KEY_MARK in location or isinstance(problem, UnknownKey | MissingKey)
    offset = problem.offset if isinstance(problem, ExpressionError) else None
    return origin.place(tuple(part for part in location if part != _KEY_MARK), key=at_key, offset=offset)


def _raised(error: ErrorDetails) -> Exception | None:
    raised = error.get("ctx", {}).get("error")
    return raised if isinstance(raised, Exception) else None


def _finding(error: ErrorDetails, place: Place, known_keys: Callable[[Location], tuple[str, ...]]) -> Diagnostic:
    problem = _problem(error, known_keys)
    rule = next((rule for kind, rule in _RULES if isinstance(problem, kind)), WRONG_VALUE)
    where = dotted(error["loc"])
    hint = problem.hint if isinstance(problem, BadValue | ExpressionError) else ""
    return rule.at(place, f"{where}: {problem}" if where else str(problem), hint=hint)


def _problem(error: ErrorDetails, known_keys: Callable[[Location], tuple[str, ...]]) -> Exception:
    """Say what is wrong; the location is put before it."""
    kind, location, value = error["type"], error["loc"], error["input"]
    raised = _raised(error)
    if raised is not None:
        return raised
    if kind == "extra_forbidden":
        return UnknownKey.among(str(location[-1]), known_keys(location[:-1]))
    if kind == "missing":
        return MissingKey("the key is missing")
    if kind == "literal_error":
        choices = tuple(re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", "")))
        return UnknownKey.among(str(value), choices) if _KEY_MARK in location else _none_of(value, choices)
    if kind in _TYPES:
        return WrongType(_TYPES[kind], value)
    return BadValue(_out_of_range(error) or f"{shown(value)}: {error['msg']}")


def _none_of(value: object, choices: tuple[str, ...]) -> BadValue:
    if not choices:
        return BadValue(f"{shown(value)} is not a version that is known, write 1")
    near = nearest(value, choices) if isinstance(value, str) else ""
    message = f"{shown(value)} is not one of {', '.join(choices)}"
    return BadValue(message, hint=f"did you mean {near!r}?" if near else "")


def _out_of_range(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if "ge" in context:
        return f"{shown(error['input'])} is less than {context['ge']}"
    return f"{shown(error['input'])} is more than {context['le']}" if "le" in context else ""


def _kind_of(value: object) -> str:
    if isinstance(value, Mapping):
        return "keys with values"
    if isinstance(value, list | tuple):
        return "a list"
    return f"the text {shown(value)}" if isinstance(value, str) else shown(value)


_RULES: Final[tuple[tuple[type[Exception], Rule], ...]] = (
    (UnknownKey, UNKNOWN_KEY),
    (MissingKey, MISSING_KEY),
    (WrongType, WRONG_TYPE),
    (ExpressionError, SEGMENT_SYNTAX),
)
_TYPES: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "dict_type": "keys with values",
    "mapping_type": "keys with values",
    "model_type": "keys with values",
    "tuple_type": "a list",
}
_WRITE: Final[Mapping[str, str]] = {
    "text": "put it between quotes",
    "the name of a level": "put it between quotes",
    "keys with values": "write {key: value}, or one key a line",
    "a list": "write [one, two]",
}
