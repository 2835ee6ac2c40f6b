"""When to send: the hour of the week at which each recipient is most likely to open, learned from any past sends.

The model is a hazard: activity of the recipient at the clock hour, times a decay with the age of the mail. Activity is
learned on three levels: population, latent classes of weekly habits, and the recipient's own deviation. So every open
speaks about the hour in which it happened, whatever the hour of sending was, and a stranger is treated as the mix of
people that he or she most likely is. `docs/sendtime.md` explains what it can and cannot tell.

Slots are local hours of the week of the recipient: 0 is Monday 00:00 to 00:59, 167 is Sunday 23:00.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from abmail._capacity import Fitted, fit_capacity, spread
from abmail._choice import Arm, Choices, Why, control_group, draw_slots, pick
from abmail._free_days import read_holidays
from abmail._hazard import COLUMNS, WEEK, exposure_table
from abmail._history import Events, History, HistoryCode, HistoryProblem, Labels, prepare
from abmail._history_file import HistoryImport, read_history
from abmail._holidays import public_holidays
from abmail._judgement import HistoryGap, HistoryReport, judge_history
from abmail._learning import Population, appeals, learn, with_random_sends
from abmail._memory import CHUNK, Memory, Tables, absorb
from abmail._model_file import read_model, write_model
from abmail._profile import Habits, Profiler, decided_by, reaching
from abmail._send_plan import Other, SendPlan, plan_sends
from abmail._slots import Caps, Rules, Slots, cap_mask, keeps_caps, open_slots
from abmail._uplift import HourCurve, Uplift, UpliftStatus, hour_curve, open_rate_before, uplift
from abmail._zones import Shifts, ZoneGuess, country_zones, infer_shifts, zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = [
    "Arm",
    "Caps",
    "Choices",
    "Fitted",
    "History",
    "HistoryCode",
    "HistoryGap",
    "HistoryImport",
    "HistoryProblem",
    "HistoryReport",
    "HourCurve",
    "Other",
    "Population",
    "Rules",
    "SendPlan",
    "SendTime",
    "Shifts",
    "Slots",
    "Uplift",
    "UpliftStatus",
    "Why",
    "ZoneGuess",
    "cap_mask",
    "control_group",
    "country_zones",
    "draw_slots",
    "fit_capacity",
    "hour_curve",
    "infer_shifts",
    "judge_history",
    "keeps_caps",
    "open_rate_before",
    "open_slots",
    "plan_sends",
    "public_holidays",
    "read_history",
    "read_holidays",
    "spread",
    "uplift",
    "zone_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTime:
    """A model of when recipients open their mail; a value: `update` returns another one.

    Attributes:
        population: What is common to all: decay, classes, shares by segment.
        people: The recipients that are known.
        memory: What is remembered of them.
        segment: (n,) index into ``segments`` for each of them.
        segments: Names; the first one, empty, stands for recipients without.
        proxied: (n,) whether machines open a recipient's mail, so that only clicks count.
        forget: What a mail leaves of those before it, fraction in (0, 1].
        problems: What was left out of the history by the latest `fit` or `update`.
        by: Attribute of recipients whose values the segments are, for callers who have strangers' attributes; empty
            where nobody said.
    """

    population: Population
    people: Labels
    memory: Memory
    segment: Integers
    segments: tuple[str, ...]
    proxied: Booleans
    forget: float
    problems: tuple[HistoryProblem, ...] = ()
    by: str = ""

    @classmethod
    def fit(
        cls,
        recipient: History | ArrayLike | Sequence[str],
        sent_at: ArrayLike | None = None,
        opened_at: ArrayLike | None = None,
        campaign: ArrayLike | None = None,
        zone: ArrayLike | Sequence[str | None] | str | None = None,
        segment: ArrayLike | None = None,
        *,
        clicked_at: ArrayLike | None = None,
        machine: ArrayLike | None = None,
        randomised: ArrayLike | None = None,
        default_zone: str | None = None,
        now: float | None = None,
        forget: float = 0.99,
        profiles: bool = True,
        classes: int | None = None,
    ) -> SendTime:
        """Learn from past mails, each of which has had its 72 hours.

        Args:
            recipient: (m,) ids of the recipients, text or integers; or a `History` alone.
            sent_at: (m,) seconds since the epoch, UTC.
            opened_at: (m,) first open by a person, seconds since the epoch; NaN where never opened. To learn from
                clicks alone, give the first clicks here.
            campaign: (m,) names; a campaign's mails share its appeal, which is taken out. Without it nothing is.
            zone: (m,) IANA names, or one for all.
            segment: (m,) names; a segment's mix of classes is the prior of its recipients.
            clicked_at: (m,) first click by a person, NaN for never; what counts for recipients behind a proxy.
            machine: (m,) whether a machine opened the mail. A recipient of whom more than a tenth was opened by
                machines is judged by clicks; nothing is ever counted as "not opened" because a machine came first.
            randomised: (m,) whether the hour was drawn at random; 1,000 such mails allow a correction by send hour.
            default_zone: For mails without a zone; UTC where no mail has one, None leaves out the rows that lack one.
            now: Seconds since the epoch; later times are reported. None: not checked.
            forget: What a mail leaves of those before it, fraction in (0, 1]; .99 halves what is known in 69 mails.
            profiles: Whether the shipped profiles are the prior of the classes; they come from a simulation.
            classes: Number of classes where ``profiles`` is False; 12, or 6 under 500 recipients, when None.

        Returns:
            The model; rows that could not be used are in ``problems``.

        Raises:
            ValueError: The arrays don't fit together, or an argument is out of its range.
        """
        if not 0 < forget <= 1:
            raise ValueError(f"forget is {forget}, must be in (0, 1]")
        if classes is not None and (profiles or not 1 <= classes <= 64):
            raise ValueError(f"classes is {classes}, must be from 1 to 64, with profiles=False")
        history = _history(
            recipient, sent_at, opened_at, campaign=campaign, zone=zone, segment=segment, clicked_at=clicked_at,
            machine=machine, randomised=randomised,
        )  # fmt: skip
        events = prepare(history, now=now, default_zone=default_zone)
        population, appeal = learn(events, forget=forget, profiles=profiles, n_classes=classes)
        n = len(events.people)
        blank = cls(
            population=population,
            people=events.people,
            memory=Memory.blank(n, len(population.classes.shapes)),
            segment=np.zeros(n, dtype=np.int64),
            segments=events.segments,
            proxied=np.zeros(n, dtype=np.bool_),
            forget=forget,
        )
        return blank._absorbed(events, appeal)

    def update(
        self,
        recipient: History | ArrayLike | Sequence[str],
        sent_at: ArrayLike | None = None,
        opened_at: ArrayLike | None = None,
        campaign: ArrayLike | None = None,
        zone: ArrayLike | Sequence[str | None] | str | None = None,
        segment: ArrayLike | None = None,
        *,
        clicked_at: ArrayLike | None = None,
        machine: ArrayLike | None = None,
        randomised: ArrayLike | None = None,
        default_zone: str | None = None,
        now: float | None = None,
    ) -> SendTime:
        """Add finished mails: what is known of their recipients, not the classes, which `fit` learns.

        Give each mail once, when its 72 hours are over; mails that this model has already seen count twice.
        Arguments are those of `fit`. Fit anew from the whole history once opens have grown by a tenth.

        Returns:
            The model with them.
        """
        history = _history(
            recipient, sent_at, opened_at, campaign=campaign, zone=zone, segment=segment, clicked_at=clicked_at,
            machine=machine, randomised=randomised,
        )  # fmt: skip
        known = Labels(self.people.keys[self.proxied], self.people.ids[self.proxied])
        events = prepare(history, now=now, default_zone=default_zone, segments=self.segments, proxied=known)
        grown = self._grown(events)
        place = np.searchsorted(grown.people.keys, events.people.keys)
        events = replace(
            events, row=place[events.row], people=grown.people, segment=_spread(events.segment, place, len(grown), -1),
            proxied=_spread(events.proxied, place, len(grown), False),
        )  # fmt: skip
        return grown._absorbed(events, grown._appeals(events))

    def __len__(self) -> int:
        return len(self.people)

    def score(self, ids: ArrayLike | Sequence[str], slots: ArrayLike, *, segment: ArrayLike | None = None) -> Floats:
        """Chance of an open within 72 hours, for a mail of usual appeal.

        Args:
            ids: (n,) recipients, known or not.
            slots: (m,) local hours of the week, 0 to 167.
            segment: (n,) names for recipients who are not known; the account's mix without it.

        Returns:
            (n, m) float64 in [0, 1]. For recipients behind a proxy it is the chance that they themselves open.
        """
        slots = _slots(slots)
        rows, where = self._rows(ids, segment)
        found = np.empty((len(rows), len(slots)))
        hazard = reaching(self.population, slots)
        for some, habits in self._habits(rows, where):
            found[some] = habits.chances(hazard)
        return found

    def choose(
        self,
        ids: ArrayLike | Sequence[str],
        slots: ArrayLike,
        rng: np.random.Generator | int | None = None,
        *,
        allowed: ArrayLike | None = None,
        explore: float = 0.05,
        segment: ArrayLike | None = None,
    ) -> tuple[Integers, Floats]:
        """The best allowed slot of each recipient, and with a small chance any allowed one.

        Args:
            ids: (n,) recipients, known or not.
            slots: (m,) local hours of the week, 0 to 167.
            rng: A generator or a seed; needed unless ``explore`` is 0.
            allowed: (n, m) or (m,) whether each slot may be used; all when None.
            explore: Share of mails whose slot is drawn evenly from the allowed ones, fraction in [0, 1].
            segment: As for `score`.

        Returns:
            Slot (n,) int64, -1 where none is allowed; and its propensity (n,) float64: ``1 - explore + explore / k``
            for the best of k allowed slots, ``explore / k`` for each other, 0 where none is allowed.
        """
        found = self.decide(ids, slots, rng, allowed=allowed, explore=explore, segment=segment)
        return found.slot, found.propensity

    def decide(
        self,
        ids: ArrayLike | Sequence[str],
        slots: ArrayLike,
        rng: np.random.Generator | int | None = None,
        *,
        allowed: ArrayLike | None = None,
        explore: float = 0.05,
        segment: ArrayLike | None = None,
        control: ArrayLike | None = None,
        fixed: int | None = None,
    ) -> Choices:
        """As `choose`, with the control group and everything that is to be logged.

        Args:
            ids: (n,) recipients.
            slots: (m,) local hours of the week.
            rng: A generator or a seed.
            allowed: (n, m) or (m,) whether each slot may be used.
            explore: Share of random slots among those who are not control.
            segment: As for `score`.
            control: (n,) who gets the fixed slot; see `control_group`.
            fixed: The control's slot, one of ``slots``; where it is not allowed, the next allowed one in the order of
                ``slots``.

        Returns:
            Slot, propensity, arm, and the predicted chances.
        """
        slots = _slots(slots)
        return pick(
            self.score(ids, slots, segment=segment), slots, rng, allowed=allowed, explore=explore, control=control,
            fixed=fixed,
        )  # fmt: skip

    def decided_by(self, ids: ArrayLike | Sequence[str], *, segment: ArrayLike | None = None) -> NDArray[np.str_]:
        """(n,) what the choice for each recipient rests on: ``person``, ``segment`` or ``prior``."""
        rows, where = self._rows(ids, segment)
        found = np.empty(len(rows), dtype="<U7")
        for some, habits in self._habits(rows, where):
            found[some] = decided_by(habits, self.population.classes, where[some])
        return found

    def why(self, recipient: Any, slots: ArrayLike, *, fixed: int | None = None, segment: str | None = None) -> Why:
        """What speaks for one recipient's best slot, as figures.

        Args:
            recipient: An id, known or not.
            slots: (m,) local hours of the week to choose from.
            fixed: A slot to compare with.
            segment: Of a stranger.
        """
        ids = np.array([recipient])
        rows, where = self._rows(ids, None if segment is None else [segment])
        memory = self.memory.take(rows)
        habits = Profiler(self.population).habits(memory, where)
        slots = _slots(slots)
        return Why.of(
            recipient, known=bool(rows[0] >= 0), segment=self.segments[int(where[0])], memory=memory, habits=habits,
            population=self.population, where=where, slots=slots, fixed=fixed,
        )  # fmt: skip

    @property
    def activity(self) -> Floats:
        """(168,) activity of the account by local hour of the week, mean 1: the classes in their shares."""
        classes = self.population.classes
        present = np.bincount(self.segment, minlength=len(self.segments)) if len(self) else np.ones(len(self.segments))
        return np.asarray(present @ classes.shares / present.sum() @ classes.shapes)

    def without(self, recipient: Any) -> SendTime:
        """The model without what it remembers of one recipient; what the account's people have in common stays."""
        gone = int(self.people.find(np.array([recipient]))[0])
        if gone < 0:
            return self
        kept = np.delete(np.arange(len(self)), gone)
        return replace(
            self, people=Labels(self.people.keys[kept], self.people.ids[kept]), memory=self.memory.take(kept),
            segment=self.segment[kept], proxied=self.proxied[kept],
        )  # fmt: skip

    def save(self, target: Path | str | BinaryIO) -> None:
        """Write the model as an ``npz`` file of plain arrays, with the version of its format.

        Raises:
            OSError: The file cannot be written.
        """
        write_model(target, self)

    @classmethod
    def load(cls, source: Path | str | BinaryIO) -> SendTime:
        """Read what `save` wrote.

        Raises:
            ModelError: The file is no saved model, or of a newer version than this one reads.
        """
        return cls(**read_model(source))

    def _absorbed(self, events: Events, appeal: Floats) -> SendTime:
        """With the mails of recipients whose rows are those of this model."""
        tables = Tables.of(exposure_table(self.population.ageing), self.population.classes.shapes)
        found = replace(
            self,
            population=replace(self.population, clicks_per_open=events.clicks_per_open),
            memory=absorb(self.memory, events, appeal, self.forget, tables),
            segment=np.where(events.segment >= 0, events.segment, self.segment),
            proxied=self.proxied | events.proxied,
            problems=events.problems,
        )
        if not events.randomised.any():
            return found
        return replace(found, population=with_random_sends(found.population, events, found._hazards(events), appeal))

    def _grown(self, events: Events) -> SendTime:
        """With room for the recipients and segments of new mails."""
        if (self.people.find_keys(events.people.keys) >= 0).all():
            population = self.population.with_segments(len(events.segments))
            return replace(self, population=population, segments=events.segments)
        keys = np.union1d(self.people.keys, events.people.keys)
        place = np.searchsorted(keys, self.people.keys)
        added = np.searchsorted(keys, events.people.keys)
        ids = np.empty(len(keys), dtype=np.result_type(self.people.ids, events.people.ids))
        ids[added], ids[place] = events.people.ids, self.people.ids
        return replace(
            self,
            population=self.population.with_segments(len(events.segments)),
            people=Labels(keys, ids),
            memory=self.memory.grown(len(keys), place),
            segment=_spread(self.segment, place, len(keys), 0),
            segments=events.segments,
            proxied=_spread(self.proxied, place, len(keys), False),
        )

    def _appeals(self, events: Events) -> Floats:
        """(n_campaigns,) appeal of the campaigns of new mails, from what is known of their recipients."""
        if not events.n_campaigns:
            return np.ones(0)
        step = max(1, len(events) // (_APPEAL_MAILS * events.n_campaigns))
        part = events.thinned(step)
        level = self._levels(part.row)
        return appeals(replace(part, row=np.arange(len(part))), level, self.population)

    def _levels(self, rows: Integers) -> Floats:
        """(n, K) class weight times mean engagement under the class."""
        found = np.empty((len(rows), len(self.population.classes.shapes)))
        for some, habits in self._habits(rows, self.segment[rows]):
            found[some] = habits.level
        return found

    def _hazards(self, events: Events) -> Floats:
        """(r,) cumulated hazard that was to be expected of each randomised mail, until its open or the horizon."""
        chosen = events.randomised
        by_class = exposure_table(self.population.ageing).reshape(-1, WEEK) @ self.population.classes.shapes.T
        at = events.slot[chosen] * COLUMNS + events.outcome[chosen]
        return np.asarray(np.einsum("ek,ek->e", by_class[at], self._levels(events.row[chosen])))

    def _habits(self, rows: Integers, where: Integers) -> Iterator[tuple[slice, Habits]]:
        """The habits of some recipients, a few thousand at a time."""
        profiler = Profiler(self.population)
        for begin in range(0, len(rows), CHUNK):
            some = slice(begin, begin + CHUNK)
            yield some, profiler.habits(self.memory.take(rows[some]), where[some])

    def _rows(self, ids: ArrayLike | Sequence[str], segment: ArrayLike | None) -> tuple[Integers, Integers]:
        """Index of each recipient, -1 for strangers, and of each one's segment."""
        labels = History.of(ids, np.zeros(len(np.asarray(ids))), np.zeros(len(np.asarray(ids))), segment=segment)
        rows = self.people.find(labels.recipient)
        where = np.zeros(len(rows), dtype=np.int64)
        if labels.segment is not None:
            number = {name: index for index, name in enumerate(self.segments)}
            where[:] = [number.get(str(name), 0) for name in labels.segment.tolist()]
        if len(self):
            where = np.where(rows >= 0, self.segment[rows], where)
        return rows, where


_APPEAL_MAILS = 10_000
"""Mails of a campaign from which its appeal is estimated."""


def _history(recipient: Any, sent_at: Any, opened_at: Any, **others: Any) -> History:
    if isinstance(recipient, History):
        if sent_at is not None or opened_at is not None or any(value is not None for value in others.values()):
            raise TypeError("a History stands alone: give its columns to History.of")
        return recipient
    if sent_at is None or opened_at is None:
        raise TypeError("sent_at and opened_at are missing: give three arrays, or a History")
    return History.of(recipient, sent_at, opened_at, **others)


def _slots(slots: ArrayLike) -> Integers:
    found = np.asarray(slots)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= WEEK:
        raise ValueError(f"slots are {slots!r}, must be whole hours of the week from 0 (Monday 00:00) to {WEEK - 1}")
    return found.astype(np.int64)


def _spread(values: NDArray[Any], place: Integers, n: int, blank: Any) -> NDArray[Any]:
    spread = np.full(n, blank, dtype=values.dtype)
    spread[place] = values
    return spread
