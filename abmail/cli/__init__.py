"""The command line: parse, call, print. Results go to stdout, talk to stderr; what a command does lives elsewhere.

Exit status: 0 clean, 1 findings, 2 cannot judge or bad usage, 3 a fault of abmail, 130 interrupted.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from typing import Final

import click

from abmail._values import nearest
from abmail.errors import AbmailError, ExpressionError, SpecError

__all__ = ["cli", "main"]

_MODULES: Final = {
    "_complete": ("completion",),
    "_definitions": ("init", "new", "check", "explain", "schema", "config"),
    "_events": ("ingest",),
    "_outbox": ("pause", "resume", "outbox"),
    "_people": ("audience", "suppress"),
    "_plan": ("plan", "apply"),
    "_power": ("power",),
    "_privacy": ("forget", "person", "retention"),
    "_results": ("status", "report", "stop", "settle"),
    "_sending": ("preview", "send"),
    "_sendtime": ("sendtime",),
    "_serve": ("serve",),
    "_simulation": ("simulate",),
    "_upkeep": ("db", "demo"),
    "_verdicts": ("events",),
}
_PLACES: Final = {command: module for module, commands in _MODULES.items() for command in commands}
_NONE_OF: Final = re.compile(r"^'(?P<given>.*)' is not one of (?P<known>'.*')\.$")


def main() -> None:
    """Run the command line and leave with its exit status."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: Sequence[str]) -> int:
    try:
        status = cli.main(args=list(arguments), prog_name="abmail", standalone_mode=False)
    except SpecError as error:
        from abmail.diagnostics import write_text

        click.echo(write_text(error.diagnostics, color=False), err=True)
        return 2
    except AbmailError as error:
        _complain(error)
        return 2
    except click.ClickException as error:
        error.show()
        if meant := _meant(error.message):
            click.echo(f"  did you mean {meant}?", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing is lost, run the command again to go on", err=True)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:  # a full disk, a folder that is missing or not ours, a server that hung up
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {place}{error.strerror or error}", err=True)
        return 2
    except Exception:  # the last net: a fault of ours must not look like a finding
        import traceback

        traceback.print_exc()
        click.echo("This is a fault of abmail; please report it with the lines above.", err=True)
        return 3
    return status if isinstance(status, int) else 0


def _meant(message: str) -> str:
    """The nearest where a value is none of several; for commands and options click names it itself."""
    refused = _NONE_OF.search(message)
    return nearest(refused["given"], re.findall("'([^']*)'", refused["known"])) if refused else ""


def _complain(error: AbmailError) -> None:
    click.echo(f"error: {error}", err=True)
    if isinstance(error, ExpressionError):
        click.echo("".join(f"  {line}\n" for line in error.excerpt.splitlines()), err=True, nl=False)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


class _Commands(click.Group):
    """Loads the module of a command when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, without loading anything."""
        del ctx
        return sorted(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command; None where there is none of that name, and then all are there, for click to name the nearest."""
        for name in (cmd_name,) if cmd_name in _PLACES else tuple(_PLACES):
            if name not in self.commands:
                self._load(_PLACES[name])
        return super().get_command(ctx, cmd_name)

    def _load(self, module: str) -> None:
        from abmail.cli._complete import complete_experiments

        for command in importlib.import_module(f"abmail.cli.{module}").COMMANDS:
            complete_experiments(command)
            self.add_command(command)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="abmail")
def cli() -> None:
    """E-mail A/B tests that learn while they send, and report results that stay true.

    \b
    A first session:
      abmail init mailing && cd mailing
      abmail new subjects --kind subject
      abmail audience import leads.csv
      abmail apply subjects
      abmail send subjects --until-done --yes
      abmail report subjects
    """  # noqa: D301 - click wants the character itself before lines that it is to leave as they are
