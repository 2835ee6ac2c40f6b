"""Timing: from mails that wait to mails with a moment of their own, by when their recipients read.

Where a definition chooses hours, a mail gets its moment first and its variant at that moment, by the weights of then:
so the hour cannot pass for an effect of the subject line, and the bandit decides with all that is known by then.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from abmail._evidence import Evidence
from abmail._forecast import Moment, Wave, shared
from abmail._habits import habits_of, history_of
from abmail._opening import next_opening, rules_of
from abmail._planning import zone_of
from abmail._slot_test import compared_hours, slot_weights
from abmail._timing_report import account_uplift, plain_report, timing_report
from abmail.decide import next_release, ships
from abmail.recipient import Recipient, email_domain
from abmail.report import SendTimeReport
from abmail.sendtime import Caps, Other, SendTime, control_group, keeps_caps, plan_sends
from abmail.spec import Experiment, SendTimes
from abmail.store import Release, Slot, SlotMail, Store, StoredExperiment, Waiting

__all__ = ["OPEN_FOR", "Timing"]

OPEN_FOR: Final = timedelta(hours=72)
"""A mail is opened within these, or hardly ever."""

_AHEAD: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_LONGEST: Final = timedelta(days=60)
_MINUTE: Final = 60
_REASONS: Final[Mapping[str, str]] = {
    "window": "no hour is allowed {span}",
    "cap": "every hour {span} is too near to other mails to this recipient",
    "capacity": "every hour {span} is full",
}


class Timing:
    """Gives waiting mails their moments.

    Args:
        store: The ledger.
        salt: The account's: keys who is in the group with the fixed hour, which stays the same for good.
        model: File of the send-time model that `abmail sendtime fit` writes. Where there is none, the model is learned
            from the mails of this database, once a day.
    """

    def __init__(self, store: Store, *, salt: str, model: Path | None) -> None:
        self._store = store
        self._salt = salt
        self._file = model
        self._read: tuple[datetime, SendTime, str] | None = None
        self._learned: tuple[datetime, SendTime, str] | None = None

    def release(self, evidence: Evidence) -> Release | None:
        """Give the next wave its moments, where one is due; returns it.

        Raises:
            ModelError: The model's file cannot be read.
        """
        name, experiment, now = evidence.stored.name, evidence.experiment, evidence.now
        done = self._store.releases(name)
        size = self._size(evidence, done)
        if not size:
            return None
        settings = experiment.send_time
        hours = compared_hours(settings) if settings.mode == "test" else ()
        weights = slot_weights(self._store.slot_mails(before=now, name=name), evidence, hours) if hours else {}
        model, source = self._model(now)
        number = len(done)
        plan = _Plan(
            experiment=experiment, model=model, salt=self._salt, number=number, now=now, weights=weights,
        )  # fmt: skip
        release = Release(
            number=number, at=now, size=0, skipped=0, weights=weights, habits=habits_of(model),
            reason=_reason(settings, source, weights),
        )  # fmt: skip
        return self._store.schedule(
            name, release, n=size, plan=plan, whole=settings.per_hour is not None,
            others_since=None if settings.caps is None else now - _reach(settings),
        )  # fmt: skip

    def due(self, evidence: Evidence) -> int:
        """Number of mails that get their moments now; 0 where it is too early, or none waits."""
        return self._size(evidence, self._store.releases(evidence.stored.name))

    def _size(self, evidence: Evidence, done: Sequence[Release]) -> int:
        name = evidence.stored.name
        if _due_at(evidence.stored, evidence.experiment, done, evidence.now) > evidence.now:
            return 0
        waiting = self._store.queued(name)
        if not waiting:
            return 0
        pending = self._store.planned(name) + sum(evidence.unsettled.values())
        return next_release(evidence, waiting=waiting, number=len(done), pending=pending)

    def preview(
        self, experiment: Experiment, people: Sequence[Recipient], sizes: Sequence[int], *, now: datetime
    ) -> tuple[list[Wave], list[Moment], float]:
        """When mails would go out that have no moment yet, reckoned on some of their recipients; changes nothing.

        Args:
            experiment: The definition.
            people: Some of those who wait, drawn evenly, in the order of the waves.
            sizes: Mails of each wave.
            now: When the first wave gets its moments.

        Returns:
            The waves, the moments, each with the number of mails that it stands for, and the mails for which none is
            left.

        Raises:
            ModelError: The model's file cannot be read.
        """
        settings, never = experiment.send_time, 0.0
        waves, moments = list[Wave](), list[Moment]()
        hours = compared_hours(settings) if settings.mode == "test" else ()
        others = self._others(experiment, people, now)
        for number, (size, part) in enumerate(zip(sizes, _parts(people, sizes), strict=True)):
            stands_for, begin = size / len(part), now + number * experiment.allocation.every
            if moments and experiment.allocation.policy == "test_then_send":
                begin = max(each.at for each in moments) + experiment.allocation.every
            plan = _Plan(
                experiment=_thinned(experiment, stands_for), model=self._model(now)[0], salt=self._salt, number=number,
                now=begin, weights=dict.fromkeys(hours, 1 / max(len(hours), 1)),
            )  # fmt: skip
            waiting = [Waiting(one.id, zone_of(experiment, one), one) for one in part]
            found = [(one.zone, slot.due_at) for one, slot in zip(waiting, plan(waiting, others), strict=True)]
            moments += [Moment(zone, at, stands_for) for zone, at in found if at is not None]
            never += stands_for * sum(at is None for _, at in found)
            zones = Counter(zone for zone, _ in found)
            waves.append(Wave(number=number, at=begin, zones=shared(zones, size)))
        return waves, moments, never

    def _others(self, experiment: Experiment, people: Sequence[Recipient], now: datetime) -> list[tuple[str, datetime]]:
        """What caps count for some recipients."""
        caps = experiment.send_time.caps
        if caps is None:
            return []
        since = now - _reach(experiment.send_time)
        return self._store.others(experiment.name, since=since, recipients=[one.id for one in people])

    def keep_caps(self, evidence: Evidence) -> int:
        """Move mails whose moment has come although other experiments mailed their recipients meanwhile.

        Moments are planned days ahead; what goes out then without an hour of its own could not be known. Mails of the
        hour that begins are looked at once more before they get their variant.

        Returns:
            Number of mails that got another moment, or have none left.

        Raises:
            ModelError: The model's file cannot be read.
        """
        name, experiment, now = evidence.stored.name, evidence.experiment, evidence.now
        caps, settings = _caps(experiment.send_time), experiment.send_time
        if caps is None or not self._store.planned(name, before=now + timedelta(microseconds=1)):
            return 0
        last = self._store.releases(name)[-1]

        def moved(
            people: Sequence[Waiting], moments: Sequence[datetime], others: Sequence[tuple[str, datetime]]
        ) -> Sequence[Slot]:
            other = _other(others, np.array([one.recipient.id for one in people]))
            own = np.array([moment.timestamp() for moment in moments])
            kept = keeps_caps(own, person=other.person, at=other.at, caps=caps)
            if kept.all():
                return ()
            plan = _Plan(
                experiment=experiment, model=self._model(now)[0], salt=self._salt, number=last.number, now=now,
                weights=last.weights,
            )  # fmt: skip
            return plan([one for one, fine in zip(people, kept, strict=True) if not fine], others)

        return self._store.reschedule(name, last.number, before=now + _AHEAD, since=now - _reach(settings), plan=moved)

    def ready(self, name: str, *, zones: Sequence[str], now: datetime) -> tuple[int, datetime]:
        """Mails whose moment has come and that need a variant, with those of the hour that begins; and its end.

        None of them where no moment has come: what comes later gets its variant then.
        """
        before = now + _AHEAD
        if not self._store.planned(name, zones=zones, before=now + timedelta(microseconds=1)):
            return 0, before
        return self._store.planned(name, zones=zones, before=before), before

    def next_at(
        self, stored: StoredExperiment, experiment: Experiment, *, now: datetime, pending: bool
    ) -> datetime | None:
        """When the next wave gets its moments; ``pending``: whether mails of the last one still wait for theirs."""
        if not self._store.queued(stored.name):
            return None
        done = self._store.releases(stored.name)
        if done and experiment.allocation.policy == "test_then_send" and not ships(stored):
            return self._end_of_pause(stored, experiment, pending=pending)
        return max(_due_at(stored, experiment, done, now), now)

    def _end_of_pause(self, stored: StoredExperiment, experiment: Experiment, *, pending: bool) -> datetime | None:
        """When the rest may follow a test; None while mails of the test are still to go out."""
        found = self._store.snapshot(stored.name, n_cells=len(experiment.cells))
        if pending or any(found.unsettled.values()) or not found.last_send:
            return None
        return max(found.last_send.values()) + experiment.allocation.every

    def report(self, evidence: Evidence) -> SendTimeReport:
        """What is known of the hours of sending, and over the whole account of what choosing them is worth."""
        if not evidence.experiment.send_time.is_planned:
            return plain_report(evidence.experiment)
        name, gain = evidence.stored.name, None
        if evidence.experiment.send_time.mode == "learn":
            mails = _whole_plans(self._store.slot_mails(before=evidence.now), before=evidence.now - OPEN_FOR)
            gain = account_uplift(mails, rates=lambda start: self._store.open_rates(start=start), open_for=OPEN_FOR)
        own = list(self._store.slot_mails(before=evidence.now, name=name))
        return timing_report(evidence, self._store.releases(name), own, gain)

    @property
    def file(self) -> Path | None:
        """The file of the model; None where it is learned from the ledger alone."""
        return self._file

    def forget(self, recipient: str, *, dry_run: bool) -> bool:
        """Take a recipient out of the model's file; returns whether it knew them."""
        self._learned = None
        return erase_from_model(recipient, self._file, dry_run=dry_run)

    def _model(self, now: datetime) -> tuple[SendTime, str]:
        """The model, and in words where it is from."""
        if self._file is not None and self._file.is_file():
            made = datetime.fromtimestamp(self._file.stat().st_mtime, UTC)
            if self._read is None or self._read[0] != made:
                self._read = made, SendTime.load(self._file), f"{self._file.name} of {made:%Y-%m-%d}"
            return self._read[1:]
        if self._learned is None or now - self._learned[0] > _KEPT:
            history = history_of(self._store.past_mails(before=now - OPEN_FOR))
            words = f"{len(history):,} mails sent here" if len(history) else "the shipped profiles"
            self._learned = now, SendTime.fit(history, now=now.timestamp(), default_zone="UTC"), words
        return self._learned[1:]


def _parts(people: Sequence[Recipient], sizes: Sequence[int]) -> list[Sequence[Recipient]]:
    """People for each wave in proportion to its mails, at least one."""
    edges = [round(len(people) * sum(sizes[:i]) / sum(sizes)) for i in range(len(sizes) + 1)]
    return [people[i:j] or people[min(i, len(people) - 1) :][:1] for i, j in itertools.pairwise(edges)]


def _thinned(experiment: Experiment, stands_for: float) -> Experiment:
    """The same definition for a part of the people, who get that part of the throughput."""
    limit = experiment.send_time.per_hour
    if limit is None:
        return experiment
    return replace(experiment, send_time=replace(experiment.send_time, per_hour=max(1, round(limit / stands_for))))


def _whole_plans(mails: Iterable[SlotMail], *, before: datetime) -> list[SlotMail]:
    """Those of the plans that sent nothing since ``before``: of a younger one, the early hours alone would count."""
    known = list(mails)
    young = {(mail.experiment, mail.release) for mail in known if mail.sent_at > before}
    return [mail for mail in known if (mail.experiment, mail.release) not in young]


def _due_at(stored: StoredExperiment, experiment: Experiment, done: Sequence[Release], now: datetime) -> datetime:
    """When the next wave may get its moments: some time after the one before, and at once when the test is decided."""
    return now if not done or ships(stored) else done[-1].at + experiment.allocation.every


class _Plan:
    """Moments for the mails of one release, some thousands at a time."""

    def __init__(
        self, *, experiment: Experiment, model: SendTime, salt: str, number: int, now: datetime,
        weights: Mapping[int, float],
    ) -> None:  # fmt: skip
        self._experiment, self._model, self._salt = experiment, model, salt
        self._number, self._now, self._weights = number, now, weights
        named = zlib.crc32(experiment.name.encode())
        self._rng = np.random.default_rng([experiment.allocation.seed, named, number])

    def __call__(self, people: Sequence[Waiting], others: Sequence[tuple[str, datetime]]) -> list[Slot]:
        """The moment of each, or why there is none."""
        settings, now = self._experiment.send_time, self._now
        ids = np.array([one.recipient.id for one in people])
        zones = np.array([one.zone for one in people])
        names = np.unique(zones).tolist()
        control = control_group(ids, self._salt, share=settings.control)
        fixed = np.ones(len(ids), np.bool_) if settings.mode == "fixed" else control
        deadlines = _deadlines(settings, names, now)
        until = {zone: _until(settings, zone, now) for zone in names} if deadlines is None else deadlines
        plan = plan_sends(
            self._model, ids, release=now.timestamp(),
            rules=rules_of(settings, names, first=now, last=now + _LONGEST), zone=zones, country=zones,
            salt=f"{self._experiment.name} {self._number}", rng=self._rng, within=settings.within.total_seconds(),
            deadline=until, explore=settings.explore if settings.mode == "learn" else 0.0, control=fixed,
            fixed=settings.home, weights=_by_hour(self._weights),
            segment=_segments(self._model, people), company=[email_domain(one.recipient.email) for one in people],
            caps=_caps(settings), others=_other(others, ids), capacity=settings.per_hour,
        )  # fmt: skip
        late = {zone: datetime.fromtimestamp(at, UTC) for zone, at in (deadlines or {}).items()}
        span = "before the deadline" if deadlines else "within a week of the next allowed day"
        slots = []
        for i, one in enumerate(people):
            why = _REASONS.get(str(plan.reason[i]), "").format(span=span)
            at = None if math.isnan(plan.at[i]) else _moment(float(plan.at[i]), float(plan.start[i]))
            slots.append(Slot(
                message=one.message, due_at=at, expires_at=_expiry(settings, at, late.get(one.zone)),
                hour=int(plan.hour[i]), ahead=int(plan.offset[i]), arm=str(plan.arm[i]), control=bool(control[i]),
                propensity=float(plan.propensity[i]), chance=float(plan.chance[i]),
                chance_fixed=float(plan.chance_fixed[i]), reason=why,
            ))  # fmt: skip
        return slots


def _segments(model: SendTime, people: Sequence[Waiting]) -> list[str] | None:
    """Whose mix of habits is assumed of those whom the model does not know; None where it knows no segments."""
    return [str(one.recipient.attributes.get(model.by, "")) for one in people] if model.by else None


def _moment(at: float, start: float) -> datetime:
    """A moment on the minute, so that there is something to do once a minute at most."""
    return datetime.fromtimestamp(max(at // _MINUTE * _MINUTE, start), UTC)


def _deadlines(settings: SendTimes, zones: Sequence[str], now: datetime) -> dict[str, float] | None:
    """Per zone, the moment of the deadline on its clock, as far as a plan reaches; None without one."""
    if settings.deadline is None:
        return None
    moments = {zone: settings.deadline.replace(tzinfo=ZoneInfo(zone)) for zone in zones}
    return {zone: min(at, now + _LONGEST).timestamp() for zone, at in moments.items()}


def _until(settings: SendTimes, zone: str, now: datetime) -> float:
    """How far a plan without a deadline reaches: a week from the next moment at which mail may go out."""
    try:
        opening = next_opening(settings, zone, now + timedelta(seconds=_MINUTE))
    except ValueError:  # every day is a holiday
        opening = now + _LONGEST
    return min(opening + _WEEK, now + _LONGEST).timestamp()


def _expiry(settings: SendTimes, at: datetime | None, deadline: datetime | None) -> datetime | None:
    """When it is too late: some time after the moment, and never after the deadline."""
    moments = [deadline, None if at is None or settings.expires is None else at + settings.expires]
    return min((moment for moment in moments if moment is not None), default=None)


def _by_hour(weights: Mapping[int, float]) -> np.ndarray[Any, Any] | None:
    """(24,) shares of the hours of the day; None where hours are not compared."""
    return np.array([weights.get(hour, 0.0) for hour in range(24)]) if weights else None


def _reach(settings: SendTimes) -> timedelta:
    """How far back mails count for the caps."""
    gap = None if settings.caps is None else settings.caps.gap
    return max(_WEEK, gap or _WEEK)


def _caps(settings: SendTimes) -> Caps | None:
    caps = settings.caps
    if caps is None:
        return None
    gap = 0.0 if caps.gap is None else caps.gap.total_seconds() / 3600
    return Caps(per_day=caps.per_day, per_week=caps.per_week, gap_hours=gap)


def _other(others: Sequence[tuple[str, datetime]], ids: np.ndarray[Any, Any]) -> Other:
    """The other mails of those who are planned for."""
    place = {str(one): i for i, one in enumerate(ids.tolist())}
    mine = [(place[who], at.timestamp()) for who, at in others if who in place]
    return Other(np.array([i for i, _ in mine], dtype=np.int64), np.array([at for _, at in mine], dtype=np.float64))


def _reason(settings: SendTimes, source: str, weights: Mapping[int, float]) -> str:
    if settings.mode == "fixed":
        return "the fixed time, within what is allowed"
    if settings.mode == "learn":
        return f"each one's best hour, by {source}"
    best = max(weights, key=lambda hour: weights[hour])
    even = len(set(weights.values())) == 1
    return "hours are compared, evenly so far" if even else f"hours are compared; most go out from {best:02d}:00"


def erase_from_model(recipient: str, model: Path | None, *, dry_run: bool = False) -> bool:
    """Take a recipient out of the send-time model; returns whether it was in there."""
    if model is None or not model.is_file():
        return False
    before = SendTime.load(model)
    after = before.without(recipient)
    if len(after) == len(before) or dry_run:
        return len(after) < len(before)
    unfinished = model.with_name(f"{model.name}.new")
    after.save(unfinished)
    unfinished.replace(model)
    return True
