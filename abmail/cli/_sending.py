"""Commands about mails themselves: preview, send."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail._outbox import Sent
    from abmail.engine import Engine, Scheduled, Tick
    from abmail.project import Project
    from abmail.render import RenderedMessage

_LOOK_AGAIN: Final = 1.0  # seconds until the next tick where one found nothing to do although something is due


@click.command()
@click.argument("experiment")
@click.option("--to", "address", help="As this recipient of the list would get it; the first one by default.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write .eml and .html of each, and index.html with all side by side.",
)
@click.option("--open", "opening", is_flag=True, help="Open that page in a browser; written to preview/ without -o.")
def preview(experiment: str, address: str | None, folder: Path | None, opening: bool) -> None:
    """Show the mail of each variant of EXPERIMENT; stores and sends nothing.

    Example: abmail preview subjects --open
    """
    from abmail.recipient import normalise_email

    project = shared.project()
    with shared.words():
        wanted = None if address is None else normalise_email(address)
    if opening and folder is None:
        folder = project.root / "preview"
    with project.engine() as engine:
        definition = shared.load(project, experiment)
        mails = engine.preview(definition, email=wanted)
        page = "" if folder is None else engine.preview_page(definition, email=wanted)
    for cell, mail in mails:
        click.echo(f"--- {cell.name}\nTo: {mail.recipient}\nSubject: {mail.subject}\n\n{mail.text.rstrip()}\n")
    if folder is not None:
        _write_preview(folder, page, {cell.name: mail for cell, mail in mails})
        if opening:
            click.launch(str(folder / "index.html"))


def _write_preview(folder: Path, page: str, mails: Mapping[str, RenderedMessage]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, mail in mails.items():
        file = re.sub(r'[\\/:*?"<>|]', "_", name)
        shared.write_file(folder / f"{file}.eml", mail.raw)
        shared.write_file(folder / f"{file}.html", mail.html)
    shared.write_file(folder / "index.html", page)
    click.echo(f"wrote {2 * len(mails) + 1} files to {folder}; index.html shows all variants side by side", err=True)


@click.command()
@click.argument("experiment", required=False)
@click.option("--once", is_flag=True, help="A single pass, also when more falls due meanwhile.")
@click.option("--until-done", is_flag=True, help="Wait for the next waves until everything is sent.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many mails a second.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many mails in all.")
@click.option("--connections", type=click.IntRange(1, 64), default=1, show_default=True, help="So many at a time.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent now; send nothing.")
@shared.YES
def send(
    experiment: str | None,
    once: bool,
    until_done: bool,
    rate: float | None,
    limit: int | None,
    connections: int,
    dry_run: bool,
    yes: bool,
) -> int:
    """Send what is due: of EXPERIMENT, or of all running ones. Exit 1 where mails failed or are uncertain.

    Example: abmail send subjects --until-done --rate 10 --connections 4
    """
    project = shared.project()
    name = None if experiment is None else shared.name(project, experiment)
    with project.engine(sending=not dry_run, rate=rate, connections=connections) as engine:
        if dry_run:
            _show_due(engine, name)
            return 0
        _confirm(project, engine, name, yes)
        with _stoppable() as stopping:
            total = _send_all(engine, name, once=once, until_done=until_done, limit=limit, stopping=stopping)
        paused = {each.experiment: each.paused for each in engine.status() if each.paused}
    for each, why in paused.items():
        click.echo(f"{each} is paused: {why}. Look into it, then: abmail resume {each}", err=True)
    click.echo(
        f"{total.sent} sent, {total.retried} to be tried again, {total.failed} failed, {total.uncertain} uncertain"
        + (f", {total.skipped} skipped" if total.skipped else "")
        + (f", {total.deferred} put off" if total.deferred else "")
    )
    if not project.has_mail_server and total.sent:
        click.echo(
            f"no mail server is configured: the mails lie as .eml files in {project.outbox}, nobody got one. "
            "Set ABMAIL_SMTP_URL to send them to people.",
            err=True,
        )
    return int(bool(total.failed or total.uncertain))


def _send_all(
    engine: Engine, name: str | None, *, once: bool, until_done: bool, limit: int | None, stopping: Callable[[], bool]
) -> Sent:
    from abmail._outbox import Sent

    total = Sent()
    while True:
        left = None if limit is None else limit - total.total
        with _progress("sending") as advance:
            tick = engine.tick(only=name, limit=left, on_progress=advance, stopping=stopping)
        total += tick.outbox
        _tell(tick)
        if stopping():
            raise KeyboardInterrupt
        if tick.next_at is None or (limit is not None and total.total >= limit):
            return total
        idle = not (tick.scheduled or tick.opened or tick.outbox.total)
        pause = max((tick.next_at - datetime.now(UTC)).total_seconds(), _LOOK_AGAIN if idle else 0.0)
        if pause > 0 and (once or not until_done):
            click.echo(
                f"nothing more is due before {tick.next_at:%Y-%m-%d %H:%M:%S} UTC; run this again then, "
                "or let --until-done wait for it",
                err=True,
            )
        if once or (pause > 0 and not until_done):
            return total
        if pause > 1:
            click.echo(f"waiting until {tick.next_at:%Y-%m-%d %H:%M:%S} UTC, when more is due", err=True)
        _sleep(pause, stopping)


def _tell(tick: Tick) -> None:
    if tick.recovered:
        click.echo(
            f"{tick.recovered} mails were left half-sent by a sender that ended; they are uncertain and stay unsent",
            err=True,
        )
    for made in tick.scheduled:
        why = f": {made.reason}" if made.reason else ""
        click.echo(f"{made.experiment}: {made.size} mails have their hour{why}{_when(made)}", err=True)
        if made.skipped:
            click.echo(
                f"{made.experiment}: no hour was left for {made.skipped} mails; "
                f"`abmail outbox list {made.experiment} --state expired` says why",
                err=True,
            )
    for opened in tick.opened:
        shares = ", ".join(f"{name} {weight:.0%}" for name, weight in opened.weights.items())
        click.echo(f"{opened.experiment}, wave {opened.number + 1}: {opened.size} recipients ({shares})", err=True)


def _when(made: Scheduled) -> str:
    if made.first_at is None or made.last_at is None:
        return ""
    if made.first_at == made.last_at:
        return f"; all go out at {made.first_at:%Y-%m-%d %H:%M} UTC"
    return f"; the first goes out at {made.first_at:%Y-%m-%d %H:%M} UTC, the last at {made.last_at:%Y-%m-%d %H:%M} UTC"


def _sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopping():
        time.sleep(min(left, 0.5))


def _show_due(engine: Engine, name: str | None) -> None:
    names = [name] if name else [e.name for e in engine.store.experiments() if e.sends]
    for each in names:
        tick = engine.due(each)
        _tell(tick)
        click.echo(f"{each}: {tick.outbox.sent} mails would be sent now; nothing was sent")


def _confirm(project: Project, engine: Engine, name: str | None, yes: bool) -> None:
    if not project.has_mail_server:
        return
    if project.is_tracker_local and engine.waiting(name):
        tracker = project.settings["tracker_url"].value
        click.echo(
            f"warning: links in the mails, also that for unsubscribing, lead to {tracker}, which readers cannot reach; "
            "set tracker_url in abmail.toml first",
            err=True,
        )
    if yes:
        return
    waiting, server = engine.waiting(name), project.mail_server.shown
    if not sys.stdin.isatty():
        raise click.UsageError(f"this sends up to {waiting} mails to people through {server}; say so with --yes")
    click.confirm(f"Send up to {waiting} mails to people through {server}?", abort=True, err=True)


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Let the first interrupt end the work between two mails; a second one ends it at once."""
    stopped = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[Sent], None]]:
    """A counter on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed} mails"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda sent: bar.update(task, completed=sent.total)


COMMANDS = (preview, send)
