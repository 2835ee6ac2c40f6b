"""Mending definitions: what has one safe answer changes, every other byte stays."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from command import run
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail import _spec_versions as versions
from abmail._fix import fixed
from abmail._fix_files import Mended, rewrite
from abmail._spec_versions import Migration
from abmail.check import check_text
from abmail.spec import decode, loads

SMALLEST = """\
spec: 1
name: smallest
factors: {subject: {a: One, b: Two}}
control: {subject: a}
message: {template: mails/x.html.j2, from: news@example.com}
"""
LINE = "# yaml-language-server: $schema=experiment.schema.json\n"


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("send_time: {days: [wed,  'mon' , tue]}  # why\n", "send_time: {days: ['mon',  tue , wed]}  # why\n"),
        ("stop:\n  when:\n  - futile\n  -   winner\n", "stop:\n  when:\n  - winner\n  -   futile\n"),
        ("send_time: {days: [sun,\n   mon]}\n", "send_time: {days: [mon,\n   sun]}\n"),
    ],
)
def test_lists_without_a_meaning_in_their_order_are_sorted_item_by_item(before: str, after: str) -> None:
    assert fixed(SMALLEST + before) == SMALLEST + after
    assert "AB111" in [finding.code for finding in check_text(SMALLEST + before, "x.yaml", root=Path("/"))]
    assert "AB111" not in [finding.code for finding in check_text(SMALLEST + after, "x.yaml", root=Path("/"))]


@pytest.mark.parametrize(
    "text",
    [
        SMALLEST,
        SMALLEST + "stop:\n  when:\n  - futile  # we mind the list\n  - winner\n",
        SMALLEST + "send_time: {days: [wed, mon, wed]}\n",
        SMALLEST + "send_time: {days: [wed, monday]}\n",
        SMALLEST + "send_time: {days: [wed, mon}\n",
        SMALLEST + "name: again\nsend_time: {days: [wed, mon]}\n",
        "",
        "- a\n",
        "\0",
    ],
)
def test_what_has_no_safe_answer_stays_as_it_is(text: str) -> None:
    assert fixed(text) == text


def test_a_file_with_other_mistakes_is_sorted_all_the_same() -> None:
    assert fixed("nam: x\nsend_time: {days: [tue, mon]}\n") == "nam: x\nsend_time: {days: [mon, tue]}\n"


# --- the line for editors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("begin", "end"), [("", "\n"), ("\ufeff", "\n"), ("", "\r\n"), ("\ufeff# first\n", "\n")])
def test_the_line_for_editors_comes_to_the_top_once_with_the_line_end_of_the_file(begin: str, end: str) -> None:
    text = begin + SMALLEST.replace("\n", end)
    mended = fixed(text, schema="experiment.schema.json")
    line = LINE if "#" in begin else LINE.replace("\n", end)
    assert mended == begin[:1].strip("#") + line + text.removeprefix("\ufeff")
    assert fixed(mended, schema="experiment.schema.json") == mended
    assert fixed(text) == text


# --- older versions ---------------------------------------------------------------------------------------------------

OLDER = """\
# Where it all began
spec: 0
title: smallest   # a name
factors: {subject: {a: One, b: Two}}
control: {subject: a}
message: {"template": mails/x.html.j2, sender: news@example.com}
time:
  hours: 08:00-20:00
"""
NEWER = """\
# Where it all began
spec: 1
name: smallest   # a name
factors: {subject: {a: One, b: Two}}
control: {subject: a}
message: {"template": mails/x.html.j2, from: news@example.com}
send_time:
  between: 08:00-20:00
"""


@pytest.fixture
def older_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions before the present one, which never were: -1 and 0."""
    never = Migration(renamed={("caption",): "title"})
    before = {("title",): "name", ("message", "sender"): "from", ("time",): "send_time", ("time", "hours"): "between"}
    monkeypatch.setitem(versions.MIGRATIONS, 0, Migration(renamed=before))
    monkeypatch.setitem(versions.MIGRATIONS, -1, never)


@pytest.mark.usefixtures("older_versions")
def test_a_file_of_an_older_version_means_what_its_keys_meant_then_and_can_be_written_anew() -> None:
    assert loads(OLDER) == loads(NEWER)
    assert fixed(OLDER) == NEWER
    assert fixed(OLDER.replace("\n", "\r\n")) == NEWER.replace("\n", "\r\n")
    oldest = OLDER.replace("spec: 0", "spec: -1").replace("title", "caption")
    assert loads(oldest) == loads(NEWER)
    assert fixed(oldest) == NEWER


@pytest.mark.usefixtures("older_versions")
def test_mistakes_in_an_older_file_are_placed_where_they_stand_in_it() -> None:
    _, found = decode(OLDER.replace("08:00-20:00", "8-20").replace("sender:", "from: a@b.c, sender:"), "old.yaml")
    assert [(d.code, d.line, d.column) for d in found] == [("AB103", 6, 53), ("AB107", 8, 10)]


@pytest.mark.parametrize("version", ["2", "0", "'1'", "1.0", "true", "[1]"])
def test_a_version_that_nobody_knows_is_refused_and_left_alone(version: str) -> None:
    text = SMALLEST.replace("spec: 1", f"spec: {version}")
    experiment, found = decode(text, "x.yaml")
    assert (experiment is None) == bool(found)
    assert fixed(text) == text
    if version == "2":
        assert found[0].hint == "a newer abmail writes it: update this one"


# --- meaning ----------------------------------------------------------------------------------------------------------

days = st.lists(st.sampled_from(["mon", "tue", "wed", "thu", "fri"]), min_size=1, max_size=4, unique=True)


@settings(max_examples=60, deadline=None)
@given(days, st.sampled_from([", ", " ,", ",\n     "]), st.sampled_from(["", "# note\n", "\n\n"]), st.booleans())
def test_what_is_mended_means_the_same_and_is_not_mended_again(
    names: list[str], comma: str, after: str, crlf: bool
) -> None:
    text = f"{SMALLEST}send_time:\n  days: [{comma.join(names)}]{after}\n"
    text = text.replace("\n", "\r\n") if crlf else text
    mended = fixed(text, schema="s.json")
    assert loads(mended) == loads(text)
    assert fixed(mended, schema="s.json") == mended
    assert sorted(mended.split("s.json", 1)[1].strip()) == sorted(text.strip())
    assert not [finding for finding in check_text(mended, "x.yaml") if finding.code == "AB111"]


# --- files ------------------------------------------------------------------------------------------------------------

UNSORTED = SMALLEST + "send_time: {days: [tue, mon]}\n"
SORTED = SMALLEST + "send_time: {days: [mon, tue]}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "abmail.toml").touch()
    (tmp_path / "experiment.schema.json").write_text("{}", encoding="utf-8")
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "x.html.j2").touch()
    (tmp_path / "experiments" / "deep").mkdir(parents=True)
    (tmp_path / "experiments" / "a.yaml").write_bytes(UNSORTED.encode())
    (tmp_path / "experiments" / "deep" / "b.yaml").write_bytes(UNSORTED.replace("\n", "\r\n").encode())
    return tmp_path


def test_files_are_mended_and_then_checked(project: Path) -> None:
    ran = run(project, "check", "--fix", "--select", "AB1", status=0)
    assert ran.stderr == "fixed experiments/a.yaml\nfixed experiments/deep/b.yaml\nno findings\n"
    line = "# yaml-language-server: $schema=../{}experiment.schema.json\n"
    assert (project / "experiments" / "a.yaml").read_bytes() == (line.format("") + SORTED).encode()
    deep = (line.format("../") + SORTED).replace("\n", "\r\n")
    assert (project / "experiments" / "deep" / "b.yaml").read_bytes() == deep.encode()
    assert run(project, "check", "--fix", "--select", "AB1").stderr == "no findings\n"


def test_the_diff_changes_nothing_and_git_applies_it(project: Path) -> None:
    before = (project / "experiments" / "a.yaml").read_bytes()
    (project / "experiments" / "c.yaml").write_bytes(UNSORTED.rstrip().encode())
    shown = run(project, "check", "--diff", "-o", "mend.diff", status=1)
    assert shown.stdout == ""
    assert (project / "experiments" / "a.yaml").read_bytes() == before
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    subprocess.run(["git", "apply", "--whitespace=nowarn", "mend.diff"], cwd=project, check=True)
    assert run(project, "check", "--diff").stdout == ""
    assert (project / "experiments" / "c.yaml").read_text(encoding="utf-8").endswith("[mon, tue]}")


def test_links_and_rights_stay(project: Path) -> None:
    real = project / "shared.yaml"
    real.write_text(UNSORTED, encoding="utf-8")
    real.chmod(0o640)
    link = project / "experiments" / "link.yaml"
    link.symlink_to("../shared.yaml")
    run(project, "check", "--fix", "experiments/link.yaml", "--select", "AB1")
    assert link.is_symlink()
    assert str(link.readlink()) == "../shared.yaml"
    assert real.read_text(encoding="utf-8").endswith(SORTED)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_file_and_no_rubbish(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project / "experiments" / "a.yaml"

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        rewrite(Mended(str(file), UNSORTED, SORTED))
    assert file.read_text(encoding="utf-8") == UNSORTED
    assert sorted(path.name for path in file.parent.iterdir()) == ["a.yaml", "deep"]


def test_what_cannot_be_read_is_left_to_the_check(project: Path) -> None:
    (project / "experiments" / "bad.yaml").write_bytes(b"\xff")
    os.mkfifo(project / "experiments" / "pipe.yaml")
    (project / "experiments" / "folder.yaml").mkdir()
    (project / "experiments" / "loop.yaml").symlink_to("loop.yaml")
    ran = run(project, "check", "--fix", status=2)
    assert "pipe.yaml:1:1: AB100" in ran.stdout
    assert (project / "experiments" / "bad.yaml").read_bytes() == b"\xff"
