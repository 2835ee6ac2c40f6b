"""When a promise counts as broken: only where chance could hardly have done it."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import bdtrc

ALPHA = 0.05
_CHANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Promise:
    """Something that must hold.

    Attributes:
        text: What was promised, and where.
        kept: Whether it was.
        figure: What was measured.
    """

    text: str
    kept: bool
    figure: float


def at_most(text: str, errors: int, replications: int, alpha: float = ALPHA) -> Promise:
    """The promise of an error rate of at most ``alpha``."""
    return Promise(text, errors <= most(replications, alpha), percent(errors, replications))


def most(replications: int, alpha: float = ALPHA) -> int:
    """The number of errors that an error rate of ``alpha`` exceeds with a chance under 1e-6."""
    errors = int(alpha * replications)
    while bdtrc(errors, replications, alpha) > _CHANCE:
        errors += 1
    return errors


def percent(count: int, replications: int) -> float:
    """Share of the replications in percent."""
    return 100 * count / replications
