"""The kinds of values in a definition: how each is read from plain data, written back, and described to editors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from abmail._fields import Key, Kind, Refusal, Refused, UnknownKey, WrongType, choice
from abmail._free_days import CountryDay
from abmail._spec_versions import CURRENT
from abmail._values import (
    MAILBOX,
    BadValue,
    FrozenDict,
    TimeWindow,
    format_duration,
    format_time,
    parse_duration,
    parse_share,
    parse_time,
    require_line,
    require_mailbox,
    require_path,
    require_zone,
    shown,
)
from abmail.segment import Segment

__all__ = [
    "LINE_SCHEMA",
    "WEEK",
    "Attribute",
    "Clock",
    "DayList",
    "Days",
    "Dealing",
    "Duration",
    "Ending",
    "Expression",
    "Factor",
    "FallBack",
    "Features",
    "Flag",
    "Goal",
    "Guardrail",
    "Guardrails",
    "Holdout",
    "Hours",
    "Language",
    "Line",
    "LocalMoment",
    "LocalZone",
    "Mailbox",
    "Mode",
    "Name",
    "Number",
    "OpenShare",
    "Outcome",
    "Policy",
    "PositiveShare",
    "ProjectPath",
    "ProjectPaths",
    "Seed",
    "Sender",
    "Share",
    "StopReason",
    "StopReasons",
    "Stretches",
    "Text",
    "Uncertain",
    "Unit",
    "ValueCap",
    "ValueUnit",
    "Valued",
    "Version",
    "Waves",
    "Weekday",
    "Weights",
    "Window",
    "Zone",
    "require_name",
]

Dealing = Literal["hash", "quota"]
Ending = Literal["send_winner", "keep_going", "stop"]
Factor = Literal["subject", "cta", "preheader", "from_name", "body"]
FallBack = Literal["send_control", "keep_going", "stop"]
Goal = Literal["learn", "balance", "earn"]
Guardrail = Literal["unsubscribed", "complained", "bounced"]
Language = Literal["en", "ja"]
Mode = Literal["fixed", "learn", "test"]
Outcome = Literal["clicked", "opened"]
Policy = Literal[
    "thompson", "top_two", "exploration", "contextual", "epsilon_greedy", "test_then_send", "uniform", "fixed"
]  # fmt: skip
StopReason = Literal["winner", "futile"]
Uncertain = Literal["hold", "reconcile", "resend"]
Unit = Literal["recipient", "company"]
Valued = Literal["converted", "replied"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

FreeDay = str | date | CountryDay | PurePosixPath
"""A country, a date, a date in a country, or a file of these."""

T = TypeVar("T")

WEEK: Final[tuple[Weekday, ...]] = get_args(Weekday)
_GUARDRAILS: Final[tuple[str, ...]] = get_args(Guardrail)
_DAY: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")  # of ISO 8601's forms the one that everybody reads
_DAY_FILES: Final = (".csv", ".txt")
_MOMENT: Final = re.compile(f"{_DAY.pattern}[ T][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}})?")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise WrongType("text", value)


def _read_list(value: object, kind: Kind[T], hint: str) -> tuple[T, ...]:
    """Read the items of a list, none of them twice."""
    if not isinstance(value, list | tuple):
        raise WrongType("a list", value)
    if not value:
        raise BadValue("the list is empty", hint=f"leave the key out, or write {hint}")
    problems: list[Refusal] = []
    items = tuple(item for index, each in enumerate(value) for item in _item(kind, index, each, problems))
    if problems:
        raise Refused(problems)
    if len(set(items)) < len(items):
        raise BadValue("one of them is in the list twice")
    return items


def _texts(check: Callable[[str], str]) -> Callable[[object], str]:
    return lambda value: check(_text(value))


def _whole(least: int, most: int) -> Kind[int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise WrongType("a whole number", value)
        if not least <= value <= most:
            bound = f"less than {least}" if value < least else f"more than {most}"
            raise BadValue(f"{shown(value)} is {bound}")
        return value

    example = min(max(least, 3), most)
    return Kind(read, {"type": "integer", "minimum": least, "maximum": most, "examples": [example]})


_LAST_HOUR: Final = 23
_MOST_UNIT: Final = 12
_MOST_CAP: Final = 1e12


def _unit(value: object) -> str:
    unit = require_line(_text(value))
    if len(unit) > _MOST_UNIT:
        raise BadValue(f"{shown(value)} is too long for a unit, at most {_MOST_UNIT} characters", hint="write EUR, say")
    return unit


def _cap(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongType("a number", value)
    if not 0 < value <= _MOST_CAP:
        raise BadValue(f"{shown(value)} is no cap: it must be more than 0 and at most {_MOST_CAP:g}")
    return float(value)


def _version(value: object) -> int:
    if value != CURRENT or isinstance(value, bool) or not isinstance(value, int):
        hint = f"write spec: {CURRENT}"
        if isinstance(value, int) and value > CURRENT:
            hint = "a newer abmail writes it: update this one"
        raise BadValue(f"{shown(value)} is no known version of the file format", hint=hint)
    return value


def _positive(value: object) -> float:
    share = parse_share(value)
    if share <= 0.0:
        raise BadValue(f"{shown(value)} must be more than 0")
    return share


def _below_one(value: object) -> float:
    share = parse_share(value)
    if share >= 1.0:
        raise BadValue(f"{shown(value)} must be less than 1: somebody has to get the mail")
    return share


def _open(value: object) -> float:
    share = parse_share(value)
    if not 0.0 < share < 1.0:
        raise BadValue(f"{shown(value)} must be in (0, 1)")
    return share


def require_name(text: str) -> str:
    """Return ``text`` when it can name an experiment: lower-case letters, digits and hyphens, at most 64.

    Raises:
        ValueError: It cannot; the hint proposes one.
    """
    if _NAME.fullmatch(text):
        return text
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64]
    message = f"{shown(text)} is not a name: lower-case letters a-z, digits and hyphens, at most 64"
    raise BadValue(message, hint=f"write {slug!r}" if slug else "write something like spring-webinar")


def _segment(value: object) -> Segment:
    if isinstance(value, Segment):
        return value
    if not isinstance(value, str):
        raise BadValue(f"{shown(value)} is not an expression", hint="write text, such as \"stage == 'warm'\"")
    return Segment.parse(value)


def _segment_text(segment: Segment) -> str:
    return segment.text


def _zone(value: object) -> str:
    return require_zone(_text(value))


def _local_zone(value: object) -> str:
    return value if value == "recipient" and isinstance(value, str) else _zone(value)


def _free_day(value: object) -> FreeDay:
    """A country by its two letters, a date, a date in a country, or a file of these."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if re.fullmatch("[A-Za-z]{2}", text):
        return text.upper()
    if text.endswith(_DAY_FILES):
        return PurePosixPath(require_path(text))
    day, _, country = text.partition(" ")
    with suppress(ValueError):
        if _DAY.fullmatch(day) and re.fullmatch("[A-Za-z]{2}|", country.strip()):
            found = date.fromisoformat(day)
            return CountryDay(found, country.strip().upper()) if country else found
    raise BadValue(
        f"{shown(value)} is neither a country nor a date",
        hint="write JP for its holidays, a day as 2026-12-29, or a file of days as closing-days.csv",
    )


def _moment(value: object) -> datetime:
    text = value.strip() if isinstance(value, str) else ""
    with suppress(ValueError):
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(text)
        if moment.tzinfo is None and (isinstance(value, datetime) or _MOMENT.fullmatch(text)):
            return moment.replace(second=0, microsecond=0)
    raise BadValue(
        f"{shown(value)} is not a date with a time of day",
        hint="write it by the clock of the recipients and without a zone, such as 2026-12-04 12:00",
    )


def _moment_text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _hour(value: object) -> int:
    """An hour of the day, by its beginning."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_HOUR:
        return value
    clock = parse_time(value)
    if clock.minute:
        raise BadValue(f"{shown(value)} is no whole hour", hint=f"write {clock.hour:02d}:00, the hour from then on")
    return clock.hour


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongType("true or false", value)
    return value


def _paths(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise WrongType("a list", value)
    problems: list[Refusal] = []
    paths = tuple(path for index, item in enumerate(value) for path in _item(_PATH, index, item, problems))
    problems += [((index,), BadValue("the file is in the list twice")) for index in _repeated(paths)]
    if problems:
        raise Refused(problems)
    return paths


def _repeated(items: tuple[str, ...]) -> list[int]:
    return [index for index, item in enumerate(items) if item in items[:index]]


def _names(literal: object, *, least: int) -> Kind[tuple[str, ...]]:
    """Make the kind of a list of fixed names whose order has no meaning: equal lists are equal values."""
    one = choice(literal)
    order: tuple[str, ...] = get_args(literal)

    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise WrongType("a list", value)
        if len(value) < least:
            raise BadValue("the list is empty", hint="leave the key out for all of them")
        problems: list[Refusal] = []
        names = [name for index, item in enumerate(value) for name in _item(one, index, item, problems)]
        twice = [name for name in order if names.count(name) > 1]
        if twice:
            problems.append(((), BadValue(f"{', '.join(twice)} more than once in the list")))
        if problems:
            raise Refused(problems)
        return tuple(sorted(names, key=order.index))

    schema = {
        "type": "array", "items": one.schema, "uniqueItems": True, "minItems": least, "examples": [list(order[:2])],
    }  # fmt: skip
    return Kind(read, schema, list)


def _features(value: object) -> FrozenDict[str, tuple[str, ...] | tuple[float, ...]]:
    if not isinstance(value, Mapping):
        raise WrongType("keys with values", value)
    if not value:
        raise BadValue("no attribute is named", hint="write {industry: [retail, health], days: [30, 90]}")
    problems: list[Refusal] = []
    read = {str(name): known for name, items in value.items() for known in _item(_FEATURE, str(name), items, problems)}
    if problems:
        raise Refused(problems)
    return FrozenDict(read)


def _feature(value: object) -> tuple[str, ...] | tuple[float, ...]:
    """Values of a category, or numbers that cut a scale into ranges."""
    if not isinstance(value, list | tuple):
        raise WrongType("a list", value)
    if value and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
        cuts = tuple(float(item) for item in value)
        if not all(math.isfinite(cut) for cut in cuts) or any(b <= a for a, b in pairwise(cuts)):
            raise BadValue("numbers must rise: each begins a range", hint="write [30, 90]")
        return cuts
    texts = tuple(_text(item) for item in value)
    if not texts or len({*texts, "other"}) <= len(texts) or any("|" in text or not text.strip() for text in texts):
        message = "values must be different texts, none of them 'other' or with a |; or numbers that rise"
        raise BadValue(message, hint="write [retail, health] or [30, 90]")
    return texts


def _attribute(value: object) -> str:
    name = _text(value).strip()
    if not name or not name.isprintable():
        raise BadValue(f"{shown(value)} names no attribute", hint="write the name of a column of the list")
    return name


def _item(kind: Kind[T], key: str | int, value: object, problems: list[Refusal]) -> tuple[T, ...]:
    try:
        return (kind.read(value),)
    except BadValue as problem:
        problems.append(((key,), problem))
        return ()


def _shares(known: tuple[str, ...] | None) -> Callable[[object], FrozenDict[str, float]]:
    """Read shares by name; any name where ``known`` is None."""

    def read(value: object) -> FrozenDict[str, float]:
        if not isinstance(value, Mapping):
            raise WrongType("keys with values", value)
        problems: list[Refusal] = []
        shares = {
            str(name): share for name, item in value.items() for share in _item(_SHARE, str(name), item, problems)
        }
        unknown = [str(name) for name in value if known is not None and name not in known]
        problems.extend(((name,), UnknownKey.among(name, known or ())) for name in unknown)
        if problems:
            raise Refused(problems)
        return FrozenDict(shares)

    return read


_LINE_PATTERN: Final = r"^\s*[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?\s*$"
_PATH_PATTERN: Final = r"^\s*(?![/~])(?!.*\\)(?!(.*/)?\.\.\s*(/|$))[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*\s*$"
_NONE_OR_ALL: Final = {"none": r"0+(\.0+)?", "all": r"100+(\.0+)?|0*100(\.0+)?"}  # per cent


def _share_schema(*, none: bool = True, everything: bool = True) -> dict[str, Any]:
    """Describe a share as a number or in per cent; whether nothing (0) and everything (1) are shares, too."""
    refused = [pattern for name, pattern in _NONE_OR_ALL.items() if not {"none": none, "all": everything}[name]]
    unless = rf"(?!\s*({'|'.join(refused)})\s*[%％])" if refused else ""
    number = {"minimum" if none else "exclusiveMinimum": 0, "maximum" if everything else "exclusiveMaximum": 1}
    hundred = r"(0*[0-9]{1,2}(\.[0-9]+)?|0*100(\.0+)?)"
    return {
        "anyOf": [
            {"type": "number", **number},
            {"type": "string", "pattern": rf"^{unless}\s*{hundred}\s*[%％]\s*$"},
        ],
        "examples": [0.05, "5 %"],
    }


_SHARE: Final = Kind(parse_share, _share_schema())
_DURATION: Final = Kind(
    parse_duration,
    {
        "type": "string",
        "pattern": rf"^\s*(?=[0-9])(?=[0-9wdhm]*[1-9]){''.join(f'([0-9]{{1,9}}{unit})?' for unit in 'wdhms')}\s*$",
        "examples": ["90s", "15m", "1h", "3d", "2w"],
    },
    format_duration,
)
_CLOCK_PATTERN: Final = "([01]?[0-9]|2[0-3]):[0-5][0-9]"
_CLOCK: Final = Kind(
    parse_time, {"type": "string", "pattern": rf"^\s*{_CLOCK_PATTERN}\s*$", "examples": ["09:30"]}, format_time
)
_WINDOW: Final = Kind(
    TimeWindow.parse,
    {
        "type": "string",
        "pattern": rf"^(?!\s*(\S+)\s*[-–]\s*\1\s*$)\s*{_CLOCK_PATTERN}\s*[-–]\s*({_CLOCK_PATTERN}|24:00)\s*$",
        "examples": ["08:00-20:00", "22:00-06:00"],
    },
    str,
)
_SEGMENT_EXAMPLE: Final = "stage in ['warm', 'hot'] and industry == 'manufacturing'"
LINE_SCHEMA: Final = {"type": "string", "pattern": _LINE_PATTERN}
_PATH: Final = Kind(
    _texts(require_path), {"type": "string", "pattern": _PATH_PATTERN, "examples": ["mails/webinar.html.j2"]}
)
_MAILBOX: Final = Kind(
    _texts(require_mailbox),
    {
        "type": "string",
        "pattern": rf"^\s*{MAILBOX.pattern}\s*$",
        "examples": ["Sales <news@example.com>", "news@example.com"],
    },
)

Version = Annotated[int, Kind(_version, {"const": CURRENT})]
Name = Annotated[
    str,
    Kind(_texts(require_name), {"type": "string", "pattern": f"^{_NAME.pattern}$", "examples": ["spring-webinar"]}),
]
Text = Annotated[
    str, Kind(_text, {"type": "string", "examples": ["A concrete number in the subject line raises clicks."]})
]
Line = Annotated[str, Kind(_texts(require_line), {**LINE_SCHEMA, "examples": ["Join our spring webinar"]})]
ProjectPath = Annotated[str, _PATH]
ProjectPaths = Annotated[
    tuple[str, ...], Kind(_paths, {"type": "array", "items": _PATH.schema, "examples": [["mails/plan.pdf"]]}, list)
]
Flag = Annotated[bool, Kind(_flag, {"type": "boolean"})]
Mailbox = Annotated[str, _MAILBOX]
Sender = Annotated[str, _MAILBOX, Key("from")]
Share = Annotated[float, _SHARE]
OpenShare = Annotated[float, Kind(_open, _share_schema(none=False, everything=False))]
PositiveShare = Annotated[float, Kind(_positive, _share_schema(none=False))]
Holdout = Annotated[float, Kind(_below_one, _share_schema(everything=False))]
Duration = Annotated[timedelta, _DURATION]
Clock = Annotated[time, _CLOCK]
Window = Annotated[TimeWindow, _WINDOW]
Expression = Annotated[Segment, Kind(_segment, {"type": "string", "examples": [_SEGMENT_EXAMPLE]}, _segment_text)]
Zone = Annotated[str, Kind(_zone, {"type": "string", "examples": ["Asia/Tokyo"]})]
LocalZone = Annotated[str, Kind(_local_zone, {"type": "string", "examples": ["recipient", "Asia/Tokyo"]})]
Days = Annotated[tuple[Weekday, ...], _names(Weekday, least=1)]
StopReasons = Annotated[tuple[StopReason, ...], _names(StopReason, least=0)]
Attribute = Annotated[str, Kind(_attribute, {"type": "string", "examples": ["industry", "domain"]})]
_FEATURE: Final = Kind(
    _feature,
    {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": ["string", "number"]}},
    list[str | float],
)
Features = Annotated[
    Mapping[str, tuple[str, ...] | tuple[float, ...]],
    Kind(
        _features,
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": _FEATURE.schema,
            "examples": [{"industry": ["retail", "health"], "days": [30, 90]}],
        },
        lambda features: {name: list(values) for name, values in features.items()},
    ),
]
_HOUR: Final = Kind(_hour, _CLOCK.schema, lambda hour: f"{hour:02d}:00")
_DAY_FILE: Final = rf"(?=.*\.(csv|txt)\s*$)(?:{_PATH_PATTERN[1:-1]})"
_FREE_DAY: Final = Kind(
    _free_day,
    {
        "type": "string",
        "pattern": rf"^\s*([A-Za-z]{{2}}|{_DAY.pattern}( +[A-Za-z]{{2}})?|{_DAY_FILE})\s*$",
        "examples": ["JP", "2026-12-29", "closing-days.csv"],
    },
    str,
)


def _listed(kind: Kind[T], hint: str) -> Kind[tuple[T, ...]]:
    """The kind of a list of different items."""
    items = {key: value for key, value in kind.schema.items() if key != "examples"}
    schema = {
        "type": "array", "items": items, "minItems": 1, "uniqueItems": True, "examples": [kind.schema["examples"]],
    }  # fmt: skip
    return Kind(lambda value: _read_list(value, kind, hint), schema, lambda items: [kind.write(item) for item in items])


Stretches = Annotated[tuple[TimeWindow, ...], _listed(_WINDOW, '["12:00-13:00"]')]
DayList = Annotated[tuple[FreeDay, ...], _listed(_FREE_DAY, "[JP, 2026-12-29]")]
Hours = Annotated[tuple[int, ...], _listed(_HOUR, '["09:00", "13:00", "18:00"]')]
LocalMoment = Annotated[
    datetime,
    Kind(
        _moment,
        {
            "type": "string",
            "pattern": rf"^\s*{_MOMENT.pattern}\s*$",
            "examples": ["2026-12-04 12:00"],
        },
        _moment_text,
    ),
]
Number = Annotated[int, _whole(1, 1_000_000_000)]
Waves = Annotated[int, _whole(2, 500)]
Seed = Annotated[int, _whole(0, 2**63 - 1)]
ValueUnit = Annotated[str, Kind(_unit, {"type": "string", "maxLength": _MOST_UNIT, "examples": ["EUR", "points"]})]
ValueCap = Annotated[
    float, Kind(_cap, {"type": "number", "exclusiveMinimum": 0, "maximum": _MOST_CAP, "examples": [500]})
]
Weights = Annotated[
    Mapping[str, float],
    Kind(
        _shares(None),
        {"type": "object", "additionalProperties": _SHARE.schema, "examples": [{"plain": 0.5, "number": 0.5}]},
        dict[str, float],
    ),
]
Guardrails = Annotated[
    Mapping[Guardrail, float],
    Kind(
        _shares(_GUARDRAILS),
        {
            "type": "object",
            "properties": {
                name: {"description": f"Highest accepted share of mails that are {name}.", **_SHARE.schema}
                for name in _GUARDRAILS
            },
            "additionalProperties": False,
            "examples": [{"unsubscribed": 0.005, "complained": 0.001, "bounced": 0.05}],
        },
        dict[str, float],
    ),
]
