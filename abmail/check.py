"""Rules over definitions, and the walk over the files that hold them: the command that continuous integration runs.

What a definition's text alone decides (syntax, keys, values: AB100 to AB108) is found while it is read. The rules
here look at a definition that could be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from abmail._fields import Location
from abmail._spec_allocation import LEARNING
from abmail._spec_problems import UNREADABLE_FILE
from abmail._values import format_duration
from abmail.diagnostics import Diagnostic, Place, Rule, sort_key
from abmail.spec import Experiment, decode, decode_file

__all__ = ["RULES", "Case", "Check", "Finding", "check", "check_paths", "check_text", "exit_code", "project_root"]

_SETTINGS: Final = "abmail.toml"
_SUFFIXES: Final = (".yaml", ".yml")
_LOADS: Final = re.compile(r"\{%[-+]?\s*(?:include|extends|import|from)\b")
_EARNING: Final = 0.4
_SHORT_WAIT: Final = timedelta(hours=6)
_SLACK: Final = 1e-9


class Finding(NamedTuple):
    """What a rule found, at a key or value of the definition."""

    location: Location
    message: str
    hint: str = ""
    at_key: bool = False
    place: Place | None = None  # in another file than the definition's


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule looks at.

    Attributes:
        experiment: The definition.
        folders: Where its templates may lie; none where that is not to be told.
    """

    experiment: Experiment
    folders: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule and how it looks."""

    rule: Rule
    find: Callable[[Case], Iterator[Finding]]


# --- rules ------------------------------------------------------------------------------------------------------------


def _missing_template(case: Case) -> Iterator[Finding]:
    """A mail without its template, or without what that includes, cannot be made: every message would fail."""
    message = case.experiment.message
    for key, name in (("template", message.template), ("text_template", message.text_template)):
        if name is None or not case.folders:
            continue
        root = next((folder for folder in case.folders if _is_file(folder / name)), None)
        if root is None:
            hint = f"looked in {' and in '.join(str(folder) for folder in case.folders)}"
            yield Finding(("message", key), f"there is no template {name}", hint)
        else:
            folder = (root / message.template).parent.resolve()
            for place, told in _missing_from(folder, root / name):
                yield Finding(("message", key), told, f"it is looked for in {folder}", place=place)
    for key, names in (("attachments", message.attachments), ("images", message.images)):
        for index, name in enumerate(names or ()):
            if case.folders and not any(_is_file(folder / name) for folder in case.folders):
                yield Finding(("message", key, index), f"there is no file {name}")


def _missing_from(folder: Path, template: Path) -> Iterator[tuple[Place, str]]:
    """Where a template, or one that it includes, names one that is not in the folder."""
    waiting = [template]
    seen = {template.resolve()}
    while waiting:
        path = waiting.pop()
        for loaded, line in _loaded(path).items():
            wanted = (folder / loaded).resolve()
            if not (wanted.is_relative_to(folder) and _is_file(wanted)):
                yield Place(path=_as_named(path), line=line), f"there is no template {loaded}"
            elif wanted not in seen:
                seen.add(wanted)
                waiting.append(wanted)


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


def _as_named(path: Path) -> str:
    """A path as people name it: from where they are, if it lies below."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _opens_decide(case: Case) -> Iterator[Finding]:
    """Mail programs and scanners open mail by themselves; up to half of all opens say nothing about people."""
    if case.experiment.metrics.primary == "opened":
        message = "opens decide this test, and machines open mail, too"
        yield Finding(("metrics", "primary"), message, "prefer primary: clicked; opens are reported beside it")


def _high_floor(case: Case) -> Iterator[Finding]:
    """Mail that is bound to floors cannot be shifted to what works."""
    allocation, floor = case.experiment.allocation, case.experiment.min_weight
    cells = len(case.experiment.cells)
    bound = floor * cells
    if allocation.policy in LEARNING and bound > _EARNING + _SLACK:
        message = f"{cells} cells with at least {floor:g} each bind {bound:.0%} of the mail"
        hint = f"at most {_EARNING / cells:.2g} leaves room to learn; policy: uniform splits evenly"
        yield Finding(("allocation", "min_weight"), message, hint)


def _companies_singly(case: Case) -> Iterator[Finding]:
    """Colleagues who get one variant answer alike, and the comparison counts them as if they did not."""
    if case.experiment.audience.unit == "company":
        message = "the report counts people, not companies: its intervals are too narrow where colleagues answer alike"
        yield Finding(("audience", "unit"), message, "plan with `abmail power --icc`, and read a close win with care")


def _no_subject(case: Case) -> Iterator[Finding]:
    """A mail needs a subject line: as a factor, or the same for all."""
    if "subject" not in case.experiment.factors and case.experiment.message.subject is None:
        message = "the mail has no subject line"
        yield Finding(("message",), message, "write message.subject, or make subject a factor", at_key=True)


def _said_twice(case: Case) -> Iterator[Finding]:
    """The text of a factor replaces that of the message, which then nobody sees."""
    message = case.experiment.message
    for key, text in (("subject", message.subject), ("preheader", message.preheader)):
        if text is not None and key in case.experiment.factors:
            yield Finding(("message", key), f"{key} is a factor: this text is never sent", "remove it", at_key=True)


def _short_wait(case: Case) -> Iterator[Finding]:
    """A mail that may wait for a few hours only seldom reaches a better one."""
    times = case.experiment.send_time
    if times.mode == "learn" and times.within < _SHORT_WAIT:
        message = f"mails may wait {format_duration(times.within)} for a better hour: little is gained under 6 hours"
        yield Finding(("send_time", "within"), message, "write within: 1d")


def _no_control(case: Case) -> Iterator[Finding]:
    """Without people at a fixed hour nobody can tell what choosing the hour brings."""
    times = case.experiment.send_time
    if times.mode == "learn" and not times.control:
        yield Finding(
            ("send_time", "control"), "nobody keeps the fixed hour: the gain cannot be proved", "write control: 0.1"
        )


RULES: Final[tuple[Check, ...]] = (
    Check(Rule("AB104", "missing-template"), _missing_template),
    Check(Rule("AB202", "opens-decide", "warning"), _opens_decide),
    Check(Rule("AB204", "high-floor", "warning"), _high_floor),
    Check(Rule("AB205", "companies-singly", "warning"), _companies_singly),
    Check(Rule("AB401", "no-subject"), _no_subject),
    Check(Rule("AB402", "said-twice", "warning"), _said_twice),
    Check(Rule("AB502", "short-wait", "warning"), _short_wait),
    Check(Rule("AB503", "no-control", "warning"), _no_control),
)
"""Every rule over a definition that could be read."""


# --- checking ---------------------------------------------------------------------------------------------------------


def check(experiment: Experiment, *, root: Path | None = None) -> tuple[Diagnostic, ...]:
    """Apply every rule to a definition.

    Args:
        experiment: As loaded; findings point into its file where it has one.
        root: Project folder that holds its templates. Without it, that of the definition's file; a definition from
            plain data or text is then not searched for missing templates.

    Returns:
        What was found, by line and column.
    """
    case = Case(experiment, _template_folders(experiment, root))
    found = (
        each.rule.at(
            finding.place or experiment.place(*finding.location, key=finding.at_key), finding.message, hint=finding.hint
        )
        for each in RULES
        for finding in each.find(case)
    )
    return tuple(sorted(found, key=sort_key))


def check_text(text: str | bytes, path: str, *, root: Path | None = None) -> tuple[Diagnostic, ...]:
    """Read and check the text of a definition; ``path`` names it in the findings."""
    return _checked(decode(text, path), root)


def check_paths(paths: Iterable[str | os.PathLike[str]]) -> tuple[Diagnostic, ...]:
    """Read and check definition files; folders are searched for ``*.yaml`` and ``*.yml``, hidden ones left out.

    What cannot be judged (no such file, not readable, a folder without definitions) is a finding with the code AB100.

    Returns:
        What was found, by file, line and column; each file is read once.
    """
    found: list[Diagnostic] = []
    for path in dict.fromkeys(os.fspath(path) for path in paths):
        refused: list[OSError] = []
        files = list(_definitions(path, refused)) if Path(path).is_dir() else [path]
        found.extend(_unreadable(str(error.filename), error.strerror or "") for error in refused)
        if not files and not refused:
            found.append(_unreadable(path, "the folder holds no *.yaml file", "`abmail new NAME` writes one"))
        for file in files:
            found.extend(_checked(decode_file(file), None))
    return tuple(sorted(set(found), key=sort_key))


def exit_code(diagnostics: Iterable[Diagnostic], *, fail_on: str = "error") -> int:
    """Judge findings as a command does: 0 clean, 1 findings, 2 something could not be judged.

    Args:
        diagnostics: All findings of a run.
        fail_on: ``error``, or ``warning`` to let warnings fail, too.
    """
    found = list(diagnostics)
    if any(diagnostic.code == UNREADABLE_FILE.code for diagnostic in found):
        return 2
    return int(any(diagnostic.severity == "error" or fail_on == "warning" for diagnostic in found))


def project_root(start: Path) -> Path:
    """The nearest folder at or above ``start`` that holds ``abmail.toml``; without one, the working directory."""
    return _marked_root(start) or Path.cwd()


def _checked(decoded: tuple[Experiment | None, tuple[Diagnostic, ...]], root: Path | None) -> tuple[Diagnostic, ...]:
    experiment, problems = decoded
    return problems if experiment is None else check(experiment, root=root)


def _unreadable(path: str, message: str, hint: str = "") -> Diagnostic:
    return UNREADABLE_FILE.at(Place(path=path), message, hint=hint)


def _definitions(folder: str, refused: list[OSError]) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)  # noqa: PTH118 - keeps the folder as the user wrote it


def _template_folders(experiment: Experiment, root: Path | None) -> tuple[Path, ...]:
    if root is not None:
        return (root,)
    if experiment.path is None:
        return ()
    file = Path(experiment.path)
    marked = _marked_root(file)
    return (marked,) if marked is not None else tuple(dict.fromkeys((Path.cwd(), file.absolute().parent)))


def _marked_root(start: Path) -> Path | None:
    absolute = start.absolute()
    return next((folder for folder in (absolute, *absolute.parents) if _is_file(folder / _SETTINGS)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a loop of links
        return False
