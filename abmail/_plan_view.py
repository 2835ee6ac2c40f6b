"""A plan as headline, sections and tables in one language: what the terminal and the pull request show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from abmail import _planning as planning
from abmail._plan_changes import Judged
from abmail._plan_words import DAYS, EFFECTS, KINDS, REASONS, SAYINGS, STATES
from abmail._report_parts import Cell, Column, Section, Table, View, moment, table
from abmail._report_words import words_for
from abmail._spec_types import WEEK
from abmail._survey import fixed_shares

if TYPE_CHECKING:
    from abmail._plan_power import PlanPower
    from abmail._plan_report import Expected, PlanReport
    from abmail.report import Language

__all__ = ["view"]

_LONGEST: Final = 46  # of a value that is shown
_MOST_ROWS: Final = 12
_NOUNS: Final = {"clicked": "clicks", "opened": "opens_noun"}


def view(report: PlanReport, language: Language) -> View:
    """Lay a plan out.

    Raises:
        ValueError: ``language`` is unknown.
    """
    return _Page(report, language).view()


class _Page:
    def __init__(self, report: PlanReport, language: Language) -> None:
        self.report, self.words = report, words_for(language)
        self._japanese = int(language == "ja")
        self.experiment = report.plan.experiment

    def say(self, key: str, **values: object) -> str:
        return SAYINGS[key][self._japanese].format(**values)

    def named(self, known: dict[str, tuple[str, str]], key: str) -> str:
        return known[key][self._japanese] if key in known else key

    def view(self) -> View:
        report = self.report
        broken = [each for each in report.changes if each.breaks and report.state == "running"]
        sections = (
            self._changes(), self._variants(), self._people(), self._waves(), self._days(), self._zones(),
            self._power(), self._warnings(),
        )  # fmt: skip
        return View(
            words=self.words,
            title=self.experiment.name,
            subtitle=self._subtitle(),
            headline=self._headline(),
            tone="bad" if report.risky else "plain",
            sentence=self._shows(report.power) if report.power else "",
            question=self.experiment.hypothesis,
            alerts=tuple(f"{each.change.path}: {self._meaning(each)}" for each in broken),
            facts=self._facts(),
            sections=tuple(s for s in sections if s.lead or s.tables or s.checks or s.items or s.code),
            footer=(self._next(),),
        )

    # -- the head ------------------------------------------------------------------------------------------------------

    def _subtitle(self) -> str:
        report, at = self.report, moment(self.report.at)
        if report.state == "new":
            return self.say("subtitle_new", at=at)
        version, state = report.plan.against_version, self.named(STATES, report.state)
        return self.say("subtitle", version=version, state=state, at=at)

    def _headline(self) -> str:
        report, count = self.report, self.words.count
        broken = sum(each.breaks for each in report.changes)
        if report.state == "new":
            mails = report.plan.selection.chosen
            return (
                self.say("head_new", mails=count(mails), variants=len(self.experiment.cells))
                if mails
                else self.say("head_nobody")
            )
        if report.risky:
            running = report.state == "running"
            return self.say("head_breaks", n=broken, all=len(report.changes)) if running else self.say("head_ended")
        if len(report.changes) == 1:
            return self.say("head_change")
        if report.changes:
            return self.say("head_changes", n=len(report.changes))
        return self.say("head_joins", new=count(report.plan.new)) if report.plan.new else self.say("head_same")

    def _shows(self, power: PlanPower) -> str:
        smallest, wanted = power.smallest.effect, self.words.percent(self.experiment.analysis.power)
        return self.say(
            "shows_never" if smallest is None else "shows", mails=self.words.count(power.mails),
            low=self.words.percent(power.rate, digits=2), high=self.words.percent(power.rate + power.effect, digits=2),
            chance=self.words.chance(power.found.power), wanted=wanted,
            smallest="" if smallest is None else self._points(smallest),
        )  # fmt: skip

    def _facts(self) -> tuple[tuple[str, str], ...]:
        chosen, report = self.report.plan.selection, self.report
        facts = (
            ("mails", chosen.chosen, True), ("to_come", report.to_come, report.state != "new"),
            ("out", report.ledger.get("sent", 0), report.state != "new"),
            ("new", chosen.new, report.state != "new" and chosen.new > 0),
            ("held_out", chosen.held_out, chosen.held_out > 0), ("suppressed", chosen.suppressed, True),
            ("outside", chosen.outside, True),
        )  # fmt: skip
        return tuple((self.say(key), self.words.count(n)) for key, n, shown in facts if shown)

    def _next(self) -> str:
        report, name = self.report, self.experiment.name
        if report.risky:
            return self.say("next_new_name", name=name)
        if report.state != "new" and not report.changes and not report.plan.new:
            return self.say("next_send", name=name, version=report.plan.against_version)
        return self.say("next_apply", name=name)

    # -- sections ------------------------------------------------------------------------------------------------------

    def _changes(self) -> Section:
        columns = [Column(label=self.say(key), number=False) for key in ("setting", "before", "after", "meaning")]
        rows = [
            [
                Cell(text=each.change.path, tone="bad" if each.breaks else "plain"),
                *(() if each.diff else (Cell(text=self._value(v)) for v in (each.change.before, each.change.after))),
                *((Cell(), Cell()) if each.diff else ()),
                Cell(text=self._meaning(each), tone="bad" if each.breaks else "plain"),
            ]
            for each in self.report.changes
        ]
        diffs = [line for each in self.report.changes if each.diff for line in (f"@@ {each.change.path}", *each.diff)]
        return Section(
            key="changes", title=self.say("changes"), code="\n".join(diffs),
            tables=(table(columns, rows),) if rows else (),
        )  # fmt: skip

    def _value(self, value: Any) -> str:
        if value is None:
            return self.say("nothing_set")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

    def _meaning(self, each: Judged) -> str:
        moved = self.say("moved", n=self.words.count(each.moved))
        effect = self.named(EFFECTS, each.effect).format(moved=moved)
        return f"{self.named(KINDS, each.kind)}{self.words.semicolon}{effect}"

    def _variants(self) -> Section:
        experiment, found = self.experiment, self.report.in_all()
        if not self.report.to_come:
            return Section(key="variants", title=self.say("variants"))
        keys = ("exact" if found.known else "expected", "fewest", "most")
        columns = [
            Column(label=self.say("variant"), number=False),
            Column(label=self.say("content"), number=False, spare=True),
            *(Column(label=self.say(key)) for key in keys),
        ]  # fmt: skip
        rows = [
            [
                Cell(text=cell.name, detail=self.say("control") if cell == experiment.control_cell else ""),
                Cell(text=self._value(" · ".join(cell.content.values()))), *self._numbers(found, cell.index),
            ]
            for cell in experiment.cells
        ]  # fmt: skip
        return Section(
            key="variants", title=self.say("variants"), lead=self._split(), tables=(table(columns, rows),)
        )  # fmt: skip

    def _numbers(self, found: Expected, index: int) -> list[Cell]:
        low, high = found.low[index], found.high[index]
        return [
            Cell(text=self.words.count(found.mails[index])),
            *(Cell(text="" if low == high else self.words.count(n)) for n in (low, high)),
        ]

    def _split(self) -> str:
        report, experiment = self.report, self.experiment
        if report.shares is not None and max(report.shares) >= 1:
            arm = experiment.cells[report.shares.index(max(report.shares))].name
            return self.say("one_split", arm=arm)
        if report.shares is not None:
            pairs = zip(experiment.cells, report.shares, strict=True)
            return self.say("now_split", shares=self.words.comma.join(f"{c.name} {s:.0%}" for c, s in pairs))
        if experiment.allocation.policy == "test_then_send":
            return self.say("test_split", test=self.words.count(report.plan.waves[0] if report.plan.waves else 0))
        if fixed_shares(experiment) is None:
            floor = self.words.percent(experiment.min_weight)
            return self.say("even_split", policy=experiment.allocation.policy, floor=floor)
        return ""

    def _people(self) -> Section:
        columns = [Column(label=self.say("reason"), number=False), Column(label=self.say("number"))]
        rows = [
            [Cell(text=self.named(REASONS, reason)), Cell(text=self.words.count(n))]
            for reason, n in self.report.barred.items()
        ]
        return Section(
            key="people", title=self.say("people"), tables=(self._cut(columns, rows),) if rows else ()
        )  # fmt: skip

    def _waves(self) -> Section:
        waves = self.report.forecast.waves
        if len(waves) < 2:
            return Section(key="epochs", title=self.say("waves"))
        columns = [Column(label=self.say("wave")), Column(label=self.say("opens"), number=False)]
        columns += [Column(label=self.say("mails")), *(Column(label=c.name, spare=True) for c in self.experiment.cells)]
        rows = []
        for wave in waves:
            expected = self.report.expected(wave)
            cells = [
                self.words.count(n) if low == high else f"{self.words.count(low)}–{self.words.count(high)}"
                for n, low, high in zip(expected.mails, expected.low, expected.high, strict=True)
            ]
            rest = self.say("rest_of_test") if wave.rest else ""
            texts = [str(wave.number + 1), f"{wave.at:%Y-%m-%d %H:%M}", self.words.count(wave.mails), *cells]
            rows.append([Cell(text=text, detail=rest if i == 0 else "") for i, text in enumerate(texts)])
        note = self.say("own_hours" if self.experiment.send_time.is_planned else "at_once")
        return Section(key="epochs", title=self.say("waves"), tables=(self._cut(columns, rows),), notes=(note,))

    def _days(self) -> Section:
        ahead, notes = self.report.forecast, list[str]()
        columns = [Column(label=self.say("day"), number=False), Column(label=self.say("mails"))]
        rows = [[Cell(text=f"{day:%Y-%m-%d}"), Cell(text=self.words.count(n))] for day, n in ahead.days.items()]
        if ahead.sampled:
            notes.append(self.say("sampled", n=self.words.count(ahead.sampled)))
        if self.report.arrivals is not None:
            notes.append(self.say("arrivals", n=f"{self.report.arrivals:.3g}"))
        lead = "" if rows else self.words.join(*notes)
        return Section(
            key="days", title=self.say("days"), lead=lead, tables=(self._cut(columns, rows),) if rows else (),
            notes=tuple(notes) if rows else (),
        )  # fmt: skip

    def _zones(self) -> Section:
        zones = self.report.forecast.zones
        if not zones:
            return Section(key="zones", title=self.say("zones"))
        columns = [Column(label=self.say("zone"), number=False), Column(label=self.say("mails"))]
        columns += [Column(label=self.say(key), number=False) for key in ("first", "last")]
        rows = [
            [
                Cell(text=zone.name, detail=self._free([f"{day:%m-%d}" for day in zone.free])),
                Cell(text=self.words.count(zone.mails)),
                *(Cell(text=self._local(at)) for at in (zone.first, zone.last)),
            ]
            for zone in zones
        ]  # fmt: skip
        return Section(
            key="zones", title=self.say("zones"), lead=self._rules(), tables=(self._cut(columns, rows),)
        )  # fmt: skip

    def _local(self, at: datetime) -> str:
        """A moment by the clock there, with how far it is ahead of UTC."""
        return f"{DAYS[WEEK[at.weekday()]][self._japanese]} {at:%Y-%m-%d %H:%M} ({at:%z})"

    def _free(self, days: Sequence[str]) -> str:
        return f"({self.say('free', days=self.words.comma.join(days))})" if days else ""

    def _rules(self) -> str:
        settings = self.experiment.send_time
        weekdays = self.words.comma.join(DAYS[day][self._japanese] for day in settings.days)
        parts = [
            self.say("between", between=settings.between) if settings.between else "",
            self.say("at", at=f"{settings.at:%H:%M}") if settings.at and settings.mode == "fixed" else "",
            self.say("on_days", days=weekdays) if len(settings.days) < len(WEEK) else "",
            *(self.say("quiet", quiet=stretch) for stretch in settings.quiet or ()),
            self.say("holidays") if settings.holidays else "",
        ]
        rules = self.words.comma.join(part for part in parts if part) or self.say("any_time")
        one = settings.zone != "recipient"
        return self.say("rules_one" if one else "rules", rules=rules, zone=settings.zone)

    def _power(self) -> Section:
        power, report = self.report.power, self.report
        spans = [self._duration()] if report.until is not None else []
        if power is None:
            return Section(key="power", title=self.say("power"), items=tuple(spans))
        columns = [
            Column(label=self.say("rise"), number=False),
            Column(label=self.say("rate")),
            Column(label=self.say("chance")),
        ]
        rows = [
            [
                Cell(text=self._points(point.effect)),
                Cell(text=self.words.percent(power.rate + point.effect, digits=2)),
                Cell(text=self.words.chance(point.power)),
            ]
            for point in power.curve
        ]
        return Section(
            key="power", title=self.say("power"), tables=(table(columns, rows),),
            items=(self._gained(power), *spans), notes=tuple(self._rests_on(power)),
        )  # fmt: skip

    def _points(self, effect: float) -> str:
        return self.words.difference_in_points(effect, digits=2 if effect < 0.01 else 1)

    def _gained(self, power: PlanPower) -> str:
        noun = self.say(_NOUNS.get(self.experiment.metrics.primary, "answers"))
        gain = power.gained.value
        key = "gained_none" if not power.simulated and abs(gain) < 1e-9 else "gained" if gain >= 0 else "gained_lost"
        said = self.say(key, gained=f"{abs(gain):,.0f}", noun=noun, effect=self._points(power.effect))
        if not power.simulated:
            return said
        return f"{said} ({self.say('simulated', n=power.simulated, se=f'{power.gained.se:,.0f}')})"

    def _duration(self) -> str:
        first, last, until = self.report.forecast.first, self.report.forecast.last, self.report.until
        if first is None or last is None or until is None:
            return ""
        key = "duration" if last > first else "duration_at_once"
        said = self.say(key, span=self._span(last - first), until=self._span(until))
        return self.words.join(said, self.say("stop_after", after=self._span(self.experiment.stop.after)))

    def _span(self, span: timedelta) -> str:
        seconds = round(span.total_seconds())
        unit = 3600 if seconds >= 7200 else 60
        return self.words.duration(-(-seconds // unit) * unit)

    def _rests_on(self, power: PlanPower) -> Iterator[str]:
        source = self.say(f"source_{power.baseline.source}")
        yield self.say("rate_from", rate=self.words.percent(power.rate, digits=2), source=source)
        if power.assumed:
            yield self.say("effect_assumed")
        if self.experiment.audience.unit == "company":
            yield self.say("one_by_one")
        if len(self.experiment.cells) > 2:
            yield self.say("many_variants", n=len(self.experiment.cells))

    def _warnings(self) -> Section:
        report, count = self.report, self.words.count
        findings = report.findings_ja if self._japanese else report.findings
        items = [f"{f.code}: {f.message}" + (self.say("advised", hint=f.hint) if f.hint else "") for f in findings]
        items += planning.warnings(report.plan, "ja") if self._japanese else report.plan.warnings
        items += [self.say("refused", n=count(n), column=column) for column, n in report.refused.items()]
        if report.forecast.never:
            items.append(self.say("never", n=count(report.forecast.never)))
        if report.paused is not None:
            items.append(self.say("paused", why=report.paused))
        return Section(key="warnings", title=self.say("warnings"), items=tuple(items))

    def _cut(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Table:
        """A table of a bearable length: the first rows, and the last one."""
        if len(rows) <= _MOST_ROWS:
            return table(columns, rows)
        gap = [Cell(text="…"), *(Cell() for _ in columns[1:])]
        return table(columns, [*rows[: _MOST_ROWS - 2], gap, rows[-1]])
