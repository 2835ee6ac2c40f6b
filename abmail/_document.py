"""A YAML file as people write it, or what is wrong with it: never raises for what it holds."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from abmail import _yaml
from abmail._spec_problems import MISSING_KEY, UNREADABLE_FILE, YAML_SYNTAX, Origin, from_text
from abmail._yaml import Node
from abmail.diagnostics import Diagnostic, Place, Source

__all__ = ["Document"]

_MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A text that was read.

    Attributes:
        origin: The text with its name and the places in it.
        root: Its content; None where there is none that could be judged.
        findings: What is wrong with the text as such, in no order.
    """

    origin: Origin
    root: Node | None
    findings: tuple[Diagnostic, ...]

    @classmethod
    def of_file(cls, path: str | os.PathLike[str], *, empty: str = "") -> Self:
        """Read a file; one that cannot be read is a finding with the code AB100.

        Args:
            path: The file; its name is that in the findings.
            empty: What to do about an empty file.
        """
        name = os.fspath(path)
        try:
            file = Path(name)
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                return cls._refused(UNREADABLE_FILE.at(Place(path=name), "this is not a file", hint="name a YAML file"))
            if status.st_size > _MOST_BYTES:
                return cls._refused(_too_large(name, status.st_size))
            data = file.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else None
            return cls._refused(UNREADABLE_FILE.at(Place(path=name), f"cannot be read: {reason or error}"))
        return cls.of_text(data, name, empty=empty)

    @classmethod
    def of_text(cls, text: str | bytes, path: str, *, empty: str = "") -> Self:
        """Read a text.

        Args:
            text: YAML 1.2; bytes are UTF-8.
            path: Names the text in the findings.
            empty: What to do about an empty text.
        """
        if len(text) > _MOST_BYTES:
            return cls._refused(_too_large(path, len(text)))
        unicode, unreadable = _as_text(text, path)
        if unreadable is not None:
            return cls._refused(unreadable)
        source = Source(path, unicode)
        root, problems = _yaml.read(source)
        found = tuple(from_text(problems, source))
        if root is None and not found:
            found = (MISSING_KEY.at(source.place(0), "the file is empty", hint=empty),)
        return cls(Origin(source, root), root, found)

    @classmethod
    def _refused(cls, finding: Diagnostic) -> Self:
        return cls(Origin(), None, (finding,))


def _too_large(path: str, size: int) -> Diagnostic:
    message = f"{size / 1024:.0f} KiB are too much for a definition, at most {_MOST_BYTES // 1024} are read"
    return YAML_SYNTAX.at(Place(path=path), message, hint="put long texts into the mail template")


def _as_text(text: str | bytes, path: str) -> tuple[str, Diagnostic | None]:
    if isinstance(text, str):
        return text.removeprefix("\ufeff"), None
    text = text.removeprefix(b"\xef\xbb\xbf")
    try:
        unicode = text.decode("utf-8")
    except UnicodeDecodeError as error:
        source = Source(path, text.decode("utf-8", "replace"))
        place = source.place(len(text[: error.start].decode("utf-8")))
        message = f"the byte 0x{text[error.start]:02X} is not UTF-8"
        return "", YAML_SYNTAX.at(place, message, hint="save the file with the encoding UTF-8")
    if "\0" in unicode:
        return "", YAML_SYNTAX.at(Place(path=path), "this is binary data, not text", hint="name a YAML file in UTF-8")
    return unicode, None
