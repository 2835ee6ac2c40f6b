"""The mapping file: what the columns and words of somebody's export mean, with every slip at its line and column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from abmail._document import Document
from abmail._export_shapes import FIELDS, IGNORED, Shape
from abmail._fields import Kind, MissingKey, Refusal, Refused, UnknownKey, WrongType, read_part
from abmail._spec_problems import from_refusals, in_order
from abmail._table import plain
from abmail._values import BadValue, FrozenDict, require_text, require_zone, shown
from abmail.errors import SpecError
from abmail.events import EventType

__all__ = ["load_mapping"]

_TYPES: Final = (*map(str, EventType), IGNORED)
_EXAMPLE: Final = "write columns: {type: Action, at: When, email: To}"


def _texts(check: Callable[[str, object], object], value: object) -> FrozenDict[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongType("keys with values", value)
    read: dict[str, Any] = {}
    problems: list[Refusal] = []
    for key, each in value.items():
        try:
            read[str(key)] = check(str(key), each)
        except (BadValue, UnknownKey) as problem:
            problems.append(((str(key),), problem))
    if problems:
        raise Refused(problems)
    return FrozenDict(read)


def _column(name: str, value: object) -> tuple[str, ...]:
    if name not in FIELDS:
        raise UnknownKey.among(name, FIELDS)
    return tuple(plain(_text("", each)) for each in (value if isinstance(value, list) else [value]))


def _constant(name: str, value: object) -> str:
    if name not in FIELDS:
        raise UnknownKey.among(name, FIELDS)
    return _text(name, value)


def _text(_: str, value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return _read_text(value)


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise WrongType("text", value)
    return require_text(value)


def _type(_: str, value: object) -> str:
    if value in _TYPES:
        return str(value)
    raise BadValue(f"{shown(value)} is no event", hint=f"one of {', '.join(_TYPES)}")


def _format(value: object) -> str:
    text = _read_text(value)
    moment = datetime(2026, 11, 28, 13, 5, 9)  # noqa: DTZ001 - a format has no zone
    try:
        read = datetime.strptime(moment.strftime(text), text)  # noqa: DTZ007
    except ValueError as error:
        raise BadValue(f"{shown(text)} cannot be read: {error}", hint='for instance "%d.%m.%Y %H:%M"') from None
    if read.date() != moment.date():
        raise BadValue(f"{shown(text)} leaves out the day, the month or the year", hint='for instance "%d.%m.%Y %H:%M"')
    return text


def _zone(value: object) -> str:
    return require_zone(_read_text(value))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongType("true or false", value)
    return value


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise WrongType("a list", value)
    return tuple(plain(_text("", each)) for each in value)


_Text = Kind(_read_text, {"type": "string"})


def _keyed(check: Callable[[str, object], object]) -> Kind[FrozenDict[str, Any]]:
    return Kind(partial(_texts, check), {"type": "object"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Time:
    """How times are written."""

    zone: Annotated[str, Kind(_zone, {"type": "string"})] = "UTC"
    format: Annotated[str, Kind(_format, {"type": "string"})] = ""
    day_first: Annotated[bool, Kind(_flag, {"type": "boolean"})] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    """A mapping as it is written."""

    source: Annotated[str, _Text] = "file"
    columns: Annotated[Mapping[str, tuple[str, ...]], _keyed(_column)] = field(default_factory=dict)
    types: Annotated[Mapping[str, str], _keyed(_type)] = field(default_factory=dict)
    hard: Annotated[tuple[str, ...], Kind(_words, {"type": "array"})] = ()
    experiments: Annotated[Mapping[str, str], _keyed(_text)] = field(default_factory=dict)
    constants: Annotated[Mapping[str, str], _keyed(_constant)] = field(default_factory=dict)
    each: Annotated[str, _Text] = ""
    time: _Time = field(default_factory=_Time)


def load_mapping(path: Path) -> Shape:
    """Read a mapping file.

    Raises:
        SpecError: With every problem of the file at its line and column.
    """
    document = Document.of_file(path, empty=_EXAMPLE)
    if document.root is None or document.findings:
        raise SpecError(in_order(document.findings))
    read, refusals = read_part(_Mapping, document.root.data, _conflicts)
    if read is None:
        raise SpecError(in_order(from_refusals(refusals, document.origin)))
    return Shape(
        name=str(path), source=read.source, columns=read.columns,
        types={str(each): str(each) for each in EventType} | {plain(k): v for k, v in read.types.items()},
        each=read.each, constants=read.constants, experiments=read.experiments, zone=read.time.zone,
        time_format=read.time.format, day_first=read.time.day_first, hard=frozenset(read.hard), foreign=False,
    )  # fmt: skip


def _conflicts(part: type[Any], read: Mapping[str, Any], raw: Mapping[Any, object]) -> Iterator[Refusal]:
    """What every event needs has to be named."""
    if part is not _Mapping or "columns" not in raw:
        if part is _Mapping:
            yield ("columns",), MissingKey("the key is missing", hint=_EXAMPLE)
        return
    known = {*(read.get("columns") or {}), *(read.get("constants") or {})}
    for name in ("type", "at"):
        if name not in known and "columns" in read:
            yield ("columns",), MissingKey(f"no column says the {name}", hint=_EXAMPLE)
    if "columns" in read and not known & {"message_id", "recipient", "email"}:
        yield ("columns",), MissingKey("no column says whose mail it is", hint="name email, recipient or message_id")
