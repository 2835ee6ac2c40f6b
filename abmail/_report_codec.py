"""Checked construction of report values, and their way to and from JSON.

A part of a report is a frozen dataclass that derives from `Part`. Its annotations are its schema: when it is made, each
field is brought to the annotated type (numpy scalars become Python's, lists become tuples, a number that is not finite
becomes None where None is allowed) or refused with a ValueError that names the field. JSON takes the same way in.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

__all__ = [
    "Part",
    "decode",
    "encode",
    "require_alpha",
    "require_counts",
    "require_interval",
    "require_share",
    "require_successes",
]

T = TypeVar("T", bound="Part")
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Part:
    """Base of the values in a report: fields are checked and normalised at construction."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _coerce(field.type, getattr(self, field.name), f"{type(self).__name__}.{field.name}")
            object.__setattr__(self, field.name, value)
        self._check()

    def _check(self) -> None:
        """Refuse fields that contradict each other; subclasses say which."""


def encode(value: object) -> Any:
    """Turn a part, or what it holds, into what `json.dumps` writes: dicts, lists, strings, finite numbers, None."""
    if isinstance(value, Part):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def decode(kind: type[T], value: object, where: str = "") -> T:
    """Make a part from its JSON form.

    Args:
        kind: The part's class.
        value: The JSON object. Keys that this version does not know are passed over: later versions add some.
        where: The path of the object, for messages.

    Returns:
        The part.

    Raises:
        ValueError: A key is missing or its value has the wrong type or range; the message names its path.
    """
    if not isinstance(value, Mapping):
        raise _wrong(where or "the report", value, "an object")
    arguments: dict[str, object] = {}
    for field in fields(kind):
        path = f"{where}.{field.name}" if where else field.name
        if field.name in value:
            arguments[field.name] = _coerce(field.type, value[field.name], path)
        elif _required(field):
            raise ValueError(f"{path} is missing: not a report of this format version")
    return kind(**arguments)


def _wrong(where: str, value: object, wanted: str) -> ValueError:
    return ValueError(f"{where} is {value!r}, must be {wanted}")


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _coerce(kind: object, value: object, where: str) -> object:
    """Bring a value to an annotated type, or say what is wrong with it."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _optional(kind, value, where)
    if origin is Literal:
        return _choice(get_args(kind), value, where)
    if origin is tuple:
        return _sequence(get_args(kind)[0], value, where)
    if origin is Mapping:
        return _mapping(get_args(kind)[1], value, where)
    if isinstance(kind, type) and issubclass(kind, Part):
        return value if isinstance(value, kind) else decode(kind, value, where)
    return _scalar(kind, value, where)


def _optional(kind: object, value: object, where: str) -> object:
    (inner,) = (option for option in get_args(kind) if option is not NoneType)
    item = _python(value)
    if item is None or (isinstance(item, float) and not math.isfinite(item)):
        return None
    return _coerce(inner, item, where)


def _choice(options: tuple[object, ...], value: object, where: str) -> object:
    item = _python(value)
    if item not in options:
        raise _wrong(where, item, f"one of {', '.join(map(str, options))}")
    return options[options.index(item)]


def _sequence(kind: object, value: object, where: str) -> tuple[object, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise _wrong(where, value, "a list")
    return tuple(_coerce(kind, item, f"{where}[{i}]") for i, item in enumerate(value))


def _mapping(kind: object, value: object, where: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    return {_text(key, f"a key of {where}"): _coerce(kind, item, f"{where}[{key!r}]") for key, item in value.items()}


def _scalar(kind: object, value: object, where: str) -> object:
    item = _python(value)
    if kind is str:
        return _text(item, where)
    if kind is datetime:
        return _instant(item, where)
    if kind is bool:
        if isinstance(item, bool):
            return item
        raise _wrong(where, item, "true or false")
    return _number(item, where, whole=kind is int)


def _number(value: object, where: str, *, whole: bool) -> int | float:
    wanted = "a whole number" if whole else "a finite number"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(where, value, wanted)
    if not whole:
        return float(value)
    if value != int(value):
        raise _wrong(where, value, wanted)
    return int(value)


def _python(value: object) -> object:
    """A numpy scalar's Python value; anything else as it is."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "shape", None) == () else value


def _instant(value: object, where: str) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise _wrong(where, value, "a date and time such as 2026-03-02T09:00:00+00:00") from error
    if not isinstance(value, datetime):
        raise _wrong(where, value, "a date and time")
    if value.utcoffset() is None:
        raise ValueError(f"{where} is {value.isoformat()}, without a zone: must be an aware UTC datetime")
    return value.astimezone(UTC)


def _text(value: object, where: str) -> str:
    """One line of text. Control characters could steer a terminal, half a surrogate pair cannot be written as UTF-8."""
    if not isinstance(value, str):
        raise _wrong(where, value, "a string")
    if value.isprintable():
        return str(value)
    return "".join(map(_printable, value))


def _printable(character: str) -> str:
    if character in "\t\n\r\x0b\x0c\u2028\u2029":
        return " "
    hidden = unicodedata.category(character) in _UNPRINTABLE or character in _BIDI_OVERRIDES
    return "\N{REPLACEMENT CHARACTER}" if hidden else character


def require_share(name: str, value: float | None) -> None:
    """Raise ValueError where a value is known and no fraction in [0, 1]."""
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value!r}, must be a fraction in [0, 1]")


def require_alpha(alpha: float) -> None:
    """Raise ValueError where an error level is not in (0, 1)."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha!r}, must be in (0, 1)")


def require_counts(name: str, **counts: int) -> None:
    """Raise ValueError where a count is negative."""
    for key, count in counts.items():
        if count < 0:
            raise ValueError(f"{key} of {name} is {count}, must be 0 or more")


def require_successes(name: str, n: int, successes: int) -> None:
    """Raise ValueError where 0 <= successes <= n does not hold."""
    require_counts(name, n=n, successes=successes)
    if successes > n:
        raise ValueError(f"successes of {name} is {successes}, must be at most n = {n}")


def require_interval(name: str, lower: float | None, upper: float | None) -> None:
    """Raise ValueError where an interval is upside down."""
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"interval of {name} runs from {lower} to {upper}, must not be upside down")
