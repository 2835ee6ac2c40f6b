"""Commands about when people read: sendtime fit, show, zones and simulate."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.engine import Engine
    from abmail.project import Project
    from abmail.sendtime import History, SendTime

_MOST_SHOWN = 20


_HISTORY = click.option(
    "--history", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A provider's export of past mails (CSV with recipient, time sent, time opened); may be given several times.",
)  # fmt: skip


@click.group()
def sendtime() -> None:
    """When recipients read."""


@sendtime.command()
@_HISTORY
@click.option("--by", metavar="ATTRIBUTE", help="Attribute of the recipients whose values are segments.")
@click.option(
    "--clock", default="UTC", show_default=True, metavar="ZONE", help="Time zone of times in exports that name none."
)
def fit(files: tuple[Path, ...], by: str | None, clock: str) -> int:
    """Learn when people read, from the mails sent here and from exports, and keep it in sendtime.npz.

    Mails count once they are 72 hours old. Rows that cannot be used are named with their line and left out, and what
    the history cannot tell is said. Exit 1 where rows of an export were left out.

    Example: abmail sendtime fit --history past-mails.csv --clock Europe/Berlin
    """
    from abmail.sendtime import SendTime, judge_history

    project = shared.project()
    shared.require_writable(project.send_times)
    now = datetime.now(UTC)
    with project.engine() as engine, shared.words():
        history, skipped = _past(engine, files, by=by, clock=clock, now=now)
        judged = judge_history(history, now=now.timestamp(), default_zone=clock)
        model = replace(SendTime.fit(history, now=now.timestamp(), default_zone=clock), by=by or "")
    for problem in model.problems:
        click.echo(f"left out: {problem.message} ({len(problem.rows):,} mails)", err=True)
    for message in judged.messages:
        click.echo(f"note: {message}", err=True)
    model.save(project.send_times)
    click.echo(
        f"learned from {judged.mails:,} mails to {judged.recipients:,} recipients, {judged.opens:,} opened by people; "
        f"wrote {project.send_times.name}"
    )
    click.echo("next: abmail sendtime show")
    return int(bool(skipped))


def _past(engine: Engine, files: tuple[Path, ...], *, by: str | None, clock: str, now: datetime) -> tuple[History, int]:
    """The mails sent here and those of exports, and how many rows of the latter were left out."""
    from abmail._habits import joined

    own = engine.send_history(by=by, now=now)
    ids = {recipient.email: recipient.id for recipient in engine.store.recipients()} if files else {}
    read = [_read(file, clock) for file in files]
    return joined([own, *(history for history, _ in read)], zone=clock, ids=ids), sum(count for _, count in read)


def _read(file: Path, clock: str) -> tuple[History, int]:
    """An export's history, its bad rows said, and their number."""
    from abmail.sendtime import read_history

    found = read_history(file, clock=clock)
    for problem in found.problems[:_MOST_SHOWN]:
        click.echo(f"{file}:{problem.line}: {problem.message}", err=True)
    if len(found.problems) > _MOST_SHOWN:
        click.echo(f"{file}: ... and {len(found.problems) - _MOST_SHOWN} more", err=True)
    click.echo(
        f"{file}: {found.rows} rows ({found.encoding}): {len(found.history)} mails, {found.skipped} left out", err=True
    )
    return found.history, found.skipped


@sendtime.command()
@click.argument("recipient", required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--language", type=click.Choice(["en", "ja"]), default="en", show_default=True)
@shared.OUTPUT
def show(recipient: str | None, form: str, language: Literal["en", "ja"], output: str | None) -> int:
    """Show when people read; with RECIPIENT, an address or id, that one's best hour and why.

    Example: abmail sendtime show lead17@example.com
    """
    from abmail import _habits as habits

    project = shared.project()
    model = _load(project)
    if recipient is None:
        values, page = habits.model_values(model), habits.model_page(model, language)
    else:
        ident, segment = _identity(project, recipient, model.by)
        why = model.why(ident, list(range(168)), fixed=24 + 10, segment=segment)
        values, page = habits.why_values(why), habits.why_page(why, language)
    shared.write(json.dumps(values, ensure_ascii=False) + "\n" if form == "json" else page, output)
    return 0


@sendtime.command()
@_HISTORY
@click.option(
    "--clock", default="UTC", show_default=True, metavar="ZONE", help="Time zone in which their mails were counted."
)
@click.option(
    "--at-least",
    type=click.FloatRange(0.5, 1),
    default=0.95,
    show_default=True,
    help="Probability that the zone is right to an hour.",
)
@shared.OUTPUT
def zones(files: tuple[Path, ...], clock: str, at_least: float, output: str | None) -> int:
    """List recipients without a time zone or country who, by their hours of opening, live in another zone.

    The CSV has all their columns, the zone as a fixed offset from UTC, and the probability that it is right to an hour.
    Nothing is changed until you look it through and import it: abmail audience import.

    Example: abmail sendtime zones -o elsewhere.csv
    """
    import csv
    import io

    from abmail._habits import zones_elsewhere

    now = datetime.now(UTC)
    with shared.engine() as engine, shared.words():
        history, _ = _past(engine, files, by=None, clock=clock, now=now)
        unknown = [one for one in engine.store.recipients() if one.zone is None and not one.attributes.get("country")]
        told = zones_elsewhere(history, unknown, clock=clock, now=now, at_least=at_least)
    columns = sorted({name for one, *_ in told for name in one.attributes} - {"zone_probability"})
    page = io.StringIO()
    write = csv.writer(page, lineterminator="\n").writerow
    write(["id", "email", "zone", "zone_probability", *columns])
    for one, zone, chance in told:
        write([one.id, one.email, zone, f"{chance:.2f}", *(one.attributes.get(name, "") for name in columns)])
    shared.write(page.getvalue(), output)
    click.echo(f"{len(told):,} of {len(unknown):,} recipients without a zone seem to live in another one", err=True)
    return 0


_STRENGTHS = {"strong": 1.0, "weak": 0.5, "none": 0.0}


@sendtime.command()
@click.option(
    "--recipients", type=click.IntRange(1, 1_000_000), help="People on the list; the imported list's by default."
)
@click.option(
    "--past",
    type=click.IntRange(0, 200),
    help="Past mails to each; by default those that were learned from, or else 10.",
)
@click.option(
    "--mailings", type=click.IntRange(1, 200), default=12, show_default=True, help="Mailings to come, one a week."
)
@click.option(
    "--hours", type=(click.IntRange(0, 23), click.IntRange(1, 24)), default=(7, 21), show_default=True,
    help="First hour at which mail may go out, and the one before which it must.",
)  # fmt: skip
@click.option(
    "--fixed", type=click.IntRange(0, 23), default=10, show_default=True, help="Hour of mail without learning."
)
@click.option(
    "--control", type=click.FloatRange(0, 0.5), default=0.1, show_default=True, help="Share that stays at that hour."
)
@click.option("--explore", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Share of random hours.")
@click.option(
    "--open-rate",
    type=click.FloatRange(0.001, 0.7),
    help="Share that opens; by default as it was learned, or else 0.22.",
)
@click.option(
    "--habits", type=click.Choice(["own", *_STRENGTHS]),
    help="How people differ: as learned here, or made up. By default as learned here, or else weak.",
)  # fmt: skip
@click.option("--replications", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Simulated lists.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random numbers.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, help="Processes; by default, cores.")
@click.option("--language", type=click.Choice(["en", "ja"]), default="en", show_default=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@shared.OUTPUT
def simulate(
    recipients: int | None,
    past: int | None,
    mailings: int,
    hours: tuple[int, int],
    fixed: int,
    control: float,
    explore: float,
    open_rate: float | None,
    habits: str | None,
    replications: int,
    seed: int,
    jobs: int,
    language: Literal["en", "ja"],
    form: str,
    output: str | None,
) -> int:
    """What learned send times would bring a list like yours, and when that would be proven.

    Readers are made up; hours, control group and proof are those of a real mailing. List size, past mails, open
    rate and kinds of readers are taken from what `abmail sendtime fit` learned, if it has run. The figures depend
    on --seed alone, not on --jobs.

    Example: abmail sendtime simulate --recipients 5000 --habits weak
    """
    from abmail.cli._simulation import progress_bar, workers
    from abmail.rehearsal import Plan, rehearse

    project = shared.project()
    model = _load(project) if habits == "own" or project.send_times.is_file() else None
    known = {} if model is None else _as_learned(model)
    given = {"recipients": recipients, "past": past, "open_rate": open_rate}
    about: dict[str, Any] = known | {name: value for name, value in given.items() if value is not None}
    if habits in _STRENGTHS or model is None:
        about |= {"kinds": None, "strength": _STRENGTHS[habits or "weak"]}
    if "recipients" not in about:
        with project.engine() as engine:
            about["recipients"] = sum(1 for _ in engine.store.recipients())
    with shared.words():
        plan = Plan(mailings=mailings, hours=hours, fixed=fixed, control=control, explore=explore, **about)
        with workers(jobs) as map_, progress_bar("simulated lists") as progress:
            made = rehearse(plan, replications=replications, seed=seed, map_=map_, progress=progress)
    values = json.dumps(made.to_dict(), ensure_ascii=False) + "\n"
    shared.write(values if form == "json" else made.to_text(language), output)
    return 0


def _as_learned(model: SendTime) -> dict[str, Any]:
    """Size, past, open rate and kinds of readers of a list that was learned from, as far as there is one."""
    sends = float(model.memory.sends.sum())
    if not sends:
        return {}
    classes = model.population.classes
    return {
        "recipients": len(model),
        "past": max(round(sends / len(model)), 1),
        "open_rate": min(max(float(model.memory.opens.sum()) / sends, 0.001), 0.7),
        "kinds": (classes.shapes, classes.shares.mean(axis=0)),
    }


def _load(project: Project) -> SendTime:
    from abmail.errors import ConfigError
    from abmail.sendtime import SendTime

    if not project.send_times.is_file():
        raise ConfigError("nothing was learned of send times yet", hint="run `abmail sendtime fit` first")
    return SendTime.load(project.send_times)


def _identity(project: Project, recipient: str, by: str) -> tuple[str, str | None]:
    """The id of a recipient who is given by address or id, and the segment of one who is on the list."""
    if "@" not in recipient and not by:
        return recipient, None
    wanted = recipient.strip().lower()
    with project.engine() as engine:
        found = next((r for r in engine.store.recipients() if recipient == r.id or wanted == r.email), None)
    if found is None:
        return recipient, None
    return found.id, str(found.attributes.get(by, "")) if by else None


COMMANDS = (sendtime,)
