"""Events from files: JSON lines of our own, and the reports that mail providers export as CSV, TSV or JSON.

Reading goes row by row, whatever the size of the file. A row is an event, or one whose message is still to be found
(`Draft`), or it is refused with its line and a reason; nothing is lost in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from abmail._export_mapping import load_mapping
from abmail._export_rows import REASON, Draft, Reader, Refused, Row, exploded, flat, own_event, spelled
from abmail._export_shapes import SHAPES, Shape, recognised
from abmail._export_webhooks import are_webhooks, read_webhook
from abmail._json_items import JsonProblem, items
from abmail._table import DELIMITERS, MAX_CELL, NoHeaderError, RowProblem, control_problem, header, streamed
from abmail._text_file import TextFile
from abmail.errors import AudienceError
from abmail.webhooks import providers as webhook_providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from abmail.events import Event

__all__ = ["REASON", "Draft", "Export", "Refused", "Row", "providers"]

_HEAD: Final = 4 * MAX_CELL  # characters in which a header has to end
_TOTALS: Final = frozenset({
    "opens", "unique opens", "total opens", "open rate", "clicks", "unique clicks", "total clicks", "click rate",
    "delivered", "successful deliveries", "total recipients", "recipients", "emails sent", "sends", "bounces",
    "hard bounces", "soft bounces", "unsubscribes", "unsubs", "opens total", "clicks total",
})  # fmt: skip


def providers() -> tuple[str, ...]:
    """The providers whose exports, or the bodies of whose webhooks, are known."""
    return tuple(sorted({*(shape.source for shape in SHAPES if shape.source != "file"), *webhook_providers()}))


@dataclass(frozen=True, slots=True)
class Export:
    """A file of events, opened.

    Attributes:
        file: The text.
        shape: How its rows become events; None for JSON of abmail's own events.
        header: Names of the columns; empty for JSON.
        delimiter: The character between cells.
        line: Where the header stands.
        by_lines: Whether each line is an item of JSON, whatever the first one looks like.
        webhook: The provider whose webhooks posted what the file holds; empty for a report.
    """

    file: TextFile
    shape: Shape | None = None
    header: tuple[str, ...] = ()
    delimiter: str = ""
    line: int = 0
    by_lines: bool = False
    webhook: str = ""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        provider: str = "",
        mapping: Path | None = None,
        experiment: str = "",
        encoding: str | None = None,
    ) -> Self:
        """Look at a file and find out what its columns mean.

        Args:
            path: CSV, TSV, JSON or JSON lines, packed with gzip or not.
            provider: Whose export it is; found from the columns otherwise.
            mapping: A YAML file that says what the columns mean.
            experiment: The experiment of all rows.
            encoding: Of the file; found out by default.

        Raises:
            AudienceError: It cannot be read, or nobody knows what its columns mean; the message says what is missing.
            SpecError: The mapping is wrong, with each problem at its place.
            ValueError: There is no such provider.
        """
        if provider and provider not in providers():
            raise ValueError(f"there is no provider {provider!r}; known are {', '.join(providers())}")
        given = None if mapping is None else load_mapping(mapping)
        file = TextFile.open(path, encoding)
        head = _head(file)
        if (sign := head.lstrip("\ufeff \t\r\n")[:1]) in {"{", "["}:
            named_so = bool({suffix.lower() for suffix in path.suffixes} & {".jsonl", ".ndjson"})
            by_lines = named_so and sign == "{"  # where a line is a list, its elements are the items
            opened = cls(file, by_lines=by_lines)
        else:
            opened = cls._table(file, head)
        return opened._understood(given, provider, experiment)

    @classmethod
    def _table(cls, file: TextFile, head: str) -> Self:
        declared = re.match(r"sep=([^\r\n\" ])(?:\r\n|\r|\n)", head)  # Excel's own first line
        found: list[Self] = []
        for each in (declared[1],) if declared else DELIMITERS:
            try:
                line, names = header(head, each, skip=1 if declared else 0)
            except NoHeaderError:
                continue
            found.append(cls(file, header=names, delimiter=each, line=line))
        if not found:
            raise AudienceError(f"{file.path} is empty", hint="its first line names the columns")
        return max(found, key=lambda one: len(one.header))

    def _understood(self, given: Shape | None, provider: str, experiment: str) -> Self:
        first = None if self.header else self._first()
        if given is None and not provider and not self.header and _is_own(first):
            return self
        each = "" if given is None else given.each
        columns = frozenset(map(spelled, self.header) if self.header else _names_of(first or {}, each))
        shape = given or recognised(columns, provider)
        # Only a report is searched for the people of an experiment; a webhook names its message itself.
        if given is None and not (shape and experiment) and are_webhooks(provider, first):
            return replace(self, shape=None, webhook=provider)
        if shape is None:
            message, hint = _not_understood(self, columns, provider)
            raise AudienceError(message, hint=hint)
        if given is not None:
            self._require_columns(given, columns)
        constants = {**shape.constants, **({"experiment": experiment} if experiment else {})}
        return replace(self, shape=replace(shape, constants=constants))

    def _first(self) -> dict[str, Any] | None:
        return next((item for _, item in self._items() if isinstance(item, dict)), None)

    def _require_columns(self, shape: Shape, columns: frozenset[str]) -> None:
        """A mapping that names what is not there is a slip; in JSON a value may be missing in the first item."""
        missing = [name for names in shape.columns.values() for name in names if name not in columns]
        if self.header and missing:
            hint = f"its columns are {', '.join(map(repr, self.header[:12]))}"
            raise AudienceError(f"the mapping names a column {missing[0]!r}, which {self.file.path} lacks", hint=hint)

    def rows(
        self, *, now: datetime, told: Callable[[int], None] = lambda _: None
    ) -> Iterator[Event | Draft | Refused | None]:
        """Read the rows.

        Args:
            now: Aware UTC datetime; an event more than a day after it is refused as a clock error.
            told: Hears how many bytes of the file were read so far.

        Yields:
            What each row is, in order; None where it says nothing of a mail.
        """
        if self.webhook:
            for line, item in self._items(told):
                yield from (
                    [_broken(item)]
                    if isinstance(item, JsonProblem)
                    else read_webhook(self.webhook, line, item, now=now)
                )
        elif self.shape is None:
            for line, item in self._items(told):
                yield own_event(line, item, now) if isinstance(item, dict) else _broken(item)
        elif self.header:
            yield from self._table_rows(Reader(self.shape), now, told)
        else:
            reader = Reader(self.shape)
            for line, item in self._items(told):
                if isinstance(item, JsonProblem):
                    yield _broken(item)
                    continue
                for one in exploded(item, self.shape.each):
                    yield reader.read(line, one, flat(one), now)

    def _items(
        self, told: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[int, dict[str, Any] | JsonProblem]]:
        return items(self.file.pieces(told), lines=self.by_lines)

    def _table_rows(
        self, reader: Reader, now: datetime, told: Callable[[int], None]
    ) -> Iterator[Draft | Refused | None]:
        names = [spelled(name) for name in self.header]
        for line, cells in streamed(self.file.pieces(told), self.delimiter):
            if line <= self.line:
                continue
            if isinstance(cells, RowProblem):
                yield Refused(line=line, message=cells.message, raw=cells.text)
            elif any(map(str.strip, cells)):
                problem = control_problem(line, cells) if not "".join(cells).isprintable() else None
                message = problem.message if problem else _surplus(cells, names)
                values = dict(zip(names, map(str.strip, cells), strict=False))
                refused = Refused(line=line, message=message, raw=cells) if message else None
                yield refused or reader.read(line, cells, values, now)


def _head(file: TextFile) -> str:
    head = ""
    for piece in file.pieces():
        head += piece
        if len(head) >= _HEAD:
            break
    return head[:_HEAD]


def _is_own(first: dict[str, Any] | None) -> bool:
    """Whether a file holds events as abmail writes them; so may one of which nothing can be read."""
    return first is None or ({"type", "at"} <= first.keys() and "email" not in first)


def _names_of(first: dict[str, Any], each: str) -> set[str]:
    """Names of the values of an item, and of those in its lists, where events may be."""
    lists = [each] if each else [key for key, value in first.items() if isinstance(value, list)]
    return set(flat(first)).union(*(flat(one) for key in lists for one in exploded(first, key)))


def _broken(item: JsonProblem) -> Refused:
    return Refused(line=item.line, message=item.message, raw=item.text)


def _surplus(cells: list[str], names: list[str]) -> str:
    if len(cells) <= len(names) or not any(map(str.strip, cells[len(names) :])):
        return ""
    return f"the row has {len(cells)} cells, the header {len(names)}; put cells that hold the delimiter in quotes"


def _not_understood(export: Export, columns: frozenset[str], provider: str) -> tuple[str, str]:
    """Why nobody knows what an export means, and what to do."""
    path, totals = export.file.path, sorted(columns & _TOTALS)
    has_person = any(word in name for name in columns - _TOTALS for word in ("email", "e-mail", "recipient", "message"))
    if len(totals) >= 2 and not has_person:
        return (
            f"{path} holds totals ({', '.join(totals[:4])}) and not what each person did",
            "abmail counts each person once and by variant: export the activity of the recipients instead",
        )
    if totals and has_person:
        return (
            f"{path} says how often each person did something ({', '.join(totals[:4])}), and not when",
            "export single events with their times; a mapping can also name one for all: constants: {at: …}",
        )
    named = ", ".join(map(repr, export.header or sorted(columns)[:12]))
    whose = f" of {provider}" if provider else ""
    return (
        f"nobody knows what the columns of {path} mean; it is no export{whose} that is known: {named}",
        "say it in a mapping (--map FILE): columns: {type: …, at: …, email: …}",
    )
