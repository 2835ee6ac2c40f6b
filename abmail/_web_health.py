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
    from starlette.requests import Request

    from abmail._web_hits import Tracking
    from abmail._web_writer import EventWriter

__all__ = ["Health"]

_log = logging.getLogger("abmail")
_PATIENCE: Final = 3.0  # seconds until a database that says nothing is taken for one that is away


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a tracker."""

    tracking: Tracking
    writer: EventWriter

    async def tell(self, _: Request) -> Response:
        """200 where all is well, else 503, with what is not; numbers beside it."""
        database, writer = await self._reaches_database(), self.writer.is_well
        told = {
            "status": "ok" if database and writer else "failing",
            "database": "ok" if database else "failing",
            "writer": "ok" if writer else "failing",
            "waiting": self.writer.waiting,
            "stored": self.writer.stored,
            "dropped": self.writer.dropped.total(),
            "failed": self.writer.failed,
        }
        return JSONResponse(told, 200 if database and writer else 503, headers=PRIVATE)

    async def _reaches_database(self) -> bool:
        with anyio.move_on_after(_PATIENCE):
            try:
                await to_thread.run_sync(self.tracking.ping, abandon_on_cancel=True)
            except Exception as error:  # whatever it is, the answer is no
                _log.warning("the database cannot be reached: %s", error)
                return False
            return True
        return False
