"""YAML 1.2 text to plain data that remembers its places; duplicate keys, tags and explosive nesting are refused.

The parser's events are composed here instead of by the library: that gives the place of every key and value, the
core schema of YAML 1.2 (``12:30``, ``NO`` and ``on`` are texts, ``0123`` is 123) and firm bounds on depth, number of
values and alias expansion, so that no text takes more than about a second.

Two parsers know the syntax. libyaml is thirty times as fast and speaks YAML 1.1; it is asked first. What it refuses,
and what the two versions of YAML or the two parsers' places differ in, goes to ruamel's, which decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn, Protocol

from yaml import YAMLError

from abmail._values import shortened, shown
from abmail.diagnostics import Source

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError

__all__ = ["Key", "ListNode", "MapNode", "Node", "Scalar", "TextProblem", "read"]

_MOST_NODES: Final = 10_000
_DEEPEST: Final = 32
_LONGEST_INT: Final = 300

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_BEGINS_NUMBER: Final = frozenset("+-.0123456789")
_INT: Final = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX: Final = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_UNSURE: Final = re.compile("[\t\x85\u2028\u2029\ufeff]|[|>][-+0-9]*#|^(?:\\.\\.\\.|%)", re.MULTILINE)
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|[^\\]", re.DOTALL
)

_UNCLOSED: Final = "<stream end>"
_HINTS: Final = (
    ("mapping values are not allowed", "a text with a colon in it needs quotes; otherwise check the indentation"),
    (r"character '\t'", "use spaces instead of tabs"),
    ("cannot start any token", "put the text between quotes"),
    ("expected ':'", "write key: value, with a space behind the colon"),
    ("unexpected end of stream", "close the quote that begins here"),
    (_UNCLOSED, "close the bracket that begins here"),
    ("expected <block end>", "check the indentation: keys of one mapping begin in one column"),
    ("expected ',' or", "separate the values with commas and close the bracket"),
)
_PLAIN: Final = (
    ("mapping values are not allowed", "a second colon makes a key of what stands before it"),
    ("expected <block end>, but found '<block mapping start>'", "this line begins in another column than those above"),
)
"""What a parser says in words of its own, as people say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextProblem:
    """What is wrong with the text itself, at the characters from ``start`` to ``end``."""

    kind: Literal["syntax", "duplicate-key"]
    message: str
    start: int
    end: int | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value.

    Attributes:
        start: 0-based offset of its first character, the quote included.
        end: Offset behind its last character.
        data: The value of YAML's core schema.
        style: How it is written: bare, with a kind of quotes, or as a block.
        source: The characters as written.
    """

    start: int
    end: int
    data: bool | int | float | str | None
    style: str
    source: str

    def offset_of(self, index: int) -> int:
        """Offset in the text of the value's character ``index``; of the value itself where that is not to be told."""
        if "\n" in self.source or "\r" in self.source:
            return self.start
        if self.style == "plain":
            return self.start + index
        widths = {"'": _single_quoted, '"': _double_quoted}.get(self.style)
        return self.start if widths is None else self.start + 1 + sum(widths(self.source[1:-1], index))


def _single_quoted(body: str, count: int) -> list[int]:
    return [len(piece) for piece in re.findall(r"''|.", body)[:count]]


def _double_quoted(body: str, count: int) -> list[int]:
    return [len(piece) for piece in _ESCAPE.findall(body)[:count]]


@dataclass(slots=True)
class Key:
    """A key of a mapping: its text and the characters it stands at."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class ListNode:
    """A sequence of values."""

    start: int
    items: list[Node] = field(default_factory=list)

    @property
    def data(self) -> list[object]:
        """The plain values."""
        return [item.data for item in self.items]


@dataclass(slots=True)
class MapNode:
    """Values by their keys, in the order of the text."""

    start: int
    entries: dict[str, tuple[Key, Node]] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, object]:
        """The plain values by key; a key is always text, as written."""
        return {text: node.data for text, (_, node) in self.entries.items()}


Node = Scalar | ListNode | MapNode


class _Mark(Protocol):
    @property
    def index(self) -> int: ...


class _Event(Protocol):
    """An event of either parser; those of a kind have the same name and fields in both."""

    @property
    def start_mark(self) -> _Mark: ...
    @property
    def end_mark(self) -> _Mark: ...


def read(source: Source) -> tuple[Node | None, tuple[TextProblem, ...]]:
    """Read one document.

    Returns:
        The document, None where there is none or its syntax is broken; and what is wrong, in the order of the text.
    """
    if not _UNSURE.search(source.text):
        try:
            return _compose(_Composer(source, quick=True), _quick_events(source.text))
        except _Unsure:
            pass
    return _compose(_Composer(source), _sure_events(source.text))


def _compose(composer: _Composer, events: Iterator[_Event]) -> tuple[Node | None, tuple[TextProblem, ...]]:
    try:
        for event in events:
            composer.add(event)
    except _Stop as stop:
        return None, (*composer.problems, composer.explained(stop.problem))
    return composer.root, tuple(composer.problems)


class _Unsure(Exception):
    """The quick parser cannot be relied on for this text."""


class _Stop(Exception):
    """The text cannot be read beyond this problem."""

    def __init__(self, problem: TextProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _quick_events(text: str) -> Iterator[_Event]:
    try:
        from yaml._yaml import CParser
    except ImportError:  # built without libyaml
        raise _Unsure from None
    try:
        parser = CParser(text)
        while parser.check_event():
            event: Any = parser.get_event()
            if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
                raise _Unsure
            yield event
    except (YAMLError, ValueError):  # ValueError: halves of surrogate pairs
        raise _Unsure from None


def _sure_events(text: str) -> Iterator[_Event]:
    from ruamel.yaml import YAML  # 25 ms that most texts do not need
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.error import YAMLError as Refused
    from ruamel.yaml.reader import ReaderError

    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        raise _Stop(_from_marked(error)) from None
    except ReaderError as error:
        message = f"the character U+{_code_point(error.character):04X} is not allowed in YAML"
        raise _Stop(TextProblem(kind="syntax", message=message, start=error.position, end=error.position + 1)) from None
    except (Refused, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        # the scanner's own slips on broken input, such as chr() of an escape beyond Unicode
        raise _Stop(TextProblem(kind="syntax", message=f"this is not YAML: {error}", start=0)) from None


def _code_point(character: str | bytes | int) -> int:
    return character if isinstance(character, int) else ord(character)


def _from_marked(error: MarkedYAMLError) -> TextProblem:
    what = " ".join(str(error.problem or "this is not YAML").split())
    began = error.context_mark if "end of stream" in what else None
    mark = began or error.problem_mark or error.context_mark
    context = " ".join(str(error.context or "").split())
    hint = next((hint for sign, hint in _HINTS if sign in what), "")
    plain = next((plain for sign, plain in _PLAIN if sign in what), "")
    message = plain or f"{what} {context}".strip()
    return TextProblem(kind="syntax", message=message, start=mark.index if mark else 0, hint=hint)


class _Extent(NamedTuple):
    """What a node comes to once its aliases are expanded."""

    size: int
    height: int


_ONE: Final = _Extent(1, 1)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come."""

    node: ListNode | MapNode
    anchor: str | None
    size: int = 1
    height: int = 1
    key: Key | None = None
    expects_value: bool = False


class _Composer:
    """Builds nodes from events without recursion."""

    def __init__(self, source: Source, *, quick: bool = False) -> None:
        self.source = source
        self.quick = quick
        self.problems: list[TextProblem] = []
        self.root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, _Extent]] = {}
        self._documents = 0
        self._adders: dict[str, Callable[[Any], None]] = {
            "ScalarEvent": self._scalar,
            "AliasEvent": self._alias,
            "MappingStartEvent": lambda event: self._begin(event, MapNode(event.start_mark.index)),
            "SequenceStartEvent": lambda event: self._begin(event, ListNode(event.start_mark.index)),
            "MappingEndEvent": self._finish,
            "SequenceEndEvent": self._finish,
            "DocumentStartEvent": self._document,
        }

    def add(self, event: _Event) -> None:
        adder = self._adders.get(type(event).__name__)
        if adder is not None:
            adder(event)

    def explained(self, problem: TextProblem) -> TextProblem:
        """Place what is missing at the end of the text where it began: at the bracket that is still open."""
        if _UNCLOSED not in problem.message or not self._open:
            return problem
        return replace(problem, start=self._open[-1].node.start)

    def _stop(self, event: _Event, message: str, hint: str = "") -> NoReturn:
        start, end = event.start_mark.index, event.end_mark.index
        raise _Stop(TextProblem(kind="syntax", message=message, start=start, end=end, hint=hint))

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(event, "a second document begins here", "write one definition a file")
        if event.version not in (None, (1, 2)):
            self._stop(event, "definitions are YAML 1.2", "remove the %YAML line")

    def _check_tag(self, event: Any) -> None:
        if event.tag not in (None, "!"):
            message = f"the tag {shortened(event.tag)} is not used in definitions"
            self._stop(event, message, "remove it, or put a text between quotes")

    def _scalar(self, event: Any) -> None:
        if event.tag is not None:
            self._check_tag(event)
        start, end = event.start_mark.index, event.end_mark.index
        if start == end and self.quick and not (self._open and self._open[-1].expects_value):
            raise _Unsure  # where a missing item stands is seen in two ways; a missing value stands at its key
        style = event.style or "plain"
        text: str = event.value
        if not text.isascii() and _SURROGATE.search(text):
            text = self._paired(event, text)
        data = _resolve(text) if style == "plain" and event.tag is None else text
        self._put(Scalar(start, end, data, style, self.source.text[start:end]), event, _ONE, event.anchor)

    def _paired(self, event: _Event, text: str) -> str:
        """Join pairs of surrogates: JSON writes a character beyond U+FFFF as two escapes."""
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            return self._stop(event, "half of a surrogate pair is not a character", "write the character itself")

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            inside = any(frame.anchor == event.anchor for frame in self._open)
            what = "contains itself" if inside else "names no anchor before it"
            self._stop(event, f"the alias *{shortened(event.anchor)} {what}")
        node, extent = self._anchors[event.anchor]
        self._check_depth(event, extent.height)
        self._put(node, event, extent, None)

    def _begin(self, event: Any, node: ListNode | MapNode) -> None:
        self._check_tag(event)
        self._check_depth(event, 1)
        self._open.append(_Open(node, event.anchor))

    def _finish(self, event: _Event) -> None:
        done = self._open.pop()
        self._put(done.node, event, _Extent(done.size, done.height), done.anchor)

    def _check_depth(self, event: _Event, height: int) -> None:
        if len(self._open) + height > _DEEPEST:
            self._stop(event, f"values are nested more than {_DEEPEST} deep")

    def _put(self, node: Node, event: _Event, extent: _Extent, anchor: str | None) -> None:
        """Hang a finished node into the collection that is open, counting what aliases expand to."""
        if anchor is not None:
            self._anchors[anchor] = (node, extent)
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        size, height = extent
        frame.size += size
        if height >= frame.height:
            frame.height = height + 1
        if frame.size > _MOST_NODES:
            self._stop(
                event, f"the text holds more than {_MOST_NODES} values, aliases expanded", "a definition is smaller"
            )
        if isinstance(frame.node, ListNode):
            frame.node.items.append(node)
        elif frame.expects_value:
            self._value(frame, frame.node, node)
        else:
            self._key(frame, node, event)

    def _key(self, frame: _Open, node: Node, event: _Event) -> None:
        frame.expects_value = True
        if not isinstance(node, Scalar):
            message, hint = "a key must be a word", "put the key between quotes"
            self.problems.append(TextProblem(kind="syntax", message=message, start=node.start, hint=hint))
            frame.key = None
            return
        text = node.data if isinstance(node.data, str) else node.source
        frame.key = Key(text, event.start_mark.index, event.end_mark.index)

    def _value(self, frame: _Open, mapping: MapNode, node: Node) -> None:
        key, frame.key, frame.expects_value = frame.key, None, False
        if key is None:
            return
        if key.text not in mapping.entries:
            mapping.entries[key.text] = (key, node)
            return
        first = self.source.place(mapping.entries[key.text][0].start).line
        again = self.source.place(key.start).line
        message = f"the key {shown(key.text)} stands twice, on lines {first} and {again}"
        problem = TextProblem(
            kind="duplicate-key", message=message, start=key.start, end=key.end, hint="remove one of the two"
        )
        self.problems.append(problem)


def _resolve(text: str) -> bool | int | float | str | None:
    """Read a bare scalar by the core schema of YAML 1.2.2, section 10.3.2."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in _BEGINS_NUMBER or len(text) > _LONGEST_INT:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text
