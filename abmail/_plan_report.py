"""The report of a plan: what would be sent, what it can show, and what a change means, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from abmail._forecast import Forecast, Wave, shared
from abmail._plan_changes import Judged
from abmail._plan_power import PlanPower
from abmail._planning import Plan
from abmail._report_text import to_markdown, to_text
from abmail._survey import fixed_shares
from abmail.diagnostics import Diagnostic
from abmail.stats import Power

if TYPE_CHECKING:
    from abmail.report import Language

__all__ = ["Expected", "PlanReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How many mails each cell gets, (n_cells,) each.

    Attributes:
        mails: To be expected; by the assignment itself where ``known``.
        low: Fewest that the policy can give.
        high: Most.
        known: Whether it is no expectation but how it will be.
    """

    mails: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """What `Engine.review` found; nothing was changed.

    Attributes:
        plan: The plan itself, for `Engine.apply`.
        at: When it was made, aware UTC.
        state: ``new``, or that of the experiment: ``running``, ``stopped``, ``finished``.
        paused: Why no mail goes out until it is resumed; None where mails do.
        changes: What differs from the version in force, with what it means.
        findings: What the rules AB6 say of them.
        findings_ja: The same in Japanese.
        split: (n_cells,) mails of the whole audience by cell; None for a policy that learns.
        zones_split: Zone -> (n_cells,) the same for those who have no row in the ledger.
        shares: (n_cells,) shares of the next epoch by what is known now; None where nothing is.
        barred: Why somebody in the segment gets no mail -> how many.
        refused: Column of the list -> how many of those who would get a mail say no in it.
        ledger: State -> messages that the experiment has already.
        forecast: When the mails go out.
        opened: Epochs that are open already.
        arrivals: Mails a day that people who keep joining bring; None where nobody is awaited.
        power: What the list can show; None where it was not asked for, or the list is too small.
    """

    plan: Plan
    at: datetime
    state: str
    paused: str | None = None
    changes: tuple[Judged, ...] = ()
    findings: tuple[Diagnostic, ...] = ()
    findings_ja: tuple[Diagnostic, ...] = ()
    split: tuple[int, ...] | None = None
    zones_split: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shares: tuple[float, ...] | None = None
    barred: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    ledger: Mapping[str, int] = field(default_factory=dict)
    forecast: Forecast
    opened: int = 0
    arrivals: float | None = None
    power: PlanPower | None = None

    @property
    def risky(self) -> bool:
        """Whether applying it would break what runs, or is refused as the experiment has ended."""
        if self.state == "running":
            return any(judged.breaks for judged in self.changes) or any(f.severity == "error" for f in self.findings)
        return self.state != "new" and bool(self.changes or self.plan.new)

    @property
    def to_come(self) -> int:
        """Mails that are still to go out."""
        return sum(zone.mails for zone in self.forecast.zones)

    @property
    def until(self) -> timedelta | None:
        """From the first mail to the end of the last one's window; None without an end, or without mails."""
        first, last = self.forecast.first, self.forecast.last
        if first is None or last is None or self.plan.experiment.allocation.standing:
            return None
        return last - first + self.plan.experiment.metrics.window

    def expected(self, wave: Wave) -> Expected:
        """What each cell gets of a wave."""
        experiment, n = self.plan.experiment, wave.mails
        cells = [cell.name for cell in experiment.cells]
        if self.shares is not None and max(self.shares) >= 1:
            mails = _divided(n, cells, self.shares)
            return Expected(mails=mails, low=mails, high=mails, known=True)
        fixed = fixed_shares(experiment)
        if fixed is not None:
            known = self._by_assignment(wave)
            mails = known or _divided(n, cells, fixed)
            return Expected(mails=mails, low=mails, high=mails, known=known is not None)
        mails = _divided(n, cells, self.shares or [1 / len(cells)] * len(cells))
        if wave.rest:
            return Expected(mails=mails, low=(0,) * len(cells), high=(n,) * len(cells), known=False)
        if experiment.allocation.policy == "test_then_send" or (wave.number == 0 and not self.opened):
            return Expected(mails=mails, low=mails, high=mails, known=False)
        least = int(experiment.min_weight * n)
        return Expected(
            mails=mails, low=(least,) * len(cells), high=(n - (len(cells) - 1) * least,) * len(cells), known=False
        )

    def in_all(self) -> Expected:
        """What each cell gets of all that is still to come."""
        parts = [self.expected(wave) for wave in self.forecast.waves]
        nothing = (0,) * len(self.plan.experiment.cells)
        return Expected(
            mails=_summed([part.mails for part in parts], nothing),
            low=_summed([part.low for part in parts], nothing),
            high=_summed([part.high for part in parts], nothing),
            known=all(part.known for part in parts),
        )

    def _by_assignment(self, wave: Wave) -> tuple[int, ...] | None:
        """The cells of a wave that takes whole zones, all of whose people are new."""
        quota = self.plan.experiment.allocation.assignment == "quota"
        found = [self.zones_split.get(zone) for zone in wave.zones]
        if quota or any(one is None or sum(one) != n for one, n in zip(found, wave.zones.values(), strict=True)):
            return None
        return _summed([one for one in found if one is not None], (0,) * len(self.plan.experiment.cells))

    def to_text(self, *, width: int = 100, color: bool = False, language: Language = "en") -> str:
        """The report for a terminal."""
        from abmail._plan_view import view

        return to_text(view(self, language), width=width, color=color)

    def to_markdown(self, *, language: Language = "en") -> str:
        """The report to paste into a pull request."""
        from abmail._plan_view import view

        return to_markdown(view(self, language))

    def to_dict(self) -> dict[str, Any]:
        """The report in numbers, JSON-able; no person in it, and no content of a mail but of what changed."""
        plan, ahead = self.plan, self.forecast
        names = [cell.name for cell in plan.experiment.cells]
        return {
            **plan.to_dict(),
            "against_version": plan.against_version,
            "content_hash": plan.content_hash,
            "roll": plan.roll,
            "planned_at": self.at.isoformat(),
            "state": self.state,
            "paused": self.paused,
            "risky": self.risky,
            "changes": [_change(judged) for judged in self.changes],
            "findings": [
                {"code": f.code, "severity": f.severity, "message": f.message, "hint": f.hint, "line": f.line}
                for f in self.findings
            ],
            "suppressed_by": dict(self.barred),
            "refused": dict(self.refused),
            "ledger": dict(self.ledger),
            "expected": _cells(names, self.in_all()),
            "epochs": [
                {"number": wave.number, "opens_at": wave.at.isoformat(), "mails": wave.mails, "rest": wave.rest,
                 "zones": dict(wave.zones), **_cells(names, self.expected(wave))}
                for wave in ahead.waves
            ],
            "days": {day.isoformat(): n for day, n in ahead.days.items()},
            "zones": [
                {"zone": zone.name, "mails": zone.mails, "first": zone.first.isoformat(),
                 "last": zone.last.isoformat(), "holidays": [day.isoformat() for day in zone.free]}
                for zone in ahead.zones
            ],
            "without_moment": ahead.never,
            "sampled": ahead.sampled,
            "arrivals_per_day": self.arrivals,
            "seconds_to_result": None if self.until is None else self.until.total_seconds(),
            "power": None if self.power is None else _power(self.power),
        }  # fmt: skip


def _divided(n: int, names: Sequence[str], shares: Sequence[float]) -> tuple[int, ...]:
    """``n`` mails by shares, whole numbers that add up."""
    parts = shared({name: round(share * 2**20) for name, share in zip(names, shares, strict=True)}, n)
    return tuple(parts.get(name, 0) for name in names)


def _summed(rows: Sequence[tuple[int, ...]], nothing: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sum(column) for column in zip(nothing, *rows, strict=True))


def _cells(names: Sequence[str], expected: Expected) -> dict[str, Any]:
    columns = {"cells": expected.mails, "fewest": expected.low, "most": expected.high}
    return {key: dict(zip(names, values, strict=True)) for key, values in columns.items()} | {"exact": expected.known}


def _change(judged: Judged) -> dict[str, Any]:
    change = judged.change
    known = {"path": change.path, "before": change.before, "after": change.after, "risky": change.risky}
    return {**known, "effect": judged.effect, "moved": judged.moved, "diff": list(judged.diff)}


def _power(power: PlanPower) -> dict[str, Any]:
    return {
        "baseline": power.rate,
        "baseline_source": power.baseline.source,
        "mde": power.effect,
        "mde_source": "assumed" if power.assumed else "definition",
        "mails": power.mails,
        "curve": [_point(point) for point in power.curve],
        "smallest": power.smallest.effect,
        "gained": power.gained.value,
        "gained_se": power.gained.se,
        "simulated_mailings": power.simulated,
    }


def _point(point: Power) -> dict[str, Any]:
    return {"effect": point.effect, "power": point.power, "se": point.se}
