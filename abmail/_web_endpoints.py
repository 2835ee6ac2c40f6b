"""What the tracker answers: pixel, redirect, unsubscribe and hosted copy."""

from __future__ import annotations

import contextlib
import logging
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from abmail._web_hits import Hit, Tracking
from abmail._web_pages import MAIL_HEADERS, PRIVATE, page
from abmail.events import EventType, Token, TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.requests import Request

    from abmail._web_writer import EventWriter

__all__ = ["MAX_BODY", "PIXEL", "Endpoints"]

_log = logging.getLogger("abmail")

MAX_BODY: Final = 65_536
"""Longest body in bytes; a one-click unsubscribe has 26."""
PIXEL: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""A transparent GIF of one pixel, 43 bytes."""
_RETRY: Final = {"Retry-After": "120"}
_HEADER_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints. Opens and clicks never wait for the database; what does, waits in Starlette's thread pool."""

    tracking: Tracking
    clock: Callable[[], datetime]
    writer: EventWriter

    async def open(self, request: Request) -> Response:
        """The pixel."""
        token = self._token("o", request)
        if token is None:
            return PlainTextResponse("Not found", 404, headers=PRIVATE)
        self._note(EventType.OPENED, token, request)
        return Response(PIXEL, media_type="image/gif", headers=PRIVATE)

    async def click(self, request: Request) -> Response:
        """The redirect to a signed URL."""
        targets = request.query_params.getlist("u")
        target = targets[0] if len(targets) == 1 else ""
        token = self._token("c", request, target=target)
        if token is None or not _is_web_address(target):
            return page(request, "bad_link", status=404)
        self._note(EventType.CLICKED, token, request)
        # Byte for byte the author's URL: only what no header can hold is encoded.
        location = quote(target, safe=_HEADER_SAFE)
        return Response(status_code=302, headers={**PRIVATE, "Location": location})

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

    def _token(self, kind: TokenKind, request: Request, *, target: str | None = None) -> Token | None:
        return self.tracking.signer.verify(kind, request.path_params["token"], target=target)

    def _note(self, type_: EventType, token: Token, request: Request) -> None:
        """Let an event be stored; HEAD changes nothing."""
        if request.method == "HEAD":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        network = self.tracking.signer.network(request.client.host) if request.client else ""
        self.writer.put(
            Hit(
                type=type_, token=token, at=self.clock(), method=request.method, headers=headers, network=network
            )
        )  # fmt: skip


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
