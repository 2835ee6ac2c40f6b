"""Past mails from the exports of providers: CSV with one mail a row, its time of sending and of the first open."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._calendar import known_zone, to_utc
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
_TIME: Final = re.compile(
    r"""(?:(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})|(?P<a>\d{1,2})(?P<mark>[/.-])(?P<b>\d{1,2})[/.-](?P<y>\d{4}))
    (?:[T\s,]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?
    \s*(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2})?""",
    re.VERBOSE,
)
_EPOCH: Final = re.compile(r"\d{10}(?:\.\d+)?|\d{13}")


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
    times = _Times(clock, _day_first(table, good) if day_first is None else day_first)
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
            match = _TIME.fullmatch(cells[index].strip()) if index < len(cells) else None
            if match and match["mark"] == "/":
                seen = True
                first, second = first or int(match["a"]) > 12, second or int(match["b"]) > 12
    if seen and first == second:
        why = "some dates have the day first and some the month" if first else "no date has a day above 12"
        hint = "say day_first=True or day_first=False, or export dates as 2026-03-04"
        raise AudienceError(f"dates such as 03/04/2026 can be read in two ways: {why}", hint=hint)
    return first if seen else None


@dataclass(slots=True)
class _Times:
    """Texts to seconds since the epoch; the same text is read once."""

    clock: str
    day_first: bool | None
    known: dict[str, float] = field(default_factory=dict)

    def read(self, text: str) -> float:
        """Seconds; raises ValueError with the reason."""
        if text not in self.known:
            self.known[text] = self._parsed(text)
        return self.known[text]

    def _parsed(self, text: str) -> float:
        if _EPOCH.fullmatch(text):
            return float(text) / (1000 if len(text) == 13 else 1)
        match = _TIME.fullmatch(text)
        if match is None:
            raise ValueError("is no time; write it as 2026-03-01 09:00")
        hour = int(match["hour"] or 0)
        if match["half"]:
            if not 1 <= hour <= 12:
                raise ValueError("has no hour from 1 to 12 before AM or PM")
            hour = hour % 12 + 12 * (match["half"][0] in "Pp")
        if hour == 24:
            raise ValueError("says 24:00, which some exports mean as the beginning and some as the end of the day")
        year, month, day = self._date(match)
        moment = datetime(year, month, day, hour, int(match["minute"] or 0), int(match["second"] or 0), tzinfo=UTC)
        wall = int(moment.timestamp())
        if offset := match["offset"]:
            return float(wall - _offset(offset))
        return float(to_utc(self.clock, [wall])[0])

    def _date(self, match: re.Match[str]) -> tuple[int, int, int]:
        if match["year"]:
            return int(match["year"]), int(match["month"]), int(match["day"])
        day, month = int(match["a"]), int(match["b"])
        if match["mark"] == "/" and not self.day_first:
            day, month = month, day
        return int(match["y"]), month, day


def _offset(text: str) -> int:
    if text in {"Z", "UTC", "GMT"}:
        return 0
    digits = text[1:].replace(":", "")
    return (1 if text[0] == "+" else -1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)


@dataclass(slots=True)
class _Reading:
    """One pass over the rows."""

    table: _Table
    times: _Times
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
