"""Commands before the first mail: simulate."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail.simulate import Progress as Told

_SEEDS_A_TASK = 5
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # how many numpy computes with


@click.command()
@click.argument("experiment")
@click.option("--truth", type=click.Path(dir_okay=False), help="YAML file with the true rates; drawn by default.")
@click.option("--aa", is_flag=True, help="Make all variants alike: every winner is then a false alarm.")
@click.option("--replications", type=click.IntRange(2, 100_000), default=500, show_default=True)
@click.option(
    "--recipients", type=click.IntRange(1, 10_000_000), help="People in the audience; the imported list's by default."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random numbers.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, help="Processes; by default, cores.")
@click.option("--language", type=click.Choice(["en", "ja"]), help="Of the text; the definition's by default.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@shared.OUTPUT
def simulate(
    experiment: str,
    truth: str | None,
    aa: bool,
    replications: int,
    recipients: int | None,
    seed: int,
    jobs: int,
    language: Literal["en", "ja"] | None,
    form: str,
    output: str | None,
) -> int:
    """Play EXPERIMENT on made-up people: how often it names the best variant, and what it earns.

    Every decision is that of a real mailing; only people and their answers are made up. Without --truth the rates are
    drawn anew for each mailing: from this account's earlier mailings where there are enough, else from real headline
    tests. Works before a list is imported where --recipients is given. The figures depend on --seed alone, not on
    --jobs.

    Exit 0 where the test does what the definition asks: the power (with rates by --truth), or the false alarms (with
    --aa). 1 where it does not.

    Example: abmail simulate subjects --recipients 20000 --truth truth.yaml
    """
    project = shared.project()
    definition = shared.load(project, experiment)
    from abmail.simulate import load_truth

    given = None if truth is None else load_truth(truth, definition)
    with (
        project.engine() as engine,
        shared.words(),
        workers(jobs) as map_,
        progress_bar("simulated mailings") as progress,
    ):
        made = engine.simulate(
            definition, truth=given, n=recipients, replications=replications, rng=seed, aa=aa, map_=map_,
            progress=progress,
        )  # fmt: skip
    told = language or definition.message.language or "en"
    text = json.dumps(made.to_dict(), indent=2, ensure_ascii=False) + "\n" if form == "json" else made.to_text(told)
    shared.write(text, output)
    return int(made.reached is False)


@contextmanager
def workers(jobs: int) -> Iterator[Callable[..., Any]]:
    """What applies the work: this process, or a pool of them."""
    if jobs == 1:
        yield map
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with _one_thread_each():
        pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))  # a fork would inherit the open database
        try:
            yield partial(pool.map, chunksize=_SEEDS_A_TASK)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that begin now compute with one thread, where nobody said otherwise: they share the cores."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def progress_bar(noun: str) -> Iterator[Told | None]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


COMMANDS = (simulate,)
