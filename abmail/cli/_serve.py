"""The command that runs the tracker."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abmail.cli import _shared as shared
from abmail.errors import ConfigError

if TYPE_CHECKING:
    from abmail.project import Project
    from abmail.web import TrackerSettings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Name or address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8025, show_default=True)
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="A Unix socket, in place of a port.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="So many processes.")
@click.option("--metrics", is_flag=True, help="Numbers for Prometheus at /metrics.")
@click.option("--access-log", is_flag=True, help="Write a line for each request to stdout, without its URL.")
def serve(host: str, port: int, socket_path: Path | None, workers: int, metrics: bool, access_log: bool) -> None:
    """Run the tracker: open pixel, click redirect, unsubscribe, and the webhooks of mail providers.

    With ABMAIL_DASHBOARD_PASSWORD set, /dashboard shows every experiment and its report to who has the password.

    Ctrl-C or SIGTERM stops it, once what it has seen is stored. See docs/tracker.md for nginx and systemd.

    Example: abmail serve --host 0.0.0.0 --port 8025 --workers 2
    """
    from abmail import web

    project = shared.project()
    settings = _settings(project, metrics)
    with project.engine():
        pass  # what is wrong with the database or the key is better said here than by each worker
    place = f"http://{host}:{port}" if socket_path is None else f"unix:{socket_path}"
    told = f"the tracker listens on {place}; mails point to {project.settings['tracker_url'].value}"
    if project.dashboard_password():
        told += "; the dashboard is at /dashboard"
    if project.conversion_keys():
        told += "; servers with a key may report conversions"
    if providers := ", ".join(project.webhooks()):
        told += f"; webhooks are taken from {providers}"
    with web.shared_numbers() if metrics and workers > 1 else nullcontext():
        web.serve(
            partial(_tracker, project, settings), host=host, port=port, socket_path=socket_path, workers=workers,
            access_log=access_log, on_start=lambda: click.echo(told, err=True),
        )  # fmt: skip


def _settings(project: Project, metrics: bool) -> TrackerSettings:
    from abmail.web import TrackerSettings

    proxies, rate = project.settings["tracker_proxies"], project.settings["tracker_rate"]
    try:
        number = float(rate.value)
    except ValueError:
        raise ConfigError(
            f"tracker_rate ({rate.source}) is {rate.value!r}, must be a number", hint="0 sets no limit"
        ) from None
    named = tuple(each.strip() for each in proxies.value.split(",") if each.strip())
    return TrackerSettings(proxies=named, rate=number, metrics=metrics)


def _tracker(project: Project, settings: TrackerSettings) -> Any:
    """The tracker of a project, with a connection to the database of its own; called in each worker."""
    from abmail._fetch import fetch
    from abmail.web import conversion_api, create_app, dashboard_routes, webhook_routes

    engine = project.engine()
    routes = [
        *webhook_routes(project.webhooks(), engine, clock=_now, fetch=fetch),
        *conversion_api(engine, engine.store, project.conversion_keys(), clock=_now),
        *dashboard_routes(engine, project.dashboard_password()),
    ]
    return create_app(engine, clock=_now, settings=settings, journal=engine, routes=routes, at_end=engine.close)


def _now() -> datetime:
    return datetime.now(UTC)


COMMANDS = (serve,)
