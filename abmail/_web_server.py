"""Servers: granian for the tracker itself, uvicorn in a thread for demonstrations and tests."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from abmail.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn
    from starlette.types import ASGIApp

__all__ = ["BackgroundServer", "serve"]

_GRACE_SECONDS: Final = 5
_KILL_SECONDS: Final = 20  # longer than a writer may take to store what is left
_TURN_SECONDS: Final = 0.0005
_BACKLOG: Final = 1_024
_ACCESS: Final = "[%(time)s] %(addr)s %(method)s %(status)d %(dt_ms).1f ms"  # no path: a URL holds a reader's token
_LOGGING: Final = {
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}, "bare": {"format": "%(message)s"}},
    "handlers": {
        "errors": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"},
        "access": {"class": "logging.StreamHandler", "formatter": "bare", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "_granian": {"handlers": ["errors"], "level": "WARNING", "propagate": False},
        "granian.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        "abmail": {"handlers": ["errors"], "level": "WARNING", "propagate": False},
    },
}


def serve(
    factory: Callable[[], Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8025,
    socket_path: Path | None = None,
    workers: int = 1,
    access_log: bool = False,
    on_start: Callable[[], object] = lambda: None,
) -> None:
    """Serve an application until the process is told to stop (Ctrl-C or SIGTERM).

    Open requests are finished, and each worker's lifespan ends: a tracker stores what it has seen. A worker that dies
    is replaced.

    Args:
        factory: Makes an ASGI application; called in each worker process.
        host: Name or address to listen on, IPv4 or IPv6.
        port: TCP port.
        socket_path: Unix socket to listen on, in place of host and port.
        workers: Processes.
        access_log: Whether each request is written to stdout, without its URL.
        on_start: Called once the port is ours.

    Raises:
        ConfigError: The address cannot be listened on.
        MissingExtra: granian is not installed.
    """
    try:
        from granian.constants import HTTPModes, Interfaces
        from granian.log import LogLevels
        from granian.server import Server
    except ModuleNotFoundError as error:
        raise MissingExtra("serving the tracker", "web") from error
    if socket_path is None:
        host = _require_free(host, port)
    else:
        _make_way(socket_path)
    server = Server(
        "abmail", address=host, port=port, uds=socket_path, interface=Interfaces.ASGI, http=HTTPModes.http1,
        websockets=False, workers=workers, backlog=_BACKLOG, respawn_failed_workers=True,
        workers_kill_timeout=_KILL_SECONDS, log_level=LogLevels.warning, log_dictconfig=_LOGGING,
        log_access=access_log, log_access_format=_ACCESS,
    )  # fmt: skip
    server.on_startup(on_start)
    server.serve(target_loader=partial(_prepared, factory), wrap_loader=False)


def _prepared(factory: Callable[[], Any]) -> Any:
    """Make the application in a worker, where no reader may wait long for the thread that stores and judges."""
    sys.setswitchinterval(_TURN_SECONDS)
    return factory()


def _require_free(host: str, port: int) -> str:
    """The address to listen on. Workers share a port, which would let a second tracker in as well."""
    listener = _listen(host, port)
    try:
        return str(listener.getsockname()[0])
    finally:
        listener.close()


def _make_way(path: Path) -> None:
    """Remove the socket that a killed server left; refuse one that somebody listens on, and whatever else is there."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigError(f"cannot listen on {path}: there is a file of that name", hint="name another socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    except FileNotFoundError:
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"cannot listen on {path}: there is no such folder", hint="make it first") from None
        return
    except ConnectionRefusedError:
        path.unlink()
        return
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}", hint="name another socket") from error
    raise ConfigError(f"cannot listen on {path}: a server listens there", hint="stop it first, or name another socket")


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ConfigError(f"the port is {port}, must be in 0..65535", hint="ports below 1024 need special rights")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise ConfigError(
            f"cannot listen on {host} port {port}: {'something else does' if taken else error.strerror or error}",
            hint="stop what runs there, or choose another port" if taken else "choose another address or port",
        ) from error
    # Accepted sockets inherit it; without it, asyncio leaves an answer's second packet waiting for 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def shared_numbers() -> tempfile.TemporaryDirectory[str]:
    """A folder in which the workers put their numbers together; to be made before any of them starts."""
    folder = tempfile.TemporaryDirectory(prefix="abmail-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder.name
    return folder


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
        server, listener = _background(self._app), _listen(self._host, self._port)
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


def _background(app: ASGIApp) -> uvicorn.Server:
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtra("serving from a thread", "demo") from error
    config = uvicorn.Config(
        app,
        log_config=None,  # logging belongs to the program around us
        access_log=False,  # a URL holds a reader's token
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)
