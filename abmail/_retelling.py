"""The plain text of pages that one template writes: what is the same in many mails is worked out once.

Mails of one template differ in a few words and in where their links lead. Where the words of a mail stand between the
same pieces as those of an earlier one, its text is the earlier one's with other words and addresses in it. A word that
could change how what stands beside it reads (a space at its end, the beginning of a character reference) is none of
these: such a mail is told from the beginning, as is the first of its kind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from abmail._plain import BULLET, Passage, Plain, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Retelling"]

_MOST_KINDS = 256  # of pages that are remembered
_BEGIN, _END = "\ue000", "\ue001"  # around a number, in place of a word or an address
_SLOT = re.compile(f"{_BEGIN}([wa])([0-9]+){_END}")
_OPEN_REFERENCE = re.compile(r"&#?[A-Za-z0-9]*\Z")


class _Kind(NamedTuple):
    """How the pages of one kind read.

    Attributes:
        parts: Of the text, with room for words and addresses.
        words: Place of a part -> number of the word that stands there.
        addresses: Place of a part -> number of the link whose address stands there.
        labels: Number of a link, its label in the same form as the whole, and whether its address is shown behind it.
    """

    parts: tuple[str, ...]
    words: tuple[tuple[int, int], ...]
    addresses: tuple[tuple[int, int], ...]
    labels: tuple[tuple[int, str | _Kind, bool], ...]

    @classmethod
    def of(cls, text: str, labels: Iterable[tuple[int, str | _Kind, bool]] = ()) -> _Kind | None:
        """Take a text with slots apart; None where what looks like a slot is none."""
        pieces = _SLOT.split(text)
        parts = [pieces[0]]
        words: list[tuple[int, int]] = []
        addresses: list[tuple[int, int]] = []
        for kind, number, text_behind in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            (words if kind == "w" else addresses).append((len(parts), int(number)))
            parts += ["", text_behind]
        if any(_BEGIN in each or _END in each for each in parts):
            return None
        return cls(tuple(parts), tuple(words), tuple(addresses), tuple(labels))

    def filled(self, words: Sequence[str], addresses: Sequence[str]) -> str:
        """The text with the words and addresses of a mail."""
        parts = list(self.parts)
        for place, number in self.words:
            parts[place] = words[number]
        for place, number in self.addresses:
            parts[place] = addresses[number]
        return "".join(parts)

    def fits(self, words: Sequence[str], addresses: Sequence[str]) -> bool:
        """Whether the same addresses are shown in a mail: none is where a link's label is its address."""
        return all(
            (
                addresses[number] != ""
                and addresses[number] != (label if isinstance(label, str) else label.filled(words, addresses))
            )
            == shown
            for number, label, shown in self.labels
        )


class Retelling:
    """Tells pages as plain text, and remembers kinds of pages."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[tuple[object, ...], _Kind | None] = {}

    def text(self, passages: Sequence[tuple[Passage, int]], addresses: Sequence[str]) -> str:
        """The same as `Plain` would tell.

        Args:
            passages: Of the page, each with the number of its first link.
            addresses: What is shown of the links.
        """
        words: list[str] = []
        page: list[object] = []
        for passage, first_link in passages:
            if passage.fixed:
                page.append(passage)
            elif passage.inner:
                if passage.first or passage.last:
                    return _told(passages, addresses)
                page.append((passage.inner, first_link))
            elif (word := _word(passage.first)) is not None:
                words.append(word)
                page.append(None)
            else:
                return _told(passages, addresses)
        key = tuple(page)
        kind = self._kinds.get(key)
        if kind is not None and kind.fits(words, addresses):
            return kind.filled(words, addresses).strip() + "\n"
        if kind is None and key in self._kinds:
            self._kinds[key] = _kind(passages, addresses)
        elif len(self._kinds) < _MOST_KINDS:
            self._kinds.setdefault(key, None)
        return _told(passages, addresses)


def _word(raw: str) -> str | None:
    """A text that reads the same wherever it stands; None where it is none."""
    words, before, after = Text.of(raw)
    if before or after or not words or words == BULLET or raw.rfind("&") > raw.rfind(";"):
        return None
    return words


def _told(passages: Sequence[tuple[Passage, int]], addresses: Sequence[str]) -> str:
    return _read(passages, addresses).result()


def _read(passages: Sequence[tuple[Passage, int]], addresses: Sequence[str]) -> Plain:
    plain = Plain(addresses)
    for passage, first_link in passages:
        plain.add(passage, first_link)
    return plain


def _kind(passages: Sequence[tuple[Passage, int]], addresses: Sequence[str]) -> _Kind | None:
    """How pages like this one read; None where nothing is seen, or a word's surroundings decide how it reads."""
    real = _read(passages, addresses)
    real.result()
    slots = ["" for _ in addresses]
    for number, _, shown in real.ended:
        slots[number] = f"{_BEGIN}a{number}{_END}" if shown else ""
    plain, count = Plain(slots), 0
    for passage, first_link in passages:
        if passage.fixed or passage.inner:
            plain.add(passage, first_link)
        elif _OPEN_REFERENCE.search(plain.raw):
            return None
        else:
            plain.add(Passage(f"{_BEGIN}w{count}{_END}"), first_link)
            count += 1
    text = plain.result()
    if not text:
        return None
    labels: list[tuple[int, str | _Kind, bool]] = []
    for number, label, shown in plain.ended:
        inside = _Kind.of(label)
        if inside is None:
            return None
        labels.append((number, inside if inside.words or inside.addresses else label, shown))
    return _Kind.of(text, labels)
