"""Hours of the day as arms: what a test of send times has seen, and the shares that follow from it.

An evening mail is read the next morning, so each hour has a delay curve of its own, shrunk to the common one by the
evidence: as for variants that are answered at different speeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abmail._evidence import Evidence
from abmail.bandit import DelayCurve, Thompson, weights_over
from abmail.sendtime import Rules
from abmail.spec import SendTimes
from abmail.stats import Counts
from abmail.store import BIN_SECONDS, SlotMail

__all__ = ["compared_hours", "slot_weights"]

_TOGETHER: Final = 0.4  # of the mails goes evenly to all hours, for good


def compared_hours(settings: SendTimes) -> tuple[int, ...]:
    """The hours of the day that are compared, ascending: those that are named, or every one that is allowed."""
    if settings.slots is not None:
        return tuple(sorted(settings.slots))
    between = None if settings.between is None else (settings.between.start, settings.between.end)
    own, over = Rules(between=between, quiet=tuple((q.start, q.end) for q in settings.quiet or ())).minutes()
    return tuple(int(hour) for hour in np.flatnonzero((own | over).reshape(24, 60).any(axis=1)))


def slot_weights(mails: Iterable[SlotMail], evidence: Evidence, hours: Sequence[int]) -> dict[int, float]:
    """The share of each hour in the next release.

    Args:
        mails: Of this experiment, that were sent at hours of their own.
        evidence: What is known of the experiment.
        hours: Those that are compared.
    """
    seen = _Seen.of(mails, evidence, hours)
    even = dict.fromkeys(hours, 1.0 / len(hours))
    if not len(seen.arm) or len(hours) == 1:
        return even
    n_releases, shape = int(seen.release.max()) + 1, (int(seen.release.max()) + 1, len(hours))
    n, successes = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    np.add.at(n, (seen.release, seen.arm), 1)
    np.add.at(successes, (seen.release, seen.arm), seen.answered.astype(np.int64))
    past = evidence.expected_delays
    prior = past.pop("prior", None) or DelayCurve.default(window=evidence.window)
    curves = DelayCurve.fit_by_arm(
        seen.delay, np.fmax(seen.age, seen.delay), seen.arm, n_arms=len(hours), window=evidence.window,
        prior=prior.in_steps(BIN_SECONDS), **past,
    )  # fmt: skip
    exposures = np.asarray(
        curves.exposures(seen.release, seen.arm, seen.age, np.ones(len(seen.arm)), n_epochs=n_releases)
    )
    policy = Thompson(min_weight=_TOGETHER / len(hours))
    shares = weights_over(policy, Counts(n, successes), np.clip(exposures, successes, n), curves.chances)
    return {hour: float(share) for hour, share in zip(hours, shares, strict=True)}


@dataclass(frozen=True, slots=True)
class _Seen:
    """Mails of a test of hours, (m,) each; a delay is NaN where no answer has come."""

    release: NDArray[np.int64]
    arm: NDArray[np.int64]
    age: NDArray[np.float64]
    delay: NDArray[np.float64]

    @property
    def answered(self) -> NDArray[np.bool_]:
        return np.isfinite(self.delay)

    @classmethod
    def of(cls, mails: Iterable[SlotMail], evidence: Evidence, hours: Sequence[int]) -> _Seen:
        place: Mapping[int, int] = {hour: index for index, hour in enumerate(hours)}
        rows = [
            (mail.release, place[mail.hour % 24], *_times(mail, evidence))
            for mail in mails
            if mail.arm == "test" and mail.hour % 24 in place
        ]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), 4)
        return cls(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3])


def _times(mail: SlotMail, evidence: Evidence) -> tuple[float, float]:
    """Seconds since the mail was sent, and from then to the outcome that decides; NaN without one in its window."""
    at = mail.opened_at if evidence.experiment.metrics.primary == "opened" else mail.clicked_at
    age = (evidence.now - mail.sent_at).total_seconds()
    if at is None:
        return age, np.nan
    delay = max((at - mail.sent_at).total_seconds(), 0.0)
    return age, delay if delay <= evidence.window else np.nan
