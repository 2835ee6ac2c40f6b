"""Commands of a project and its definitions: init, new, check, explain, schema, config."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abmail.cli import _findings as findings
from abmail.cli import _fixing as fixing
from abmail.cli import _knowing as knowing
from abmail.cli import _shared as shared

if TYPE_CHECKING:
    from abmail._ci import Server
    from abmail.diagnostics import Severity

_MOST_READ = 16_000_000  # octets of stdin; more than a definition may have, so that too much is told as such


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--ci", type=click.Choice(["github", "gitlab"]), help="Also make that server check the definitions.")
def init(folder: Path, ci: Server | None) -> None:
    """Make a project folder with settings, experiments/ and mails/.

    Example: abmail init mailing --ci github
    """
    from abmail.project import Project

    project, made = Project.init(folder, ci=ci)
    with project.engine():
        pass
    for path in made:
        click.echo(f"made {path}")
    here = "" if folder == Path() else f"cd {folder} && "
    click.echo(f"next: {here}abmail new subjects --kind subject", err=True)


@click.command()
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(["subject", "cta", "factorial", "send-time"]), default="subject", show_default=True
)
def new(name: str, kind: str) -> None:
    """Write a commented definition and its mail template.

    Example: abmail new subjects --kind subject
    """
    with shared.words():
        made = shared.project().new(name, kind)
    for path in made:
        click.echo(f"made {path}")
    click.echo(f"next: edit them, then run: abmail check, abmail plan {name}", err=True)


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@findings.FORMAT
@click.option("--select", multiple=True, metavar="CODE", help="Ask these rules alone: AB202, AB2, opens-decide.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave these rules out.")
@click.option("--fail-on", type=click.Choice(["error", "warning"]), help="Least severity that makes the exit status 1.")
@click.option("--audience", type=click.Path(dir_okay=False, path_type=Path), help="The list, a CSV file.")
@click.option("--against", metavar="REF", help="Take the definitions at this commit of git for what runs.")
@click.option("--stdin-filename", metavar="PATH", help="What to call the text that PATHS as `-` reads from stdin.")
@click.option("--fix", is_flag=True, help="Mend what has one safe answer, then check.")
@click.option("--diff", "only_diff", is_flag=True, help="Show what --fix would change, and change nothing.")
@shared.OUTPUT
def check(
    paths: tuple[Path, ...],
    targets: tuple[findings.Target, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: Severity | None,
    audience: Path | None,
    against: str | None,
    stdin_filename: str | None,
    fix: bool,
    only_diff: bool,
    output: str | None,
) -> int:
    """Check definition files; every problem is shown at once with its place.

    Without PATHS, the folder experiments/. Exit 0 clean, 1 problems, 2 cannot judge. What the options leave open is
    taken from the table [check] of abmail.toml. With --audience or a database the list is judged, too; with a database
    or --against also what changed of a test that runs. `# abmail: ignore[CODE] reason` silences a finding in a file.
    An editor hands over what is not saved yet as `-` with --stdin-filename.

    Example: abmail check experiments/ --ignore AB413 --format text --format sarif:abmail.sarif
    """
    from abmail._check_settings import CheckSettings
    from abmail.check import Chosen, check_paths, check_text, definition_files, exit_code, project_root
    from abmail.diagnostics import summary

    from_stdin = _is_stdin(paths, stdin_filename, changes=fix or only_diff)
    root = project_root(Path.cwd())
    settings = CheckSettings.read(root)
    failing = settings.fail_on if fail_on is None else fail_on
    with shared.words():
        chosen = Chosen.of(_codes(select) or settings.select, (*_codes(ignore), *settings.ignore))
    paths = paths or (Path("experiments"),)
    files, refused = definition_files([] if from_stdin else paths)
    if from_stdin:
        files = (stdin_filename or "<stdin>",)
    if only_diff:
        return fixing.show(files, output, refused=bool(refused))
    if fix:
        fixing.rewrite(files)
    compared = (Path(stdin_filename or "experiments"),) if from_stdin else paths
    with knowing.around(settings, chosen, compared, root=root, audience=audience, against=against) as known:
        if from_stdin:
            text = sys.stdin.buffer.read(_MOST_READ)
            found = check_text(text, files[0], chosen=chosen, around=known)
        else:
            found = check_paths(paths, chosen=chosen, around=known)
    findings.show(found, targets, output, files=files, fail_on=failing)
    click.echo(summary(found), err=True)
    return exit_code(found, fail_on=failing)


def _is_stdin(paths: tuple[Path, ...], name: str | None, *, changes: bool) -> bool:
    """Whether the definition comes from stdin; a UsageError where the options say two things."""
    if Path("-") not in paths:
        if name is not None:
            raise click.UsageError("--stdin-filename names what is read from stdin; write `-` for PATHS")
        return False
    if len(paths) > 1:
        raise click.UsageError("`-` reads one definition from stdin, and stands alone")
    if changes:
        raise click.UsageError("--fix and --diff work on files; what comes from stdin has none")
    return True


def _codes(given: tuple[str, ...]) -> tuple[str, ...]:
    """Codes from an option that may stand several times, each with several codes between commas."""
    return tuple(code for each in given for code in each.split(","))


@click.command()
@click.argument("code", required=False)
@click.option("--all", "everything", is_flag=True, help="The pages of all rules.")
@shared.OUTPUT
def explain(code: str | None, everything: bool, output: str | None) -> None:
    """Explain a rule: what it says, why that is bad, an example, what to do. CODE may also be its name.

    Example: abmail explain AB202
    """
    from abmail.check import explain, explain_all

    if (code is None) != everything:
        raise click.UsageError("name a rule, such as AB202, or write --all")
    with shared.words():
        shared.write(explain(code) if code else explain_all(), output)


@click.command()
@shared.OUTPUT
def schema(output: str | None) -> None:
    """Print the JSON Schema of definition files, for editors.

    Example: abmail schema -o experiment.schema.json
    """
    from abmail.spec import json_schema

    shared.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", output)


@click.group()
def config() -> None:
    """Settings, and where each was set."""


@config.command("show")
@click.argument("experiment", required=False)
def config_show(experiment: str | None) -> None:
    """Show the settings, or the whole resolved definition of EXPERIMENT as JSON.

    Example: abmail config show subjects
    """
    project = shared.project()
    if experiment:
        click.echo(json.dumps(shared.load(project, experiment).resolved(), indent=2, ensure_ascii=False))
        return
    for setting in project.settings.values():
        click.echo(f"{setting.name:12} {setting.shown or '(none)'}  [{setting.source}]")


@config.command("dkim")
def config_dkim() -> None:
    """Show the DNS record that publishes the DKIM key.

    Example: abmail config dkim
    """
    dkim = shared.project().dkim()
    if dkim is None:
        raise click.UsageError("there is no DKIM key; set dkim_key in abmail.toml to a private key in PEM")
    name, content = dkim.record
    click.echo(f"{name}. IN TXT {_dns_text(content)}")


def _dns_text(content: str) -> str:
    """A text for a zone file: strings of at most 255 octets (RFC 1035, section 3.3)."""
    return " ".join(f'"{content[begin : begin + 255]}"' for begin in range(0, len(content), 255))


@config.command("rotate-key")
def config_rotate_key() -> None:
    """Make a new signing key for links; the links of mails that were sent stay valid. Restart `abmail serve` after it.

    Example: abmail config rotate-key
    """
    n = shared.project().rotate_key()
    click.echo(f"a new key signs from now on, {n - 1} older ones stay valid")
    click.echo("next: restart abmail serve before the next mails go out, as it must know the new key", err=True)


COMMANDS = (init, new, check, explain, schema, config)
