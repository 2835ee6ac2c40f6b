"""People with latent weekly habits who open mail: the world in which send-time strategies are compared.

Each person mixes two of eight types of day over 168 local hours, with an own phase, sharpness and flat share, and has
an own engagement; a quarter never opens. A mail that lies unopened is opened with the hazard engagement x appeal of the
campaign x activity at the clock hour x decay with the age of the mail. What is drawn is set so that 22 % open at
10:00 within 72 hours, of whom 23 % within the first hour, about 55 % by six hours and 77 % by 24 hours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from abmail._hazard import HORIZON, WEEK
from abmail._history import History

__all__ = ["SHARES", "START", "People", "another_account", "history", "people", "slots_of", "type_shapes"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TYPES = ("office", "commuter", "lunch", "evening", "night", "weekend", "early", "all day")
SHARES = np.array([0.24, 0.14, 0.10, 0.18, 0.08, 0.10, 0.06, 0.10])
_SLEEP = 0.04
SHARPNESS, FLAT, SHAPE, MIX = 1.2, (1.5, 12.0), 0.6, (3.0, 1.2)


def bump(centre: float, width: float) -> Floats:
    """(24,) a wrapped normal bump of height 1, hours."""
    away = (np.arange(24) + 0.5 - centre + 12) % 24 - 12
    return np.asarray(np.exp(-0.5 * (away / width) ** 2))


def _week(weekday: Floats, weekend: Floats, *, friday: float = 1.0) -> Floats:
    days = [weekday] * 4 + [weekday * friday] + [weekend] * 2
    return np.concatenate(days) + _SLEEP


def type_shapes() -> Floats:
    """(8, 168) activity of each type, mean 1."""
    office = bump(9.7, 1.2) + 0.75 * bump(14.0, 1.6) + 0.35 * bump(17.0, 1.0)
    commuter = bump(7.8, 0.7) + 0.9 * bump(18.3, 0.9) + 0.15 * bump(12.5, 1.0)
    lunch = bump(12.6, 0.7) + 0.25 * bump(9.5, 1.5)
    evening = bump(20.6, 1.4) + 0.15 * bump(8.0, 1.0)
    night = bump(23.6, 1.2) + 0.2 * bump(14.0, 2.0)
    early = bump(6.0, 0.8) + 0.25 * bump(19.0, 1.5)
    leisure = bump(11.0, 2.2) + 0.8 * bump(16.5, 2.5)
    awake = bump(14.5, 4.5)
    rows = [
        _week(office, 0.12 * leisure, friday=0.85),
        _week(commuter, 0.45 * leisure, friday=0.9),
        _week(lunch, 0.35 * leisure),
        _week(evening, 0.5 * evening + 0.3 * leisure, friday=0.7),
        _week(night, 1.1 * night, friday=1.2),
        _week(0.3 * evening, 1.2 * leisure, friday=1.2),
        _week(early, 0.6 * early + 0.3 * leisure),
        _week(awake, awake),
    ]
    shapes = np.array(rows)
    return np.asarray(shapes / shapes.mean(axis=1, keepdims=True))


def decay(*, fast: float = 0.86, hours: float = 1.7, tail: float = 40.0, speed: Floats | float = 1.0) -> Floats:
    """(72,) how readily a mail of that age is opened, 1 when it is new; (n, 72) for speeds of ageing (n, 1)."""
    age = np.arange(HORIZON, dtype=np.float64) * speed
    return fast * np.exp(-age / hours) + (1 - fast) * np.exp(-age / tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """A list of people.

    Attributes:
        activity: (n, 168) by local hour of the week, mean 1.
        engagement: (n,) scale of the hazard, 0 for people who never open.
        offset: (n,) hours that the person's clock is ahead of the sender's.
        segment: (n,) index of the main type of day, as far as a list would know it (wrong for a third).
        decay: (72,) or (n, 72) by the age of the mail.
        burial: (24,) factor on the decay's speed by local hour of sending; all 1 where inboxes are never crowded.
    """

    activity: Floats
    engagement: Floats
    offset: Integers
    segment: Integers
    decay: Floats
    burial: Floats

    def __len__(self) -> int:
        return len(self.engagement)

    def hazard(self, slot: Integers) -> Floats:
        """(n, 72) hazard by age for a mail that arrives at each one's local hour of the week ``slot``, appeal 1."""
        hours = (slot[:, np.newaxis] + np.arange(HORIZON)) % WEEK
        acting = np.take_along_axis(self.activity, hours, axis=1)
        fading = np.broadcast_to(self.decay, acting.shape)
        if (self.burial != 1).any():
            fading = fading ** self.burial[slot % 24][:, np.newaxis]
        return np.asarray(self.engagement[:, np.newaxis] * acting * fading)

    def chances(self, slots: Integers) -> Floats:
        """(n, n_slots) true chance of an open within 72 hours for a mail at each local hour of the week, appeal 1."""
        found = [-np.expm1(-self.hazard(np.full(len(self), s)).sum(axis=1)) for s in slots]
        return np.stack(found, axis=1)

    def opens(self, slot: Integers, appeal: float, rng: np.random.Generator) -> Integers:
        """(n,) age in whole hours at which each opens a mail that arrives at ``slot``; 72 for never."""
        cumulated = np.cumsum(appeal * self.hazard(slot), axis=1)
        return np.asarray((cumulated < rng.exponential(size=(len(self), 1))).sum(axis=1), dtype=np.int64)

    def some(self, rows: NDArray[np.bool_] | Integers) -> People:
        """A part of the list."""
        fading = self.decay if self.decay.ndim == 1 else self.decay[rows]
        return replace(
            self, activity=self.activity[rows], engagement=self.engagement[rows], offset=self.offset[rows],
            segment=self.segment[rows], decay=fading,
        )  # fmt: skip


def people(
    n: int, rng: np.random.Generator, *, strength: float = 1.0, phase: float = 0.7, dormant: float = 0.25,
    zones: tuple[int, ...] = (), abroad: float = 0.0, open_rate: float = 0.22, ageing_sd: float = 0.0,
    steepness_sd: float = 0.0, reacting: float = 0.0, shapes: Floats | None = None, shares: Floats = SHARES,
) -> People:  # fmt: skip
    """Draw a list.

    Args:
        n: People.
        rng: Of the draws.
        strength: 1 for strong habits, 0 for none.
        phase: Standard deviation of the shift of a person's day, hours.
        dormant: Share that never opens.
        zones: Hours by which the clocks of those abroad are ahead.
        abroad: Share of people in other zones.
        open_rate: Share that opens a mail of Tuesday 10:00, which sets the scale of the engagement; fraction in
            (0, 1 - dormant).
        ageing_sd: Standard deviation of the log speed of ageing between people.
        steepness_sd: Standard deviation of the log power to which people's decay is raised: how many of their opens
            come late then differs several times as much.
        reacting: Share of people who mostly react to a mail's arrival, whatever the hour.
        shapes: (types, 168) activity of the types.
        shares: (types,) how common each is.
    """
    shapes = type_shapes() if shapes is None else shapes
    first = rng.choice(len(shapes), size=n, p=shares / shares.sum())
    second = rng.choice(len(shapes), size=n, p=shares / shares.sum())
    mix = rng.beta(*MIX, size=(n, 1))
    mix = np.maximum(mix, 1 - mix)
    activity = _shifted(mix * shapes[first] + (1 - mix) * shapes[second], rng.normal(0, phase, n))
    activity = activity ** (rng.lognormal(np.log(SHARPNESS), 0.25, size=(n, 1)))
    activity /= activity.mean(axis=1, keepdims=True)
    flat = 1 - strength * (1 - rng.beta(*FLAT, size=(n, 1)))
    activity = flat + (1 - flat) * activity
    fading = decay()
    if ageing_sd or steepness_sd or reacting:
        own = rng.standard_normal((n, 1))
        fading = decay(speed=np.exp(ageing_sd * own)) ** np.exp(steepness_sd * own)
        fading[rng.uniform(size=n) < reacting, 0] *= 3.0
    away = rng.uniform(size=n) < abroad
    offset = np.where(away, rng.choice(np.array(zones or (0,)), size=n), 0)
    known = rng.uniform(size=n) < 2 / 3
    drawn = People(
        activity=activity, engagement=rng.gamma(SHAPE, 1 / SHAPE, size=n) * (rng.uniform(size=n) >= dormant),
        offset=offset, segment=np.where(known, first, rng.integers(0, len(shapes), n)), decay=fading,
        burial=np.ones(24),
    )  # fmt: skip
    return replace(drawn, engagement=drawn.engagement * _level(drawn, open_rate))


def _shifted(activity: Floats, hours: Floats) -> Floats:
    """Rows turned round the week by fractions of hours."""
    at = (np.arange(WEEK)[np.newaxis] - hours[:, np.newaxis]) % WEEK
    low = np.floor(at).astype(np.int64) % WEEK
    part = at - np.floor(at)
    return (1 - part) * np.take_along_axis(activity, low, 1) + part * np.take_along_axis(activity, (low + 1) % WEEK, 1)


def _level(drawn: People, target: float) -> float:
    """Scale of the engagement at which ``target`` open a mail at Tuesday 10:00."""
    total = drawn.hazard(np.full(len(drawn), 34)).sum(axis=1)
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if -np.expm1(-middle * total).mean() < target else (low, middle)
    return low


START = 1_704_672_000
"""Monday 2024-01-08 00:00 UTC, in seconds since the epoch."""

USUAL_HOURS = np.array([10, 10, 10, 10, 10, 10, 9, 9, 14, 16, 8, 12, 18])
"""Hours at which campaigns usually go out."""


def another_account(rng: np.random.Generator) -> dict[str, Floats]:
    """Types of day and their shares as another list has them: shifted by half an hour or so, and mixed otherwise."""
    shapes = _shifted(type_shapes(), rng.normal(0, 0.5, len(TYPES)))
    return {"shapes": shapes / shapes.mean(axis=1, keepdims=True), "shares": rng.dirichlet(20 * SHARES)}


def slots_of(logs: str, n: int, rng: np.random.Generator) -> tuple[Integers, NDArray[np.bool_]]:
    """Local slots of one campaign, and which of them were drawn at random, each (n,).

    Args:
        logs: ``habit`` (one usual hour of a weekday for all), ``fixed`` (10:00), ``day`` (each at a random hour of one
            weekday), ``mixed`` (usual, a tenth random), ``week`` (each at a random hour of the week).
        n: People.
        rng: Of the draws.
    """
    day, hour = 24 * int(rng.integers(0, 5)), int(rng.choice(USUAL_HOURS))
    anywhere = day + rng.integers(0, 24, n)
    usual = np.full(n, day + (10 if logs == "fixed" else hour))
    if logs == "week":
        return rng.integers(0, WEEK, n), np.ones(n, np.bool_)
    if logs == "day":
        return anywhere, np.ones(n, np.bool_)
    drawn = rng.uniform(size=n) < (0.1 if logs == "mixed" else 0.0)
    return np.where(drawn, anywhere, usual), drawn


def history(
    crowd: People, mails: int, rng: np.random.Generator, *, logs: str = "habit", appeal_sd: float = 0.3, first: int = 0
) -> History:
    """Mails to everybody, one campaign a week.

    Sender and recipients live in UTC, save for people with an ``offset``, who are mailed at the sender's hour.

    Args:
        crowd: The list.
        mails: Campaigns.
        rng: Of slots, appeals and opens.
        logs: See `slots_of`.
        appeal_sd: Standard deviation of the campaigns' log appeal.
        first: Number of the first campaign.
    """
    n, parts = len(crowd), []
    for campaign in range(first, first + mails):
        slot, drawn = slots_of(logs, n, rng)
        age = crowd.opens((slot + crowd.offset) % WEEK, float(np.exp(appeal_sd * rng.standard_normal())), rng)
        sent = START + 3600.0 * (WEEK * campaign + slot)
        opened = np.where(age < HORIZON, sent + 3600.0 * age + rng.uniform(0, 3600, n), np.nan)
        parts.append((np.arange(n), sent, opened, np.full(n, campaign), drawn))
    recipient, sent_at, opened_at, campaigns, randomised = (np.concatenate(x) for x in zip(*parts, strict=True))
    return History.of(recipient, sent_at, opened_at, campaign=campaigns, randomised=randomised)
