"""Web links: where a link of a mail may lead, and those that stand in a plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from abmail.recipient import email_domain, normalise_email

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["MAX_TARGET", "TextCutter", "link_target"]

MAX_TARGET = 2_000  # octets of a redirect's target

_ABSOLUTE = re.compile(r"(?i:https?)://(?P<authority>[^/?#]*+)(?P<rest>.*+)", re.DOTALL)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]@<>\"^`{|}%]+)(?P<port>:[0-9]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_ENDS = "".join(map(chr, range(0x21)))
_KEPT = "".join(map(chr, range(0x21, 0x7F))).translate(dict.fromkeys(map(ord, '"<>')))
# A URL written in a text: RFC 3986's characters; those that close a sentence or a bracket are not its last ones.
_URL_SIGN = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]"
_TEXT_URL = re.compile(rf"(?<![A-Za-z0-9])(?i:https?)://{_URL_SIGN}++")
_RUN = re.compile(rf"{_URL_SIGN}*+")
_LAST_RUN = re.compile(rf"{_URL_SIGN}++\Z")
_CLOSING = ".,;:!?'"


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


class TextCutter:
    """Cuts a plain text at its web links; what it has seen of the fixed pieces of a template, it remembers.

    Args:
        fixed: Pieces that come again in every mail.
    """

    __slots__ = ("_fixed", "_known")

    def __init__(self, fixed: Iterable[str] = ()) -> None:
        self._fixed = frozenset(fixed)
        self._known: dict[str, tuple[str, tuple[str, ...], str]] = {}

    def replace(self, pieces: Iterable[str], replace: Callable[[str], str]) -> str:
        """Give each web link of a text to `replace`, and put its answer in the link's place.

        Args:
            pieces: The text, cut anywhere.
            replace: Link -> what stands there instead.
        """
        done: list[str] = []
        run = ""  # what may be the beginning of a link that goes on in the next piece
        for piece in pieces:
            head, middle, tail = self._cut(piece)
            run += head
            if len(head) == len(piece):
                continue
            _append(done, _links_of(run), replace)
            _append(done, middle, replace)
            run = tail
        _append(done, _links_of(run), replace)
        return "".join(done)

    def _cut(self, piece: str) -> tuple[str, tuple[str, ...], str]:
        """The signs of a link with which a piece begins, its middle cut at its links, and those with which it ends."""
        if piece not in self._fixed:
            return _cut(piece)
        if piece not in self._known:
            self._known[piece] = _cut(piece)
        return self._known[piece]


def _append(done: list[str], cut: tuple[str, ...], replace: Callable[[str], str]) -> None:
    for number, each in enumerate(cut):
        done.append(replace(each) if number % 2 else each)


def _cut(piece: str) -> tuple[str, tuple[str, ...], str]:
    first = _RUN.match(piece)
    begin = first.end() if first else 0
    if begin == len(piece):
        return piece, (), ""
    last = _LAST_RUN.search(piece)
    end = last.start() if last else len(piece)
    return piece[:begin], _links_of(piece[begin:end]), piece[end:]


def _links_of(text: str) -> tuple[str, ...]:
    """A text and its web links in turn: text, link, text, …, text."""
    return tuple(_turns(text)) if "://" in text else (text,)


def _turns(text: str) -> Iterator[str]:
    position = 0
    for match in _TEXT_URL.finditer(text):
        url = _without_closing(match[0])
        yield text[position : match.start()]
        yield url
        position = match.start() + len(url)
    yield text[position:]


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
