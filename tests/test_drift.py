"""What a changed definition breaks of the experiment that runs, and how many people it would move."""

from __future__ import annotations

import re
from typing import Any

import pytest

import abmail as ab
from abmail._moves import counted, moves
from abmail.check import drift
from abmail.recipient import Recipient
from abmail.spec import Experiment, loads

MESSAGE = {"template": "mails/x.html.j2", "from": "a@example.com"}
PEOPLE = [
    Recipient(id=f"u-{i}", email=f"u{i}@{i % 40}.example.com", attributes={"stage": "hot" if i % 4 else "cold"})
    for i in range(4_000)
]


def make(**changes: Any) -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Join us", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": MESSAGE, **changes,
    })  # fmt: skip


def codes(old: Experiment, new: Experiment) -> list[str]:
    return [d.code for d in drift(old, new)]


def test_the_same_definition_drifts_nowhere_however_it_is_written() -> None:
    old = make()
    assert drift(old, old) == drift(old, Experiment.from_dict(old.resolved())) == ()
    assert drift(old, make(salt="spring", hypothesis="New words", metrics={"window": "3d"})) == ()


@pytest.mark.parametrize(
    ("changes", "code", "moved"),
    [
        ({"salt": "other"}, "AB601", True),
        ({"factors": {"subject": {"plain": "Join us", "number": "4 ways"}}}, "AB602", False),
        ({"control": {"subject": "number"}}, "AB602", False),
        ({"allocation": {"policy": "fixed", "weights": {"plain": 0.2, "number": 0.8}}}, "AB603", False),
        ({"metrics": {"primary": "opened"}}, "AB604", False),
        ({"metrics": {"window": "1d"}}, "AB604", False),
        ({"audience": {"unit": "company"}}, "AB605", True),
        ({"audience": {"holdout": 0.1}}, "AB608", True),
        ({"audience": {"segment": "stage == 'hot'"}}, "AB609", False),
        ({"message": {"template": "mails/y.html.j2", "from": "a@example.com"}}, "AB610", False),
        ({"message": {**MESSAGE, "inline_css": True}}, "AB610", False),
        ({"message": {**MESSAGE, "attachments": ["a.pdf"]}}, "AB610", False),
        ({"allocation": {"min_weight": 0.2}}, "AB603", False),
    ],
)
def test_each_change_is_told_by_its_own_rule(changes: dict[str, Any], code: str, moved: bool) -> None:
    (found,) = drift(make(), make(**changes), moves=counted(PEOPLE))
    assert found.code == code
    assert (" of 4,000 recipients would get another variant" in found.message) == moved
    assert found.hint
    (japanese,) = drift(make(), make(**changes), moves=counted(PEOPLE), language="ja")
    assert (japanese.code, japanese.line, japanese.column) == (found.code, found.line, found.column)
    for text in (japanese.message, japanese.hint):
        assert re.search("[ぁ-ん]", text)
        assert not re.search(r"\b(the|was|mails|write|would)\b", text)


def test_what_all_variants_have_in_common_beside_the_files_may_change() -> None:
    assert codes(make(), make(message={**MESSAGE, "preheader": "Live", "from": "b@example.com"})) == []


@pytest.mark.parametrize(
    ("segment", "told"),
    [
        ("stage == 'hot'", "the segment was everybody: 1,000 of 4,000 recipients are in one of the two only"),
        ("stage in ['hot', 'cold']", ""),
    ],
)
def test_a_segment_is_judged_by_who_is_in_it(segment: str, told: str) -> None:
    new = make(audience={"segment": segment})
    assert [d.message for d in drift(make(), new, moves=counted(PEOPLE))] == [told] * bool(told)
    assert codes(new, make(audience={"segment": segment.replace(" ", "  ")})) == []
    assert codes(new, make()) == ["AB609"]  # nobody is known


def test_several_changes_are_told_apart_and_each_counts_what_it_moves_alone() -> None:
    new = make(salt="other", audience={"holdout": 0.1})
    told = {d.code: d.message for d in drift(make(), new, moves=counted(PEOPLE))}
    assert list(told) == ["AB601", "AB608"]
    by_salt, by_holdout = (int(told[code].split(": ")[1].split()[0].replace(",", "")) for code in told)
    # Half of the people at a new deal of even halves; of a holdout of 10 %, all of it and 5 % over the middle border.
    assert 0.46 < by_salt / 4_000 < 0.54
    assert 0.12 < by_holdout / 4_000 < 0.18


def test_the_number_of_people_that_move_is_that_of_the_assignment_itself() -> None:
    old, new = make(), make(salt="other", audience={"holdout": 0.2})
    ids = [each.id for each in PEOPLE]
    cells = [ab.assign_array(exp, ids, weights=[0.5, 0.5]) for exp in (old, new)]
    assert moves(old, new, PEOPLE) == (int((cells[0] != cells[1]).sum()), 4_000)
    assert moves(old, old, PEOPLE) == (0, 4_000)
    assert moves(old, new, []) == (0, 0)


def test_people_who_leave_or_join_a_segment_move_and_others_do_not_count() -> None:
    hot, all_of_them = make(audience={"segment": "stage == 'hot'"}), make()
    assert moves(hot, all_of_them, PEOPLE) == (1_000, 4_000)
    assert moves(all_of_them, hot, PEOPLE) == (1_000, 4_000)
    assert moves(hot, hot, PEOPLE) == (0, 3_000)


def test_cells_are_compared_by_name_so_that_their_order_moves_nobody_but_for_the_borders() -> None:
    given = {"policy": "fixed", "weights": {"plain": 1.0, "number": 0.0}}
    turned = make(factors={"subject": {"number": "3 ways", "plain": "Join us"}}, allocation=given)
    assert moves(make(allocation=given), turned, PEOPLE) == (0, 4_000)


def test_without_a_list_the_share_that_a_new_deal_moves_is_told() -> None:
    (found,) = drift(make(), make(salt="other"))
    assert found.message == "the salt was 'spring': about 50% of the recipients would get another variant"
    weights = {"policy": "fixed", "weights": {"plain": 0.9, "number": 0.1}}
    (found,) = drift(make(allocation=weights), make(salt="other", allocation=weights))
    assert "about 18% of the recipients" in found.message


def test_an_experiment_of_another_name_is_not_compared() -> None:
    assert drift(make(), make(name="summer", salt="other")) == ()


def test_a_level_that_joins_breaks_nothing_and_one_that_goes_does() -> None:
    two, three = make(), make(factors={"subject": {"plain": "Join us", "number": "3 ways", "five": "5 ways"}})
    assert codes(two, three) == []
    assert codes(three, two) == ["AB602"]


def test_drift_is_placed_in_the_new_file_and_silenced_by_its_comments() -> None:
    text = (
        "spec: 1\nname: spring\nfactors: {subject: {plain: Join us, number: 3 ways}}\ncontrol: {subject: plain}\n"
        "message: {template: mails/x.html.j2, from: a@example.com}\nsalt: other\n"
    )
    (found,) = drift(make(), loads(text, path="a.yaml"))
    assert (found.path, found.line, found.column, found.severity) == ("a.yaml", 6, 7, "error")
    assert drift(make(), loads(text.replace("other\n", "other  # abmail: ignore[AB601] nothing is out yet\n"))) == ()
