"""Rules over definitions, the walk over files, and what the command costs to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from abmail.check import check, check_paths, check_text, exit_code, project_root
from abmail.diagnostics import Diagnostic, write_text
from abmail.render import starter_template
from abmail.spec import Experiment, load, starter

TEMPLATE = f'<div style="display:none">A preview text</div>{starter_template()}'
SMALLEST = """\
spec: 1
name: smallest
factors: {subject: {a: One, b: Two}}
control: {subject: a}
message: {template: mails/x.html.j2, from: news@example.com}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("experiments", "mails"):
        (tmp_path / folder).mkdir()
    (tmp_path / "abmail.toml").touch()
    (tmp_path / "mails" / "x.html.j2").write_text(TEMPLATE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, text: str = SMALLEST, *, name: str = "a.yaml") -> Path:
    path = project / "experiments" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def found_in(project: Path, text: str) -> list[str]:
    return [brief(d) for d in check_paths([write(project, text)])]


def brief(diagnostic: Diagnostic) -> str:
    return f"{diagnostic.line}:{diagnostic.column} {diagnostic.code} {diagnostic.severity} {diagnostic.message}"


def with_line(line: str) -> str:
    """The smallest definition with a sixth line, or with another of its lines replaced."""
    key = line.split(":")[0]
    kept = [old for old in SMALLEST.splitlines() if not old.startswith(f"{key}:")]
    return "\n".join([*kept, line, ""])


# --- rules ------------------------------------------------------------------------------------------------------------


def test_the_smallest_definition_has_nothing_to_complain_about(project: Path) -> None:
    assert check_paths([write(project)]) == ()


def test_a_missing_template_is_an_error_at_its_name(project: Path) -> None:
    line = "message: {template: mails/y.html.j2, text_template: mails/y.txt, from: a@b.c}"
    assert found_in(project, with_line(line)) == [
        "5:21 AB104 error there is no template mails/y.html.j2",
        "5:53 AB104 error there is no template mails/y.txt",
    ]
    (project / "mails" / "y.html.j2").write_text(TEMPLATE, encoding="utf-8")
    (project / "mails" / "y.txt").write_text(TEMPLATE, encoding="utf-8")
    assert found_in(project, with_line(line)) == []


def test_a_missing_include_is_an_error_where_a_template_names_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "mails" / "x.html.j2").write_text(
        f"<p>Hello</p>\n{{% include 'head.html' %}}\n{{%- import 'gone.html' as gone %}}{TEMPLATE}", encoding="utf-8"
    )
    (project / "mails" / "head.html").write_text("\n\n{% include '../secret.txt' %}{% include 'x.html.j2' %}", "utf-8")
    (project / "secret.txt").touch()
    found = check_paths([write(project)])
    assert [(d.code, d.path, d.line, d.message) for d in found] == [
        ("AB104", "mails/head.html", 3, "there is no template ../secret.txt"),
        ("AB104", "mails/x.html.j2", 3, "there is no template gone.html"),
    ]
    (project / "mails" / "gone.html").touch()
    (project / "mails" / "head.html").write_text("", encoding="utf-8")
    assert check_paths([write(project)]) == ()


def test_a_folder_is_no_template(project: Path) -> None:
    assert len(found_in(project, with_line("message: {template: mails, from: a@b.c}"))) == 1


def test_a_name_too_long_for_the_file_system_is_a_missing_template(project: Path) -> None:
    found = found_in(project, with_line(f"message: {{template: {'x' * 5000}, from: a@b.c}}"))
    assert [line[:16] for line in found] == ["5:21 AB104 error"]


def test_templates_are_looked_up_from_the_project_folder_however_the_file_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = write(project, name="2025/spring/a.yaml")
    monkeypatch.chdir(project / "mails")
    assert check_paths([deep]) == ()
    assert check_paths([os.path.relpath(deep)]) == ()


def test_without_a_project_templates_are_looked_up_from_here_then_beside_the_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(project)
    (project / "abmail.toml").unlink()
    assert check_paths([path]) == ()
    monkeypatch.chdir(project / "mails")
    (missing,) = check_paths([path])
    assert missing.hint == f"looked in {project / 'mails'} and in {project / 'experiments'}"
    beside = project / "experiments" / "mails"
    beside.mkdir()
    (beside / "x.html.j2").write_text(TEMPLATE, encoding="utf-8")
    assert check_paths([path]) == ()


def test_a_given_root_decides_and_data_without_a_file_is_not_searched_for_templates(tmp_path: Path) -> None:
    exp = Experiment.from_dict({
        "spec": 1, "name": "x", "factors": {"subject": {"a": "A", "b": "B"}}, "control": {"subject": "a"},
        "message": {"template": "x.j2", "from": "a@b.c"},
    })  # fmt: skip
    assert check(exp) == ()
    assert [d.code for d in check(exp, root=tmp_path)] == ["AB104"]
    (tmp_path / "x.j2").write_text(TEMPLATE, encoding="utf-8")
    assert check(exp, root=tmp_path) == ()


def test_opens_as_the_deciding_metric_are_warned_about(project: Path) -> None:
    assert found_in(project, with_line("metrics: {primary: opened}")) == [
        "6:20 AB202 warning opens decide this test, and machines open mail, too"
    ]


@pytest.mark.parametrize(
    ("allocation", "bound"),
    [
        ("{min_weight: 0.21}", "42%"),
        ("{min_weight: 0.5}", "100%"),
        ("{min_weight: 20 %}", None),
        ("{}", None),
        ("{policy: uniform, min_weight: 0.5}", None),
    ],
)
def test_a_floor_that_leaves_no_room_to_learn_is_warned_about(
    project: Path, allocation: str, bound: str | None
) -> None:
    found = found_in(project, with_line(f"allocation: {allocation}"))
    assert len(found) == (bound is not None)
    if bound:
        assert found[0].startswith("6:26 AB204 warning 2 cells with at least 0.")
        assert bound in found[0]


def test_the_default_floor_is_never_warned_about(project: Path) -> None:
    levels = ", ".join(f"l{i}: Text {i}" for i in range(100))
    text = SMALLEST.replace("{a: One, b: Two}", f"{{{levels}}}").replace(
        "control: {subject: a}", "control: {subject: l0}"
    )
    assert "AB204" not in "".join(found_in(project, text))


def test_a_mail_without_a_subject_is_an_error_at_its_message(project: Path) -> None:
    text = SMALLEST.replace("{subject: {a", "{cta: {a").replace("control: {subject: a}", "control: {cta: a}")
    assert found_in(project, text) == ["5:1 AB401 error the mail has no subject line"]
    assert found_in(project, text.replace("from:", "subject: Hello, from:")) == []


def test_a_text_that_a_factor_replaces_is_warned_about_at_its_key(project: Path) -> None:
    text = SMALLEST.replace("from:", "subject: Hello, preheader: Soon, from:")
    assert found_in(project, text) == ["5:38 AB402 warning subject is a factor: this text is never sent"]


def test_a_wait_that_is_too_short_to_gain_anything_is_warned_about(project: Path) -> None:
    assert found_in(project, with_line("send_time: {mode: learn, within: 4h}")) == [
        "6:34 AB502 warning mails may wait 4h for a better hour: little is gained under 6 hours"
    ]
    assert found_in(project, with_line("send_time: {mode: learn}")) == []


def test_hours_that_nobody_could_prove_to_pay_are_warned_about(project: Path) -> None:
    assert found_in(project, with_line("send_time: {mode: learn, control: 0}")) == [
        "6:35 AB503 warning nobody keeps the fixed hour: the gain cannot be proved"
    ]


def test_findings_of_a_loaded_experiment_point_into_its_file(project: Path) -> None:
    path = write(project, with_line("metrics: {window: 1d, primary: opened}"))
    (finding,) = check(load(path))
    assert (finding.path, finding.line, finding.column, finding.end_column) == (str(path), 6, 32, 38)
    assert "^^^^^^" in write_text([finding])


@pytest.mark.parametrize("kind", ["subject", "cta", "factorial", "send-time"])
def test_a_new_definition_passes(project: Path, kind: str) -> None:
    (project / "mails" / "fresh.html.j2").write_text(TEMPLATE, encoding="utf-8")
    assert check_paths([write(project, starter("fresh", kind))]) == ()


# --- files ------------------------------------------------------------------------------------------------------------


def test_folders_are_searched_in_order_and_hidden_ones_left_out(project: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.yaml", ".hidden.yaml", ".git/d.yaml", "notes.txt", "sub/e.yaml.bak"):
        write(project, "wrong: 1", name=name)
    found = check_paths([project / "experiments"])
    names = [os.path.relpath(path, project / "experiments") for path in dict.fromkeys(d.path for d in found)]
    assert names == ["a.yml", "b.yaml", "sub/c.yaml"]


def test_paths_are_shown_as_they_were_given(project: Path) -> None:
    write(project, "wrong: 1")
    assert {d.path for d in check_paths(["experiments"])} == {"experiments/a.yaml"}
    assert {d.path for d in check_paths([Path("experiments/a.yaml")])} == {"experiments/a.yaml"}


def test_a_file_is_reported_once_even_when_its_folder_is_named_too(project: Path) -> None:
    write(project, with_line("metrics: {primary: opened}"))
    assert len(check_paths(["experiments/a.yaml", "experiments", "experiments"])) == 1


def test_findings_are_sorted_by_file_line_and_column(project: Path) -> None:
    write(project, "wrong: 1\nname: X\nspec: 3", name="b.yaml")
    write(project, "also: 1", name="a.yaml")
    found = check_paths(["experiments/b.yaml", "experiments/a.yaml"])
    assert [(d.path, d.line, d.column) for d in found] == sorted((d.path, d.line, d.column) for d in found)


def test_what_cannot_be_judged_is_a_finding_of_its_own(project: Path) -> None:
    (project / "empty").mkdir()
    (project / "loop.yaml").symlink_to("loop.yaml")
    (project / "around").mkdir()
    (project / "around" / "again").symlink_to(project / "around")
    os.mkfifo(project / "pipe.yaml")
    found = check_paths(["none.yaml", "empty", "loop.yaml", "around", "pipe.yaml"])
    assert [(d.path, d.code) for d in found] == [
        (name, "AB100") for name in ("around", "empty", "loop.yaml", "none.yaml", "pipe.yaml")
    ]


def test_one_broken_file_does_not_hide_the_findings_of_the_others(project: Path) -> None:
    write(project, "a: [", name="a.yaml")
    write(project, with_line("metrics: {primary: opened}"), name="b.yaml")
    (project / "experiments" / "c.yaml").write_bytes(b"\0\0")
    assert [d.code for d in check_paths(["experiments"])] == ["AB101", "AB202", "AB101"]


def test_a_text_is_checked_without_a_file(tmp_path: Path) -> None:
    assert [str(d)[:16] for d in check_text("a: [", "<stdin>")] == ["<stdin>:1:4: AB1"]
    assert [d.code for d in check_text(SMALLEST, "<stdin>", root=tmp_path)] == ["AB104"]


def test_the_exit_code_tells_clean_findings_and_not_judged_apart(project: Path) -> None:
    write(project, with_line("metrics: {primary: opened}"), name="warned.yaml")
    write(project, "wrong: 1", name="wrong.yaml")
    warned, wrong = check_paths(["experiments/warned.yaml"]), check_paths(["experiments/wrong.yaml"])
    assert exit_code([]) == 0
    assert exit_code(warned) == 0
    assert exit_code(warned, fail_on="warning") == 1
    assert exit_code(wrong) == 1
    assert exit_code([*wrong, *check_paths(["none.yaml"])]) == 2


def test_the_root_of_a_project_is_the_nearest_folder_with_settings(project: Path, tmp_path: Path) -> None:
    inner = project / "experiments" / "inner"
    inner.mkdir()
    assert project_root(inner) == project
    assert project_root(inner / "a.yaml") == project
    assert project_root(Path("experiments")) == project
    (inner / "abmail.toml").touch()
    assert project_root(inner / "a.yaml") == inner


def test_without_settings_anywhere_the_root_is_the_working_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "abmail.toml").unlink()
    monkeypatch.chdir(project / "mails")
    assert project_root(project / "experiments") == project / "mails"


# --- weight -----------------------------------------------------------------------------------------------------------


def modules_after(code: str, *arguments: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)", *arguments]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_checking_a_file_imports_none_of_the_heavy_libraries(project: Path) -> None:
    path = write(project, with_line("metrics: {primary: opened}"))
    loaded = modules_after(
        "from abmail.check import check_paths\nassert len(check_paths(sys.argv[1:])) == 1", str(path)
    )
    heavy = {
        "numpy",
        "scipy",
        "statsmodels",
        "pandas",
        "sqlalchemy",
        "alembic",
        "rich",
        "pydantic",
    }
    assert not loaded & heavy
    assert "abmail.check" in loaded


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("variants: {a: One, b: Two}", "variants: unknown key", "did you mean 'factors'?"),
        ("factors: {A: One, B: Two}", "factors.A: unknown key", "say first what differs: write subject: {A: …}"),
        ("factors: {colour: {a: One}}", "factors.colour: unknown key", "known here: subject, cta, preheader,"),
        ("spec: 1", "control: the key is missing", "write control: {subject: plain}, the variant that"),
        ("message: {sender: a@example.com}", "message.sender: unknown key", "did you mean 'from'?"),
        ("send_time: {days: [weekend]}", "send_time.days[0]: 'weekend' is not one of mon,", "did you mean 'sat, sun'?"),
        ("stop: {when: winner}", "stop.when: expected a list, found the text 'winner'", "write [winner]"),
        ("stop: {when: a winner}", "stop.when: expected a list, found the text 'a winner'", "write [one, two]"),
        ("stop: {duration: 3d}", "stop.duration: unknown key", "did you mean 'after'?"),
    ],
)
def test_what_is_called_otherwise_elsewhere_is_told_by_its_name_here(written: str, message: str, hint: str) -> None:
    found = {d.message: d.hint for d in check_text(written, "x.yaml")}
    ((_, told),) = [pair for pair in found.items() if pair[0].startswith(message)]
    assert told.startswith(hint)


def test_a_name_with_a_space_in_a_template_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "m.html.j2").write_text("<p>{{ recipient.first name }}</p>", encoding="utf-8")
    text = (
        "spec: 1\nname: a\nfactors: {subject: {a: One, b: Two}}\ncontrol: {subject: a}\n"
        "message: {template: m.html.j2, from: a@example.com}\n"
    )
    found = next(d for d in check_text(text, "x.yaml", root=tmp_path) if d.code == "AB403")
    assert found.message.endswith("'name' is not expected before the end of {{ … }}")
    assert found.hint == "a name holds no space: write recipient['first name'] for a column with one"
