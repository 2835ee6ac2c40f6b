"""Commands that take events in: serve, ingest."""

from __future__ import annotations

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
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--rejected", type=click.Path(dir_okay=False, path_type=Path), help="Write the refused lines to a file.")
def ingest(file: Path, rejected: Path | None) -> int:
    """Record events from JSON lines; the same file twice changes nothing. Exit 1 where lines were refused.

    Each line: {"type": "opened", "at": "2026-03-01T10:00:00Z", "message_id": "..."}, or "experiment" and "recipient"
    instead of the message's id.

    Example: abmail ingest events.jsonl
    """
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
    click.echo(
        f"{outcome.get('new', 0)} new events, {outcome.get('duplicate', 0)} known before, "
        f"{outcome.get('unknown_message', 0)} of unknown messages, {len(problems)} lines refused"
    )
    return int(bool(problems))


def _count(outcome: dict[str, int], recorded: Sequence[str]) -> None:
    for each in recorded:
        outcome[str(each)] = outcome.get(str(each), 0) + 1


COMMANDS = (serve, ingest)
