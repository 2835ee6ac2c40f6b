"""What a report's page answers to "can this be trusted?"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abmail._report_parts import ONE_POINT, Check, localized

if TYPE_CHECKING:
    from abmail._report_parts import Tone
    from abmail._report_words import Words
    from abmail.report import GuardrailReport, Report

__all__ = ["checks"]


def checks(report: Report, words: Words) -> tuple[Check, ...]:
    """The answers, the gravest kinds first."""
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
    causes = localized(words, srm.sentence, srm.sentence_ja)
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
    said = [phrase.format(removed=words.count(removed), all=words.count(everything))]
    others = [words.views[view.view] for view in counts.views if not view.survives]
    if others:
        said.append(words.machines_decide.format(views=words.comma.join(others)))
    if not counts.machine_balanced and counts.machine_p_value is not None:
        shares = words.comma.join(f"{arm} {words.percent(share)}" for arm, share in counts.machine_share.items())
        said.append(words.machines_uneven.format(shares=shares, odds=words.odds(counts.machine_p_value)))
    warn = counts.leader_changes or bool(others) or not counts.machine_balanced
    return _check(words.machines, "warn" if warn else "good", words.join(*said), words)


def _guardrail_check(report: Report, words: Words) -> Check | None:
    if not report.guardrails:
        return None
    broken = [g for g in report.guardrails if not g.ok]
    near = [g for g in report.guardrails if g.ok and g.rate is not None and g.rate > g.limit]
    if broken or near:
        phrase = words.guardrails_bad if broken else words.guardrails_near
        if broken and all(g.sentence for g in broken):
            text = " ".join(localized(words, g.sentence, g.sentence_ja) for g in broken)
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
    said = localized(words, times.sentence, times.sentence_ja)
    if times.mode == "fixed" and times.effect is None and not said:
        return None
    if not said:
        said = words.send_times[times.mode].format(hours=f" ({hours})" if hours else "")
    skipped = words.send_skipped.format(count=words.count(times.skipped)) if times.skipped else ""
    tone: Tone = "good" if times.status == "proven" else "warn" if times.status == "worse" or skipped else "plain"
    return _check(words.send_time, tone, words.join(said, _send_effect(report, words), skipped), words)


def _send_effect(report: Report, words: Words) -> str:
    times = report.send_time
    if times.effect is None:
        return ""
    known = [x for x in (times.effect, times.ci_lower, times.ci_upper) if x is not None]
    digits = 2 if max(map(abs, known)) < ONE_POINT else 1
    text = words.difference_in_points(times.effect, digits=digits)
    if times.ci_lower is not None and times.ci_upper is not None:
        text = f"{text} {words.range_in_points(times.ci_lower, times.ci_upper, digits=digits)}"
    return words.send_effect.format(effect=text)


# further tables
