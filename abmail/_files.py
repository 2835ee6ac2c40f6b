"""Files that a definition names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["as_named", "is_file", "marked_root"]

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
