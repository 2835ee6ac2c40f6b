"""Commands about recipients: audience, suppress."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from abmail.cli import _shared as shared


@click.group()
def audience() -> None:
    """Recipients."""


@audience.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--encoding", help="Of the file; found out by default.")
@click.option("--delimiter", help="Between columns; found out by default.")
@click.option(
    "--problems", type=click.Path(dir_okay=False, path_type=Path), help="Write all skipped rows to a CSV file."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def audience_import(file: Path, encoding: str | None, delimiter: str | None, problems: Path | None, form: str) -> int:
    """Import recipients from a CSV file with a column `email`; other columns become attributes.

    Bad and duplicate rows are named with their line and skipped, the rest is imported. Exit 1 where rows were skipped.

    Example: abmail audience import leads.csv
    """
    from abmail.audience import read_recipients

    shared.require_writable(problems)
    source = sys.stdin.buffer.read() if str(file) == "-" else file
    read = read_recipients(source, encoding=encoding, delimiter=delimiter)
    with shared.engine() as engine:
        imported = engine.store.import_recipients(read.recipients, now=datetime.now(UTC))
    conflicts = [f"recipient {i}: another recipient already has this address" for i in imported.conflicts]
    conflicts += [f"recipient {i}: asked to be forgotten" for i in imported.forgotten]
    if problems is not None:
        _write_problems(read.problems, problems)
    if form == "json":
        counted = {"new": imported.new, "updated": imported.updated, "unchanged": imported.unchanged}
        listed = [{"line": p.line, "code": p.code, "column": p.column, "message": p.message} for p in read.problems]
        click.echo(
            json.dumps({"format_version": 1, "rows": read.rows, **counted, "problems": listed}, ensure_ascii=False)
        )
    else:
        for problem in read.problems[:20]:
            click.echo(f"{file}:{problem.line}: {problem.message}", err=True)
        if len(read.problems) > 20:
            click.echo(f"... and {len(read.problems) - 20} more; --problems FILE writes them all", err=True)
        for conflict in conflicts[:20]:
            click.echo(f"{file}: {conflict}", err=True)
        click.echo(
            f"{read.rows} rows ({read.encoding}): {imported.new} new, {imported.updated} updated, "
            f"{imported.unchanged} unchanged, {read.skipped + len(conflicts)} skipped"
        )
    return int(bool(read.problems or conflicts))


def _write_problems(problems: Sequence[Any], path: Path) -> None:
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["line", "column", "value", "code", "message"])
    writer.writerows([p.line, p.column, p.value_masked, p.code, p.message] for p in problems)
    shared.write_file(path, text.getvalue())


@audience.command("list")
@click.option("--segment", help="Only recipients for whom this expression is true.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Show so many.")
def audience_list(segment: str | None, limit: int) -> None:
    """Count the recipients of a segment, and show the first ones.

    Example: abmail audience list --segment "stage in ['warm', 'hot']"
    """
    from abmail.audience import in_segment
    from abmail.segment import Segment

    chosen = Segment.parse(segment) if segment else None
    with shared.engine() as engine:
        found = [recipient for recipient in engine.store.recipients() if in_segment(chosen, recipient)]
    for recipient in found[:limit]:
        click.echo(f"{recipient.email}  {json.dumps(dict(recipient.attributes), ensure_ascii=False)}")
    click.echo(f"{len(found)} recipients", err=True)


@click.command()
@click.argument("addresses", nargs=-1)
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="One address a line, or CSV."
)
@click.option("--reason", default="by hand", show_default=True)
def suppress(addresses: tuple[str, ...], file: Path | None, reason: str) -> int:
    """Never mail these addresses again.

    Example: abmail suppress ceo@example.com --reason "asked by phone"
    """
    from abmail.audience import read_suppressions
    from abmail.recipient import normalise_email

    if not addresses and file is None:
        raise click.UsageError("name addresses, or a file with --file")
    with shared.words():
        wanted = [normalise_email(address) for address in addresses]
    problems: Sequence[Any] = ()
    if file is not None:
        read = read_suppressions(file)
        wanted += read.addresses
        problems = read.problems
    for problem in problems:
        click.echo(f"{file}:{problem.line}: {problem.message}", err=True)
    with shared.engine() as engine:
        added = engine.store.suppress(wanted, reason=reason, now=datetime.now(UTC))
    click.echo(f"{added} suppressed, {len(set(wanted)) - added} were before")
    return int(bool(problems))


COMMANDS = (audience, suppress)
