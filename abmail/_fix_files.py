"""Mends definition files where they are: whole or not at all, through links, with their owner and rights."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from abmail._fix import fixed

__all__ = ["Mended", "diff", "mend", "rewrite"]

_SCHEMA: Final = "experiment.schema.json"
_MOST_BYTES: Final = 256 * 1024


class Mended(NamedTuple):
    """A file that can be mended: its text as it is, and as it would be."""

    path: str
    before: str
    after: str


def mend(files: Iterable[str], *, root: Callable[[Path], Path]) -> Iterator[Mended]:
    """Say which files can be mended and how; what cannot be read is left to the check.

    Args:
        files: Definition files.
        root: The project's folder of a file; its schema is named in files that name none.
    """
    for file in files:
        text = _read(file)
        after = text if text is None else fixed(text, schema=_schema(Path(file), root))
        if text is not None and after is not None and after != text:
            yield Mended(file, text, after)


def _read(file: str) -> str | None:
    try:
        status = Path(file).stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return None
        return Path(file).read_bytes().decode("utf-8")
    except (OSError, ValueError):
        return None


def _schema(file: Path, root: Callable[[Path], Path]) -> str | None:
    """How a file names its project's schema; None where the project has none."""
    schema = root(file) / _SCHEMA
    if not schema.is_file():
        return None
    return Path(os.path.relpath(schema.resolve(), file.resolve().parent)).as_posix()


def diff(mended: Mended) -> str:
    """The change as a unified diff, which ``patch`` and ``git apply`` take."""
    lines = difflib.unified_diff(
        _lines(mended.before), _lines(mended.after), f"a/{mended.path}", f"b/{mended.path}"
    )  # fmt: skip
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    """Lines as diffs count them: by LF alone."""
    *lines, rest = text.split("\n")
    return [f"{line}\n" for line in lines] + ([rest] if rest else [])


def rewrite(mended: Mended) -> None:
    """Put the mended text in the file's place: who reads it meanwhile sees one of the two, never a part.

    Raises:
        OSError: The folder cannot be written, or the disk is full; the file is then as it was.
    """
    target = Path(mended.path).resolve()
    status = target.stat()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(mended.after.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(stat.S_IMODE(status.st_mode))
        with suppress(PermissionError):  # another's file in a folder of ours: it becomes ours
            os.chown(name, status.st_uid, status.st_gid)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
