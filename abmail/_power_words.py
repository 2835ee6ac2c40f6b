"""What a marketer reads of a `PowerReport`: the answer in a sentence, what to do next, and the table behind it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from abmail._power_report import Outlook, PowerReport, Setting
    from abmail.stats import Power

__all__ = ["PowerWords", "describe"]

_NOUNS: Final = {"opened": "opens", "clicked": "clicks"}
_RATES: Final = {"opened": "open rate", "clicked": "click rate"}
_WIDTH: Final = 100
_CHEAPER: Final = 0.9  # of the loss, below which another setting is worth naming
_WORTH_NAMING: Final = 0.05  # more power, from which another setting is worth naming


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerWords:
    """The report in words.

    Attributes:
        sentence: The answer.
        advice: What to do next.
        notes: What the figures rest on.
        text: All of it with the tables.
    """

    sentence: str
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    text: str


def describe(report: PowerReport) -> PowerWords:
    """Put a report into words."""
    sentence, advice, notes = _sentence(report), tuple(_advice(report)), tuple(_notes(report))
    table = _one_rate(report, report.outlooks[0]) if len(report.outlooks) == 1 else _many_rates(report)
    lines = [_headline(report), *_wrapped(sentence, "  "), "", *table]
    lines += ["", *(line for note in notes for line in _wrapped(note, "  "))] if notes else []
    lines += ["", *(line for step in advice for line in _wrapped(f"next: {step}", ""))] if advice else []
    return PowerWords(sentence=sentence, advice=advice, notes=notes, text="\n".join(lines) + "\n")


# -- the answer -------------------------------------------------------------------------------------------------------


def _sentence(report: PowerReport) -> str:
    wanted = f"{report.experiment.analysis.power:.0%}"
    if not report.mails:
        needs = _list(f"{_needed(report, o)} to show {_rise(o)}" for o in report.outlooks)
        return f"There is nobody to send to yet. For a chance of {wanted} the test needs {needs}."
    if len(report.outlooks) > 1:
        return _sentence_of_many(report, wanted)
    (outlook,) = report.outlooks
    told = f"With {_mails(report.mails)} the test shows {_rise(outlook)} in {_chance(outlook.found)} of the cases"
    if report.effect_source == "assumed":
        return f"{told}."
    if outlook.reached:
        return f"{told}: the {wanted} that you asked for are reached."
    return f"{told}; you asked for {wanted}. This list is too small for that."


def _sentence_of_many(report: PowerReport, wanted: str) -> str:
    noun = _rate_name(report)
    chances = _list(f"{_chance(o.found)} of the cases at {_rate(o.baseline)}" for o in report.outlooks if o.found)
    rise = f"a rise by {_points(report.outlooks[0].effect)}"
    if report.effect_source == "assumed":
        rise = "a rise by a fifth of the rate"
    told = f"The {noun} to expect is not known. With {_mails(report.mails)} the test shows {rise} in {chances}"
    if report.effect_source == "assumed":
        return f"{told}."
    if all(outlook.reached for outlook in report.outlooks):
        return f"{told}: the {wanted} that you asked for are reached at any of these rates."
    if report.reached:
        return f"{told}; you asked for {wanted}."
    return f"{told}; you asked for {wanted}. This list is too small for that at any of these rates."


def _advice(report: PowerReport) -> Iterator[str]:
    name = report.experiment.name
    if not report.mails:
        yield "import the list (`abmail audience import FILE`), or give its size with --recipients"
        return
    if report.baseline.source == "typical":
        yield f"write the rate of your own mailings into {name}: analysis.baseline, or give it with --baseline"
    if report.effect_source == "assumed":
        yield f"write the smallest difference worth finding into {name}: analysis.mde, or give it with --mde"
    if len(report.outlooks) > 1:
        return
    (outlook,) = report.outlooks
    yield from _when_enough(report, outlook) if outlook.reached else _when_short(report, outlook)


def _when_enough(report: PowerReport, outlook: Outlook) -> Iterator[str]:
    wanted, noun = report.experiment.analysis.power, _noun(report)
    found = outlook.found
    cheaper = [each for each in outlook.settings if each.found.power >= wanted]
    if cheaper and found is not None and cheaper[0].found.lost < _CHEAPER * found.lost:
        best = cheaper[0]
        saved = found.lost - best.found.lost
        yield f"{_setting(best)} would still reach {_chance(best.found)} and save about {_count(saved)} {noun}"
    yield f"abmail plan {report.experiment.name}"


def _when_short(report: PowerReport, outlook: Outlook) -> Iterator[str]:
    wanted, noun = report.experiment.analysis.power, _noun(report)
    found = outlook.found
    enough = [each for each in outlook.settings if each.found.power >= wanted]
    better = enough[0] if enough else max(outlook.settings, key=lambda each: each.found.power, default=None)
    if found is not None and better is not None and (enough or better.found.power > found.power + _WORTH_NAMING):
        price = max(better.found.lost - found.lost, 0.0)
        chance = _chance(better.found)
        yield f"{_setting(better)} shows it in {chance} of the cases, for about {_count(price)} {noun} more lost"
    if (
        found is not None
        and outlook.two_variants is not None
        and outlook.two_variants.power > found.power + _WORTH_NAMING
    ):
        variants = len(report.experiment.cells)
        yield f"two variants instead of {variants} would show it in {_chance(outlook.two_variants)} of the cases"
    if outlook.needed.n is not None:
        yield f"send it to more people: {_needed(report, outlook)} are needed"
    else:
        yield "no list up to a thousand million mails is enough: look for a larger effect"
    smallest = outlook.smallest
    if smallest is not None and smallest.effect is not None:
        yield (
            f"or test a bolder change: this list shows {_points(smallest.effect)} "
            f"({_rate(outlook.baseline)} to {_rate(outlook.baseline + smallest.effect)}) or more; "
            f"if that is what you hope for, write mde: {_rounded_up(smallest.effect, 2):g}"
        )


def _setting(setting: Setting) -> str:
    if setting.policy == "uniform":
        return "policy: uniform (an even split)"
    if setting.policy == "fixed":
        return "policy: fixed (this definition)"
    name = "this definition" if setting.name == "definition" else setting.name
    return f"min_weight: {setting.min_weight:.3g} ({name})"


def _notes(report: PowerReport) -> Iterator[str]:
    experiment, base = report.experiment, report.baseline
    noun = _rate_name(report)
    if base.source == "past":
        yield (
            f"The {noun} of {_rate(base.rates[0])} is that of {_mails(base.mails)} in {base.experiments} earlier "
            f"experiment{'s' if base.experiments > 1 else ''}."
        )
    if base.source == "typical":
        yield f"The definition has no analysis.baseline and there are no earlier mailings: typical {noun}s are shown."
    if report.effect_source == "assumed":
        yield "The definition has no analysis.mde: a rise by a fifth of the rate is assumed."
    if len(experiment.cells) > 2:
        yield (
            f"One of {len(experiment.cells)} variants is taken to be better than the others, which are alike. It is "
            "named winner only when it beats each of them, which takes many more mails than a test of two."
        )
    if experiment.allocation.policy == "test_then_send":
        yield "Only the mails of the test are counted: everybody else gets the best of it, and compares nothing."
    if report.mails and experiment.allocation.policy == "thompson" and len(report.waves) == 1:
        yield "So small a list goes out in one wave: nothing is learned on the way, and the floor does not matter."
    yield from _how_read(report)
    ses = [outlook.found.se for outlook in report.outlooks if outlook.found is not None]
    if any(ses):
        points = math.ceil(200 * max(ses))
        yield f"By simulation: the chances are good to about {points} point{'s' if points > 1 else ''}."


def _how_read(report: PowerReport) -> Iterator[str]:
    read = report.read_off
    if read.method != "sequential":
        yield f"The figures are for the method {read.method}."
    if read.shape:
        yield (
            f"The figures are for a boundary of shape {read.shape:g}, which stops earlier than the usual one and "
            "proves a little less."
        )
    if read.strata:
        yield f"The variants are compared within {len(read.strata)} segments, at rates whose mean is the rate above."
    if read.icc is not None:
        yield (
            f"People of one company get the same variant. With answers that correlate by {read.icc:g} within a "
            f"company, this list needs {read.design_effect:.3g} times the mails, and a comparison that counts "
            "companies."
        )
    elif report.experiment.audience.unit == "company":
        yield (
            "People of one company get the same variant and answer alike: the figures are for recipients one by one "
            "and promise too much. Give --icc, the correlation of the answers within a company, to take it in."
        )


# -- the tables -------------------------------------------------------------------------------------------------------


def _headline(report: PowerReport) -> str:
    experiment = report.experiment
    people = f"{report.mails:,} mails"
    if report.recipients > report.mails:
        people += f" ({report.recipients - report.mails:,} held out)"
    waves = f" in {len(report.waves)} waves" if len(report.waves) > 1 else ""
    return (
        f"{experiment.name}: {len(experiment.cells)} variants, {_noun(report)} within "
        f"{_span(experiment.metrics.window)}, {people}{waves}"
    )


def _one_rate(report: PowerReport, outlook: Outlook) -> list[str]:
    wanted = f"{report.experiment.analysis.power:.0%}"
    rows = [("worth finding", f"{_rise(outlook)} ({_points(outlook.effect)})")]
    if outlook.found is not None:
        rows.append(("chance to show it", f"{_chance(outlook.found)} (asked: {wanted})"))
    rows.append(("mails needed", _needed_with_time(report, outlook)))
    if outlook.smallest is not None:
        rows.append((f"smallest rise shown in {wanted}", _smallest(outlook)))
    if report.time is not None:
        rows.append(("result of this list after", _span(report.time)))
    return [f"  {name:<28}  {value}" for name, value in rows] + _price(report, outlook)


def _price(report: PowerReport, outlook: Outlook) -> list[str]:
    """Both currencies, setting by setting."""
    if not outlook.settings:
        return []
    noun = _noun(report)
    possible = report.mails * (outlook.baseline + outlook.effect)
    rows = [("", "allocation", "chance to show it", f"{noun} lost")]
    rows += [
        ("*" if o.chosen else "", _setting(o), _chance(o.found), f"about {_count(o.found.lost)}")
        for o in outlook.settings
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    title = f"  Ways to share these mails; the best variant alone would bring about {_count(possible)} {noun}:"
    return ["", title, *(_row(row, widths) for row in rows)]


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        text.rjust(width) if i > 1 else text.ljust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join((f"  {padded[0]}", *padded[1:])).rstrip()


def _many_rates(report: PowerReport) -> list[str]:
    wanted = f"{report.experiment.analysis.power:.0%}"
    head = (_rate_name(report), "worth finding", "chance to show it", f"needed for {wanted}")
    rows = [(*head, "smallest rise shown"), *(_rate_row(report, outlook) for outlook in report.outlooks)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) for row in rows]


def _rate_row(report: PowerReport, outlook: Outlook) -> tuple[str, ...]:
    return (
        _rate(outlook.baseline),
        _points(outlook.effect),
        "-" if outlook.found is None else _chance(outlook.found),
        _needed(report, outlook),
        "-" if outlook.smallest is None else _smallest(outlook),
    )


def _needed_with_time(report: PowerReport, outlook: Outlook) -> str:
    text = _needed(report, outlook)
    return text if outlook.needed_time is None else f"{text} (result after {_span(outlook.needed_time)})"


def _needed(report: PowerReport, outlook: Outlook) -> str:
    """Mails needed; never more than a list that is enough, whatever the simulations' noise says."""
    needed = outlook.needed
    if needed.n is None:
        return "more than a thousand million mails"
    n = min(needed.n, report.mails) if outlook.reached else max(needed.n, report.mails + 1)
    return _mails(n) if needed.found.how == "closed form" else f"about {_mails(int(_rounded_up(n, 2)))}"


def _smallest(outlook: Outlook) -> str:
    smallest = outlook.smallest
    if smallest is None or smallest.effect is None:
        return "none: too few answers"
    return f"{_points(smallest.effect)} ({_rate(outlook.baseline)} to {_rate(outlook.baseline + smallest.effect)})"


# -- words for numbers ------------------------------------------------------------------------------------------------


def _noun(report: PowerReport) -> str:
    return _NOUNS.get(report.experiment.metrics.primary, "answers")


def _rate_name(report: PowerReport) -> str:
    return _RATES.get(report.experiment.metrics.primary, "rate")


def _rise(outlook: Outlook) -> str:
    return f"a rise from {_rate(outlook.baseline)} to {_rate(outlook.baseline + outlook.effect)}"


def _rate(rate: float) -> str:
    percent = 100 * rate
    return f"{percent:.1f}%" if percent >= 1 else f"{percent:.2g}%"


def _points(effect: float) -> str:
    points = 100 * effect
    return f"{points:.1f} points" if points >= 1 else f"{points:.2g} points"


def _chance(found: Power | None) -> str:
    """A power, never rounded to certainty."""
    power = 0.0 if found is None else found.power
    if power < 0.005:
        return "under 1%"
    return "over 99%" if power > 0.995 else f"{power:.0%}"


def _mails(n: int) -> str:
    return "1 mail" if n == 1 else f"{n:,} mails"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 or number == 0 else f"{number:.1f}"


def _rounded_up(number: float, digits: int) -> float:
    """The next number of so few significant digits."""
    unit = 10.0 ** (math.floor(math.log10(number)) - digits + 1)
    return math.ceil(round(number / unit, 6)) * unit


def _span(span: timedelta) -> str:
    hours = max(1, round(span.total_seconds() / 3600))
    if hours <= 72:
        return f"{hours} hour{'s' if hours > 1 else ''}"
    days, rest = divmod(hours, 24)
    return f"{days:,} days" + (f" {rest} hours" if rest and days < 14 else "")


def _list(parts: Iterator[str] | Sequence[str]) -> str:
    texts = list(parts)
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent or "  ", break_on_hyphens=False)
