"""Commands before the first mail: plan what would be sent, and apply it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from abmail.cli import _shared as shared
from abmail.errors import AbmailError, SpecError, StalePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abmail.engine import Applied, Engine, Plan, PlanReport
    from abmail.spec import Experiment

_TRIES: Final = 3  # times that a plan nobody has seen is made anew where the list changes meanwhile


@click.command()
@click.argument("experiments", metavar="[EXPERIMENT]...", nargs=-1)
@click.option("--check", "checking", is_flag=True, help="Exit 1 on a change that would break a running test.")
@click.option("--format", "form", type=click.Choice(["text", "json", "md"]), default="text", show_default=True)
@click.option(
    "--lang", "--language", "language", type=click.Choice(["en", "ja"]), default="en", show_default=True,
    help="Language of text and md.",
)  # fmt: skip
@click.option("--power/--no-power", default=None, help="Work out what the list can show; by default not with --check.")
@shared.OUTPUT
def plan(
    experiments: tuple[str, ...], checking: bool, form: str, language: str, power: bool | None, output: str | None
) -> int:
    """Show what applying EXPERIMENT would send, to whom and when, and what differs from the version in force.

    Reads only. Without a name, everything under experiments/ is planned. A plan that was written as JSON can be applied
    as it was shown: abmail apply --plan FILE.

    With --check: exit 1 where a change would break a running test, 2 where a definition cannot be judged.

    Example: abmail plan subjects --format md -o plan.md
    """
    project = shared.project()
    names = experiments or tuple(str(path) for path in project.definitions())
    if not names:
        raise click.UsageError("there is no definition in experiments/; make one with `abmail new NAME`")
    made, failed = [], 0
    with project.engine(reading=True) as engine:
        for name in names:
            try:
                found = engine.review(shared.load(project, name), power=not checking if power is None else power)
            except AbmailError as error:
                if len(names) == 1:
                    raise
                failed += 1
                _complain(name, error)
            else:
                made.append(found)
    if made:
        shared.write(_shown(made, form, language, output), output)
    return 2 if failed else int(checking and any(each.risky for each in made))


def _complain(name: str, error: AbmailError) -> None:
    said = str(error) if isinstance(error, SpecError) else f"error: {error}"
    click.echo(f"{name} cannot be planned:\n{said}", err=True)


def _shown(made: Sequence[PlanReport], form: str, language: Any, output: str | None) -> str:
    if form == "json":
        plain = [each.to_dict() for each in made]
        whole = plain[0] if len(plain) == 1 else {"format_version": 1, "plans": plain}
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    if form == "md":
        return "\n".join(each.to_markdown(language=language) for each in made)
    width, color = shared.width(), shared.colour(output)
    return "\n".join(each.to_text(width=width, color=color, language=language) for each in made)


@click.command()
@click.argument("experiment", required=False)
@click.option(
    "--plan", "file", type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Apply just what this plan (from plan --format json) showed, or nothing.",
)  # fmt: skip
def apply(experiment: str | None, file: Path | None) -> None:
    """Store EXPERIMENT and write its outbox; sends nothing, and does nothing the second time.

    With --plan, nothing is stored where the definition, a template, the version in force or the people in the segment
    are no longer those that the plan showed.

    Example: abmail apply subjects
    """
    if experiment is None and file is None:
        raise click.UsageError("name an experiment, or give a plan with --plan")
    project = shared.project()
    saved = None if file is None else _saved(file)
    definition = shared.load(project, experiment or str(saved and saved["experiment"]))
    with project.engine() as engine:
        made, applied = _applied(engine, definition, saved)
    if not applied.added and not applied.new_version:
        click.echo(f"{applied.experiment}: version {applied.version} is in force already, nothing to do")
        return
    held = made.selection.held_out
    click.echo(
        f"{applied.experiment}: version {applied.version}, {applied.added} new recipients"
        + (f" ({held} of the audience held out)" if held else "")
    )
    click.echo(f"next: abmail send {applied.experiment} --until-done", err=True)


def _applied(engine: Engine, definition: Experiment, saved: dict[str, Any] | None) -> tuple[Plan, Applied]:
    """Apply a saved plan as it is; one that nobody has seen is made anew where the list changes meanwhile."""
    made = engine.plan(definition) if saved is None else engine.plan(definition).as_shown(saved)
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    for _ in range(0 if saved else _TRIES):
        try:
            return made, engine.apply(made)
        except StalePlan:
            made = engine.plan(definition)
    return made, engine.apply(made)


def _saved(file: Path) -> dict[str, Any]:
    """A plan that was written as JSON."""
    hint = "write one with `abmail plan NAME --format json -o FILE`"
    try:
        read = json.loads(file.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise click.UsageError(f"{file} is no plan: {error}; {hint}") from error
    kinds = {"experiment": str, "content_hash": str, "roll": str, "against_version": int}
    if not isinstance(read, dict) or not all(isinstance(read.get(key), kind) for key, kind in kinds.items()):
        raise click.UsageError(f"{file} is no plan of one experiment; {hint}")
    if read.get("format_version") != 1:
        raise click.UsageError(f"{file} has the format {read.get('format_version')}, this version of abmail reads 1")
    return read


COMMANDS = (plan, apply)
