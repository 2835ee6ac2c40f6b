"""Times as the exports of providers write them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from abmail._calendar import to_utc

__all__ = ["DATE", "WrittenTimes"]

_MOST_KNOWN: Final = 100_000
DATE: Final = re.compile(
    r"""(?:(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})|(?P<a>\d{1,2})(?P<mark>[/.-])(?P<b>\d{1,2})[/.-](?P<y>\d{4}))
    (?:[T\s,]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?
    \s*(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2})?""",
    re.VERBOSE,
)
"""A date, with or without a time of the day."""
_EPOCH: Final = re.compile(r"\d{10}(?:\.\d+)?|\d{13}")


@dataclass(slots=True)
class WrittenTimes:
    """Texts to seconds since the epoch; a text that comes again is not read again.

    ISO 8601, ``2026/03/01 9:00``, ``01.03.2026 09:00``, ``3/1/2026 9:00 AM``, or seconds or milliseconds since the
    epoch.

    Attributes:
        clock: IANA name of the zone in which times without an offset were written.
        day_first: Whether 03/04/2026 is the third of April; None where nobody knows.
        known: What was read before.
    """

    clock: str
    day_first: bool | None
    known: dict[str, float] = field(default_factory=dict)

    def read(self, text: str) -> float:
        """Seconds; raises ValueError with the reason."""
        if text not in self.known:
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[text] = self._parsed(text)
        return self.known[text]

    def _parsed(self, text: str) -> float:
        if _EPOCH.fullmatch(text):
            return float(text) / (1000 if len(text) == 13 and text.isdigit() else 1)
        match = DATE.fullmatch(text)
        if match is None:
            raise ValueError("is no time; write it as 2026-03-01 09:00")
        hour = int(match["hour"] or 0)
        if match["half"]:
            if not 1 <= hour <= 12:
                raise ValueError("has no hour from 1 to 12 before AM or PM")
            hour = hour % 12 + 12 * (match["half"][0] in "Pp")
        if hour == 24:
            raise ValueError("says 24:00, which some exports mean as the beginning and some as the end of the day")
        year, month, day = self._date(match)
        moment = datetime(year, month, day, hour, int(match["minute"] or 0), int(match["second"] or 0), tzinfo=UTC)
        wall = int(moment.timestamp())
        if offset := match["offset"]:
            return float(wall - _offset(offset))
        return float(to_utc(self.clock, [wall])[0])

    def _date(self, match: re.Match[str]) -> tuple[int, int, int]:
        if match["year"]:
            return int(match["year"]), int(match["month"]), int(match["day"])
        day, month = int(match["a"]), int(match["b"])
        if match["mark"] == "/" and self.day_first is None:
            raise ValueError("can be read in two ways: day first or month first")
        if match["mark"] == "/" and not self.day_first:
            day, month = month, day
        return int(match["y"]), month, day


def _offset(text: str) -> int:
    if text in {"Z", "UTC", "GMT"}:
        return 0
    digits = text[1:].replace(":", "")
    return (1 if text[0] == "+" else -1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
