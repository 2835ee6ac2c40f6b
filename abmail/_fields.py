"""Frozen parts of a definition: read from plain data, written back, and described to editors, field by field.

A part is a frozen dataclass whose annotations carry a `Kind`: ``holdout: Annotated[float, SHARE] = 0.0``. Reading
collects every problem with its location instead of stopping at the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Final, Generic, TypeVar, get_args, get_origin, get_type_hints

from abmail._values import BadValue, nearest, shown
from abmail.errors import ExpressionError

__all__ = [
    "Conflicts",
    "Key",
    "Kind",
    "Location",
    "MissingKey",
    "Problem",
    "Refusal",
    "Refused",
    "UnknownKey",
    "WrongType",
    "advice",
    "choice",
    "describe_part",
    "listed",
    "read_part",
    "write_part",
]

T = TypeVar("T")
P = TypeVar("P")

Location = tuple[str | int, ...]
Problem = BadValue | ExpressionError
Refusal = tuple[Location, Problem]
Conflicts = Callable[[type[Any], Mapping[str, Any], Mapping[Any, object]], Iterator[Refusal]]

_MOST_LISTED: Final = 12
_WRITE: Final[Mapping[str, str]] = {
    "text": "put it between quotes",
    "the name of a level": "put it between quotes",
    "keys with values": "write {key: value}, or one key a line",
    "a list": "write [one, two]",
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "spec": "write spec: 1",
    "name": "write name: spring-webinar",
    "factors": 'write factors: {subject: {plain: "Join us", number: "3 ways to save time"}}',
    "control": "write control: {subject: plain}, the variant that the others are compared with",
    "message": 'write message: {template: mails/webinar.html.j2, from: "Sales <news@example.com>"}',
    "template": "write template: mails/webinar.html.j2",
    "from": 'write from: "Sales <news@example.com>"',
}
"""How to write the keys that have to be there."""
_WORD: Final = re.compile(r"[\w-]+")
_CALLED: Final[Mapping[str, tuple[str, ...]]] = {
    "variants": ("factors",), "variations": ("factors",), "arms": ("factors",), "subjects": ("factors",),
    "schedule": ("send_time",), "timing": ("send_time",), "traffic": ("allocation",), "split": ("allocation",),
    "goal": ("metrics", "primary"), "goals": ("metrics",), "kpi": ("metrics", "primary"), "list": ("audience",),
    "recipients": ("audience",), "filter": ("segment",), "sender": ("from",), "html": ("template",),
    "duration": ("after",), "significance": ("alpha",), "confidence": ("alpha",), "weekend": ("sat", "sun"),
    "weekends": ("sat", "sun"), "weekdays": ("mon", "tue", "wed", "thu", "fri"),
    "workdays": ("mon", "tue", "wed", "thu", "fri"),
}  # fmt: skip
"""What people call things elsewhere -> what they are called here: the names that are known at the place in question."""


class UnknownKey(BadValue):
    """A key that names nothing, such as a factor or cell that is not defined."""

    @classmethod
    def among(cls, name: str, known: tuple[str, ...]) -> UnknownKey:
        """Say what was meant, or what there is."""
        return cls("unknown key", hint=advice(name, known))


class MissingKey(BadValue):
    """A key that has to be there and is not."""


class WrongType(BadValue):
    """A value of another kind than what is wanted."""

    def __init__(self, wanted: str, found: object) -> None:
        one = wanted == "a list" and _WORD.fullmatch(str(found))
        hint = f"write [{found}]" if one else _WRITE.get(wanted, "")
        super().__init__(f"expected {wanted}, found {_kind_of(found)}", hint=hint)


class Refused(ValueError):
    """Several problems inside one value, each with its location below it."""

    def __init__(self, problems: list[Refusal]) -> None:
        super().__init__("; ".join(str(problem) for _, problem in problems))
        self.problems = problems


def _kind_of(value: object) -> str:
    if isinstance(value, Mapping):
        return "keys with values"
    if isinstance(value, list | tuple):
        return "a list"
    return f"the text {shown(value)}" if isinstance(value, str) else shown(value)


def advice(name: str, known: tuple[str, ...]) -> str:
    """Name what is meant by another name, the nearest known name, or the known ones."""
    meant = [one for one in _CALLED.get(name.lower(), ()) if one in known]
    near = ", ".join(meant) or nearest(name, known)
    return f"did you mean {near!r}?" if near else f"known here: {listed(known)}" if known else ""


def listed(names: tuple[str, ...]) -> str:
    """Write names in a row, the first dozen of many."""
    return ", ".join(names[:_MOST_LISTED]) + (", …" if len(names) > _MOST_LISTED else "")


# --- kinds of values --------------------------------------------------------------------------------------------------


def _same(value: object) -> object:
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Generic[T]):
    """How a value is read from plain data, described to editors, and written back.

    Attributes:
        read: Plain data -> value; raises BadValue, ExpressionError or Refused.
        schema: JSON Schema of the plain data.
        write: Value -> plain data.
    """

    read: Callable[[object], T]
    schema: Mapping[str, Any]
    write: Callable[[T], object] = _same


@dataclass(frozen=True, slots=True)
class Key:
    """The key of a field in the file where it cannot be the field's name."""

    name: str


def choice(literal: object) -> Kind[str]:
    """Make the kind of a ``Literal`` of texts."""
    names: tuple[str, ...] = get_args(literal)

    def read(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        hint = advice(value, names) if isinstance(value, str) else ""
        message = f"{shown(value)} is not one of {', '.join(names)}"
        raise BadValue(message, hint="" if hint.startswith("known") else hint)

    return Kind(read, {"enum": list(names)})


# --- parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    name: str
    key: str
    content: Kind[Any] | type[Any]  # how its value is read, or the part that it is
    nullable: bool
    required: bool
    default: object


def _list_fields(part: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(part, include_extras=True)
    return tuple(_field(field.name, hints[field.name], _default(field)) for field in fields(part) if field.init)


_fields: Final[Callable[[Any], tuple[_Field, ...]]] = cache(_list_fields)


def _default(field: Any) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _field(name: str, hint: Any, default: object) -> _Field:
    nullable = type(None) in get_args(hint)
    inner = next(arg for arg in get_args(hint) if arg is not type(None)) if nullable else hint
    extras = get_args(inner)[1:] if get_origin(inner) is Annotated else ()
    kind = next((extra for extra in extras if isinstance(extra, Kind)), None)
    if kind is None and not (isinstance(inner, type) and is_dataclass(inner)):
        raise TypeError(f"the field {name} is {inner}, must be a part or be annotated with a Kind")
    return _Field(
        name=name,
        key=next((extra.name for extra in extras if isinstance(extra, Key)), name),
        content=kind or inner,
        nullable=nullable,
        required=default is MISSING,
        default=default,
    )


def read_part(part: type[P], value: object, conflicts: Conflicts) -> tuple[P | None, list[Refusal]]:
    """Read a part and the parts inside it.

    Args:
        part: A frozen dataclass of annotated fields.
        value: Plain data.
        conflicts: Says what the fields of a part contradict, given those that could be read and the plain data.

    Returns:
        The part, None where anything is wrong; and every problem with its location below ``value``.
    """
    if not isinstance(value, Mapping):
        return None, [((), WrongType("keys with values", value))]
    values: dict[str, Any] = {}
    problems = list(_unknown_keys(part, value))
    for field in _fields(part):
        problems.extend(_read_field(field, value, values, conflicts))
    problems.extend(conflicts(part, values, value))
    return (None if problems else part(**values)), problems


def _unknown_keys(part: type[Any], value: Mapping[object, object]) -> Iterator[Refusal]:
    known = tuple(field.key for field in _fields(part))
    for key in value:
        if key not in known:
            yield (str(key),), UnknownKey.among(str(key), known)


def _read_field(
    field: _Field,
    raw: Mapping[object, object],
    values: dict[str, Any],
    conflicts: Conflicts,
) -> Iterator[Refusal]:
    if field.key not in raw:
        if field.required:
            yield (field.key,), MissingKey("the key is missing", hint=_EXAMPLES.get(field.key, ""))
        return
    value = raw[field.key]
    if value is None and field.nullable:
        return
    if isinstance(field.content, Kind):
        read, problems = _read_value(field.content, value)
    else:
        read, problems = read_part(field.content, {} if value is None else value, conflicts)
    if not problems:
        values[field.name] = read
    for location, problem in problems:
        yield (field.key, *location), problem


def _read_value(kind: Kind[Any], value: object) -> tuple[object, list[Refusal]]:
    try:
        return kind.read(value), []
    except Refused as refused:
        return None, refused.problems
    except (BadValue, ExpressionError) as problem:
        return None, [((), problem)]


def write_part(part: object) -> dict[str, Any]:
    """Write a part as plain data, every default spelled out; what is None is left away."""
    plain: dict[str, Any] = {}
    for field in _fields(type(part)):
        value = getattr(part, field.name)
        if value is not None:
            plain[field.key] = field.content.write(value) if isinstance(field.content, Kind) else write_part(value)
    return plain


# --- description ------------------------------------------------------------------------------------------------------


def describe_part(part: type[Any]) -> dict[str, Any]:
    """Describe a part as a JSON Schema; the texts are those of its docstring."""
    summary, _, attributes = (part.__doc__ or "").partition("Attributes:")
    described = dict(re.findall(r"^ +(\w+): (.+)$", attributes, flags=re.MULTILINE))
    schema: dict[str, Any] = {"type": "object", "description": summary.strip(), "additionalProperties": False}
    schema["properties"] = {field.key: _describe_field(field, described.get(field.name, "")) for field in _fields(part)}
    required = [field.key for field in _fields(part) if field.required]
    return {**schema, "required": required} if required else schema


def _describe_field(field: _Field, text: str) -> dict[str, Any]:
    if not isinstance(field.content, Kind):
        return {**describe_part(field.content), "type": "object" if field.required else ["object", "null"]}
    schema: dict[str, Any] = dict(field.content.schema)
    if field.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    elif not field.required:
        schema["default"] = field.content.write(field.default)
    return {"description": text.replace("``", ""), **schema} if text else schema
