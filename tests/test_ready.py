"""What makes a check run elsewhere: pre-commit, GitHub's action, files for CI servers, completion in the shell."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from command import run
from ruamel.yaml import YAML

from abmail._ci import ci_file
from abmail.cli import _run
from abmail.errors import ConfigError
from abmail.project import Project
from abmail.render import starter_template

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
BAD = "spec: 1\nname: x\nfactors: {subject: {a: One, b: Two}}\ncontrol: {subject: a}\nmessage: {from: a@b.c}\n"


def loaded(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def is_valid(schema: str, file: Path) -> None:
    ran = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", schema, str(file)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a project in a folder, one definition of which is wrong."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    folder = tmp_path / "mailing"
    (folder / "experiments").mkdir(parents=True)
    (folder / "abmail.toml").touch()
    (folder / "experiments" / "a.yaml").write_text(BAD, encoding="utf-8")
    return folder


# --- pre-commit -------------------------------------------------------------------------------------------------------


def test_pre_commit_takes_our_hooks_and_runs_them(repository: Path) -> None:
    hooks = ROOT / ".pre-commit-hooks.yaml"
    top = repository.parent
    subprocess.run([BIN / "pre-commit", "validate-manifest", hooks], check=True, cwd=top)
    for hook in loaded(hooks.read_text(encoding="utf-8")):
        # as the manifest says, but for the environment: that of these tests instead of one made from the index
        here = {**hook, "language": "system", "entry": f"{BIN}/{hook['entry']}"}
        with (top / ".pre-commit-config.yaml").open("w", encoding="utf-8") as file:
            YAML().dump({"repos": [{"repo": "local", "hooks": [here]}]}, file)
        subprocess.run(["git", "add", "."], cwd=top, check=True)
        environment = {**os.environ, "PRE_COMMIT_HOME": str(top / "home"), "NO_COLOR": "1"}
        ran = subprocess.run(
            [BIN / "pre-commit", "run", "--all-files"], cwd=top, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 1, ran.stdout + ran.stderr
        assert f"hook id: {hook['id']}" in ran.stdout
        assert "mailing/experiments/a.yaml:5:1: AB105 error" in ran.stdout


# --- GitHub's action --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    made: dict[str, Any] = loaded((ROOT / "action.yml").read_text(encoding="utf-8"))
    return made


def test_the_action_is_valid_and_each_input_is_described_and_used(action: dict[str, Any]) -> None:
    is_valid("vendor.github-actions", ROOT / "action.yml")
    used = re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", (ROOT / "action.yml").read_text(encoding="utf-8"))
    assert set(used) == set(action["inputs"])
    assert all(each["description"] for each in action["inputs"].values())
    for step in action["runs"]["steps"]:  # what an input holds must not become part of a script
        assert "${{" not in step.get("run", "")


def steps_run(action: dict[str, Any], name: str, folder: Path, path: str, **values: str) -> Any:
    """Run a step's script as a runner does: bash -eo pipefail, its inputs in the environment."""
    (step,) = (each for each in action["runs"]["steps"] if each.get("name") == name)
    known = {f"inputs.{key}": each["default"] for key, each in action["inputs"].items()}
    known.update({f"inputs.{key.replace('_', '-')}": value for key, value in values.items() if key != "GITHUB_PATH"})
    known["github.action_path"] = str(ROOT)
    environment = {key: known[value.strip("${} ")] for key, value in step["env"].items()}
    system = {"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(folder), "GITHUB_ACTIONS": "true"}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder, env={**system, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_action_checks_and_writes_what_is_asked_for(action: dict[str, Any], repository: Path) -> None:
    ran = steps_run(action, "Check", repository, str(BIN), sarif_file="out put.sarif")
    assert ran.returncode == 1, ran.stderr
    assert "::error file=mailing/experiments/a.yaml,line=5,col=1," in ran.stdout
    assert (repository / "out put.sarif").is_file()
    named = steps_run(action, "Check", repository, str(BIN), paths="experiments/a.yaml none.yaml", fail_on="warning")
    assert named.returncode == 2
    assert "none.yaml" in named.stdout
    evil = steps_run(action, "Check", repository, str(BIN), paths="$(touch evil); `touch evil`")
    assert evil.returncode == 2
    assert not (repository / "evil").exists()


def test_the_action_holds_definitions_against_a_commit(action: dict[str, Any], repository: Path) -> None:
    def commit(message: str) -> None:
        subprocess.run(["git", "add", "."], cwd=repository, check=True)
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *who, "commit", "-qm", message], cwd=repository, check=True)

    definition, salted = repository / "experiments" / "a.yaml", "::error file=mailing/experiments/a.yaml,line=6,col=7,"
    definition.write_text(BAD.replace("{from", "{template: a.j2, from"), encoding="utf-8")
    (repository / "a.j2").write_text(starter_template(), encoding="utf-8")
    commit("as it runs")
    with definition.open("a", encoding="utf-8") as file:
        file.write("salt: other\n")
    assert salted not in steps_run(action, "Check", repository, str(BIN)).stdout
    compared = steps_run(action, "Check", repository, str(BIN), against="HEAD")
    assert compared.returncode == 1
    assert salted in compared.stdout
    refused = steps_run(action, "Check", repository, str(BIN), against="none")
    assert refused.returncode == 2
    assert "there is no commit 'none'" in refused.stderr


@pytest.mark.parametrize(("asked", "package"), [("", str(ROOT)), ("0.1.0", "abmail==0.1.0")])
def test_the_action_installs_itself_or_the_version_that_is_asked_for(
    action: dict[str, Any], tmp_path: Path, asked: str, package: str
) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    ran = steps_run(action, "Install abmail", tmp_path, str(python.parent), version=asked)
    assert ran.stdout.splitlines() == ["-m", "pip", "install", "--quiet", package]


# --- files for servers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "file", "schema"),
    [("github", ".github/workflows/abmail.yml", "github-workflows"), ("gitlab", ".gitlab-ci.yml", "gitlab-ci")],
)
def test_init_writes_what_a_server_is_to_do_at_the_root_of_the_repository(
    repository: Path, server: Any, file: str, schema: str
) -> None:
    made = run(repository, "init", "--ci", server).stdout
    path = repository.parent / file
    assert f"made {path}" in made
    is_valid(f"vendor.{schema}", path)
    text = path.read_text(encoding="utf-8")
    assert f"'abmail>={version('abmail')}'" in text
    Project.init(repository, ci=server)
    path.write_text("mine: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already") as refused:
        Project.init(repository, ci=server)
    assert "abmail check experiments/" in refused.value.hint
    assert path.read_text(encoding="utf-8") == "mine: {}\n"


@pytest.mark.parametrize("name", ["plain", "with space", "it's", 'a "b"', "春"])
def test_the_commands_for_a_server_work_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / ".git").mkdir()
    folder = tmp_path / name
    Project.init(folder, ci="gitlab")
    github = loaded(ci_file("github", folder, version="1")[1])
    gitlab = loaded((tmp_path / ".gitlab-ci.yml").read_text(encoding="utf-8"))
    assert github["jobs"]["check"]["defaults"]["run"]["working-directory"] == name
    assert gitlab["abmail"]["artifacts"]["reports"]["junit"] == f"{name}/abmail-junit.xml"
    (folder / "experiments" / "a.yaml").write_text(BAD, encoding="utf-8")
    script = "\n".join(line for line in gitlab["abmail"]["script"] if not line.startswith("pip"))
    ran = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    for report in gitlab["abmail"]["artifacts"]["reports"].values():
        assert (tmp_path / report).is_file()


# --- completion -------------------------------------------------------------------------------------------------------


def completed(folder: Path, shell: str, words: list[str]) -> list[str]:
    """What a shell is told that may follow: the last word is the one that is begun."""
    index = words[-1] if shell == "fish" else str(len(words) - 1)
    asked = {"_ABMAIL_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": index}
    lines = run(folder, status=0, **asked).stdout.splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [re.split(r"[,\t]", line)[1 if shell in {"bash", "fish"} else 0] for line in lines]


@pytest.fixture
def experiments(repository: Path) -> Path:
    for name in ("spring.yaml", "sparks.yml", "notes.txt", "other.yaml"):
        (repository / "experiments" / name).touch()
    return repository


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_values_and_names_of_experiments_are_completed(shell: str, experiments: Path) -> None:
    assert completed(experiments, shell, ["abmail", "chec"]) == ["check"]
    assert "--format" in completed(experiments, shell, ["abmail", "check", "--fo"])
    assert completed(experiments, shell, ["abmail", "new", "x", "--kind", "fac"]) == ["factorial"]
    assert completed(experiments, shell, ["abmail", "report", "sp"]) == ["sparks", "spring"]
    assert completed(experiments / "experiments", shell, ["abmail", "config", "show", "o"]) == ["other"]


TAB, HOME_KEY, END_KEY = "\t", "\x01", "\x05"
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], ""),
    "zsh": (["zsh", "-f", "-i"], "bindkey -e; "),  # keys as in bash, whatever EDITOR says
}


def typed(shell: str, folder: Path, lines: list[str]) -> list[str]:
    """Type the beginnings of lines and TAB into a shell at a terminal; returns the lines as it completed them."""
    command, keys = SHELLS[shell]
    ours, theirs = pty.openpty()
    system = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb", "PS1": "$ ", "LC_ALL": "C"}
    started = subprocess.Popen(
        command, cwd=folder, env=system, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = ""

    def answer(line: str) -> str:
        """What the shell prints between two marks when a line is run."""
        nonlocal said
        said = ""
        os.write(ours, f"{line}\r".encode())
        while not (found := re.search(r"^<<(.*)>>\r$", said, re.MULTILINE)):
            ready, _, _ = select.select([ours], [], [], 60)
            assert ready, f"{shell} says nothing any more: {said}"
            said += os.read(ours, 4096).decode()
        return found[1].strip()

    try:
        answer(f"{keys}eval \"$(abmail completion {shell})\"; echo '<<' '>>'")
        # what stands there after TAB is printed, not run: `echo <<` goes before it, `>>` behind it
        return [answer(f"{line}{TAB}{HOME_KEY}echo '<<' {END_KEY} '>>'") for line in lines]
    finally:
        started.kill()
        started.wait()
        os.close(ours)


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"there is no {name} here"))
        for name in SHELLS
    ],
)
def test_a_shell_at_a_terminal_completes_a_command_an_option_a_value_and_an_experiment(
    shell: str, experiments: Path
) -> None:
    lines = ["abmail chec", "abmail check --forma", "abmail new x --kind fac", "abmail report spr", "abmail plan oth"]
    assert typed(shell, experiments, lines) == [
        "abmail check", "abmail check --format", "abmail new x --kind factorial", "abmail report spring",
        "abmail plan other",
    ]  # fmt: skip


def test_bash_itself_completes_with_what_we_print(experiments: Path) -> None:
    script = run(experiments, "completion", "bash").stdout
    asked = f"""{script}
COMP_WORDS=(abmail report spr); COMP_CWORD=2; _abmail_completion abmail; echo "${{COMPREPLY[@]}}"
complete -p abmail"""
    ran = subprocess.run(
        ["bash", "-c", asked], cwd=experiments, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines()[0] == "spring"
    assert "_abmail_completion" in ran.stdout


def test_zsh_and_fish_get_a_script_of_their_own(experiments: Path) -> None:
    assert run(experiments, "completion", "zsh").stdout.lstrip().startswith("#compdef abmail")
    fish = run(experiments, "completion", "fish", "-o", "abmail.fish")
    assert fish.stdout == ""
    assert "complete --no-files --command abmail" in (experiments / "abmail.fish").read_text(encoding="utf-8")
    for shell in ("zsh", "fish"):
        if found := shutil.which(shell):
            checked = subprocess.run([found, "-n"], input=run(experiments, "completion", shell).stdout, text=True)
            assert checked.returncode == 0


def test_completing_loads_none_of_the_heavy_libraries(experiments: Path) -> None:
    code = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    code += "from abmail.cli import main; sys.argv[0] = 'abmail'; main()"
    asked = {"_ABMAIL_COMPLETE": "bash_complete", "COMP_WORDS": "abmail report sp", "COMP_CWORD": "2"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=experiments,
        env={**os.environ, **asked}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stdout.split() == ["plain,sparks", "plain,spring"]
    heavy = {"numpy", "scipy", "sqlalchemy", "jinja2", "rich", "yaml", "ruamel.yaml", "abmail.spec", "abmail.engine"}
    assert not heavy & set(ran.stderr.split())


# --- did you mean -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["chekc"], "'check'"),
        (["config", "shw"], "'show'"),
        (["check", "--fromat", "text"], "'--format'"),
        (["check", "--format", "serif"], "sarif"),
        (["new", "x", "--kind", "Subjekt"], "subject"),
        (["explain", "opens-decid"], "'opens-decide"),
        (["check", "--select", "opens-decides"], "'opens-decide'"),
        (["plan", "sprng"], "spring"),
        (["preview", "sprng"], "spring"),
        (["config", "show", "sprng"], "spring"),
    ],
)
def test_a_misspelt_word_names_the_nearest(
    arguments: list[str], meant: str, experiments: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(experiments)
    assert _run(arguments) == 2
    said = capsys.readouterr().err
    assert re.search(rf"[Dd]id you mean (one of: )?{re.escape(meant)}", said), said


def test_a_misspelt_setting_or_applied_experiment_or_variant_names_the_nearest(tmp_path: Path) -> None:
    run(tmp_path, "init")
    run(tmp_path, "new", "subjects")
    (tmp_path / "leads.csv").write_text("email\n" + "".join(f"a{n}@example.com\n" for n in range(9)), encoding="utf-8")
    run(tmp_path, "audience", "import", "leads.csv")
    run(tmp_path, "apply", "subjects")
    assert "did you mean subjects?" in run(tmp_path, "report", "subjcts", status=2).stderr
    assert "did you mean 'number'?" in run(tmp_path, "stop", "subjects", "--ship", "nmber", "--yes", status=2).stderr
    (tmp_path / "abmail.toml").write_text('smtp_ur = "x"\n', encoding="utf-8")
    assert "did you mean 'smtp_url'?" in run(tmp_path, "config", "show", status=2).stderr


def test_an_editor_hands_over_what_is_not_saved_yet(tmp_path: Path) -> None:
    run(tmp_path, "init", ".")
    run(tmp_path, "new", "subjects", "--kind", "subject")
    saved = (tmp_path / "experiments" / "subjects.yaml").read_text(encoding="utf-8")
    name = os.path.join("experiments", "subjects.yaml")  # noqa: PTH118 - as an editor names it

    def checked(text: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "abmail", "check", "-", *options]
        return subprocess.run(command, cwd=tmp_path, input=text, capture_output=True, text=True, check=False)

    assert checked(saved, "--stdin-filename", name).returncode == 0
    changed = checked(saved + "polcy: x\n", "--stdin-filename", name)
    assert changed.returncode == 1
    assert f"{name}:{len(saved.splitlines()) + 1}:1: AB103" in changed.stdout
    assert checked("a: [").stdout.startswith("<stdin>:1:4: AB101")
    for refused in (["--fix"], ["--diff"], [name]):
        assert checked(saved, *refused).returncode == 2
    run(tmp_path, "check", "--stdin-filename", name, status=2)
