"""Commands that take events in: serve, ingest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from abmail.cli import _shared as shared


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8025, show_default=True)
def serve(host: str, port: int) -> None:
    """Run the tracker: open pixel, click redirect, unsubscribe.

    Example: abmail serve --host 0.0.0.0 --port 8025
    """
    from abmail.web import create_app, run

    project = shared.project()
    with project.engine() as engine:
        click.echo(
            f"the tracker listens on http://{host}:{port}; mails point to {project.settings['tracker_url'].value}",
            err=True,
        )
        run(create_app(engine, clock=lambda: datetime.now(UTC)), host=host, port=port)


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--bounces", metavar="SOURCE", help="Read what came back from a mail, mbox, maildir, folder or IMAP URL.")
@click.option("--rejected", type=click.Path(dir_okay=False, path_type=Path), help="Write the refused lines to a file.")
def ingest(file: Path | None, bounces: str | None, rejected: Path | None) -> int:
    """Record events from JSON lines, or bounces and complaints; the same again changes nothing.

    Exit 1 where lines or mails were refused.

    Each line: {"type": "opened", "at": "2026-03-01T10:00:00Z", "message_id": "..."}, or "experiment" and "recipient"
    instead of the message's id.

    SOURCE is a path, or imaps://user@host/folder (imap+starttls:// on port 143), of which the unread mails are taken
    and marked as read; the password comes from ABMAIL_IMAP_PASSWORD.

    Example: abmail ingest --bounces imaps://bounces@imap.example.com/INBOX
    """
    if (file is None) == (bounces is None):
        raise click.UsageError("give a FILE of events, or --bounces with a mailbox")
    if file is None:
        if rejected is not None:
            raise click.UsageError("--rejected is for the lines of a FILE")
        return _ingest_bounces(str(bounces))
    return _ingest_lines(file, rejected)


def _ingest_lines(file: Path, rejected: Path | None) -> int:
    from abmail.events import Event, read_jsonl

    shared.require_writable(rejected)
    now = datetime.now(UTC)
    outcome: dict[str, int] = {}
    problems = []
    with shared.engine() as engine, click.open_file(str(file), "rb") as lines:
        batch: list[Event] = []
        for item in read_jsonl(lines, now=now):
            if not isinstance(item, Event):
                problems.append(item)
                continue
            batch.append(item)
            if len(batch) == 1_000:
                _count(outcome, engine.record_all(batch, now=now))
                batch = []
        _count(outcome, engine.record_all(batch, now=now))
    for problem in problems[:20]:
        click.echo(f"{file}:{problem.line}: {problem.message}", err=True)
    if rejected is not None:
        shared.write_file(rejected, "".join(f"{p.text}\n" for p in problems))
    click.echo(f"{_told(outcome)}, {len(problems)} lines refused")
    return int(bool(problems))


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


COMMANDS = (serve, ingest)
