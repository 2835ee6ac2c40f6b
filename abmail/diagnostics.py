"""Findings with their place in a file, and their writers: text with an excerpt, JSON, GitHub annotations.

A `Rule` names a kind of finding; ``rule.at(place, message)`` makes a `Diagnostic`; a `Source` turns character offsets
of a text into places. The writers are pure: findings in, one text out.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = [
    "FORMAT_VERSION",
    "Diagnostic",
    "Place",
    "Rule",
    "Severity",
    "Source",
    "display_width",
    "sort_key",
    "summary",
    "write_github",
    "write_json",
    "write_text",
]

Severity = Literal["error", "warning"]

FORMAT_VERSION: Final = 1
_EXCERPT_WIDTH: Final = 100
_EXCERPT_BEFORE: Final = 40
_ANSI: Final[Mapping[str, str]] = {"bold": "1", "red": "1;31", "yellow": "1;33", "blue": "34", "cyan": "36"}
_JSON_FIELDS: Final = ("code", "name", "severity", "message", "hint", "path", "line", "column", "end_column")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")  # of str.splitlines' line ends, YAML 1.2 knows these alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stretch of one line in a file.

    Attributes:
        path: The file as the user named it.
        line: 1-based.
        column: 1-based, in characters.
        end_column: First column behind the stretch; None where only its start is known.
        source_line: The whole line without its end; empty where the text is not at hand.
    """

    path: str
    line: int = 1
    column: int = 1
    end_column: int | None = None
    source_line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding.

    Attributes:
        code: Stable code of the rule, such as ``AB103``.
        name: Stable kebab name of the rule, such as ``unknown-key``.
        severity: ``error`` or ``warning``.
        message: What is wrong, with the value.
        hint: What to do; empty where nothing can be advised.
        path: The file as the user named it.
        line: 1-based.
        column: 1-based, in characters.
        end_column: First column behind the place; None where only its start is known.
        source_line: The whole line without its end; empty where the text is not at hand.
    """

    code: str
    name: str
    severity: Severity
    message: str
    hint: str = ""
    path: str
    line: int = 1
    column: int = 1
    end_column: int | None = None
    source_line: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.message}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of finding: its stable code and name, and how bad it is."""

    code: str
    name: str
    severity: Severity = "error"

    def at(self, place: Place, message: str, *, hint: str = "") -> Diagnostic:
        """Make a finding of this kind."""
        return Diagnostic(
            code=self.code,
            name=self.name,
            severity=self.severity,
            message=message,
            hint=hint,
            path=place.path,
            line=place.line,
            column=place.column,
            end_column=place.end_column,
            source_line=place.source_line,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A text with its name, whose lines end in LF, CR LF or CR.

    Attributes:
        path: The file as the user named it.
        text: The whole text, without a byte order mark.
    """

    path: str
    text: str = field(repr=False)
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = (0, *(end.end() for end in _LINE_END.finditer(self.text)))
        object.__setattr__(self, "_starts", starts)

    def place(self, start: int, end: int | None = None) -> Place:
        """Locate the characters from ``start`` to ``end`` (0-based, excluded; cut at the end of the first line)."""
        index = bisect_right(self._starts, start) - 1
        begin = self._starts[index]
        following = self._starts[index + 1] if index + 1 < len(self._starts) else len(self.text)
        line = self.text[begin:following].rstrip("\r\n")
        column = min(start - begin, len(line))
        end_column = None if end is None or end <= start else max(column + 1, min(end - begin, len(line))) + 1
        return Place(path=self.path, line=index + 1, column=column + 1, end_column=end_column, source_line=line)


def sort_key(diagnostic: Diagnostic) -> tuple[str, int, int, str, str]:
    """Order by file, line, column, then code: the order in which people read."""
    return (diagnostic.path, diagnostic.line, diagnostic.column, diagnostic.code, diagnostic.message)


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """Count the findings in one phrase: ``2 errors and 1 warning in 1 file``."""
    found = list(diagnostics)
    if not found:
        return "no findings"
    kinds = Counter(diagnostic.severity for diagnostic in found)
    counts = [_counted(kinds[severity], severity) for severity in ("error", "warning") if kinds[severity]]
    return f"{' and '.join(counts)} in {_counted(len({diagnostic.path for diagnostic in found}), 'file')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- text -------------------------------------------------------------------------------------------------------------


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
    where = paint(_visible(f"{diagnostic.path}:{diagnostic.line}:{diagnostic.column}:"), "bold")
    kind = paint(f"{diagnostic.code} {diagnostic.severity}:", hue)
    yield f"{where} {kind} {_visible(diagnostic.message)}"
    gutter = " " * len(str(diagnostic.line))
    if diagnostic.source_line.strip():
        excerpt, before, width = _excerpt(diagnostic)
        yield f" {paint(f'{diagnostic.line} |', 'blue')} {excerpt}"
        yield f" {paint(f'{gutter} |', 'blue')} {' ' * before}{paint('^' * width, hue)}"
    if diagnostic.hint:
        yield f" {gutter} {paint('= hint:', 'cyan')} {_visible(diagnostic.hint)}"


def _excerpt(diagnostic: Diagnostic) -> tuple[str, int, int]:
    """Cut a window out of a long line; return it with the caret's offset and width in terminal columns."""
    line = _visible(diagnostic.source_line)
    start = diagnostic.column - 1
    first = max(0, start - _EXCERPT_BEFORE) if len(line) > _EXCERPT_WIDTH else 0
    last = min(len(line), first + _EXCERPT_WIDTH)
    end = min(diagnostic.end_column - 1 if diagnostic.end_column else start + 1, last)
    lead = "…" if first else ""
    trail = "…" if last < len(line) else ""
    before = len(lead) + display_width(line[first:start])
    return f"{lead}{line[first:last]}{trail}", before, max(1, display_width(line[start:end]))


def _visible(text: str) -> str:
    """Replace what a terminal would obey or hide; a tab becomes one space, so that columns stay countable."""
    if text.isprintable():
        return text
    return "".join(" " if char == "\t" else char if char.isprintable() or char == " " else "\ufffd" for char in text)


def display_width(text: str) -> int:
    """Terminal columns that ``text`` takes: two for wide East Asian characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _plain(text: str, hue: str) -> str:
    del hue
    return text


def _ansi(text: str, hue: str) -> str:
    return f"\x1b[{_ANSI[hue]}m{text}\x1b[0m"


# --- for programs -----------------------------------------------------------------------------------------------------


def write_json(diagnostics: Iterable[Diagnostic]) -> str:
    """Write findings as one JSON object: ``format_version``, ``errors``, ``warnings`` (counts) and ``findings``."""
    import json  # 3 ms that other formats do not need

    found = list(diagnostics)
    kinds = Counter(diagnostic.severity for diagnostic in found)
    body = {
        "format_version": FORMAT_VERSION,
        "errors": kinds["error"],
        "warnings": kinds["warning"],
        "findings": [{name: getattr(diagnostic, name) for name in _JSON_FIELDS} for diagnostic in found],
    }
    return json.dumps(body, ensure_ascii=False, indent=2) + "\n"


def write_github(diagnostics: Iterable[Diagnostic]) -> str:
    """Write findings as workflow commands, which GitHub shows beside the changed lines."""
    return "".join(_github_line(diagnostic) for diagnostic in diagnostics)


def _github_line(diagnostic: Diagnostic) -> str:
    properties = {
        "file": diagnostic.path,
        "line": str(diagnostic.line),
        "col": str(diagnostic.column),
        "endColumn": str(diagnostic.end_column - 1) if diagnostic.end_column else "",
        "title": f"{diagnostic.code} {diagnostic.name}",
    }
    listed = ",".join(f"{name}={_github_property(value)}" for name, value in properties.items() if value)
    text = f"{diagnostic.message}\nhint: {diagnostic.hint}" if diagnostic.hint else diagnostic.message
    return f"::{diagnostic.severity} {listed}::{_github_data(text)}\n"


def _github_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_data(text).replace(":", "%3A").replace(",", "%2C")
