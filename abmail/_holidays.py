"""Days on which nothing goes out: public holidays of countries, and a list of one's own."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from abmail.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["public_holidays", "read_holidays"]

_LINE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\s*[,;\t]\s*([A-Za-z]{2})?)?(?:\s*[,;\t].*)?")


def public_holidays(country: str, years: Iterable[int]) -> frozenset[date]:
    """Public holidays of a country, from the package `holidays`.

    Args:
        country: Two letters, ISO 3166-1, in any case.
        years: Calendar years.

    Raises:
        MissingExtra: The package is not installed.
        ValueError: It does not know the country.
    """
    try:
        import holidays
    except ImportError as error:
        raise MissingExtra("public holidays", "holidays") from error
    try:
        found = holidays.country_holidays(country.strip().upper(), years=list(years))
    except NotImplementedError:
        message = f"no holidays are known for the country {country!r}; give its ISO 3166 code, or a list of your own"
        raise ValueError(message) from None
    return frozenset(found)


def read_holidays(source: Path | str) -> tuple[dict[str, frozenset[date]], tuple[tuple[int, str], ...]]:
    """Read days on which nothing goes out: one a line, as ``2026-12-29`` or ``2026-12-29, JP``, and a name behind it.

    Blank lines and lines that start with ``#`` are skipped. A day without a country counts for everybody.

    Args:
        source: A path, or the text itself.

    Returns:
        Dates by country, "" for everybody, as `Rules` takes them; and (line, message) for each line that is no date.

    >>> read_holidays("2026-12-29, JP, winter closing")[0]["JP"]
    frozenset({datetime.date(2026, 12, 29)})
    """
    text = source.read_text(encoding="utf-8-sig") if isinstance(source, Path) else source
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
