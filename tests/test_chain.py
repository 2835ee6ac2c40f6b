"""From a faulty list to the report: nobody is lost or mailed twice, and every human click is counted."""

from __future__ import annotations

from collections import Counter

import pytest
from chain import Outcome, faulty_list, run_chain

from abmail.events import EventType


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_chain(tmp_path_factory.mktemp("chain"), rows=150, seed=5)


def test_the_list_has_the_faults_that_lists_have() -> None:
    made = faulty_list(150, seed=5)
    text = made.content.decode("cp932")
    assert "\r\n二行目" in text
    assert "\r\n\r\n" in text
    assert "@KAISHA" in text
    assert "not-an-address" in text
    with pytest.raises(UnicodeDecodeError):
        made.content.decode("utf-8")
    assert 120 <= len(made.people) < made.rows == 150


def test_every_good_row_is_imported_and_no_other(outcome: Outcome) -> None:
    assert (outcome.rows, outcome.imported) == (150, len(outcome.people))


def test_everybody_gets_one_mail_except_the_holdout(outcome: Outcome) -> None:
    assert outcome.delivered == Counter(outcome.people.keys() - outcome.held_out)
    assert outcome.sent == len(outcome.delivered)
    assert 3 <= len(outcome.held_out) <= 30


def test_the_report_counts_every_human_click_and_no_machine(outcome: Outcome) -> None:
    assert outcome.counted("clicks") == outcome.did.clicks
    assert outcome.counted("human_opens") == outcome.did.opens
    assert outcome.counted("unsubscribes") == outcome.did.unsubscribes
    assert outcome.did.clicks.total() < outcome.did.all_clicks.total() == outcome.sent
    sensitivity = outcome.report["bot_sensitivity"]
    assert isinstance(sensitivity, dict)
    assert sensitivity["all"] == dict(outcome.did.all_clicks)


def test_every_request_that_says_something_is_kept_as_an_event(outcome: Outcome) -> None:
    kinds = (EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED)
    assert sum(outcome.events[kind] for kind in kinds) == outcome.did.events == outcome.events.total()
    assert outcome.did.requests > outcome.did.events
    assert outcome.faults == ()
