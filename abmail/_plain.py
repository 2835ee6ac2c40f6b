"""The plain text of a mail, gathered while its texts and tags go by."""

from __future__ import annotations

import re
from functools import lru_cache
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BULLET", "Ended", "Passage", "Plain", "Tag", "Text", "may_hide", "shown_address"]

_BLOCKS = {
    1: "address article body caption dd div dt figure footer form header hr li main nav section td th tr",
    2: "blockquote center dl h1 h2 h3 h4 h5 h6 ol p pre table ul",
}
_BREAKS = {slash + name: breaks for breaks, names in _BLOCKS.items() for name in names.split() for slash in ("", "/")}
_INLINE = frozenset({"a", "/a", "br", "img", "li"})
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})  # nothing is inside that could be hidden
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all", re.IGNORECASE)
_OTHER_SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f"  # in ASCII, what `str.split` takes for a space
BULLET = "-"
_MOST_REMEMBERED = 256  # decoded texts


class Text(NamedTuple):
    """A text between two tags.

    Attributes:
        words: What is seen of it, spaces collapsed, none at its ends.
        before: Whether a space stands before the words.
        after: Whether one stands behind them.
    """

    words: str
    before: bool
    after: bool

    @classmethod
    def of(cls, raw: str) -> Text:
        """Read a text as it is written."""
        if raw.isascii() and "&" not in raw:
            return cls(" ".join(raw.split()), raw[:1].isspace(), raw[-1:].isspace())
        if raw.isspace():
            return cls("", before=True, after=True)
        text = raw
        for space in _OTHER_SPACES:
            if space in text:
                text = text.replace(space, " ")
        while "  " in text:  # each turn halves the longest run
            text = text.replace("  ", " ")
        text = _decoded(text).replace("\u00a0", " ")
        return cls(text.strip(" "), text.startswith(" "), text.endswith(" "))


@lru_cache(maxsize=_MOST_REMEMBERED)
def _decoded(text: str) -> str:
    """With character references decoded: what fills up a preview text has a hundred, and is the same each time."""
    return unescape(text)


class Tag(NamedTuple):
    """A tag.

    Attributes:
        name: In lower case, with the slash of a closing tag.
        breaks: Line ends that it asks for.
        hides: Whether an element that is not displayed begins with it.
        link: Number of its link in the stretch of HTML where it stands.
        alt: What is read in a picture's place.
        matters: Whether it does anything where it is displayed.
    """

    name: str
    breaks: int
    hides: bool
    link: int | None
    alt: Text | None
    matters: bool

    @classmethod
    def of(cls, name: str, *, hidden: bool = False, style: str = "", link: int | None = None, alt: str = "") -> Tag:
        """Note what a plain text needs of a tag."""
        opens = not name.startswith("/") and name not in _VOID
        hides = name == "template" or (opens and (hidden or _HIDING.search(style) is not None))
        breaks = _BREAKS.get(name, 0)
        matters = breaks > 0 or hides or name in _INLINE
        return cls(name, breaks, hides, link, Text.of(alt) if alt else None, matters)


def may_hide(attributes: str) -> bool:
    """A test that costs next to nothing: whether attributes, in lower case, could keep an element from being seen."""
    return "display" in attributes or "hid" in attributes


class Passage:
    """The texts and tags of one stretch of HTML; a text at its border may go on in the next stretch.

    Args:
        first: A text at the beginning; all there is where no tag stands in the stretch.
        inner: The texts and tags between the first and the last tag, with these.
        last: A text behind the last tag.
    """

    __slots__ = ("first", "fixed", "inner", "last")

    def __init__(self, first: str, inner: tuple[Text | Tag, ...] = (), last: str = "") -> None:
        self.first, self.inner, self.last = first, inner, last
        self.fixed = False  # whether many mails hold this very object


class Ended(NamedTuple):
    """A link that came to its end.

    Attributes:
        number: Of the link in its mail.
        label: What stands in it.
        shown: Whether its address stands behind it: there is one, and the label is another.
    """

    number: int
    label: str
    shown: bool


class _Open(NamedTuple):
    """A link that goes on.

    Attributes:
        number: Of the link in its mail.
        part: The first part that belongs to it.
    """

    number: int
    part: int


def shown_address(href: str) -> str:
    """What a plain text shows of a link's value."""
    return "" if href.startswith("#") else href.removeprefix("mailto:").removeprefix("tel:")


class Plain:
    """Gathers the plain text of a mail while its passages go by.

    Args:
        addresses: What is shown of the links, by their number in the mail.

    Attributes:
        ended: The links that came to their end.
        raw: A text that may go on.
    """

    __slots__ = ("_addresses", "_breaks", "_bullet", "_depth", "_hidden", "_link", "_parts", "_space", "ended", "raw")

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._parts: list[str] = []
        self.raw = ""
        self._breaks = 0  # line ends owed before the next word
        self._space = False
        self._bullet = False  # whether the last word is a list's dash
        self._hidden = ""  # name of the element that is left out
        self._depth = 0  # how many of that name are open, 0 while text is seen
        self._link: _Open | None = None
        self.ended: list[Ended] = []

    def add(self, passage: Passage, first_link: int) -> None:
        """Take the next passage.

        Args:
            passage: What comes next.
            first_link: Number in the mail of its first link.
        """
        self.raw += passage.first
        if not passage.inner:
            return
        if self.raw:
            self._text(Text.of(self.raw))
        self.raw = passage.last
        for word in passage.inner:
            if type(word) is Text:
                self._text(word)
            elif type(word) is Tag and (word.matters or self._depth):
                self._tag(word, first_link)

    def result(self) -> str:
        """The whole text."""
        if self.raw:
            self._text(Text.of(self.raw))
            self.raw = ""
        return "".join(self._parts).strip() + "\n" if self._parts else ""

    def _text(self, text: Text) -> None:
        if self._depth:
            return
        self._space |= text.before
        if text.words:
            self._word(text.words)
            self._space = text.after

    def _tag(self, tag: Tag, first_link: int) -> None:
        name = tag.name
        if self._depth:
            if name.removeprefix("/") == self._hidden:
                self._depth += -1 if name.startswith("/") else 1
            return
        if tag.hides:
            self._hidden, self._depth = name, 1
            return
        # A paragraph that opens a list's item stays on its line.
        if tag.breaks > self._breaks and (name.startswith("/") or not self._bullet):
            self._breaks = tag.breaks
        if name in _INLINE:
            self._inline(tag, first_link)

    def _word(self, text: str) -> None:
        if self._parts:
            self._parts.append("\n" * self._breaks or (" " if self._space else ""))
        self._parts.append(text)
        self._breaks, self._space, self._bullet = 0, False, text == BULLET

    def _inline(self, tag: Tag, first_link: int) -> None:
        if tag.name == "br":
            self._breaks = min(self._breaks + 1, 2)
        elif tag.name == "li":
            self._word(BULLET)
            self._space = True
        elif tag.name == "img":
            if tag.alt is not None:
                self._text(tag.alt)
        else:  # links don't nest: the next one ends the one before
            self._end_link()
            if tag.name == "a" and tag.link is not None:
                self._link = _Open(first_link + tag.link, len(self._parts))

    def _end_link(self) -> None:
        if self._link is None:
            return
        number, begin = self._link
        self._link = None
        address, label = self._addresses[number], "".join(self._parts[begin:]).strip()
        shown = address not in ("", label)
        self.ended.append(Ended(number, label, shown))
        if not shown:
            return
        space = self._space
        if label:
            self._space, self._breaks = True, 0
        self._word(f"<{address}>" if label else address)
        self._space = space
