"""Commands for what is kept of people: forget, person, retention."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.store import Forgotten


@click.command()
@click.argument("address")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@shared.YES
def forget(address: str, dry_run: bool, yes: bool) -> None:
    """Erase a person everywhere, and never mail them again; counts and reports stay.

    Erased are the recipient with all attributes, what events tell of them, their entry among the send times and mails
    in outbox/. Their mails stay in the ledger under new ids, without the person. What is kept is a hash of the address
    under the signing key: it keeps the address out of every list that is imported.

    Example: abmail forget hanako@example.jp --yes
    """
    email, project = _normalised(address), shared.project()
    if not (dry_run or yes):
        if not sys.stdin.isatty():
            raise click.UsageError("erasing cannot be undone; say --yes, or look first with --dry-run")
        click.confirm(f"Erase {email} for good?", abort=True, err=True)
    with project.engine() as engine:
        found = engine.forget(email, dry_run=dry_run)
    files = 0 if dry_run else project.erase_mails(found.messages)
    click.echo(_told(found, files, dry_run=dry_run))
    if not dry_run:
        click.echo("not reached from here: backups, mail servers' and providers' logs, exported files", err=True)


def _told(found: Forgotten, files: int, *, dry_run: bool) -> str:
    lines = {
        "the recipient with all attributes": bool(found.recipient),
        f"the person behind {len(found.messages)} mails": len(found.messages),
        f"{found.waiting} of them had not been sent and will not be": found.waiting,
        f"what {found.events} events told beside the counts": found.events,
        f"{found.apart} events that belonged to no mail": found.apart,
        f"the suppressed address (it was: {found.suppression})": bool(found.suppression),
        "the entry among the send times": found.in_send_times,
        f"{files} mails in outbox/": files,
    }
    listed = [f"  {line}" for line, present in lines.items() if present]
    if not listed:
        known = f"was erased on {found.before:%Y-%m-%d}" if found.before else "is not known here"
        wish = "would be kept out from now on" if dry_run else "is kept out of every list from now on"
        return f"nothing to erase: the address {known}; it {wish}"
    head = "would be erased:" if dry_run else "erased; a hash keeps the address out of every list from now on:"
    return "\n".join([head, *listed])


@click.group()
def person() -> None:
    """What is kept of somebody."""


@person.command("export")
@click.argument("address")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="json", show_default=True)
@shared.OUTPUT
def person_export(address: str, form: str, output: str | None) -> None:
    """Write all that is kept of a person: their data, mails, events, and what was learned of them.

    Example: abmail person export hanako@example.jp -o hanako.json
    """
    from abmail._person import person_text

    with shared.engine() as engine:
        data = engine.person(_normalised(address))
    shared.write(json.dumps(data, indent=2, ensure_ascii=False) if form == "json" else person_text(data), output)


@click.group()
def retention() -> None:
    """How long data is kept."""


@retention.command("run")
@click.option("--keep", help="How long; by default as `keep` under [privacy] in abmail.toml says.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
def retention_run(keep: str | None, dry_run: bool) -> None:
    """Drop what tells of people and is older than that; counts and reports stay as they are.

    Of older events only what counts is left. Mails of experiments that ended before then are cut loose from their
    recipients; these experiments are closed and take nobody in any more. Run it once a day.

    Example: abmail retention run --keep 400d --dry-run
    """
    from abmail._values import parse_duration

    project = shared.project()
    with shared.words():
        span = parse_duration(keep) if keep else project.keep
    if span is None:
        raise click.UsageError(
            'say how long data is kept: --keep 400d, or keep = "400d" under [privacy] in abmail.toml'
        )
    with project.engine() as engine:
        done = engine.retire(keep=span, dry_run=dry_run)
    verb = "would be" if dry_run else "were"
    click.echo(
        f"{done.messages} mails of {len(done.experiments)} ended experiments {verb} cut loose from their recipients, "
        f"{done.bodies} events {verb} reduced to what counts, {done.apart} events of no mail {verb} dropped"
    )


def _normalised(address: str) -> str:
    from abmail.recipient import normalise_email

    with shared.words():
        return normalise_email(address)


COMMANDS = (forget, person, retention)
