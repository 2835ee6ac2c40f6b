"""The tracker: open pixel, click redirect and unsubscribe page as a Starlette application, and a server to run it.

A GET changes nothing but the record of events. What a request must prove stands in its URL: a token that `Signer` made.
Addresses and User-Agents of readers are looked at for the verdict and not kept.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

from abmail.errors import MissingExtra

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.routing import BaseRoute, Route

    from abmail._web_conversions import conversion_api, conversion_routes
    from abmail._web_dashboard import dashboard_routes
    from abmail._web_endpoints import PIXEL, Desk, Pages, Pixel, Redirect, Shortcut
    from abmail._web_health import Health
    from abmail._web_hits import Hit, Journal, SentMessage, Tracking, journalist, recorder
    from abmail._web_limits import MAX_BODY, MAX_URL, MAX_WEBHOOK, Guard, Proxies, TrackerSettings, rate_limit
    from abmail._web_server import BackgroundServer, serve, shared_numbers
    from abmail._web_webhooks import webhook_routes
    from abmail._web_writer import UNCOMMITTED, EventWriter
except ModuleNotFoundError as error:
    raise MissingExtra("the tracker", "web") from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime

    from starlette.types import Receive, Scope, Send

    from abmail._web_metrics import Metrics

__all__ = [
    "MAX_BODY", "MAX_URL", "MAX_WEBHOOK", "PIXEL", "UNCOMMITTED", "BackgroundServer", "EventWriter", "Hit", "Journal",
    "SentMessage", "TrackerSettings", "Tracking", "conversion_api", "create_app", "dashboard_routes", "serve",
    "shared_numbers", "webhook_routes",
]  # fmt: skip


def create_app(
    tracking: Tracking,
    *,
    clock: Callable[[], datetime],
    settings: TrackerSettings | None = None,
    journal: Journal | None = None,
    routes: Sequence[BaseRoute] = (),
    at_end: Callable[[], None] = lambda: None,
) -> Starlette:
    """Make the tracker as an ASGI application.

    ====================  ===========================================================  ==============================
    request               answer                                                       effect
    ====================  ===========================================================  ==============================
    GET /o/{token}.gif    200, a GIF of 43 bytes                                       ``opened`` with a verdict
    GET /c/{token}?u=URL  302 to the signed URL                                        ``clicked`` with link and verdict
    GET /u/{token}        200, a page with a form                                      none
    GET /v/{token}        200, the mail as a page                                      none
    POST /u/{token}       200, never a redirect or cookie (RFC 8058)                   unsubscribed before the answer
    GET /k/{token}.gif    200, the GIF; POST /k/{token}: 200, JSON                     ``converted``, before the answer
    GET /health           200, or 503 where events are not stored; JSON                none
    GET /metrics          200, numbers for Prometheus, where they were asked for       none
    ====================  ===========================================================  ==============================

    HEAD answers like GET and records nothing. A token or target that was not signed gives 404; other methods 405, a URL
    over `MAX_URL` 414, a body over `MAX_BODY` (`MAX_WEBHOOK` under ``/w/``) 413, and 429 where one address asks for too
    much. A reader gets the pixel and the page behind a link even while the event cannot be stored; an unsubscribe that
    cannot be stored answers 503.

    Opens and clicks are stored by a thread of their own, many in one transaction: ``app.state.writer``, an
    `EventWriter`, has their numbers and waits for them (``flush``). The application's lifespan ends with what is left;
    where it is mounted in another one, enter ``app.router.lifespan_context(app)`` in that one's own lifespan.

    Args:
        tracking: Where messages and events are; an `Engine` fits.
        clock: Tells the time, aware UTC.
        settings: How it is run.
        journal: Where opens and clicks are kept at once and judged when there is time, so that a rush is not lost; an
            `Engine` fits. By default they are judged in the transaction that stores them.
        routes: Further ones, such as those of `webhook_routes`, `conversion_api` and `dashboard_routes`.
        at_end: Called at the end of the lifespan, once everything is stored.
    """
    settings = settings or TrackerSettings()
    metrics = _metrics(journal) if settings.metrics else None
    writer = _writer(tracking, settings, journal, metrics)
    desk, pages = Desk(tracking, clock, writer), Pages(tracking, clock)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        writer.open()
        yield
        await run_in_threadpool(writer.close)
        at_end()
        if metrics is not None:
            metrics.close()

    proxies, limit = Proxies(settings.proxies), rate_limit(settings)
    app = _Tracker(
        Shortcut(desk, proxies=proxies, limit=limit),
        metrics,
        routes=[
            Route("/o/{token}.gif", Pixel(desk), methods=["GET"]),
            Route("/c/{token}", Redirect(desk), methods=["GET"]),
            Route("/v/{token}", pages.view, methods=["GET"]),
            Route("/u/{token}", pages.unsubscribe, methods=["GET", "POST"]),
            Route("/health", Health(tracking, writer, journal, clock).tell, methods=["GET"]),
            *conversion_routes(tracking, clock),
            *([] if metrics is None else [Route("/metrics", metrics.tell, methods=["GET"])]),
            *routes,
        ],
        middleware=[Middleware(Guard, proxies=proxies, limit=limit, refused=rate_limit(settings))],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # an unsubscribe must never be answered by a redirect
    app.state.writer = writer
    weakref.finalize(app, writer.close)
    return app


class _Tracker(Starlette):
    """The application: routes and what stands before them, and a shorter way for what most requests are for."""

    def __init__(self, shortcut: Shortcut, metrics: Metrics | None, **parts: Any) -> None:
        super().__init__(**parts)
        self._shortcut, self._metrics = shortcut, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or whatever else a server asks of an application."""
        if self._metrics is None or scope["type"] != "http":
            await self._answer(scope, receive, send)
        else:
            await self._metrics.measured(self._answer, scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._shortcut.answer(scope)
        if answer is None:
            await super().__call__(scope, receive, send)
            return
        if self._shortcut.writer.is_full:
            await self._shortcut.writer.room()
        await answer.say(send)


def _writer(
    tracking: Tracking, settings: TrackerSettings, journal: Journal | None, metrics: Metrics | None
) -> EventWriter:
    stored = _ignore if metrics is None else metrics.stored
    dropped = _ignore if metrics is None else metrics.dropped
    settled = _ignore if metrics is None else metrics.settled
    record = recorder(tracking, on_stored=stored)
    if journal is None:
        return EventWriter(record, capacity=settings.capacity, on_dropped=dropped, on_settled=settled)

    def catch_up(most: int) -> int:
        taken, events = journal.digest(limit=most)
        stored(events)
        return taken

    keep = journalist(journal, tracking.signer, at_once=record)
    return EventWriter(keep, capacity=settings.capacity, catch_up=catch_up, on_dropped=dropped, on_settled=settled)


def _ignore(*_: object) -> None:
    """Nobody counts."""


def _metrics(journal: Journal | None) -> Metrics:
    from abmail._web_metrics import Metrics  # needs a library of its own

    return Metrics(journal)
