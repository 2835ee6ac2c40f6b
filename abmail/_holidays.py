"""Public holidays of countries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abmail.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

__all__ = ["public_holidays"]


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
