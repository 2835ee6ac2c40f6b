"""A report as headline, sections, tables and checks in one language: what every page format prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from abmail._report_words import Words, words_for

if TYPE_CHECKING:
    from datetime import datetime

    from abmail.report import (
        ArmReport,
        DecisionReport,
        FactorReport,
        GuardrailReport,
        Language,
        Report,
        SecondOpinion,
        SegmentArmReport,
        SegmentReport,
    )

__all__ = [
    "Cell",
    "Check",
    "Column",
    "Section",
    "Table",
    "Tone",
    "View",
    "difference",
    "points_digits",
    "spans",
    "view",
]

Tone = Literal["plain", "good", "warn", "bad", "muted"]
_ONE_POINT = 0.01
_WAVE_COLUMNS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value of a table; ``detail`` belongs to it and may go on a line of its own."""

    text: str = ""
    detail: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading; numbers are set flush right, and a spare column may fall away where there is little room."""

    label: str
    number: bool = True
    spare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; the first column names the row."""

    caption: str = ""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One answer to "can this be trusted?"."""

    label: str
    text: str
    tone: Tone
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the page. ``fold``: detail that a terminal leaves out and a page keeps closed."""

    key: str
    title: str
    lead: str = ""
    tables: tuple[Table, ...] = ()
    checks: tuple[Check, ...] = ()
    items: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A whole page."""

    words: Words
    title: str
    subtitle: str
    headline: str
    tone: Tone
    sentence: str
    question: str
    alerts: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    footer: tuple[str, ...]


class _Compared(Protocol):
    """What variants, levels and segment rows have in common."""

    @property
    def n(self) -> int: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def effect(self) -> float | None: ...
    @property
    def ci_lower(self) -> float | None: ...
    @property
    def ci_upper(self) -> float | None: ...


def view(report: Report, language: Language) -> View:
    """Lay a report out.

    Args:
        report: The result.
        language: Language of the page.

    Returns:
        The page's parts in reading order; sections that have nothing to say are left out.

    Raises:
        ValueError: ``language`` is unknown.
    """
    words = words_for(language)
    checks = _checks(report, words)
    sections = (
        _variants(report, words),
        _contents(report, words),
        _decision(report, words),
        Section(key="checks", title=words.checks, checks=checks),
        _guardrails(report, words),
        _factors(report, words),
        *_segments(report, words),
        *_second(report, words),
        Section(key="actions", title=words.next_steps, items=_actions(report, words)),
        _waves(report, words),
        _more(report, words),
        _machine_table(report, words),
    )
    return View(
        words=words,
        title=report.experiment,
        subtitle=_subtitle(report, words),
        headline=_headline(report, words),
        tone=_tone(report),
        sentence=_sentence(report, words),
        question=report.hypothesis,
        alerts=tuple(check.text for check in checks if check.tone == "bad"),
        facts=_facts(report, words),
        sections=tuple(s for s in sections if s.lead or s.tables or s.checks or s.items),
        footer=_footer(report, words),
    )


def points_digits(rows: Iterable[_Compared]) -> int:
    """Decimals for differences in points that stand together: one, or two where all of them are under a point."""
    known = [abs(x) for row in rows for x in (row.effect, row.ci_lower, row.ci_upper) if x is not None]
    return 2 if known and max(known) < _ONE_POINT else 1


def spans(text: str) -> list[tuple[str, bool]]:
    """A text in parts, each with whether it is a command to type: what stands between two backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return [(text, False)]
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


def difference(row: _Compared, words: Words, *, digits: int) -> Cell:
    """A difference from control with its interval: "+1.8 points", "(+0.4 to +3.2)"; empty without an effect."""
    if row.effect is None:
        return Cell()
    text = words.difference_in_points(row.effect, digits=digits)
    if row.ci_lower is None or row.ci_upper is None:
        return Cell(text=text)
    tone: Tone = "good" if row.ci_lower > 0 else "bad" if row.ci_upper < 0 else "plain"
    return Cell(text=text, detail=words.range_in_points(row.ci_lower, row.ci_upper, digits=digits), tone=tone)


def _localized(words: Words, english: str, japanese: str) -> str:
    return japanese if words.language == "ja" and japanese else english


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _subtitle(report: Report, words: Words) -> str:
    goal = words.goals[report.metric].format(window=words.duration(report.window_seconds))
    return words.subtitle.format(state=words.states[report.state], goal=goal, at=_moment(report.generated_at))


def _headline(report: Report, words: Words) -> str:
    if not report.sent:
        return words.nothing_sent
    if not report.srm.ok:
        return words.split_off
    return _decided(report.decision, report, words)


def _decided(decision: DecisionReport, report: Report, words: Words) -> str:
    state, arm = decision.state, decision.arm
    if state == "winner" and arm == report.control:
        return words.control_wins.format(arm=arm)
    if state == "stopped" and arm:
        return words.stopped_with.format(arm=arm)
    return words.headlines[state].format(arm=arm or words.variant)


def _sentence(report: Report, words: Words) -> str:
    """The result in a sentence, unless the headline has said just that."""
    sentence = _localized(words, report.sentence, report.sentence_ja)
    return "" if sentence.rstrip(".。") == _headline(report, words) else sentence


def _tone(report: Report) -> Tone:
    if not report.srm.ok:
        return "bad"
    return "good" if report.sent and report.decision.state == "winner" else "plain"


def _facts(report: Report, words: Words) -> tuple[tuple[str, str], ...]:
    facts = (
        (words.audience, report.audience, True),
        (words.sent, report.sent, True),
        (words.pending, report.pending, True),
        (words.held_out, report.held_out, False),
        (words.failed, report.failed, False),
        (words.uncertain, report.uncertain, False),
    )
    return tuple((label, words.count(number)) for label, number, always in facts if always or number)


def _footer(report: Report, words: Words) -> tuple[str, ...]:
    method = report.method
    template = words.any_looks if method.looks is None else words.looks
    limits = template.format(alpha=words.percent(method.alpha, digits=2), looks=method.looks)
    made = words.made_by.format(
        version=report.abmail_version, hash=report.spec_hash, seed=report.seed, at=_moment(report.generated_at)
    )
    named = f"{words.method.format(name=method.name)} ({limits})"
    return (words.join(named, _localized(words, method.why, method.why_ja)), made)


# variants


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, caption: str = "") -> Table:
    """A table without the columns in which no row has anything to show."""
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i].text for row in rows)]
    return Table(
        caption=caption,
        columns=tuple(columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
    )


def _variants(report: Report, words: Words) -> Section:
    if not report.sent:
        return _unsent(report, words)
    compared = any(arm.effect is not None for arm in report.arms)
    digits = points_digits(report.arms)
    columns = [
        Column(label=words.variant, number=False),
        Column(label=words.sent),
        Column(label=words.opens),
        Column(label=words.clicks),
        Column(label=words.rates[report.metric]),
        Column(label=words.difference),
        Column(label=words.relative, spare=True),
        Column(label=words.p_best),
        Column(label=words.share),
    ]
    rows = [_variant(arm, report, words, digits=digits, compared=compared) for arm in report.arms]
    return Section(
        key="variants",
        title=words.variants,
        lead="" if compared else _no_differences(report, words),
        tables=(_table(columns, rows),),
        notes=_variant_notes(report, words, compared=compared),
    )


def _variant(arm: ArmReport, report: Report, words: Words, *, digits: int, compared: bool) -> tuple[Cell, ...]:
    return (
        _name(arm, report, words),
        Cell(text=words.count(arm.n)),
        Cell(text=words.count(arm.human_opens)),
        Cell(text=words.count(arm.clicks)),
        Cell() if arm.rate is None else Cell(text=words.rate(arm.rate)),
        _difference(arm, words, digits=digits, base=arm.name == report.control, status=arm.status)
        if compared
        else Cell(),
        Cell() if arm.lift is None else Cell(text=words.signed_percent(arm.lift)),
        Cell() if arm.p_best is None else Cell(text=words.chance(arm.p_best)),
        Cell() if arm.weight is None else Cell(text=words.percent(arm.weight)),
    )


def _name(arm: ArmReport, report: Report, words: Words) -> Cell:
    leads = arm.name == report.decision.arm and report.decision.state in ("winner", "leading")
    detail = words.control if arm.name == report.control else ""
    return Cell(text=arm.name, detail=detail, tone="good" if leads else "plain")


def _difference(row: _Compared, words: Words, *, digits: int, base: bool, status: str = "ok") -> Cell:
    if base:
        return Cell(text=words.baseline, tone="muted")
    if row.effect is None:
        return Cell(text=_status(status, words), tone="muted")
    return difference(row, words, digits=digits)


def _status(status: str, words: Words) -> str:
    """Why there is no difference, in words; "ok" without one can only mean that there was too little to go by."""
    known = words.statuses.get("too_few" if status == "ok" else status)
    return known or words.other_status.format(status=status)


def _no_differences(report: Report, words: Words) -> str:
    statuses = dict.fromkeys(arm.status for arm in report.arms if arm.name != report.control)
    reasons = words.comma.join(_status(status, words) for status in statuses)
    return words.join(words.no_differences.format(reasons=reasons))


def _variant_notes(report: Report, words: Words, *, compared: bool) -> tuple[str, ...]:
    window = words.duration(report.window_seconds)
    confidence = words.percent(1 - report.method.alpha, digits=2)
    notes = (
        (words.note_rate[report.metric].format(window=window), True),
        (words.note_points, compared),
        (words.note_interval.format(confidence=confidence), compared),
        (words.note_waves, compared and len(report.epochs) > 1),
        (words.note_best, any(arm.p_best is not None for arm in report.arms)),
        (words.note_share, any(arm.weight is not None for arm in report.arms)),
    )
    return tuple(words.join(note) for note, shown in notes if shown)


def _unsent(report: Report, words: Words) -> Section:
    """What there is to say before the first mail: the variants, and how the first wave will be shared out."""
    columns = (Column(label=words.variant, number=False), Column(label=words.first_share))
    rows = [
        (_name(arm, report, words), Cell() if arm.weight is None else Cell(text=words.percent(arm.weight)))
        for arm in report.arms
    ]
    known = any(arm.weight is not None for arm in report.arms)
    lead = words.nothing_to_compare.format(pending=words.count(report.pending))
    return Section(
        key="variants",
        title=words.variants,
        lead=words.join(lead),
        tables=(_table(columns, rows, caption=words.starting_variants if known else ""),),
    )


def _contents(report: Report, words: Words) -> Section:
    factors = dict.fromkeys(factor for arm in report.arms for factor in arm.content)
    columns = [
        Column(label=words.variant, number=False),
        *(Column(label=_factor(name, words), number=False) for name in factors),
    ]
    rows = [
        (_name(arm, report, words), *(Cell(text=arm.content.get(factor, "")) for factor in factors))
        for arm in report.arms
    ]
    tables = (_table(columns, rows),) if factors else ()
    return Section(key="contents", title=words.contents, tables=tables)


# decision, checks, next steps


def _decision(report: Report, words: Words) -> Section:
    if not report.sent:
        return Section(key="decision", title=words.decision)
    reason = _localized(words, report.decision.reason, report.decision.reason_ja)
    return Section(key="decision", title=words.decision, lead=words.join(_headline(report, words), reason))


def _actions(report: Report, words: Words) -> tuple[str, ...]:
    return (words.language == "ja" and report.actions_ja) or report.actions


def _checks(report: Report, words: Words) -> tuple[Check, ...]:
    if not report.sent:
        return ()
    checks = (
        _sample_ratio(report, words),
        _maturity(report, words),
        _machine_check(report, words),
        _guardrail_check(report, words),
        _delivery(report, words),
        _send_time(report, words),
    )
    return tuple(check for check in checks if check)


def _check(label: str, tone: Tone, text: str, words: Words) -> Check:
    verdicts: dict[Tone, str] = {"good": words.passed, "warn": words.attention, "bad": words.failed_check}
    return Check(label=label, text=words.join(text), tone=tone, verdict=verdicts.get(tone, ""))


def _sample_ratio(report: Report, words: Words) -> Check:
    srm = report.srm
    if srm.p_value is None:
        text = words.srm_unknown
    else:
        text = (words.srm_ok if srm.ok else words.srm_bad).format(odds=words.odds(srm.p_value))
    tone: Tone = "bad" if not srm.ok else "plain" if srm.p_value is None else "good"
    causes = _localized(words, srm.sentence, srm.sentence_ja)
    return _check(words.sample_ratio, tone, f"{text} {causes}".rstrip(), words)


def _maturity(report: Report, words: Words) -> Check:
    window = words.duration(report.window_seconds)
    if report.mature_share >= 1.0:
        return _check(words.maturity, "good", words.mature_all.format(window=window), words)
    if report.mature_share == 0.0:
        return _check(words.maturity, "warn", words.mature_none.format(window=window), words)
    share = words.percent(min(max(report.mature_share, 0.001), 0.999))
    return _check(words.maturity, "warn", words.mature_part[report.metric].format(share=share, window=window), words)


def _machine_check(report: Report, words: Words) -> Check | None:
    counts = report.bot_sensitivity
    if not counts.all:
        return None
    everything = sum(counts.all.values())
    removed = everything - sum(counts.human_likely.values())
    phrase = words.machines_change if counts.leader_changes else words.machines_same
    text = phrase.format(removed=words.count(removed), all=words.count(everything))
    return _check(words.machines, "warn" if counts.leader_changes else "good", text, words)


def _guardrail_check(report: Report, words: Words) -> Check | None:
    if not report.guardrails:
        return None
    broken = [g for g in report.guardrails if not g.ok]
    near = [g for g in report.guardrails if g.ok and g.rate is not None and g.rate > g.limit]
    if broken or near:
        phrase = words.guardrails_bad if broken else words.guardrails_near
        if broken and all(g.sentence for g in broken):
            text = " ".join(_localized(words, g.sentence, g.sentence_ja) for g in broken)
            return _check(words.guardrails, "bad", text, words)
        breaches = words.semicolon.join(_breach(g, words) for g in broken or near)
        return _check(words.guardrails, "bad" if broken else "warn", phrase.format(breaches=breaches), words)
    limits = {g.metric: g.limit for g in report.guardrails}
    listed = words.comma.join(
        words.guardrail_limit.format(metric=words.metrics[metric].lower(), limit=words.percent(limit, digits=2))
        for metric, limit in limits.items()
    )
    return _check(words.guardrails, "good", words.guardrails_ok.format(limits=listed), words)


def _breach(guardrail: GuardrailReport, words: Words) -> str:
    return words.guardrail_breach.format(
        metric=words.metrics[guardrail.metric].lower(),
        arm=guardrail.arm,
        rate="" if guardrail.rate is None else words.percent(guardrail.rate, digits=2),
        limit=words.percent(guardrail.limit, digits=2),
    )


def _delivery(report: Report, words: Words) -> Check | None:
    if not (report.failed or report.uncertain):
        return None
    failed = words.delivery_failed.format(count=words.count(report.failed)) if report.failed else ""
    uncertain = words.delivery_uncertain.format(count=words.count(report.uncertain)) if report.uncertain else ""
    return _check(words.delivery, "warn" if report.uncertain else "plain", words.join(failed, uncertain), words)


def _send_time(report: Report, words: Words) -> Check | None:
    times = report.send_time
    zone = words.own_time if times.zone == "recipient" else times.zone
    hours = words.comma.join(part for part in (times.between, zone) if part)
    said = _localized(words, times.sentence, times.sentence_ja)
    if times.mode == "fixed" and times.effect is None and not said:
        return None
    if not said:
        said = words.send_times[times.mode].format(hours=f" ({hours})" if hours else "")
    return _check(words.send_time, "plain", words.join(said, _send_effect(report, words)), words)


def _send_effect(report: Report, words: Words) -> str:
    times = report.send_time
    if times.effect is None:
        return ""
    known = [x for x in (times.effect, times.ci_lower, times.ci_upper) if x is not None]
    digits = 2 if max(map(abs, known)) < _ONE_POINT else 1
    text = words.difference_in_points(times.effect, digits=digits)
    if times.ci_lower is not None and times.ci_upper is not None:
        text = f"{text} {words.range_in_points(times.ci_lower, times.ci_upper, digits=digits)}"
    return words.send_effect.format(effect=text)


# further tables


def _guardrails(report: Report, words: Words) -> Section:
    limits = {g.metric: g.limit for g in report.guardrails}
    columns = [Column(label=words.variant, number=False)]
    columns += [
        Column(label=f"{words.metrics[metric]} ({words.limit.format(limit=words.percent(limit, digits=2))})")
        for metric, limit in limits.items()
    ]
    by_place = {(g.arm, g.metric): g for g in report.guardrails}
    rows = [
        (_name(arm, report, words), *(_guardrail_cell(by_place.get((arm.name, metric)), words) for metric in limits))
        for arm in report.arms
        if any((arm.name, metric) in by_place for metric in limits)
    ]
    tables = (_table(columns, rows),) if rows and report.sent else ()
    return Section(key="guardrails", title=words.guardrails, tables=tables, fold=all(g.ok for g in report.guardrails))


def _guardrail_cell(guardrail: GuardrailReport | None, words: Words) -> Cell:
    if guardrail is None or guardrail.rate is None:
        return Cell()
    tone: Tone = "plain" if guardrail.ok else "bad"
    detail = "" if guardrail.ok else f"({words.failed_check})"
    return Cell(text=words.percent(guardrail.rate, digits=2), detail=detail, tone=tone)


def _comparison(
    rows: Sequence[tuple[str, _Compared]], report: Report, words: Words, *, first: str, base: str, caption: str
) -> Table:
    digits = points_digits(row for _, row in rows)
    columns = (
        Column(label=first, number=False),
        Column(label=words.sent),
        Column(label=words.rates[report.metric]),
        Column(label=words.difference),
    )
    cells = [
        (
            Cell(text=name, detail=words.control if name == base else ""),
            Cell(text=words.count(row.n)),
            Cell() if row.rate is None else Cell(text=words.rate(row.rate)),
            _difference(row, words, digits=digits, base=name == base),
        )
        for name, row in rows
    ]
    return _table(columns, cells, caption=caption)


def _factors(report: Report, words: Words) -> Section:
    tables = tuple(
        _comparison(
            [(level.level, level) for level in factor.levels],
            report,
            words,
            first=words.level,
            base=_base_level(factor, report),
            caption=words.factor.format(factor=_factor(factor.factor, words)),
        )
        for factor in report.factors
        if report.sent
    )
    return Section(
        key="factors", title=words.factors, lead=words.join(words.factors_lead) if tables else "", tables=tables
    )


def _factor(name: str, words: Words) -> str:
    return words.factor_names.get(name, name)


def _base_level(factor: FactorReport, report: Report) -> str:
    """The level that the others are compared with: the control's, else the only one without an effect."""
    named = report.arm(report.control).cell.get(factor.factor)
    without = [level.level for level in factor.levels if level.effect is None]
    return named or (without[0] if len(without) == 1 else "")


def _segments(report: Report, words: Words) -> tuple[Section, ...]:
    summary = report.segment_summary
    if not report.sent or not (report.segments or summary):
        return ()
    notes = (words.note_segment, words.note_best_guess, words.note_attributes) if report.segments else ()
    lead, title = "", words.segments
    if summary is not None:
        title = words.segments_by.format(by=summary.by)
        left = summary.left_out
        cut = (
            words.segments_cut.format(shown=len(report.segments), all=summary.n_segments, left_out=left) if left else ""
        )
        lead = words.join(_localized(words, summary.sentence, summary.sentence_ja), cut)
    tables = tuple(_segment(segment, report, words) for segment in report.segments)
    return (
        Section(key="segments", title=title, lead=lead, tables=tables, notes=tuple(words.join(note) for note in notes)),
    )


def _segment(segment: SegmentReport, report: Report, words: Words) -> Table:
    digits = points_digits(segment.arms)
    columns = (
        Column(label=words.variant, number=False),
        Column(label=words.sent),
        Column(label=words.rates[report.metric]),
        Column(label=words.difference),
        Column(label=words.best_guess),
    )
    rows = [_segment_arm(arm, segment, report, words, digits=digits) for arm in segment.arms]
    value = segment.segment or words.no_value
    by = report.segment_summary.by if report.segment_summary else ""
    caption = words.segment.format(by=by, value=value) if by else value
    if segment.winner:
        caption = words.segment_winner.format(segment=caption, arm=segment.winner)
    return _table(columns, rows, caption=caption)


def _segment_arm(
    arm: SegmentArmReport, segment: SegmentReport, report: Report, words: Words, *, digits: int
) -> tuple[Cell, ...]:
    base = arm.name == report.control
    return (
        Cell(
            text=arm.name, detail=words.control if base else "", tone="good" if arm.name == segment.winner else "plain"
        ),
        Cell(text=words.count(arm.n)),
        Cell() if arm.rate is None else Cell(text=words.rate(arm.rate)),
        replace(
            _difference(arm, words, digits=digits, base=base, status=arm.status), tone="muted" if base else "plain"
        ),
        _best_guess(arm, words, digits=digits),
    )


def _best_guess(arm: SegmentArmReport, words: Words, *, digits: int) -> Cell:
    if arm.shrunk_effect is None:
        return Cell()
    text = words.difference_in_points(arm.shrunk_effect, digits=digits)
    if arm.shrunk_lower is None or arm.shrunk_upper is None:
        return Cell(text=text)
    return Cell(text=text, detail=words.range_in_points(arm.shrunk_lower, arm.shrunk_upper, digits=digits))


def _second(report: Report, words: Words) -> tuple[Section, ...]:
    second = report.second_opinion
    if second is None:
        return ()
    how = words.second_lead.format(
        method=second.method, alpha=words.percent(second.alpha, digits=2), verdicts=words.verdicts[second.verdicts]
    )
    said = ""
    if second.decision is not None and report.srm.ok:
        said = words.second_says.format(headline=_decided(second.decision, report, words))
    note = _localized(words, second.note, second.note_ja)
    return (
        Section(
            key="second",
            title=words.second,
            lead=words.join(how, said, _localized(words, second.sentence, second.sentence_ja)),
            tables=(_second_table(second, report, words),) if second.arms else (),
            notes=(words.join(note[:1].upper() + note[1:]),) if note else (),
        ),
    )


def _second_table(second: SecondOpinion, report: Report, words: Words) -> Table:
    digits = points_digits(second.arms)
    columns = (
        Column(label=words.variant, number=False),
        Column(label=words.sent),
        Column(label=words.rates[report.metric]),
        Column(label=words.difference),
        Column(label=words.p_value),
    )
    rows = [
        (
            Cell(text=arm.name, detail=words.control if arm.name == report.control else ""),
            Cell(text=words.count(arm.n)),
            Cell() if arm.rate is None else Cell(text=words.rate(arm.rate)),
            replace(_difference(arm, words, digits=digits, base=arm.name == report.control), tone="muted"),
            Cell() if arm.p_value is None else Cell(text=words.p(arm.p_value)),
        )
        for arm in second.arms
    ]
    return _table(columns, rows)


def _waves(report: Report, words: Words) -> Section:
    if not report.epochs or not report.sent:
        return Section(key="waves", title=words.waves)
    lead = words.one_wave
    if len(report.epochs) > 1:
        since = _moment(report.epochs[0].opened_at)
        lead = words.waves_lead.format(count=words.count(len(report.epochs)), since=since)
    arms = _wave_arms(report)
    columns = [
        Column(label=words.wave, number=False),
        Column(label=words.opened_at, number=False),
        Column(label=words.sent),
        *(Column(label=name) for name in arms),
    ]
    rows = [
        (
            Cell(text=str(epoch.number)),
            Cell(text=_moment(epoch.opened_at).removesuffix(" UTC"), detail=epoch.reason),
            Cell(text=words.count(epoch.n)),
            *(Cell(text=words.share_of(epoch.weights[name])) if name in epoch.weights else Cell() for name in arms),
        )
        for epoch in report.epochs
    ]
    cut = words.waves_cut.format(shown=len(arms), all=len(report.arms)) if len(arms) < len(report.arms) else ""
    return Section(
        key="waves", title=words.waves, lead=words.join(lead, cut), tables=(_table(columns, rows),), fold=True
    )


def _wave_arms(report: Report) -> list[str]:
    """The columns of the table of waves: every variant, or the control and those with the largest share at last."""
    others = [arm.name for arm in report.arms if arm.name != report.control]
    last = report.epochs[-1].weights
    shown = {report.control, *sorted(others, key=lambda name: -last.get(name, 0.0))[:_WAVE_COLUMNS]}
    return [arm.name for arm in report.arms if arm.name in shown]


def _more(report: Report, words: Words) -> Section:
    if not report.sent:
        return Section(key="more", title=words.more)
    columns = (
        Column(label=words.variant, number=False),
        *(Column(label=words.metrics[metric]) for metric in ("unsubscribed", "complained", "bounced")),
        Column(label=words.p_value),
        Column(label=words.loss),
    )
    digits = 2 if all((arm.expected_loss or 0.0) < _ONE_POINT for arm in report.arms) else 1
    rows = [
        (
            _name(arm, report, words),
            *(_count_and_rate(count, arm.n, words) for count in (arm.unsubscribes, arm.complaints, arm.bounces)),
            Cell() if arm.p_value is None else Cell(text=words.p(arm.p_value)),
            Cell() if arm.expected_loss is None else Cell(text=_loss(arm.expected_loss, words, digits=digits)),
        )
        for arm in report.arms
    ]
    notes = (
        (words.note_p_value, any(arm.p_value is not None for arm in report.arms)),
        (words.note_loss, any(arm.expected_loss is not None for arm in report.arms)),
    )
    return Section(
        key="more",
        title=words.more,
        tables=(_table(columns, rows),),
        notes=tuple(words.join(note) for note, shown in notes if shown),
        fold=True,
    )


def _count_and_rate(count: int, n: int, words: Words) -> Cell:
    return Cell(text=words.count(count), detail=f"({words.percent(count / n, digits=2)})" if n else "")


def _loss(loss: float, words: Words, *, digits: int) -> str:
    return words.points.format(f"{100 * loss:.{digits}f}")


def _machine_table(report: Report, words: Words) -> Section:
    counts = report.bot_sensitivity
    columns = (
        Column(label=words.variant, number=False),
        Column(label=words.all_traffic),
        Column(label=words.counted),
        Column(label=words.strict),
    )
    rows = [
        (
            _name(arm, report, words),
            *(
                Cell(text=words.count(kind[arm.name]) if arm.name in kind else "")
                for kind in (counts.all, counts.human_likely, counts.strict)
            ),
        )
        for arm in report.arms
    ]
    tables = (_table(columns, rows),) if counts.all and report.sent else ()
    return Section(key="machines", title=words.machine_table, tables=tables, fold=True)
