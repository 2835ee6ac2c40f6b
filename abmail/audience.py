"""Recipients from lists as people have them: CSV in UTF-8, UTF-16 or Shift_JIS, with the faults that real lists have.

Nothing is lost in silence: every row is either imported or skipped with a problem that names its line.
"""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from abmail._table import (
    CONTROL,
    DELIMITERS,
    ENCODING_HINT,
    NEWLINE,
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

# In order of preference, as `plain` spells them: a list may have both "email" and a yes/no column "mail".
_ADDRESS_NAMES: Final = ("email", "e-mail", "email address", "e-mail address", "mail address", "メールアドレス", "mail")
_ZONE_NAMES: Final = ("zone", "timezone", "time zone")
_ID_NAMES: Final = ("id",)
_NO_ZONES: Final = {"Factory", "localtime"}  # names of files, not of places
_MAX_SHOWN = 60


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
    text, codec = decode(read_source(source), encoding)
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
    text, codec = decode(read_source(source), encoding)
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
    except NoHeaderError:
        lines = enumerate(NEWLINE.split(text), start=1)
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
        candidates = (delimiter,) if delimiter else (declared[1],) if declared else DELIMITERS
        errors: list[AudienceError] = []
        for each in candidates:
            try:
                line, columns = header(text, each, skip=1 if declared else 0)
                address = _address_column(line, columns)
            except NoHeaderError as error:
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
        dirty = CONTROL.search(self.text) is not None
        for line, cells in records(self.text, self.delimiter):
            if line <= self.header_line:
                continue
            if isinstance(cells, RowProblem):
                yield line, cells
            elif any(cells) and not all(map(str.isspace, filter(None, cells))):
                yield line, (dirty and control_problem(line, cells)) or cells


def _check_header(columns: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    special = {*_ADDRESS_NAMES, *_ZONE_NAMES, *_ID_NAMES}
    for number, name in enumerate(columns, start=1):
        key = spelled if (spelled := plain(name)) in special else name
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
    if any(CONTROL.search(name) for name in columns):
        message = (
            f"the header in line {line} holds control characters; the file may be UTF-16 without a byte order mark"
        )
        hint = f"{ENCODING_HINT}, for instance utf-16-le"
    elif any("@" in name for name in columns):
        message = f"line {line} holds an address where the names of the columns should be"
        hint = "put a first line that names the columns, such as 'email'"
    raise NoHeaderError(message, hint=hint, cells=len(columns))


def _find(columns: Sequence[str], wanted: Sequence[str]) -> int | None:
    names = [plain(name) for name in columns]
    return next((names.index(name) for name in wanted if name in names), None)
