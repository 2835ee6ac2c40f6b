"""The tracker: open pixel, click redirect and unsubscribe page as a Starlette application, and a server to run it.

A GET changes nothing but the record of events. What a request must prove stands in its URL: a token that `Signer` made.
Addresses and User-Agents of readers are looked at for the verdict and not kept.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Final, Self

from abmail.errors import ConfigError, MissingExtra

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import BaseRoute, Route

    from abmail._web_endpoints import MAX_BODY, PIXEL, Endpoints
    from abmail._web_hits import Hit, SentMessage, Tracking, recorder
    from abmail._web_pages import PRIVATE
    from abmail._web_writer import EventWriter
except ModuleNotFoundError as error:
    raise MissingExtra("the tracker", "web") from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime

    import uvicorn
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = [
    "MAX_BODY", "MAX_URL", "PIXEL", "BackgroundServer", "EventWriter", "Hit", "SentMessage", "Tracking", "create_app",
    "run",
]  # fmt: skip

MAX_URL: Final = 8_192
"""Longest path and query in bytes; a click's target travels in the query, percent-encoded."""


def create_app(tracking: Tracking, *, clock: Callable[[], datetime], routes: Sequence[BaseRoute] = ()) -> Starlette:
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
    event cannot be stored; an unsubscribe that cannot be stored answers 503.

    Opens and clicks are stored by a thread of their own, many in one transaction: ``app.state.writer``, an
    `EventWriter`, has their numbers and waits for them (``flush``). The application's lifespan ends with what is left;
    where it is mounted in another one, enter ``app.router.lifespan_context(app)`` in that one's own lifespan.

    Args:
        tracking: Where messages and events are; an `Engine` fits.
        clock: Tells the time, aware UTC.
        routes: Further ones, such as those of webhooks.
    """
    writer = EventWriter(recorder(tracking))
    tracker = Endpoints(tracking, clock, writer)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(writer.close)

    app = Starlette(
        routes=[
            Route("/o/{token}.gif", tracker.open, methods=["GET"]),
            Route("/c/{token}", tracker.click, methods=["GET"]),
            Route("/v/{token}", tracker.view, methods=["GET"]),
            Route("/u/{token}", tracker.unsubscribe, methods=["GET", "POST"]),
            Route("/health", _health, methods=["GET"]),
            *routes,
        ],
        middleware=[Middleware(_Limits)],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # an unsubscribe must never be answered by a redirect
    app.state.writer = writer
    weakref.finalize(app, writer.close)
    return app


def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers=PRIVATE)


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
            return PlainTextResponse("URL too long", 414, headers=PRIVATE)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if len(declared) > 20 or (declared.isdigit() and int(declared) > MAX_BODY):
            return PlainTextResponse("Body too large", 413, headers=PRIVATE)
        return None


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
        lifespan="auto",
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
