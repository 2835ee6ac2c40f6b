"""Past mails from the exports of providers: CSV with one mail a row, its time of sending and of the first open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._calendar import known_zone
from abmail._history import History
from abmail._table import (
    DELIMITERS,
    NoHeaderError,
    ProblemCode,
    RowProblem,
    Source,
    control_problem,
    decode,
    header,
    plain,
    read_source,
    records,
)
from abmail._written_times import DATE, WrittenTimes
from abmail.errors import AudienceError, mask_address
from abmail.recipient import normalise_email

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["HistoryImport", "read_history"]

# In order of preference, as `plain` spells them.
_NAMES: Final = {
    "id": ("id", "recipient id", "contact id", "subscriber id", "subscriber key", "contact key"),
    "email": ("email", "e-mail", "email address", "e-mail address", "recipient", "to", "メールアドレス", "mail"),
    "sent": ("sent at", "sent", "sent time", "send time", "send date", "sent date", "send at", "送信日時", "配信日時"),
    "opened": (
        "opened at", "first opened at", "first open", "opened", "open time", "opened time", "open date",
        "first open time", "開封日時",
    ),
    "clicked": ("clicked at", "first clicked at", "first click", "clicked", "click time", "click date", "クリック日時"),
    "campaign": (
        "campaign", "campaign id", "campaign name", "mailing", "job id", "send id", "subject", "キャンペーン", "件名",
    ),
    "zone": ("zone", "timezone", "time zone"),
    "segment": ("segment", "list", "stage"),
    "machine": ("machine", "machine open", "bot", "is bot", "apple mpp", "is machine open"),
}  # fmt: skip
_NEVER: Final = frozenset({"", "-", "0", "n/a", "na", "null", "none", "never", "no", "false", "nan"})
_YES: Final = frozenset({"1", "yes", "true", "y", "t"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryImport:
    """An export as read; ``rows == len(history) + skipped`` always.

    Attributes:
        history: The good rows in the file's order.
        lines: (n,) line of the file in which each of them starts; a problem that `SendTime.fit` reports with row i is
            in line ``lines[i]``.
        problems: What was wrong, in the file's order.
        rows: Rows that hold any text, without the header.
        encoding: The codec that was used.
        delimiter: The character between cells.
        columns: What each recognised column was taken for.
    """

    history: History
    lines: NDArray[np.int64]
    problems: tuple[RowProblem, ...]
    rows: int
    encoding: str
    delimiter: str
    columns: dict[str, str]

    @property
    def skipped(self) -> int:
        """Rows that were left out."""
        return sum(problem.skipped for problem in self.problems)


def read_history(
    source: Source,
    *,
    clock: str = "UTC",
    day_first: bool | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> HistoryImport:
    """Read past mails from a provider's export.

    The first line that holds text names the columns. Needed are one for the recipient (``id``, else ``email``), one for
    the time of sending (``sent at``, ``send time``, 送信日時, …) and one for the first open (``opened at``, ``first
    open``, 開封日時, …), empty where there was none. Clicks, campaign (or subject), time zone, segment and a machine
    flag are used where they are there. Times may be ISO 8601, ``2026/03/01 9:00``, ``01.03.2026 09:00``,
    ``3/1/2026 9:00 AM``, or seconds or milliseconds since the epoch. A time of 24:00 is no time:
    exports mean different days by it.

    Args:
        source: A path, a file opened in binary mode, or the bytes.
        clock: IANA name of the zone in which times without an offset were written.
        day_first: Whether 03/04/2026 is the third of April. None: found from days above 12 in the file.
        encoding: Codec; found as `read_recipients` does when None.
        delimiter: One character between cells; found when None.

    Raises:
        AudienceError: The file cannot be read as a history at all.
        ValueError: The zone is unknown.
    """
    if not known_zone(clock):
        raise ValueError(f"clock is {clock!r}, must be an IANA time zone such as Asia/Tokyo")
    text, codec = decode(read_source(source), encoding)
    table = _open(text, delimiter)
    rows = [(line, cells) for line, cells in records(text, table.delimiter) if line > table.line]
    good = [(line, cells) for line, cells in rows if isinstance(cells, RowProblem) or any(c.strip() for c in cells)]
    times = WrittenTimes(clock, _day_first(table, good) if day_first is None else day_first)
    reading = _Reading(table, times)
    for line, cells in good:
        reading.take(line, cells)
    return HistoryImport(
        history=reading.history(), lines=np.array(reading.lines, dtype=np.int64), problems=tuple(reading.problems),
        rows=len(good), encoding=codec, delimiter=table.delimiter,
        columns={role: table.names[index] for role, index in table.where.items()},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Table:
    delimiter: str
    line: int
    names: tuple[str, ...]
    where: dict[str, int]


def _open(text: str, delimiter: str | None) -> _Table:
    """Find the delimiter: the one under which the header names the most of what is looked for."""
    found = []
    for each in (delimiter,) if delimiter else DELIMITERS:
        try:
            line, names = header(text, each, skip=0)
        except NoHeaderError:
            continue
        spelled = [plain(name) for name in names]
        where = {}
        for role, wanted in _NAMES.items():
            place = next((spelled.index(name) for name in wanted if name in spelled), None)
            if place is not None:
                where[role] = place
        found.append(_Table(each, line, names, where))
    if not found:
        raise AudienceError(
            "the export is empty", hint="its first line names the columns, such as email,sent at,opened at"
        )
    best = max(found, key=lambda table: len(table.where))
    missing = [role for role in ("sent", "opened") if role not in best.where]
    if not {"id", "email"} & set(best.where):
        missing.insert(0, "email")
    if missing:
        named = ", ".join(repr(name) for name in best.names[:10])
        hint = "name the columns: email (or id), sent at, opened at"
        raise AudienceError(f"no column for {' and '.join(missing)} in the header: it names {named}", hint=hint)
    return best


def _day_first(table: _Table, rows: Sequence[tuple[int, list[str] | RowProblem]]) -> bool | None:
    """Which of the two small numbers of a date is the day; None where no date has that form.

    Raises:
        AudienceError: No day above 12 tells, or the file has both orders.
    """
    first = second = seen = False
    for _, cells in rows:
        if isinstance(cells, RowProblem):
            continue
        for role in ("sent", "opened", "clicked"):
            index = table.where.get(role, len(cells))
            match = DATE.fullmatch(cells[index].strip()) if index < len(cells) else None
            if match and match["mark"] == "/":
                seen = True
                first, second = first or int(match["a"]) > 12, second or int(match["b"]) > 12
    if seen and first == second:
        why = "some dates have the day first and some the month" if first else "no date has a day above 12"
        hint = "say day_first=True or day_first=False, or export dates as 2026-03-04"
        raise AudienceError(f"dates such as 03/04/2026 can be read in two ways: {why}", hint=hint)
    return first if seen else None


@dataclass(slots=True)
class _Reading:
    """One pass over the rows."""

    table: _Table
    times: WrittenTimes
    ids: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)
    moments: dict[str, list[float]] = field(default_factory=lambda: {"sent": [], "opened": [], "clicked": []})
    texts: dict[str, list[str]] = field(
        default_factory=lambda: {"campaign": [], "zone": [], "segment": [], "machine": []}
    )

    def take(self, line: int, cells: list[str] | RowProblem) -> None:
        """Turn one row into a mail or a problem."""
        problem = cells if isinstance(cells, RowProblem) else control_problem(line, cells) or self._mail(line, cells)
        if problem is not None:
            self.problems.append(problem)

    def _mail(self, line: int, cells: list[str]) -> RowProblem | None:
        values = {role: cells[i].strip() if i < len(cells) else "" for role, i in self.table.where.items()}
        person = self._person(line, values)
        if isinstance(person, RowProblem):
            return person
        found: dict[str, float] = {}
        for role in self.moments:
            text = values.get(role, "")
            if role != "sent" and text.casefold() in _NEVER:
                found[role] = float("nan")
                continue
            try:
                found[role] = self.times.read(text)
            except ValueError as error:
                name = self.table.names[self.table.where[role]]
                message = f"{text[:40]!r} {error}" if text else "the time of sending is missing"
                return RowProblem(
                    line=line, column=name, value_masked=text[:40], code=ProblemCode.BAD_TIME, message=message
                )
        self.ids.append(person)
        self.lines.append(line)
        for role, moments in self.moments.items():
            moments.append(found[role])
        for role, texts in self.texts.items():
            texts.append(values.get(role, ""))
        return None

    def _person(self, line: int, values: dict[str, str]) -> str | RowProblem:
        if values.get("id"):
            return values["id"]
        name = self.table.names[self.table.where.get("email", self.table.where.get("id", 0))]
        address = values.get("email", "")
        if not address:
            return RowProblem(line=line, column=name, code=ProblemCode.NO_ADDRESS, message="the recipient is missing")
        try:
            return normalise_email(address)
        except ValueError as error:
            masked = mask_address(address)[:60]
            return RowProblem(
                line=line, column=name, value_masked=masked, code=ProblemCode.BAD_ADDRESS, message=str(error)
            )  # fmt: skip

    def history(self) -> History:
        """The good rows as arrays."""
        where = self.table.where
        machine = [text.casefold() in _YES for text in self.texts["machine"]]
        return History.of(
            np.array(self.ids, dtype=np.str_), self.moments["sent"], self.moments["opened"],
            campaign=self.texts["campaign"] if "campaign" in where else None,
            zone=self.texts["zone"] if "zone" in where else None,
            segment=self.texts["segment"] if "segment" in where else None,
            clicked_at=self.moments["clicked"] if "clicked" in where else None,
            machine=machine if "machine" in where else None,
        )  # fmt: skip
