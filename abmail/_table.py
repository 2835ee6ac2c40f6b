"""Tables as people have them: bytes to text in UTF-8, UTF-16 or Shift_JIS, and text to rows, with real files' faults.

A row that is broken is one problem for its line, and reading goes on with the next one.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from abmail.errors import AudienceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "CONTROL", "DELIMITERS", "ENCODING_HINT", "MARKS", "MAX_CELL", "NEWLINE", "NoHeaderError", "ProblemCode",
    "RowProblem", "Source", "control_problem", "decode", "header", "is_japanese", "plain", "read_source", "records",
    "streamed",
]  # fmt: skip

MAX_CELL: Final = 131_072
"""Longest cell in characters; what is longer is a forgotten quote or no list of people."""

Source = Path | BinaryIO | bytes

DELIMITERS: Final = (",", ";", "\t", "|")
NEWLINE = re.compile(r"\r\n|\r|\n")
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


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
    BAD_TIME = "bad_time"


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
        text: The line itself where it cannot be cut into cells. Not for logs.
    """

    line: int
    column: str = ""
    value_masked: str = ""
    code: ProblemCode
    message: str
    skipped: bool = True
    text: str = field(default="", repr=False)

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column!r}" if self.column else f"line {self.line}"
        return f"{place}: {self.message}"


class NoHeaderError(AudienceError):
    """No line names a column for the address."""


def header(text: str, delimiter: str, *, skip: int) -> tuple[int, tuple[str, ...]]:
    """The first row that holds text, below ``skip`` lines: its line and its names."""
    for line, cells in records(text, delimiter):
        if isinstance(cells, RowProblem):
            message = f"the header in line {line} cannot be read: {cells.message}"
            raise NoHeaderError(message, hint="correct that line", cells=1.5)
        names = [cell.strip().strip("\ufeff") for cell in cells]
        if line <= skip or not any(name.strip(",;|") for name in names):
            continue
        while not names[-1]:  # spreadsheets leave empty columns at the end
            names.pop()
        return line, tuple(names)
    raise NoHeaderError("the list is empty", hint="its first line names the columns, one of them 'email'", cells=0)


def plain(name: str) -> str:
    """Full-width letters, case, underscores and doubled spaces make no other name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


def control_problem(line: int, cells: Sequence[str]) -> RowProblem | None:
    for number, cell in enumerate(cells, start=1):
        if found := CONTROL.search(cell):
            message = f"cell {number} holds the control character U+{ord(found[0]):04X}; the row may be damaged"
            return RowProblem(line=line, code=ProblemCode.CONTROL_CHARACTER, message=message)
    return None


def records(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | RowProblem]]:
    """Split a text into rows of cells (RFC 4180, any line end), each with its first physical line.

    A row whose quotes are broken is one problem for its first physical line, and reading goes on with the next one.
    """
    for _, line, found in _rows(text, delimiter):
        yield line, found


def streamed(pieces: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | RowProblem]]:
    """Do the same with a text that comes in pieces, of which only the last ones are kept."""
    text, first = "", 1
    for piece in pieces:
        text += piece
        safe = len(text) - _MARGIN
        if safe <= 0:
            continue
        rows = _rows(text, delimiter)
        position, line, found = next(rows)
        for following in rows:
            if position >= safe:  # its end may not be there yet
                break
            yield first + line - 1, _moved(found, first)
            position, line, found = following
        text, first = text[position:], first + line - 1
    for _, line, found in _rows(text, delimiter):
        yield first + line - 1, _moved(found, first)


def _moved(found: list[str] | RowProblem, first: int) -> list[str] | RowProblem:
    """What was found in a part of the text that begins with a line."""
    return replace(found, line=first + found.line - 1) if isinstance(found, RowProblem) else found


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, int, list[str] | RowProblem]]:
    """Rows with the place where they begin: offset and line."""
    cutter = _Cutter.of(delimiter)
    position, line = 0, 1
    while position < len(text):
        newline = NEWLINE.search(text, position)
        end, following = newline.span() if newline else (len(text), len(text))
        found: list[str] | ProblemCode | None = cutter.line(text[position:end])
        if found is None:
            found, stop = cutter.row(text, position)
            if stop > end:  # a quoted cell holds line ends
                newline = NEWLINE.match(text, stop)
                following = newline.end() if newline else stop
        if isinstance(found, ProblemCode):
            yield position, line, RowProblem(line=line, code=found, message=_BROKEN[found], text=text[position:end])
        else:
            yield position, line, found
        line += len(NEWLINE.findall(text, position, following))
        position = following


_MARGIN: Final = 16 * MAX_CELL
"""Longest row of a text in pieces whose end is surely seen, in characters."""

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
            crossed = found[2].strip() and NEWLINE.search(found[1])
            return None if crossed else found[1].replace('""', '"') + found[2], found.end()
        stop = self.stop.search(text, position, limit)
        end = stop.start() if stop else limit
        value = text[position:end]
        return None if value.lstrip(" ").startswith('"') else value, end


# --- bytes to text --------------------------------------------------------------------------------------------------

MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
ENCODING_HINT = "save the list as CSV in UTF-8, or name its encoding"


def read_source(source: Source) -> bytes:
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


def decode(content: bytes, encoding: str | None) -> tuple[str, str]:
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise AudienceError("the list is a spreadsheet file, not CSV", hint="save it from there as CSV in UTF-8")
    if encoding is not None:
        return _decode_as(content, encoding), encoding
    for mark, codec in MARKS:
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
        raise AudienceError(f"the list is not {encoding}: {_place(error)}", hint=ENCODING_HINT) from None


def _decode_japanese(content: bytes, not_utf8: UnicodeDecodeError) -> str:
    try:
        text = content.decode("cp932")
    except UnicodeDecodeError as error:
        message = f"the list is neither UTF-8 ({_place(not_utf8)}) nor Shift_JIS ({_place(error)})"
        raise AudienceError(message, hint=ENCODING_HINT) from None
    if not is_japanese(text):
        message = f"the list is not UTF-8 ({_place(not_utf8)}) and does not look like Shift_JIS"
        raise AudienceError(message, hint=f"{ENCODING_HINT}, for instance cp1252 or cp932")
    return text


def is_japanese(text: str) -> bool:
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
    line = len(NEWLINE.findall(before)) + 1
    return f"byte 0x{error.object[error.start]:02x} at offset {error.start}, line {line}"
