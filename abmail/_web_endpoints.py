"""What the tracker answers: pixel, redirect, unsubscribe and hosted copy."""

from __future__ import annotations

import contextlib
import logging
import re
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_plus, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from abmail._verdict_facts import JUDGED_HEADERS
from abmail._web_hits import Hit, Tracking
from abmail._web_limits import ADDRESS, MAX_BODY
from abmail._web_pages import MAIL_HEADERS, PRIVATE, page
from abmail.events import EventType, Token, TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.types import Receive, Scope, Send

    from abmail._web_writer import EventWriter

__all__ = ["PIXEL", "Desk", "Pages", "Pixel", "Redirect"]

_log = logging.getLogger("abmail")

PIXEL: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""A transparent GIF of one pixel, 43 bytes."""
_PRIVATE: Final = [(name.lower().encode(), value.encode()) for name, value in PRIVATE.items()]
_PIXEL_HEADERS: Final = [*_PRIVATE, (b"content-type", b"image/gif"), (b"content-length", b"43")]
_JUDGED: Final = {name.encode(): name for name in JUDGED_HEADERS}
_RETRY: Final = {"Retry-After": "120"}
_HEADER_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))
_IN_HEADER: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Pixel:
    """Answers with the pixel: an ASGI application without anything in between, as most requests are for it."""

    desk: Desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        verify, given = self.desk.tracking.signer.verify, scope["path_params"]["token"]
        token = verify("o", given) or verify("O", given)
        if token is None:
            await PlainTextResponse("Not found", 404, headers=PRIVATE)(scope, receive, send)
            return
        self.desk.note(EventType.OPENED, token, scope)
        await send({"type": "http.response.start", "status": 200, "headers": _PIXEL_HEADERS})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else PIXEL})


@dataclass(frozen=True, slots=True)
class Redirect:
    """Leads to a signed URL, likewise."""

    desk: Desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        target = _target(scope["query_string"])
        verify, given = self.desk.tracking.signer.verify, scope["path_params"]["token"]
        token = target and (verify("c", given, target=target) or verify("C", given, target=target))
        if not token or not _is_web_address(target):
            await page(Request(scope), "bad_link", status=404)(scope, receive, send)
            return
        self.desk.note(EventType.CLICKED, token, scope)
        # Byte for byte the author's URL: only what no header can hold is encoded.
        location = (target if _IN_HEADER.fullmatch(target) else quote(target, safe=_HEADER_SAFE)).encode("ascii")
        headers = [*_PRIVATE, (b"location", location), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 302, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


@dataclass(frozen=True, slots=True)
class Desk:
    """What the endpoints share. Opens and clicks never wait for the database."""

    tracking: Tracking
    clock: Callable[[], datetime]
    writer: EventWriter

    def note(self, type_: EventType, token: Token, scope: Scope) -> None:
        """Let an event be stored; HEAD changes nothing."""
        if scope["method"] == "HEAD":
            return
        headers = {_JUDGED[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _JUDGED}
        self.writer.put(
            Hit(
                type=type_, token=token, at=self.clock(), method=scope["method"], headers=headers,
                address=scope.get(ADDRESS, ""),
            )
        )  # fmt: skip


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


def _target(query: bytes) -> str:
    """The URL that a click carries; empty where there is none, or more than one."""
    targets = [part[2:] for part in query.decode("latin-1").split("&") if part.startswith("u=")]
    return unquote_plus(targets[0]) if len(targets) == 1 else ""


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
