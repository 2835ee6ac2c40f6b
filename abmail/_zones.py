"""In which zone somebody lives: from a column, from the country, or from the hours in which mail is opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._calendar import known_zone
from abmail._hazard import CELLS, N_CELLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from abmail._classes import Classes
    from abmail._memory import Memory

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Shifts", "ZoneGuess", "country_zones", "infer_shifts", "zone_of"]

_HOURS: Final = np.arange(-11, 13)
_AT_HOME: Final = 0.7
"""Prior share of people without a known zone who live in the sender's, where the caller knows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneGuess:
    """A zone, where it is from, and how sure it is.

    Attributes:
        zone: IANA name.
        source: ``column``, ``country`` or ``default``.
        confidence: Fraction in (0, 1]: 1 for a named zone; 1 in the number of its zones for a country; 0.5 for the
            default.
    """

    zone: str
    source: str
    confidence: float


@cache
def _by_country() -> Mapping[str, tuple[str, ...]]:
    """Zones of each country by ISO 3166 code, from the list that comes with the time zone database."""
    table = resources.files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if line and not line.startswith("#"):
            code, _, zone = line.split("\t")[:3]
            found.setdefault(code, []).append(zone)
    return {code: tuple(zones) for code, zones in found.items()}


def country_zones(code: str) -> tuple[str, ...]:
    """Zones of a country, the most populous usually first; empty for an unknown country.

    Args:
        code: Two letters, ISO 3166-1, in any case.

    >>> country_zones("jp")
    ('Asia/Tokyo',)
    """
    return _by_country().get(code.strip().upper(), ())


def zone_of(zone: str | None, country: str | None, default: str) -> ZoneGuess:
    """The best guess of somebody's zone.

    Args:
        zone: IANA name from a column; what is none is passed over.
        country: Two-letter code.
        default: The sender's zone.

    >>> zone_of(None, "IN", "Europe/Berlin").zone
    'Asia/Kolkata'
    """
    if zone and known_zone(zone.strip()):
        return ZoneGuess(zone=zone.strip(), source="column", confidence=1.0)
    if country and (zones := country_zones(country)):
        return ZoneGuess(zone=zones[0], source="country", confidence=1 / len(zones))
    return ZoneGuess(zone=default, source="default", confidence=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """How far the clocks of n people seem to be ahead of the one in which their mails were counted.

    Attributes:
        hours: (n,) the likeliest shift.
        probability: (n,) how likely it is, fraction in [0, 1].
        posterior: (n, k) of every candidate.
        candidates: (k,) hours.
    """

    hours: Integers
    probability: Floats
    posterior: Floats
    candidates: Integers


def infer_shifts(
    memory: Memory, classes: Classes, *, hours: Sequence[int] | None = None, prior: Sequence[float] | None = None
) -> Shifts:
    """Tell zones from the hours of opening: people of each class, only with other clocks.

    Somebody who opens at night by the sender's clock is a night owl or lives elsewhere. The posterior weighs the two by
    how common they are; with few opens it stays near the prior.

    Args:
        memory: What is remembered of n people, counted by the sender's clock.
        classes: Habits by people's own clocks, as a model has them that was fitted where zones are known.
        hours: Candidates; -11 to 12 when None.
        prior: Share of each; 0.7 for no shift and the rest evenly when None.
    """
    candidates = _HOURS if hours is None else np.asarray(hours, dtype=np.int64)
    shares = _prior(candidates, prior)
    by_cell = classes.shapes @ CELLS / CELLS.sum(axis=0)
    own = (np.arange(N_CELLS) % 24 + candidates[:, np.newaxis]) % 24 + 24 * (np.arange(N_CELLS) >= 24)
    turned = by_cell[:, own]  # (K, k, 48): activity by the sender's clock, for each candidate
    opens, exposure = (x.astype(np.float64) for x in memory.unpacked())
    n, flat = memory.opens.astype(np.float64), turned.reshape(-1, N_CELLS)
    logs = opens @ np.log(flat).T - (classes.alpha + n)[:, np.newaxis] * np.log(classes.beta + exposure @ flat.T)
    logs = logs.reshape(len(n), len(by_cell), len(candidates))
    logs += np.log(classes.shares.mean(axis=0))[:, np.newaxis] + np.log(shares)
    top = logs.max(axis=(1, 2), keepdims=True)
    posterior = np.exp(logs - top).sum(axis=1)
    posterior /= posterior.sum(axis=1, keepdims=True)
    best = posterior.argmax(axis=1)
    return Shifts(
        hours=candidates[best], probability=posterior[np.arange(len(n)), best], posterior=posterior,
        candidates=candidates,
    )  # fmt: skip


def _prior(candidates: Integers, prior: Sequence[float] | None) -> Floats:
    if prior is None:
        home = candidates == 0
        shares = np.where(home, _AT_HOME, (1 - _AT_HOME) / max(int((~home).sum()), 1))
    else:
        shares = np.asarray(prior, dtype=np.float64)
        if shares.shape != candidates.shape or not (shares > 0).all():
            raise ValueError(f"prior is {prior!r}, must be one share above 0 for each of {len(candidates)} candidates")
    return np.asarray(shares / shares.sum())
