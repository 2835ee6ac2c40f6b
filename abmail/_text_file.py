"""Text files of any size, in pieces: unpacked, and decoded from whatever encoding they turn out to have."""

from __future__ import annotations

import codecs
import gzip
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from abmail._table import MARKS, NEWLINE, is_japanese
from abmail.errors import AudienceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["TextFile"]

_PIECE: Final = 1 << 20  # bytes
_SAMPLE: Final = 1 << 18  # characters outside ASCII, and those between them, that tell Japanese
_HINT: Final = "save it as CSV or JSON in UTF-8, or name its encoding"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that can be read again and again.

    Attributes:
        path: Where it is; one packed with gzip is unpacked on the way.
        encoding: The codec that decodes all of it.
    """

    path: Path
    encoding: str

    @classmethod
    def open(cls, path: Path, encoding: str | None = None) -> TextFile:
        """Find out how a file is encoded: by its byte order mark, else UTF-8, else Shift_JIS. Reads all of it.

        Args:
            path: The file.
            encoding: The codec, where it is known.

        Raises:
            AudienceError: It is no text in any of these encodings.
        """
        with _opened(path) as (file, _):
            head = file.read(_PIECE)
        if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
            raise AudienceError(f"{path} is a spreadsheet or an archive, not text", hint="save it as CSV, or unpack it")
        codec = encoding or next((codec for mark, codec in MARKS if head.startswith(mark)), _without_mark(head))
        try:
            codecs.lookup(codec)
        except LookupError:
            raise AudienceError(f"there is no text encoding {codec!r}", hint="for instance utf-8 or cp932") from None
        wrong = _fault(path, codec)
        if wrong and codec == "utf-8" and encoding is None:
            return cls(path, _japanese(path, wrong))
        if wrong:
            raise AudienceError(f"{path} is not {codec}: {wrong}", hint=_HINT)
        return cls(path, codec)

    def pieces(self, told: Callable[[int], None] = lambda _: None) -> Iterator[str]:
        """The text in pieces; ``told`` hears how many bytes of the file were read so far."""
        with _opened(self.path) as (file, disk):
            for text in _decoded(file, self.encoding):
                told(disk.tell())
                yield text

    @property
    def size(self) -> int:
        """Bytes on the disk, packed or not."""
        return self.path.stat().st_size


@contextmanager
def _opened(path: Path) -> Iterator[tuple[_Readable, BinaryIO]]:
    """The file unpacked, and as it lies on the disk."""
    with path.open("rb") as disk:
        packed = disk.read(2) == b"\x1f\x8b"
        disk.seek(0)
        if not packed:
            yield disk, disk
            return
        try:
            with gzip.GzipFile(fileobj=disk) as file:
                yield file, disk
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise AudienceError(f"{path} cannot be unpacked: {error}", hint="fetch it once more") from error


def _decoded(file: _Readable, codec: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(codec)("strict")
    while piece := file.read(_PIECE):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _without_mark(head: bytes) -> str:
    """Half of the bytes of a Western text in UTF-16 are zero."""
    if len(head) >= 4 and not any(head[1:200:2]):
        return "utf-16-le"
    return "utf-16-be" if len(head) >= 4 and not any(head[0:200:2]) else "utf-8"


def _fault(path: Path, codec: str) -> str:
    """What cannot be decoded, and where; empty for a whole file."""
    line = 1
    try:
        with _opened(path) as (file, _):
            for text in _decoded(file, codec):
                line += text.count("\n")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(codec, "replace")
        return f"byte 0x{error.object[error.start]:02x} in line {line + len(NEWLINE.findall(before))}"
    return ""


def _japanese(path: Path, not_utf8: str) -> str:
    wrong = _fault(path, "cp932")
    if wrong:
        raise AudienceError(f"{path} is neither UTF-8 ({not_utf8}) nor Shift_JIS ({wrong})", hint=_HINT)
    sample = ""
    with _opened(path) as (file, _):
        for text in _decoded(file, "cp932"):
            sample += "" if text.isascii() else text
            if len(sample) >= _SAMPLE:
                break
    if not is_japanese(sample[:_SAMPLE]):
        hint = f"{_HINT}, for instance cp1252"
        raise AudienceError(f"{path} is not UTF-8 ({not_utf8}) and does not look like Shift_JIS", hint=hint)
    return "cp932"
