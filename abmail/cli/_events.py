"""Commands that take events in: serve, ingest."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.ingest import Export, Refused

_SHOWN: Final = 20
"""Refused rows that are named on the terminal."""


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--provider", default="", metavar="NAME", help="Whose export or webhooks; of exports found from the columns."
)
@click.option(
    "--map",
    "mapping",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML file that says what the columns mean.",
)
@click.option("--experiment", default="", metavar="NAME", help="The experiment of all rows.")
@click.option("--encoding", help="Of the file; found out by default.")
@click.option(
    "--rejects",
    "--rejected",
    "rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the refused rows to a file with the reason; correct it and ingest it.",
)
@click.option("--bounces", metavar="SOURCE", help="Read what came back from a mail, mbox, maildir, folder or IMAP URL.")
def ingest(
    file: Path | None,
    provider: str,
    mapping: Path | None,
    experiment: str,
    encoding: str | None,
    rejects: Path | None,
    bounces: str | None,
) -> int:
    """Record events from a file, or bounces and complaints; the same again changes nothing.

    Exit 1 where rows or mails were refused.

    FILE is JSON lines of abmail's own events, or the export of a provider: CSV, TSV or JSON, packed with gzip or not.
    With --provider it may also hold what the provider's webhooks posted, in JSON.
    Own events look like {"type": "opened", "at": "2026-03-01T10:00:00Z", "message_id": "..."}, or have "experiment" and
    "recipient" instead of the message's id. Rows of an export belong to the message whose id they hold, else to the
    mail of their experiment to their address.

    SOURCE is a path, or imaps://user@host/folder (imap+starttls:// on port 143), of which the unread mails are taken
    and marked as read; the password comes from ABMAIL_IMAP_PASSWORD.

    Example: abmail ingest activity.csv --experiment spring-webinar --rejects refused.csv
    """  # fmt: skip
    if (file is None) == (bounces is None):
        raise click.UsageError("give a FILE of events, or --bounces with a mailbox")
    if file is None:
        if rejects or mapping or provider or experiment or encoding:
            raise click.UsageError("--bounces takes no option that is for a FILE")
        return _ingest_bounces(str(bounces))
    if rejects is not None and rejects.exists() and file.exists() and rejects.samefile(file):
        raise click.UsageError("--rejects names the file that is read; name another one")
    shared.require_writable(rejects)
    with _on_disk(file) as path, shared.words():
        from abmail.ingest import Export

        export = Export.open(path, provider=provider, mapping=mapping, experiment=experiment, encoding=encoding)
        return _ingest_rows(export, str(file), rejects)


@contextmanager
def _on_disk(file: Path) -> Iterator[Path]:
    """The file, or what comes from stdin in a file: it is read more than once."""
    if str(file) != "-":
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="abmail-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield path


def _ingest_rows(export: Export, name: str, rejects: Path | None) -> int:
    from abmail.cli._rejects import Rejects

    shown = 0
    with shared.engine() as engine, Rejects(rejects, export) as file, _progress(export.file.size) as told:

        def refused(row: Refused) -> None:
            nonlocal shown
            shown += 1
            file.add(row)
            if shown <= _SHOWN:
                click.echo(f"{name}:{row.line}: {row.message}", err=True)

        done = engine.ingest(export, refused=refused, told=told)
    if done.refused > _SHOWN and rejects is None:
        click.echo(f"... and {done.refused - _SHOWN} more; --rejects FILE writes them all", err=True)
    kind = "abmail's own events" if export.shape is None else export.shape.name
    kind = f"webhooks of {export.webhook}" if export.webhook else kind
    click.echo(f"read as {kind}, {export.file.encoding}", err=True)
    if done.foreign and not done.new + done.known:
        click.echo("none of these mails is abmail's; if they are, --experiment says whose", err=True)
    extra = [f"{done.foreign} of other mails"] * bool(done.foreign) + [f"{done.nothing} of no use"] * bool(done.nothing)
    told_of = {"new": done.new, "duplicate": done.known, "unknown_message": done.unknown}
    click.echo(", ".join([_told(told_of), *extra, f"{done.refused} lines refused"]))
    return int(bool(done.refused))


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, from the first byte of a file to the last."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("ingest", total=size)
        yield lambda place: bar.update(task, completed=place)


def _ingest_bounces(source: str) -> int:
    """Read what came back; a mail is settled once its events are stored."""
    from abmail._mailboxes import open_mailbox
    from abmail.bounces import events_of, read_report

    outcome: dict[str, int] = {}
    kinds: Counter[str] = Counter()
    password = os.environ.get("ABMAIL_IMAP_PASSWORD", "")
    with shared.engine() as engine, open_mailbox(source, password=password) as mails:
        for mail in mails:
            now = datetime.now(UTC)
            try:
                notices = read_report(mail.raw, signer=engine.signer)
            except ValueError as error:
                kinds["refused"] += 1
                click.echo(f"{mail.place}: {error}", err=True)
                continue
            _count(outcome, engine.record_all(events_of(notices, now=now), now=now))
            kinds.update(notice.kind for notice in notices)
            kinds["without our message"] += sum(not notice.message_id for notice in notices)
            if notices:
                mail.settle()
            else:
                kinds["no report"] += 1
                click.echo(f"{mail.place}: no report of a mail server; left as it is", err=True)
    click.echo(_told(outcome))
    click.echo(", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()) if n) or "no mails", err=True)
    return int(bool(kinds["refused"]))


def _told(outcome: dict[str, int]) -> str:
    return (
        f"{outcome.get('new', 0)} new events, {outcome.get('duplicate', 0)} known before, "
        f"{outcome.get('unknown_message', 0)} of unknown messages"
    )


def _count(outcome: dict[str, int], recorded: Sequence[str]) -> None:
    for each in recorded:
        outcome[str(each)] = outcome.get(str(each), 0) + 1


COMMANDS = (ingest,)
