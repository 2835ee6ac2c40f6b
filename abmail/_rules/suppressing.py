"""Comments that silence a finding: ``# abmail: ignore[AB203] reason``, and the rules that such comments obey.

At the end of a line a comment silences findings of that line; on a line of its own those of the next line that says
something; as ``ignore-file`` those of the whole file. Several codes, or beginnings of codes, are separated by commas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from abmail._rules.base import Check
from abmail._values import shown
from abmail.diagnostics import Diagnostic, Place, Rule
from abmail.spec import Experiment

__all__ = ["MARK", "RULES", "Ignore", "ignores", "silencing", "unused"]

MARK: Final = "abmail:"
_COMMENT: Final = re.compile(r"#+\s*abmail:\s*(?P<word>[\w-]*)(?P<codes>\[[^\]]*\])?(?P<reason>.*)", re.DOTALL)
_WORDS: Final = ("ignore", "ignore-file")
_FORM: Final = "write # abmail: ignore[AB203] and the reason"


class BadIgnore(Check):
    """A comment that is to silence a finding names no known rule, or gives no reason.

    **Why.** Who reads the file in half a year has to know why a warning was set aside, and a code that is misspelt
    silences nothing.

    **Bad.**

    ```yaml
    metrics: {primary: opened}  # abmail: ignore[AB202]
    ```

    **Good.**

    ```yaml
    metrics: {primary: opened}  # abmail: ignore[AB202] the mail has no link, there is nothing to click
    ```

    **Fix.** Write the code in brackets and the reason behind them. At the end of a line the comment is for that line,
    on a line of its own for the next, and `ignore-file[AB202]` anywhere is for the whole file.
    """

    rule = Rule("AB109", "bad-ignore")


class UnusedIgnore(Check):
    """A comment silences a finding that is not there.

    **Why.** What it was written for has been mended, or stands on another line; left there, it would hide the next
    mistake.

    **Bad.**

    ```yaml
    metrics: {primary: clicked}  # abmail: ignore[AB202] the mail has no link
    ```

    **Good.**

    ```yaml
    metrics: {primary: clicked}
    ```

    **Fix.** Remove the comment, or move it to the line of the finding.
    """

    rule = Rule("AB110", "unused-ignore", "warning")


RULES: Final[tuple[Check, ...]] = (BadIgnore(), UnusedIgnore())


@dataclass(frozen=True, slots=True)
class Ignore:
    """A code, or the beginning of several, that a comment silences.

    Attributes:
        code: As `require` made it of what is written.
        line: Of the definition; None for the whole file.
        place: Of the comment.
    """

    code: str
    line: int | None
    place: Place


def ignores(experiment: Experiment, require: Callable[[str], str]) -> tuple[list[Ignore], list[Diagnostic]]:
    """Read the comments of a definition.

    Args:
        experiment: The definition with its text.
        require: Code or name as written -> code or its beginning; ValueError where there is none.

    Returns:
        What is silenced, and what is wrong with the comments.
    """
    found: list[Ignore] = []
    problems: list[Diagnostic] = []
    for place, text, covered in experiment.comments(MARK):
        match = _COMMENT.match(text)
        if match is None:
            continue
        if problem := _problem(match):
            problems.append(BadIgnore.rule.at(place, problem, hint=_FORM))
            continue
        line = None if match["word"] == "ignore-file" else covered
        for written in match["codes"][1:-1].split(","):
            try:
                found.append(Ignore(require(written), line, place))
            except ValueError as error:
                problems.append(BadIgnore.rule.at(place, str(error)))
    return found, problems


def _problem(comment: re.Match[str]) -> str:
    if comment["word"] not in _WORDS:
        return f"{shown(comment['word'])} is nothing that a comment can ask for"
    if not comment["codes"] or not comment["codes"][1:-1].strip():
        return "the comment names no rule"
    return "" if comment["reason"].strip(" \t-:—–") else "the comment gives no reason"


def silencing(code: str, lines: Collection[int], silencers: Sequence[Ignore]) -> list[Ignore]:
    """The comments that silence a finding of that code, which concerns those lines of the definition."""
    return [each for each in silencers if code.startswith(each.code) and (each.line is None or each.line in lines)]


def unused(silencers: Iterable[Ignore], used: Iterable[Ignore]) -> Iterator[Diagnostic]:
    """Findings for comments that silenced nothing."""
    spent = set(used)
    for each in silencers:
        if each not in spent:
            yield UnusedIgnore.rule.at(each.place, f"there is no finding {each.code} to ignore", hint="remove it")
