"""The file of refused rows: in the form of the file they come from, with the reason, so that it can be ingested."""

from __future__ import annotations

import csv
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from abmail.ingest import REASON

if TYPE_CHECKING:
    from abmail.ingest import Export, Refused

__all__ = ["Rejects"]


class Rejects(AbstractContextManager["Rejects"]):
    """Writes refused rows as they come.

    Args:
        path: The file; None writes nothing.
        export: Where the rows come from.
    """

    def __init__(self, path: Path | None, export: Export) -> None:
        self._export = export
        self._file = None if path is None else path.open("w", encoding="utf-8", newline="")
        self._csv: Any = None

    def __enter__(self) -> Self:
        if self._file is not None and self._export.header:
            self._csv = csv.writer(self._file, delimiter=self._export.delimiter)
            self._csv.writerow([*self._names, REASON])
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def _names(self) -> list[str]:
        return [name for name in self._export.header if name != REASON]

    def add(self, refused: Refused) -> None:
        """Write one row."""
        if self._csv is not None:
            cells = [refused.raw] if isinstance(refused.raw, str) else list(refused.raw)
            width = len(self._names)
            self._csv.writerow(
                [*cells[:width], *[""] * (width - len(cells)), *cells[len(self._export.header) :], refused.message]
            )
        elif self._file is not None:
            line = refused.raw
            if isinstance(line, dict):
                line = json.dumps({**line, REASON: refused.message}, ensure_ascii=False)
            self._file.write(f"{line}\n")
