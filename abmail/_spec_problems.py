"""From what reading refused to findings in words, each at its key or value in the file."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from abmail._fields import Location, MissingKey, Problem, Refusal, UnknownKey, WrongType
from abmail._files import marked_root
from abmail._values import shortened
from abmail._yaml import ListNode, MapNode, Node, Scalar, TextProblem
from abmail.diagnostics import Diagnostic, Place, Rule, Source, sort_key, visible
from abmail.errors import ExpressionError

if TYPE_CHECKING:
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
    "Origin",
    "dotted",
    "from_refusals",
    "from_text",
    "in_order",
]

UNREADABLE_FILE: Final = Rule("AB100", "unreadable-file")
YAML_SYNTAX: Final = Rule("AB101", "yaml-syntax")
DUPLICATE_KEY: Final = Rule("AB102", "duplicate-key")
UNKNOWN_KEY: Final = Rule("AB103", "unknown-key")
MISSING_KEY: Final = Rule("AB105", "missing-key")
WRONG_TYPE: Final = Rule("AB106", "wrong-type")
WRONG_VALUE: Final = Rule("AB107", "wrong-value")
SEGMENT_SYNTAX: Final = Rule("AB108", "segment-syntax")

_MOST_FINDINGS: Final = 100
_COMMENT: Final = re.compile(r"(?:\A|(?<=\s))#[^\r\n]*")
_CONTENT: Final = re.compile(r"(?<=[\r\n])[ \t]*[^\s#]")
_FAR: Final = sys.maxsize


@dataclass(frozen=True, slots=True)
class Origin:
    """The text that a definition was read from.

    Attributes:
        source: The text with its name; None where the definition came from plain data.
        root: The nodes of the text with their places.
    """

    source: Source | None = None
    root: Node | None = None

    @property
    def folder(self) -> Path | None:
        """The project's folder, or that of the text where no project is around it; None for plain data."""
        if self.source is None:
            return None
        place = Path(self.source.path).absolute().parent
        return marked_root(place) or place

    def written(self, location: Location) -> object:
        """The plain data at a location of the text; None where it is absent."""
        found = None if self.root is None else _find(self.root, location)
        return found.node.data if found is not None and found.complete else None

    def place(self, location: Location, *, key: bool = False, offset: int | None = None) -> Place:
        """Find a key or value in the text; what is absent is placed at the nearest key around it.

        Args:
            location: Keys and list indices from the top.
            key: Whether the key is meant, not its value.
            offset: Character of the value that is meant, 0-based; the whole value where None.
        """
        if self.source is None or self.root is None:
            return Place(path="<definition>")
        found = _find(self.root, location)
        node = found.node
        bare = key or not found.complete or (isinstance(node, Scalar) and node.start == node.end)
        if bare and found.key is not None:
            return self.source.place(found.key.start, found.key.end)
        if not isinstance(node, Scalar):
            return self.source.place(node.start)
        return self.source.place(node.start, node.end) if offset is None else self.source.place(node.offset_of(offset))

    def comments(self, mark: str) -> Iterator[tuple[Place, str, int]]:
        """Comments that hold a mark: place, text, and the line that each is about.

        That is its own line, or the next one that says something where it stands alone.
        """
        if self.source is None or self.root is None or mark not in self.source.text:
            return
        written = sorted(_stretches(self.root))
        for found in _COMMENT.finditer(self.source.text):
            if mark in found[0] and not _lies_in(found.start(), written):
                place = self.source.place(found.start(), found.end())
                alone = not place.source_line[: place.column - 1].strip()
                yield place, found[0], _next_line(self.source, found.end()) if alone else place.line


def _next_line(source: Source, start: int) -> int:
    """Line of the first content behind a comment."""
    content = _CONTENT.search(source.text, start)
    return source.place(content.end() - 1 if content else start).line


def _stretches(root: Node) -> Iterator[tuple[int, int]]:
    """Where the keys and values of a text begin and end; one that is named by an alias comes again."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Scalar):
            yield node.start, node.end
        elif isinstance(node, ListNode):
            waiting.extend(node.items)
        else:
            yield from ((key.start, key.end) for key, _ in node.entries.values())
            waiting.extend(value for _, value in node.entries.values())


def _lies_in(offset: int, stretches: list[tuple[int, int]]) -> bool:
    index = bisect_right(stretches, (offset, _FAR)) - 1
    return index >= 0 and offset < stretches[index][1]


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
    parts = (f"[{part}]" if isinstance(part, int) else f".{shortened(visible(part))}" for part in location)
    return "".join(parts).lstrip(".")


def from_text(problems: Iterable[TextProblem], source: Source) -> Iterator[Diagnostic]:
    """Make findings of what is wrong with the text itself."""
    for problem in problems:
        rule = YAML_SYNTAX if problem.kind == "syntax" else DUPLICATE_KEY
        yield rule.at(source.place(problem.start, problem.end), problem.message, hint=problem.hint)


def from_refusals(refusals: Iterable[Refusal], origin: Origin) -> Iterator[Diagnostic]:
    """Make findings of what reading refused."""
    for location, problem in refusals:
        rule = next((rule for kind, rule in _RULES if isinstance(problem, kind)), WRONG_VALUE)
        where = dotted(location)
        message = f"{where}: {problem}" if where else str(problem)
        yield rule.at(_place(location, problem, origin), message, hint=problem.hint)


def in_order(findings: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sort findings as people read, and cut what nobody reads: the first hundred, and how many more there are."""
    found = sorted(findings, key=sort_key)
    if len(found) <= _MOST_FINDINGS:
        return tuple(found)
    more = replace(found[_MOST_FINDINGS], message=f"{len(found) - _MOST_FINDINGS} more problems from here on", hint="")
    return (*found[:_MOST_FINDINGS], more)


def _place(location: Location, problem: Problem, origin: Origin) -> Place:
    offset = problem.offset if isinstance(problem, ExpressionError) else None
    return origin.place(location, key=isinstance(problem, UnknownKey | MissingKey), offset=offset)


_RULES: Final[tuple[tuple[type[Exception], Rule], ...]] = (
    (UnknownKey, UNKNOWN_KEY),
    (MissingKey, MISSING_KEY),
    (WrongType, WRONG_TYPE),
    (ExpressionError, SEGMENT_SYNTAX),
)
