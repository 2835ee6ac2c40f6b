"""Typed values of a definition file: durations, clock times, windows of the day, shares and time zones.

Each value has one text form and comes back from it unchanged. A text that cannot be read raises `BadValue`, whose
message holds the value and whose ``hint`` says what to write instead.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import time, timedelta
from typing import Final, NoReturn, TypeVar

__all__ = [
    "MAILBOX",
    "BadValue",
    "FrozenDict",
    "TimeWindow",
    "format_duration",
    "format_time",
    "nearest",
    "parse_duration",
    "parse_share",
    "parse_time",
    "require_line",
    "require_mailbox",
    "require_path",
    "require_text",
    "require_zone",
    "shortened",
    "shown",
]

K = TypeVar("K")
V = TypeVar("V")

_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION: Final = re.compile(
    r"(?:([0-9]{1,9})w)?(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?"
)
_LONGEST: Final = timedelta(days=3_660)
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_SHARE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*[%％]")
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*")
MAILBOX: Final = re.compile(r'(?:[^<>]*<[^<>@\s",;]+@[^<>@\s",;]+>|[^<>@\s",;]+@[^<>@\s",;]+)')
_NOT_IN_A_LINE: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})
_MACHINE_ZONES: Final = ("posix/", "right/", "localtime", "posixrules", "Factory")


class BadValue(ValueError):
    """A value of a definition that cannot be used.

    Attributes:
        hint: What to write instead, one clause; empty where nothing can be advised.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def shown(value: object) -> str:
    """Quote a value for a message: short, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else shortened(repr(value))


def shortened(text: str) -> str:
    """Cut a text to what a message can bear."""
    return text if len(text) <= 60 else f"{text[:59]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """Find the known name most like ``name``, in any case; empty when none is near."""
    import difflib  # costs 15 ms, needed only where something is wrong

    folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name[:80].casefold(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else ""


def parse_duration(value: object) -> timedelta:
    """Read a duration such as ``90s``, ``15m``, ``1h30m``, ``3d`` or ``2w``.

    Raises:
        BadValue: No unit, an unknown unit, zero, or longer than ten years.
    """
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, str) and value and (match := _DURATION.fullmatch(value.strip())):
        duration = timedelta(
            seconds=sum(int(n or 0) * s for n, s in zip(match.groups(), _SECONDS.values(), strict=True))
        )
    else:
        raise BadValue(f"{shown(value)} is not a duration", hint=_duration_hint(value))
    if not timedelta(0) < duration <= _LONGEST or duration.microseconds:
        raise BadValue(f"{shown(value)} must be whole seconds, more than zero and at most 3660d")
    return duration


def _duration_hint(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"add a unit: {value}s, {value}m, {value}h, {value}d or {value}w"
    return "write a number with its unit, such as 90s, 15m, 1h30m, 3d or 2w"


def format_duration(value: timedelta) -> str:
    """Write a duration in its largest exact unit: ``timedelta(hours=72)`` -> ``3d``."""
    seconds = int(value.total_seconds())
    for unit in "dhm":
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def parse_time(value: object) -> time:
    """Read a clock time such as ``8:30`` or ``20:00``.

    Raises:
        BadValue: Not HH:MM on a 24-hour clock.
    """
    if isinstance(value, time):
        return value
    if isinstance(value, str) and (match := _TIME.fullmatch(value.strip())):
        hour, minute = int(match[1]), int(match[2])
        if hour <= 23 and minute <= 59:
            return time(hour, minute)
    raise BadValue(
        f"{shown(value)} is not a time of day", hint="write hours and minutes on a 24-hour clock, such as 09:30"
    )


def format_time(value: time) -> str:
    """Write a clock time as ``HH:MM``."""
    return value.isoformat("minutes")


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The part of the day from ``start`` (included) to ``end`` (excluded), in some local zone; may pass midnight.

    Attributes:
        start: First minute inside.
        end: First minute outside; 00:00 is the end of the day.
    """

    start: time
    end: time

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise BadValue(f"the window {self} is empty", hint="leave it out for the whole day")

    def __str__(self) -> str:
        return f"{format_time(self.start)}-{format_time(self.end)}"

    def __contains__(self, moment: time) -> bool:
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end

    @property
    def wraps(self) -> bool:
        """Whether the window passes midnight."""
        return time(0) < self.end < self.start

    @property
    def length(self) -> timedelta:
        """Time from start to end, more than zero and less than a day."""
        minutes = (self.end.hour - self.start.hour) * 60 + self.end.minute - self.start.minute
        return timedelta(minutes=minutes % 1440)

    @classmethod
    def parse(cls, value: object) -> TimeWindow:
        """Read ``08:00-20:00``; ``22:00-06:00`` passes midnight, ``24:00`` is the end of the day.

        Raises:
            BadValue: Not two times with a hyphen between, or empty.
        """
        if isinstance(value, TimeWindow):
            return value
        start, hyphen, end = value.replace("–", "-").partition("-") if isinstance(value, str) else ("", "", "")
        if not hyphen:
            raise BadValue(f"{shown(value)} is not a window of the day", hint="write two times, such as 08:00-20:00")
        return cls(parse_time(start), time(0) if end.strip() == "24:00" else parse_time(end))


def parse_share(value: object) -> float:
    """Read a fraction in [0, 1], written as ``0.4`` or ``40 %``.

    Raises:
        BadValue: Not a number, or outside [0, 1].
    """
    if isinstance(value, str) and (match := _SHARE.fullmatch(value.strip())):
        share = float(f"{match[1]}e-2")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        share = float(value) if abs(value) < 1e300 else math.inf
    else:
        raise BadValue(f"{shown(value)} is not a share", hint="write a fraction such as 0.05, or 5 %")
    if not 0.0 <= share <= 1.0:
        percent = isinstance(value, int | float) and 1.0 < share <= 100.0
        hint = f"write {share:g} % or {share / 100:g}" if percent else ""
        raise BadValue(f"{shown(value)} is not a share in [0, 1]", hint=hint)
    return share


def require_zone(name: str) -> str:
    """Return ``name`` when it is a zone of the IANA database.

    Raises:
        BadValue: No such zone; the hint names the nearest.
    """
    if name == "UTC" or (_ZONE.fullmatch(name) and not name.startswith(_MACHINE_ZONES) and _loads(name)):
        return name
    raise BadValue(f"no time zone {shown(name)}", hint=_zone_hint(name))


def _loads(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found; a malformed key; a folder of zones such as "Europe"
        return False
    return True


def _zone_hint(name: str) -> str:
    from zoneinfo import available_timezones  # reads hundreds of files: only for a wrong name

    abbreviation = name.isupper() and len(name) <= 5
    near = "" if abbreviation else nearest(name, available_timezones())
    return f"did you mean {near!r}?" if near else "write an IANA name such as Asia/Tokyo, Europe/Berlin or UTC"


class FrozenDict(dict[K, V]):
    """A dict that refuses to change, can be hashed and pickled, and keeps its order."""

    __slots__ = ()

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("a definition is frozen: make a changed copy of the experiment instead")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # dict says that it has none
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenDict[K, V]], tuple[dict[K, V]]]:
        return type(self), (dict(self),)


def require_line(text: str) -> str:
    """Return ``text`` without the space around it when it is one line of visible text.

    Raises:
        BadValue: Empty, or with a line break or control character (which could forge a mail header).
    """
    line = text.strip()
    if not line:
        raise BadValue("the text is empty")
    if not line.isprintable() and any(unicodedata.category(char) in _NOT_IN_A_LINE for char in line):
        raise BadValue(f"{shown(text)} has a line break or control character", hint="write it on one line")
    return line


def require_text(text: str) -> str:
    """Return ``text`` when it holds nothing but visible text, tabs and line ends.

    Raises:
        BadValue: Empty, or with a control character.
    """
    if not text.strip():
        raise BadValue("the text is empty")
    if not text.isprintable() and any(
        unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\r\n" for char in text
    ):
        raise BadValue(f"{shown(text)} has a control character", hint="write visible text alone")
    return text


def require_path(text: str) -> str:
    """Return ``text`` when it is a relative path that stays inside the project folder.

    Raises:
        BadValue: Empty, absolute, or with ``..``.
    """
    path = require_line(text)
    if path.startswith(("/", "~")) or "\\" in path or ".." in path.split("/"):
        raise BadValue(
            f"{shown(path)} is not a path inside the project", hint="write it from the project folder: mails/x.html.j2"
        )
    return path


def require_mailbox(text: str) -> str:
    """Return ``text`` when it looks like ``Name <news@example.com>`` or ``news@example.com``.

    Raises:
        BadValue: Another form, several addresses, or a line break.
    """
    mailbox = require_line(text)
    if not MAILBOX.fullmatch(mailbox):
        raise BadValue(
            f"{shown(text)} is not a mail address", hint='write "Name <news@example.com>" or news@example.com'
        )
    return mailbox
