"""Findings and their writers: places in a text, carets under wide letters, escapes for programs."""

from __future__ import annotations

import json
import pickle
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from abmail.diagnostics import (
    Diagnostic,
    Place,
    Rule,
    Source,
    display_width,
    sort_key,
    summary,
    write_github,
    write_json,
    write_text,
)

UNKNOWN = Rule("AB103", "unknown-key")
OPENS = Rule("AB202", "opens-decide", "warning")
TEXT = "spec: 1\nfactors: {件名: 新しい}\r\nlast: x\rafter: y"


def finding(text: str, word: str, message: str = "wrong", *, hint: str = "", rule: Rule = UNKNOWN) -> Diagnostic:
    start = text.index(word)
    return rule.at(Source("a.yaml", text).place(start, start + len(word)), message, hint=hint)


def caret_line(written: str) -> tuple[str, str]:
    lines = written.splitlines()
    return lines[1], lines[2]


def test_a_diagnostic_reads_as_path_line_column_code_and_message() -> None:
    assert str(finding(TEXT, "factors", "unknown key")) == "a.yaml:2:1: AB103 unknown key"


def test_a_diagnostic_takes_code_name_and_severity_from_its_rule() -> None:
    made = OPENS.at(Place(path="x"), "m")
    assert (made.code, made.name, made.severity, made.line, made.column) == ("AB202", "opens-decide", "warning", 1, 1)


def test_a_diagnostic_survives_pickling() -> None:
    made = finding(TEXT, "after")
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("word", "line", "column", "end"),
    [("spec", 1, 1, 5), ("件名", 2, 11, 13), ("last", 3, 1, 5), ("after: y", 4, 1, 9)],
)
def test_a_place_counts_characters_behind_every_kind_of_line_end(word: str, line: int, column: int, end: int) -> None:
    made = finding(TEXT, word)
    assert (made.line, made.column, made.end_column) == (line, column, end)
    assert made.source_line[column - 1 : end - 1] == word


def test_a_place_behind_the_last_character_is_the_end_of_the_last_line() -> None:
    place = Source("a", "x: [").place(4)
    assert (place.line, place.column, place.end_column, place.source_line) == (1, 5, None, "x: [")


def test_a_place_over_several_lines_is_cut_at_the_end_of_the_first() -> None:
    place = Source("a", "key: |\n  one\n  two\n").place(5, 20)
    assert (place.line, place.column, place.end_column) == (1, 6, 7)


def test_other_line_ends_of_unicode_do_not_count_as_lines() -> None:
    text = "a: 'x\u2028y\x85z'\nb: 1"
    assert finding(text, "b").line == 2


@given(st.text(alphabet="a\r\n件\t", max_size=30), st.integers(0, 30))
def test_every_offset_has_a_place_whose_line_holds_its_character(text: str, offset: int) -> None:
    offset = min(offset, len(text))
    place = Source("a", text).place(offset)
    assert place.line == len(re.findall(r"\r\n|\r(?!\n)|\n", text[:offset])) + 1 - _splits_a_line_end(text, offset)
    if text[offset : offset + 1] not in ("", "\r", "\n"):
        assert place.source_line[place.column - 1] == text[offset]


def _splits_a_line_end(text: str, offset: int) -> bool:
    return text[offset - 1 : offset + 1] == "\r\n" if offset else False


def test_text_shows_the_line_a_caret_under_the_place_and_the_hint() -> None:
    made = finding("name: x\npolicy: thomson\n", "thomson", "no policy 'thomson'", hint="did you mean 'thompson'?")
    assert write_text([made]) == (
        "a.yaml:2:9: AB103 error: no policy 'thomson'\n"
        " 2 | policy: thomson\n"
        "   |         ^^^^^^^\n"
        "   = hint: did you mean 'thompson'?\n"
    )


def test_text_puts_the_caret_right_behind_wide_and_combining_letters() -> None:
    text = "{件名: e\u0301x, 'ｶﾅ': 間違い}"
    line, carets = caret_line(write_text([finding(text, "間違い")]))
    before, _, _ = line.partition("間違い")
    assert display_width(before) == carets.index("^")
    assert carets.count("^") == 6


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("日本", 4), ("ｶﾅ", 2), ("Ａ", 2), ("e\u0301", 1), ("a\u200bb", 2), ("한", 2)],
)
def test_the_width_of_a_text_is_what_a_terminal_takes(text: str, width: int) -> None:
    assert display_width(text) == width


def test_text_without_a_source_line_shows_the_message_alone() -> None:
    assert write_text([UNKNOWN.at(Place(path="gone.yaml"), "cannot be read")]) == (
        "gone.yaml:1:1: AB103 error: cannot be read\n"
    )


def test_text_cuts_a_window_out_of_a_long_line_and_keeps_the_caret_under_the_place() -> None:
    text = "件" * 500 + "HERE" + "x" * 500
    line, carets = caret_line(write_text([finding(text, "HERE")]))
    assert len(line) < 120
    assert display_width(line.partition("HERE")[0]) == carets.index("^")
    assert carets.count("^") == 4


def test_text_never_hands_a_terminal_something_to_obey() -> None:
    text = 'a: "\x1b[31m\x07\u202e"\tb'
    made = finding(text, "b", "bad \x1b[2J text", hint="\x1b]0;title\x07")
    written = write_text([made])
    assert "\x1b" not in written
    assert "\x07" not in written
    assert "\u202e" not in written


def test_text_has_colours_only_when_asked() -> None:
    made = finding(TEXT, "factors", hint="h")
    plain, coloured = write_text([made], color=False), write_text([made], color=True)
    assert "\x1b[" not in plain
    assert "\x1b[1;31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_text_of_nothing_is_empty() -> None:
    assert write_text([]) == ""


def test_json_has_a_version_counts_and_every_field_of_every_finding() -> None:
    written = write_json([finding(TEXT, "件名", "未知"), finding(TEXT, "after", rule=OPENS, hint="h")])
    body = json.loads(written)
    assert (body["format_version"], body["errors"], body["warnings"]) == (1, 1, 1)
    assert "未知" in written
    assert body["findings"][1] == {
        "code": "AB202",
        "name": "opens-decide",
        "severity": "warning",
        "message": "wrong",
        "hint": "h",
        "path": "a.yaml",
        "line": 4,
        "column": 1,
        "end_column": 6,
    }


def test_json_of_nothing_is_an_empty_list_of_findings() -> None:
    assert json.loads(write_json([])) == {"format_version": 1, "errors": 0, "warnings": 0, "findings": []}


def test_github_writes_one_workflow_command_a_finding() -> None:
    assert write_github([finding(TEXT, "件名", "unknown key", hint="remove it")]) == (
        "::error file=a.yaml,line=2,col=11,endColumn=12,title=AB103 unknown-key::unknown key%0Ahint: remove it\n"
    )


def test_github_escapes_what_would_end_a_property_or_the_command() -> None:
    place = Place(path="odd,name:100%\r\n.yaml")
    assert write_github([OPENS.at(place, "50 % of a: b, c\r\nnext")]) == (
        "::warning file=odd%2Cname%3A100%25%0D%0A.yaml,line=1,col=1,title=AB202 opens-decide"
        "::50 %25 of a: b, c%0D%0Anext\n"
    )


@given(st.text(), st.text(), st.text())
@example("a::b", "c\r\nd", "%0A")
def test_github_escapes_can_be_undone(path: str, message: str, hint: str) -> None:
    made = UNKNOWN.at(Place(path=path), message, hint=hint)
    written = write_github([made])
    assert written.count("\n") == 1
    assert "\r" not in written
    match = re.fullmatch(r"::error (?:file=([^,:]*),)?line=1,col=1,title=AB103 unknown-key::(.*)\n", written, re.DOTALL)
    assert match is not None
    assert _unescape(match[1] or "") == path
    assert _unescape(match[2]) == (f"{message}\nhint: {hint}" if hint else message)


def _unescape(text: str) -> str:
    for code, char in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_findings_sort_by_file_line_and_column() -> None:
    places = [("b", 1, 1), ("a", 10, 1), ("a", 2, 9), ("a", 2, 1)]
    found = [UNKNOWN.at(Place(path=path, line=line, column=column), "m") for path, line, column in places]
    ordered = sorted(found, key=sort_key)
    assert [(d.path, d.line, d.column) for d in ordered] == [("a", 2, 1), ("a", 2, 9), ("a", 10, 1), ("b", 1, 1)]


def test_the_summary_counts_in_words() -> None:
    one, other = finding(TEXT, "spec"), OPENS.at(Place(path="b.yaml"), "m")
    assert summary([]) == "no findings"
    assert summary([one]) == "1 error in 1 file"
    assert summary([one, one, other]) == "2 errors and 1 warning in 2 files"
