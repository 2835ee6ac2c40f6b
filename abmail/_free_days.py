"""Days without mail: dates, dates in one country, and files of such dates."""

from __future__ import annotations

import os.path
import re
import stat
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from abmail._values import BadValue, shown

__all__ = ["CountryDay", "days_of_file", "read_holidays"]

_LINE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\s*[,;\t]\s*([A-Za-z]{2})?)?(?:\s*[,;\t].*)?")
_MOST_BYTES: Final = 1_000_000
_MOST_TOLD: Final = 3  # lines that are no dates


class CountryDay(NamedTuple):
    """A day without mail for the people of one country.

    Attributes:
        day: The date.
        country: Two capital letters, ISO 3166-1.
    """

    day: date
    country: str

    def __str__(self) -> str:
        return f"{self.day} {self.country}"


def read_holidays(source: Path | str) -> tuple[dict[str, frozenset[date]], tuple[tuple[int, str], ...]]:
    """Read days on which nothing goes out: one a line, as ``2026-12-29`` or ``2026-12-29, JP``, and a name behind it.

    Blank lines and lines that start with ``#`` are skipped. A day without a country counts for everybody. Names may
    be written in any encoding: they are not read.

    Args:
        source: A path, or the text itself.

    Returns:
        Dates by country, "" for everybody, as `Rules` takes them; and (line, message) for each line that is no date.

    >>> read_holidays("2026-12-29, JP, winter closing")[0]["JP"]
    frozenset({datetime.date(2026, 12, 29)})
    """
    text = source.read_bytes().decode("utf-8-sig", "replace") if isinstance(source, Path) else source
    found: dict[str, set[date]] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not (wanted := line.strip()) or wanted.startswith("#"):
            continue
        match = _LINE.fullmatch(wanted)
        try:
            day = date.fromisoformat(match[1]) if match else None
        except ValueError:
            day = None
        if match is None or day is None:
            problems.append((number, f"{wanted[:40]!r} is no date; write it as 2026-12-29, or 2026-12-29, JP"))
            continue
        found.setdefault((match[2] or "").upper(), set()).add(day)
    return {country: frozenset(days) for country, days in found.items()}, tuple(problems)


def days_of_file(folder: Path, name: str) -> tuple[date | CountryDay, ...]:
    """The days that a file lists, see `read_holidays`, in their order.

    Args:
        folder: Of the project.
        name: Path of the file inside it.

    Raises:
        BadValue: It lies elsewhere by a link, cannot be read, lists nothing, or has lines that are no dates.
    """
    root = Path(os.path.realpath(folder))
    file = Path(os.path.realpath(root / name))
    if not file.is_relative_to(root):
        raise BadValue(f"the file {shown(name)} lies outside the project folder", hint="put the days themselves there")
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
            raise BadValue(f"{shown(name)} is not a file", hint="name a file with one date a line")
        if status.st_size > _MOST_BYTES:
            raise BadValue(f"the file {shown(name)} has more than {_MOST_BYTES:,} bytes", hint="list the days alone")
        by_country, problems = read_holidays(file)
    except OSError as error:
        hint = "write its path from the project folder"
        raise BadValue(f"the file {shown(name)} cannot be read: {error.strerror}", hint=hint) from error
    if problems:
        told = "; ".join(f"line {number}: {problem}" for number, problem in problems[:_MOST_TOLD])
        more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
        raise BadValue(f"the file {shown(name)} cannot be used: {told}{more}", hint="one date a line")
    if not by_country:
        raise BadValue(f"the file {shown(name)} lists no day", hint="write one date a line, or leave the file out")
    everybody = sorted(by_country.pop("", ()))
    return (
        *everybody,
        *(CountryDay(day, country) for country in sorted(by_country) for day in sorted(by_country[country])),
    )
