"""Commands before the first mail: power."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.stats import PlanMethod


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


class _Stratum(click.ParamType[tuple[float, float]]):
    """A segment's share of the mails and its rate: 30%:5%."""

    name = "stratum"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        share, colon, rate = str(value).partition(":")
        if not colon:
            self.fail(f"{value} is no segment, write its share of the mails and its rate, such as 30%:5%", param, ctx)
        portion = 1.0 if share.strip() in ("1", "100%") else _Share().convert(share, param, ctx)
        return portion, _Share().convert(rate, param, ctx)


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
@click.option(
    "--method",
    type=click.Choice(["sequential", "fixed", "anytime", "exact", "aipw"]),
    default="sequential",
    show_default=True,
    help="How the test is read.",
)
@click.option(
    "--shape",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    metavar="N",
    help="Boundary of the sequential method: 0 (O'Brien-Fleming, the default), 0.25 to stop earlier, 0.5 (Pocock).",
)
@click.option(
    "--strata",
    type=_Stratum(),
    multiple=True,
    metavar="SHARE:RATE",
    help="A segment within which the variants are compared, such as 30%:5%; once for each.",
)
@click.option(
    "--icc", type=_Share(), metavar="N", help="Correlation of the answers within a company, where that is the unit."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@shared.OUTPUT
def power(
    experiment: str,
    recipients: int | None,
    baseline: float | None,
    mde: float | None,
    per_day: float | None,
    method: PlanMethod,
    shape: float,
    strata: tuple[tuple[float, float], ...],
    icc: float | None,
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
        made = engine.power(
            definition, n=recipients, baseline=baseline, mde=mde, per_day=per_day, method=method, shape=shape,
            strata=strata, icc=icc,
        )  # fmt: skip
    text = json.dumps(made.to_dict(), indent=2, ensure_ascii=False) + "\n" if form == "json" else made.to_text()
    shared.write(text, output)
    return int(made.reached is False)


COMMANDS = (power,)
