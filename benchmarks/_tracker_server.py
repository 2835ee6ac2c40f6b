"""A process that serves either the tracker or a bare Starlette pixel: ``python -m benchmarks._tracker_server``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from abmail._web_pages import PRIVATE
from abmail.engine import Engine
from abmail.web import PIXEL, TrackerSettings, create_app, serve

SECRET = b"0123456789abcdef0123456789abcdef"


async def _pixel(_: Request) -> Response:
    return Response(PIXEL, media_type="image/gif", headers=PRIVATE)


def _bare() -> Starlette:
    """The least that Starlette needs to answer with a pixel."""
    return Starlette(routes=[Route("/o/{token}", _pixel), Route("/c/{token}", _pixel)])


def _tracker(url: str) -> Starlette:
    """The tracker as ``abmail serve`` makes it, with a proxy before it whose word on addresses is taken."""
    engine, settings = Engine(url, secret=SECRET), TrackerSettings(proxies=("127.0.0.1",))
    return create_app(engine, clock=lambda: datetime.now(UTC), settings=settings, journal=engine, at_end=engine.close)


def _on_uvicorn(kind: str, port: int, url: str) -> None:
    import uvicorn

    app = _bare() if kind == "bare" else _tracker(url)
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="error", ws="none")


def main() -> None:
    """Serve until the end: server, kind, port, database."""
    server, kind, port, url = sys.argv[1:]
    if server == "uvicorn":
        _on_uvicorn(kind, int(port), url)
    else:
        serve(_bare if kind == "bare" else partial(_tracker, url), port=int(port))


if __name__ == "__main__":
    main()
