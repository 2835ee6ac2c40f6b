"""Findings as text for a terminal: each with its source line and a caret under the place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from abmail.diagnostics import Diagnostic, display_width, visible

__all__ = ["write_text"]

_EXCERPT_WIDTH: Final = 100
_EXCERPT_BEFORE: Final = 40
_ANSI: Final[Mapping[str, str]] = {"bold": "1", "red": "1;31", "yellow": "1;33", "blue": "34", "cyan": "36"}


def write_text(diagnostics: Iterable[Diagnostic], *, color: bool = False) -> str:
    """Write findings for a terminal, each with its source line and a caret under the place.

    Args:
        diagnostics: In the order in which they are to appear.
        color: Whether to use ANSI colours.

    Returns:
        The text, ended by a line end; empty without findings.
    """
    paint = _ansi if color else _plain
    return "".join(f"{chr(10).join(_text_lines(diagnostic, paint))}\n" for diagnostic in diagnostics)


def _text_lines(diagnostic: Diagnostic, paint: Callable[[str, str], str]) -> Iterator[str]:
    hue = "red" if diagnostic.severity == "error" else "yellow"
    where = paint(visible(f"{diagnostic.path}:{diagnostic.line}:{diagnostic.column}:"), "bold")
    kind = paint(f"{diagnostic.code} {diagnostic.severity}:", hue)
    yield f"{where} {kind} {visible(diagnostic.message)}"
    gutter = " " * len(str(diagnostic.line))
    if diagnostic.source_line.strip():
        excerpt, before, width = _excerpt(diagnostic)
        yield f" {paint(f'{diagnostic.line} |', 'blue')} {excerpt}"
        yield f" {paint(f'{gutter} |', 'blue')} {' ' * before}{paint('^' * width, hue)}"
    if diagnostic.hint:
        yield f" {gutter} {paint('= hint:', 'cyan')} {visible(diagnostic.hint)}"


def _excerpt(diagnostic: Diagnostic) -> tuple[str, int, int]:
    """Cut a window out of a long line; return it with the caret's offset and width in terminal columns."""
    line = visible(diagnostic.source_line)
    start = diagnostic.column - 1
    first = max(0, start - _EXCERPT_BEFORE) if len(line) > _EXCERPT_WIDTH else 0
    last = min(len(line), first + _EXCERPT_WIDTH)
    end = min(diagnostic.end_column - 1 if diagnostic.end_column else start + 1, last)
    lead = "…" if first else ""
    trail = "…" if last < len(line) else ""
    before = len(lead) + display_width(line[first:start])
    return f"{lead}{line[first:last]}{trail}", before, max(1, display_width(line[start:end]))


def _plain(text: str, hue: str) -> str:
    del hue
    return text


def _ansi(text: str, hue: str) -> str:
    return f"\x1b[{_ANSI[hue]}m{text}\x1b[0m"
