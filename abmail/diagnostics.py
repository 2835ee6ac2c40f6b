"""Findings with their place in a file, and their writers: text with an excerpt, and what other programs read.

A `Rule` names a kind of finding; ``rule.at(place, message)`` makes a `Diagnostic`; a `Source` turns character offsets
of a text into places. The writers are pure, findings in, one text out; each lies in a module of its own, which loads
when it is first used.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from os.path import normpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from abmail._findings_github import write_github, write_github_log, write_github_summary
    from abmail._findings_json import write_gitlab, write_json
    from abmail._findings_junit import write_junit
    from abmail._findings_sarif import RuleHelp, write_sarif
    from abmail._findings_text import write_text

__all__ = [
    "FORMAT_VERSION",
    "Diagnostic",
    "Place",
    "Rule",
    "RuleHelp",
    "Severity",
    "Source",
    "advised",
    "display_width",
    "fingerprints",
    "from_root",
    "path_from_root",
    "sort_key",
    "summary",
    "visible",
    "write_github",
    "write_github_log",
    "write_github_summary",
    "write_gitlab",
    "write_json",
    "write_junit",
    "write_sarif",
    "write_text",
]

Severity = Literal["error", "warning"]

FORMAT_VERSION: Final = 1
_LATER: Final[Mapping[str, str]] = {
    "RuleHelp": "_findings_sarif",
    "write_github": "_findings_github",
    "write_github_log": "_findings_github",
    "write_github_summary": "_findings_github",
    "write_gitlab": "_findings_json",
    "write_json": "_findings_json",
    "write_junit": "_findings_junit",
    "write_sarif": "_findings_sarif",
    "write_text": "_findings_text",
}
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


def advised(diagnostic: Diagnostic, gap: str) -> str:
    """The message, and behind a gap what to do."""
    return f"{diagnostic.message}{gap}hint: {diagnostic.hint}" if diagnostic.hint else diagnostic.message


def from_root(diagnostics: Iterable[Diagnostic], *, here: Path, root: Path) -> tuple[Diagnostic, ...]:
    """The same findings with paths from the root of a repository; files outside of it by their whole path.

    Args:
        diagnostics: With paths as the user named them.
        here: The folder from which they were named.
        root: The folder that holds the repository.
    """
    return tuple(replace(each, path=path_from_root(each.path, here=here, root=root)) for each in diagnostics)


def path_from_root(path: str, *, here: Path, root: Path) -> str:
    """A path that was named in ``here``, from the root of a repository where it lies in there; else the whole path."""
    whole = Path(normpath(here / path))
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()


def fingerprints(diagnostics: Sequence[Diagnostic]) -> list[str]:
    """A mark for each finding by which it is known again when lines above it come or go: 32 hex digits, all different.

    What is made of it: rule, file, the words and the line of the text; and where all of these agree, their order.
    """
    from hashlib import sha256

    seen: Counter[tuple[str, ...]] = Counter()
    marks = []
    for each in diagnostics:
        key = (each.code, each.path, each.message, each.source_line.strip())
        seen[key] += 1
        whole = "\0".join([*key, str(seen[key])])
        marks.append(sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:32])
    return marks


def visible(text: str) -> str:
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


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'abmail.diagnostics' has no attribute '{name}'")
    return getattr(import_module(f"abmail.{_LATER[name]}"), name)
