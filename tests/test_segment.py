"""Segment expressions: who matches, what is refused and where, and that no text can break the parser."""

from __future__ import annotations

import math
import pickle
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from abmail.errors import ExpressionError
from abmail.segment import Segment

WARM = {
    "stage": "warm", "industry": "manufacturing", "employees": "120", "score": "7.5", "vip": "Yes",
    "city": "京都", "since": "2024-05-01", "note": "", "odd": "n/a", "big": "1e3", "会社名": "山田製作所",
    "Company size": "50", "email": "hanako@example.co.jp", "domain": "example.co.jp",
}  # fmt: skip


def matches(expression: str, attributes: dict[str, str] | None = None) -> bool:
    return Segment.parse(expression).matches(WARM if attributes is None else attributes)


@pytest.mark.parametrize(
    "expression",
    [
        "stage == 'warm'",
        'stage == "warm"',
        "'warm' == stage",
        "stage != 'hot'",
        "stage in ['warm', 'hot']",
        "stage not in ['cold']",
        "stage in ['warm', 'hot'] and industry == 'manufacturing'",
        "stage == 'hot' or industry == 'manufacturing'",
        "not stage == 'hot'",
        "not (stage == 'hot' or stage == 'cold')",
        "employees > 100",
        "employees >= 120 and employees <= 120",
        "100 < employees and 200 > employees",
        "employees == 120.0",
        "employees in [1, 120]",
        "score < 7.6",
        "score != -3",
        "big == 1000",
        "vip == true",
        "vip != false",
        "vip in [true]",
        "since >= '2024-01-01' and since < '2025-01-01'",
        "missing(note) and missing(absent)",
        "not missing(stage)",
        "contains(industry, 'fact')",
        "startswith(industry, 'manu')",
        "endswith(domain, '.co.jp')",
        "会社名 == '山田製作所'",
        "contains(会社名, '製作')",
        "`Company size` >= 50",
        "`stage` == 'warm'",
        "city in ['京都', '大阪']",
        "employees in ['x', 120, true]",
        "  stage\n==\t'warm'  ",
    ],
)
def test_these_hold_for_a_warm_lead(expression: str) -> None:
    assert matches(expression) is True


@pytest.mark.parametrize(
    "expression",
    [
        "stage == 'Warm'",
        "stage == 'warm '",
        "stage in ['hot']",
        "employees < 99",
        "employees > 120",
        "employees == '120.0'",
        "odd > 0",
        "odd <= 0",
        "odd == 1",
        "vip == false",
        "stage == true",
        "contains(industry, 'Fact')",
        "startswith(industry, 'facturing')",
        "missing(stage)",
        "stage == 'warm' and industry == 'retail'",
        "industry == 'retail' or stage == 'hot' or vip == false",
    ],
)
def test_these_fail_for_a_warm_lead(expression: str) -> None:
    assert matches(expression) is False


@pytest.mark.parametrize("attributes", [{}, {"x": ""}], ids=["missing", "empty"])
@pytest.mark.parametrize(
    "expression",
    [
        "x == 'a'", "x != 'a'", "x in ['a']", "x not in ['a']", "x < 1", "x >= 1", "x == 1", "x != 1", "x not in [1]",
        "x > 'a'", "x < 'a'", "x == true", "x != true", "contains(x, 'a')", "startswith(x, 'a')", "endswith(x, 'a')",
        "x not in ['a', 1, true]",
    ],
)  # fmt: skip
def test_a_missing_or_empty_attribute_fails_every_comparison(expression: str, attributes: dict[str, str]) -> None:
    assert matches(expression, attributes) is False
    assert matches(f"not ({expression})", attributes) is True


def test_a_value_of_another_kind_fails_unequal_too() -> None:
    assert matches("odd != 5") is False
    assert matches("odd not in [5, 6]") is False
    assert matches("stage != true") is False
    assert matches("odd != '5'") is True


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1_000", "1,000", "12 people"])
def test_what_is_no_finite_number_fails_numeric_comparisons(text: str) -> None:
    assert matches("n > 0 or n <= 0 or n == 0 or n != 0", {"n": text}) is False


def test_and_binds_stronger_than_or_and_not_stronger_than_and() -> None:
    yes, no = "a == '1'", "a == '2'"
    one = {"a": "1"}
    assert matches(f"{yes} or {no} and {no}", one) is True
    assert matches(f"({yes} or {no}) and {no}", one) is False
    assert matches(f"not {yes} or {yes}", one) is True
    assert matches(f"not ({yes} or {yes})", one) is False
    assert matches(f"not not {yes}", one) is True


def test_true_is_not_the_number_one() -> None:
    assert matches("x in [true]", {"x": "1"}) is True
    assert matches("x in [1]", {"x": "true"}) is False
    assert matches("x in [1, true]", {"x": "yes"}) is True
    assert matches("x in [0, true]", {"x": "no"}) is False


def test_a_backslash_stands_before_quotes_and_itself() -> None:
    assert matches(r"x == 'it\'s \\ \"'", {"x": "it's \\ \""}) is True


def test_a_segment_tells_its_text_and_the_names_it_asks_for() -> None:
    segment = Segment.parse("missing(stage) or `Company size` > 3 and not contains(会社名, 'x')")
    assert segment.names == {"stage", "Company size", "会社名"}
    assert segment.text == "missing(stage) or `Company size` > 3 and not contains(会社名, 'x')"


def test_segments_of_one_text_are_equal_and_survive_pickling() -> None:
    one = Segment.parse("a == 'b'")
    again = pickle.loads(pickle.dumps(one))
    assert one == again == Segment.parse("a == 'b'") != Segment.parse("a == 'c'")
    assert hash(one) == hash(again)
    assert again.matches({"a": "b"}) is True
    assert again.names == {"a"}


@pytest.mark.parametrize(
    ("expression", "offset", "said", "hint"),
    [
        ("", 0, "empty", "leave `segment` out"),
        ("   ", 0, "empty", "leave `segment` out"),
        ("stage", 5, "expected a comparison, found the end", "stage == 'text'"),
        ("stage ==", 8, "found the end", ""),
        ("stage = 'warm'", 6, "'='", "=="),
        ("stage is missing", 6, "expected a comparison", "missing(stage)"),
        ("stage == warm", 9, "warm is a second name", "'warm'"),
        ("stage in 'warm'", 9, "expected [ after in", ""),
        ("stage in []", 10, "expected a name or a value, found ]", ""),
        ("stage in ['a' 'b']", 14, "expected ]", ""),
        ("stage in [warm]", 10, "warm is not a value", "'warm'"),
        ("stage in ['a', 'b'", 18, "expected ] after the list, found the end", ""),
        ("stage == 'warm", 9, "no closing '", ""),
        ('stage == "warm', 9, 'no closing "', ""),
        ("(stage == 'a'", 13, "expected )", ""),
        ("stage == 'a')", 12, ") is not expected here", ""),
        ("stage == 'a' AND x == 'b'", 13, "AND is not expected", "write and in lower case"),
        ("stage == 'a' && x == 'b'", 13, "'&'", "write and"),
        ("10 <= age < 20", 10, "< is not expected", "10 <= age and age < 20"),
        ("stage == ‘warm’", 9, "'‘'", "straight quotes"),
        ("a <> 'b'", 2, "'<'", "write !="),
        ("a == b", 5, "b is a second name", "'b'"),
        ("1 == 1", 0, "two fixed values", ""),
        ("a == ''", 5, "the text is empty", "missing(name)"),
        (r"a == 'x\n'", 7, r"\n has no meaning", ""),
        ("a < true", 4, "no order", ""),
        ("startsWith(a, 'x')", 0, "no function startsWith", "startswith"),
        ("contains('x', a)", 9, "name of an attribute first", ""),
        ("contains(a, 3)", 12, "asks for a text", ""),
        ("missing(a, b)", 9, "expected ) after missing", ""),
        ("2nd == 'x'", 0, "not a number", "backticks"),
        ("a == 1e999", 5, "too large", ""),
        ("'a' in ['a']", 0, "a fixed value stands before in", ""),
        ("a not 'b'", 2, "expected a comparison, found not", ""),
        ("a == 'b' c", 9, "c is not expected here", ""),
        ("and", 0, "found and", ""),
        ("#", 0, "'#' has no meaning here", ""),
    ],
)
def test_what_is_wrong_is_said_at_its_place(expression: str, offset: int, said: str, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Segment.parse(expression)
    assert caught.value.offset == offset
    assert said in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.expression == expression


@pytest.mark.parametrize("deep", ["(" * 5000 + "a == 'b'" + ")" * 5000, "not " * 2400 + "a == 'b'"])
def test_deep_nesting_is_refused_instead_of_exhausting_the_stack(deep: str) -> None:
    deep = deep[:10_000]
    with pytest.raises(ExpressionError, match="nested more than 50 deep"):
        Segment.parse(deep)


def test_nesting_within_the_bound_works() -> None:
    assert matches("(" * 50 + "stage == 'warm'" + ")" * 50) is True
    assert matches("not " * 50 + "stage == 'warm'") is True


def test_side_by_side_parentheses_do_not_add_up() -> None:
    assert matches(" or ".join(["(a == 'b')"] * 200) + " or stage == 'warm'") is True


def test_an_endless_expression_is_refused() -> None:
    with pytest.raises(ExpressionError, match="at most 10000") as caught:
        Segment.parse("a == 'b' or " * 2_000)
    assert caught.value.offset == 10_000


def test_long_chains_are_fine() -> None:
    assert matches(" and ".join(["stage == 'warm'"] * 500)) is True
    assert matches(" or ".join(["stage == 'hot'"] * 500)) is False


pieces = st.sampled_from(
    ["a", "b c", "'x'", '"y"', "1", "-2.5", "true", "==", "!=", "<", ">=", "in", "not", "and", "or", "(", ")", "[", "]",
     ",", "missing", "contains", "`q r`", "\\", "'", '"', "`", "件名", "\0", "\n", "=", "０", "²", "ｘ", "1e5", "."]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(pieces).map(" ".join), st.lists(pieces).map("".join)))
@example("a == '" + "\\" * 51)
@example("²==1")
def test_any_text_is_an_expression_or_refused_at_a_place_inside_it(text: str) -> None:
    parsed = parse_or_error(text)
    if isinstance(parsed, Segment):
        assert parsed.matches(dict.fromkeys(parsed.names, "1")) in (True, False)
    else:
        assert 0 <= parsed.offset <= len(text)
        assert str(parsed)
        assert parsed.excerpt.startswith(text)


def parse_or_error(text: str) -> Segment | ExpressionError:
    try:
        return Segment.parse(text)
    except ExpressionError as error:
        return error


values = st.text(alphabet="ab1 .件é", max_size=4).map(str.strip)


@given(values, values.filter(bool))
def test_equality_of_texts_is_equality_of_python(value: str, literal: str) -> None:
    assert matches(f"x == '{literal}'", {"x": value}) is (value == literal)
    assert matches(f"x != '{literal}'", {"x": value}) is (value != "" and value != literal)
    assert matches(f"contains(x, '{literal}')", {"x": value}) is (literal in value)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_order_of_numbers_is_order_of_python(value: float, bound: float) -> None:
    attributes = {"x": repr(value)}
    assert matches(f"x < {bound!r}", attributes) is (value < bound)
    assert matches(f"x >= {bound!r}", attributes) is (value >= bound)
    assert matches(f"{bound!r} > x", attributes) is (value < bound)
    assert matches(f"x == {bound!r}", attributes) is math.isclose(value, bound, rel_tol=0, abs_tol=0)


def test_a_hundred_thousand_recipients_are_judged_in_well_under_a_second() -> None:
    segment = Segment.parse("stage in ['warm', 'hot'] and industry == 'manufacturing' and employees >= 50")
    start = time.process_time()
    assert sum(segment.matches(WARM) for _ in range(100_000)) == 100_000
    assert time.process_time() - start < 1.5
