"""The further sections of a report's page: guardrails, factors, segments, the second look, waves and what is folded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from abmail._report_parts import (
    ONE_POINT,
    Cell,
    Column,
    Section,
    decided_in_words,
    factor_name,
    localized,
    moment,
    points_digits,
    row_name,
    status_words,
    table,
    versus_control,
)

if TYPE_CHECKING:
    from abmail._report_parts import Compared, Table, Tone
    from abmail._report_words import Words
    from abmail.report import (
        AllocationReport,
        FactorReport,
        GuardrailReport,
        Report,
        SecondOpinion,
        SegmentArmReport,
        SegmentReport,
        ValueArmReport,
        VerdictView,
    )

__all__ = [
    "allocation",
    "factors",
    "guardrails",
    "hours",
    "machine_table",
    "more",
    "second",
    "segments",
    "values",
    "waves",
]

_WAVE_COLUMNS: Final = 7
_CLEAR: Final = 0.9  # chance from which parts are said to act together, or each on its own


def guardrails(report: Report, words: Words) -> Section:
    """Each variant on each limit."""
    limits = {g.metric: g.limit for g in report.guardrails}
    columns = [Column(label=words.variant, number=False)]
    columns += [
        Column(label=f"{words.metrics[metric]} ({words.limit.format(limit=words.percent(limit, digits=2))})")
        for metric, limit in limits.items()
    ]
    by_place = {(g.arm, g.metric): g for g in report.guardrails}
    rows = [
        (row_name(arm, report, words), *(_guardrail_cell(by_place.get((arm.name, metric)), words) for metric in limits))
        for arm in report.arms
        if any((arm.name, metric) in by_place for metric in limits)
    ]
    tables = (table(columns, rows),) if rows and report.sent else ()
    return Section(key="guardrails", title=words.guardrails, tables=tables, fold=all(g.ok for g in report.guardrails))


def _guardrail_cell(guardrail: GuardrailReport | None, words: Words) -> Cell:
    if guardrail is None or guardrail.rate is None:
        return Cell()
    tone: Tone = "plain" if guardrail.ok else "bad"
    detail = "" if guardrail.ok else f"({words.failed_check})"
    return Cell(text=words.percent(guardrail.rate, digits=2), detail=detail, tone=tone)


def _comparison(
    rows: Sequence[tuple[str, Compared]], report: Report, words: Words, *, first: str, base: str, caption: str
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
            versus_control(row, words, digits=digits, base=name == base),
        )
        for name, row in rows
    ]
    return table(columns, cells, caption=caption)


def factors(report: Report, words: Words) -> Section:
    """Main effects."""
    tables = tuple(
        _comparison(
            [(level.level, level) for level in factor.levels],
            report,
            words,
            first=words.level,
            base=_base_level(factor, report),
            caption=words.factor.format(factor=factor_name(factor.factor, words)),
        )
        for factor in report.factors
        if report.sent
    )
    lead = words.join(words.factors_lead, _together(report.acting_together, words)) if tables else ""
    return Section(key="factors", title=words.factors, lead=lead, tables=tables)


def _together(chance: float | None, words: Words) -> str:
    """Whether main effects tell it all."""
    if chance is None:
        return ""
    known = "surely" if chance >= _CLEAR else "hardly" if chance <= 1 - _CLEAR else "unknown"
    return words.factors_together[known].format(chance=words.percent(chance, digits=0))


def _base_level(factor: FactorReport, report: Report) -> str:
    """The level that the others are compared with: the control's, else the only one without an effect."""
    named = report.arm(report.control).cell.get(factor.factor)
    without = [level.level for level in factor.levels if level.effect is None]
    return named or (without[0] if len(without) == 1 else "")


def segments(report: Report, words: Words) -> tuple[Section, ...]:
    """Comparisons within segments, the largest first."""
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
        lead = words.join(localized(words, summary.sentence, summary.sentence_ja), cut)
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
    return table(columns, rows, caption=caption)


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
            versus_control(arm, words, digits=digits, base=base, status=arm.status), tone="muted" if base else "plain"
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


def values(report: Report, words: Words) -> tuple[Section, ...]:
    """What the variants bring in per mail, beside the primary metric."""
    found = report.value
    if found is None or not report.sent:
        return ()
    columns = (
        Column(label=words.variant, number=False),
        Column(label=words.sent),
        Column(label=words.valued[found.event]),
        Column(label=words.total, spare=True),
        Column(label=words.per_mail),
        Column(label=words.difference),
        Column(label=words.relative, spare=True),
    )
    lead = words.values_lead[found.event].format(window=words.duration(report.window_seconds))
    young = words.values_open if report.mature_share < 1 else ""
    cap = "" if found.limit is None else words.values_cap.format(
        limit=words.amount(found.limit, found.unit), capped=words.count(found.capped)
    )  # fmt: skip
    return (
        Section(
            key="values",
            title=words.values,
            lead=words.join(lead, localized(words, found.sentence, found.sentence_ja)),
            tables=(table(columns, [_value_row(arm, report, found.unit, words) for arm in found.arms]),),
            notes=tuple(words.join(note) for note in (cap, young) if note),
        ),
    )


def _value_row(arm: ValueArmReport, report: Report, unit: str, words: Words) -> tuple[Cell, ...]:
    base = arm.name == report.control
    return (
        Cell(text=arm.name, detail=words.control if base else ""),
        Cell(text=words.count(arm.n)),
        Cell(text=words.count(arm.valued)),
        Cell(text=words.amount(arm.total, unit)),
        Cell() if arm.mean is None else Cell(text=words.amount(arm.mean, unit)),
        Cell(text=words.baseline, tone="muted") if base else _value_difference(arm, unit, words),
        Cell() if base or arm.lift is None else Cell(text=words.signed_percent(arm.lift)),
    )


def _value_difference(arm: ValueArmReport, unit: str, words: Words) -> Cell:
    if arm.effect is None or arm.ci_lower is None or arm.ci_upper is None:
        return Cell(text=status_words(arm.status, words), tone="muted")
    tone: Tone = "good" if arm.ci_lower > 0 else "bad" if arm.ci_upper < 0 else "plain"
    ends = {name: words.amount(end, "", sign=True) for name, end in (("lower", arm.ci_lower), ("upper", arm.ci_upper))}
    return Cell(text=words.amount(arm.effect, unit, sign=True), detail=words.interval.format(**ends), tone=tone)


def second(report: Report, words: Words) -> tuple[Section, ...]:
    """Another analysis beside the registered one."""
    second = report.second_opinion
    if second is None:
        return ()
    how = words.second_lead.format(
        method=second.method, alpha=words.percent(second.alpha, digits=2), verdicts=words.verdicts[second.verdicts]
    )
    said = ""
    if second.decision is not None and report.srm.ok:
        said = words.second_says.format(headline=decided_in_words(second.decision, report, words))
    note = localized(words, second.note, second.note_ja)
    return (
        Section(
            key="second",
            title=words.second,
            lead=words.join(how, said, localized(words, second.sentence, second.sentence_ja)),
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
            replace(versus_control(arm, words, digits=digits, base=arm.name == report.control), tone="muted"),
            Cell() if arm.p_value is None else Cell(text=words.p(arm.p_value)),
        )
        for arm in second.arms
    ]
    return table(columns, rows)


def allocation(report: Report, words: Words) -> tuple[Section, ...]:
    """What the shares rest on, who was stopped, who leads, and the shares of the segments."""
    found = report.allocation
    if found is None:
        return ()
    items = found.statements_ja if words.language == "ja" and found.statements_ja else found.statements
    return (
        Section(
            key="allocation",
            title=words.allocation,
            items=tuple(words.join(item) for item in items),
            tables=(_segment_shares(found, report, words),) if found.segments else (),
            fold=not found.stopped and not found.champions,
        ),
    )


def _segment_shares(found: AllocationReport, report: Report, words: Words) -> Table:
    arms = _wave_arms(report)
    columns = [Column(label=found.segments_by or "", number=False), Column(label=words.sent)]
    rows = [
        (
            Cell(text=one.segment or words.no_value),
            Cell(text=words.count(one.n)),
            *(Cell(text=words.share_of(one.weights[name])) if name in one.weights else Cell() for name in arms),
        )
        for one in found.segments
    ]
    return table([*columns, *(Column(label=name) for name in arms)], rows, caption=words.segment_shares)


def hours(report: Report, words: Words) -> Section:
    """The hours of sending that are compared."""
    found = report.send_time.hours
    columns = [
        Column(label=words.send_hour, number=False), Column(label=words.sent), Column(label=words.rates[report.metric])
    ]  # fmt: skip
    rows = [
        (
            Cell(text=f"{one.hour:02d}:00"),
            Cell(text=words.count(one.n)),
            Cell()
            if one.rate is None
            else Cell(text=words.rate(one.rate), detail=f"±{_in_points(one.error or 0.0, words, digits=1)}"),
        )
        for one in found
    ]
    tables = (table(columns, rows),) if found else ()
    lead = words.join(words.send_hours_lead) if found else ""
    return Section(key="hours", title=words.send_hours, lead=lead, tables=tables)


def waves(report: Report, words: Words) -> Section:
    """Shares of each wave."""
    if not report.epochs or not report.sent:
        return Section(key="waves", title=words.waves)
    lead = words.one_wave
    if len(report.epochs) > 1:
        since = moment(report.epochs[0].opened_at)
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
            Cell(
                text=moment(epoch.opened_at).removesuffix(" UTC"),
                detail=localized(words, epoch.reason, epoch.reason_ja),
            ),
            Cell(text=words.count(epoch.n)),
            *(Cell(text=words.share_of(epoch.weights[name])) if name in epoch.weights else Cell() for name in arms),
        )
        for epoch in report.epochs
    ]
    cut = words.waves_cut.format(shown=len(arms), all=len(report.arms)) if len(arms) < len(report.arms) else ""
    return Section(
        key="waves", title=words.waves, lead=words.join(lead, cut), tables=(table(columns, rows),), fold=True
    )


def _wave_arms(report: Report) -> list[str]:
    """The columns of the table of waves: every variant, or the control and those with the largest share at last."""
    others = [arm.name for arm in report.arms if arm.name != report.control]
    last = report.epochs[-1].weights
    shown = {report.control, *sorted(others, key=lambda name: -last.get(name, 0.0))[:_WAVE_COLUMNS]}
    return [arm.name for arm in report.arms if arm.name in shown]


def more(report: Report, words: Words) -> Section:
    """Unwanted events, p-values and losses."""
    if not report.sent:
        return Section(key="more", title=words.more)
    columns = (
        Column(label=words.variant, number=False),
        *(Column(label=words.metrics[metric]) for metric in ("unsubscribed", "complained", "bounced")),
        Column(label=words.p_value),
        Column(label=words.loss),
    )
    digits = 2 if all((arm.expected_loss or 0.0) < ONE_POINT for arm in report.arms) else 1
    rows = [
        (
            row_name(arm, report, words),
            *(_count_and_rate(count, arm.n, words) for count in (arm.unsubscribes, arm.complaints, arm.bounces)),
            Cell() if arm.p_value is None else Cell(text=words.p(arm.p_value)),
            Cell() if arm.expected_loss is None else Cell(text=_in_points(arm.expected_loss, words, digits=digits)),
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
        tables=(table(columns, rows),),
        notes=tuple(words.join(note) for note, shown in notes if shown),
        fold=True,
    )


def _count_and_rate(count: int, n: int, words: Words) -> Cell:
    return Cell(text=words.count(count), detail=f"({words.percent(count / n, digits=2)})" if n else "")


def _in_points(loss: float, words: Words, *, digits: int) -> str:
    return words.points.format(f"{100 * loss:.{digits}f}")


def machine_table(report: Report, words: Words) -> Section:
    """Opens and clicks with and without machine traffic, and what each way of counting would decide."""
    counts = report.bot_sensitivity
    tables = tuple(_machine_tables(report, words)) if counts.all and report.sent else ()
    items = tuple(
        words.view_decision.format(view=words.views[view.view], decision=_decided(view, words)) for view in counts.views
    )
    return Section(
        key="machines", title=words.machine_table, tables=tables, items=items, notes=_machine_notes(report, words),
        fold=True,
    )  # fmt: skip


def _decided(view: VerdictView, words: Words) -> str:
    return words.headlines[view.state].format(arm=view.arm or words.variant)


_COUNTED: Final = ("opened", "clicked")


def _machine_tables(report: Report, words: Words) -> Iterator[Table]:
    counts = report.bot_sensitivity
    primary: dict[str, Mapping[str, int]]
    primary = {"all": counts.all, "human-likely": counts.human_likely, "strict": counts.strict}
    shown: list[tuple[str, Mapping[str, Mapping[str, int]]]]
    shown = [(words.kinds[kind], {view.view: getattr(view, kind) for view in counts.views}) for kind in _COUNTED]
    for caption, by_view in shown if counts.views else [("", primary)]:
        columns = (Column(label=words.variant, number=False), *(Column(label=words.views[view]) for view in primary))
        rows = [
            (
                row_name(arm, report, words),
                *(
                    Cell(text=words.count(by_view[view][arm.name]) if arm.name in by_view.get(view, {}) else "")
                    for view in primary
                ),
            )
            for arm in report.arms
        ]
        yield table(columns, rows, caption=caption)


def _machine_notes(report: Report, words: Words) -> tuple[str, ...]:
    counts = report.bot_sensitivity
    shares = words.comma.join(f"{arm} {words.percent(share)}" for arm, share in counts.machine_share.items())
    notes = [words.machine_shares.format(shares=shares)] if shares and report.sent else []
    if counts.reclassified:
        notes.append(words.reclassified.format(count=words.count(counts.reclassified)))
    if counts.unjudged:
        notes.append(words.unjudged.format(count=words.count(counts.unjudged), name=report.experiment))
    if counts.beside:
        sources = words.comma.join(f"{words.kinds.get(kind, kind)}: {who}" for kind, who in counts.sources.items())
        notes.append(words.beside.format(count=words.count(counts.beside), sources=sources))
    return tuple(notes)
