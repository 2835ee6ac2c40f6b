"""Numbers about the tracker, as Prometheus reads them.

Where several processes serve, the environment variable ``PROMETHEUS_MULTIPROC_DIR`` names a folder in which they put
their numbers together; prometheus_client looks at it when it is first imported.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from abmail._web_limits import own_path
from abmail._web_pages import PRIVATE
from abmail.errors import MissingExtra

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
except ModuleNotFoundError as error:
    raise MissingExtra("metrics of the tracker", "web") from error

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from abmail._web_hits import Journal
    from abmail._web_writer import EventWriter
    from abmail.events import Event, EventType

__all__ = ["Metrics"]

_log = logging.getLogger("abmail")

_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_PLACES: Final = {"o": "pixel", "c": "click", "u": "unsubscribe", "v": "view", "w": "webhook"}


class Metrics:
    """The numbers of one tracker in this process, and of its other processes where they share a folder."""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal
        self._registry = registry = CollectorRegistry()
        self.seconds = Histogram(
            "abmail_tracker_request_seconds", "Time to answer a request.", ("place",), buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.answers = Counter(
            "abmail_tracker_answers", "Answers by place and status.", ("place", "status"), registry=registry
        )
        self._events = Counter(
            "abmail_tracker_events", "Opens and clicks that were stored, by kind and verdict.", ("kind", "verdict"),
            registry=registry,
        )  # fmt: skip
        self._dropped = Counter(
            "abmail_tracker_dropped", "Opens and clicks for which there was no room, by kind.", ("kind",),
            registry=registry,
        )  # fmt: skip
        self._failed = Counter("abmail_tracker_failed", "Opens and clicks that could not be stored.", registry=registry)
        self._waiting = Gauge(
            "abmail_tracker_waiting", "Opens and clicks that are not committed yet.", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._journaled = Gauge(
            "abmail_tracker_journal", "Opens and clicks that are stored and not judged yet.", registry=registry,
            multiprocess_mode="mostrecent",
        )  # fmt: skip
        self._oldest = Gauge(
            "abmail_tracker_journal_since_seconds",
            "When the one of them that waits longest was stored, in seconds since 1970; 0 where none waits.",
            registry=registry, multiprocess_mode="mostrecent",
        )  # fmt: skip
        for kind in ("opened", "clicked"):
            self._dropped.labels(kind)  # a number that is 0 is told, too

    def stored(self, events: Sequence[Event]) -> None:
        """Count the events of a group."""
        for (kind, verdict), n in Tally((event.type.value, event.verdict.value) for event in events).items():
            self._events.labels(kind, verdict).inc(n)

    def dropped(self, type_: EventType) -> None:
        """Count one for which there was no room."""
        self._dropped.labels(type_.value).inc()

    def settled(self, writer: EventWriter, failed: int) -> None:
        """Note how many wait, and how many of the last group failed."""
        self._waiting.set(writer.waiting)
        self._failed.inc(failed)

    async def measured(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request be answered, and note how long that took."""
        begun, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, watch)
        finally:
            place = _place(scope)
            self.seconds.labels(place).observe(time.perf_counter() - begun)
            self.answers.labels(place, str(status)).inc()

    async def tell(self, _: Request) -> Response:
        """What ``/metrics`` answers."""
        return await run_in_threadpool(self._tell)

    def _tell(self) -> Response:
        if self._journal is not None:
            try:
                backlog = self._journal.backlog()
            except Exception as error:  # the other numbers are told all the same
                _log.warning("the journal's length cannot be told: %s", error)
            else:
                self._journaled.set(backlog.size)
                self._oldest.set(0.0 if backlog.since is None else backlog.since.timestamp())
        registry = self._registry
        if _SHARED in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), headers={**PRIVATE, "Content-Type": CONTENT_TYPE_LATEST})

    def close(self) -> None:
        """Take back what this process has put into the gauges of all."""
        if _SHARED in os.environ:
            multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]


def _place(scope: Scope) -> str:
    """What was asked for, in few words: numbers for each URL would never end."""
    path = own_path(scope)
    return _PLACES.get(path[1:2], "other") if path[2:3] == "/" else "other"
