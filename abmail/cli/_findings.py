"""Where findings go: formats, the files they are written to, and what a server of continuous integration expects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.diagnostics import Diagnostic, Severity

__all__ = ["FORMAT", "Target", "show"]

_FORMATS: Final = ("text", "json", "github", "junit", "sarif", "gitlab")
_FROM_ROOT: Final = frozenset({"github", "sarif", "gitlab"})
_ROOTS: Final = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")  # set by GitHub Actions and GitLab CI


class Target(NamedTuple):
    """A format, and the file that it goes to; None where that is left to ``-o`` or stdout."""

    form: str
    file: str | None


class _TargetType(click.ParamType[Target]):
    name = "format[:file]"

    def convert(self, value: str | Target, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        if isinstance(value, Target):
            return value
        form, colon, file = value.partition(":")
        form = click.Choice(_FORMATS).convert(form, param, ctx)
        if colon and not file:
            self.fail(f"{value!r} names no file; write {form}:FILE", param, ctx)
        return Target(form, file or None)


FORMAT = click.option(
    "--format", "targets", type=_TargetType(), multiple=True,
    metavar=f"[{'|'.join(_FORMATS)}][:FILE]",
    help="How to write what is found, and to which file; can be given several times. Without a file, one of them goes"
    " to stdout (or to -o). text is the default; on GitHub Actions it is github.",
)  # fmt: skip


def show(
    found: Sequence[Diagnostic], targets: Sequence[Target], output: str | None, *, files: Sequence[str],
    fail_on: Severity = "error", environ: Mapping[str, str] = os.environ,
) -> None:  # fmt: skip
    """Write findings wherever they are wanted."""
    chosen = _chosen(targets, output, environ)
    for target in chosen:
        if text := _written(target, found, files, fail_on, environ):
            shared.write(text, target.file)
    if any(target.form == "github" for target in chosen):
        _summarize(found, len(files), environ)


def _chosen(targets: Sequence[Target], output: str | None, environ: Mapping[str, str]) -> list[Target]:
    """The formats with their files; what has none goes to ``output``."""
    open_ended = [target for target in targets if target.file is None]
    if len(open_ended) > 1:
        one, other = (target.form for target in open_ended[:2])
        raise click.UsageError(f"{one} and {other} would both go to {output or 'stdout'}; write --format {other}:FILE")
    if not open_ended and (output is not None or not any(target.file == "-" for target in targets)):
        open_ended = [Target("github" if environ.get("GITHUB_ACTIONS") == "true" else "text", None)]
    named = [target for target in targets if target.file is not None]
    return [*(Target(target.form, output) for target in open_ended), *named]


def _written(
    target: Target, found: Sequence[Diagnostic], files: Sequence[str], fail_on: Severity, environ: Mapping[str, str]
) -> str:
    from abmail import diagnostics
    from abmail.check import rule_helps

    if target.form in _FROM_ROOT:
        found = diagnostics.from_root(found, here=Path.cwd(), root=_root(environ))
    writers: dict[str, Callable[[], str]] = {
        "text": lambda: diagnostics.write_text(found, color=shared.colour(target.file)),
        "json": lambda: diagnostics.write_json(found),
        "github": lambda: diagnostics.write_github_log(found),
        "junit": lambda: diagnostics.write_junit(found, files=files, fail_on=fail_on),
        "sarif": lambda: diagnostics.write_sarif(found, helps=rule_helps(each.code for each in found)),
        "gitlab": lambda: diagnostics.write_gitlab(found),
    }
    return writers[target.form]()


def _root(environ: Mapping[str, str]) -> Path:
    """The root of the repository: as the server names it, else the nearest folder with ``.git``, else this one."""
    here = Path.cwd()
    named = (Path(environ[name]).resolve() for name in _ROOTS if environ.get(name))
    marked = (folder for folder in (here, *here.parents) if (folder / ".git").exists())
    return next((root for root in (*_around(here, named), *marked)), here)


def _around(here: Path, folders: Iterable[Path]) -> list[Path]:
    return [folder for folder in folders if here.is_relative_to(folder)]


def _summarize(found: Sequence[Diagnostic], files: int, environ: Mapping[str, str]) -> None:
    """Add to the summary of the workflow's step, where there is one; its failure is no failure of the check."""
    path = environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    from abmail.diagnostics import from_root, write_github_summary

    text = write_github_summary(from_root(found, here=Path.cwd(), root=_root(environ)), files=files)
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        click.echo(f"the summary {path} cannot be written: {error.strerror}", err=True)
