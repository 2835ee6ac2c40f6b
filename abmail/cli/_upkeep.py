"""Commands beside the work: db, demo."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from abmail.cli import _shared as shared


@click.group()
def db() -> None:
    """The database."""


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the tables to this version of abmail; does nothing where they are.

    Example: abmail db upgrade
    """
    from abmail.store import upgrade

    before, after = upgrade(shared.project().database)
    click.echo(f"at revision {after}" + ("" if before == after else f" (was {before or 'empty'})"))


@db.command("status")
def db_status() -> None:
    """Show the database's place and revision.

    Example: abmail db status
    """
    with shared.engine() as engine:
        click.echo(
            f"{engine.store.url} at revision {engine.store.revision()}, {engine.store.count_recipients()} recipients"
        )


@click.command()
@click.option("--recipients", type=click.IntRange(100, 1_000_000), default=6_000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True)
@click.option("-o", "--output", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("abmail-demo"))
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def demo(recipients: int, seed: int, folder: Path, as_json: bool) -> None:
    """Run a whole experiment on a made-up list: real SMTP and HTTP on this machine, two days in about a minute.

    Example: abmail demo --recipients 2000 -o /tmp/demo
    """
    from abmail.demo import run_demo

    with _steps(enabled=sys.stderr.isatty()) as step:
        outcome = run_demo(folder, recipients=recipients, seed=seed, on_step=step)
    click.echo(
        json.dumps(outcome.to_dict(), indent=2, ensure_ascii=False)
        if as_json
        else outcome.to_text(color=shared.colour(None))
    )


@contextmanager
def _steps(*, enabled: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar from 0 to 1 on a terminal, a line for each new title elsewhere."""
    last = ""

    def say(title: str, _done: float) -> None:
        nonlocal last
        if title != last:
            click.echo(title, err=True)
            last = title

    if not enabled:
        yield say
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("demo", total=1.0)
        yield lambda title, done: bar.update(task, description=title, completed=done)


COMMANDS = (db, demo)
