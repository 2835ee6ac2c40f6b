"""Rules over definitions, and the walk over the files that hold them: the command that continuous integration runs.

What a definition's text alone decides (syntax, keys, values) is found while it is read. The rules in `abmail._rules`
look at a definition that could be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from abmail._files import marked_root, template_folders
from abmail._rules.base import ALONE, Around, Case, Check, Finding, Moves, Page
from abmail._rules.catalogue import RULES, find_rule, require_prefix
from abmail._rules.drift import RemovedFile
from abmail._rules.suppressing import Ignore, ignores, silencing, unused
from abmail._spec_problems import UNREADABLE_FILE
from abmail.diagnostics import Diagnostic, Place, sort_key
from abmail.spec import Experiment, decode, decode_file

if TYPE_CHECKING:
    from abmail._wording import Language
    from abmail.diagnostics import RuleHelp

__all__ = [
    "RULES",
    "Around",
    "Case",
    "Check",
    "Chosen",
    "Finding",
    "Moves",
    "Page",
    "check",
    "check_paths",
    "check_text",
    "definition_files",
    "drift",
    "exit_code",
    "explain",
    "explain_all",
    "project_root",
    "rule_helps",
]

_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rules are asked. What keeps a file from being read is always told.

    Attributes:
        select: Beginnings of codes; every rule where there is none.
        ignore: Beginnings of codes that are left out all the same.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(cls, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> Self:
        """Choose rules by codes, beginnings of codes (``AB2``) or names.

        Raises:
            ValueError: There is no such rule; the message names the nearest.
        """
        return cls(tuple(map(require_prefix, select)), tuple(map(require_prefix, ignore)))

    def takes(self, code: str) -> bool:
        """Whether the rule of that code is asked."""
        return code.startswith(self.select or "AB") and not (self.ignore and code.startswith(self.ignore))

    def needs_more(self, than: Collection[str]) -> bool:
        """Whether a rule that is asked needs to know more than these parts of `Around`."""
        return any(set(each.needs) - set(than) for each in RULES if self.takes(each.rule.code))

    def rules(self, around: Around) -> tuple[Check, ...]:
        """The rules that are asked and can judge."""
        return tuple(each for each in _taken(self) if each.can_judge(around))


@lru_cache(maxsize=16)
def _taken(chosen: Chosen) -> tuple[Check, ...]:
    return tuple(each for each in RULES if chosen.takes(each.rule.code))


# --- explaining -------------------------------------------------------------------------------------------------------


def explain(name: str) -> str:
    """The page of a rule as Markdown: what it says, why that is bad, an example of each kind, what to do.

    Args:
        name: Code or name, such as AB202 or opens-decide.

    Raises:
        ValueError: There is no such rule; the message names the nearest.
    """
    found = find_rule(name)
    return found.page.markdown(found.rule)


def explain_all() -> str:
    """The pages of all rules, by code."""
    return "\n".join(each.page.markdown(each.rule) for each in RULES)


def rule_helps(codes: Iterable[str]) -> dict[str, RuleHelp]:
    """What viewers of findings show about rules, by code; nothing for codes that are no rule's."""
    from abmail.diagnostics import RuleHelp

    wanted = set(codes)
    found = (each for each in RULES if each.rule.code in wanted)
    return {each.rule.code: RuleHelp(each.page.summary, each.page.markdown(each.rule)) for each in found}


# --- checking ---------------------------------------------------------------------------------------------------------


def check(
    experiment: Experiment, *, root: Path | None = None, chosen: Chosen = Chosen(), around: Around = ALONE
) -> tuple[Diagnostic, ...]:
    """Apply the rules to a definition; comments in its file silence findings, ``# abmail: ignore[AB203] reason``.

    Args:
        experiment: As loaded; findings point into its file where it has one.
        root: Project folder that holds its templates. Without it, that of the definition's file; a definition from
            plain data or text is then not searched for missing templates.
        chosen: Which rules are asked.
        around: What is known beside the definition; rules that need more keep still.

    Returns:
        What was found, by line and column.
    """
    case = Case(experiment, _template_folders(experiment, root), around)
    asked = chosen.rules(around)
    silencers, found = ignores(experiment, require_prefix)
    used: list[Ignore] = []
    for each in asked:
        for finding in each.find(case):
            place = experiment.place(*finding.location, key=finding.at_key)
            silenced_by = silencing(each.rule.code, {place.line}, silencers)
            used.extend(silenced_by)
            if not silenced_by:
                found.append(each.rule.at(finding.place or place, finding.message, hint=finding.hint))
    idle = (each for each in silencers if any(one.rule.code.startswith(each.code) for one in asked))
    found += unused(idle, used)
    return tuple(sorted((each for each in found if chosen.takes(each.code)), key=sort_key))


def drift(
    old: Experiment,
    new: Experiment,
    *,
    moves: Callable[[Experiment, Experiment], Moves | None] | None = None,
    language: Language = "en",
) -> tuple[Diagnostic, ...]:
    """Say what a changed definition breaks of the experiment that runs by the old one.

    Args:
        old: As it was applied.
        new: As it is now; findings point into its file where it has one, and its comments silence them.
        moves: How many people another definition would move, such as `abmail._moves.counted`; told in words without.
        language: Of messages and hints.

    Returns:
        Findings of the rules AB6, by line and column.
    """
    around = Around(earlier={old.name: old}.get, moves=moves, language=language)
    return check(new, chosen=Chosen(select=("AB6",)), around=around)


def check_text(
    text: str | bytes, path: str, *, root: Path | None = None, chosen: Chosen = Chosen(), around: Around = ALONE
) -> tuple[Diagnostic, ...]:
    """Read and check the text of a definition; ``path`` names it in the findings."""
    return _checked(decode(text, path), root, chosen, around)


def check_paths(
    paths: Iterable[str | os.PathLike[str]], *, chosen: Chosen = Chosen(), around: Around = ALONE
) -> tuple[Diagnostic, ...]:
    """Read and check definition files; folders are searched for ``*.yaml`` and ``*.yml``, hidden ones left out.

    What cannot be judged (no such file, not readable, a folder without definitions) is a finding with the code AB100.

    Returns:
        What was found, by file, line and column; each file is read once.
    """
    paths = tuple(paths)
    files, refused = definition_files(paths)
    roots = cache(marked_root)  # looked for once for each folder
    found = set(refused)
    decoded = [(file, roots(Path(file).parent), *decode_file(file)) for file in files]
    names: dict[Path | None, dict[str, str]] = {}  # by project: what runs in one is nothing to another
    for file, root, experiment, _ in decoded:
        if experiment:
            names.setdefault(root, {}).setdefault(experiment.name, file)
    known = {root: replace(around, names=files_of) for root, files_of in names.items()}
    for _, root, experiment, problems in decoded:
        found.update(_checked((experiment, problems), root, chosen, known.get(root, around)))
    if all(experiment for _, _, experiment, _ in decoded) and any(map(_holds_all, paths)):
        found.update(_removed({name for files_of in names.values() for name in files_of}, chosen, around))
    return tuple(sorted(found, key=sort_key))


def _holds_all(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a project's experiments, or holds it."""
    folder = Path(path).absolute()
    return folder.is_dir() and (project_root(folder) / "experiments").is_relative_to(folder)


def _removed(names: Collection[str], chosen: Chosen, around: Around) -> Iterator[Diagnostic]:
    """Findings for what runs and has no file."""
    rule = RemovedFile.rule
    if around.running is None or not chosen.takes(rule.code):
        return
    for experiment, told_by in around.running():
        if experiment.name not in names:
            message = f"{experiment.name} runs, and no file holds its definition"
            hint = f"bring it back, or end the test with `abmail stop {experiment.name}`"
            yield rule.at(Place(path=told_by), message, hint=hint)


def definition_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[tuple[str, ...], tuple[Diagnostic, ...]]:
    """List definition files, those in folders below too.

    Returns:
        The files, each once, named from where their folder was named; and the folders that cannot be judged.
    """
    files: dict[str, None] = {}
    found: list[Diagnostic] = []
    for path in dict.fromkeys(os.fspath(path) for path in paths):
        refused: list[OSError] = []
        inside = list(_definitions(path, refused)) if _is_folder(path) else [path]
        found.extend(_unreadable(str(error.filename), error.strerror or "") for error in refused)
        if not inside and not refused:
            found.append(_unreadable(path, "the folder holds no *.yaml file", "`abmail new NAME` writes one"))
        files.update(dict.fromkeys(inside))
    return tuple(files), tuple(found)


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
    return marked_root(start) or Path.cwd()


def _checked(
    decoded: tuple[Experiment | None, tuple[Diagnostic, ...]], root: Path | None, chosen: Chosen, around: Around
) -> tuple[Diagnostic, ...]:
    experiment, problems = decoded
    return problems if experiment is None else check(experiment, root=root, chosen=chosen, around=around)


def _unreadable(path: str, message: str, hint: str = "") -> Diagnostic:
    return UNREADABLE_FILE.at(Place(path=path), message, hint=hint)


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # a name too long: that it cannot be read is told by reading it
        return False


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
    return template_folders(Path(experiment.path))
