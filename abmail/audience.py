"""Recipients from lists as people have them: CSV in UTF-8, UTF-16 or Shift_JIS, with the faults that real lists have.

Nothing is lost in silence: every row is either imported or skipped with a problem that names its line.
"""

from __future__ import annotations

import csv
import re
import unicodedata
import zoneinfo
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from abmail.errors import AudienceError, mask_address
from abmail.recipient import Recipient, email_domain, normalise_email

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from abmail.segment import Segment

__all__ = [
    "Import",
    "ProblemCode",
    "RowProblem",
    "Suppressions",
    "in_segment",
    "read_recipients",
    "read_suppressions",
]

MAX_CELL: Final = 131_072
"""Longest cell in characters; what is longer is a forgotten quote or no list of people."""

Source = Path | BinaryIO | bytes

_DELIMITERS: Final = (",", ";", "\t", "|")
# In order of preference, as `_plain` spells them: a list may have both "email" and a yes/no column "mail".
_ADDRESS_NAMES: Final = ("email", "e-mail", "email address", "e-mail address", "mail address", "メールアドレス", "mail")
_ZONE_NAMES: Final = ("zone", "timezone", "time zone")
_ID_NAMES: Final = ("id",)
_NO_ZONES: Final = {"Factory", "localtime"}  # names of files, not of places
_NEWLINE = re.compile(r"\r\n|\r|\n")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_MAX_SHOWN = 60


class ProblemCode(StrEnum):
    """What can be wrong with a row."""

    NO_ADDRESS = "no_address"
    BAD_ADDRESS = "bad_address"
    DUPLICATE_ADDRESS = "duplicate_address"
    DUPLICATE_ID = "duplicate_id"
    NO_ID = "no_id"
    UNKNOWN_ZONE = "unknown_zone"
    TOO_FEW_CELLS = "too_few_cells"
    TOO_MANY_CELLS = "too_many_cells"
    OPEN_QUOTE = "open_quote"
    LONG_CELL = "long_cell"
    CONTROL_CHARACTER = "control_character"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """Something wrong with one row.

    Attributes:
        line: 1-based physical line in which the row starts.
        column: Name of the column, empty where the whole row is meant.
        value_masked: The value with the person hidden, shortened; empty where the whole row is meant.
        code: Kind of problem, for programs.
        message: The problem in words, without the line.
        skipped: Whether the row was left out. A skipped row has exactly one problem.
    """

    line: int
    column: str = ""
    value_masked: str = ""
    code: ProblemCode
    message: str
    skipped: bool = True

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column!r}" if self.column else f"line {self.line}"
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A list as read; ``rows == len(recipients) + skipped`` always.

    Attributes:
        recipients: The good rows in the file's order; addresses and ids are unique.
        problems: What was wrong, in the file's order, for skipped rows and for rows kept with a loss.
        rows: Rows that hold any text, without the header.
        encoding: The codec that was used, such as ``utf-8``, ``utf-8-sig``, ``utf-16`` or ``cp932``.
        delimiter: The character between cells.
        columns: Header names in the file's order, stripped.
    """

    recipients: tuple[Recipient, ...]
    problems: tuple[RowProblem, ...]
    rows: int
    encoding: str
    delimiter: str
    columns: tuple[str, ...]

    @property
    def skipped(self) -> int:
        """Rows that were left out."""
        return sum(problem.skipped for problem in self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressions:
    """Addresses never to mail again; ``rows == len(addresses) + repeated + len(problems)`` always.

    Attributes:
        addresses: Normalised, each once, in the file's order.
        problems: Rows without a usable address.
        rows: Rows that hold any text, without header and comments.
        repeated: Rows whose address came before.
        encoding: The codec that was used.
    """

    addresses: tuple[str, ...]
    problems: tuple[RowProblem, ...]
    rows: int
    repeated: int
    encoding: str


def read_recipients(source: Source, *, encoding: str | None = None, delimiter: str | None = None) -> Import:
    """Read a list of recipients.

    The first line that holds text names the columns. One of them holds the address: ``email``, ``e-mail``,
    ``email address``, ``メールアドレス`` or ``mail``, in any case. A column ``id`` becomes the recipient's identity
    (else the address is), ``zone`` or ``timezone`` its IANA time zone; all others become attributes under their name.

    Rows without any text are no rows. A row with too few cells is kept, its missing attributes are empty, and it is
    reported; a row with too many is skipped, because its values may stand under the wrong names. Of several rows with
    the same address or id the first is kept. A quote that is never closed costs its own line only.

    Args:
        source: A path, a file opened in binary mode, or the bytes; read as a whole.
        encoding: Codec of the file; found from the byte order mark and the bytes when None: UTF-8, else Shift_JIS.
        delimiter: One character between cells; found from the header among comma, semicolon, tab and bar when None.

    Raises:
        AudienceError: The file cannot be read as a list at all.
        ValueError: ``delimiter`` is not one usable character.

    >>> found = read_recipients(bytes([0xEF, 0xBB, 0xBF]) + b"Email;stage")
    >>> found.encoding, found.delimiter, found.columns
    ('utf-8-sig', ';', ('Email', 'stage'))
    """
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '" \r\n'):
        raise ValueError(f"delimiter is {delimiter!r}, must be one character, no quote, space or line end")
    text, codec = _decode(_read(source), encoding)
    table = _Table.open(text, delimiter)
    reading = _Reading(table)
    for line, cells in table.records():
        reading.take(line, cells)
    return Import(
        recipients=tuple(reading.recipients),
        problems=tuple(reading.problems),
        rows=reading.rows,
        encoding=codec,
        delimiter=table.delimiter,
        columns=table.columns,
    )


def in_segment(segment: Segment | None, recipient: Recipient) -> bool:
    """Whether a recipient belongs to a segment; everybody does where there is none.

    Beside the recipient's attributes an expression may name ``id``, ``email`` and ``domain``, which no attribute hides.
    """
    if segment is None:
        return True
    named = {"id": recipient.id, "email": recipient.email, "domain": email_domain(recipient.email)}
    return segment.matches({**recipient.attributes, **named})


def read_suppressions(source: Source, *, encoding: str | None = None) -> Suppressions:
    """Read addresses never to mail again: CSV with a column for the address, or one address a line.

    In a file of lines, blank lines and lines that start with ``#`` are skipped.

    Args:
        source: A path, a file opened in binary mode, or the bytes; read as a whole.
        encoding: Codec of the file; found as `read_recipients` does when None.

    Raises:
        AudienceError: The file cannot be decoded, or is CSV whose header cannot be used.
    """
    text, codec = _decode(_read(source), encoding)
    seen: dict[str, int] = {}
    problems: list[RowProblem] = []
    rows = 0
    for line, cell in _address_cells(text):
        rows += 1
        found = cell if isinstance(cell, RowProblem) else _address(line, "email", cell)
        if isinstance(found, RowProblem):
            problems.append(found)
        else:
            seen.setdefault(found, line)
    return Suppressions(
        addresses=tuple(seen),
        problems=tuple(problems),
        rows=rows,
        repeated=rows - len(seen) - len(problems),
        encoding=codec,
    )


def _address_cells(text: str) -> Iterator[tuple[int, str | RowProblem]]:
    try:
        table = _Table.open(text, None)
    except _NoHeaderError:
        lines = enumerate(_NEWLINE.split(text), start=1)
        yield from ((number, line.strip()) for number, line in lines if line.strip() and line.strip()[0] != "#")
        return
    for line, cells in table.records():
        if isinstance(cells, RowProblem):
            yield line, cells
        else:
            yield line, cells[table.address].strip() if table.address < len(cells) else ""


# --- rows to recipients ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reading:
    """One pass over the rows of a table."""

    table: _Table
    recipients: list[Recipient] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)
    rows: int = 0
    _addresses: dict[str, int] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)
    _zones: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.table.zone is not None:
            self._zones = {name.casefold(): name for name in zoneinfo.available_timezones() - _NO_ZONES}

    def take(self, line: int, cells: list[str] | RowProblem) -> None:
        """Turn one row into a recipient or a problem."""
        self.rows += 1
        notes: list[RowProblem] = []
        found = cells if isinstance(cells, RowProblem) else self._recipient(line, cells, notes)
        if isinstance(found, RowProblem):
            self.problems.append(found)
            return
        self.recipients.append(found)
        self.problems.extend(notes)
        self._addresses[found.email] = self._ids[found.id] = line

    def _recipient(self, line: int, cells: list[str], notes: list[RowProblem]) -> Recipient | RowProblem:
        table = self.table
        values = self._values(line, cells, notes)
        if isinstance(values, RowProblem):
            return values
        name = table.columns[table.address]
        email = _address(line, name, values[table.address])
        if isinstance(email, RowProblem):
            return email
        identity = self._identity(line, values, email, notes)
        return self._repeated(line, name, email, identity) or Recipient(
            id=identity,
            email=email,
            attributes={table.columns[index]: values[index] for index in table.attributes},
            zone=self._zone(line, values, notes),
        )

    def _values(self, line: int, cells: list[str], notes: list[RowProblem]) -> list[str] | RowProblem:
        """One stripped value a column."""
        values = [cell.strip() for cell in cells]
        wanted = len(self.table.columns)
        if len(values) > wanted and any(values[wanted:]):
            advice = f"put cells that hold {self.table.delimiter!r} in quotes"
            message = f"the row has {len(values)} cells, the header {wanted}; {advice}"
            return RowProblem(line=line, code=ProblemCode.TOO_MANY_CELLS, message=message)
        if len(values) < wanted:
            missing = ", ".join(repr(name) for name in self.table.columns[len(values) :][:3])
            message = f"the row has {len(values)} cells, the header {wanted}; taken as empty: {missing}"
            notes.append(RowProblem(line=line, code=ProblemCode.TOO_FEW_CELLS, message=message, skipped=False))
            values += [""] * (wanted - len(values))
        return values

    def _identity(self, line: int, values: list[str], email: str, notes: list[RowProblem]) -> str:
        if self.table.id is None:
            return email
        if not values[self.table.id]:
            name = self.table.columns[self.table.id]
            message = "the id is empty; the address stands in for it"
            notes.append(RowProblem(line=line, column=name, code=ProblemCode.NO_ID, message=message, skipped=False))
        return values[self.table.id] or email

    def _repeated(self, line: int, name: str, email: str, identity: str) -> RowProblem | None:
        if first := self._addresses.get(email):
            code, value, message = ProblemCode.DUPLICATE_ADDRESS, email, f"the address is already in line {first}"
        elif first := self._ids.get(identity):
            code, value, message = ProblemCode.DUPLICATE_ID, identity, f"the id is already in line {first}"
            name = name if self.table.id is None else self.table.columns[self.table.id]
        else:
            return None
        return RowProblem(line=line, column=name, value_masked=_masked(value), code=code, message=message)

    def _zone(self, line: int, values: list[str], notes: list[RowProblem]) -> str | None:
        index = self.table.zone
        if index is None or not values[index]:
            return None
        zone = self._zones.get(values[index].casefold())
        if zone is None:
            name, shown = self.table.columns[index], values[index][:_MAX_SHOWN]
            shown = _masked(shown) if "@" in shown else shown  # cells may have shifted
            message = f"{shown!r} is no IANA time zone such as Asia/Tokyo; the row is kept without one"
            code = ProblemCode.UNKNOWN_ZONE
            notes.append(
                RowProblem(line=line, column=name, value_masked=shown, code=code, message=message, skipped=False)
            )
        return zone


def _address(line: int, column: str, text: str) -> str | RowProblem:
    if not text:
        return RowProblem(line=line, column=column, code=ProblemCode.NO_ADDRESS, message="the address is missing")
    try:
        return normalise_email(text)
    except ValueError as error:
        masked, code = _masked(text), ProblemCode.BAD_ADDRESS
        return RowProblem(line=line, column=column, value_masked=masked, code=code, message=str(error))


def _masked(text: str) -> str:
    return mask_address(text)[:_MAX_SHOWN]


def _short(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


# --- text to rows ---------------------------------------------------------------------------------------------------


class _NoHeaderError(AudienceError):
    """No line names a column for the address."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A CSV text whose header was understood."""

    text: str
    delimiter: str
    columns: tuple[str, ...]
    address: int
    id: int | None
    zone: int | None
    attributes: tuple[int, ...]
    header_line: int

    @classmethod
    def open(cls, text: str, delimiter: str | None) -> _Table:
        """Find the delimiter: the one under which the header names an address."""
        declared = re.match(r"sep=([^\r\n\" ])(?:\r\n|\r|\n)", text)  # Excel's own first line
        candidates = (delimiter,) if delimiter else (declared[1],) if declared else _DELIMITERS
        errors: list[AudienceError] = []
        for each in candidates:
            try:
                line, columns = _header(text, each, skip=1 if declared else 0)
                address = _address_column(line, columns)
            except _NoHeaderError as error:
                errors.append(error)
                continue
            _check_header(columns)
            return cls._of(text, each, line, columns, address)
        raise max(errors, key=lambda error: float(error.context["cells"]))  # the delimiter that explains most

    @classmethod
    def _of(cls, text: str, delimiter: str, line: int, columns: tuple[str, ...], address: int) -> _Table:
        identity, zone = _find(columns, _ID_NAMES), _find(columns, _ZONE_NAMES)
        attributes = tuple(index for index in range(len(columns)) if index not in (address, identity, zone))
        return cls(text, delimiter, columns, address, identity, zone, attributes, line)

    def records(self) -> Iterator[tuple[int, list[str] | RowProblem]]:
        """The rows below the header that hold any text, each with the line it starts in."""
        dirty = _CONTROL.search(self.text) is not None
        for line, cells in _records(self.text, self.delimiter):
            if line <= self.header_line:
                continue
            if isinstance(cells, RowProblem):
                yield line, cells
            elif any(cells) and not all(map(str.isspace, filter(None, cells))):
                yield line, (dirty and _control_problem(line, cells)) or cells


def _header(text: str, delimiter: str, *, skip: int) -> tuple[int, tuple[str, ...]]:
    """The first row that holds text, below ``skip`` lines: its line and its names."""
    for line, cells in _records(text, delimiter):
        if isinstance(cells, RowProblem):
            message = f"the header in line {line} cannot be read: {cells.message}"
            raise _NoHeaderError(message, hint="correct that line", cells=1.5)
        names = [cell.strip().strip("\ufeff") for cell in cells]
        if line <= skip or not any(name.strip(",;|") for name in names):
            continue
        while not names[-1]:  # spreadsheets leave empty columns at the end
            names.pop()
        return line, tuple(names)
    raise _NoHeaderError("the list is empty", hint="its first line names the columns, one of them 'email'", cells=0)


def _check_header(columns: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    special = {*_ADDRESS_NAMES, *_ZONE_NAMES, *_ID_NAMES}
    for number, name in enumerate(columns, start=1):
        key = plain if (plain := _plain(name)) in special else name
        if not name:
            raise AudienceError(f"column {number} has no name", hint="give each column of the header a name")
        if key in seen:
            raise AudienceError(
                f"the column {_short(name)} appears twice, as column {seen[key]} and column {number}",
                hint="rename or remove one of them",
            )
        seen[key] = number


def _address_column(line: int, columns: Sequence[str]) -> int:
    found = _find(columns, _ADDRESS_NAMES)
    if found is not None:
        return found
    names = ", ".join(_short(name) for name in columns[:10])
    message = f"no column holds the address: the header in line {line} names {names}"
    hint = "name the column with the address 'email'; cells are separated by comma, semicolon, tab or bar"
    if any(_CONTROL.search(name) for name in columns):
        message = (
            f"the header in line {line} holds control characters; the file may be UTF-16 without a byte order mark"
        )
        hint = f"{_ENCODING_HINT}, for instance utf-16-le"
    elif any("@" in name for name in columns):
        message = f"line {line} holds an address where the names of the columns should be"
        hint = "put a first line that names the columns, such as 'email'"
    raise _NoHeaderError(message, hint=hint, cells=len(columns))


def _find(columns: Sequence[str], wanted: Sequence[str]) -> int | None:
    names = [_plain(name) for name in columns]
    return next((names.index(name) for name in wanted if name in names), None)


def _plain(name: str) -> str:
    """Full-width letters, case, underscores and doubled spaces make no other name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


def _control_problem(line: int, cells: Sequence[str]) -> RowProblem | None:
    for number, cell in enumerate(cells, start=1):
        if found := _CONTROL.search(cell):
            message = f"cell {number} holds the control character U+{ord(found[0]):04X}; the row may be damaged"
            return RowProblem(line=line, code=ProblemCode.CONTROL_CHARACTER, message=message)
    return None


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | RowProblem]]:
    """Split a text into rows of cells (RFC 4180, any line end), each with its first physical line.

    A row whose quotes are broken is one problem for its first physical line, and reading goes on with the next one.
    """
    cutter = _Cutter.of(delimiter)
    position, line = 0, 1
    while position < len(text):
        newline = _NEWLINE.search(text, position)
        end, following = newline.span() if newline else (len(text), len(text))
        found: list[str] | ProblemCode | None = cutter.line(text[position:end])
        if found is None:
            found, stop = cutter.row(text, position)
            if stop > end:  # a quoted cell holds line ends
                newline = _NEWLINE.match(text, stop)
                following = newline.end() if newline else stop
        if isinstance(found, ProblemCode):
            yield line, RowProblem(line=line, code=found, message=_BROKEN[found])
        else:
            yield line, found
        line += len(_NEWLINE.findall(text, position, following))
        position = following


_BROKEN: Final = {
    ProblemCode.OPEN_QUOTE: f"a quote is opened and not closed at the end of a cell within {MAX_CELL} characters",
    ProblemCode.LONG_CELL: f"a cell has more than {MAX_CELL} characters",
}


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Cuts rows into cells."""

    delimiter: str
    quoted: re.Pattern[str]
    stop: re.Pattern[str]

    @classmethod
    def of(cls, delimiter: str) -> _Cutter:
        stop = f"{re.escape(delimiter)}\\r\\n"
        # Spaces before the quote and text behind it are tolerated, as spreadsheets do.
        return cls(delimiter, re.compile(rf' *"((?:[^"]+|"")*+)"([^{stop}]*)'), re.compile(f"[{stop}]"))

    def line(self, row: str) -> list[str] | None:
        """The cells of a row that fills one line and has nothing wrong with it; else None."""
        if len(row) > MAX_CELL:
            return None
        if '"' not in row:
            return row.split(self.delimiter)
        try:
            return next(csv.reader((row,), delimiter=self.delimiter, skipinitialspace=True, strict=True))
        except csv.Error:
            return None

    def row(self, text: str, position: int) -> tuple[list[str] | ProblemCode, int]:
        """The cells from ``position`` on and the place of the line end behind them; or what is broken, and -1."""
        cells: list[str] = []
        while True:
            limit = min(len(text), position + MAX_CELL + 3)
            value, end = self._cell(text, position, limit)
            if value is None:
                return ProblemCode.OPEN_QUOTE, -1
            if len(value) > MAX_CELL or end == limit < len(text):
                return ProblemCode.LONG_CELL, -1
            cells.append(value)
            if end == len(text) or text[end] in "\r\n":
                return cells, end
            position = end + 1

    def _cell(self, text: str, position: int, limit: int) -> tuple[str | None, int]:
        if found := self.quoted.match(text, position, limit):
            # Text behind a quote that spans lines: two forgotten quotes have met.
            crossed = found[2].strip() and _NEWLINE.search(found[1])
            return None if crossed else found[1].replace('""', '"') + found[2], found.end()
        stop = self.stop.search(text, position, limit)
        end = stop.start() if stop else limit
        value = text[position:end]
        return None if value.lstrip(" ").startswith('"') else value, end


# --- bytes to text --------------------------------------------------------------------------------------------------

_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_ENCODING_HINT = "save the list as CSV in UTF-8, or name its encoding"


def _read(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    if not isinstance(source, Path) and not hasattr(source, "read"):
        raise TypeError(f"a list is a Path, a file opened in binary mode, or bytes, not {type(source).__name__}")
    try:
        content = source.read_bytes() if isinstance(source, Path) else source.read()
    except OSError as error:
        raise AudienceError(f"the list cannot be read: {error}", hint="check the path and the permissions") from error
    if not isinstance(content, bytes):
        raise TypeError("the list was opened in text mode; open it in binary mode, so that its encoding can be found")
    return content


def _decode(content: bytes, encoding: str | None) -> tuple[str, str]:
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise AudienceError("the list is a spreadsheet file, not CSV", hint="save it from there as CSV in UTF-8")
    if encoding is not None:
        return _decode_as(content, encoding), encoding
    for mark, codec in _MARKS:
        if content.startswith(mark):
            return _decode_as(content, codec), codec
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        return _decode_japanese(content, error), "cp932"


def _decode_as(content: bytes, encoding: str) -> str:
    try:
        # As plain UTF-8 the mark counts, and the offset of an error is the file's.
        return content.decode("utf-8" if encoding == "utf-8-sig" else encoding).removeprefix("\ufeff")
    except LookupError:
        raise AudienceError(f"there is no text encoding {encoding!r}", hint="for instance utf-8 or cp932") from None
    except UnicodeDecodeError as error:
        raise AudienceError(f"the list is not {encoding}: {_place(error)}", hint=_ENCODING_HINT) from None


def _decode_japanese(content: bytes, not_utf8: UnicodeDecodeError) -> str:
    try:
        text = content.decode("cp932")
    except UnicodeDecodeError as error:
        message = f"the list is neither UTF-8 ({_place(not_utf8)}) nor Shift_JIS ({_place(error)})"
        raise AudienceError(message, hint=_ENCODING_HINT) from None
    if not _is_japanese(text):
        message = f"the list is not UTF-8 ({_place(not_utf8)}) and does not look like Shift_JIS"
        raise AudienceError(message, hint=f"{_ENCODING_HINT}, for instance cp1252 or cp932")
    return text


def _is_japanese(text: str) -> bool:
    """Tell Japanese from a Western list whose accents happen to be valid Shift_JIS.

    An accent becomes one odd character between Latin letters; Japanese stands in runs or alone in a cell.
    """
    runs = len(re.findall(r"[^\x00-\x7f]+", text))
    accents = len(
        re.findall(r"(?:(?<=[A-Za-z])[^\x00-\x7f](?![^\x00-\x7f]))|(?<![^\x00-\x7f])[^\x00-\x7f](?=[A-Za-z])", text)
    )
    return accents * 2 <= runs


def _place(error: UnicodeDecodeError) -> str:
    before = error.object[: error.start].decode(error.encoding, "replace")
    line = len(_NEWLINE.findall(before)) + 1
    return f"byte 0x{error.object[error.start]:02x} at offset {error.start}, line {line}"
