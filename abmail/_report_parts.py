"""The parts of a report's page: cells, tables, checks and sections, and how the commonest of them are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from abmail._report_words import Words
    from abmail.report import ArmReport, DecisionReport, Report

__all__ = [
    "ONE_POINT",
    "Cell",
    "Check",
    "Column",
    "Compared",
    "Section",
    "Table",
    "Tone",
    "View",
    "decided_in_words",
    "difference",
    "factor_name",
    "localized",
    "moment",
    "points_digits",
    "row_name",
    "spans",
    "status_words",
    "table",
    "versus_control",
]

Tone = Literal["plain", "good", "warn", "bad", "muted"]
ONE_POINT: Final = 0.01


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
    """A titled part of the page. ``fold``: detail that a terminal leaves out and a page keeps closed.

    ``code`` is a comparison of two texts, line by line.
    """

    key: str
    title: str
    lead: str = ""
    tables: tuple[Table, ...] = ()
    checks: tuple[Check, ...] = ()
    items: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fold: bool = False
    code: str = ""


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


class Compared(Protocol):
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


def points_digits(rows: Iterable[Compared]) -> int:
    """Decimals for differences in points that stand together: one, or two where all of them are under a point."""
    known = [abs(x) for row in rows for x in (row.effect, row.ci_lower, row.ci_upper) if x is not None]
    return 2 if known and max(known) < ONE_POINT else 1


def spans(text: str) -> list[tuple[str, bool]]:
    """A text in parts, each with whether it is a command to type: what stands between two backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return [(text, False)]
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


def difference(row: Compared, words: Words, *, digits: int) -> Cell:
    """A difference from control with its interval: "+1.8 points", "(+0.4 to +3.2)"; empty without an effect."""
    if row.effect is None:
        return Cell()
    text = words.difference_in_points(row.effect, digits=digits)
    if row.ci_lower is None or row.ci_upper is None:
        return Cell(text=text)
    tone: Tone = "good" if row.ci_lower > 0 else "bad" if row.ci_upper < 0 else "plain"
    return Cell(text=text, detail=words.range_in_points(row.ci_lower, row.ci_upper, digits=digits), tone=tone)


def localized(words: Words, english: str, japanese: str) -> str:
    """The text in the language of the page; English where there is no Japanese."""
    return japanese if words.language == "ja" and japanese else english


def moment(at: datetime) -> str:
    """A time on the page."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def decided_in_words(decision: DecisionReport, report: Report, words: Words) -> str:
    """A decision as a headline."""
    state, arm = decision.state, decision.arm
    if state == "winner" and arm == report.control:
        return words.control_wins.format(arm=arm)
    if state == "stopped" and arm:
        return words.stopped_with.format(arm=arm)
    return words.headlines[state].format(arm=arm or words.variant)


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, caption: str = "") -> Table:
    """A table without the columns in which no row has anything to show."""
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i].text for row in rows)]
    return Table(
        caption=caption,
        columns=tuple(columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
    )


def row_name(arm: ArmReport, report: Report, words: Words) -> Cell:
    """The cell that names a variant's row, with what is special about it."""
    leads = arm.name == report.decision.arm and report.decision.state in ("winner", "leading")
    detail = words.control if arm.name == report.control else ""
    return Cell(text=arm.name, detail=detail, tone="good" if leads else "plain")


def versus_control(row: Compared, words: Words, *, digits: int, base: bool, status: str = "ok") -> Cell:
    """A difference from control, or why there is none."""
    if base:
        return Cell(text=words.baseline, tone="muted")
    if row.effect is None:
        return Cell(text=status_words(status, words), tone="muted")
    return difference(row, words, digits=digits)


def status_words(status: str, words: Words) -> str:
    """Why there is no difference, in words; "ok" without one can only mean that there was too little to go by."""
    known = words.statuses.get("too_few" if status == "ok" else status)
    return known or words.other_status.format(status=status)


def factor_name(name: str, words: Words) -> str:
    """A factor in the words of the page."""
    return words.factor_names.get(name, name)
