"""The tracker: open pixel, click redirect and unsubscribe page as a Starlette application, and a server to run it.

A GET changes nothing but the record of events. What a request must prove stands in its URL: a token that `Signer` made.
Addresses and User-Agents of readers are looked at for the verdict and not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import logging
import socket
import threading
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self
from urllib.parse import quote, urlsplit

from abmail.errors import ConfigError, MissingExtra
from abmail.events import Event, EventType, Signer, Token, TokenKind, judge

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route
except ModuleNotFoundError as error:
    raise MissingExtra("the tracker", "web") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import uvicorn
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["BackgroundServer", "SentMessage", "Tracking", "create_app", "run"]

_log = logging.getLogger("abmail")

MAX_URL: Final = 8_192
"""Longest path and query in bytes; a click's target travels in the query, percent-encoded."""
MAX_BODY: Final = 65_536
"""Longest body in bytes; a one-click unsubscribe has 26."""

PIXEL: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""A transparent GIF of one pixel, 43 bytes."""

_PRIVATE: Final = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex", "Referrer-Policy": "no-referrer"}


class SentMessage(Protocol):
    """What the tracker needs to know of a message."""

    @property
    def sent_at(self) -> datetime | None:
        """When a server accepted it, aware UTC; None where not known."""

    @property
    def language(self) -> str:
        """Language of its reader: ``en`` or ``ja``."""


class Tracking(Protocol):
    """What stands behind the tracker. Its methods are called from several threads at once and may block."""

    @property
    def signer(self) -> Signer:
        """Verifies the tokens."""

    def message(self, message_id: str, /) -> SentMessage | None:
        """Look a message up; None where it is not known."""

    def hosted(self, message_id: str, /) -> str | None:
        """A sent mail as a page; None where there is none."""

    def record(self, event: Event, /) -> bool:
        """Store an event; False where one with the same key was stored before."""

    def unsubscribe(self, message_id: str, /, *, at: datetime, reason: str) -> None:
        """Never mail the message's recipient again: idempotent, and committed before it returns."""


def create_app(tracking: Tracking, *, clock: Callable[[], datetime]) -> Starlette:
    """Make the tracker as an ASGI application.

    ====================  ===========================================================  ==============================
    request               answer                                                       effect
    ====================  ===========================================================  ==============================
    GET /o/{token}.gif    200, a GIF of 43 bytes                                       ``opened`` with a verdict
    GET /c/{token}?u=URL  302 to the signed URL                                        ``clicked`` with link and verdict
    GET /u/{token}        200, a page with a form                                      none
    GET /v/{token}        200, the mail as a page                                      none
    POST /u/{token}       200, never a redirect or cookie (RFC 8058)                   unsubscribed before the answer
    GET /health           200                                                          none
    ====================  ===========================================================  ==============================

    HEAD answers like GET and records nothing. A token or target that was not signed gives 404; other methods 405, a URL
    over `MAX_URL` 414, a body over `MAX_BODY` 413. A reader gets the pixel and the page behind a link even while the
    event cannot be stored (the failure is logged); an unsubscribe that cannot be stored answers 503.

    Args:
        tracking: Where messages and events are; an `Engine` fits.
        clock: Tells the time, aware UTC.
    """
    tracker = _Tracker(tracking, clock)
    routes = [
        Route("/o/{token}.gif", tracker.open, methods=["GET"]),
        Route("/c/{token}", tracker.click, methods=["GET"]),
        Route("/v/{token}", tracker.view, methods=["GET"]),
        Route("/u/{token}", tracker.unsubscribe, methods=["GET", "POST"]),
        Route("/health", _health, methods=["GET"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(_Limits)])
    app.router.redirect_slashes = False  # an unsubscribe must never be answered by a redirect
    return app


def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers=_PRIVATE)


@dataclass(frozen=True, slots=True)
class _Tracker:
    """The endpoints. Plain functions run in Starlette's thread pool, because they wait for the database."""

    tracking: Tracking
    clock: Callable[[], datetime]

    def open(self, request: Request) -> Response:
        token = self._token("o", request)
        if token is None:
            return PlainTextResponse("Not found", 404, headers=_PRIVATE)
        self._record(EventType.OPENED, token, request)
        return Response(PIXEL, media_type="image/gif", headers=_PRIVATE)

    def click(self, request: Request) -> Response:
        targets = request.query_params.getlist("u")
        target = targets[0] if len(targets) == 1 else ""
        token = self._token("c", request, target=target)
        if token is None or not _is_web_address(target):
            return _page(request, "bad_link", status=404)
        self._record(EventType.CLICKED, token, request)
        # Byte for byte the author's URL: only what no header can hold is encoded.
        location = quote(target, safe=_HEADER_SAFE)
        return Response(status_code=302, headers={**_PRIVATE, "Location": location})

    def view(self, request: Request) -> Response:
        token = self._token("v", request)
        try:
            html = token and self.tracking.hosted(token.message_id)
        except Exception:
            _log.exception("a mail could not be shown")
            return _page(request, "try_later", status=503, headers=_RETRY)
        if not html:
            return _page(request, "bad_link", status=404)
        return Response(html, headers=_MAIL_HEADERS, media_type="text/html; charset=utf-8")

    async def unsubscribe(self, request: Request) -> Response:
        if request.method != "POST":
            return await run_in_threadpool(self._offer, request)
        body = await _body(request)
        if body is None:
            return PlainTextResponse("Body too large", 413, headers=_PRIVATE)
        return await run_in_threadpool(self._unsubscribe, request, body)

    def _offer(self, request: Request) -> Response:
        token = self._token("u", request)
        try:
            message = token and self.tracking.message(token.message_id)
        except Exception:
            _log.exception("a message could not be looked up")
            return _page(request, "try_later", status=503, headers=_RETRY)
        if not message:
            return _page(request, "bad_link", status=404)
        return _page(request, "offer", language=message.language)

    def _unsubscribe(self, request: Request, body: bytes) -> Response:
        token = self._token("u", request)
        try:
            message = token and self.tracking.message(token.message_id)
            if not token or not message:
                return _page(request, "bad_link", status=404)
            reason = "one-click" if b"One-Click" in body else "form"
            self.tracking.unsubscribe(token.message_id, at=self.clock(), reason=reason)
        except Exception:
            _log.exception("an unsubscribe could not be stored")
            return _page(request, "try_later", status=503, headers=_RETRY)
        return _page(request, "done", language=message.language)

    def _token(self, kind: TokenKind, request: Request, *, target: str | None = None) -> Token | None:
        return self.tracking.signer.verify(kind, request.path_params["token"], target=target)

    def _record(self, type_: EventType, token: Token, request: Request) -> None:
        """Store the event; a fault there must not stand between a reader and the page."""
        if request.method == "HEAD":
            return
        try:
            message = self.tracking.message(token.message_id)
            if message is not None:
                self.tracking.record(_event(type_, token, request, message, self.clock()))
        except Exception:
            _log.exception("the event %s could not be stored", type_.value)


def _event(type_: EventType, token: Token, request: Request, message: SentMessage, now: datetime) -> Event:
    found = judge(
        type=type_,
        method=request.method,
        user_agent=request.headers.get("user-agent", ""),
        headers=request.headers,
        seconds_since_sent=None if message.sent_at is None else (now - message.sent_at).total_seconds(),
    )
    return Event(
        type=type_,
        at=now,
        message_id=token.message_id,
        link=token.link,
        verdict=found.verdict,
        reasons=found.reasons,
    )


_RETRY: Final = {"Retry-After": "120"}
_HEADER_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))


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


class _Limits:
    """Turns oversized requests away before anything is parsed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        if len(path) + len(scope["query_string"]) > MAX_URL:
            return PlainTextResponse("URL too long", 414, headers=_PRIVATE)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if len(declared) > 20 or (declared.isdigit() and int(declared) > MAX_BODY):
            return PlainTextResponse("Body too large", 413, headers=_PRIVATE)
        return None


# --- pages ----------------------------------------------------------------------------------------------------------

_STYLE: Final = """
:root{color-scheme:light dark}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f4f5f7;color:#1c2430;
font:1.0625rem/1.6 system-ui,-apple-system,"Segoe UI","Hiragino Sans","Noto Sans JP",sans-serif}
main{box-sizing:border-box;width:min(30rem,100% - 2rem);margin:1rem;padding:2rem 1.75rem;background:#fff;
border-radius:14px;box-shadow:0 1px 3px rgba(16,24,40,.12),0 8px 24px rgba(16,24,40,.06)}
h1{margin:0 0 .75rem;font-size:1.5rem;line-height:1.3}
p{margin:0 0 1.5rem}
p:last-child{margin:0}
button{width:100%;min-height:3rem;padding:.75rem 1.25rem;border:0;border-radius:10px;background:#1a56db;color:#fff;
font:inherit;font-weight:600;cursor:pointer}
button:hover{background:#1e429f}
button:focus-visible{outline:3px solid #1a56db;outline-offset:3px}
@media(prefers-color-scheme:dark){body{background:#11151c;color:#e6e9ef}main{background:#1b222d;box-shadow:none}
button:focus-visible{outline-color:#93b4ff}}
"""

_WORDS: Final = {
    "en": {
        "offer": ("Unsubscribe", "Press the button and you will get no more of these e-mails.", "Unsubscribe"),
        "done": ("You are unsubscribed", "You will get no more of these e-mails. You can close this page.", ""),
        "bad_link": (
            "This link does not work",
            "It may have been cut off on its way. Open it once more from the e-mail, or answer the e-mail.",
            "",
        ),
        "try_later": (
            "Please try again",
            "Your wish could not be stored just now. Please try again in a moment.",
            "Try again",
        ),
    },
    "ja": {
        "offer": ("配信停止", "ボタンを押すと、今後このメールは届かなくなります。", "配信を停止する"),
        "done": ("配信を停止しました", "今後このメールは届きません。このページは閉じて構いません。", ""),
        "bad_link": (
            "このリンクは開けません",
            "途中で切れている可能性があります。メールからもう一度開くか、メールにご返信ください。",
            "",
        ),
        "try_later": (
            "もう一度お試しください",
            "ただいま処理できませんでした。しばらくしてからもう一度お試しください。",
            "もう一度試す",
        ),
    },
}

_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_PAGE_HEADERS: Final = {
    **_PRIVATE,
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


_MAIL_HEADERS: Final = {
    **_PRIVATE,
    # A mail is its author's, with values of a list in it: it may show pictures and styles, and do nothing.
    "Content-Security-Policy": "default-src 'none'; img-src * data:; style-src * 'unsafe-inline'; font-src *; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-popups allow-top-navigation-by-user-activation",
    "X-Content-Type-Options": "nosniff",
}


def _page(
    request: Request, name: str, *, language: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """One of the reader's pages; without script, and without anything from elsewhere."""
    if language not in _WORDS:
        language = "ja" if request.headers.get("accept-language", "").lower().startswith("ja") else "en"
    title, text, action = (html.escape(each) for each in _WORDS[language][name])
    # Without an action the form goes to the page's own URL, wherever the tracker is mounted.
    form = f'<form method="post"><button name="unsubscribe" value="yes">{action}</button></form>' if action else ""
    content = (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f'<p role="status">{text}</p>\n{form}\n</main>\n</body>\n</html>\n'
    )
    return Response(content, status, {**_PAGE_HEADERS, **(headers or {})}, media_type="text/html; charset=utf-8")


# --- servers --------------------------------------------------------------------------------------------------------


def run(app: ASGIApp, *, host: str, port: int) -> None:
    """Serve an application until the process is told to stop (Ctrl-C or SIGTERM); open requests are finished.

    One process: the database, not the server, is a tracker's limit. Several may share a port behind a proxy.

    Args:
        app: What `create_app` made, or any ASGI application.
        host: Address to listen on, IPv4 or IPv6.
        port: TCP port.

    Raises:
        ConfigError: The address cannot be listened on.
        MissingExtra: uvicorn is not installed.
    """
    server = _server(app)
    with _listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


class BackgroundServer:
    """Serves an application from a thread of this process, for demonstrations and tests.

    The port is open once the ``with`` block begins, and closed when it has ended.

    Args:
        app: Any ASGI application.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.

    Raises:
        ConfigError: The address cannot be listened on.
        MissingExtra: uvicorn is not installed.
    """

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app, self._host, self._port = app, host, port
        self._running: tuple[uvicorn.Server, socket.socket, threading.Thread] | None = None

    @property
    def url(self) -> str:
        """Address of the server, without a slash at the end.

        Raises:
            RuntimeError: The server is not running.
        """
        if self._running is None:
            raise RuntimeError("the server has an address only inside its `with` block")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._running[1].getsockname()[1]}"

    def __enter__(self) -> Self:
        server, listener = _server(self._app), _listen(self._host, self._port)
        # Clients may connect at once: the socket listens already, and they wait until the thread is ready.
        thread = threading.Thread(target=server.run, args=([listener],), name="abmail-web", daemon=True)
        self._running = server, listener, thread
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is None:
            return
        server, listener, thread = self._running
        server.should_exit = True
        thread.join()
        listener.close()
        self._running = None


_GRACE_SECONDS = 5


def _server(app: ASGIApp) -> uvicorn.Server:
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtra("serving the tracker", "web") from error
    config = uvicorn.Config(
        app,
        log_config=None,  # logging belongs to the program around us
        access_log=False,  # a URL holds a reader's token
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ConfigError(f"the port is {port}, must be in 0..65535", hint="ports below 1024 need special rights")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1_024)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error}", hint="choose another port or address"
        ) from error
    # Accepted sockets inherit it; without it, asyncio leaves an answer's second packet waiting for 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
