"""A mail's HTML read as characters: find its links, replace only them, and tell it as plain text.

Markup is cut as the HTML standard's tokenizer does (WHATWG HTML, section 13.2.5), without building a tree: a tree would
write quotes, entities and conditional comments anew. Every pattern is possessive, so that no input takes more than
linear time. Scripts count as switched off, as they are in mail programs.

A template writes the same pieces into every mail, with a few words between them. `PageCutter` reads such a piece once;
how the tags lie does not depend on where the pieces end.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import unescape
from html.entities import html5
from typing import TYPE_CHECKING, NamedTuple

from abmail._plain import Passage, Tag, Text, may_hide, shown_address
from abmail._retelling import Retelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Link", "Page", "PageCutter"]

_SPACE = r"[\t\n\f\r ]"
_NAME = r"[A-Za-z][^\t\n\f\r />]*+"
_VALUE = (
    r"""(?:"(?P<double>[^"]*+)(?:"|\Z)|'(?P<single>[^']*+)(?:'|\Z)|(?P<bare>[^\t\n\f\r >"'][^\t\n\f\r >]*+)|(?=>))"""
)
_ATTRIBUTE_TEXT = rf"(?P<key>[^\t\n\f\r />][^\t\n\f\r />=]*+)(?:{_SPACE}*+={_SPACE}*+{_VALUE})?+"
_ATTRIBUTE = re.compile(_ATTRIBUTE_TEXT)
_ATTRIBUTES = rf"(?:[\t\n\f\r /]++|{re.sub(r'[?]P<[a-z]+>', '?:', _ATTRIBUTE_TEXT)})*+"
_RAW_TEXT = "iframe|noembed|noframes|script|style|textarea|title|xmp"  # elements whose content holds no markup
_MARKUP = re.compile(
    r"<!--(?:-?>|(?s:.*?)(?:--!?>|\Z))"
    rf"|<(?P<raw>(?i:{_RAW_TEXT}))(?=[\t\n\f\r />]){_ATTRIBUTES}>(?s:.*?)(?:(?=</(?i:(?P=raw))[\t\n\f\r />])|\Z)"
    rf"|<(?P<name>/?{_NAME})(?P<attributes>{_ATTRIBUTES})>"
    r"|<(?=/?[A-Za-z])(?s:.*)"  # a tag without an end: the standard drops it with all that follows
    r"|</>|<(?:[!?]|/[^A-Za-z>])[^>]*+>?"
)
_CONDITIONAL = "<!--[if"
# What stands before the body where no tag says that it begins. The group as a whole is not possessive: before Python
# 3.11.5 such a group keeps the beginning of what it could not finish.
_HEAD = re.compile(
    rf"(?:{_SPACE}*+(?:<!--(?s:.*?)-->|<!(?i:doctype)[^>]*+>"
    rf"|<(?:/(?i:head)|(?i:html|head|meta|link|base))(?=[\t\n\f\r />]){_ATTRIBUTES}>"
    rf"|<(?P<raw>(?i:title|style|script))(?=[\t\n\f\r />]){_ATTRIBUTES}>(?s:.*?)</(?i:(?P=raw)){_SPACE}*+>))*"
)
_LEADS_AWAY = re.compile("(?i:a|area|v:.*)")

_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9A-Fa-f]++;?|[A-Za-z][A-Za-z0-9]*+;?)(?P<equals>=?)")
_ENDS = "".join(map(chr, range(0x21)))
_OPEN_END = re.compile(r"</?\Z")
_APART = Text("", before=False, after=False)  # keeps two texts apart
_MOST_REMEMBERED = 1024  # pieces of templates, whichever definition has them
_PATIENCE = 32  # pieces in which one tag may lie before what remains is read as a whole


class Link(NamedTuple):
    """Where a tag carries a reader.

    Attributes:
        href: The value as a browser reads it: references decoded once, white space around it dropped.
        tracked: False where the author asked for no tracking (`data-abmail-notrack`).
        shown: False inside a conditional comment.
    """

    href: str
    tracked: bool
    shown: bool


class _Borders(NamedTuple):
    """Where body and page begin and end, as numbers of the parts that begin there; None for none.

    Attributes:
        body_begin: Behind the first `<body>`.
        body_end: At the last `</body>`.
        page_end: At the last `</html>`.
    """

    body_begin: int | None
    body_end: int | None
    page_end: int | None


class _Stretch(NamedTuple):
    """What a stretch of HTML holds that begins between two tags.

    Attributes:
        parts: Its characters, cut so that each link's value and the borders of body and page begin a part.
        links: Its links, each with the number of the part that is its value.
        passage: What a plain text needs of it; a tag `a` knows the number of its link.
        borders: None where neither body nor page begins or ends here.
        rest: The beginning of a tag that does not end here.
    """

    parts: tuple[str, ...]
    links: tuple[tuple[int, Link], ...]
    passage: Passage
    borders: _Borders | None
    rest: str


class Page:
    """A mail's HTML, cut at its links.

    Attributes:
        links: Of the tags `a` and `area` and of VML shapes (for Outlook), in order, with those in conditional comments.
    """

    __slots__ = ("_begin", "_body_end", "_page_end", "_parts", "_passages", "_places", "_retelling", "links")

    def __init__(self, stretches: Iterable[_Stretch], retelling: Retelling) -> None:
        self._retelling = retelling
        parts: list[str] = []
        places: list[int] = []
        self.links: list[Link] = []
        self._passages: list[tuple[Passage, int]] = []  # each with the number of its first link
        self._begin: int | None = None
        self._body_end: int | None = None
        self._page_end: int | None = None
        for new_parts, new_links, passage, borders, _ in stretches:
            self._passages.append((passage, len(self.links)))
            for place, link in new_links:
                places.append(len(parts) + place)
                self.links.append(link)
            if borders:
                self._note(borders, len(parts))
            parts += new_parts
        self._parts, self._places = parts, places

    def _note(self, borders: _Borders, base: int) -> None:
        if borders.body_begin is not None and self._begin is None:
            self._begin = base + borders.body_begin
        if borders.body_end is not None:
            self._body_end = base + borders.body_end
        if borders.page_end is not None:
            self._page_end = base + borders.page_end

    @classmethod
    def of(cls, html: str) -> Page:
        """Cut a whole page."""
        return cls([_stretch(html, ended=True)], Retelling())

    def html(self, hrefs: Mapping[int, str], *, first: str = "", last: str = "") -> str:
        """The HTML with some links' values replaced and something put into the body; nothing else is touched.

        Args:
            hrefs: Number of a link -> its new value, which needs no escaping.
            first: HTML that goes behind `<body>`, else behind the head.
            last: HTML that goes before the last `</body>`, else before the last `</html>`, else to the end.
        """
        return "".join(self.pieces(hrefs, first=first, last=last))

    def pieces(self, hrefs: Mapping[int, str], *, first: str = "", last: str = "") -> list[str]:
        """Likewise, in pieces of which most are the same in every mail."""
        parts = [*self._parts, ""]
        for number, value in hrefs.items():
            parts[self._places[number]] = value
        end = self._page_end if self._body_end is None else self._body_end
        if last:
            parts.insert(len(parts) - 1 if end is None else end, last)
        if not first:
            return parts
        if self._begin is None:
            html = "".join(parts)
            head = _HEAD.match(html)
            end = head.end() if head else 0
            return [html[:end], first, html[end:]]
        parts.insert(self._begin, first)
        return parts

    def text(self, hrefs: Mapping[int, str]) -> str:
        r"""Tell the HTML as plain text: blocks apart, lists with dashes, pictures by alt text, links with address.

        What is not displayed (scripts, comments, hidden blocks such as a preheader) is left out.

        Args:
            hrefs: Number of a link -> the address to show in its place.

        >>> Page.of("<h1>Hello</h1><p>See <a href='https://example.com/'>our&nbsp;page</a>.</p>").text({})
        'Hello\n\nSee our page <https://example.com/>.\n'
        """
        addresses = [shown_address(hrefs.get(number, link.href)) for number, link in enumerate(self.links)]
        return self._retelling.text(self._passages, addresses)


class PageCutter:
    """Cuts the HTML that a template writes; what it has seen of the fixed pieces, it remembers.

    Args:
        fixed: Pieces that come again in every mail.
    """

    __slots__ = ("_fixed", "_known", "_known_tails", "_retelling")

    def __init__(self, fixed: Iterable[str] = ()) -> None:
        self._fixed = frozenset(fixed)
        self._known: dict[str, _Stretch] = {}
        self._known_tails: dict[tuple[str, int], _Stretch] = {}
        self._retelling = Retelling()

    def cut(self, pieces: Iterable[str]) -> Page:
        """Cut a page; the same as `Page.of` of all pieces together.

        Args:
            pieces: The page, cut anywhere.
        """
        known, waiting = self._known, iter(pieces)
        found: list[_Stretch] = []
        rest, waited = "", 0  # the beginning of a tag that goes on, and for how many pieces it does
        for piece in waiting:
            if not rest:
                stretch = known.get(piece) or self._stretch(piece)
                found.append(stretch)
                rest = stretch.rest
                continue
            more = self._go_on(rest, piece)
            found += more
            rest, waited = (more[-1].rest, 0) if more else (rest + piece, waited + 1)
            if waited > _PATIENCE:
                rest += "".join(waiting)
        if rest:
            found.append(_stretch(rest, ended=True))
        return Page(found, self._retelling)

    def _stretch(self, piece: str) -> _Stretch:
        if piece not in self._fixed:
            return _stretch(piece)
        stretch = self._known[piece] = _remembered(piece)
        return stretch

    def _tail(self, piece: str, begin: int) -> _Stretch:
        if piece not in self._fixed:
            return _stretch(piece[begin:])
        key = (piece, begin)
        if key not in self._known_tails:
            self._known_tails[key] = _remembered(piece[begin:])
        return self._known_tails[key]

    def _go_on(self, rest: str, piece: str) -> tuple[_Stretch, ...]:
        """A tag that began before, and what follows it in the piece; nothing where the tag does not end here."""
        found, goes_on = _joined(rest, piece)
        return found if goes_on is None else (*found, self._tail(piece, goes_on))


@lru_cache(maxsize=_MOST_REMEMBERED)
def _joined(rest: str, piece: str) -> tuple[tuple[_Stretch, ...], int | None]:
    """What a tag that began before is with a piece behind it, and where the piece goes on after the tag.

    A template's own links end in the same tags in every mail, and in the mails of other definitions.
    """
    joined = rest + piece
    tag = _MARKUP.match(joined) if ">" in piece else None
    if tag is None or (tag.end() == len(joined) and not _is_whole(tag)):
        # What looked like the beginning of a tag may be none: "5 <" goes on with " 6".
        return (() if _MARKUP.match(joined) or _OPEN_END.fullmatch(joined) else (_stretch(joined),)), None
    if tag.end() < len(rest):
        return (_stretch(joined),), None
    return (_stretch(joined[: tag.end()], ended=True),), tag.end() - len(rest)


def _stretch(html: str, *, ended: bool = False) -> _Stretch:
    """Read HTML that begins between two tags; without ``ended`` more of it may follow."""
    if "<" not in html:
        return _Stretch((html,) if html else (), (), Passage(html), None, "")
    return _Reader(html).read(ended=ended)


@lru_cache(maxsize=_MOST_REMEMBERED)
def _remembered(html: str) -> _Stretch:
    """The same for a piece of a template, which other definitions may share."""
    stretch = _stretch(html)
    stretch.passage.fixed = True
    return stretch


class _Reader:
    """Reads a stretch tag by tag."""

    __slots__ = (
        "_body_begin", "_body_end", "_first", "_html", "_last", "_links", "_page_end", "_parts", "_position", "_words",
    )  # fmt: skip

    def __init__(self, html: str) -> None:
        self._html = html
        self._parts: list[str] = []
        self._position = 0  # where the next part begins
        self._links: list[tuple[int, Link]] = []
        self._words: list[Text | Tag] = []
        self._first = self._last = ""  # texts at the borders, which may go on in the next stretch
        self._body_begin: int | None = None
        self._body_end: int | None = None
        self._page_end: int | None = None

    def read(self, *, ended: bool) -> _Stretch:
        """Read up to the end, or to the beginning of a tag that does not end."""
        end = self._read(ended=ended)
        self._cut(end)
        borders = _Borders(self._body_begin, self._body_end, self._page_end)
        return _Stretch(
            parts=tuple(self._parts),
            links=tuple(self._links),
            passage=Passage(self._first, tuple(self._words), self._last),
            borders=borders if any(each is not None for each in borders) else None,
            rest=self._html[end:],
        )

    def _read(self, *, ended: bool) -> int:
        html, position = self._html, 0
        for markup in _MARKUP.finditer(html):
            begin, end = markup.span()
            if position:
                if position < begin:
                    self._words.append(Text.of(html[position:begin]))
            else:
                self._first = html[:begin]
            if not ended and end == len(html) and not _is_whole(markup):
                return begin
            self._markup(markup)
            position = end
        open_end = None if ended else _OPEN_END.search(html, position)
        end = open_end.start() if open_end else len(html)
        if position:
            self._last = html[position:end]
        else:
            self._first = html[:end]
        return end

    def _cut(self, position: int) -> int:
        """Begin a new part; returns its number."""
        self._parts.append(self._html[self._position : position])
        self._position = position
        return len(self._parts)

    def _markup(self, markup: re.Match[str]) -> None:
        name = markup["name"]
        if not name:
            self._words.append(_APART)
            if self._html.startswith(_CONDITIONAL, markup.start()):
                self._conditional(markup)
            return
        name = name.lower()
        leads_away = name[0] in "av" and _LEADS_AWAY.fullmatch(name)
        written = markup["attributes"]
        if written and (leads_away or name == "img" or may_hide(written.lower())):
            self._tag(name, _attributes(self._html, markup), leads_away=bool(leads_away))
        else:
            self._words.append(Tag.of(name))
        self._border(name, markup)

    def _conditional(self, comment: re.Match[str]) -> None:
        for inside in _MARKUP.finditer(self._html, comment.start() + len(_CONDITIONAL), comment.end()):
            if inside["name"] and _LEADS_AWAY.fullmatch(inside["name"]):
                self._link(_attributes(self._html, inside), shown=False)

    def _tag(self, name: str, found: Mapping[str, tuple[int, int]], *, leads_away: bool) -> None:
        style, alt = (self._html[slice(*found.get(key, (0, 0)))] for key in ("style", "alt"))
        link = self._link(found, shown=True) if leads_away else None
        self._words.append(
            Tag.of(name, hidden="hidden" in found, style=style, link=link, alt=alt if name == "img" else "")
        )

    def _link(self, found: Mapping[str, tuple[int, int]], *, shown: bool) -> int | None:
        """Note a tag's link; returns its number in the stretch."""
        if "href" not in found:
            return None
        begin, end = found["href"]
        part = self._cut(begin)
        self._cut(end)
        href, tracked = _attribute_text(self._html[begin:end]), "data-abmail-notrack" not in found
        self._links.append((part, Link(href, tracked, shown)))
        return len(self._links) - 1

    def _border(self, name: str, markup: re.Match[str]) -> None:
        if name == "body" and self._body_begin is None:
            self._body_begin = self._cut(markup.end())
        elif name == "/body":
            self._body_end = self._cut(markup.start())
        elif name == "/html":
            self._page_end = self._cut(markup.start())


def _is_whole(markup: re.Match[str]) -> bool:
    """Whether markup that reaches to the end of what is known so far could not go on."""
    if markup["name"]:
        return True
    if markup["raw"]:
        return False
    written = markup[0]
    if written.startswith("<!--"):
        return written.endswith(("-->", "--!>"))
    return written.endswith(">") and re.match(r"</?[A-Za-z]", written) is None


def _attributes(html: str, tag: re.Match[str]) -> dict[str, tuple[int, int]]:
    """Attribute name in lower case -> where its value stands, without quotes; the first of the same name counts."""
    found: dict[str, tuple[int, int]] = {}
    for match in _ATTRIBUTE.finditer(html, *tag.span("attributes")):
        kind = match.lastgroup or "key"
        found.setdefault(match["key"].lower(), (match.end(), match.end()) if kind == "key" else match.span(kind))
    return found


def _attribute_text(raw: str) -> str:
    """An attribute's value with its character references decoded once, white space around it dropped.

    In attributes, unlike in text, a reference without semicolon stands for itself before a letter, digit or "=":
    `?a=1&copy=2` is a query with a parameter `copy`, no copyright sign (WHATWG HTML, section 13.2.5.73).
    """
    return (_REFERENCE.sub(_decoded, raw) if "&" in raw else raw).strip(_ENDS)


def _decoded(match: re.Match[str]) -> str:
    equals = match["equals"]
    reference = match[0].removesuffix(equals)
    if reference[1] == "#":
        return unescape(reference) + equals
    known = reference[1:] in html5 and (reference.endswith(";") or not equals)
    return (html5[reference[1:]] if known else reference) + equals
