"""Reviewer: everything that somebody wants to know before a plan is put into force; reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from abmail import _planning as planning
from abmail._evidence import Evidence
from abmail._forecast import Forecast, Moment, forecast, waves_ahead
from abmail._opening import next_opening
from abmail._plan_changes import alternatives, judge
from abmail._plan_power import plan_power
from abmail._plan_report import PlanReport
from abmail._planner import Planner
from abmail._survey import SAMPLE, Survey, fixed_shares
from abmail._timing import Timing
from abmail.audience import in_segment
from abmail.check import drift
from abmail.decide import policy_of, shares_of, ships
from abmail.diagnostics import Diagnostic
from abmail.recipient import Recipient
from abmail.spec import Experiment
from abmail.store import Epoch, Store, StoredExperiment

if TYPE_CHECKING:
    from abmail._wording import Language

__all__ = ["Reviewer"]

_MONTH: Final = timedelta(days=28)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """What is in force of an experiment."""

    stored: StoredExperiment
    epochs: tuple[Epoch, ...]
    ahead: Sequence[tuple[str, datetime | None, int]]
    evidence: Evidence

    @property
    def queued(self) -> Counter[str]:
        """Zone -> mails that wait for a wave."""
        waiting: Counter[str] = Counter()
        for zone, at, n in self.ahead:
            waiting[zone] += n if at is None else 0
        return waiting


class Reviewer:
    """Reviews plans.

    Args:
        store: Of which is only read.
        planner: Makes the plans.
        timing: Knows when people read.
        evidence: What is known of an applied experiment at a moment.
    """

    def __init__(
        self,
        store: Store,
        planner: Planner,
        timing: Timing,
        *,
        evidence: Callable[[StoredExperiment, datetime], Evidence],
    ) -> None:
        self._store, self._planner, self._timing, self._evidence = store, planner, timing, evidence

    def review(self, experiment: Experiment, *, now: datetime, power: bool) -> PlanReport:
        """See `Engine.review`."""
        running = self._running(experiment.name, now)
        before = None if running is None else running.evidence.experiment
        experiment = _continued(experiment, before)
        altered = {} if before is None else alternatives(before, experiment)
        survey = Survey(experiment, before, altered)
        plan = self._planner.plan(experiment, survey=survey)
        ahead = self._forecast(experiment, survey, plan.waves, running, now)
        mails = survey.selection.chosen
        return PlanReport(
            plan=plan,
            at=now,
            state="new" if running is None else running.stored.state,
            paused=None if running is None else running.stored.pause_reason,
            changes=tuple(
                judge(change, {path: found.moved for path, found in survey.moves.items()}) for change in plan.changes
            ),
            findings=_findings(running, experiment, altered, survey),
            findings_ja=_findings(running, experiment, altered, survey, "ja"),
            split=tuple(survey.cells.tolist()) if fixed_shares(experiment) else None,
            zones_split={zone: tuple(cells.tolist()) for zone, cells in survey.zones.items()},
            shares=_shares(experiment, plan.waves, running),
            barred=dict(survey.barred.most_common()),
            refused={column: n for column, n in survey.refused.items() if n},
            ledger={} if running is None else {str(state): n for state, n in running.evidence.states.items()},
            forecast=ahead,
            opened=0 if running is None else len(running.epochs),
            arrivals=self._arrivals(experiment, now) if experiment.allocation.standing else None,
            power=plan_power(experiment, mails, self._planner.baseline(experiment, now=now)) if power else None,
        )

    def _running(self, name: str, now: datetime) -> _Running | None:
        stored = self._planner.stored(name)
        if stored is None:
            return None
        return _Running(
            stored=stored, epochs=self._store.epochs(name), ahead=self._store.ahead(name),
            evidence=self._evidence(stored, now),
        )  # fmt: skip

    def _forecast(
        self, experiment: Experiment, survey: Survey, sizes: Sequence[int], running: _Running | None, now: datetime
    ) -> Forecast:
        if running is not None and running.stored.state != "running":
            return Forecast(waves=(), zones=(), days={})
        waiting = Counter({zone: int(cells.sum()) for zone, cells in survey.zones.items()})
        waiting += Counter() if running is None else running.queued
        due = [] if running is None else _due(experiment, running, now)
        if experiment.send_time.is_planned:
            return self._planned(experiment, survey, sizes, running, sum(waiting.values()), due, now)
        epochs = () if running is None else running.epochs
        waves = tuple(waves_ahead(
            experiment, waiting, sizes, now=now, opened=len(epochs), last=epochs[-1].opened_at if epochs else None,
            sent=sum(epoch.size for epoch in epochs), ships=bool(_settled(experiment, sizes, running)),
        ))  # fmt: skip
        opened = [Moment(zone, wave.at, mails) for wave in waves for zone, mails in wave.zones.items()]
        return forecast(experiment, waves, [*due, *opened])

    def _planned(
        self, experiment: Experiment, survey: Survey, sizes: Sequence[int], running: _Running | None, waiting: int,
        due: Sequence[Moment], now: datetime,
    ) -> Forecast:  # fmt: skip
        """When mails go out that get moments of their own: those of some stand for all."""
        if not waiting:
            return forecast(experiment, (), due)
        name, done = experiment.name, 0 if running is None else len(self._store.releases(experiment.name))
        queued = [] if running is None else self._store.waiting(name, n=SAMPLE)
        in_queue = 0 if running is None else sum(running.queued.values())
        people = _mixed(experiment, [one.recipient for one in queued], survey.sample, in_queue / waiting)
        left = _left(sizes[done:], waiting)
        waves, moments, never = self._timing.preview(experiment, people, left, now=now)
        sampled = len(people) if len(people) < waiting else 0
        return forecast(experiment, waves, [*due, *moments], never=never, sampled=sampled)

    def _arrivals(self, experiment: Experiment, now: datetime) -> float:
        """People a day who joined the segment in the last four weeks, the busiest day, perhaps an import, left out."""
        days: Counter[date] = Counter(
            at.date() for recipient, at in self._store.arrivals(now - _MONTH)
            if in_segment(experiment.audience.segment, recipient)
        )  # fmt: skip
        most = max(days.values(), default=0)
        return (sum(days.values()) - most) / (_MONTH.days - 1) * (1 - experiment.audience.holdout)


def _continued(experiment: Experiment, before: Experiment | None) -> Experiment:
    """The definition with the cells numbered on from the version in force, where none of those is gone."""
    try:
        return experiment if before is None else experiment.going_on_from(before)
    except (KeyError, ValueError):
        return experiment


def _findings(
    running: _Running | None,
    experiment: Experiment,
    altered: Mapping[str, Experiment],
    survey: Survey,
    language: Language = "en",
) -> tuple[Diagnostic, ...]:
    """What the rules AB6 say of the changes to a running experiment, with the people that this list would move."""
    if running is None or running.stored.state != "running":
        return ()
    counted = {other.spec_hash: survey.moves[path] for path, other in altered.items()}
    before = running.evidence.experiment
    return drift(before, experiment, moves=lambda _, other: counted.get(other.spec_hash), language=language)


def _settled(experiment: Experiment, sizes: Sequence[int], running: _Running | None) -> str:
    """The cell that everybody who waits gets: the test is decided, or too small to begin; empty while it goes on."""
    control = experiment.control_cell.name
    if running is not None and ships(running.stored):
        verdict = running.stored.verdict or {}
        return str(verdict["arm"]) if verdict["then"] == "send_winner" else control
    begun = running is not None and running.epochs
    small = not begun and not experiment.allocation.standing and planning.verdict_on_size(experiment, sum(sizes))
    return control if small else ""


def _shares(experiment: Experiment, sizes: Sequence[int], running: _Running | None) -> tuple[float, ...] | None:
    """(n_cells,) the shares that the next epoch would have by what is known; None where nothing is known yet."""
    if arm := _settled(experiment, sizes, running):
        return tuple(float(cell.name == arm) for cell in experiment.cells)
    if running is None or not running.epochs:
        return None
    if fixed_shares(experiment) or len(experiment.cells) != len(running.evidence.experiment.cells):
        return None
    return shares_of(running.evidence, policy_of(running.evidence)[0]).weights


def _due(experiment: Experiment, running: _Running, now: datetime) -> list[Moment]:
    """Mails that have their moment already."""
    return [
        Moment(zone, next_opening(experiment.send_time, zone, max(at, now)), n)
        for zone, at, n in running.ahead
        if at is not None
    ]


def _left(sizes: Sequence[int], waiting: int) -> list[int]:
    """Waves for those who wait: as planned, and the last one takes the rest."""
    left: list[int] = []
    for size in sizes[:-1]:
        if size < waiting:
            left.append(size)
            waiting -= size
    return [*left, waiting]


def _mixed(
    experiment: Experiment, queued: Sequence[Recipient], fresh: Sequence[Recipient], share: float
) -> list[Recipient]:
    """Some of both in the order of the waves, the queued ones making up a share."""
    n = min(SAMPLE, len(queued) + len(fresh))
    old = min(round(share * n), len(queued)) if fresh else n
    people = [*queued[:old], *fresh[: n - old]]
    places = planning.positions(experiment, people)
    return [one for _, one in sorted(zip(places, people, strict=True), key=lambda pair: (pair[0], pair[1].id))]
