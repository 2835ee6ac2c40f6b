"""Findings for GitHub's workflow runs: annotations beside the changed lines, the log, and the summary of a step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from abmail._findings_text import write_text
from abmail.diagnostics import Diagnostic, Severity, advised, summary, visible

__all__ = ["write_github", "write_github_log", "write_github_summary"]

_MOST_SHOWN: Final = 10  # annotations of a kind that GitHub shows for one step
_MOST_BYTES: Final = 900_000  # of 1 MiB that all summaries of a step may take together
_ROOM_FOR_END: Final = 200
_MARKS: Final = str.maketrans({
    **{mark: f"\\{mark}" for mark in r"\`*_{}[]()#+-.!|~"},
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": " ", "\n": " ", "@": "&#64;",
})  # fmt: skip


def write_github(diagnostics: Iterable[Diagnostic]) -> str:
    """Write findings as workflow commands, which GitHub shows beside the changed lines.

    It shows ten of a kind; where there are more, a notice counts them instead of their being dropped in silence.
    """
    found = list(diagnostics)
    return "".join(line for severity in ("error", "warning") for line in _shown(severity, found))


def _shown(severity: Severity, found: Sequence[Diagnostic]) -> Iterator[str]:
    of_kind = [diagnostic for diagnostic in found if diagnostic.severity == severity]
    yield from (_command(diagnostic) for diagnostic in of_kind[:_MOST_SHOWN])
    more = len(of_kind) - _MOST_SHOWN
    if more > 0:
        told = f"{more} more {severity}{'s' if more > 1 else ''}: see the log and the summary of this step"
        yield f"::notice title=abmail check::{_data(told)}\n"


def _command(diagnostic: Diagnostic) -> str:
    properties = {
        "file": diagnostic.path,
        "line": str(diagnostic.line),
        "col": str(diagnostic.column),
        "endColumn": str(diagnostic.end_column - 1) if diagnostic.end_column else "",
        "title": f"{diagnostic.code} {diagnostic.name}",
    }
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    return f"::{diagnostic.severity} {listed}::{_data(advised(diagnostic, chr(10)))}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def write_github_log(diagnostics: Iterable[Diagnostic]) -> str:
    """Write findings for the log of a workflow run: all of them as text, behind them the annotations.

    What a definition holds must not be taken for a command to GitHub: in the text commands are switched off, by a
    word that the text cannot hold, as it is made of the text itself.
    """
    found = list(diagnostics)
    text = write_text(found)
    if not text:
        return ""
    word = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"::stop-commands::{word}\n{text}::{word}::\n{write_github(found)}"


def write_github_summary(diagnostics: Iterable[Diagnostic], *, files: int) -> str:
    """Write findings as Markdown for the summary of a workflow's step, cut where GitHub takes no more.

    Args:
        diagnostics: In the order in which they are to appear.
        files: How many files were looked at.
    """
    found = list(diagnostics)
    looked_at = f"{files} file{'' if files == 1 else 's'} checked"
    head = f"### abmail check: {summary(found)}\n\n{looked_at}\n"
    if not found:
        return head
    rows = ["", "| | place | what is wrong |", "|---|---|---|"]
    size = len(head.encode()) + sum(len(row) + 1 for row in rows) + _ROOM_FOR_END
    for count, diagnostic in enumerate(found):
        row = _row(diagnostic)
        size += len(row.encode("utf-8", "replace")) + 1
        if size > _MOST_BYTES:
            rows.append(f"| | | and {len(found) - count} more, in the log |")
            break
        rows.append(row)
    return "\n".join([head + rows[0], *rows[1:], ""])


def _row(diagnostic: Diagnostic) -> str:
    where = f"{_escaped(diagnostic.path)}:{diagnostic.line}:{diagnostic.column}"
    kind = f"{diagnostic.severity} {diagnostic.code}"
    return f"| {kind} | {where} | {_escaped(advised(diagnostic, '; '))} |"


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    return visible(text.replace("\n", " ").replace("\r", " ")).translate(_MARKS)
