"""Lists of recipients as people have them."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmail._table import MAX_CELL
from abmail.audience import Import, ProblemCode, in_segment, read_recipients, read_suppressions
from abmail.errors import AudienceError
from abmail.recipient import Recipient
from abmail.segment import Segment

JAPANESE = "メールアドレス,氏名,会社\r\nhanako@example.jp,山田 花子,A社\r\ntaro@example.jp,ﾀﾛｳ,株式会社表示\r\n"


def read(text: str, *, encoding: str | None = None, delimiter: str | None = None) -> Import:
    return read_recipients(text.encode(), encoding=encoding, delimiter=delimiter)


def emails(found: Import) -> list[str]:
    return [recipient.email for recipient in found.recipients]


def codes(found: Import) -> list[tuple[int, str]]:
    return [(problem.line, problem.code.value) for problem in found.problems]


# --- columns ----------------------------------------------------------------------------------------------------------


def test_a_column_email_is_enough_and_the_others_are_attributes() -> None:
    found = read("email,First Name,stage\nHanako@Example.jp, Hanako ,hot\ntaro@example.jp,Taro,\n")
    assert found.columns == ("email", "First Name", "stage")
    assert found.problems == ()
    hanako, taro = found.recipients
    assert (hanako.id, hanako.email, hanako.zone) == ("hanako@example.jp", "hanako@example.jp", None)
    assert hanako.attributes == {"First Name": "Hanako", "stage": "hot"}
    assert taro.attributes == {"First Name": "Taro", "stage": ""}


@pytest.mark.parametrize(
    "name",
    ["email", " EMAIL ", "E-Mail", "mail", "Email Address", "email_address", "メールアドレス", "ＥＭＡＩＬ", '"email"'],
)
def test_the_address_column_goes_by_several_names(name: str) -> None:
    assert emails(read(f"stage,{name}\nhot,a@example.com\n")) == ["a@example.com"]


def test_of_several_possible_address_columns_the_plainest_is_taken_and_the_other_stays_an_attribute() -> None:
    found = read("mail,email\nyes,a@example.com\n")
    assert emails(found) == ["a@example.com"]
    assert found.recipients[0].attributes == {"mail": "yes"}


@pytest.mark.parametrize("zone", ["zone", "Timezone", "time_zone", "TIME ZONE"])
def test_id_and_zone_have_their_own_columns(zone: str) -> None:
    found = read(f"ID,email,{zone}\n17,a@example.com,asia/tokyo\n18,b@example.com,\n")
    first, second = found.recipients
    assert (first.id, first.zone, dict(first.attributes)) == ("17", "Asia/Tokyo", {})
    assert (second.id, second.zone) == ("18", None)
    assert found.problems == ()


@pytest.mark.parametrize("zone", ["Tokyo", "JST+9", "../../etc/passwd", "localtime", "Factory"])
def test_an_unknown_zone_is_reported_and_the_row_kept(zone: str) -> None:
    found = read(f"email,zone\na@example.com,{zone}\n")
    assert [recipient.zone for recipient in found.recipients] == [None]
    (problem,) = found.problems
    assert (problem.line, problem.column, problem.value_masked, problem.skipped) == (2, "zone", zone, False)
    assert problem.code == "unknown_zone"
    assert (
        str(problem)
        == f"line 2, column 'zone': {zone!r} is no IANA time zone such as Asia/Tokyo; the row is kept without one"
    )


def test_an_address_that_slipped_into_the_zone_is_masked() -> None:
    (problem,) = read("email,zone\na@example.com,hanako@example.jp\n").problems
    assert "hanako" not in problem.value_masked + problem.message


def test_an_empty_id_is_reported_and_the_address_stands_in() -> None:
    found = read("id,email\n,a@example.com\n")
    assert [recipient.id for recipient in found.recipients] == ["a@example.com"]
    assert codes(found) == [(2, "no_id")]
    assert found.skipped == 0


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("email,stage,stage", "the column 'stage' appears twice, as column 2 and column 3"),
        ("email,stage, stage ", "the column 'stage' appears twice, as column 2 and column 3"),
        ("Email,EMAIL", "the column 'EMAIL' appears twice, as column 1 and column 2"),
        ("id,email,ID", "the column 'ID' appears twice"),
        ("email,,stage", "column 2 has no name"),
        ("name,stage", "no column holds the address: the header in line 1 names 'name', 'stage'"),
        ("name;stage,x;y", "names 'name', 'stage,x', 'y'"),
        ("a@example.com,hot", "line 1 holds an address where the names of the columns should be"),
        ("", "the list is empty"),
        ("\n \n,,\n", "the list is empty"),
        ('email,"stage', "the header in line 1 cannot be read: a quote is opened"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused_in_words(header: str, says: str) -> None:
    with pytest.raises(AudienceError) as caught:
        read(f"{header}\n")
    assert says in caught.value.message
    assert caught.value.hint


def test_columns_of_the_same_name_in_other_case_are_two_attributes() -> None:
    assert read("email,Name,name\na@example.com,x,y\n").recipients[0].attributes == {"Name": "x", "name": "y"}


def test_empty_columns_at_the_right_edge_are_nothing() -> None:
    found = read("email,stage,,\na@example.com,hot,,\nb@example.com,cold,,x\n")
    assert found.columns == ("email", "stage")
    assert emails(found) == ["a@example.com"]
    assert codes(found) == [(3, "too_many_cells")]


def test_a_header_without_rows_is_an_empty_list() -> None:
    found = read("email\n")
    assert (found.recipients, found.rows, found.problems) == ((), 0, ())


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_with_too_many_cells_is_skipped_and_one_with_too_few_is_kept_with_empty_attributes() -> None:
    found = read("email,company,stage\na@example.com,Foo, Ltd,hot\nb@example.com,Bar\nc@example.com,Baz,hot\n")
    assert emails(found) == ["b@example.com", "c@example.com"]
    assert found.recipients[0].attributes == {"company": "Bar", "stage": ""}
    many, few = found.problems
    assert (many.line, many.code, many.skipped) == (2, "too_many_cells", True)
    assert many.message == "the row has 4 cells, the header 3; put cells that hold ',' in quotes"
    assert (few.line, few.code, few.skipped) == (3, "too_few_cells", False)
    assert few.message == "the row has 2 cells, the header 3; taken as empty: 'stage'"


def test_a_bad_address_is_reported_without_the_person_and_the_rest_is_imported() -> None:
    found = read("stage,email\nhot,hanako.example.jp\nhot,\nhot\nhot,b@example.com\n")
    assert emails(found) == ["b@example.com"]
    assert codes(found) == [(2, "bad_address"), (3, "no_address"), (4, "no_address")]
    assert (found.rows, found.skipped) == (4, 3)
    assert found.problems[0].column == "email"
    assert "hanako" not in str(found.problems[0]) + found.problems[0].value_masked


def test_the_same_address_in_another_spelling_is_a_duplicate() -> None:
    found = read("id,email\n1,User@MÜNCHEN.de\n2,user@xn--mnchen-3ya.de\n")
    assert emails(found) == ["user@xn--mnchen-3ya.de"]
    (problem,) = found.problems
    assert str(problem) == "line 3, column 'email': the address is already in line 2"
    assert problem.value_masked == "u***@xn--mnchen-3ya.de"


def test_the_same_id_is_a_duplicate() -> None:
    found = read("id,email\nu-17,a@example.com\nu-17,b@example.com\n")
    assert emails(found) == ["a@example.com"]
    assert str(found.problems[0]) == "line 3, column 'id': the id is already in line 2"


def test_a_skipped_row_does_not_make_a_later_one_a_duplicate() -> None:
    found = read("email,stage\na@example.com,hot,x\na@example.com,hot\n")
    assert emails(found) == ["a@example.com"]
    assert codes(found) == [(2, "too_many_cells")]


def test_rows_without_text_are_no_rows() -> None:
    found = read("\n\nemail,stage\n\n , \n,,,\na@example.com,hot\n\t\n")
    assert (emails(found), found.rows, found.problems) == (["a@example.com"], 1, ())


@pytest.mark.parametrize("control", ["\0", "\x1b", "\x7f"])
def test_a_row_with_a_control_character_is_skipped(control: str) -> None:
    found = read(f"email,stage\na@example.com,h{control}ot\nb@example.com,hot\n")
    assert emails(found) == ["b@example.com"]
    assert codes(found) == [(2, "control_character")]
    assert f"U+{ord(control):04X}" in found.problems[0].message


# --- quotes and lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_physical_lines_also_after_quoted_line_ends(newline: str) -> None:
    lines = ["email,note", 'a@example.com,"one', "two", '"', "bad", 'b@example.com,"x ""y"" z"', "", "worse"]
    found = read(newline.join(lines))
    assert codes(found) == [(5, "bad_address"), (8, "bad_address")]
    assert found.recipients[0].attributes == {"note": f"one{newline}two"}
    assert found.recipients[1].attributes == {"note": 'x "y" z'}


def test_a_quoted_line_end_in_the_header_moves_the_lines_below() -> None:
    found = read('"first\nname";"email"\nx;bad\n')
    assert found.columns == ("first\nname", "email")
    assert codes(found) == [(3, "bad_address")]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('"Foo, Ltd"', "Foo, Ltd"),
        (' "Foo, Ltd" ', "Foo, Ltd"),
        ('5" screen', '5" screen'),
        ('"Foo" Ltd', "Foo Ltd"),
        ('""', ""),
        ('""""', '"'),
        ('"a""b"', 'a"b'),
    ],
)
def test_quotes_are_read_as_spreadsheets_write_them(cell: str, value: str) -> None:
    found = read(f"email,note,stage\na@example.com,{cell},hot\n")
    assert found.recipients[0].attributes == {"note": value, "stage": "hot"}


@pytest.mark.parametrize("cell", ['"open', '"open""', 'x,"open'])
def test_an_open_quote_costs_its_own_line_only(cell: str) -> None:
    found = read(
        f"email,note,stage\na@example.com,x,hot\nb@example.com,{cell}\nc@example.com,y,hot\nd@example.com,z,hot\n"
    )
    assert emails(found) == ["a@example.com", "c@example.com", "d@example.com"]
    assert codes(found) == [(3, "open_quote")]


def test_two_open_quotes_do_not_swallow_what_stands_between_them() -> None:
    found = read('email,city\na@example.com,"Tokyo\nb@example.com,Osaka\nc@example.com,"Kyoto\nd@example.com,Nara\n')
    assert emails(found) == ["b@example.com", "d@example.com"]
    assert codes(found) == [(2, "open_quote"), (4, "open_quote")]


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize(("extra", "accepted"), [(0, True), (1, False), (500_000, False)])
def test_a_cell_has_a_longest_length(extra: int, *, quoted: bool, accepted: bool) -> None:
    cell = "x" * (MAX_CELL + extra)
    cell = f'"{cell}"' if quoted else cell
    found = read(f"email,note\na@example.com,{cell}\nb@example.com,y\n")
    assert emails(found) == (["a@example.com", "b@example.com"] if accepted else ["b@example.com"])
    assert {problem.code for problem in found.problems} <= {ProblemCode.LONG_CELL, ProblemCode.OPEN_QUOTE}
    assert found.rows == 2


cells = st.text(alphabet='ab ,;"\n\r\té山', max_size=8)


@given(st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6), st.sampled_from([",", ";", "\t", "|"]))
def test_what_the_standard_library_writes_is_read_back(rows: list[list[str]], delimiter: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(["email", "a", "b", "c", "d"])
    for number, row in enumerate(rows):
        writer.writerow([f"u{number}@example.com", *row, *[""] * (4 - len(row))])
    found = read(text.getvalue())
    assert found.delimiter == delimiter
    assert found.problems == ()
    values = [[value for value in recipient.attributes.values() if value] for recipient in found.recipients]
    assert values == [[cell.strip() for cell in row if cell.strip()] for row in rows]


# --- delimiters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_under_which_the_header_names_the_address(delimiter: str) -> None:
    others = "".join({",", ";", "|"} - {delimiter})
    found = read(delimiter.join(["note", "email"]) + f"\n{others}{delimiter}a@example.com\n")
    assert found.delimiter == delimiter
    assert found.recipients[0].attributes == {"note": others}


def test_a_quoted_header_may_hold_another_delimiter() -> None:
    found = read('"name, first, last";email\n"Doe, J";a@example.com\n')
    assert found.columns == ("name, first, last", "email")


def test_a_spreadsheets_own_delimiter_line_is_understood() -> None:
    found = read("sep=;\r\nemail;stage\r\nbad;hot\r\na@example.com;hot\r\n")
    assert (found.delimiter, emails(found), codes(found)) == (";", ["a@example.com"], [(3, "bad_address")])


def test_a_delimiter_can_be_given() -> None:
    assert emails(read("email^stage\na@example.com^hot\n", delimiter="^")) == ["a@example.com"]
    for bad in ("", ",,", '"', "\n", " "):
        with pytest.raises(ValueError, match="must be one character"):
            read("email\n", delimiter=bad)


# --- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "named"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-32", "utf-32"), ("cp932", "cp932")],
)
def test_a_japanese_list_is_read_in_any_of_its_usual_encodings(written: str, named: str) -> None:
    found = read_recipients(JAPANESE.encode(written))
    assert found.encoding == named
    assert emails(found) == ["hanako@example.jp", "taro@example.jp"]
    assert found.recipients[1].attributes == {"氏名": "ﾀﾛｳ", "会社": "株式会社表示"}


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_both_byte_orders_are_read(mark: str) -> None:
    content = ("\ufeff" + JAPANESE).encode(mark)
    assert emails(read_recipients(content)) == ["hanako@example.jp", "taro@example.jp"]
    assert emails(read_recipients(content, encoding=mark)) == ["hanako@example.jp", "taro@example.jp"]


@given(
    st.lists(
        st.sampled_from("東京都山田太郎花子アイウｱｲｳあいう株式会社ー～①㈱髙﨑表ソ能"), min_size=1, max_size=12
    ).map("".join)
)
def test_japanese_in_either_encoding_is_never_taken_for_the_other(name: str) -> None:
    text = f"email,氏名\na@example.com,{name}\n"
    for encoding in ("utf-8", "cp932"):
        content = text.encode(encoding, "ignore")
        found = read_recipients(content)
        assert (found.encoding, found.recipients[0].attributes["氏名"]) == (
            encoding,
            content.decode(encoding).split(",")[-1].strip(),
        )


@pytest.mark.parametrize(
    "names", [("René", "Zoë"), ("Désirée", "Gérard"), ("Größe", "Wärme"), ("Dupré-Rémy", "Ågesen")]
)
def test_a_western_list_is_not_taken_for_japanese(names: Sequence[str]) -> None:
    content = "".join(f"{n}@example.com,{name}\n" for n, name in enumerate(names)).encode("cp1252")
    with pytest.raises(AudienceError, match=r"not UTF-8|neither UTF-8") as caught:
        read_recipients(b"email,name\n" + content)
    assert "line 2" in caught.value.message
    assert "encoding" in caught.value.hint
    found = read_recipients(b"email,name\n" + content, encoding="cp1252")
    assert [recipient.attributes["name"] for recipient in found.recipients] == list(names)


def test_a_file_in_no_known_encoding_is_refused_with_the_place() -> None:
    with pytest.raises(AudienceError) as caught:
        read_recipients(b"email\r\na@example.com\r\n\xe9,b@example.com\r\n")
    assert caught.value.message == (
        "the list is neither UTF-8 (byte 0xe9 at offset 22, line 3) nor Shift_JIS (byte 0xe9 at offset 22, line 3)"
    )


def test_the_place_in_a_file_with_a_byte_order_mark_is_the_files() -> None:
    with pytest.raises(AudienceError, match="is not utf-8-sig: byte 0xff at offset 9, line 2"):
        read_recipients(b"\xef\xbb\xbfemail\n\xff")
    with pytest.raises(AudienceError, match="is not utf-16: byte 0x0a at offset 12, line 1"):
        read_recipients("email".encode("utf-16") + b"\n")


def test_a_given_encoding_is_obeyed_and_an_impossible_one_refused() -> None:
    content = "email,名\na@example.com,東\n".encode("euc_jp")
    assert read_recipients(content, encoding="euc_jp").recipients[0].attributes == {"名": "東"}
    for wrong in ("no-such-codec", "base64"):
        with pytest.raises(AudienceError, match="there is no text encoding"):
            read_recipients(content, encoding=wrong)
    with pytest.raises(AudienceError, match="the list is not utf-8: byte 0xc5 at offset 23, line 2"):
        read_recipients(content, encoding="utf-8")


def test_utf16_without_a_mark_is_refused_with_advice() -> None:
    with pytest.raises(AudienceError, match="may be UTF-16") as caught:
        read_recipients("email\na@example.com\n".encode("utf-16-le"))
    assert "utf-16-le" in caught.value.hint


def test_a_spreadsheet_file_is_refused_with_advice() -> None:
    with pytest.raises(AudienceError, match="spreadsheet") as caught:
        read_recipients(b"PK\x03\x04rest")
    assert "CSV in UTF-8" in caught.value.hint


# --- sources ----------------------------------------------------------------------------------------------------------


def test_a_path_and_a_file_are_read_like_their_bytes(tmp_path: Path) -> None:
    content = JAPANESE.encode("cp932")
    path = tmp_path / "leads.csv"
    path.write_bytes(content)
    assert read_recipients(path) == read_recipients(io.BytesIO(content)) == read_recipients(content)


def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(AudienceError, match=r"nowhere\.csv"):
        read_recipients(tmp_path / "nowhere.csv")
    with pytest.raises(TypeError, match="not str"):
        read_recipients("leads.csv")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="text mode"):
        read_recipients(io.StringIO("email\n"))  # type: ignore[arg-type]


# --- nothing is lost --------------------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        "a@example.com",
        "A@example.com",
        "b@example.com",
        "bad",
        ",",
        ";",
        '"',
        '""',
        "\n",
        "\r\n",
        "\r",
        " ",
        "\0",
        "hot",
        "山",
    ]
)
bodies = st.lists(pieces, max_size=30).map("".join)


def spent_lines(found: Import) -> list[int]:
    return [problem.line for problem in found.problems if problem.skipped]


@given(bodies)
def test_every_row_is_imported_or_skipped_with_its_own_line(body: str) -> None:
    content = f"id,email,stage\n{body}"
    found = read(content)
    assert found.rows == len(found.recipients) + found.skipped
    assert len(set(spent_lines(found))) == found.skipped
    lines = 1 + content.replace("\r\n", "\n").replace("\r", "\n").count("\n")
    assert all(2 <= line <= lines for line in spent_lines(found))


@given(bodies)
def test_every_address_that_stands_alone_in_its_line_is_found(body: str) -> None:
    content = f"email\n{body}"
    alone = {line.strip(" ").lower() for line in content.replace("\r\n", "\n").replace("\r", "\n").split("\n")}
    wanted = alone & {"a@example.com", "b@example.com"}
    assert '"' in body or wanted <= set(emails(read(content)))


@given(st.binary(max_size=200) | bodies.map(str.encode))
def test_any_bytes_are_a_list_or_an_audience_error(content: bytes) -> None:
    with contextlib.suppress(AudienceError):
        found = read_recipients(content)
        assert found.rows == len(found.recipients) + found.skipped
    with contextlib.suppress(AudienceError):
        suppressed = read_suppressions(content)
        assert suppressed.rows >= len(suppressed.addresses)


def test_many_open_quotes_do_not_take_for_ever() -> None:
    content = "email,note\n" + 'a@example.com,"x""\n' * 3_001
    started = time.process_time()
    found = read(content)
    assert time.process_time() - started < 10
    assert found.rows == len(found.recipients) + found.skipped


def test_a_hundred_thousand_rows_take_seconds() -> None:
    lines = (f'{n},u{n}@mail{n % 2_000}.example.com,"Company, {n}",hot,Asia/Tokyo\r\n' for n in range(100_000))
    content = ("id,email,company,stage,zone\r\n" + "".join(lines)).encode("cp932")
    started = time.process_time()
    found = read_recipients(content)
    assert time.process_time() - started < 30
    assert (len(found.recipients), found.rows, found.problems) == (100_000, 100_000, ())


# --- suppressions -----------------------------------------------------------------------------------------------------


def test_a_suppression_list_is_one_address_a_line() -> None:
    found = read_suppressions(b"# left us\r\nA@example.com\r\n\r\nb@example.com\r\na@EXAMPLE.com\r\nbad\r\n")
    assert found.addresses == ("a@example.com", "b@example.com")
    assert (found.rows, found.repeated) == (4, 1)
    assert [(problem.line, problem.code) for problem in found.problems] == [(6, "bad_address")]


def test_a_suppression_list_may_be_csv() -> None:
    found = read_suppressions(
        'date;メールアドレス\n2026-01-01;a@example.com\n2026-01-02\n"x;b@example.com\n'.encode("cp932")
    )
    assert (found.addresses, found.rows, found.encoding) == (("a@example.com",), 3, "cp932")
    assert [(problem.line, problem.code) for problem in found.problems] == [(3, "no_address"), (4, "open_quote")]


def test_an_empty_suppression_list_suppresses_nobody() -> None:
    assert read_suppressions(b"").addresses == ()
    assert read_suppressions(b'# nobody "yet\n').rows == 0


@given(bodies)
def test_every_suppression_row_is_an_address_a_repetition_or_a_problem(body: str) -> None:
    found = read_suppressions(body.encode())
    assert found.rows == len(found.addresses) + found.repeated + len(found.problems)
    assert found.repeated >= 0


def test_a_segment_may_name_the_address_its_domain_and_the_id_which_no_column_hides() -> None:
    columns = {"stage": "hot", "domain": "forged.example", "id": "forged"}
    person = Recipient(id="17", email="hanako@example.jp", attributes=columns, zone=None)
    for expression in ("stage == 'hot'", "domain == 'example.jp'", "id == 17", "startswith(email, 'hanako@')"):
        assert in_segment(Segment.parse(expression), person), expression
    assert not in_segment(Segment.parse("domain == 'forged.example' or id == 'forged'"), person)
    assert in_segment(None, person)
