"""``/w/{provider}``: what mail providers post is checked, read, stored, and only then acknowledged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from abmail._web_limits import MAX_WEBHOOK
from abmail._web_pages import PRIVATE
from abmail.errors import WebhookError

if TYPE_CHECKING:
    from datetime import datetime

    from abmail.events import Event
    from abmail.webhooks import Adapter, Batch

__all__ = ["webhook_routes"]

_log = logging.getLogger("abmail")

_AGAIN: Final = {**PRIVATE, "Retry-After": "120"}
_WHO: Final = {**PRIVATE, "WWW-Authenticate": 'Basic realm="abmail"'}  # some send a password only when they are asked


class Recording(Protocol):
    """Where events are kept; an `Engine` fits."""

    def record_all(self, events: Iterable[Event], /) -> object:
        """Store events in one transaction; those with a key that was stored before change nothing."""


def webhook_routes(
    adapters: Mapping[str, Adapter],
    recording: Recording,
    *,
    clock: Callable[[], datetime],
    fetch: Callable[[str], bytes],
) -> list[Route]:
    """The routes for `abmail.web.create_app`.

    ====================  =========================================================================
    request               answer
    ====================  =========================================================================
    POST /w/{provider}    200 once the events are committed; 4xx for what cannot be trusted or read;
                          503 where it should be told again
    GET /w/{provider}     200: providers ask whether somebody is there
    ====================  =========================================================================

    A provider that is not set up gives 404, a body over `MAX_WEBHOOK` 413. Bad items of a good body are stored as
    events of unknown kind.

    Args:
        adapters: By their names.
        recording: Where events are kept.
        clock: Tells the time, aware UTC.
        fetch: Gets the address with which Amazon SNS wants a subscription confirmed.
    """
    endpoint = _Webhooks(adapters, recording, clock, fetch)
    return [Route("/w/{provider}", endpoint.answer, methods=["GET", "POST"])]


@dataclass(frozen=True, slots=True)
class _Webhooks:
    adapters: Mapping[str, Adapter]
    recording: Recording
    clock: Callable[[], datetime]
    fetch: Callable[[str], bytes]

    async def answer(self, request: Request) -> Response:
        adapter = self.adapters.get(request.path_params["provider"])
        if adapter is None:
            return PlainTextResponse("Not found", 404, headers=PRIVATE)
        if request.method != "POST":
            return PlainTextResponse("OK", headers=PRIVATE)
        body = await _body(request)
        if body is None:
            return PlainTextResponse("Body too large", 413, headers=PRIVATE)
        return await run_in_threadpool(self._take, adapter, dict(request.headers), body)

    def _take(self, adapter: Adapter, headers: Mapping[str, str], body: bytes) -> Response:
        """Check, read, store; anything unforeseen may be told again."""
        try:
            now = self.clock()
            adapter.verify(headers, body, now=now)
            batch = adapter.parse(body, now=now)
            self._store(adapter.name, batch, now)
            if batch.confirm:
                self.fetch(batch.confirm)
        except WebhookError as error:
            _log.warning("a webhook of %s was refused: %s", adapter.name, error)
            status = int(error.context.get("status", 400))
            return PlainTextResponse(error.message, status, headers=_WHO if status == 401 else PRIVATE)
        except Exception:
            _log.exception("a webhook of %s could not be taken", adapter.name)
            return PlainTextResponse("Try again later", 503, headers=_AGAIN)
        return PlainTextResponse("OK", headers=PRIVATE)

    def _store(self, source: str, batch: Batch, now: datetime) -> None:
        for problem in batch.problems:
            _log.warning("a webhook of %s holds no event: %s", source, f"{problem.place} {problem.message}".strip())
        events = [*batch.events, *(problem.to_event(source, at=now) for problem in batch.problems)]
        if events:
            self.recording.record_all(events)


async def _body(request: Request) -> bytes | None:
    """The request's body; None when it is too large. Half a body is one that proves nothing."""
    body = bytearray()
    with contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_WEBHOOK:
                return None
    return bytes(body)
