"""Filters of mail templates for dates, numbers and names, in the language of the mail."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from jinja2 import pass_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2.runtime import Context

__all__ = ["FILTERS"]

_DAYS: Final = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "ja": "月火水木金土日",
}
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_ERAS: Final = ((date(2019, 5, 1), "令和"), (date(1989, 1, 8), "平成"), (date(1926, 12, 25), "昭和"))
_TITLED: Final = re.compile(r"(?:様|さま|さん|殿|御中|先生|各位)\s*\Z")
_DATE: Final = re.compile(r"\s*(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?(?:[T ](\d{1,2}):(\d{2}).*)?\s*", re.DOTALL)
_NUMBER: Final = re.compile(r"\s*[-+]?\d+(?:\.\d+)?\s*")


@pass_context
def _date(context: Context, value: object, weekday: bool = False, era: bool = False, language: str = "") -> str:
    """A date as people write it: `27 November 2026`, `2026年11月27日(金)` with ``weekday``, `令和8年…` with ``era``."""
    day = _day(value)
    if _language(context, language) == "ja":
        name = f"({_DAYS['ja'][day.weekday()]})" if weekday else ""
        return f"{_japanese_year(day) if era else day.year}年{day.month}月{day.day}日{name}"
    written = f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
    return f"{_DAYS['en'][day.weekday()]}, {written}" if weekday else written


@pass_context
def _short_date(context: Context, value: object, weekday: bool = False, language: str = "") -> str:
    """A date without its year: `27 November`, `11月27日(金)`."""
    day = _day(value)
    if _language(context, language) == "ja":
        return f"{day.month}月{day.day}日" + (f"({_DAYS['ja'][day.weekday()]})" if weekday else "")
    written = f"{day.day} {_MONTHS[day.month - 1]}"
    return f"{_DAYS['en'][day.weekday()]}, {written}" if weekday else written


@pass_context
def _time(context: Context, value: object, language: str = "") -> str:
    """The time of day of a date with time: `09:30`, `9時30分`."""
    at = _day(value)
    if not isinstance(at, datetime):
        raise ValueError(f"{_shown(value)} has no time of day")  # noqa: TRY004  (it is a value in somebody's list)
    if _language(context, language) == "ja":
        return f"{at.hour}時" + (f"{at.minute:02d}分" if at.minute else "")
    return f"{at:%H:%M}"


@pass_context
def _honorific(context: Context, name: object, title: str = "", missing: str = "", language: str = "") -> str:
    """A name as it is addressed: `山田 様` in Japanese, `Ann` in English.

    A name that carries its title keeps it. ``missing`` stands where there is no name.
    """
    written = str(name).strip()
    if not written:
        return missing
    if _language(context, language) == "ja":
        title = title or "様"
        if _TITLED.search(written):
            return written
        return f"{written}{title}" if title == "さん" else f"{written} {title}"
    return f"{title} {written}" if title else written


@pass_context
def _family_name(context: Context, name: object, language: str = "") -> str:
    """The family name of a full name: its first word in Japanese, its last in English."""
    words = str(name).split()
    return (words[0] if _language(context, language) == "ja" else words[-1]) if words else ""


@pass_context
def _given_name(context: Context, name: object, language: str = "") -> str:
    """The given name of a full name: its last word in Japanese, its first in English."""
    words = str(name).split()
    return (words[-1] if _language(context, language) == "ja" else words[0]) if words else ""


def _number(value: object, digits: int = 0) -> str:
    """A number with its thousands apart: `1,234,567`."""
    text = str(value).replace(",", "")
    if not _NUMBER.fullmatch(text) or not 0 <= digits <= 12:
        raise ValueError(f"{_shown(value)} is no number")
    digits = digits or len(text.strip().partition(".")[2])
    return f"{float(text):,.{digits}f}" if digits else f"{int(text):,}"


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "date": _date,
    "short_date": _short_date,
    "time": _time,
    "honorific": _honorific,
    "family_name": _family_name,
    "given_name": _given_name,
    "number": _number,
}
"""Name in templates -> filter."""


def _language(context: Context, language: str) -> str:
    return language or str(context.get("language", "en"))


def _day(value: object) -> date:
    if isinstance(value, date):
        return value
    found = _DATE.fullmatch(str(value))
    try:
        if found:
            year, month, day, hour, minute = found.groups()
            if hour is None:
                return date(int(year), int(month), int(day))
            return datetime(int(year), int(month), int(day), int(hour), int(minute))  # noqa: DTZ001  (as it is written)
    except ValueError as error:
        raise ValueError(f"{_shown(value)} is no date: {error}") from error
    raise ValueError(f"{_shown(value)} is no date such as 2026-11-27")


def _japanese_year(day: date) -> str:
    for begin, name in _ERAS:
        if date(day.year, day.month, day.day) >= begin:
            year = day.year - begin.year + 1
            return f"{name}{'元' if year == 1 else year}"
    return str(day.year)


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
