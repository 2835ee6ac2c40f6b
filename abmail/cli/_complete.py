"""Completion in the shell: the names of experiments, without loading what only commands need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from abmail._files import marked_root
from abmail.cli import _shared as shared

__all__ = ["COMMANDS", "complete_experiments"]

_SHELLS: Final = ("bash", "zsh", "fish")
_SUFFIXES: Final = (".yaml", ".yml")
_STARTED: Final = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }"


class _Experiment(click.ParamType[str]):
    """A name of an experiment, or its file."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        if "/" in incomplete:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name) for name in _names() if name.startswith(incomplete)]


def _names() -> Iterator[str]:
    here = Path.cwd()
    root = marked_root(here) or here
    yield from sorted(path.stem for path in (root / "experiments").glob("*.y*ml") if path.suffix in _SUFFIXES)


def complete_experiments(command: click.Command) -> None:
    """Let every argument of a command, and of those in it, that names an experiment be completed."""
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        complete_experiments(each)
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.name in {"experiment", "experiments"}:
            parameter.type = _Experiment()


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@shared.OUTPUT
def completion(shell: str, output: str | None) -> None:
    """Print what makes a shell complete commands, options and names of experiments.

    Example: abmail completion bash >> ~/.bashrc
    """
    from abmail.cli import cli

    made = get_completion_class(shell)
    if made is None:  # click knows these three
        raise click.UsageError(f"{shell} is not known")
    source = made(cli, {}, "abmail", "_ABMAIL_COMPLETE").source()
    if shell == "zsh":  # whose ~/.zshrc need not have started it
        first, _, rest = source.partition("\n")  # by its first line a shell finds it in a folder of functions
        source = f"{first}\n{_STARTED}\n{rest}"
    shared.write(source, output)


COMMANDS = (completion,)
