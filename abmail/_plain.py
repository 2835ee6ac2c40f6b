"""The plain text of a mail, gathered while its texts and tags go by."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Plain", "Tag", "Text", "may_hide"]

_BLOCKS = {
    1: "address article body caption dd div dt figure footer form header hr li main nav section td th tr",
    2: "blockquote center dl h1 h2 h3 h4 h5 h6 ol p pre table ul",
}
_BREAKS = {slash + name: breaks for breaks, names in _BLOCKS.items() for name in names.split() for slash in ("", "/")}
_INLINE = frozenset({"a", "/a", "br", "img", "li"})
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})  # nothing is inside that could be hidden
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all", re.IGNORECASE)
_SPACES = re.compile(r"[\t\n\f\r ]+")
_BULLET = "-"


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
        if raw.isspace():
            return cls("", before=True, after=True)
        text = _SPACES.sub(" ", raw)
        if "&" in text or not text.isascii():
            text = unescape(text).replace("\u00a0", " ")
        return cls(text.strip(" "), text.startswith(" "), text.endswith(" "))


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


class Plain:
    """Gathers the plain text of a mail while its texts and tags go by.

    Args:
        addresses: Of the links, by their number in the mail.
    """

    __slots__ = ("_addresses", "_breaks", "_depth", "_hidden", "_link", "_parts", "_raw", "_space")

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._parts: list[str] = []
        self._raw = ""  # a text that may go on
        self._breaks = 0  # line ends owed before the next word
        self._space = False
        self._hidden = ""  # name of the element that is left out
        self._depth = 0  # how many of that name are open, 0 while text is seen
        self._link: tuple[str, int] | None = None  # address, and the number of parts before the link

    def add(self, words: Iterable[str | Text | Tag], first_link: int) -> None:
        """Take the next texts and tags; a str is a text that may go on.

        Args:
            words: The texts and tags of one stretch of HTML.
            first_link: Number in the mail of the first link in that stretch.
        """
        for word in words:
            if type(word) is str:
                self._raw += word
                continue
            if self._raw:
                self._text(Text.of(self._raw))
                self._raw = ""
            if type(word) is Text:
                self._text(word)
            elif type(word) is Tag and (word.matters or self._depth):
                self._tag(word, first_link)

    def result(self) -> str:
        """The whole text."""
        if self._raw:
            self._text(Text.of(self._raw))
            self._raw = ""
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
        if tag.breaks > self._breaks and (name.startswith("/") or self._parts[-1:] != [_BULLET]):
            self._breaks = tag.breaks
        if name in _INLINE:
            self._inline(tag, first_link)

    def _word(self, text: str) -> None:
        if self._parts:
            self._parts.append("\n" * self._breaks or (" " if self._space else ""))
        self._parts.append(text)
        self._breaks, self._space = 0, False

    def _inline(self, tag: Tag, first_link: int) -> None:
        if tag.name == "br":
            self._breaks = min(self._breaks + 1, 2)
        elif tag.name == "li":
            self._word(_BULLET)
            self._space = True
        elif tag.name == "img":
            if tag.alt is not None:
                self._text(tag.alt)
        else:  # links don't nest: the next one ends the one before
            self._end_link()
            self._link = (self._address(tag, first_link), len(self._parts)) if tag.name == "a" else None

    def _address(self, tag: Tag, first_link: int) -> str:
        address = "" if tag.link is None else self._addresses[first_link + tag.link]
        return "" if address.startswith("#") else address.removeprefix("mailto:").removeprefix("tel:")

    def _end_link(self) -> None:
        address, before = self._link or ("", 0)
        if not address:
            return
        label = "".join(self._parts[before:]).strip()
        if label == address:
            return
        space = self._space
        if label:
            self._space, self._breaks = True, 0
        self._word(f"<{address}>" if label else address)
        self._space = space
