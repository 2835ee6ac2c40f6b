"""Mending definition files, or showing what would be mended."""

from __future__ import annotations

from collections.abc import Sequence

import click

from abmail.cli import _shared as shared

__all__ = ["rewrite", "show"]


def rewrite(files: Sequence[str]) -> None:
    """Mend files, and say which."""
    from abmail._fix_files import mend, rewrite
    from abmail.check import project_root

    for mended in mend(files, root=project_root):
        rewrite(mended)
        click.echo(f"fixed {mended.path}", err=True)


def show(files: Sequence[str], output: str | None, *, refused: bool) -> int:
    """Write what would be mended as a diff; returns 0 where that is nothing, 1 otherwise, 2 for a closed folder."""
    from abmail._fix_files import diff, mend
    from abmail.check import project_root

    text = "".join(map(diff, mend(files, root=project_root)))
    if text:
        shared.write(text, output)
    return 2 if refused else int(bool(text))
