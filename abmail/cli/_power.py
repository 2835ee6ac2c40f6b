"""Commands before the first mail: power."""

from __future__ import annotations

import json

import click

from abmail.cli import _shared as shared


class _Share(click.ParamType[float]):
    """A fraction or a percentage: 0.04 or 4%."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from abmail._values import parse_share

        try:
            share = float(str(value))
        except ValueError:
            try:
                share = parse_share(value)
            except ValueError as problem:
                self.fail(str(problem), param, ctx)
        if not 0 < share < 1:
            self.fail(f"{value} must be between 0 and 1, such as 0.04 or 4%", param, ctx)
        return share


@click.command()
@click.argument("experiment")
@click.option(
    "--recipients",
    type=click.IntRange(1, 1_000_000_000),
    help="People in the audience; the imported list's by default.",
)
@click.option("--baseline", type=_Share(), metavar="RATE", help="Rate to expect, such as 0.04 or 4%.")
@click.option("--mde", type=_Share(), metavar="RATE", help="Smallest difference worth finding, such as 0.01 or 1%.")
@click.option("--per-day", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Mails sent a day.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@shared.OUTPUT
def power(
    experiment: str,
    recipients: int | None,
    baseline: float | None,
    mde: float | None,
    per_day: float | None,
    form: str,
    output: str | None,
) -> int:
    """Say what a test of EXPERIMENT can show: its chance, the list it needs, and what a proof costs.

    Works before a list is imported where --recipients is given. Exit 0 where the list is enough for the power that the
    definition asks, 1 where it is not.

    Example: abmail power subjects --recipients 20000 --baseline 4%
    """
    project = shared.project()
    definition = shared.load(project, experiment)
    with project.engine() as engine, shared.words():
        made = engine.power(definition, n=recipients, baseline=baseline, mde=mde, per_day=per_day)
    text = json.dumps(made.to_dict(), indent=2, ensure_ascii=False) + "\n" if form == "json" else made.to_text()
    shared.write(text, output)
    return int(made.reached is False)


COMMANDS = (power,)
