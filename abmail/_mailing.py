"""One simulated mailing, from the first wave to the last window: the decisions are the engine's own, to the bit.

What is known at each moment is put into the same `Evidence` that the engine reads from its database, and what happens
next comes from the same functions. Only people and their answers are made up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import numpy as np

from abmail import _planning as planning
from abmail._analysis import Findings, findings
from abmail._opening import next_opening
from abmail._world import World
from abmail.assign import HOLDOUT, assign_array, assign_quota_array
from abmail.bandit import TestThenSend
from abmail.decide import Evidence, breaches, epoch_due, next_epoch, verdict_due
from abmail.spec import Experiment
from abmail.stats import Comparison, Counts
from abmail.store import BIN_SECONDS, CompanyMails, Epoch, State, StoppedArm, StoredExperiment, Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from abmail._truth import Truth

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Mailing", "Outcome", "Setup", "play"]

_CLASSIC: Final = TestThenSend(share=0.2, wait=4 * 3_600.0)
_SETTLED: Final = frozenset({"winner", "no_difference"})
_ALIKE: Final = 1e-12


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all replications have in common.

    Attributes:
        experiment: The definition.
        truth: What is true, or how it is drawn.
        n: People in the audience.
        aa: Whether all cells are alike.
        start: When the first wave may go out, aware.
    """

    experiment: Experiment
    truth: Truth
    n: int
    aa: bool
    start: datetime

    @cached_property
    def versions(self) -> tuple[tuple[timedelta, Experiment], ...]:
        """The versions of the definition, each with the time after the first mail at which it is applied.

        A level that joins is in none before; the cells of a version are those of the one before and then new ones.
        """
        joins = self.truth.joins
        if not joins:
            return ((timedelta(0), self.experiment),)
        made: list[tuple[timedelta, Experiment]] = []
        for moment in sorted({timedelta(0), *joins.values()}):
            plain = self.experiment.resolved()
            there = {
                factor: {name: text for name, text in levels.items() if joins.get(name, moment) <= moment}
                for factor, levels in plain["factors"].items()
            }
            version = Experiment.from_dict(plain | {"factors": there})
            made.append((moment, version.going_on_from(made[-1][1]) if made else version))
        return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one mailing came to.

    Answers are those of people, as expected from the cells that they got, all at an ordinary hour. The best cell is
    that among those within the limits on unwanted events; of cells that join later it counts from then on.

    Attributes:
        mails: Mails that went out.
        answers: Answers that they brought.
        even: Answers if all cells had had equal shares of the mails since they were there.
        classic: Answers of a test of the first cells on a fifth, four hours of waiting, and the winner to the rest.
        ideal: Answers if everybody had got the best cell of the segment.
        best: Index of the best cell; -1 where two or more are best.
        gap: Difference between the best rate and the second best.
        state: State of the decision at the end.
        arm: Index of the cell that the decision names, of the leading one where it names none.
        decided: Seconds from the first send to the moment at which the decision could be read; infinite without one.
        sent_then: Share of the mails that were out by then, fraction.
        loss: Rate that is lost with ``arm`` against the best.
        covered: How many intervals of differences to the control hold the true one.
        intervals: How many there are.
        harm: Unwanted events that the mails brought, as expected from who got what.
        even_harm: Those of an even split.
        over: Cells besides the control that are truly above a limit.
        caught: How many of them were stopped.
        within: Cells besides the control that are above none.
        wronged: How many of them were stopped.
    """

    mails: int
    answers: float
    even: float
    classic: float
    ideal: float
    best: int
    gap: float
    state: str
    arm: int
    decided: float
    sent_then: float
    loss: float
    covered: int
    intervals: int
    harm: float
    even_harm: float
    over: int
    caught: int
    within: int
    wronged: int


_NOTHING: Final = Outcome(
    mails=0, answers=0.0, even=0.0, classic=0.0, ideal=0.0, best=-1, gap=0.0, state="stopped", arm=0, decided=math.inf,
    sent_then=0.0, loss=0.0, covered=0, intervals=0, harm=0.0, even_harm=0.0, over=0, caught=0, within=0, wronged=0,
)  # fmt: skip
"""Of a test that is not held at all, as the list is too small."""


@dataclass(slots=True)
class Mailing:
    """A mailing under way.

    Attributes:
        setup: What is simulated.
        world: The people.
        experiment: The version of the definition that is in force.
        stored: The experiment as the store would hold it.
        queue: Indices of the people who wait, in the order of the waves.
        mailed: Indices of everybody who is not held out.
        epochs: Epochs so far.
        people: People of each epoch.
        cells: Their cells.
        delays: Seconds until each one's answer is counted.
        unwanted: (n_guarded, ...) seconds until each one's unwanted events.
        stopped: Cells that broke a limit.
    """

    setup: Setup
    world: World
    experiment: Experiment
    stored: StoredExperiment
    queue: Integers
    mailed: Integers
    epochs: list[Epoch] = field(default_factory=list)
    people: list[Integers] = field(default_factory=list)
    cells: list[Integers] = field(default_factory=list)
    delays: list[Floats] = field(default_factory=list)
    unwanted: list[Floats] = field(default_factory=list)
    stopped: tuple[StoppedArm, ...] = ()

    @classmethod
    def begin(cls, setup: Setup, rng: np.random.Generator) -> Mailing:
        """Draw the people and put them into the order of the waves."""
        experiment = setup.versions[0][1]
        world = World.draw(setup.truth, setup.versions[-1][1], setup.n, rng=rng, aa=setup.aa)
        held = assign_array(experiment, world.units, weights=[1.0]) == HOLDOUT
        order = np.argsort(planning.order_of(experiment, world.units, world.ids), kind="stable")
        queue = order[~held[order]]
        stored = StoredExperiment(
            name=experiment.name, state="running", started_at=setup.start, ended_at=None, verdict=None, version=1,
            spec_hash="", content_hash="", definition={}, template="", text_template=None,
            waves=planning.waves(experiment, len(queue)),
        )  # fmt: skip
        return cls(setup=setup, world=world, experiment=experiment, stored=stored, queue=queue, mailed=queue)

    def run(self, *, watched: bool = True) -> datetime:
        """Send until nobody waits or the test is stopped; returns when the stop rule spoke, or all windows closed.

        Args:
            watched: Whether the stop rule compares the arms before each epoch; otherwise it goes by the time alone.
        """
        decided, now = None, self._open(self.setup.start)
        while len(self.queue) and self.stored.state == "running":
            if not self._waiting(now):
                now = self._open(self.comes_at(len(self.mailed) - len(self.queue)))
            self._update(now)
            evidence = self._within_limits(now)
            judged = watched or not evidence.n_mature or self._time_is_over(now)
            if judged and (verdict := verdict_due(evidence)) is not None:
                decided = now
                self.stored = replace(
                    self.stored, verdict=verdict, state="stopped" if verdict["then"] == "stop" else "running"
                )
                evidence = replace(evidence, stored=self.stored)
            if self.stored.state == "running":
                self._send(next_epoch(evidence, reachable=self._waiting(now)))
                now = self._open(epoch_due(self.stored, self.setup.experiment, self.epochs) or now)
        return decided or self.closes

    def _update(self, now: datetime) -> None:
        """Go on with the version of the definition that is applied by now."""
        since = now - self.epochs[0].opened_at if self.epochs else timedelta(0)
        number = sum(moment <= since for moment, _ in self.setup.versions)
        if number > self.stored.version:
            self.experiment = self.setup.versions[number - 1][1]
            self.stored = replace(self.stored, version=number)

    def _within_limits(self, now: datetime) -> Evidence:
        """What is known, once the cells that broke a limit are stopped."""
        evidence = self.evidence(now, settled=True)
        if not self.world.guarded:
            return evidence
        broken = (StoppedArm(cell=c, at=now, reason=why, by="guardrail") for c, why in breaches(evidence))
        self.stopped = (*self.stopped, *broken)
        return replace(evidence, stopped=self.stopped)

    @property
    def closes(self) -> datetime:
        """When the last window has closed."""
        last = self.epochs[-1].opened_at if self.epochs else self.setup.start
        return last + self.setup.experiment.metrics.window

    def comes_at(self, place: int) -> datetime:
        """When the person at a place of the queue joins it: at once, or one by one where the experiment stands."""
        if not self.setup.experiment.allocation.standing:
            return self.setup.start
        return self.setup.start + self.setup.experiment.stop.after * (place / len(self.mailed))

    def _waiting(self, now: datetime) -> int:
        """People who have joined the queue and wait."""
        sent, all_ = len(self.mailed) - len(self.queue), len(self.mailed)
        if not self.setup.experiment.allocation.standing:
            return len(self.queue)
        joined = math.floor((now - self.setup.start) / self.setup.experiment.stop.after * all_ + _ALIKE) + 1
        return max(min(joined, all_) - sent, 0)

    def _time_is_over(self, now: datetime) -> bool:
        return now - self.epochs[0].opened_at >= self.setup.experiment.stop.after

    def closed_at(self, number: int) -> datetime:
        """When the window of an epoch has closed."""
        return self.epochs[number].opened_at + self.setup.experiment.metrics.window

    def _open(self, moment: datetime) -> datetime:
        settings = self.setup.experiment.send_time
        return next_opening(settings, self._zone, moment)

    @property
    def _zone(self) -> str:
        settings = self.setup.experiment.send_time
        return settings.default_zone if settings.zone == "recipient" else settings.zone

    def _send(self, epoch: Epoch) -> None:
        """Assign the people of an epoch, and see what they will do."""
        taken, self.queue = self.queue[: epoch.planned], self.queue[epoch.planned :]
        cells = self._deal(taken, epoch)
        level = self.level_at(epoch.opened_at)
        self.epochs.append(replace(epoch, size=len(taken), remaining=self._waiting(epoch.opened_at)))
        self.people.append(taken)
        self.cells.append(cells)
        self.delays.append(self.world.delays(taken, cells, level=level))
        self.unwanted.append(self.world.unwanted(taken, cells))

    def _deal(self, taken: Integers, epoch: Epoch) -> Integers:
        """Each one's cell by the weights of their segment; those without weights of their own are dealt together."""
        names = self.setup.truth.names
        own = np.array([i if name in epoch.segments else -1 for i, name in enumerate(names)])
        group, cells = own[self.world.segment[taken]], np.empty(len(taken), dtype=np.int64)
        for one in np.unique(group):
            weights = epoch.weights if one < 0 else epoch.segments[names[one]]
            rows = np.flatnonzero(group == one)
            cells[rows] = _dealt(self.experiment, self.world.units[taken[rows]], weights, epoch.number)
        return cells

    def level_at(self, moment: datetime) -> float:
        """Factor on all rates of mail that goes out at a moment."""
        local = moment.astimezone(ZoneInfo(self._zone))
        days = (moment - self.epochs[0].opened_at) / timedelta(days=1) if self.epochs else 0.0
        return self.world.level(local.hour + local.minute / 60, days)

    def evidence(self, now: datetime, *, settled: bool = False) -> Evidence:
        """All that is known at a moment, as the engine would read it from its database.

        With ``settled``, answers whose verdict may still change don't count yet.
        """
        young = self.experiment.metrics.provisional.total_seconds() if settled else 0.0
        waiting = self._waiting(now) if self.stored.state == "running" else 0
        sent = sum(len(taken) for taken in self.people)
        return Evidence(
            stored=self.stored,
            experiment=self.experiment,
            epochs=tuple(self.epochs),
            tally=self._tally(now, young),
            strata=self._strata(now, young),
            provisional=young,
            states={State.QUEUED: waiting, State.SENT: sent},
            last_send={epoch.number: epoch.opened_at for epoch in self.epochs},
            unsettled={},
            waves=self.stored.waves,
            now=now,
            companies=self._companies(now) if self.experiment.audience.unit == "company" else (),
            stopped=self.stopped,
        )

    def _companies(self, now: datetime) -> tuple[CompanyMails, ...]:
        """What each company was sent and has answered, as the store counts it."""
        metric, found = self.experiment.metrics.primary, []
        for epoch, people, cells, delays in zip(self.epochs, self.people, self.cells, self.delays, strict=True):
            passed = (now - epoch.opened_at).total_seconds()
            units, place = np.unique(self.world.units[people], return_inverse=True)
            parts, where = np.unique(np.stack((cells, self.world.segment[people], place)), axis=1, return_inverse=True)
            n, answered = (np.bincount(where.reshape(-1), w, parts.shape[1]) for w in (None, delays <= passed))
            names = (self.setup.truth.names[segment] for segment in parts[1].tolist())
            found += [
                CompanyMails(epoch.number, cell, name, units[unit].decode(), sent, {metric: int(k)})
                for cell, name, unit, sent, k in zip(
                    parts[0].tolist(), names, parts[2].tolist(), n.tolist(), answered.tolist(), strict=True
                )
            ]
        return tuple(found)

    def _strata(self, now: datetime, young: float) -> dict[str, Tally]:
        """The counts of each segment, where segments have weights of their own."""
        if self.setup.experiment.allocation.segments is None:
            return {}
        found = ((name, self._tally(now, young, segment=i)) for i, name in enumerate(self.setup.truth.names) if name)
        return {name: tally for name, tally in found if len(tally.n)}

    def _tally(self, now: datetime, young: float, *, segment: int | None = None) -> Tally:
        """The counts of the store: sends, and answers that have come in, in its bins; of one segment or of all."""
        n_cells, metric = len(self.experiment.cells), self.experiment.metrics.primary
        rows: list[tuple[Integers, ...]] = []
        names: list[str] = []
        everything = zip(self.epochs, self.people, self.cells, self.delays, self.unwanted, strict=True)
        for epoch, people, dealt, waits, harms in everything:
            mine = slice(None) if segment is None else self.world.segment[people] == segment
            cells, passed = dealt[mine], (now - epoch.opened_at).total_seconds()
            sends = np.bincount(cells, minlength=n_cells)
            rows.append(_rows(epoch.number, np.arange(n_cells), np.zeros(n_cells, dtype=np.int64), sends))
            for delays, known in ((waits, passed - young), *((each, passed) for each in harms)):
                come = np.flatnonzero(delays[mine] <= known)
                bins = (delays[mine][come] // BIN_SECONDS).astype(np.int64)
                key, count = np.unique(bins * n_cells + cells[come], return_counts=True)
                rows.append(_rows(epoch.number, key % n_cells, key // n_cells, count))
            names += ["sent", metric, *self.world.guarded]
        joined = [np.concatenate([np.zeros(0, dtype=np.int64), *(row[i] for row in rows)]) for i in range(4)]
        return Tally(
            n_epochs=len(self.epochs), n_cells=n_cells, epoch=joined[0], cell=joined[1],
            metric=np.repeat(names, [len(row[0]) for row in rows]).astype(np.str_), bin=joined[2], n=joined[3],
        )  # fmt: skip


def play(setup: Setup, seed: np.random.SeedSequence) -> Outcome:
    """Simulate one mailing; the same seed gives the same outcome, whatever else is simulated.

    Comparing before every epoch takes most of the time and seldom ends a test. A planned comparison that has come to
    nothing at its last look came to nothing at every earlier one: so the mailing is first played to its end, and played
    again with a comparison before every epoch only where the last one says that an earlier one would have ended it.
    """
    futile = "futile" in setup.experiment.stop.when
    mailing, found, spoke = _played(setup, seed, watched=futile)
    if not futile and found is not None and _ends_early(mailing, found):
        mailing, found, spoke = _played(setup, seed, watched=True)
    return _NOTHING if found is None else _outcome(mailing, found, spoke)


def _played(setup: Setup, seed: np.random.SeedSequence, *, watched: bool) -> tuple[Mailing, Findings | None, datetime]:
    mailing = Mailing.begin(setup, np.random.default_rng(seed))
    spoke = mailing.run(watched=watched)
    return mailing, findings(mailing.evidence(mailing.closes)) if mailing.epochs else None, spoke


def _ends_early(mailing: Mailing, found: Findings) -> bool:
    look = found.decision.look
    return look is not None and mailing.closed_at(look) <= mailing.epochs[-1].opened_at


def _outcome(mailing: Mailing, found: Findings, spoke: datetime) -> Outcome:
    world, arms = mailing.world, found.comparison.arms
    people, cells = np.concatenate(mailing.people), np.concatenate(mailing.cells)
    control = mailing.experiment.control_cell.index
    rates, fine = world.overall(mailing.mailed)[: len(arms)], _within(mailing)[: len(arms)]
    leading = max(range(len(arms)), key=lambda i: (arms[i].p_best, -i))
    named = next((arm.index for arm in arms if arm.name == found.decision.arm), leading)
    ranked = np.sort(rates[fine])
    gap = float(ranked[-1] - ranked[-2]) if len(ranked) > 1 else 0.0
    decided = _read_at(mailing, found, spoke)
    covered, intervals = _coverage(found.comparison, rates, control)
    stopped = np.isin([arm.name for arm in arms], [arm.cell for arm in mailing.stopped])
    others = np.arange(len(arms)) != control
    return Outcome(
        mails=len(people),
        answers=world.expected(people, cells),
        even=_everybody(mailing, lambda there: world.rates[:, :there].mean(axis=1)),
        classic=_classic(mailing, people),
        ideal=_everybody(mailing, lambda there: world.rates[:, :there][:, _within(mailing)[:there]].max(axis=1)),
        best=int(np.argmax(np.where(fine, rates, -1.0))) if gap > _ALIKE else -1,
        gap=gap if gap > _ALIKE else 0.0,
        state=found.decision.state,
        arm=named,
        decided=math.inf if decided is None else (decided - mailing.epochs[0].opened_at).total_seconds(),
        sent_then=1.0 if decided is None else _sent_by(mailing, decided) / len(people),
        loss=max(float(ranked[-1] - rates[named]), 0.0),
        covered=covered,
        intervals=intervals,
        harm=float(world.harm[:, cells].sum()),
        even_harm=_everybody(
            mailing, lambda there: np.full(len(world.rates), world.harm[:, :there].mean(axis=1).sum())
        ),
        over=int((others & ~fine).sum()),
        caught=int((others & ~fine & stopped).sum()),
        within=int((others & fine).sum()),
        wronged=int((others & fine & stopped).sum()),
    )


def _within(mailing: Mailing) -> NDArray[np.bool_]:
    """Cells that are truly within all limits; the control counts as one, as it is never stopped."""
    world, limits = mailing.world, {**mailing.experiment.metrics.guardrails}
    highest = np.array([limit for name in world.guarded for guarded, limit in limits.items() if guarded == name])
    within = np.atleast_1d((world.harm <= highest[:, None]).all(axis=0))
    within[mailing.experiment.control_cell.index] = True
    return within


def _everybody(mailing: Mailing, of_segment: Callable[[int], Floats]) -> float:
    """Sum over all mails of what each brings by its segment, given how many cells there were in its epoch."""
    segment = mailing.world.segment
    parts = [
        of_segment(len(epoch.weights))[segment[people]]
        for epoch, people in zip(mailing.epochs, mailing.people, strict=True)
    ]
    return float(np.concatenate(parts).sum())


def _read_at(mailing: Mailing, found: Findings, spoke: datetime) -> datetime | None:
    """When the decision could first be read: as the stop rule spoke, or as the window of the deciding epoch closed."""
    if found.decision.state not in _SETTLED:
        return None
    look = found.decision.look
    return spoke if mailing.stored.verdict is not None or look is None else mailing.closed_at(look)


def _sent_by(mailing: Mailing, moment: datetime) -> int:
    return sum(epoch.size for epoch in mailing.epochs if epoch.opened_at < moment)


def _coverage(comparison: Comparison, rates: Floats, control: int) -> tuple[int, int]:
    """How many intervals of differences to the control hold the true difference, and how many there are."""
    held = [
        arm.ci_lower <= rates[arm.index] - rates[control] <= arm.ci_upper
        for arm in comparison.arms
        if arm.ci_lower is not None and arm.ci_upper is not None
    ]
    return int(sum(held)), len(held)


def _classic(mailing: Mailing, people: Integers) -> float:
    """Answers of the classical test on the same people: a fifth evenly, the winner after four hours to the rest."""
    experiment, world = mailing.setup.versions[0][1], mailing.world
    n_cells = len(experiment.cells)
    size = min(max(round(_CLASSIC.share * len(people)), 1), len(people))
    test, rest = people[:size], people[size:]
    even = _CLASSIC.weights(Counts(np.zeros((1, n_cells), np.int64), np.zeros((1, n_cells), np.int64)))
    cells = _dealt(experiment, world.units[test], even, 0)
    come = world.delays(test, cells, level=mailing.level_at(mailing.epochs[0].opened_at)) <= _CLASSIC.wait
    seen = Counts(np.bincount(cells, minlength=n_cells), np.bincount(cells[come], minlength=n_cells))
    chosen = _dealt(experiment, world.units[rest], _CLASSIC.weights(seen), 1)
    return world.expected(test, cells) + world.expected(rest, chosen)


def _dealt(experiment: Experiment, units: NDArray[np.bytes_], weights: ArrayLike, epoch: int) -> Integers:
    shares = np.asarray(weights, dtype=np.float64)
    if experiment.allocation.assignment == "quota":
        return assign_quota_array(experiment, units, weights=shares, epoch=epoch)
    return assign_array(experiment, units, weights=shares)


def _rows(epoch: int, cell: Integers, where: Integers, n: Integers) -> tuple[Integers, ...]:
    """Rows of one epoch in the order of `Tally`; nothing is written of what did not happen."""
    some = n > 0
    return np.full(int(some.sum()), epoch, dtype=np.int64), cell[some], where[some], n[some]
