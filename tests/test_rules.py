"""Each rule speaks on its failing cases, at that line and column, and on none of the others; its page shows both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from abmail._around import ListFile
from abmail._moves import moves
from abmail.check import RULES, Around, Check, Chosen, check_paths, check_text, exit_code, explain, explain_all
from abmail.cli import _run
from abmail.diagnostics import Diagnostic
from abmail.render import starter_template
from abmail.spec import Experiment, load, loads

CASES = Path(__file__).parent / "cases"
FOLDERS = sorted(path for path in CASES.glob("AB*") if path.is_dir())
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml"))]
PROJECTS = [path.parent for folder in FOLDERS for path in sorted(folder.glob("*/expected.txt"))]
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
KEYS = {
    "spec": "spec: 1",
    "name": "name: example",
    "factors": 'factors: {subject: {plain: "Join our spring webinar", number: "3 ways to cut reporting time"}}',
    "control": "control: {subject: plain}",
    "message": 'message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "Live"}',
}


def expected_in(text: str) -> list[str]:
    return sorted(re.findall(r"^# expect: (AB\d+ \d+:\d+(?: \S+)?)$", text, flags=re.MULTILINE))


def brief(diagnostic: Diagnostic, path: Path) -> str:
    """Code, line and column; and the file where it is another one than the definition's."""
    other = "" if diagnostic.path == str(path) else f" {Path(diagnostic.path).resolve().relative_to(CASES)}"
    return f"{diagnostic.code} {diagnostic.line}:{diagnostic.column}{other}"


TODAY = date(2026, 11, 28)


def around(*running: Experiment, people: ListFile | None = None, sources: Mapping[str, bytes] | None = None) -> Around:
    """What is known beside a case: the day, what runs and the files of its mail, the list."""
    return Around(
        today=TODAY,
        people=people,
        earlier={each.name: each for each in running}.get,
        running=lambda: [(each, "the store") for each in running],
        sources=lambda _: sources or {},
        moves=None if people is None else lambda old, new: moves(old, new, people.everybody),
    )


def around_case(path: Path) -> Around:
    before, leads = path.parent / "before" / path.name, path.with_suffix(".csv")
    running = [load(before)] if before.exists() else []
    files = before.with_suffix("")
    sources = {str(each.relative_to(files)): each.read_bytes() for each in files.rglob("*") if each.is_file()}
    return around(*running, people=ListFile(leads) if leads.exists() else None, sources=sources)


# --- cases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_case_brings_exactly_the_findings_that_it_names(path: Path) -> None:
    expected = expected_in(path.read_text(encoding="utf-8"))
    assert sorted(brief(d, path) for d in check_paths([path], around=around_case(path))) == expected
    own = [finding for finding in expected if finding.startswith(path.parent.name)]
    assert bool(own) == path.name.startswith("bad-")
    assert own or not expected


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_case_of_several_files_brings_exactly_the_findings_that_it_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is checked whole, and what is expected of it beside it; what runs, or has ended, is below it."""
    monkeypatch.chdir(folder)
    expected = expected_in((folder / "expected.txt").read_text(encoding="utf-8"))
    running = [load(path) for path in sorted(folder.glob("before/*.yaml"))]
    ended = {each.name: each for each in map(load, sorted(folder.glob("ended/*.yaml")))}
    known = replace(around(*running), ended=ended.get)
    found = check_paths(["experiments"], around=known)
    assert sorted(f"{d.code} {d.line}:{d.column} {d.path.replace(' ', '-')}" for d in found) == expected
    own = [finding for finding in expected if finding.startswith(folder.parent.name)]
    assert bool(own) == folder.name.startswith("bad-")
    assert own or not expected


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule.code)
def test_every_rule_has_a_failing_and_a_passing_case(rule: Check) -> None:
    names = {path.name.partition("-")[0] for path in (*FILES, *PROJECTS) if path.parent.name == rule.rule.code}
    assert names == {"bad", "good"}


def test_every_folder_of_cases_belongs_to_a_rule() -> None:
    assert {folder.name for folder in FOLDERS} <= {rule.rule.code for rule in RULES}


def test_no_rule_speaks_on_the_examples_that_ship() -> None:
    assert check_paths([EXPERIMENTS]) == ()


# --- pages ------------------------------------------------------------------------------------------------------------


def findings_of(rule: Check, examples: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Codes that a project with the files of a page's example brings."""
    monkeypatch.chdir(folder)
    for name in ("experiments", "mails"):
        (folder / name).mkdir()
    (folder / "abmail.toml").touch()
    (folder / "mails" / "example.html.j2").write_text(starter_template(), encoding="utf-8")
    (folder / "experiments" / "example.yaml").write_text(whole(""), encoding="utf-8")
    paths: list[str] = ["experiments"]
    running: list[Experiment] = []
    sources: dict[str, bytes] = {}
    leads: ListFile | None = None
    for example in getattr(rule.page, examples):
        if example.language == "sh":
            paths = example.text.split()[2:]
        elif example.file == "before":
            running.append(loads(whole(example.text)))
        elif example.file.startswith("before/"):
            sources[example.file.removeprefix("before/")] = example.text.encode()
        elif example.file:
            (folder / example.file).write_text(example.text, encoding="utf-8")
            leads = ListFile(folder / example.file) if example.language == "csv" else leads
        if example.language == "yaml" and not example.file:
            (folder / "experiments" / "example.yaml").write_text(whole(example.text), "utf-8")
    chosen = Chosen() if rule.rule.code == "AB606" else Chosen.of(ignore=["AB606"])  # which is about other files
    running = running or [loads(whole(""))] * bool(sources)
    found = check_paths(paths, chosen=chosen, around=around(*running, people=leads, sources=sources))
    return {diagnostic.code for diagnostic in found}


def whole(text: str) -> str:
    """The smallest definition with the keys that an example shows."""
    shown = set(re.findall(r"^(\w+):", text, re.MULTILINE))
    return "\n".join([*(line for key, line in KEYS.items() if key not in shown), text])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule.code)
def test_the_bad_example_of_a_page_brings_the_finding(
    rule: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rule.page.bad
    assert rule.rule.code in findings_of(rule, "bad", tmp_path, monkeypatch)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule.code)
def test_the_good_example_of_a_page_brings_none(rule: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rule.page.good
    assert findings_of(rule, "good", tmp_path, monkeypatch) == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule.code)
def test_every_rule_has_a_code_a_kebab_name_and_a_page(rule: Check) -> None:
    assert re.fullmatch(r"AB[1-6]\d\d", rule.rule.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.rule.name)
    assert rule.page.summary.endswith(".")
    assert "\n" not in rule.page.summary
    for text in (rule.page.why, rule.page.fix):
        assert len(text.split()) >= 5


def test_codes_and_names_of_rules_are_unique_and_hold_all_that_reading_finds() -> None:
    from abmail import _spec_problems

    read = {value for value in vars(_spec_problems).values() if type(value).__name__ == "Rule"}
    rules = [each.rule for each in RULES]
    assert len({rule.code for rule in rules}) == len({rule.name for rule in rules}) == len(rules)
    assert read < set(rules)
    assert [rule.code for rule in rules] == sorted(rule.code for rule in rules)


def test_a_rule_is_explained_by_code_or_name_and_a_misspelt_one_names_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = explain("AB202")
    assert page.startswith("## AB202 opens-decide\n\nOpens decide the test. (warning)\n\n**Why.** Mail programs")
    assert page == explain("opens-decide") == explain(" ab202 ")
    assert page in explain_all()
    for wrong, advice in (
        ("AB2022", "'AB202'"),
        ("open-decides", "'opens-decide'"),
        ("", "known here"),
        ("?", "known"),
    ):
        with pytest.raises(ValueError, match="there is no rule") as refused:
            explain(wrong)
        assert advice in str(refused.value)
    assert _run(["explain", "AB202"]) == 0
    assert capsys.readouterr().out == page
    assert _run(["explain", "AB2022"]) == 2
    assert "did you mean 'AB202'?" in capsys.readouterr().err
    for arguments in ([], ["AB202", "--all"]):
        assert _run(["explain", *arguments]) == 2
        assert "name a rule" in capsys.readouterr().err
    assert _run(["explain", "--all"]) == 0
    assert capsys.readouterr().out == explain_all()


# --- choosing rules ---------------------------------------------------------------------------------------------------

TWO = "\n".join([*KEYS.values(), "metrics: {primary: opened}", "allocation: {min_weight: 0.3}", ""])


def codes_in(text: str, select: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> list[str]:
    """Codes of what is found in a text whose template is a good one."""
    text = text.replace("mails/example.html.j2", "mails/good.html.j2")
    return [d.code for d in check_text(text, "x.yaml", root=CASES, chosen=Chosen.of(select, ignore))]


@pytest.mark.parametrize(
    ("select", "ignore", "codes"),
    [
        ((), (), ["AB202", "AB204"]),
        (("AB202",), (), ["AB202"]),
        (("AB2",), ("ab204",), ["AB202"]),
        (("opens-decide",), (), ["AB202"]),
        (("AB1", "AB4"), (), []),
        ((), ("AB2",), []),
        (("AB202",), ("AB",), []),
    ],
)
def test_rules_are_chosen_by_code_beginning_of_a_code_or_name(
    select: tuple[str, ...], ignore: tuple[str, ...], codes: list[str]
) -> None:
    assert codes_in(TWO, select, ignore) == codes


def test_what_keeps_a_file_from_being_read_is_told_whatever_is_chosen() -> None:
    chosen = Chosen.of(["AB5"], ["AB1"])
    assert [d.code for d in check_text("a: [", "x.yaml", chosen=chosen)] == ["AB101"]
    assert exit_code(check_paths(["none.yaml"], chosen=chosen)) == 2


def test_a_rule_that_nobody_knows_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="there is no rule 'AB9'"):
        Chosen.of(["AB9"])
    with pytest.raises(ValueError, match="did you mean 'opens-decide'"):
        Chosen.of(ignore=["opens-decides"])


def test_a_comment_for_a_rule_that_is_not_asked_is_not_called_unused() -> None:
    text = TWO.replace("opened}", "clicked}  # abmail: ignore[AB202] no link")
    assert codes_in(text) == ["AB110", "AB204"]
    assert codes_in(text, (), ("AB202",)) == ["AB204"]
    assert codes_in(text, ("AB1",), ("AB110",)) == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_comments_are_read_whatever_the_line_ends(line_end: str) -> None:
    text = TWO.replace("metrics", "# abmail: ignore[AB202] no link\nmetrics").replace("\n", line_end)
    assert codes_in(text) == ["AB204"]


def test_a_finding_in_a_template_is_silenced_where_the_definition_names_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "example.html.j2").write_text(f"{{% include 'gone' %}}\n{starter_template()}", "utf-8")
    path = tmp_path / "a.yaml"
    path.write_text("\n".join(KEYS.values()), encoding="utf-8")
    assert [d.path for d in check_paths([path]) if d.code == "AB104"] == ["mails/example.html.j2"]
    path.write_text("\n".join(KEYS.values()) + "  # abmail: ignore[AB104] it is made by the build\n", encoding="utf-8")
    assert [d for d in check_paths([path]) if d.code in {"AB104", "AB110"}] == []


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("experiments", "mails"):
        (tmp_path / name).mkdir()
    (tmp_path / "mails" / "example.html.j2").write_text(starter_template(), encoding="utf-8")
    (tmp_path / "experiments" / "a.yaml").write_text(TWO, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "arguments", "codes", "status"),
    [
        ("", [], ["AB202", "AB204"], 0),
        ("", ["--fail-on", "warning"], ["AB202", "AB204"], 1),
        ("", ["--select", "AB202,AB204", "--ignore", "AB204"], ["AB202"], 0),
        ('[check]\nfail_on = "warning"', [], ["AB202", "AB204"], 1),
        ('[check]\nfail_on = "warning"', ["--fail-on", "error"], ["AB202", "AB204"], 0),
        ('[check]\nignore = ["opens-decide"]', [], ["AB204"], 0),
        ('[check]\nignore = ["AB202"]', ["--ignore", "AB204"], [], 0),
        ('[check]\nselect = ["AB202"]', [], ["AB202"], 0),
        ('[check]\nselect = ["AB202"]', ["--select", "AB204"], ["AB204"], 0),
    ],
)
def test_flags_and_settings_say_which_rules_are_asked_and_what_fails(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    settings: str,
    arguments: list[str],
    codes: list[str],
    status: int,
) -> None:
    (project / "abmail.toml").write_text(f'db = "sqlite:///mail.db"\n{settings}\n', encoding="utf-8")
    assert _run(["check", *arguments]) == status
    assert re.findall(r"\bAB\d+\b", capsys.readouterr().out) == codes
    assert _run(["config", "show"]) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('[check]\nselekt = ["AB2"]', "unknown setting 'check.selekt'\n  did you mean 'select'?"),
        ('[check]\nselect = "AB2"', "check.select is 'AB2', must be a list of texts"),
        ("[check]\nignore = [2]", "check.ignore is [2], must be a list of texts"),
        ('[check]\nfail_on = "warn"', "check.fail_on is 'warn', must be 'error' or 'warning'"),
        ('[check]\nignore = ["AB2022"]', "did you mean 'AB202'?"),
        ("check = 3", "check is 3, must be a table"),
        ("[check", "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_used_is_said_in_words(
    project: Path, capsys: pytest.CaptureFixture[str], settings: str, said: str
) -> None:
    (project / "abmail.toml").write_text(settings, encoding="utf-8")
    assert _run(["check"]) == 2
    assert said in capsys.readouterr().err


# --- what is known beside a definition --------------------------------------------------------------------------------


def test_a_file_of_a_running_experiment_that_is_gone_is_told_where_the_whole_folder_is_checked(project: Path) -> None:
    spring = loads((project / "experiments" / "a.yaml").read_text("utf-8").replace("name: example", "name: spring"))
    known = around(spring)

    def gone(*paths: str) -> list[tuple[str, str]]:
        return [(d.path, d.message) for d in check_paths(paths, around=known) if d.code == "AB606"]

    assert gone("experiments") == gone(".") == [("the store", "spring runs, and no file holds its definition")]
    assert gone("experiments/a.yaml") == []
    (project / "experiments" / "broken.yaml").write_text("a: [", encoding="utf-8")
    assert gone("experiments") == []
    (project / "experiments" / "broken.yaml").write_text(TWO.replace("example\n", "spring\n"), encoding="utf-8")
    assert gone("experiments") == []


def test_a_name_that_another_file_or_an_ended_test_has_is_told_at_the_name(project: Path) -> None:
    (project / "experiments" / "b.yaml").write_text(TWO, encoding="utf-8")
    found = [d for d in check_paths(["experiments"]) if d.code == "AB607"]
    assert [(d.path, d.line, d.column) for d in found] == [("experiments/b.yaml", 2, 7)]
    assert found[0].message == "experiments/a.yaml holds an experiment of that name, too"
    same = load(project / "experiments" / "a.yaml")
    other = loads(TWO.replace("Join our spring", "Join the autumn"))
    for old, told in ((same, []), (other, ["AB607"])):
        ended = Around(ended={old.name: old}.get)
        chosen = Chosen.of(["AB607"])
        assert [d.code for d in check_paths(["experiments/a.yaml"], chosen=chosen, around=ended)] == told


def test_two_projects_in_one_repository_may_both_have_a_test_of_a_name(project: Path) -> None:
    for name in ("spring", "autumn"):
        folder = project / name
        for part in ("experiments", "mails"):
            (folder / part).mkdir(parents=True)
        (folder / "abmail.toml").touch()
        (folder / "experiments" / "a.yaml").write_text(TWO, encoding="utf-8")
    chosen = Chosen.of(["AB607"])
    assert check_paths(["spring", "autumn", "experiments"], chosen=chosen) == ()
    (project / "autumn" / "experiments" / "b.yaml").write_text(TWO, encoding="utf-8")
    found = check_paths(["spring", "autumn"], chosen=chosen)
    assert [(d.path, d.message) for d in found] == [
        ("autumn/experiments/b.yaml", "autumn/experiments/a.yaml holds an experiment of that name, too")
    ]


def test_a_sample_of_the_list_knows_columns_and_no_sizes() -> None:
    segment = "audience: {segment: \"stage == 'x' and stge == 'y'\"}"
    text = "\n".join([*KEYS.values(), segment, "analysis: {baseline: 0.04, mde: 0.01}"])
    people = ListFile(CASES / "AB303" / "bad-few.csv", is_sample=True)
    found = check_text(text.replace("mails/example", "mails/good"), "x.yaml", root=CASES, around=around(people=people))
    assert [(d.code, d.message) for d in found] == [("AB301", "the list has no column stge")]


def test_columns_of_the_list_are_what_templates_may_ask_for(tmp_path: Path) -> None:
    (tmp_path / "mails").mkdir()
    text = starter_template().replace("Write your message here.", "\n{{ recipient.compny }} {{ stage }}")
    (tmp_path / "mails" / "example.html.j2").write_text(text, encoding="utf-8")
    (tmp_path / "leads.csv").write_text("email,stage,company\na@example.com,hot,X\n", encoding="utf-8")
    chosen = Chosen.of(["AB403", "AB404"])
    plain = "\n".join(KEYS.values())
    assert [d.code for d in check_text(plain, "x.yaml", root=tmp_path, chosen=chosen)] == ["AB404"]
    known = around(people=ListFile(tmp_path / "leads.csv"))
    found = check_text(plain, "x.yaml", root=tmp_path, chosen=chosen, around=known)
    assert [(d.code, d.message, d.hint) for d in found] == [
        ("AB404", "no column of the list is called compny", "did you mean 'company'?"),
        ("AB404", "nothing is called stage in a mail", "write recipient.stage"),
    ]


@pytest.mark.parametrize(
    ("baseline", "effect", "n", "cells"),
    [
        (0.2, 0.02, 10_000, 2),
        (0.04, 0.01, 13_500, 2),
        (0.3, 0.1, 600, 2),
        (0.04, 0.01, 40_000, 4),
        (0.2, 0.05, 3_000, 3),
    ],
)
def test_the_hopeful_power_is_that_of_a_fixed_test_of_two_and_never_below_that_of_more(
    baseline: float, effect: float, n: int, cells: int
) -> None:
    from abmail._rules.size import chance, needed
    from abmail.stats import power

    hoped = chance(baseline=baseline, effect=effect, n=n, cells=cells, alpha=0.05)
    exact = power(baseline=baseline, effect=effect, n=n, n_arms=cells, method="fixed", replications=400).power
    assert hoped == pytest.approx(exact, abs=0.01) if cells == 2 else hoped >= exact - 0.1
    wanted = needed(baseline=baseline, effect=effect, power=hoped, cells=cells, alpha=0.05)
    assert wanted == pytest.approx(n, abs=cells)


def test_one_and_the_same_link_is_no_difference_though_it_holds_a_level_s_name(tmp_path: Path) -> None:
    mail = '<p><a href="https://example.com/?v={}">{{{{ cta }}}}</a></p>'
    text = (
        'spec: 1\nname: a\nfactors: {cta: {register: "Register now", seats: "See free seats"}}\n'
        "control: {cta: register}\nmessage: {template: m.html.j2, from: a@example.com, subject: Join us}\n"
    )
    chosen, found = Chosen.of(["AB410"]), {}
    for value in ("register", "{{{{ 'one' if cell == 'seats' else 'two' }}}}"):
        (tmp_path / "m.html.j2").write_text(mail.format(value).replace("{{{{", "{{").replace("}}}}", "}}"))
        found[value[:1]] = [d.code for d in check_text(text, "x.yaml", root=tmp_path, chosen=chosen)]
    assert found == {"r": [], "{": ["AB410"]}
