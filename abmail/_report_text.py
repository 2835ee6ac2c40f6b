"""A report's page for the terminal and as Markdown."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from abmail._report_parts import spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from abmail._report_parts import Cell, Check, Section, Table, Tone, View

__all__ = ["to_markdown", "to_text"]

_NARROWEST = 40
_NAME = 15
"""Least width of a column of names, where they are that long."""
_WORD, _WIDE_WORD = 12, 8
"""Longest part of a heading that is not cut: of Latin letters, and of Chinese or Japanese ones."""
_STYLES: dict[Tone, str] = {"plain": "", "good": "green", "warn": "yellow", "bad": "red", "muted": "dim"}
_CODE = {"+": "green", "-": "red", "@": "dim"}
_MARKS: dict[Tone, str] = {"plain": "-", "muted": "-", "good": "+", "warn": "!", "bad": "x"}
_WIDE = "\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_CLOSING = "、。，．：；！？）］｝」』】〉》〕ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々"
_OPENING = "（［｛「『【〈《〔"
_WORDS = re.compile(rf"\s+|[{_OPENING}]*(?:[{_WIDE}]|[^\s{_WIDE}]+)[{_CLOSING}]*")
"""Where a line may break: at spaces, and between Chinese and Japanese letters save before closing punctuation."""
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~@$&]")
_LIST = re.compile(r"^(\d*)([-+=.)])(?=\s)")


class _Layout(NamedTuple):
    """How a table is set: figures and their detail on one line, the spare columns, the cells between two columns."""

    joined: bool
    spare: bool
    gap: int


_LAYOUTS = (
    _Layout(joined=True, spare=True, gap=2),
    _Layout(joined=False, spare=True, gap=2),
    _Layout(joined=False, spare=False, gap=2),
    _Layout(joined=False, spare=False, gap=1),
)


def to_text(page: View, *, width: int, color: bool) -> str:
    """Print a page for a terminal of ``width`` columns; without ``color`` it holds no escape sequence."""
    if width < _NARROWEST:
        raise ValueError(f"width is {width}, must be at least {_NARROWEST} columns")
    console = _console(width, color=color)
    _print_head(console, page)
    for section in page.sections:
        if not section.fold:
            _print_section(console, section)
        elif section.key == "waves":
            _heading(console, section.title)
            _paragraph(console, section.lead)
    console.print()
    for line in page.footer:
        _paragraph(console, line, style="dim")
    lines = _output(console).splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def _console(width: int, *, color: bool) -> Console:
    """A console that takes nothing from the environment."""
    return Console(
        file=io.StringIO(),
        width=width,
        height=100,
        force_terminal=color,
        force_jupyter=False,
        force_interactive=False,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _output(console: Console) -> str:
    file = console.file
    file.seek(0)
    return file.read()


def _print_head(console: Console, page: View) -> None:
    _paragraph(console, page.title, style="bold", indent="")
    _paragraph(console, page.subtitle, style="dim", indent="")
    console.print()
    _paragraph(console, page.headline, style=f"bold {_STYLES[page.tone]}".strip(), indent="")
    _paragraph(console, page.sentence)
    for alert in page.alerts:
        _paragraph(console, alert, style="red", mark=_MARKS["bad"])
    console.print()
    if page.question:
        _paragraph(console, f"{page.words.question}{page.words.colon}{page.question}", indent="")
    facts = [part for label, number in page.facts for part in ("   ", f"{label} {number}")]
    for line in _fill(facts, console.width):
        console.print(Text(line, no_wrap=True))


def _paragraph(console: Console, text: str, *, style: str = "", indent: str = "  ", mark: str = "") -> None:
    """Print text wrapped to the console's width, with a hanging mark before it."""
    if not text:
        return
    hang = " " * (len(mark) + 1) if mark else ""
    lines = _fill(_WORDS.findall(text), console.width - len(indent) - len(hang))
    for i, line in enumerate(lines):
        lead = f"{mark} " if mark and i == 0 else hang
        console.print(Text(f"{indent}{lead}{line}", style=style, no_wrap=True))


def _fill(units: Sequence[str], width: int) -> list[str]:
    """Put units into lines of at most ``width`` cells; a unit that is longer than a line is cut."""
    lines = [""]
    for unit in units:
        room = width - cell_len(lines[-1])
        if unit.isspace() and not lines[-1]:
            continue
        if cell_len(unit) <= room:
            lines[-1] += unit
        elif not unit.isspace():
            first, *rest = chop_cells(unit, width)
            lines[-1:] = [lines[-1].rstrip(), first, *rest] if lines[-1] else [first, *rest]
        else:
            lines[-1:] = [lines[-1].rstrip(), ""]
    return [line.rstrip() for line in lines if line.strip()]


def _heading(console: Console, title: str) -> None:
    console.print()
    _paragraph(console, title, style="bold", indent="")


def _print_section(console: Console, section: Section) -> None:
    _heading(console, section.title)
    _paragraph(console, section.lead)
    for table in section.tables:
        _print_table(console, table)
    _print_checks(console, section.checks)
    for line in section.code.splitlines():
        for part in chop_cells(line, console.width - 4):
            console.print(Text(f"    {part}", style=_CODE.get(line[:1], ""), no_wrap=True))
    for item in section.items:
        _paragraph(console, item, mark="-")
    for note in section.notes:
        _paragraph(console, note, style="dim")


def _print_checks(console: Console, checks: Sequence[Check]) -> None:
    """Label and finding side by side, the labels in one column."""
    column = max((cell_len(check.label) for check in checks), default=0) + 2
    for check in checks:
        lines = _fill(_WORDS.findall(check.text), console.width - column - 4)
        label = check.label + " " * (column - cell_len(check.label))
        for i, line in enumerate(lines):
            head = (_MARKS[check.tone], " ", label) if i == 0 else (" " * (column + 2),)
            mark, *rest = head
            console.print(Text.assemble("  ", (mark, _STYLES[check.tone]), *rest, line, no_wrap=True))


def _print_table(console: Console, table: Table) -> None:
    """Print a table in the most generous layout that fits."""
    if table.caption:
        console.print()
        _paragraph(console, table.caption)
    room = console.width - 2
    for layout in _LAYOUTS:
        indices = [i for i, column in enumerate(table.columns) if layout.spare or not column.spare]
        least = [_least(table, i, joined=layout.joined) for i in indices]
        left = room - sum(least) - layout.gap * (len(least) - 1)
        if left >= 0:
            widths = _widen(table, indices, least, left, joined=layout.joined)
            console.print(Padding(_grid(table, indices, widths, layout), (0, 0, 0, 2)))
            return
    _print_records(console, table)


def _grid(table: Table, indices: Sequence[int], widths: Sequence[int], layout: _Layout) -> RichTable:
    grid = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=(0, layout.gap - 1, 0, 0), show_edge=False)
    for i, width in zip(indices, widths, strict=True):
        column = table.columns[i]
        grid.add_column(Text(column.label), justify="right" if column.number else "left", width=width, overflow="fold")
    for row in table.rows:
        grid.add_row(*(_rich_cell(row[i], joined=layout.joined or i == 0) for i in indices))
    return grid


def _print_records(console: Console, table: Table) -> None:
    """Each row as a list of its values, for terminals too narrow for the columns."""
    for first, *rest in table.rows:
        _paragraph(console, f"{first.text} {first.detail}", style="bold")
        for cell, column in zip(rest, table.columns[1:], strict=True):
            if cell.text:
                _paragraph(console, f"{column.label}  {cell.text} {cell.detail}", indent="    ")


def _least(table: Table, index: int, *, joined: bool) -> int:
    """The least width of a column: figures are never cut, words of headings rarely; names and texts may wrap."""
    column = table.columns[index]
    cells = _cells_width(table, index, joined=joined)
    if not column.number:
        return min(max(cells, cell_len(column.label)), _NAME)
    return max(cells, *(min(cell_len(word), _WORD if word.isascii() else _WIDE_WORD) for word in column.label.split()))


def _widen(table: Table, indices: Sequence[int], least: list[int], left: int, *, joined: bool) -> list[int]:
    """Give the room that is left to the columns that can use it.

    Headings of figures come first, to take two lines; then names and texts; then headings again, to take one line.
    """
    widths = list(least)
    order = sorted(range(len(indices)), key=lambda k: not table.columns[indices[k]].number)
    for heading in (_in_two_lines, cell_len):
        for place, k in enumerate(order):
            column = table.columns[indices[k]]
            wanted = max(_cells_width(table, indices[k], joined=joined), heading(column.label))
            share = left if column.number else left // (len(order) - place)
            extra = max(min(wanted - widths[k], share), 0)
            widths[k] += extra
            left -= extra
    return widths


def _in_two_lines(label: str) -> int:
    """The width in which a heading takes no more than two lines."""
    words = label.split()
    splits = (max(cell_len(" ".join(words[:i])), cell_len(" ".join(words[i:]))) for i in range(1, len(words)))
    return min(splits, default=cell_len(label) if label.isascii() else (cell_len(label) + 3) // 4 * 2)


def _cells_width(table: Table, index: int, *, joined: bool) -> int:
    return max((_cell_width(row[index], joined=joined or index == 0) for row in table.rows), default=0)


def _cell_width(cell: Cell, *, joined: bool) -> int:
    text, detail = cell_len(cell.text), cell_len(cell.detail)
    return text + 1 + detail if joined and detail else max(text, detail)


def _rich_cell(cell: Cell, *, joined: bool) -> Text:
    text = Text(cell.text, style=_STYLES[cell.tone])
    if cell.detail:
        text.append(" " if joined else "\n")
        text.append(cell.detail, style="dim")
    return text


def to_markdown(page: View) -> str:
    """Print a page as GitHub-flavoured Markdown with every table."""
    blocks = [
        f"# {_escape(page.title)}",
        _escape(page.subtitle),
        f"**{_escape(page.headline)}**",
        _escape(page.sentence),
        *(f"> **{_escape(page.words.alert.strip())}** {_prose(alert)}" for alert in page.alerts),
        f"*{_escape(page.words.question)}*{page.words.colon}{_escape(page.question)}" if page.question else "",
        " · ".join(f"{_escape(label)} {number}" for label, number in page.facts),
    ]
    for section in page.sections:
        blocks += _markdown_section(section)
    blocks += ["---", *(_escape(line) for line in page.footer)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_section(section: Section) -> list[str]:
    blocks = [f"## {_escape(section.title)}", _escape(section.lead)]
    for table in section.tables:
        blocks += [f"### {_escape(table.caption)}" if table.caption else "", _markdown_table(table)]
    blocks.append("\n".join(_markdown_check(check) for check in section.checks))
    blocks.append(_markdown_code(section.code))
    blocks.append("\n".join(f"- {_prose(item)}" for item in section.items))
    blocks.append("\n".join(f"- {_escape(note)}" for note in section.notes))
    return blocks


def _markdown_code(code: str) -> str:
    """A fenced block, its fence longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{fence}diff\n{code}\n{fence}" if code else ""


def _markdown_check(check: Check) -> str:
    verdict = f" ({_escape(check.verdict)})" if check.verdict else ""
    return f"- **{_escape(check.label)}**{verdict}: {_prose(check.text)}"


def _markdown_table(table: Table) -> str:
    header = _markdown_row(_escape(column.label) for column in table.columns)
    rule = _markdown_row("---:" if column.number else "---" for column in table.columns)
    rows = [_markdown_row(_escape(f"{cell.text} {cell.detail}".strip()) for cell in row) for row in table.rows]
    return "\n".join([header, rule, *rows])


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _prose(text: str) -> str:
    return "".join(f"`{part}`" if command else _escape(part) for part, command in spans(text))


def _escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no list, no cell border."""
    return _LIST.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", text))
