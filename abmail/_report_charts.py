"""The charts of the HTML report as inline SVG, drawn offline by Vega-Lite.

Sizes, margins and label places are set here rather than measured, so a chart does not depend on the fonts of the
machine that draws it: the same figures give the same bytes everywhere.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import altair as alt
import vl_convert

from abmail._report_parts import difference, points_digits
from abmail._report_words import signed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from abmail._report_words import Words
    from abmail.report import ArmReport, CurveReport, Report

__all__ = [
    "FONTS",
    "Figure",
    "Interval",
    "Layer",
    "Line",
    "Picture",
    "curve_chart",
    "figures",
    "interval_chart",
    "share_chart",
    "week_chart",
]

FONTS = (
    "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, "
    "'Noto Sans', 'Noto Sans CJK JP', 'Hiragino Sans', 'Yu Gothic', Meiryo, sans-serif"
)
"""Font families of charts and page, Japanese ones included."""

_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800")
"""Distinguishable under colour blindness: Okabe & Ito 2008, the yellow darkened to show on white."""
_CONTROL_COLOR = "#7f8896"
_OTHERS_COLOR = "#c3c9d1"

_INK, _RULE, _PAPER = "#1d2430", "#d9dee5", "#ffffff"
_WIDTH = 448
_SIDE = 14
_ROW = 48
_LOWEST, _HIGHEST = 150, 340
_BETWEEN, _BOLD, _REGULAR = 12, 8.6, 7.4
_TICKS = 5
_BARS_WITH_GAPS = 40
_LABELLED_WAVES = 13
_CHARTED_INTERVALS = 12
_FEWEST_WAVES = 2
_CHARTED_CURVES, _CURVES_HEIGHT, _HOUR = 5, 220, 3_600
_WEEK_HEIGHT, _NAMED_HOURS, _EMPTY_HOUR = 168, 3, "#eef2f7"
_ROOT = re.compile(r"\A\s*<svg[^>]*>|</svg>\s*\Z")
_REFERENCE = re.compile(r'(?<= id="|url\(#)[A-Za-z_]+\d+(?=["\)])')


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One row of the effects chart, in percentage points; ``text`` is the same in figures."""

    label: str
    text: str
    effect: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One variant's share of every wave, fractions in [0, 1]."""

    label: str
    color: str
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One variant's curve: hours, share, and the ends of its band at each place, from (0, 0, 0, 0) on."""

    color: str
    places: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The inside of an ``<svg>`` element and its size in pixels."""

    body: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its words. ``summary`` says in text what the picture shows; ``legend`` pairs colours with names."""

    key: str
    title: str
    note: str
    summary: str
    picture: Picture
    legend: tuple[tuple[str, str], ...] = ()


def figures(report: Report, words: Words) -> tuple[Figure, ...]:
    """Draw what a report has to show: effects once there are any, shares once they could have changed.

    Args:
        report: The result.
        words: The page's language.

    Returns:
        No figure or up to four, and those of when people read.
    """
    drawn = (_effects(report, words), _shares(report, words), _curves(report, words), _delays(report, words))
    return (*(figure for figure in drawn if figure), *_habits(report, words))


def _habits(report: Report, words: Words) -> Iterator[Figure]:
    """When people read: all of them, and the commonest kinds of readers."""
    days = words.weekdays.split()
    for index, habit in enumerate(report.send_time.habits):
        share = None if habit.share is None else words.percent(habit.share, digits=0)
        title = words.chart_habits if share is None else words.chart_habits_kind.format(share=share)
        top = sorted(range(len(habit.activity)), key=lambda slot: -habit.activity[slot])[:_NAMED_HOURS]
        hours = words.comma.join(f"{days[slot // 24]} {slot % 24:02d}:00" for slot in top)
        yield Figure(
            key=f"habits{index}",
            title=title,
            note=words.chart_habits_note,
            summary=words.chart_habits_summary.format(hours=hours),
            picture=week_chart(habit.activity, days=days, axis=words.chart_habits_axis),
        )


def _effects(report: Report, words: Words) -> Figure | None:
    known = [arm for arm in report.arms if None not in (arm.effect, arm.ci_lower, arm.ci_upper)]
    if not known:
        return None
    shown = _heaviest(known, {arm.name: arm.weight or 0.0 for arm in known}, _CHARTED_INTERVALS)
    digits = points_digits(report.arms)
    cells = ((arm.name, difference(arm, words, digits=digits)) for arm in shown)
    cut = words.chart_cut.format(shown=len(shown), all=len(known)) if len(shown) < len(known) else ""
    return Figure(
        key="effects",
        title=words.chart_effects.format(control=report.control),
        note=words.join(words.chart_effects_note, cut),
        summary=words.join(*(f"{name}{words.colon}{cell.text} {cell.detail}" for name, cell in cells)),
        picture=interval_chart([_interval(arm, words, digits=digits) for arm in shown], axis=words.chart_axis),
    )


def _interval(arm: ArmReport, words: Words, *, digits: int) -> Interval:
    effect, lower, upper = (100 * (x or 0.0) for x in (arm.effect, arm.ci_lower, arm.ci_upper))
    text = f"{signed(effect, digits)} {words.range_in_points(lower / 100, upper / 100, digits=digits)}"
    return Interval(label=arm.name, text=text, effect=effect, lower=lower, upper=upper)


def _curves(report: Report, words: Words) -> Figure | None:
    """How soon the mails of the control and of the largest variants have the event that decides."""
    drawn = [curve for curve in report.curves if curve.metric == report.metric and len(curve.points) > 1]
    if not drawn:
        return None
    arms = {arm.name: arm for arm in report.arms}
    others = [arms[curve.arm] for curve in drawn if curve.arm != report.control]
    shown = _heaviest(others, {arm.name: arm.weight or 0.0 for arm in others}, _CHARTED_CURVES - 1)
    names = [name for name in (report.control, *(arm.name for arm in shown)) if any(c.arm == name for c in drawn)]
    colors = [_CONTROL_COLOR if name == report.control else _PALETTE[i % len(_PALETTE)]
              for i, name in enumerate(names, start=-1 if names[0] == report.control else 0)]  # fmt: skip
    of_name = {curve.arm: curve for curve in drawn}
    last = (f"{name} {words.rate(of_name[name].points[-1].share)}" for name in names)
    cut = words.chart_cut.format(shown=len(names), all=len(drawn)) if len(names) < len(drawn) else ""
    return Figure(
        key="curves",
        title=words.chart_curves[report.metric],
        note=words.join(words.chart_curves_note, cut),
        summary=words.join(words.comma.join(last)),
        picture=curve_chart(
            [Line(color=color, places=_places(of_name[name])) for name, color in zip(names, colors, strict=True)],
            axis=words.chart_curves_axis,
        ),
        legend=tuple(zip(colors, names, strict=True)),
    )


def _delays(report: Report, words: Words) -> Figure | None:
    """How long answers take by the account of the allocation: one curve, or one for each of the largest variants."""
    found = () if report.allocation is None else report.allocation.delays
    if not found or not any(arm.successes for arm in report.arms):
        return None
    own = {delay.arm: delay for delay in found if delay.arm is not None}
    arms = [arm for arm in report.arms if arm.name in own]
    weights = {arm.name: arm.weight or 0.0 for arm in arms}
    names = [arm.name for arm in _heaviest(arms, weights, _CHARTED_CURVES)]
    drawn = [own[name] for name in names] or list(found[:1])
    labels = [delay.arm or words.every_variant for delay in drawn]
    colors = [_PALETTE[i % len(_PALETTE)] for i in range(len(drawn))]
    day = (next(p for p in delay.points if p.seconds >= min(24 * _HOUR, delay.points[-1].seconds)) for delay in drawn)
    summary = (f"{label} {words.percent(p.share)}" for label, p in zip(labels, day, strict=True))
    return Figure(
        key="delays",
        title=words.chart_delays,
        note=words.join(words.chart_delays_note),
        summary=words.join(words.comma.join(summary)),
        picture=curve_chart(
            [
                Line(color=color, places=tuple((p.seconds / _HOUR, p.share, p.share, p.share) for p in delay.points))
                for delay, color in zip(drawn, colors, strict=True)
            ],
            axis=words.chart_curves_axis,
        ),
        legend=tuple(zip(colors, labels, strict=True)),
    )


def _places(curve: CurveReport) -> tuple[tuple[float, float, float, float], ...]:
    start = ((0.0, 0.0, 0.0, 0.0),)
    return start + tuple(
        (p.seconds / _HOUR, p.share, p.share if p.lower is None else p.lower, p.share if p.upper is None else p.upper)
        for p in curve.points
    )


def _heaviest(arms: Sequence[ArmReport], weights: Mapping[str, float], limit: int) -> list[ArmReport]:
    """The arms with the largest share, in the order of the report."""
    order = sorted(range(len(arms)), key=lambda i: -weights.get(arms[i].name, 0.0))
    return [arms[i] for i in sorted(order[:limit])]


def _shares(report: Report, words: Words) -> Figure | None:
    if len(report.epochs) < _FEWEST_WAVES:
        return None
    layers = _layers(report, words)
    last = (f"{layer.label} {words.percent(layer.shares[-1])}" for layer in layers)
    return Figure(
        key="shares",
        title=words.chart_weights,
        note=words.chart_weights_note,
        summary=f"{words.chart_weights_axis} {report.epochs[-1].number}{words.colon}{words.comma.join(last)}",
        picture=share_chart(
            [epoch.number for epoch in report.epochs],
            layers,
            axis=words.chart_weights_axis,
            height=min(max(_ROW * (len(report.arms) - 1), _LOWEST), _HIGHEST),
        ),
        legend=tuple((layer.color, layer.label) for layer in layers),
    )


def _layers(report: Report, words: Words) -> list[Layer]:
    """The control at the bottom, the largest variants above it, all others in one layer on top."""
    others = [arm for arm in report.arms if arm.name != report.control]
    room = len(_PALETTE)
    shown = others if len(others) <= room else _heaviest(others, report.epochs[-1].weights, room - 1)
    rest = [arm for arm in others if arm not in shown]
    layers = [_layer(report, [report.control], report.control, _CONTROL_COLOR)]
    layers += [_layer(report, [arm.name], arm.name, color) for arm, color in zip(shown, _PALETTE, strict=False)]
    if rest:
        label = words.other_variants.format(count=len(rest))
        layers.append(_layer(report, [arm.name for arm in rest], label, _OTHERS_COLOR))
    return layers


def _layer(report: Report, names: Iterable[str], label: str, color: str) -> Layer:
    chosen = list(names)
    shares = tuple(sum(epoch.weights.get(name, 0.0) for name in chosen) for epoch in report.epochs)
    return Layer(label=label, color=color, shares=shares)


def interval_chart(rows: Sequence[Interval], *, axis: str) -> Picture:
    """Draw each variant's interval against the control, one below the other.

    Args:
        rows: At least one interval.
        axis: Title of the axis.

    Returns:
        The picture; the control is the vertical line at 0.
    """
    height = _ROW * len(rows)
    width = _WIDTH - 2 * _SIDE
    values = [
        {
            "label": _shorten(row.label, beside=row.text),
            "text": row.text,
            "effect": row.effect,
            "lower": row.lower,
            "upper": row.upper,
        }
        | {"words": i * _ROW + 15, "bar": i * _ROW + 33, "from": i * _ROW + 24, "to": (i + 1) * _ROW}
        | {"zero": 0, "color": _interval_color(row)}
        for i, row in enumerate(rows)
    ]
    down = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)
    x = alt.X("lower:Q", scale=alt.Scale(domain=_domain(rows), nice=False, zero=False), axis=_points_axis(axis))
    base = alt.Chart(alt.InlineData(values=values))
    bar = alt.Y("bar:Q", scale=down, axis=None)
    words = alt.Y("words:Q", scale=down, axis=None)
    color = alt.Color("color:N", scale=None)
    chart = alt.layer(
        base.mark_rule(color=_INK, strokeWidth=1.5).encode(
            x="zero:Q", y=alt.Y("from:Q", scale=down, axis=None), y2="to:Q"
        ),
        base.mark_rule(strokeWidth=4, strokeCap="round").encode(x=x, x2="upper:Q", y=bar, color=color),
        base.mark_point(filled=True, opacity=1, size=110, stroke=_PAPER, strokeWidth=2).encode(
            x="effect:Q", y=bar, fill=color
        ),
        _words(base, align="left", weight="bold").encode(text="label:N", x=alt.value(0), y=words),
        _words(base, align="right", weight="normal").encode(text="text:N", x=alt.value(width), y=words),
    )
    return _draw(chart, width=width, height=height, top=2, left=_SIDE, bottom=44)


def share_chart(waves: Sequence[int], layers: Sequence[Layer], *, axis: str, height: int) -> Picture:
    """Draw how each wave was shared out: one stacked bar a wave.

    Args:
        waves: Their numbers, oldest first.
        layers: The variants from the bottom up, each with one share per wave.
        axis: Title of the axis.
        height: Of the bars, in pixels.

    Returns:
        The picture; colours are those of the layers.
    """
    values = [
        {"wave": wave, "from": bottom, "to": bottom + layer.shares[i], "color": layer.color}
        for i, wave in enumerate(waves)
        for layer, bottom in zip(layers, _bottoms(layers, i), strict=True)
    ]
    many = len(waves) > _BARS_WITH_GAPS
    step = -(-len(waves) // _LABELLED_WAVES)
    waves_axis = alt.Axis(
        title=axis, values=list(waves[::step]), labelAngle=0, labelOverlap=False, ticks=False, domainColor=_RULE
    )
    share_axis = alt.Axis(
        title=None, values=[0, 0.25, 0.5, 0.75, 1], labelExpr="format(datum.value, '.0%')", ticks=False, domain=False
    )
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar(stroke=_PAPER, strokeWidth=0 if many else 1)
        .encode(
            x=alt.X(
                "wave:O",
                sort=None,
                axis=waves_axis,
                scale=alt.Scale(paddingInner=0 if many else 0.12, paddingOuter=0.04),
            ),
            y=alt.Y("from:Q", axis=share_axis, scale=alt.Scale(domain=[0, 1], nice=False)),
            y2="to:Q",
            color=alt.Color("color:N", scale=None),
        )
    )
    return _draw(chart, width=_WIDTH - 46 - _SIDE, height=height, top=10, left=46, bottom=44)


def curve_chart(lines: Sequence[Line], *, axis: str) -> Picture:
    """Draw shares that rise with the age of the mail, each with its band.

    Args:
        lines: At least one.
        axis: Title of the axis, hours.

    Returns:
        The picture; colours are those of the lines.
    """
    values = [
        {"line": i, "hours": hours, "share": share, "lower": lower, "upper": upper, "color": line.color}
        for i, line in enumerate(lines)
        for hours, share, lower, upper in line.places
    ]
    longest = max(line.places[-1][0] for line in lines)
    x = alt.X(
        "hours:Q", scale=alt.Scale(domain=[0, longest], nice=False),
        axis=alt.Axis(title=axis, tickCount=_TICKS, grid=False, ticks=False, domainColor=_RULE),
    )  # fmt: skip
    share_axis = alt.Axis(
        title=None, tickCount=_TICKS, labelExpr="format(datum.value, '.3~p')", ticks=False, domain=False
    )
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x, color=alt.Color("color:N", scale=None), detail="line:N")
    chart = alt.layer(
        base.mark_area(opacity=0.18, interpolate="step-after").encode(
            y=alt.Y("lower:Q", axis=share_axis, scale=alt.Scale(zero=True, nice=True)), y2="upper:Q"
        ),
        base.mark_line(interpolate="step-after", strokeWidth=2).encode(y="share:Q"),
    )
    return _draw(chart, width=_WIDTH - 46 - _SIDE, height=_CURVES_HEIGHT, top=10, left=46, bottom=44)


def week_chart(activity: Sequence[float], *, days: Sequence[str], axis: str) -> Picture:
    """Draw a week hour by hour: the busier, the darker.

    Args:
        activity: (168,) by hour of the week, 0 = Monday 00:00.
        days: Names of the days, Monday first.
        axis: Title of the axis, hours of the day.
    """
    highest = max(*activity, 1e-9)
    values = [
        {"day": day, "name": days[day], "hour": hour, "level": activity[24 * day + hour] / highest}
        for day in range(7)
        for hour in range(24)
    ]
    hours_axis = alt.Axis(
        title=axis, values=list(range(0, 24, 3)), labelAngle=0, labelOverlap=False, ticks=False, domain=False
    )
    days_axis = alt.Axis(title=None, ticks=False, domain=False, labelExpr=f"{json.dumps(list(days))}[datum.value]")
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_rect(stroke=_PAPER, strokeWidth=1)
        .encode(
            x=alt.X("hour:O", axis=hours_axis),
            y=alt.Y("day:O", axis=days_axis, sort=None),
            color=alt.Color("level:Q", scale=alt.Scale(domain=[0, 1], range=[_EMPTY_HOUR, _PALETTE[0]]), legend=None),
        )
    )
    return _draw(chart, width=_WIDTH - 46 - _SIDE, height=_WEEK_HEIGHT, top=10, left=46, bottom=44)


def _bottoms(layers: Sequence[Layer], wave: int) -> list[float]:
    bottoms = [0.0]
    for layer in layers[:-1]:
        bottoms.append(bottoms[-1] + layer.shares[wave])
    return bottoms


def _interval_color(row: Interval) -> str:
    if row.lower > 0:
        return _PALETTE[2]
    return _PALETTE[5] if row.upper < 0 else _CONTROL_COLOR


def _domain(rows: Sequence[Interval]) -> list[float]:
    """The span of all intervals and 0, with a margin so that round ends and dots stay inside."""
    low = min(0.0, *(row.lower for row in rows))
    high = max(0.0, *(row.upper for row in rows))
    margin = 0.05 * (high - low or 1.0)
    return [low - margin, high + margin]


def _points_axis(title: str) -> alt.Axis:
    return alt.Axis(
        title=title,
        tickCount=_TICKS,
        grid=True,
        domain=False,
        ticks=False,
        labelOverlap=False,
        labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.3~f')",
    )


def _words(base: alt.Chart, *, align: Literal["left", "right"], weight: Literal["normal", "bold"]) -> alt.Chart:
    words: alt.Chart = base.mark_text(align=align, baseline="middle", fontWeight=weight, fontSize=13, color=_INK)
    return words


def _draw(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart, *, width: int, height: int, top: int, left: int, bottom: int
) -> Picture:
    right = _WIDTH - left - width
    sized = chart.properties(
        width=width,
        height=height,
        autosize="none",
        background="transparent",
        padding={"left": left, "right": right, "top": top, "bottom": bottom},
        config=_config(),
    )
    svg = vl_convert.vegalite_to_svg(sized.to_dict(), allowed_base_urls=[])
    return Picture(body=_own_names(_ROOT.sub("", svg)), width=_WIDTH, height=top + height + bottom)


def _config() -> alt.Config:
    axis = alt.AxisConfig(
        labelFont=FONTS,
        titleFont=FONTS,
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
        titlePadding=8,
        labelPadding=6,
        labelColor=_INK,
        titleColor=_INK,
        gridColor=_RULE,
        labelLimit=0,
        titleLimit=0,
    )
    return alt.Config(
        aria=False, font=FONTS, axis=axis, view=alt.ViewConfig(stroke=None), text=alt.MarkConfig(font=FONTS, limit=0)
    )


def _own_names(body: str) -> str:
    """Number the ids inside a picture from 1: Vega counts them on from one drawing to the next."""
    names: dict[str, str] = {}
    return _REFERENCE.sub(lambda match: names.setdefault(match.group(), f"part{len(names) + 1}"), body)


def _shorten(label: str, *, beside: str) -> str:
    """As much of a label as fits on one line with its figures, in the widest of the fonts."""
    room = (_WIDTH - 2 * _SIDE - _BETWEEN - _REGULAR * _cells(beside)) / _BOLD
    if _cells(label) <= room:
        return label
    while label and _cells(label) + 1 > room:
        label = label[:-1]
    return label + "…"


def _cells(text: str) -> int:
    """The width of a text in Latin letters; Chinese and Japanese letters count twice."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
