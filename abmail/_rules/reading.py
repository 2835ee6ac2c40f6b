"""AB1, syntax and schema: what is found while a definition is read, and the files that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from abmail import _spec_problems as reading
from abmail._files import as_named, is_file
from abmail._rules.base import Case, Check, Finding
from abmail.diagnostics import Place, Rule

__all__ = ["RULES"]

_LOADS: Final = re.compile(r"\{%[-+]?\s*(?:include|extends|import|from)\b")


class UnreadableFile(Check):
    """A file cannot be read, or a folder holds no definition.

    **Why.** What was not looked at may hold anything; the run ends with exit status 2, which no build should take for
    clean.

    **Bad.**

    A name that is not there, a folder without a `*.yaml` file, a file without the right to read it, a loop of links:

    ```sh
    abmail check experiment/
    ```

    **Good.**

    ```sh
    abmail check experiments/
    ```

    **Fix.** Correct the path; `abmail new NAME` writes a first definition. This finding cannot be ignored.
    """

    rule = reading.UNREADABLE_FILE


class YamlSyntax(Check):
    """The file is not YAML 1.2, or not text at all.

    **Why.** Nothing of it can be read: a colon in a bare text, a tab for indentation, a bracket or quote that is never
    closed, a second document, a tag, bytes that are not UTF-8, or aliases that expand to more than a definition holds.

    **Bad.**

    ```yaml
    hypothesis: In short: a number raises clicks.
    ```

    **Good.**

    ```yaml
    hypothesis: "In short: a number raises clicks."
    ```

    **Fix.** Put texts with a colon or a sign at their beginning between quotes, indent with spaces, and save the file
    as UTF-8.
    """

    rule = reading.YAML_SYNTAX


class DuplicateKey(Check):
    """A key stands twice in one mapping.

    **Why.** Most programs keep one of the two in silence; which one it is nobody can see in the file.

    **Bad.**

    ```yaml
    metrics: {primary: clicked, window: 1d, window: 3d}
    ```

    **Good.**

    ```yaml
    metrics: {primary: clicked, window: 3d}
    ```

    **Fix.** Remove one of the two.
    """

    rule = reading.DUPLICATE_KEY


class UnknownKey(Check):
    """A key, factor, level or cell is not known.

    **Why.** A misspelt key would leave its setting at the default, and the test would not be the one that was meant.

    **Bad.**

    ```yaml
    allocation: {polcy: uniform}
    ```

    **Good.**

    ```yaml
    allocation: {policy: uniform}
    ```

    **Fix.** Take the name that the message proposes; `abmail schema` describes every key to editors.
    """

    rule = reading.UNKNOWN_KEY


class MissingTemplate(Check):
    """A template, or a file that the mail needs, is not there.

    **Why.** A mail without its template, or without what that includes, cannot be made: every message would fail.

    **Bad.**

    ```yaml
    message: {template: mails/exampel.html.j2, from: "Sales <news@example.com>", preheader: "30 minutes, live"}
    ```

    **Good.**

    ```yaml
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "30 minutes, live"}
    ```

    **Fix.** Correct the path: templates are named from the project folder, the one that holds `abmail.toml`; what a
    template includes is looked for in the folder of `message.template`.
    """

    rule = Rule("AB104", "missing-template")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for the templates, what they include, and the files that go along."""
        message = case.experiment.message
        for key, name in (("template", message.template), ("text_template", message.text_template)):
            if name is None or not case.folders:
                continue
            root = next((folder for folder in case.folders if is_file(folder / name)), None)
            if root is None:
                hint = f"looked in {' and in '.join(str(folder) for folder in case.folders)}"
                yield Finding(("message", key), f"there is no template {name}", hint)
            else:
                for place, told, folder in _missing_from((root / message.template).parent, root / name):
                    yield Finding(("message", key), told, f"it is looked for in {folder}", place=place)
        for key, names in (("attachments", message.attachments), ("images", message.images)):
            for index, name in enumerate(names or ()):
                if case.folders and not any(is_file(folder / name) for folder in case.folders):
                    yield Finding(("message", key, index), f"there is no file {name}")


class MissingKey(Check):
    """A key that has to be there is not.

    **Why.** Without it the definition says too little to be sent: who the mail is from, what the variants are compared
    with, the weight of each cell where weights are given by hand.

    **Bad.**

    ```yaml
    message: {template: mails/example.html.j2}
    ```

    **Good.**

    ```yaml
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "30 minutes, live"}
    ```

    **Fix.** Add the key that the message names. The place is that of the nearest key around it.
    """

    rule = reading.MISSING_KEY


class WrongType(Check):
    """A value is of another kind than the key wants: a number for a text, a text for a list.

    **Why.** Guessing what was meant is how `12:30` became 750 and `NO` became false elsewhere. Here both stay texts,
    and what is no text has to be written as one.

    **Bad.**

    ```yaml
    factors: {subject: {plain: 2027, number: "3 ways to cut reporting time"}}
    ```

    **Good.**

    ```yaml
    factors: {subject: {plain: "2027", number: "3 ways to cut reporting time"}}
    ```

    **Fix.** Put texts between quotes, lists into `[ ]`, keys with values into `{ }`.
    """

    rule = reading.WRONG_TYPE


class WrongValue(Check):
    """A value is of the right kind and cannot be used: a duration, zone, share, path, address, or two that conflict.

    **Why.** `every: 60` could be seconds or minutes, shares that sum to 1.1 belong to nobody, and a zone that does not
    exist has no clock.

    **Bad.**

    ```yaml
    allocation: {policy: fixed, weights: {plain: 0.6, number: 0.6}}
    ```

    **Good.**

    ```yaml
    allocation: {policy: fixed, weights: {plain: 0.4, number: 0.6}}
    ```

    **Fix.** Write durations with their unit (`90s`, `15m`, `1h`, `3d`, `2w`), times as `09:30`, shares as `0.05` or
    `5 %`, zones as `Asia/Tokyo`; the message says what is wanted.
    """

    rule = reading.WRONG_VALUE


class SegmentSyntax(Check):
    """The expression of a segment cannot be read.

    **Why.** Who would get the mail is not to be told. The place is the character at which reading stopped.

    **Bad.**

    ```yaml
    audience: {segment: "stage = 'warm'"}
    ```

    **Good.**

    ```yaml
    audience: {segment: "stage == 'warm'"}
    ```

    **Fix.** Compare with `==`, `!=`, `<`, `in [...]`; join with `and`, `or`, `not`; put texts between single quotes.
    """

    rule = reading.SEGMENT_SYNTAX


RULES: Final[tuple[Check, ...]] = (
    UnreadableFile(),
    YamlSyntax(),
    DuplicateKey(),
    UnknownKey(),
    MissingTemplate(),
    MissingKey(),
    WrongType(),
    WrongValue(),
    SegmentSyntax(),
)


def _missing_from(parent: Path, template: Path) -> Iterator[tuple[Place, str, Path]]:
    """Where a template, or one that it includes, names one that is not in the folder; and that folder."""
    loads = _loaded(template)
    if not loads:
        return
    folder, seen, waiting = parent.resolve(), {template.resolve()}, [(template, loads)]
    while waiting:
        path, loads = waiting.pop()
        for loaded, line in loads.items():
            wanted = (folder / loaded).resolve()
            if not (wanted.is_relative_to(folder) and is_file(wanted)):
                yield Place(path=as_named(path), line=line), f"there is no template {loaded}", folder
            elif wanted not in seen:
                seen.add(wanted)
                waiting.append((wanted, _loaded(wanted)))


def _loaded(path: Path) -> dict[str, int]:
    """Names of the templates that a file loads, with their lines; none where it cannot be read, which others report."""
    try:
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    if not _LOADS.search(source):
        return {}
    from abmail._templates import loaded_names  # Jinja is slow to load, and most templates stand alone
    from abmail.errors import RenderError

    try:
        return loaded_names(source, path.name)
    except RenderError:
        return {}
