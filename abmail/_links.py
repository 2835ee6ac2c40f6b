"""A mail's HTML read as characters: find its links, replace only them, and tell it as plain text.

Markup is cut as the HTML standard's tokenizer does (WHATWG HTML, section 13.2.5), without building a tree: a tree would
write quotes, entities and conditional comments anew. Every pattern is possessive, so that no input takes more than
linear time. Scripts count as switched off, as they are in mail programs.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from abmail.recipient import email_domain, normalise_email

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["MAX_TARGET", "Anchor", "Page", "link_target", "replace_text_links"]

MAX_TARGET = 2_000  # octets of a redirect's target

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
    r"|<(?:[!?]|/[^A-Za-z])[^>]*+>?"
)
_CONDITIONAL = "<!--[if"
_LEADS_AWAY = re.compile("(?i:a|area|v:.*)")

_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9A-Fa-f]++;?|[A-Za-z][A-Za-z0-9]*+;?)(?P<equals>=?)")
_ABSOLUTE = re.compile(r"(?i:https?)://(?P<authority>[^/?#]*+)(?P<rest>.*+)", re.DOTALL)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]@<>\"^`{|}%]+)(?P<port>:[0-9]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_ENDS = "".join(map(chr, range(0x21)))
_KEPT = "".join(map(chr, range(0x21, 0x7F))).translate(dict.fromkeys(map(ord, '"<>`')))
# A URL written in a text: RFC 3986's characters; those that close a sentence or a bracket are not its last ones.
_TEXT_URL = re.compile(r"(?<![A-Za-z0-9])(?i:https?)://[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]++")
_CLOSING = ".,;:!?'"


class Anchor(NamedTuple):
    """A tag that carries a reader away.

    Attributes:
        tag: Where the tag begins.
        start: Where the href's value begins, inside its quotes.
        end: Where it ends.
        href: The value as a browser reads it: references decoded once, white space around it dropped.
        tracked: False where the author asked for no tracking (`data-abmail-notrack`).
        shown: False inside a conditional comment.
    """

    tag: int
    start: int
    end: int
    href: str
    tracked: bool
    shown: bool


class Page:
    """A mail's HTML, cut into text and markup once.

    Attributes:
        anchors: Tags `a` and `area`, and VML shapes (for Outlook), with an href; in order, with conditional comments.
    """

    __slots__ = ("_html", "_markups", "anchors")

    def __init__(self, html: str) -> None:
        self._html = html
        self._markups = list(_MARKUP.finditer(html))
        self.anchors = tuple(_anchors(html, self._markups, shown=True))

    def html(self, hrefs: Mapping[int, str], *, last: str = "") -> str:
        """The HTML with some hrefs' values replaced and something put at the body's end; nothing else is touched.

        Args:
            hrefs: Where a value begins -> the new value, which needs no escaping.
            last: HTML that goes before the last `</body>`, else before the last `</html>`, else to the end.
        """
        changes = [(each.start, each.end, hrefs[each.start]) for each in self.anchors if each.start in hrefs]
        end = self._body_end()
        pieces, position = [], 0
        for start, stop, new in sorted([*changes, (end, end, last)]):
            pieces += [self._html[position:start], new]
            position = stop
        return "".join([*pieces, self._html[position:]])

    def text(self, hrefs: Mapping[int, str]) -> str:
        r"""Tell the HTML as plain text: blocks apart, lists with dashes, pictures by alt text, links with address.

        What is not displayed (scripts, comments, hidden blocks such as a preheader) is left out.

        Args:
            hrefs: Where a value begins -> the address to show in its place.

        >>> Page("<h1>Hello</h1><p>See <a href='https://example.com/'>our&nbsp;page</a>.</p>").text({})
        'Hello\n\nSee our page <https://example.com/>.\n'
        """
        plain = _Plain(self._html, {each.tag: hrefs.get(each.start, each.href) for each in self.anchors})
        position = 0
        for markup in self._markups:
            if position < markup.start():
                plain.add_text(self._html[position : markup.start()])
            if name := markup["name"]:
                plain.add_tag(name.lower(), markup)
            position = markup.end()
        plain.add_text(self._html[position:])
        return plain.result()

    def _body_end(self) -> int:
        end = len(self._html)
        for markup in reversed(self._markups):
            name = (markup["name"] or "").lower()
            if name == "/body":
                return markup.start()
            if name == "/html" and end == len(self._html):
                end = markup.start()
        return end


def link_target(href: str) -> str | None:
    """The ASCII form of an absolute web link, as a browser would request it; None for any other link.

    White space is treated as in the WHATWG URL standard (section 4.4), the host becomes A-labels, other characters
    outside ASCII are percent-encoded; path, query and fragment stay as written otherwise.

    Args:
        href: The link, references decoded.

    Raises:
        ValueError: The link cannot be a redirect's target; the message says why.

    >>> link_target(" https://Example.com/a b?q=é#top ")
    'https://Example.com/a%20b?q=%C3%A9#top'
    >>> link_target("mailto:news@example.com") is None
    True
    """
    url = re.sub(r"[\t\n\r]", "", href.strip(_ENDS))
    match = _ABSOLUTE.fullmatch(url)
    if match is None:
        return None
    if _CONTROL.search(url):
        raise ValueError("it holds a control character or a backslash")
    rest = quote(match["rest"], safe=_KEPT)
    target = f"{url[: match.start('authority')]}{_ascii_host(match['authority'])}{rest}"
    if len(target) > MAX_TARGET:
        raise ValueError(f"it is {len(target)} characters long, at most {MAX_TARGET} are possible")
    return target


def replace_text_links(text: str, replace: Callable[[str], str]) -> str:
    """Give each web link that stands in a plain text to `replace`, and put its answer in the link's place."""

    def swap(match: re.Match[str]) -> str:
        url = _without_closing(match[0])
        return replace(url) + match[0][len(url) :]

    return _TEXT_URL.sub(swap, text)


def _anchors(html: str, markups: Iterable[re.Match[str]], *, shown: bool) -> Iterator[Anchor]:
    for markup in markups:
        name = markup["name"]
        if name and name[0] in "aAvV" and _LEADS_AWAY.fullmatch(name):
            found = _attributes(html, markup)
            if "href" in found:
                start, end = found["href"]
                href, tracked = _attribute_text(html[start:end]), "data-abmail-notrack" not in found
                yield Anchor(markup.start(), start, end, href, tracked, shown)
        elif shown and html.startswith(_CONDITIONAL, markup.start()):
            inside = _MARKUP.finditer(html, markup.start() + len(_CONDITIONAL), markup.end())
            yield from _anchors(html, inside, shown=False)


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


def _ascii_host(authority: str) -> str:
    if "@" in authority:
        raise ValueError("it holds a user name or password before the host")
    match = _HOST.fullmatch(authority)
    if match is None:
        raise ValueError(f"its host {authority!r} is none")
    if authority.isascii():
        return authority
    port = match["port"] or ""
    # The same rules as for addresses (IDNA 2008): one library decides what a domain is.
    return email_domain(normalise_email(f"a@{authority.removesuffix(port)}")) + port


def _without_closing(url: str) -> str:
    """The URL without the signs that end the sentence or the bracket around it."""
    surplus = {close: url.count(close) - url.count(opening) for opening, close in ("()", "[]")}
    end = len(url)
    while url[end - 1] in _CLOSING or surplus.get(url[end - 1], 0) > 0:  # the slashes after the scheme stay
        end -= 1
        if url[end] in surplus:
            surplus[url[end]] -= 1
    return url[:end]


_BLOCKS = {
    1: "address article body caption dd div dt figure footer form header hr li main nav section td th tr",
    2: "blockquote center dl h1 h2 h3 h4 h5 h6 ol p pre table ul",
}
_BREAKS = {slash + name: breaks for breaks, names in _BLOCKS.items() for name in names.split() for slash in ("", "/")}
_INLINE = frozenset({"a", "/a", "br", "img", "li"})
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})  # nothing is inside that could be hidden
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all", re.IGNORECASE)
_SPACES = re.compile(rf"{_SPACE}+")
_BULLET = "-"


class _Plain:
    """Gathers the plain text of a mail while its texts and tags go by."""

    __slots__ = ("_addresses", "_breaks", "_depth", "_hidden", "_html", "_link", "_parts", "_space")

    def __init__(self, html: str, addresses: Mapping[int, str]) -> None:
        self._html = html
        self._addresses = addresses  # where a link's tag begins -> its address
        self._parts: list[str] = []
        self._breaks = 0  # line ends owed before the next word
        self._space = False
        self._hidden = ""  # name of the element that is left out
        self._depth = 0  # how many of that name are open, 0 while text is seen
        self._link: tuple[str, int] | None = None  # address, and the number of parts before the link

    def add_text(self, raw: str) -> None:
        if self._depth:
            return
        if raw.isspace():
            self._space = True
            return
        text = _SPACES.sub(" ", raw)
        if "&" in text or not text.isascii():
            text = unescape(text).replace("\u00a0", " ")
        words = text.strip(" ")
        self._space |= text.startswith(" ")
        if words:
            self._word(words)
            self._space = text.endswith(" ")

    def add_tag(self, name: str, tag: re.Match[str]) -> None:
        if self._depth:
            if name.removeprefix("/") == self._hidden:
                self._depth += -1 if name.startswith("/") else 1
            return
        if self._hides(name, tag):
            self._hidden, self._depth = name, 1
            return
        # A paragraph that opens a list's item stays on its line.
        if name in _BREAKS and (name.startswith("/") or self._parts[-1:] != [_BULLET]):
            self._breaks = max(self._breaks, _BREAKS[name])
        if name in _INLINE:
            self._inline(name, tag)

    def result(self) -> str:
        return "".join(self._parts).strip() + "\n" if self._parts else ""

    def _word(self, text: str) -> None:
        if self._parts:
            self._parts.append("\n" * self._breaks or (" " if self._space else ""))
        self._parts.append(text)
        self._breaks, self._space = 0, False

    def _inline(self, name: str, tag: re.Match[str]) -> None:
        if name == "br":
            self._breaks = min(self._breaks + 1, 2)
        elif name == "li":
            self._word(_BULLET)
            self._space = True
        elif name == "img":
            self.add_text(self._html[slice(*_attributes(self._html, tag).get("alt", (0, 0)))])
        else:  # links don't nest: the next one ends the one before
            self._end_link()
            self._link = (self._address(tag), len(self._parts)) if name == "a" else None

    def _address(self, tag: re.Match[str]) -> str:
        address = self._addresses.get(tag.start(), "")
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

    def _hides(self, name: str, tag: re.Match[str]) -> bool:
        """Whether an element that is not displayed begins here."""
        written = tag["attributes"].lower()
        if name == "template" or not written or name in _VOID:
            return name == "template"
        if not (
            "display" in written or "hidden" in written or "mso-hide" in written
        ):  # a test that costs next to nothing
            return False
        found = _attributes(self._html, tag)
        style = self._html[slice(*found.get("style", (0, 0)))]
        return "hidden" in found or _HIDING.search(style) is not None
