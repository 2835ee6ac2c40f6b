"""Reasons that the database keeps in English, told in Japanese."""

from __future__ import annotations

import re

import pytest

from abmail._reasons import REASONS, in_japanese, reason
from abmail.stats import Counts, check_guardrails

VALUES = {"arm": "number", "reason": "webinar full", "share": "40%", "hours": "72"}
LATIN = re.compile("[A-Za-z]{2,}")


@pytest.mark.parametrize("name", REASONS)
def test_each_reason_has_its_japanese(name: str) -> None:
    wanted = REASONS[name].ja.format(**VALUES)
    assert in_japanese(reason(name, **VALUES)) == wanted
    assert not LATIN.search(wanted.replace("number", "").replace("webinar full", ""))


def test_a_reason_inside_another_is_told_too() -> None:
    inner = reason("everybody_else", arm="plain", reason=reason("time_over"))
    assert in_japanese(reason("first_wave", reason=inner)) == (
        "最初の配信：残り全員にplainを配信：定義で定めた期間が終わりました。"
    )


def test_the_reason_of_a_verdict_is_told_where_a_wave_names_it() -> None:
    english = reason("everybody_else", arm="number", reason="it beats every other arm")
    known = {"it beats every other arm": "差が確認できました。"}
    assert in_japanese(english, known) == "残り全員にnumberを配信：差が確認できました。"


@pytest.mark.parametrize("english", ["", "not our tone", "even split of the {arm}", "an even split"])
def test_what_people_wrote_stays(english: str) -> None:
    assert in_japanese(english) == ""


def test_a_name_with_braces_or_line_breaks_is_told_as_it_is() -> None:
    written = reason("everybody_else", arm="{plain}", reason="two\nlines")
    assert in_japanese(written) == "残り全員に{plain}を配信：two\nlines"


def test_a_limit_that_was_broken_is_told_with_the_numbers_of_the_stop() -> None:
    counts = Counts([[5_000, 5_000], [5_000, 5_000]], [[10, 71], [12, 75]])
    _, broken = check_guardrails({"unsubscribes": counts}, {"unsubscribes": 0.005}, names=["plain", "joke"])
    assert broken.verdict == "broken"
    assert in_japanese(broken.sentence) == broken.sentence_in("ja").replace("unsubscribes", "配信停止率")
