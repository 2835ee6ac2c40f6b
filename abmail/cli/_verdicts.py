"""Commands on stored events: events rejudge."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.engine import Rejudgement


@click.group()
def events() -> None:
    """What was recorded of opens, clicks and the rest."""


@events.command("rejudge")
@click.argument("experiment", required=False)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def rejudge(experiment: str | None, dry_run: bool, form: str) -> int:
    """Judge the opens and clicks of EXPERIMENT, or of all, by the rules of this version, and correct the counts.

    Shows for each variant what changes, and whether the decision does. Broken off, it goes on where it stopped. With
    --dry-run, exit 1 where a verdict would change.

    Example: abmail events rejudge subjects --dry-run
    """
    project = shared.project()
    with project.engine() as engine, shared.words():
        names = [shared.name(project, experiment)] if experiment else [each.experiment for each in engine.status()]
        found = [engine.rejudge(name, apply=not dry_run) for name in names]
    if form == "json":
        plain = [_plain(each) for each in found]
        click.echo(json.dumps({"format_version": 1, "applied": not dry_run, "experiments": plain}, indent=2))
    else:
        if not found:
            click.echo("no experiment was applied yet; next: abmail apply NAME")
        for each in found:
            _show(each, dry_run)
    return int(dry_run and any(each.events for each in found))


def _show(found: Rejudgement, dry_run: bool) -> None:
    would = "would change" if dry_run else "changed"
    click.echo(f"{found.experiment}: {found.events} verdicts {would}")
    for (kind, before, after), n in found.moves.items():
        click.echo(f"  {n} {kind}: {before} -> {after}")
    for change in found.changes:
        click.echo(f"  {change.arm}, {change.metric} by people: {change.before} -> {change.after}")
    before, after = (" ".join(filter(None, decision)) for decision in (found.before, found.after))
    if found.decision_changes:
        click.echo(f"  the decision {would}: {before} -> {after}")
    else:
        click.echo(f"  the decision stays: {before}")
    if found.touched > found.events and dry_run:
        click.echo(f"  {found.touched} events would get new reasons or the new version of the rules")


def _plain(found: Rejudgement) -> dict[str, object]:
    moves = [
        {"type": kind, "before": before, "after": after, "events": n}
        for (kind, before, after), n in found.moves.items()
    ]
    decisions = {
        when: {"state": state, "arm": arm} for when, (state, arm) in (("before", found.before), ("after", found.after))
    }
    return {
        "experiment": found.experiment,
        "events": found.events,
        "touched": found.touched,
        "changes": [change._asdict() for change in found.changes],
        "moves": moves,
        **decisions,
        "decision_changes": found.decision_changes,
    }


COMMANDS = (events,)
