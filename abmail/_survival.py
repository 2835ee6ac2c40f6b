"""How soon an arm is opened: the share of mails opened by each age, from mails of any age.

A mail that nobody has opened yet has been followed up to its age and no further: right-censored. The estimate is that
of Kaplan & Meier (1958) with pointwise log-log bands (the exponential Greenwood formula; Kalbfleisch & Prentice 2002,
ch. 1.4), both by scipy.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from abmail._boundary import check_alpha

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["EventCurve", "time_to_event"]

_MOST: Final = 50_000_000  # mails of one curve: each has its own entry in memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventCurve:
    """Share of mails with the event by each time since the send; a step up at every time, flat between.

    Attributes:
        times: Times at which events were seen, rising, (n_times,) seconds.
        share: Cumulative share by that time, (n_times,) fractions in [0, 1].
        lower: Lower ends of the pointwise bands.
        upper: Upper ends of the pointwise bands. They hold for each time by itself, not for the whole curve at once.
        at_risk: Mails that were still followed and without the event just before each time, (n_times,).
        n: Mails.
        events: Mails with the event.
        followed: Longest time that any mail was followed, seconds; the curve says nothing beyond.
        alpha: Level of the bands: each covers with probability ``1 - alpha``.
    """

    times: Floats
    share: Floats
    lower: Floats
    upper: Floats
    at_risk: Integers
    n: int
    events: int
    followed: float
    alpha: float

    @property
    def median(self) -> float | None:
        """Seconds until half of all mails have the event; None while (or where) fewer than half do."""
        return self.time_to(0.5)

    def time_to(self, share: float) -> float | None:
        """Seconds until a share of all mails has the event, None where the curve does not get there.

        Args:
            share: Fraction in (0, 1].

        Raises:
            ValueError: The share is out of range.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share is {share:g}, must be in (0, 1]")
        reached = self.share >= share - 1e-12
        return float(self.times[np.argmax(reached)]) if reached.any() else None

    def at(self, time: float) -> tuple[float, float | None, float | None] | None:
        """Share by a time with its band; None beyond the time that any mail was followed.

        Args:
            time: Seconds since the send, >= 0.

        Returns:
            Share, lower and upper end; before the first event the share is 0, and there is no band.

        Raises:
            ValueError: The time is negative or not a number.
        """
        if not time >= 0:
            raise ValueError(f"time is {time:g} seconds, must not be negative")
        if time > self.followed:
            return None
        step = int(np.searchsorted(self.times, time, side="right")) - 1
        if step < 0:
            return 0.0, None, None
        return float(self.share[step]), float(self.lower[step]), float(self.upper[step])

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "times": self.times.tolist(),
            "share": self.share.tolist(),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "at_risk": self.at_risk.tolist(),
            "n": self.n,
            "events": self.events,
            "followed": self.followed,
            "median": self.median,
            "alpha": self.alpha,
        }


def time_to_event(
    delays: ArrayLike, ages: ArrayLike, *, counts: ArrayLike | None = None, alpha: float = 0.05
) -> EventCurve:
    """Estimate the curve of one arm from mails of any age.

    Unlike a `DelayCurve`, which is about those mails that are opened at all, this is about all mails: the curve ends at
    the share that opens. Compare the curves of arms by eye only, or for mails of the same epochs: a bandit sends its
    arms at different hours.

    Args:
        delays: (n,) seconds from the send to the first event, NaN where none has come; or the time of the bin that the
            delay fell into.
        ages: (n,) seconds that the mail has been followed since the send; at least the delay.
        counts: (n,) how many mails each entry stands for, whole numbers; 1 by default.
        alpha: Level of the bands, fraction in (0, 1).

    Raises:
        ValueError: Shapes differ, or a number is negative or not finite, or an age is below its delay.

    Example:
        >>> hour = 3600.0
        >>> curve = time_to_event([hour, 2 * hour, float("nan")], [4 * hour, 4 * hour, 4 * hour], counts=[30, 20, 50])
        >>> curve.share.round(2).tolist(), curve.median
        ([0.3, 0.5], 7200.0)
    """
    delay, age, n = _checked(delays, ages, counts)
    came = ~np.isnan(delay)
    left = np.where(came, delay, age)
    times = np.unique(delay[came & (n > 0)])
    share, lower, upper = _kaplan_meier(np.repeat(delay[came], n[came]), np.repeat(age[~came], n[~came]), times, alpha)
    order = np.argsort(left, kind="stable")
    gone = np.concatenate(([0], n[order].cumsum()))
    return EventCurve(
        times=times,
        share=share,
        lower=lower,
        upper=upper,
        at_risk=int(n.sum()) - gone[np.searchsorted(left[order], times, side="left")],
        n=int(n.sum()),
        events=int(n[came].sum()),
        followed=float(age[n > 0].max(initial=0.0)),
        alpha=check_alpha(alpha),
    )


def _kaplan_meier(seen: Floats, censored: Floats, times: Floats, alpha: float) -> tuple[Floats, Floats, Floats]:
    """Cumulative share at the times of events with its log-log band, by scipy."""
    if not len(times):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    from scipy.stats import CensoredData, ecdf

    curve = ecdf(CensoredData(uncensored=seen, right=censored)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no band at a share of 0 or 1: settled below
        band: Any = curve.confidence_interval(1 - check_alpha(alpha), method="log-log")
    places = np.searchsorted(curve.quantiles, times)
    share, lower, upper = (1 - part.probabilities[places] for part in (curve, band.high, band.low))
    everybody = np.isnan(lower)  # the last mail followed has the event: the formula has no answer, the step before has
    before = np.concatenate(([0.0], lower))[np.arange(len(times))]
    return share, np.where(everybody, before, lower), np.where(everybody, 1.0, upper)


def _checked(delays: ArrayLike, ages: ArrayLike, counts: ArrayLike | None) -> tuple[Floats, Floats, Integers]:
    delay, age = np.asarray(delays, dtype=np.float64), np.asarray(ages, dtype=np.float64)
    numbers = np.ones(delay.shape) if counts is None else np.asarray(counts, dtype=np.float64)
    if delay.ndim != 1 or delay.shape != age.shape or delay.shape != numbers.shape:
        raise ValueError(f"delays, ages and counts have shapes {delay.shape}, {age.shape} and {numbers.shape}")
    _refuse(~(np.isfinite(age) & (age >= 0)), age, "ages", "must be seconds, 0 or more")
    _refuse(~(np.isnan(delay) | (delay >= 0)) | np.isinf(delay), delay, "delays", "must be seconds, 0 or more, or NaN")
    _refuse(delay > age, delay, "delays", "must not be more than the age of the mail")
    whole = (numbers >= 0) & (numbers <= _MOST) & (numbers == np.floor(numbers))
    _refuse(~whole, numbers, "counts", f"must be a whole number from 0 to {_MOST:,}")
    if numbers.sum() > _MOST:
        raise ValueError(f"counts sum to {numbers.sum():,.0f} mails, must be at most {_MOST:,}: take a random sample")
    return delay, age, numbers.astype(np.int64)


def _refuse(wrong: NDArray[np.bool_], array: Floats, name: str, rule: str) -> None:
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(f"{name}[{place}] is {array[place]:g}: {rule}")
