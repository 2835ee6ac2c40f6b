"""What the commands share: finding the project, writing results, and saying errors of usage in words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abmail.errors import AbmailError

if TYPE_CHECKING:
    from abmail.engine import Engine
    from abmail.project import Project
    from abmail.spec import Experiment

__all__ = [
    "OUTPUT",
    "YES",
    "colour",
    "engine",
    "load",
    "name",
    "project",
    "require_writable",
    "width",
    "words",
    "write",
    "write_file",
]

OUTPUT = click.option(
    "-o", "--output", type=click.Path(dir_okay=False, allow_dash=True), help="Write to a file; - is stdout."
)
YES = click.option("--yes", is_flag=True, help="Don't ask; needed where there is no terminal.")


def project() -> Project:
    from abmail.project import Project

    return Project.find()


def engine() -> Engine:
    return project().engine()


def load(project: Project, experiment: str) -> Experiment:
    from abmail.spec import load

    return load(project.definition(experiment))


def name(project: Project, experiment: str) -> str:
    """An applied experiment's name, given as such or as its file."""
    if Path(experiment).suffix in {".yaml", ".yml"}:
        return load(project, experiment).name
    return experiment


@contextmanager
def words() -> Iterator[None]:
    """Turn a ValueError about what the user typed into a usage error."""
    try:
        yield
    except AbmailError:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def write(text: str, output: str | None) -> None:
    """Write a result; names of files that are not UTF-8 are written with escapes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if output in {None, "-"}:
        click.echo(text, nl=not text.endswith("\n"))
        return
    write_file(Path(str(output)), text)
    click.echo(f"wrote {output}", err=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file in UTF-8; an OSError that comes of it names the file, which a full disk's own does not."""
    with _naming(path):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def require_writable(path: Path | None) -> None:
    """Find out before the work is done whether its outcome can be written."""
    if path is not None:
        with _naming(path), path.open("ab"):
            pass


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def width() -> int:
    """Columns of the terminal, within what can be read well; 100 where there is none."""
    import shutil

    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 140)


def colour(output: str | None) -> bool:
    return output in {None, "-"} and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
