"""Definitions: what they mean, how they are named and hashed, and every problem at its place."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
import time as clock
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abmail._fields import read_part
from abmail.errors import AbmailError, SpecError
from abmail.segment import Segment
from abmail.spec import Experiment, TimeWindow, decode, decode_file, json_schema, load, loads, starter

CASES = Path(__file__).parent / "cases"
PASSING = sorted((CASES / "passing").glob("*.yaml"))
FAILING = sorted((CASES / "failing").glob("*.yaml"))
DESIGN = CASES / "passing" / "design.yaml"


def plain(**changes: Any) -> dict[str, Any]:
    return {
        "spec": 1,
        "name": "spring",
        "factors": {"subject": {"plain": "Join us", "number": "3 ways"}},
        "control": {"subject": "plain"},
        "message": {"template": "mails/x.html.j2", "from": "a@example.com"},
        **changes,
    }


def make(**changes: Any) -> Experiment:
    return Experiment.from_dict(plain(**changes))


def problems(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        make(**changes)
    return [f"{d.code} {d.message}" for d in caught.value.diagnostics]


def only_problem(**changes: Any) -> str:
    found = problems(**changes)
    assert len(found) == 1, found
    return found[0]


def only_finding(text: str | bytes) -> str:
    experiment, found = decode(text, "f.yaml")
    assert experiment is None
    assert len(found) == 1, [str(d) for d in found]
    return str(found[0])


# --- meaning ----------------------------------------------------------------------------------------------------------


def test_the_file_of_the_design_loads_with_the_meaning_it_shows() -> None:
    exp = load(DESIGN)
    assert exp.name == exp.salt == "spring-webinar"
    assert [cell.name for cell in exp.cells] == ["plain+register", "plain+seats", "number+register", "number+seats"]
    assert exp.control_cell.index == 0
    assert exp.cells[3].content == {"subject": "3 ways to cut reporting time by 40 %", "cta": "See free seats"}
    assert exp.message.sender == "Sales <news@example.com>"
    assert exp.audience.holdout == 0.05
    assert exp.audience.segment == Segment.parse("stage in ['warm', 'hot'] and industry == 'manufacturing'")
    assert exp.send_time.between == TimeWindow(time(8), time(20))
    assert exp.send_time.weekdays == {0, 1, 2, 3, 4}
    assert (exp.send_time.zone, exp.send_time.default_zone) == ("recipient", "UTC")
    assert exp.allocation.every == timedelta(hours=1)
    assert exp.min_weight == exp.allocation.min_weight == 0.05
    assert exp.metrics.window == timedelta(hours=72)
    assert exp.metrics.guardrails == {"unsubscribed": 0.005, "complained": 0.001, "bounced": 0.05}
    assert (exp.analysis.alpha, exp.analysis.mde, exp.analysis.power, exp.analysis.baseline) == (0.05, 0.01, 0.8, 0.04)
    assert exp.stop.after == timedelta(days=14)
    assert exp.stop.when == ("winner", "futile")
    assert exp.path == str(DESIGN)


def test_the_defaults_are_the_careful_ones() -> None:
    exp = make()
    assert exp.hypothesis == ""
    assert (exp.audience.segment, exp.audience.holdout, exp.audience.unit) == (None, 0.0, "recipient")
    assert (exp.send_time.mode, exp.send_time.at, exp.send_time.between) == ("fixed", None, None)
    assert len(exp.send_time.days) == 7
    assert (exp.allocation.policy, exp.allocation.first_wave, exp.allocation.waves) == ("thompson", 0.2, 8)
    assert (exp.allocation.every, exp.allocation.seed, exp.allocation.weights) == (timedelta(hours=1), 0, None)
    assert (exp.metrics.primary, exp.metrics.window, exp.metrics.guardrails) == ("clicked", timedelta(hours=72), {})
    assert (exp.analysis.alpha, exp.analysis.power, exp.analysis.mde) == (0.05, 0.8, None)
    assert (exp.stop.after, exp.stop.when, exp.stop.then) == (timedelta(days=14), ("winner",), "send_winner")
    assert (exp.stop.inconclusive, exp.stop.too_small) == ("send_control", "send_control")
    assert exp.path is None


@pytest.mark.parametrize(("cells", "floor"), [(2, 0.10), (3, 0.10), (4, 0.10), (5, 0.08), (20, 0.02)])
def test_the_floor_is_a_tenth_but_never_binds_more_than_two_fifths(cells: int, floor: float) -> None:
    exp = make(factors={"subject": {f"l{i}": f"Text {i}" for i in range(cells)}}, control={"subject": "l0"})
    assert exp.min_weight == pytest.approx(floor, abs=1e-15)
    assert exp.min_weight * cells <= 0.4 + 1e-12


def test_words_and_numbers_read_as_yaml_1_2_says() -> None:
    exp = load(CASES / "passing" / "fixed.yaml")
    assert list(exp.factors["subject"]) == ["NO", "on", "3rd", "null"]
    assert exp.factors["subject"]["on"] == "It's two"
    assert exp.factors["subject"]["null"] == "One"
    assert exp.name == "0123-fixed"
    assert exp.send_time.at == time(23, 15)
    assert exp.send_time.days == ("mon", "sun")
    assert exp.allocation.weights == {"NO": 0.333, "on": 0.333, "3rd": 0.334, "null": 0.0}
    assert exp.metrics.window == timedelta(hours=36)
    assert (exp.analysis.alpha, exp.analysis.mde, exp.analysis.power, exp.analysis.baseline) == (0.01, 0.005, 0.9, 0.02)


@pytest.mark.parametrize(("written", "said"), [("12:30", "'12:30'"), ("NO", "'NO'"), ("0123", "123"), ("0o17", "15")])
def test_a_wrong_value_is_shown_as_yaml_1_2_reads_it(written: str, said: str) -> None:
    lines = ["spec: 1", "name: x", f"metrics: {{primary: {written}}}", "control: {subject: a}"]
    lines += ["factors: {subject: {a: A, b: B}}", "message: {template: x, from: a@b.c}"]
    found = only_finding("\n".join(lines))
    assert found == f"f.yaml:3:20: AB107 metrics.primary: {said} is not one of clicked, opened"


def test_japanese_definitions_load() -> None:
    exp = load(CASES / "passing" / "japanese.yaml")
    assert [cell.name for cell in exp.cells] == ["そのまま+あり", "そのまま+なし", "数字+あり", "数字+なし"]
    assert exp.cells[1].content["preheader"] == ""
    assert exp.audience.holdout == 0.05
    assert str(exp.send_time.between) == "08:00-20:00"


def test_cells_are_found_by_name_and_an_unknown_one_names_the_nearest() -> None:
    exp = load(DESIGN)
    assert exp.cell("number+seats") is exp.cells[3]
    assert exp.cells[3].levels == {"subject": "number", "cta": "seats"}
    with pytest.raises(ValueError, match=r"no cell 'number\+seat' in the experiment spring-webinar; .*'number\+seats'"):
        exp.cell("number+seat")


def test_texts_lose_the_space_around_them_and_the_body_keeps_its_lines() -> None:
    body = "First line.\n\tSecond line.\n"
    exp = make(
        factors={"subject": {"a": "  One \n", "b": "Two"}, "body": {"x": body}},
        control={"subject": "a", "body": "x"},
    )
    assert exp.factors["subject"]["a"] == "One"
    assert exp.factors["body"]["x"] == body


def test_a_definition_cannot_be_changed() -> None:
    exp = load(DESIGN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        exp.name = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        exp.audience.holdout = 0.5  # type: ignore[misc]
    for change in ("exp.factors['subject']['plain'] = 'x'", "exp.control.clear()", "exp.metrics.guardrails.popitem()"):
        with pytest.raises(TypeError, match="frozen"):
            exec(change)


def test_definitions_are_values_equal_hashable_copied_and_pickled() -> None:
    exp, again = load(DESIGN), loads(DESIGN.read_text(encoding="utf-8"), path="elsewhere.yaml")
    assert exp == again
    assert hash(exp) == hash(again)
    assert pickle.loads(pickle.dumps(exp)) == exp == copy.deepcopy(exp)
    assert pickle.loads(pickle.dumps(exp)).place("stop", "after") == exp.place("stop", "after")
    assert dataclasses.replace(exp, salt="other") != exp
    assert dataclasses.replace(exp, salt="other").spec_hash != exp.spec_hash


# --- hash and resolved form -------------------------------------------------------------------------------------------


def test_the_hash_of_the_design_has_not_moved() -> None:
    assert load(DESIGN).spec_hash == "6b48bffc18f47081"


def test_the_hash_is_the_same_for_comments_order_of_keys_and_spelled_out_defaults() -> None:
    text = """
    # a comment
    metrics: {guardrails: {bounced: 5 %, complained: 0.001}, primary: clicked, window: 3d}
    message: {from: a@example.com, template: mails/x.html.j2}
    control: {subject: plain}
    send_time: {days: [sun, sat, fri, thu, wed, tue, mon], zone: recipient}
    stop: {after: 2w, when: [winner], then: send_winner, inconclusive: send_control, too_small: send_control}
    allocation: {min_weight: 0.1, waves: 8, every: 60m, first_wave: 20 %, policy: thompson, seed: 0}
    factors: {subject: {plain: Join us, number: 3 ways}}
    salt: spring
    analysis:
    name: spring
    spec: 1
    """
    same = make(metrics={"guardrails": {"complained": "0.1 %", "bounced": 0.05}})
    assert loads(text).spec_hash == same.spec_hash
    assert loads(text) == same


@pytest.mark.parametrize(
    "changes",
    [
        {"factors": {"subject": {"number": "3 ways", "plain": "Join us"}}},
        {"factors": {"subject": {"plain": "Join us", "number": "4 ways"}}},
        {"factors": {"subject": {"plain": "Join us", "figure": "3 ways"}}},
        {"control": {"subject": "number"}},
        {"salt": "other"},
        {"name": "autumn"},
        {"audience": {"holdout": 0.01}},
        {"audience": {"segment": "a == 'b'"}},
        {"allocation": {"policy": "uniform"}},
        {"allocation": {"min_weight": 0.2}},
        {"stop": {"when": []}},
        {"send_time": {"between": "08:00-20:00"}},
    ],
)
def test_the_hash_changes_with_the_meaning_the_order_of_levels_included(changes: dict[str, Any]) -> None:
    assert make(**changes).spec_hash != make().spec_hash


def test_the_order_of_factors_numbers_the_cells_and_is_part_of_the_hash() -> None:
    subject, cta = {"a": "A", "b": "B"}, {"x": "X", "y": "Y"}
    control = {"subject": "a", "cta": "x"}
    one = make(factors={"subject": subject, "cta": cta}, control=control)
    other = make(factors={"cta": cta, "subject": subject}, control=control)
    assert one.cells[1].name == "a+y"
    assert other.cells[1].name == "x+b"
    assert one.spec_hash != other.spec_hash


@pytest.mark.parametrize("path", PASSING, ids=lambda path: path.stem)
def test_the_resolved_form_is_json_and_loads_back_to_the_same_definition(path: Path) -> None:
    exp = load(path)
    again = Experiment.from_dict(json.loads(json.dumps(exp.resolved())))
    assert again == exp
    assert again.spec_hash == exp.spec_hash
    assert again.resolved() == exp.resolved()


def test_the_resolved_form_spells_out_every_default() -> None:
    resolved = make().resolved()
    assert resolved["salt"] == "spring"
    assert resolved["allocation"] == {
        "goal": "balance", "policy": "thompson", "min_weight": 0.1, "first_wave": 0.2, "every": "1h", "waves": 8,
        "assignment": "hash", "standing": False, "seed": 0,
    }  # fmt: skip
    assert resolved["stop"]["after"] == "14d"
    assert resolved["send_time"]["days"] == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    assert resolved["message"] == {"template": "mails/x.html.j2", "from": "a@example.com"}


line_texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1).filter(lambda t: t.strip())
levels = st.dictionaries(st.from_regex(r"\A[\w-]{1,8}\Z"), line_texts, min_size=2, max_size=4)
shares = st.floats(0, 1)
clocks = st.times().map(lambda t: t.strftime("%H:%M"))


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    factors = draw(
        st.dictionaries(st.sampled_from(["subject", "cta", "preheader", "from_name"]), levels, min_size=1, max_size=2)
    )
    return plain(
        factors=factors,
        control={factor: draw(st.sampled_from(sorted(texts))) for factor, texts in factors.items()},
        hypothesis=draw(st.text(st.characters(exclude_categories=["Cs"]))),
        audience={"holdout": draw(st.floats(0, 0.999)), "unit": draw(st.sampled_from(["recipient", "company"]))},
        send_time={"days": draw(st.lists(st.sampled_from(["mon", "wed", "sun"]), min_size=1, unique=True))},
        allocation={
            "first_wave": draw(st.floats(0.001, 1)),
            "every": draw(st.integers(1, 10**7).map(lambda s: f"{s}s")),
            "seed": draw(st.integers(0, 2**63 - 1)),
        },
        metrics={"guardrails": draw(st.dictionaries(st.sampled_from(["bounced", "complained"]), shares))},
        stop={"when": draw(st.lists(st.sampled_from(["winner", "futile"]), unique=True))},
    )


@settings(max_examples=60, deadline=None)
@given(definitions())
def test_any_definition_survives_the_way_to_plain_data_and_back(definition: dict[str, Any]) -> None:
    exp = Experiment.from_dict(definition)
    again = Experiment.from_dict(json.loads(json.dumps(exp.resolved())))
    assert again == exp
    assert again.spec_hash == exp.spec_hash
    assert [cell.name for cell in again.cells] == [cell.name for cell in exp.cells]
    assert exp.control_cell in exp.cells


@settings(max_examples=60, deadline=None)
@given(definitions())
def test_json_is_yaml_and_decodes_to_the_same_definition(definition: dict[str, Any]) -> None:
    assert loads(json.dumps(definition, ensure_ascii=True)) == Experiment.from_dict(definition)


# --- typed values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant", "canonical"),
    [
        ("90s", timedelta(seconds=90), "90s"),
        ("15m", timedelta(minutes=15), "15m"),
        ("60m", timedelta(hours=1), "1h"),
        ("1h30m", timedelta(minutes=90), "90m"),
        ("72h", timedelta(days=3), "3d"),
        ("2w", timedelta(days=14), "14d"),
        ("1w2d3h4m5s", timedelta(days=9, hours=3, minutes=4, seconds=5), "788645s"),
    ],
)
def test_durations_read_with_units_and_write_in_the_largest_exact_one(
    written: str, meant: timedelta, canonical: str
) -> None:
    exp = make(stop={"after": written})
    assert exp.stop.after == meant
    assert exp.resolved()["stop"]["after"] == canonical


@pytest.mark.parametrize(
    "written",
    [60, 1.5, "", "h", "1", "1 h", "1H", "-1h", "1.5h", "30m1h", "0s", "4000d", "１h", True, None, [], "9" * 99],
)
def test_durations_without_unit_or_meaning_are_refused(written: object) -> None:
    assert only_problem(stop={"after": written}).startswith("AB107 stop.after: ")


@pytest.mark.parametrize(
    ("written", "meant"), [(0.4, 0.4), ("40 %", 0.4), ("40%", 0.4), ("0.7 %", 0.007), (0, 0.0), ("7％", 0.07)]
)
def test_shares_are_fractions_or_percent(written: object, meant: float) -> None:
    assert make(audience={"holdout": written}).audience.holdout == meant


@pytest.mark.parametrize(
    "written", [5, -0.1, 1, "100 %", "5", "5 percent", True, float("nan"), float("inf"), 10**400, "", None, "٥ %"]
)
def test_shares_outside_their_range_are_refused(written: object) -> None:
    assert only_problem(audience={"holdout": written}).startswith("AB107 audience.holdout: ")


def test_a_percentage_without_its_sign_is_recognised() -> None:
    with pytest.raises(SpecError) as caught:
        make(analysis={"alpha": 5})
    assert caught.value.diagnostics[0].hint == "write 5 % or 0.05"


@pytest.mark.parametrize(
    ("window", "inside", "outside"), [("08:00-20:00", "8:00", "20:00"), ("22:00 - 6:00", "0:00", "6:00")]
)
def test_a_window_holds_its_start_and_not_its_end_and_may_pass_midnight(window: str, inside: str, outside: str) -> None:
    between = make(send_time={"between": window}).send_time.between
    assert between is not None
    assert time.fromisoformat(inside.zfill(5)) in between
    assert time.fromisoformat(outside.zfill(5)) not in between


def test_midnight_ends_a_day_without_wrapping() -> None:
    window = TimeWindow.parse("08:00-24:00")
    assert window == TimeWindow(time(8), time(0))
    assert not window.wraps
    assert window.length == timedelta(hours=16)
    assert time(23, 59) in window
    assert TimeWindow.parse("22:00-06:00").wraps
    assert TimeWindow.parse("22:00-06:00").length == timedelta(hours=8)


@given(clocks, clocks, st.times())
def test_a_window_comes_back_from_its_text_and_holds_what_lies_between(start: str, end: str, moment: time) -> None:
    if start == end:
        with pytest.raises(ValueError, match="empty"):
            TimeWindow.parse(f"{start}-{end}")
        return
    window = TimeWindow.parse(f"{start}-{end}")
    assert TimeWindow.parse(str(window)) == window
    minutes_in = (moment.hour * 60 + moment.minute - window.start.hour * 60 - window.start.minute) % 1440
    assert (moment in window) is (minutes_in < window.length.total_seconds() / 60)


@pytest.mark.parametrize(
    "written", ["8-20", "08:00", "08:00-25:00", "08:00-20:60", "08:00-08:00", "00:00-24:00", 8, None]
)
def test_windows_that_are_none_are_refused(written: object) -> None:
    found = problems(send_time={"between": written, "mode": "learn"}) if written is not None else ["AB107"]
    assert found[0].startswith("AB107")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+9"])
def test_zones_of_the_iana_database_are_accepted(zone: str) -> None:
    assert make(send_time={"default_zone": zone}).send_time.default_zone == zone


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Asia/Tokio", "'Asia/Tokyo'"),
        ("asia/tokyo", "'Asia/Tokyo'"),
        ("Europe/Berlinn", "'Europe/Berlin'"),
        ("JST", "IANA name"),
        ("Europe", "IANA name|'"),
        ("../../etc/passwd", "IANA name|'"),
        ("localtime", ""),
        ("posix/UTC", ""),
        ("recipient", ""),
        ("", "IANA name"),
        ("UTC\0", ""),
        ("x" * 5000, "IANA name"),
    ],
)
def test_unknown_zones_are_refused_with_the_nearest_name(zone: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        make(send_time={"default_zone": zone})
    (finding,) = caught.value.diagnostics
    assert "no time zone" in finding.message
    assert re.search(hint, finding.hint)


@pytest.mark.parametrize(
    "sender", ["news@example.com", "Sales <news@example.com>", '"Doe, J." <j@e.com>', "営業 <a@b.jp>", "a@localhost"]
)
def test_senders_are_one_address_with_or_without_a_name(sender: str) -> None:
    assert make(message={"template": "x.j2", "from": sender}).message.sender == sender


@pytest.mark.parametrize(
    "sender", ["", "Sales", "a@b, c@d", "a@b\nBcc: x@y", "Sales <a>", "<a@b> x", "a b@c", "a@b@c", 5]
)
def test_senders_that_are_none_or_several_are_refused(sender: object) -> None:
    assert re.match(r"AB10[67] message\.from: ", only_problem(message={"template": "x.j2", "from": sender}))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.j2", "mails/../../x", "~/x", "C:\\x", "", " ", "a\nb"])
def test_templates_outside_the_project_are_refused(path: str) -> None:
    assert only_problem(message={"template": path, "from": "a@b.c"}).startswith("AB107 message.template: ")


@pytest.mark.parametrize("name", ["Spring", "spring webinar", "-x", "春", "", "a_b", "a" * 65, "x\n"])
def test_names_that_cannot_name_a_file_are_refused(name: str) -> None:
    assert "AB107 name: " in only_problem(name=name)


def test_a_name_that_is_none_gets_a_proposal() -> None:
    with pytest.raises(SpecError) as caught:
        make(name="Spring Webinar!")
    assert caught.value.diagnostics[0].hint == "write 'spring-webinar'"


# --- problems and their places ----------------------------------------------------------------------------------------


def expected_in(text: str) -> list[tuple[str, int, int]]:
    marks = re.findall(r"^# expect: (AB\d+) (\d+):(\d+)$", text, flags=re.MULTILINE)
    return sorted((code, int(line), int(column)) for code, line, column in marks)


@pytest.mark.parametrize("path", FAILING, ids=lambda path: path.stem)
def test_a_failing_case_is_reported_whole_at_exactly_its_places(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected = expected_in(text)
    experiment, found = decode_file(path)
    assert experiment is None
    assert expected
    assert sorted((d.code, d.line, d.column) for d in found) == expected
    assert list(found) == sorted(found, key=lambda d: (d.line, d.column))
    lines = text.split("\n")
    for finding in found:
        assert finding.source_line == lines[finding.line - 1]


@pytest.mark.parametrize("path", PASSING, ids=lambda path: path.stem)
def test_a_passing_case_has_no_problem(path: Path) -> None:
    experiment, found = decode_file(path)
    assert found == ()
    assert experiment is not None


@pytest.mark.parametrize("word", ["hypothesis", "factors", "allocation", "metrics", "message"])
def test_an_unknown_key_names_the_nearest_known_one(word: str) -> None:
    text = DESIGN.read_text(encoding="utf-8") + f"{word[:-1]}: x\n"
    _, found = decode(text, "f.yaml")
    assert [(d.code, d.line, d.column, d.end_column) for d in found] == [("AB103", 16, 1, len(word))]
    assert found[0].hint == f"did you mean '{word}'?"


def test_a_wrong_name_names_the_nearest_in_any_case() -> None:
    for written in ("thomson", "Thompson", "THOMPSON"):
        with pytest.raises(SpecError) as caught:
            make(allocation={"policy": written})
        assert caught.value.diagnostics[0].hint == "did you mean 'thompson'?"


def test_a_duplicate_key_names_both_lines() -> None:
    text = DESIGN.read_text(encoding="utf-8") + "name: again\n"
    assert only_finding(text).endswith("AB102 the key 'name' stands twice, on lines 3 and 16")


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a: [1, 2", "1:4", "but got '<stream end>'"),
        ("a: [", "1:4", "found '<stream end>'"),
        ("a: {b: [1, {c: [2]}", "1:8", "but got '<stream end>'"),
        ("a: {b: c", "1:4", "but got '<stream end>'"),
        ('a: "x', "1:4", "end of stream"),
        ("a: b: c", "1:5", "a second colon makes a key"),
        ("a:\n  b: 1\n c: 2", "3:2", "this line begins in another column than those above"),
        ("a:\n\tb: 1", "2:1", r"'\t'"),
        ("a: @x", "1:4", "'@'"),
        ("a: *x", "1:4", "the alias *x names no anchor before it"),
        ("a: &x [*x]", "1:8", "the alias *x contains itself"),
        ("a: !!python/object:os.system x", "1:4", "is not used in definitions"),
        ("%YAML 1.1\n---\na: 1", "2:1", "definitions are YAML 1.2"),
        ("a: 1\n---\nb: 1", "2:1", "second document"),
        ("a: \x07", "1:4", "U+0007"),
        ('a: "\\uD800"', "1:4", "surrogate"),
        ('a: "\\uDC00\\uD800"', "1:4", "surrogate"),
        ('a: "\\UFFFFFFFF"', "1:1", "not YAML"),
        ("{[a]: b}", "1:2", "a key must be a word"),
    ],
)
def test_yaml_that_is_none_is_reported_at_its_place(text: str, place: str, said: str) -> None:
    _, found = decode(text, "f.yaml")
    broken = [d for d in found if d.code == "AB101"]
    assert [f"{d.line}:{d.column}" for d in broken] == [place]
    assert said in broken[0].message


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", "AB105", "empty"),
        ("\n\n# only a comment\n", "AB105", "empty"),
        ("---\n...\n", "AB106", "found nothing"),
        ("just words", "AB106", "found the text 'just words'"),
        (b"", "AB105", "empty"),
        (b"\0\1\2", "AB101", "binary"),
        ("件名: x".encode("utf-16"), "AB101", "0xFF is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "AB101", "0x89 is not UTF-8"),
    ],
)
def test_what_is_no_definition_at_all_is_one_finding(text: str | bytes, code: str, said: str) -> None:
    found = only_finding(text)
    assert f" {code} " in found
    assert said in found


def test_a_wrong_byte_is_reported_at_its_line_and_column() -> None:
    assert only_finding("spec: 1\nname: 件".encode() + "名".encode("shift_jis")).startswith("f.yaml:2:8: AB101 ")
    assert only_finding(b"\xef\xbb\xbfspec: \xff").startswith("f.yaml:1:7: AB101 ")


def test_a_byte_order_mark_and_foreign_line_ends_move_no_column() -> None:
    text = "spec: 1\r\nname: x\rwrong: 1\r\n"
    _, found = decode(b"\xef\xbb\xbf" + text.encode(), "f.yaml")
    assert [(d.line, d.column, d.source_line) for d in found if d.code == "AB103"] == [(3, 1, "wrong: 1")]


def deep(opening: str) -> str:
    return opening * 5_000


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(2_000))
HUGE = "spec: 1\n# " + "x" * 10_000_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (deep("["), "nested more than 32 deep"),
        (deep("{a: "), "nested more than 32 deep"),
        (deep("- "), "nested more than 32 deep"),
        ("".join(" " * i + "a:\n" for i in range(500)), "nested more than 32 deep"),
        (BOMB, "more than 10000 values, aliases expanded"),
        (CHAIN, "nested more than 32 deep"),
        ("[" + "1," * 30_000 + "]", "more than 10000 values"),
        (HUGE, "KiB are too much"),
        ("x" * 200_000, "expected keys with values"),
        ("a: !" + "b" * 100_000, "is not used in definitions"),
        ("send_time: {between: '1" + " " * 100_000 + "1'}", "more problems"),
        ("audience: {segment: '" + "(" * 9_000 + "'}", "nested more than 50 deep"),
    ],
    ids=["lists", "mappings", "dashes", "indents", "bomb", "chain", "many", "huge", "word", "tag", "window", "segment"],
)
def test_hostile_files_are_refused_in_seconds(text: str, said: str) -> None:
    start = clock.process_time()
    experiment, found = decode(text, "f.yaml")
    assert clock.process_time() - start < 4
    assert experiment is None
    assert said == "more problems" or any(said in d.message for d in found), [d.message[:99] for d in found]
    assert len(found) <= 101
    assert all(len(d.message) < 400 for d in found)


def test_a_flood_of_problems_is_cut_with_their_number() -> None:
    _, found = decode("".join(f"k{i}: 1\n" for i in range(300)), "f.yaml")
    assert len(found) == 101
    assert found[-1].message == "205 more problems from here on"


yaml_pieces = st.sampled_from(
    ["spec: 1", "name: x", "\n", "\n  ", ": ", "- ", "[", "]", "{", "}", ", ", "'", '"', "&a ", "*a", "#", "!t ", "|\n",
     ">-\n", "factors", "subject", "control", "audience", "segment", "?", "---\n", "\t", "\0", "\x85", "\u2028", "件名",
     "%YAML 1.2\n", "<<", "~", "0x1F", "1e9999", "\ufeff", "\\", "\r", "allocation: {policy: fixed}",
     "factors: {cta: {a: b, c: d}}"]
)  # fmt: skip
valid = DESIGN.read_text(encoding="utf-8")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.lists(yaml_pieces, max_size=30).map("".join)))
@example("? a\n? b")
@example("a: |9\n x")
@example("%TAG ! tag:x\n---\n!x a")
@example("0\x85\x850:")
def test_any_text_is_a_definition_or_a_finding_with_a_place_inside_it(text: str | bytes) -> None:
    experiment, found = decode(text, "f.yaml")
    assert (experiment is None) is bool(found)
    for finding in found:
        assert finding.line >= 1
        assert finding.column >= 1
        assert finding.column <= len(finding.source_line) + 1
        assert "\n" not in finding.message
        json.dumps(str(finding)).encode("ascii")
        str(finding).encode("utf-8")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(valid)), st.integers(0, 12), st.text(max_size=3))
def test_a_damaged_definition_is_read_or_refused_and_never_crashes(start: int, length: int, patch: str) -> None:
    experiment, found = decode(valid[:start] + patch + valid[start + length :], "f.yaml")
    assert (experiment is None) is bool(found)


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "none.yaml", tmp_path, loop, tmp_path / "pipe.yaml", Path("nul\0.yaml"), Path("x" * 5_000)):
        experiment, found = decode_file(path)
        assert experiment is None
        assert [d.code for d in found] == ["AB100"]
        with pytest.raises(SpecError):
            load(path)


def test_a_large_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)
    assert "KiB are too much" in str(decode_file(path)[1][0])


def test_the_error_lists_every_problem_with_its_place() -> None:
    with pytest.raises(SpecError) as caught:
        load(CASES / "failing" / "control.yaml")
    assert isinstance(caught.value, AbmailError)
    assert isinstance(caught.value, ValueError)
    assert len(caught.value.diagnostics) == 3
    assert "control.yaml:7:20: AB107 control.subject: no level 'plane' of subject" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.diagnostics == caught.value.diagnostics


def test_problems_of_plain_data_name_their_key() -> None:
    found = problems(audience={"holdout": 2, "units": "x"}, stop=[], factors={1: {}}, name=5)
    assert "AB107 audience.holdout: 2 is not a share in [0, 1]" in found
    assert "AB103 audience.units: unknown key" in found
    assert "AB106 stop: expected keys with values, found a list" in found
    assert "AB103 factors.1: unknown key" in found
    assert "AB106 name: expected text, found 5" in found


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_plain_data_that_is_no_mapping_is_refused(value: Any) -> None:
    with pytest.raises(SpecError, match="expected keys with values"):
        Experiment.from_dict(value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"factors": {}}, "AB107 factors: no factor varies"),
        ({"factors": {"subject": ["a", "b"]}}, "AB106 factors.subject: expected keys with values, found a list"),
        ({"factors": {"subject": {"plain": {}, "b": "B"}}}, "AB106 factors.subject.plain: expected text, found keys"),
        ({"control": {"subject": 5}}, "AB106 control.subject: expected the name of a level, found 5"),
        ({"control": []}, "AB106 control: expected keys with values, found a list"),
        ({"audience": {"segment": 5}}, "AB107 audience.segment: 5 is not an expression"),
        ({"audience": {"segment": "a ="}}, "AB108 audience.segment: '=' has no meaning here"),
        ({"send_time": {"days": []}}, "AB107 send_time.days: the list is empty"),
        ({"send_time": {"mode": "learn", "slots": ["08:00"]}}, "AB107 send_time.slots: has no meaning with mode learn"),
        ({"send_time": {"between": "08:00-20:00", "at": "20:00"}}, "AB107 send_time.at: 20:00 is outside of between"),
        ({"allocation": {"policy": "fixed"}}, "AB105 allocation.weights: policy fixed needs the weight of each cell"),
        (
            {"allocation": {"policy": "fixed", "weights": {"plain": 0.5, "number": 0.4}}},
            "AB107 allocation.weights: the weights sum to 0.9, must be 1",
        ),
        ({"allocation": {"weights": []}}, "AB106 allocation.weights: expected keys with values, found a list"),
        ({"stop": {"when": ["winner", "winner"]}}, "AB107 stop.when: winner more than once in the list"),
    ],
)
def test_what_contradicts_itself_is_refused_in_words(changes: dict[str, Any], problem: str) -> None:
    assert only_problem(**changes).startswith(problem)


def test_the_body_needs_visible_text() -> None:
    def body(text: str) -> str:
        factors = {"subject": {"a": "A", "b": "B"}, "body": {"x": text}}
        return only_problem(factors=factors, control={"subject": "a", "body": "x"})

    assert body(" \n").startswith("AB107 factors.body.x: the text is empty")
    assert body("a\x00b").startswith("AB107 factors.body.x: 'a\\x00b' has a control character")


def test_the_weights_that_are_wanted_are_proposed() -> None:
    with pytest.raises(SpecError) as caught:
        make(allocation={"policy": "fixed"})
    assert caught.value.diagnostics[0].hint == "weights: {plain: 0.5, number: 0.5}"


def test_plain_data_may_hold_values_that_are_typed_already() -> None:
    typed = make(
        stop={"after": timedelta(hours=5)},
        send_time={"between": TimeWindow(time(9), time(17)), "at": time(9), "days": ("tue", "mon")},
        audience={"segment": Segment.parse("a == 'b'")},
    )
    assert typed == make(
        stop={"after": "5h"},
        send_time={"between": "09:00-17:00", "at": "9:00", "days": ["mon", "tue"]},
        audience={"segment": "a == 'b'"},
    )


def test_keys_of_plain_data_that_are_no_text_are_refused() -> None:
    assert "AB103 factors.subject.1" in only_problem(
        factors={"subject": {1: "One", "b": "B"}}, control={"subject": "b"}
    )
    assert only_problem(allocation={"policy": "fixed", "weights": {1: 0.5, "plain": 0.5, "number": 0}}).startswith(
        "AB103"
    )


def test_a_place_of_a_loaded_definition_is_its_key_or_value_or_the_nearest_around_it() -> None:
    exp = load(DESIGN)
    value, key = exp.place("allocation", "policy"), exp.place("allocation", "policy", key=True)
    assert (value.line, value.column, value.end_column) == (12, 22, 30)
    assert (key.line, key.column, key.end_column) == (12, 14, 20)
    absent = exp.place("allocation", "seed")
    assert (absent.line, absent.column, absent.end_column) == (12, 1, 11)
    assert exp.place("send_time", "days", 2).column == 67
    assert make().place("allocation").path == "<definition>"


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_schema_accepts_every_passing_case_and_refuses_plain_mistakes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in PASSING:
        validator.validate(load(path).resolved())
    for good in (plain(), plain(stop=None), plain(audience={"holdout": "5 %", "segment": None})):
        validator.validate(good)
        Experiment.from_dict(good)
    for bad in (
        plain(names="x"), plain(spec=2), plain(name="A b"), plain(audience={"holdout": 5}), plain(stop={"after": 60}),
        plain(stop={"after": ""}), plain(factors={"subjekt": {}}), plain(allocation={"policy": "thomson"}), {},
        plain(send_time={"between": "8-20"}), plain(metrics={"guardrails": {"x": 0.1}}), plain(allocation={"waves": 1}),
        plain(message={"template": "x"}),
    ):  # fmt: skip
        assert not validator.is_valid(bad), bad
        with pytest.raises(SpecError):
            Experiment.from_dict(bad)


def test_the_schema_tells_an_editor_what_each_key_is() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["spec", "name", "factors", "control", "message"]
    assert schema["additionalProperties"] is False
    message = schema["properties"]["message"]
    assert set(message["required"]) == {"template", "from"}
    assert "from_name" in message["properties"]["from"]["description"]
    policy = schema["properties"]["allocation"]["properties"]["policy"]
    assert policy["enum"][:2] == ["thompson", "top_two"]
    assert {"uniform", "fixed", "test_then_send"} < set(policy["enum"])
    assert policy["default"] == "thompson"
    every = schema["properties"]["allocation"]["properties"]["every"]
    assert every["default"] == "1h"
    json.dumps(schema)


def test_every_key_of_the_schema_has_a_description() -> None:
    def undescribed(properties: dict[str, Any], above: str = "") -> list[str]:
        found = [above + key for key, entry in properties.items() if not entry.get("description")]
        for key, entry in properties.items():
            found += undescribed(entry.get("properties", {}), f"{key}.")
        return found

    assert undescribed(json_schema()["properties"]) == []


# --- the start of a new definition ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("subject", ["plain", "number"]),
        ("cta", ["register", "seats"]),
        ("factorial", ["plain+register", "plain+seats", "number+register", "number+seats"]),
    ],
)
def test_a_new_definition_is_valid_and_can_go_out_at_once(kind: str, cells: list[str]) -> None:
    text = starter("spring-2025", kind)
    exp = loads(text)
    assert exp.name == "spring-2025"
    assert exp.message.template == "mails/spring-2025.html.j2"
    assert [cell.name for cell in exp.cells] == cells
    assert exp.allocation.policy == "uniform"
    assert exp.send_time.between is None
    assert ("subject" in exp.factors) != (exp.message.subject is not None)
    assert text.startswith("# yaml-language-server: $schema=")
    assert "@" not in text.replace("news@example.com", "")


def test_a_new_definition_switches_to_waves_by_its_own_comments() -> None:
    lines = starter("x", "subject").splitlines()
    switched = [
        line.replace("# ", "", 1) if re.match(r"  # (policy|first_wave|every|waves):", line) else line
        for line in lines
        if line != "  policy: uniform"
    ]
    exp = loads("\n".join(switched))
    assert exp.allocation.policy == "thompson"
    assert (exp.allocation.first_wave, exp.allocation.waves) == (0.2, 8)


def test_a_new_definition_works_with_every_comment_of_its_sections_taken_away() -> None:
    text = re.sub(r"^  # (segment|between|days):", r"  \1:", starter("x", "cta"), flags=re.MULTILINE)
    exp = loads(text)
    assert exp.audience.segment is not None
    assert str(exp.send_time.between) == "08:00-20:00"
    assert len(exp.send_time.days) == 5


def test_unknown_kinds_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no kind of experiment 'subjekt'; known: subject, cta, factorial"):
        starter("x", "subjekt")
    with pytest.raises(ValueError, match=r"'My Test' is not a name.*write 'my-test'"):
        starter("My Test", "subject")


# --- weight -----------------------------------------------------------------------------------------------------------


def test_reading_a_definition_needs_neither_the_numeric_nor_the_template_libraries() -> None:
    code = (
        "import sys; from abmail.spec import load; load(sys.argv[1]); "
        "print([m for m in ('numpy', 'scipy', 'pandas', 'sqlalchemy', 'jinja2', 'pydantic', 'rich', 'difflib', 'json') "
        "if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(DESIGN)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_field_of_a_part_without_a_kind_is_a_fault_that_is_named() -> None:
    @dataclasses.dataclass(frozen=True)
    class Part:
        size: int = 0

    with pytest.raises(TypeError, match=r"field size is .*int.*, must be a part or be annotated with a Kind"):
        read_part(Part, {}, lambda *_: iter(()))


def test_cells_of_an_earlier_version_keep_their_numbers() -> None:
    def version(subjects: list[str], ctas: list[str]) -> Experiment:
        return Experiment.from_dict(
            {
                "spec": 1,
                "name": "spring",
                "factors": {"subject": {s: s for s in subjects}, "cta": {c: c for c in ctas}},
                "control": {"subject": "a", "cta": "x"},
                "message": {"template": "mails/x.html.j2", "from": "a@example.com"},
            }
        )

    first = version(["a", "b"], ["x", "y"])
    second = version(["a", "b"], ["z", "x", "y"]).going_on_from(first)
    assert [cell.name for cell in second.cells] == ["a+x", "a+y", "b+x", "b+y", "a+z", "b+z"]
    third = version(["c", "a", "b"], ["z", "x", "y"]).going_on_from(second)
    assert [cell.name for cell in third.cells][:6] == [cell.name for cell in second.cells]
    assert [cell.index for cell in third.cells] == list(range(9))
    assert [third.combinations[place] for place in third.order] == [tuple(c.levels.values()) for c in third.cells]
    assert third.control_cell.index == 0
    with pytest.raises(ValueError, match=r"b\+x .* is gone"):
        version(["a", "c"], ["x", "y"]).going_on_from(first)
