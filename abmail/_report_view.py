"""A report as headline, sections, tables and checks in one language: what every page format prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abmail import _report_sections as sections
from abmail._report_checks import checks
from abmail._report_parts import (
    Cell,
    Column,
    Section,
    Tone,
    View,
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
from abmail._report_words import Words, words_for

if TYPE_CHECKING:
    from abmail.report import ArmReport, Language, Report

__all__ = ["view"]


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
    answers = checks(report, words)
    parts = (
        _variants(report, words),
        _contents(report, words),
        _decision(report, words),
        Section(key="checks", title=words.checks, checks=answers),
        sections.guardrails(report, words),
        sections.factors(report, words),
        sections.hours(report, words),
        *sections.segments(report, words),
        *sections.values(report, words),
        *sections.second(report, words),
        Section(key="actions", title=words.next_steps, items=_actions(report, words)),
        *sections.allocation(report, words),
        sections.waves(report, words),
        sections.more(report, words),
        sections.machine_table(report, words),
    )
    return View(
        words=words,
        title=report.experiment,
        subtitle=_subtitle(report, words),
        headline=_headline(report, words),
        tone=_tone(report),
        sentence=_sentence(report, words),
        question=report.hypothesis,
        alerts=tuple(check.text for check in answers if check.tone == "bad"),
        facts=_facts(report, words),
        sections=tuple(s for s in parts if s.lead or s.tables or s.checks or s.items),
        footer=_footer(report, words),
    )


def _subtitle(report: Report, words: Words) -> str:
    goal = words.goals[report.metric].format(window=words.duration(report.window_seconds))
    return words.subtitle.format(state=words.states[report.state], goal=goal, at=moment(report.generated_at))


def _headline(report: Report, words: Words) -> str:
    if not report.sent:
        return words.nothing_sent
    if not report.srm.ok:
        return words.split_off
    return decided_in_words(report.decision, report, words)


def _sentence(report: Report, words: Words) -> str:
    """The result in a sentence, unless the headline has said just that."""
    sentence = localized(words, report.sentence, report.sentence_ja)
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
        version=report.abmail_version, hash=report.spec_hash, seed=report.seed, at=moment(report.generated_at)
    )
    named = f"{words.method.format(name=method.name)} ({limits})"
    why = localized(words, method.why, method.why_ja)
    return (words.join(named, why[:1].upper() + why[1:]), made)


# variants


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
        tables=(table(columns, rows),),
        notes=_variant_notes(report, words, compared=compared),
    )


def _variant(arm: ArmReport, report: Report, words: Words, *, digits: int, compared: bool) -> tuple[Cell, ...]:
    return (
        row_name(arm, report, words),
        Cell(text=words.count(arm.n)),
        Cell(text=words.count(arm.human_opens)),
        Cell(text=words.count(arm.clicks)),
        Cell() if arm.rate is None else Cell(text=words.rate(arm.rate)),
        versus_control(arm, words, digits=digits, base=arm.name == report.control, status=arm.status)
        if compared
        else Cell(),
        Cell() if arm.lift is None else Cell(text=words.signed_percent(arm.lift)),
        Cell() if arm.p_best is None else Cell(text=words.chance(arm.p_best)),
        Cell() if arm.weight is None else Cell(text=words.percent(arm.weight)),
    )


def _no_differences(report: Report, words: Words) -> str:
    statuses = dict.fromkeys(arm.status for arm in report.arms if arm.name != report.control)
    reasons = words.comma.join(status_words(status, words) for status in statuses)
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
        (row_name(arm, report, words), Cell() if arm.weight is None else Cell(text=words.percent(arm.weight)))
        for arm in report.arms
    ]
    known = any(arm.weight is not None for arm in report.arms)
    lead = words.nothing_to_compare.format(pending=words.count(report.pending))
    return Section(
        key="variants",
        title=words.variants,
        lead=words.join(lead),
        tables=(table(columns, rows, caption=words.starting_variants if known else ""),),
    )


def _contents(report: Report, words: Words) -> Section:
    factors = dict.fromkeys(factor for arm in report.arms for factor in arm.content)
    columns = [
        Column(label=words.variant, number=False),
        *(Column(label=factor_name(name, words), number=False) for name in factors),
    ]
    rows = [
        (row_name(arm, report, words), *(Cell(text=arm.content.get(factor, "")) for factor in factors))
        for arm in report.arms
    ]
    tables = (table(columns, rows),) if factors else ()
    return Section(key="contents", title=words.contents, tables=tables)


# decision, checks, next steps


def _decision(report: Report, words: Words) -> Section:
    if not report.sent:
        return Section(key="decision", title=words.decision)
    reason = localized(words, report.decision.reason, report.decision.reason_ja)
    return Section(key="decision", title=words.decision, lead=words.join(_headline(report, words), reason))


def _actions(report: Report, words: Words) -> tuple[str, ...]:
    return (words.language == "ja" and report.actions_ja) or report.actions
