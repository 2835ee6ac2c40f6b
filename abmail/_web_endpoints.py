"""What the tracker answers: pixel, redirect, unsubscribe and hosted copy."""

from __future__ import annotations

import contextlib
import logging
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote_plus, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from abmail._verdict_facts import JUDGED_HEADERS
from abmail._web_hits import Hit, Tracking
from abmail._web_limits import ADDRESS, MAX_BODY, MAX_URL, own_path
from abmail._web_pages import MAIL_HEADERS, PRIVATE, page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from starlette.types import Receive, Scope, Send

    from abmail._web_limits import Proxies, RateLimit
    from abmail._web_writer import EventWriter
    from abmail.events import Token, TokenKind

__all__ = ["PIXEL", "Answer", "Desk", "Pages", "Pixel", "Redirect", "Shortcut"]

_log = logging.getLogger("abmail")

PIXEL: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""A transparent GIF of one pixel, 43 bytes."""
_PRIVATE: Final = [(name.lower().encode(), value.encode()) for name, value in PRIVATE.items()]
_AGENT: Final = b"user-agent"
_PURPOSES: Final = frozenset(name.encode() for name in JUDGED_HEADERS) - {_AGENT}
_READ: Final = _PURPOSES | {_AGENT, b"x-forwarded-for", b"content-length"}
_RETRY: Final = {"Retry-After": "120"}
_HEADER_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))
_IN_HEADER: Final = re.compile(r"[\x21-\x7e]+")


class Answer(NamedTuple):
    """What a request gets: status, headers and body."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    async def say(self, send: Send, *, head: bool = False) -> None:
        """Send it. Whoever stands before us may change the headers: they are its own."""
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers]})
        await send({"type": "http.response.body", "body": b"" if head else self.body})


_SEEN: Final = Answer(200, (*_PRIVATE, (b"content-type", b"image/gif"), (b"content-length", b"43")), PIXEL)


@dataclass(frozen=True, slots=True)
class Desk:
    """What pixels and links share. No reader waits for the database.

    Args:
        tracking: Verifies the tokens.
        clock: Tells the time, aware UTC.
        writer: Stores what was seen.
    """

    tracking: Tracking
    clock: Callable[[], datetime]
    writer: EventWriter

    def pixel(self, token: str) -> tuple[bytes, Answer] | None:
        """What a pixel's token says and its answer; None where it was not signed."""
        signed = self.tracking.signer.signed("oO", token)
        return None if signed is None else (signed, _SEEN)

    def link(self, token: str, query: bytes) -> tuple[bytes, Answer] | None:
        """The same of a link."""
        found = (_cached_target if len(query) <= _SHORT else _target_of)(query)
        signed = found and self.tracking.signer.signed("cC", token, covered=found[0])
        return (signed, found[1]) if signed and found else None

    def note(self, signed: bytes, address: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Let an event be stored."""
        agent = b""
        purpose: list[bytes] = []
        for name, value in headers:
            if name == _AGENT:
                agent = value
            elif name in _PURPOSES:
                purpose.append(value)
        self.put(signed, address, agent, purpose)

    def put(self, signed: bytes, address: str, agent: bytes, purpose: Sequence[bytes]) -> None:
        """The same, the headers being read."""
        at = round(self.clock().timestamp() * 1e6)
        self.writer.put(Hit(signed, at, agent, b" ".join(purpose) if purpose else b"", address))


@dataclass(frozen=True, slots=True)
class Pixel:
    """Answers with the pixel: an ASGI application of its own."""

    desk: Desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = self.desk.pixel(scope["path_params"]["token"])
        if found is None:
            await PlainTextResponse("Not found", 404, headers=PRIVATE)(scope, receive, send)
        else:
            await _tell(self.desk, found, scope, send)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Leads to a signed URL, likewise."""

    desk: Desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = self.desk.link(scope["path_params"]["token"], scope["query_string"])
        if found is None:
            await page(Request(scope), "bad_link", status=404)(scope, receive, send)
        else:
            await _tell(self.desk, found, scope, send)


async def _tell(desk: Desk, found: tuple[bytes, Answer], scope: Scope, send: Send) -> None:
    signed, answer = found
    is_head = scope["method"] == "HEAD"
    if not is_head:  # HEAD changes nothing
        desk.note(signed, scope.get(ADDRESS, ""), scope["headers"])
        if desk.writer.is_full:
            await desk.writer.room()
    await answer.say(send, head=is_head)


class Shortcut:
    """Answers for pixels and links whose tokens are good, before any route is looked for: most requests are for these.

    All others, refusals among them, are left to the routes.

    Args:
        desk: Reads tokens and takes events.
        proxies: Whose word on the reader's address is taken.
        limit: How often one address may ask.
    """

    def __init__(self, desk: Desk, *, proxies: Proxies, limit: RateLimit) -> None:
        self._desk, self._proxies, self._limit = desk, proxies, limit
        self.writer = desk.writer

    def answer(self, scope: Scope) -> Answer | None:
        """Note the event of a good request and say what it gets; None for any other, of which nothing was noted."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        path, query = own_path(scope), scope["query_string"]
        if len(scope.get("raw_path") or path) + len(query) > MAX_URL:
            return None
        if path.startswith("/o/") and path.endswith(".gif"):
            found = self._desk.pixel(path[3:-4])
        elif path.startswith("/c/"):
            found = self._desk.link(path[3:], query)
        else:
            return None
        return None if found is None else self._noted(found, scope)

    def _noted(self, found: tuple[bytes, Answer], scope: Scope) -> Answer | None:
        agent = b""
        purpose: list[bytes] = []
        forwarded: list[str] = []
        for name, value in scope["headers"]:
            if name not in _READ:
                continue
            if name == _AGENT:
                agent = value
            elif name == b"x-forwarded-for":
                forwarded.append(value.decode("latin-1"))
            elif name == b"content-length":
                return None
            else:
                purpose.append(value)
        client = scope.get("client")
        address = self._proxies.reader(client[0] if client else "", forwarded)
        if not self._limit.takes(address):
            return None
        signed, answer = found
        self._desk.put(signed, address, agent, purpose)
        return answer


@dataclass(frozen=True, slots=True)
class Pages:
    """What people look at. It waits for the database in Starlette's thread pool."""

    tracking: Tracking
    clock: Callable[[], datetime]

    def view(self, request: Request) -> Response:
        """The mail as a page."""
        token = self._token("v", request)
        try:
            html = token and self.tracking.hosted(token.message_id)
        except Exception:
            _log.exception("a mail could not be shown")
            return page(request, "away", status=503, headers=_RETRY)
        if not html:
            return page(request, "bad_link", status=404)
        return Response(html, headers=MAIL_HEADERS, media_type="text/html; charset=utf-8")

    async def unsubscribe(self, request: Request) -> Response:
        """The page with the button, and what the button does."""
        if request.method != "POST":
            return await run_in_threadpool(self._offer, request)
        body = await _body(request)
        if body is None:
            return PlainTextResponse("Body too large", 413, headers=PRIVATE)
        return await run_in_threadpool(self._unsubscribe, request, body)

    def _offer(self, request: Request) -> Response:
        token = self._token("u", request)
        try:
            message = token and self.tracking.message(token.message_id)
        except Exception:
            _log.exception("a message could not be looked up")
            return page(request, "away", status=503, headers=_RETRY)
        if not message:
            return page(request, "bad_link", status=404)
        return page(request, "offer", language=message.language)

    def _unsubscribe(self, request: Request, body: bytes) -> Response:
        token = self._token("u", request)
        try:
            message = token and self.tracking.message(token.message_id)
            if not token or not message:
                return page(request, "bad_link", status=404)
            reason = "one-click" if b"One-Click" in body else "form"
            self.tracking.unsubscribe(token.message_id, at=self.clock(), reason=reason)
        except Exception:
            _log.exception("an unsubscribe could not be stored")
            return page(request, "try_later", status=503, headers=_RETRY)
        return page(request, "done", language=message.language)

    def _token(self, kind: TokenKind, request: Request) -> Token | None:
        return self.tracking.signer.verify(kind, request.path_params["token"])


def _target_of(query: bytes) -> tuple[bytes, Answer] | None:
    """The URL that a click carries, and what leads there; None where there is no such URL, or more than one."""
    targets = [part[2:] for part in query.decode("latin-1").split("&") if part.startswith("u=")]
    target = unquote_plus(targets[0]) if len(targets) == 1 else ""
    if not target or not _is_web_address(target):
        return None
    # Byte for byte the author's URL: only what no header can hold is encoded.
    location = (target if _IN_HEADER.fullmatch(target) else quote(target, safe=_HEADER_SAFE)).encode("ascii")
    return target.encode(), Answer(302, (*_PRIVATE, (b"location", location), (b"content-length", b"0")), b"")


_SHORT: Final = 500  # bytes
_cached_target: Final = lru_cache(2_048)(_target_of)  # a mail has few links, and many readers


def _is_web_address(target: str) -> bool:
    """Whether a browser may be sent there: absolute http or https, without a user, backslashes, blanks or controls."""
    if "\\" in target or not target.isprintable() or " " in target:
        return False
    try:
        parts = urlsplit(target)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


async def _body(request: Request) -> bytes | None:
    """The request's body; None when it is too large. What it says decides nothing: the token is in the path."""
    body = bytearray()
    with contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return None
    return bytes(body)
