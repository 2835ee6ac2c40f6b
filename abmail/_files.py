"""Files that a definition names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["as_named", "is_file", "marked_root", "template_folders"]

_SETTINGS: Final = "abmail.toml"


def as_named(path: Path) -> str:
    """A path as people name it: from where they are, if it lies below."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False where nobody can tell."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a loop of links
        return False


def marked_root(start: Path) -> Path | None:
    """The nearest folder at or above ``start`` that holds ``abmail.toml``; None where none does."""
    absolute = start.absolute()
    return next((folder for folder in (absolute, *absolute.parents) if is_file(folder / _SETTINGS)), None)


def template_folders(definition: Path) -> tuple[Path, ...]:
    """Where a definition's templates may lie: in its project; without one, here or beside the definition."""
    marked = marked_root(definition)
    return (marked,) if marked is not None else tuple(dict.fromkeys((Path.cwd(), definition.absolute().parent)))
