"""Commands that tell and decide: status, report, stop, settle."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.engine import Status
    from abmail.report import Report

_METHODS = ("fixed", "sequential", "anytime", "exact", "aipw", "bayes")


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(form: str) -> None:
    """Show each applied experiment: what is sent, what waits, and when the next wave is due.

    Example: abmail status
    """
    with shared.engine() as engine:
        found = engine.status()
    if form == "json":
        plain = [{**asdict(e), "next_at": e.next_at and e.next_at.isoformat()} for e in found]
        click.echo(json.dumps({"format_version": 1, "experiments": plain}, indent=2))
        return
    if not found:
        click.echo("no experiment was applied yet; next: abmail apply NAME")
    for each in found:
        messages = ", ".join(f"{n} {state}" for state, n in each.messages.items())
        wave = f"wave {each.epochs}" + (f" of {each.planned_epochs}" if each.planned_epochs else "")
        click.echo(f"{each.experiment}: {_state(each)}, {wave}; {messages}{_next(each)}")
        for arm, why in each.stopped.items():
            click.echo(f"  {arm} is stopped: {why}")


def _state(each: Status) -> str:
    if each.paused is not None:
        return "paused"
    return "all sent" if each.state == "running" and each.is_finished else each.state


def _next(each: Status) -> str:
    if each.paused is not None:
        return f"\n  {each.paused}; to go on: abmail resume {each.experiment}"
    if each.next_at is None:
        return ""
    if each.next_at <= datetime.now(UTC):
        return f"; mails are due now: abmail send {each.experiment}"
    return f"; next at {each.next_at:%Y-%m-%d %H:%M} UTC"


@click.command()
@click.argument("experiment")
@click.option("--format", "form", type=click.Choice(["text", "json", "md", "html"]), default="text", show_default=True)
@click.option("--language", type=click.Choice(["en", "ja"]), default="en", show_default=True)
@click.option("--by", metavar="ATTRIBUTE", help="Also compare within segments: a column of the list, domain, or hour.")
@click.option("--method", type=click.Choice(_METHODS), help="A second look by another method; it decides nothing.")
@click.option("--alpha", type=float, help="A second look at another error level.")
@click.option(
    "--verdicts",
    type=click.Choice(["all", "human-likely", "strict"]),
    help="A second look; all: machines count too, strict: only what nothing speaks against.",
)
@shared.OUTPUT
def report(
    experiment: str,
    form: str,
    language: str,
    by: str | None,
    method: str | None,
    alpha: float | None,
    verdicts: str | None,
    output: str | None,
) -> None:
    """Say what EXPERIMENT has shown so far. May be read at any time: the result stays true however often you look.

    Another method, level or verdict gives a second look beside the registered analysis, never in its place.

    Example: abmail report subjects --by industry --format html -o report.html
    """
    project = shared.project()
    with project.engine() as engine, shared.words():
        name = shared.name(project, experiment)
        result = engine.analyze(name, method=method, alpha=alpha, verdicts=verdicts, by=by)
    shared.write(_rendered(result, form, "ja" if language == "ja" else "en", output), output)


def _rendered(result: Report, form: str, language: Any, output: str | None) -> str:
    if form == "json":
        return result.to_json()
    if form == "md":
        return result.to_markdown(language=language)
    if form == "html":
        return result.to_html(language=language)
    return result.to_text(width=shared.width(), color=shared.colour(output), language=language)


@click.command()
@click.argument("experiment")
@click.option("--ship", metavar="CELL", help="Send this variant to everybody who waits.")
@click.option("--arm", metavar="CELL", help="Stop this variant alone: its share goes to the others.")
@click.option("--why", default="", help="Noted with the decision.")
@shared.YES
def stop(experiment: str, ship: str | None, arm: str | None, why: str, yes: bool) -> None:
    """Stop EXPERIMENT by hand; what is not sent yet is cancelled, or gets the variant CELL.

    With --arm the experiment goes on without one variant; mails that have it already still go out.

    Example: abmail stop subjects --ship number --why "the webinar is full"
    """
    if ship and arm:
        raise click.UsageError("--ship ends the experiment and --arm goes on with it: give one of them")
    project = shared.project()
    with project.engine() as engine:
        name = shared.name(project, experiment)
        waiting = engine.waiting(name)
        deed = f"send {ship} to the {waiting} who wait" if ship else f"cancel the {waiting} mails that wait"
        if not ship and not waiting:
            deed = "let it end: no mail waits"
        if arm:
            deed = f"send no more {arm}"
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"this would {deed}; say so with --yes")
            click.confirm(f"{name}: {deed}?" if arm else f"Stop {name} and {deed}?", abort=True, err=True)
        with shared.words():
            if arm:
                fresh = engine.stop_arm(name, arm, why=why)
                click.echo(f"{name}: {arm} {'is stopped' if fresh else 'had been stopped before'}, the others go on")
                return
            cancelled = engine.stop(name, ship=ship, why=why)
    click.echo(
        f"{name}: the rest gets {ship}; run `abmail send {name}`" if ship else f"{name}: stopped, {cancelled} cancelled"
    )


@click.command()
@click.argument("experiment")
@click.option("--as", "outcome", type=click.Choice(["sent", "lost"]), help="What became of them.")
@click.argument("messages", nargs=-1)
def settle(experiment: str, outcome: str | None, messages: tuple[str, ...]) -> None:
    """List the uncertain mails of EXPERIMENT, or settle them: all, or those named by their id.

    Example: abmail settle subjects --as sent
    """
    from abmail.store import State

    with shared.engine() as engine:
        name = shared.name(shared.project(), experiment)
        found = [m for m in engine.store.messages(name, states=[State.UNCERTAIN]) if not messages or m.id in messages]
        if outcome is None:
            for message in found:
                click.echo(f"{message.id}  {message.email}  {message.attempted_at:%Y-%m-%d %H:%M:%S}  {message.error}")
            click.echo(f"{len(found)} uncertain", err=True)
            return
        now = datetime.now(UTC)
        done = sum(engine.store.settle(m.id, sent=outcome == "sent", now=now) for m in found)
    click.echo(f"{done} settled as {outcome}")


COMMANDS = (status, report, stop, settle)
