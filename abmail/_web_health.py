"""Whether the tracker does its work: what a load balancer or a watchdog asks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread
from starlette.responses import JSONResponse, Response

from abmail._web_pages import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.requests import Request

    from abmail._web_hits import Journal, Tracking
    from abmail._web_writer import EventWriter

__all__ = ["Health"]

_log = logging.getLogger("abmail")
_PATIENCE: Final = 3.0  # seconds until a database that says nothing is taken for one that is away


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a tracker."""

    tracking: Tracking
    writer: EventWriter
    journal: Journal | None
    clock: Callable[[], datetime]

    async def tell(self, _: Request) -> Response:
        """200 where all is well, else 503, with what is not; numbers beside it."""
        known = await self._asked()
        database, writer = known is not None, self.writer.is_well
        told = {
            "status": "ok" if database and writer else "failing",
            "database": "ok" if database else "failing",
            "writer": "ok" if writer else "failing",
            "waiting": self.writer.waiting,
            "stored": self.writer.stored,
            "dropped": self.writer.dropped.total(),
            "failed": self.writer.failed,
            **(known or {}),
        }
        return JSONResponse(told, 200 if database and writer else 503, headers=PRIVATE)

    async def _asked(self) -> dict[str, float] | None:
        """What the database says; None where it does not answer."""
        with anyio.move_on_after(_PATIENCE):
            try:
                return await to_thread.run_sync(self._ask, abandon_on_cancel=True)
            except Exception as error:  # whatever it is, the answer is no
                _log.warning("the database cannot be reached: %s", error)
        return None

    def _ask(self) -> dict[str, float]:
        if self.journal is None:
            self.tracking.ping()
            return {}
        size, since = self.journal.backlog()
        age = 0.0 if since is None else max((self.clock() - since).total_seconds(), 0.0)
        return {"journal": size, "journal_seconds": round(age, 1)}
