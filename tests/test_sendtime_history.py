"""Exports of providers become a history, bad rows are named with their line, and what a history can't tell is said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from abmail._readers import START, history, people
from abmail.errors import AudienceError
from abmail.sendtime import History, HistoryCode, HistoryGap, SendTime, judge_history, read_history

HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_an_export_in_the_usual_form_is_read() -> None:
    export = (
        b"Email Address,Campaign,Send Time,First Open,First Click,Timezone,Segment\n"
        b"Hanako@Example.JP,spring,2026-03-02 09:00:00,2026-03-02 10:30:00,,Asia/Tokyo,hot\n"
        b"taro@example.jp,spring,2026-03-02T09:00:00+09:00,,,Asia/Tokyo,cold\n"
    )
    found = read_history(export, clock="Asia/Tokyo")
    past = found.history
    assert found.problems == ()
    assert found.rows == len(past) == 2
    assert past.recipient.tolist() == ["hanako@example.jp", "taro@example.jp"]
    assert past.sent_at.tolist() == [at("2026-03-02 00:00")] * 2
    assert past.opened_at[0] == at("2026-03-02 01:30")
    assert np.isnan(past.opened_at[1])
    assert past.clicked_at is not None
    assert np.isnan(past.clicked_at).all()
    assert found.columns["sent"] == "Send Time"
    assert len(SendTime.fit(past)) == 2


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01 09:05", "2026-03-01 09:05"),
        ("2026/3/1 9:05:07", "2026-03-01 09:05:07"),
        ("2026-03-01T09:05:07.123Z", "2026-03-01 09:05:07"),
        ("2026-03-01 09:05 +0900", "2026-03-01 00:05"),
        ("01.03.2026 09:05", "2026-03-01 09:05"),
        ("25/03/2026 09:05", "2026-03-25 09:05"),
        ("03/25/2026 9:05 pm", "2026-03-25 21:05"),
        ("03/25/2026 12:05 AM", "2026-03-25 00:05"),
        ("2026-03-01", "2026-03-01 00:00"),
        ("1772323200", "2026-03-01 00:00"),
        ("1772323200000", "2026-03-01 00:00"),
    ],
)
def test_times_are_read_in_the_forms_that_exports_use(text: str, moment: str) -> None:
    found = read_history(f"id;sent;opened\nu1;{text};\n".encode())
    assert found.history.sent_at.tolist() == [at(moment)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp932"])
def test_japanese_exports_are_read_in_their_encodings(encoding: str) -> None:
    text = "メールアドレス\t送信日時\t開封日時\t件名\n"
    text += "hanako@example.jp\t2026/03/02 09:00\t2026/03/02 09:10\t春のお知らせ\n"
    found = read_history(text.encode(encoding), clock="Asia/Tokyo")
    assert found.history.sent_at.tolist() == [at("2026-03-02 00:00")]
    assert found.history.campaign is not None
    assert found.history.campaign.tolist() == ["春のお知らせ"]
    assert found.delimiter == "\t"


def test_bad_rows_are_named_with_their_line_and_left_out() -> None:
    export = (
        b"email,sent at,opened at\n"
        b"a@example.com,2026-03-02 24:00,\n"
        b"b@example.com,2026-03-02 09:00,24:00\n"
        b"not an address,2026-03-02 09:00,\n"
        b",2026-03-02 09:00,\n"
        b"c@example.com,,2026-03-02 09:00\n"
        b"d@example.com,2026-02-30 09:00,\n"
        b"\n"
        b'e@example.com,"2026-03-02 09:00,\n'
        b"f@example.com,2026-03-02 09:00,never\n"
        b"g@example.com,2026-03-02 13:00 PM,\n"
        b"h@example.com,2026-03-02 09:00,2026-03-02 08:00\n"
    )
    found = read_history(export)
    assert [p.line for p in found.problems] == [2, 3, 4, 5, 6, 7, 9, 11]
    assert "24:00" in found.problems[0].message
    assert found.rows == len(found.history) + found.skipped
    assert found.history.recipient.tolist() == ["f@example.com", "h@example.com"]
    assert not any("not an address" in str(p) for p in found.problems)
    problem = SendTime.fit(found.history).problems[0]
    assert problem.code == HistoryCode.OPEN_BEFORE_SEND
    assert found.lines[problem.rows].tolist() == [12]


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (b"", "the export is empty"),
        (b"email,opened at\na@example.com,\n", "no column for sent"),
        (b"name,when\nx,y\n", "no column for email and sent and opened"),
        (b"id,sent,opened\na,03/04/2026 9:00,\n", "two ways: no date has a day above 12"),
        (b"id,sent,opened\na,13/04/2026 9:00,\na,04/13/2026 9:00,\n", "two ways: some dates have the day first"),
        (b"PK\x03\x04rest", "spreadsheet file"),
    ],
)
def test_files_that_are_no_history_are_refused_in_words(export: bytes, message: str) -> None:
    with pytest.raises(AudienceError, match=message):
        read_history(export)


def test_the_order_of_day_and_month_can_be_said() -> None:
    export = b"id,sent,opened\na,03/04/2026 9:00,\n"
    assert read_history(export, day_first=True).history.sent_at.tolist() == [at("2026-04-03 09:00")]
    assert read_history(export, day_first=False).history.sent_at.tolist() == [at("2026-03-04 09:00")]
    with pytest.raises(ValueError, match="clock is 'Moon'"):
        read_history(export, clock="Moon")


def test_an_export_can_be_a_path(tmp_path: Path) -> None:
    (tmp_path / "past.csv").write_bytes(b"id,sent,opened,machine\na,2026-03-02,2026-03-02,yes\n")
    found = read_history(tmp_path / "past.csv")
    assert found.history.machine is not None
    assert found.history.machine.tolist() == [True]


# --- what a history can tell -----------------------------------------------------------------------------------------


def test_a_history_of_one_hour_is_recognised_and_what_it_cannot_tell_is_said() -> None:
    rng = np.random.default_rng(1)
    always = judge_history(history(people(400, rng), 20, rng, logs="fixed"))
    varied = judge_history(history(people(400, rng), 20, rng, logs="week"))
    assert HistoryGap.ONE_HOUR in always.gaps
    assert "10:00" in always.messages[always.gaps.index(HistoryGap.ONE_HOUR)]
    assert HistoryGap.ONE_HOUR not in varied.gaps
    assert always.exposure.mean() == pytest.approx(1)
    assert always.by_hour[10] == 1
    assert varied.opened_by_hour.sum() == pytest.approx(1)


def test_thin_histories_are_told_from_good_ones() -> None:
    sent = START + HOUR * np.arange(10.0)
    thin = judge_history(History.of(["a"] * 10, sent, np.where(np.arange(10) < 3, sent + 60, np.nan)))
    assert {HistoryGap.FEW_OPENS, HistoryGap.NO_CAMPAIGNS} <= set(thin.gaps)
    nothing = judge_history(History.of([], [], []))
    assert HistoryGap.NO_OPENS in nothing.gaps
    assert nothing.mails == nothing.recipients == 0
    blind = judge_history(History.of(["a"] * 10, sent, sent + 60, campaign=["x"] * 10, machine=[True] * 10))
    assert {HistoryGap.MACHINES, HistoryGap.NO_OPENS} <= set(blind.gaps)
    assert judge_history(History.of(["a"], [START], [START - 1])).problems[0].rows.tolist() == [0]
