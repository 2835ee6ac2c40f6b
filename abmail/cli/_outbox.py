"""Commands about mails on their way: pause, resume, outbox list, retry, settle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from abmail.cli import _results
from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.store import StoredMessage

_STATES = (
    "queued", "assigned", "sending", "sent", "failed", "uncertain", "expired", "suppressed", "cancelled", "held_out"
)  # fmt: skip


@click.command()
@click.argument("experiment")
@click.option("--why", default="", help="Shown by status.")
def pause(experiment: str, why: str) -> None:
    """Let no further mail of EXPERIMENT go out; a sender that runs stops before its next mail.

    Example: abmail pause subjects --why "a link is broken"
    """
    with shared.engine() as engine:
        name = shared.name(shared.project(), experiment)
        changed = engine.pause(name, why=why)
    click.echo(f"{name}: paused; to go on: abmail resume {name}" if changed else f"{name}: nothing to pause")


@click.command()
@click.argument("experiment")
def resume(experiment: str) -> None:
    """Let mails of EXPERIMENT go out again.

    Example: abmail resume subjects
    """
    with shared.engine() as engine:
        name = shared.name(shared.project(), experiment)
        changed = engine.resume(name)
    click.echo(f"{name}: resumed; next: abmail send {name}" if changed else f"{name}: was not paused")


@click.group()
def outbox() -> None:
    """Mails one by one: which failed and why, and what to do about them."""


@outbox.command("list")
@click.argument("experiment")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Several times for several states.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@shared.OUTPUT
def outbox_list(experiment: str, states: tuple[str, ...], form: str, output: str | None) -> None:
    """List mails of EXPERIMENT: those that failed, are late or uncertain, or those of --state.

    Example: abmail outbox list subjects --state failed
    """
    from abmail.store import State

    wanted = [State(state) for state in states or ("failed", "uncertain", "expired")]
    with shared.engine() as engine:
        name = shared.name(shared.project(), experiment)
        engine.store.experiment(name)
        found = list(engine.store.messages(name, states=wanted))
    lines = [json.dumps(_plain(each)) if form == "json" else _line(each) for each in found]
    shared.write("".join(f"{line}\n" for line in lines), output)
    click.echo(f"{len(found)} mails", err=True)


def _plain(message: StoredMessage) -> dict[str, object]:
    tried = message.attempted_at
    return {
        "id": message.id, "email": message.email, "state": message.state.value, "attempts": message.attempts,
        "attempted_at": tried and tried.isoformat(), "error": message.error,
    }  # fmt: skip


def _line(message: StoredMessage) -> str:
    tried = f"{message.attempted_at:%Y-%m-%d %H:%M:%S}" if message.attempted_at else "never tried"
    return f"{message.id}  {message.email}  {message.state}  {tried}  {message.error or ''}".rstrip()


@outbox.command("retry")
@click.argument("experiment")
@click.option("--state", type=click.Choice(["failed", "expired", "uncertain"]), default="failed", show_default=True)
@shared.YES
@click.argument("messages", nargs=-1)
def outbox_retry(experiment: str, state: str, yes: bool, messages: tuple[str, ...]) -> None:
    """Send mails of EXPERIMENT again that failed: all, or those named by their id.

    Uncertain ones may have arrived: whoever has one gets it twice. Suppressed addresses get nothing.

    Example: abmail outbox retry subjects
    """
    if state == "uncertain" and not yes:
        click.confirm("They may have arrived, and would then come twice. Send them again?", abort=True, err=True)
    with shared.engine() as engine, shared.words():
        name = shared.name(shared.project(), experiment)
        n = engine.retry(name, state=state, messages=messages)
    click.echo(f"{n} mails will be sent again" + (f"; next: abmail send {name}" if n else ""))


outbox.add_command(
    click.Command(
        "settle",
        params=_results.settle.params,
        callback=_results.settle.callback,
        help=(_results.settle.help or "").replace("abmail settle", "abmail outbox settle"),
    )
)

COMMANDS = (pause, resume, outbox)
