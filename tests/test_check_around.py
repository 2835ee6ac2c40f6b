"""`abmail check` beside a list, a database and a repository: what it then knows, and what it says where it cannot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import abmail as ab
from abmail.cli import _run
from abmail.recipient import Recipient
from abmail.render import starter_template

TEXT = """\
spec: 1
name: spring
factors: {subject: {plain: "Join our spring webinar", number: "3 ways to cut reporting time"}}
control: {subject: plain}
message: {template: mails/x.html.j2, from: "Sales <news@example.com>", preheader: "30 minutes, live"}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("experiments", "mails"):
        (tmp_path / name).mkdir()
    (tmp_path / "abmail.toml").touch()
    (tmp_path / "mails" / "x.html.j2").write_text(starter_template(), encoding="utf-8")
    write(TEXT)
    return tmp_path


def write(text: str, name: str = "spring") -> None:
    Path("experiments", f"{name}.yaml").write_text(text, encoding="utf-8")


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(project: Path) -> Path:
    git("init", "--initial-branch", "main")
    git("config", "user.email", "a@example.com")
    git("config", "user.name", "A")
    git("add", ".")
    git("commit", "--message", "first")
    return project


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Exit status, codes that were found, and everything that was said."""
    status = _run(["check", *arguments])
    out, err = capsys.readouterr()
    return status, re.findall(r"\b(AB\d+) (?:error|warning)\b", out), out + err


# --- list -------------------------------------------------------------------------------------------------------------


def test_the_list_comes_from_a_flag_or_a_setting(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(TEXT + "audience: {segment: \"stge == 'hot'\"}\n")
    rows = "".join(f"a{i}@example.com,hot\n" for i in range(300))
    (project / "leads.csv").write_text(f"email,stage\n{rows}", encoding="utf-8")
    assert checked(capsys)[:2] == (0, [])
    assert checked(capsys, "--audience", "leads.csv")[:2] == (1, ["AB301"])
    (project / "abmail.toml").write_text('[check]\naudience = "leads.csv"\n', encoding="utf-8")
    assert checked(capsys)[:2] == (1, ["AB301"])
    write(TEXT + "audience: {segment: \"stage == 'Hot'\"}\n")
    assert checked(capsys)[:2] == (1, ["AB302"])
    sample = '[check]\naudience = "leads.csv"\naudience_is_sample = true\n'
    (project / "abmail.toml").write_text(sample, encoding="utf-8")
    assert checked(capsys)[:2] == (0, [])


@pytest.mark.parametrize(
    ("settings", "arguments", "said"),
    [
        ("", ["--audience", "none.csv"], "none.csv"),
        ("", ["--audience", "experiments/spring.yaml"], "spring.yaml"),
        ("[check]\naudience = 3", [], "check.audience is 3, must be a path in quotation marks"),
        ("[check]\naudience_is_sample = 1", [], "check.audience_is_sample is 1, must be true or false"),
        ('[check]\naudiense = "x"', [], "did you mean 'audience'?"),
    ],
)
def test_a_list_that_cannot_be_read_is_said_in_words(
    project: Path, capsys: pytest.CaptureFixture[str], settings: str, arguments: list[str], said: str
) -> None:
    (project / "abmail.toml").write_text(settings, encoding="utf-8")
    status, _, words = checked(capsys, *arguments)
    assert status == 2
    assert said in words
    assert "Traceback" not in words


# --- database ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(project: Path) -> Path:
    people = [Recipient(id=f"u{i}", email=f"u{i}@example.com", attributes={"stage": "hot"}) for i in range(400)]
    with ab.Engine(f"sqlite:///{project / 'abmail.db'}", secret=b"sixteen bytes or more", project=project) as engine:
        engine.apply(engine.plan(ab.load("experiments/spring.yaml"), people))
    return project


def test_what_runs_in_the_database_is_compared_and_counted(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys)[:2] == (0, [])
    write(TEXT + "salt: other\n")
    status, codes, words = checked(capsys)
    assert (status, codes) == (1, ["AB601"])
    moved = re.search(r"(\d+) of 400 recipients would get another variant", words)
    assert moved
    assert 150 < int(moved[1]) < 250
    write(TEXT.replace("name: spring", "name: summer"))
    assert checked(capsys)[1] == ["AB305", "AB606"]
    assert checked(capsys, "experiments/spring.yaml")[1] == ["AB305"]


def test_a_database_without_people_judges_no_sizes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(TEXT + "analysis: {baseline: 0.04, mde: 0.01}\n")
    with ab.Engine(f"sqlite:///{project / 'abmail.db'}", secret=b"sixteen bytes or more", project=project):
        pass
    assert checked(capsys)[:2] == (0, [])


def test_the_name_of_a_test_that_has_ended_cannot_be_used_again(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ab.Engine(f"sqlite:///{running / 'abmail.db'}", secret=b"sixteen bytes or more", project=running) as engine:
        engine.stop("spring", why="over")
    assert checked(capsys)[:2] == (0, [])
    write(TEXT + "salt: other\n")
    assert checked(capsys)[:2] == (1, ["AB607"])


def test_a_check_writes_nothing_to_the_database(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (running / "abmail.db").read_bytes()
    write(TEXT + "salt: other\n")
    assert checked(capsys)[0] == 1
    assert (running / "abmail.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"this is no database at all, whatever it is called\n" * 50])
def test_a_database_that_is_empty_or_none_stops_no_check(
    project: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (project / "abmail.db").write_bytes(content)
    status, codes, words = checked(capsys)
    assert (status, codes) == (0, [])
    assert ("checked without the database" in words) == bool(content)
    assert (project / "abmail.db").read_bytes() == content


def test_the_database_is_not_opened_where_no_rule_asks_for_it(running: Path) -> None:
    code = "import sys\nfrom abmail.cli import _run\n_run(sys.argv[1:])\nprint(*sys.modules)"
    for select, opened in (("AB1,AB2,AB5", True), ("AB1,AB4", False), ("AB502,AB202,AB506", False)):
        ran = subprocess.run(
            [sys.executable, "-c", code, "check", "--select", select], capture_output=True, text=True, check=True
        )
        assert ("sqlalchemy" in ran.stdout.split()) == opened
        assert "scipy" not in ran.stdout.split()


SEGMENT = "audience: {segment: \"stage == '%s'\"}\n"


def test_another_mail_than_the_one_that_was_applied_is_told_at_its_line(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mail = running / "mails" / "x.html.j2"
    written = mail.read_text(encoding="utf-8")
    n, line = next((n, line) for n, line in enumerate(written.splitlines(), 1) if "<!DOCTYPE" in line)
    mail.write_text(written.replace(line, "<!doctype html>"), encoding="utf-8")
    status, codes, words = checked(capsys)
    assert (status, codes) == (1, ["AB610"])
    assert f"mails/x.html.j2:{n}:1: AB610 error: the mail was another one: here stood '{line}'" in words
    assert "`abmail stop spring`" in words
    mail.write_text(written, encoding="utf-8")
    assert checked(capsys)[:2] == (0, [])
    mail.unlink()
    assert "AB610" not in checked(capsys)[1]


def test_another_segment_is_told_with_the_people_who_are_in_one_of_both_only(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(TEXT + SEGMENT % "hot")
    assert checked(capsys)[:2] == (0, [])  # everybody on the list is hot
    write(TEXT + SEGMENT.replace("==", "!=") % "hot")
    assert (
        "AB609 warning: the segment was everybody: 400 of 400 recipients are in one of the two only"
        in (checked(capsys, "--select", "AB6")[2])
    )


def test_nothing_is_compared_with_a_test_that_has_ended(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ab.Engine(f"sqlite:///{running / 'abmail.db'}", secret=b"sixteen bytes or more", project=running) as engine:
        engine.stop("spring", why="over")
    (running / "mails" / "x.html.j2").write_text("<p>Another mail</p>", encoding="utf-8")
    write(TEXT + SEGMENT % "cold")
    assert not {"AB609", "AB610"} & set(checked(capsys)[1])


# --- git --------------------------------------------------------------------------------------------------------------


def test_definitions_at_a_commit_are_taken_for_what_runs(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys, "--against", "main")[:2] == (0, [])
    write(TEXT.replace("3 ways", "5 ways") + "metrics: {window: 1d}\n")
    assert checked(capsys, "--against", "HEAD")[:2] == (1, ["AB602", "AB604"])
    assert checked(capsys)[:2] == (0, [])
    git("commit", "--all", "--message", "second")
    assert checked(capsys, "--against", "main")[:2] == (0, [])
    assert checked(capsys, "--against", "HEAD~1")[1] == ["AB602", "AB604"]


def test_a_file_that_was_moved_is_the_same_experiment_and_one_that_is_gone_is_told(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "experiments" / "2027").mkdir()
    (repository / "experiments" / "spring.yaml").rename(repository / "experiments" / "2027" / "a.yaml")
    assert checked(capsys, "--against", "main")[:2] == (0, [])
    write(TEXT.replace("name: spring", "name: summer"), "2027/a")
    status, codes, words = checked(capsys, "--against", "main")
    assert (status, codes) == (1, ["AB606"])
    assert "experiments/spring.yaml:1:1" in words
    monkeypatch.chdir(repository / "experiments")
    assert checked(capsys, ".", "--against", "main")[1] == ["AB606"]


def test_the_mail_at_a_commit_is_taken_for_the_one_that_runs(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = repository / "mails" / "x.html.j2"
    (repository / "mails" / "part.html").write_text("<p>One</p>\n", encoding="utf-8")
    (repository / "mails" / "terms.txt").write_text("first\n", encoding="utf-8")
    mail.write_text('{% include "part.html" %}\n' + starter_template(), encoding="utf-8")
    write(TEXT.replace("preheader", "attachments: [mails/terms.txt], preheader") + SEGMENT % "hot")
    git("add", ".")
    git("commit", "--message", "with a part and a file")
    drifting = ["--against", "main", "--select", "AB6"]
    assert checked(capsys, *drifting)[:2] == (0, [])
    (repository / "mails" / "part.html").write_text("<p>Two</p>\n", encoding="utf-8")
    (repository / "mails" / "terms.txt").write_text("second\n", encoding="utf-8")
    status, codes, words = checked(capsys, *drifting)
    assert (status, codes) == (1, ["AB610", "AB610"])
    assert "mails/part.html:1:1: AB610" in words
    assert "experiments/spring.yaml:5:86: AB610 error: the file mails/terms.txt is another one" in words
    monkeypatch.chdir(repository / "experiments")
    assert checked(capsys, ".", *drifting)[1] == ["AB610", "AB610"]
    monkeypatch.chdir(repository)
    git("checkout", "--", ".")
    write(TEXT.replace("preheader", "attachments: [mails/terms.txt], preheader") + SEGMENT % "cold")
    assert checked(capsys, *drifting)[:2] == (0, ["AB609"])
    write(TEXT.replace("name: spring", "name: autumn"), "autumn")
    assert checked(capsys, "experiments/autumn.yaml", *drifting)[:2] == (0, [])


def test_files_that_the_repository_does_not_keep_are_not_compared(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git("rm", "--cached", "mails/x.html.j2")
    git("commit", "--message", "mails are built")
    (repository / "mails" / "x.html.j2").write_text("<p>Another mail</p>", encoding="utf-8")
    assert checked(capsys, "--against", "main", "--select", "AB6")[:2] == (0, [])


def test_line_ends_that_git_writes_are_no_change(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / ".gitattributes").write_text("*.j2 text eol=crlf\n", encoding="utf-8")
    mail = repository / "mails" / "x.html.j2"
    git("add", ".gitattributes")
    mail.unlink()
    git("checkout", "--", "mails")
    assert b"\r\n" in mail.read_bytes()
    assert checked(capsys, "--against", "main", "--select", "AB6")[:2] == (0, [])


def test_a_commit_or_repository_that_is_not_there_is_said_in_words(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    status, _, words = checked(capsys, "--against", "main")
    assert status == 2
    assert "git says: not a git repository" in words
    git("init")
    for ref in ("main", "no-such-ref", "--all", "HEAD"):
        status, _, words = checked(capsys, f"--against={ref}")
        assert status == 2
        assert "is no commit" in words or "there is no commit" in words
        assert "Traceback" not in words
    monkeypatch.setenv("PATH", "")
    status, _, words = checked(capsys, "--against", "main")
    assert status == 2
    assert "needs git" in words
