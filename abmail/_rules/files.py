"""Files that a definition names."""

from __future__ import annotations

from pathlib import Path

__all__ = ["as_named", "is_file"]


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
