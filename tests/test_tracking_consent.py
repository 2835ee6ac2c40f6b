"""Mails that may not be tracked carry nothing to track with, and count neither as answered nor as not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from abmail import Experiment, Recipient, SpecError
from abmail._delivery import cells_of
from abmail.engine import Engine
from abmail.events import Event, EventType
from abmail.report import Report
from abmail.send import Memory
from abmail.spec import json_schema
from abmail.store import Epoch

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEMPLATE = '<p>Hi</p><a href="https://example.com/a?x=1&amp;y=2#z">go</a>'


def definition(privacy: object = None, **more: object) -> Experiment:
    plain = {
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"}, "metrics": {"window": "24h"}, **more,
    }  # fmt: skip
    return Experiment.from_dict(plain if privacy is None else {**plain, "privacy": privacy})


class Mailing:
    def __init__(self, url: str, experiment: Experiment, people: list[Recipient]) -> None:
        self.transport = Memory()
        self.engine = Engine(url, transport=self.transport, secret=b"0123456789abcdef", clock=lambda: NOW)
        self.engine.apply(self.engine.plan(experiment, people, template=TEMPLATE))
        self.engine.tick()
        self.name = experiment.name

    def happens(self, kind: EventType, people: list[str], *, hours: float = 1) -> None:
        mails = (self.engine.signer.message_id(self.name, each) for each in people)
        at = NOW + timedelta(hours=hours)
        self.engine.record_all(Event(type=kind, at=at, message_id=mail) for mail in mails)

    def report(self, **options: str) -> Report:
        return self.engine.analyze(self.name, now=NOW + timedelta(days=9), **options)  # type: ignore[arg-type]


@pytest.fixture
def mixed(store_url: str) -> Iterator[tuple[Mailing, list[Recipient]]]:
    """400 people of whom every fourth said no, and whose consent has nothing to do with their variant."""
    said = ("yes", "Yes ", "", "no")
    people = [
        Recipient(
            id=f"r{i}", email=f"p{i}@example.com",
            attributes={"tracking_consent": said[i % 4], "stage": "hot" if i % 3 else "cold"},
        )
        for i in range(400)
    ]  # fmt: skip
    mailing = Mailing(store_url, definition(), people)
    yield mailing, people
    mailing.engine.close()


@pytest.mark.parametrize(
    ("said", "unasked", "tracked"),
    [
        ("yes", "untracked", True), ("はい", "untracked", True), ("TRUE", "untracked", True), ("no", "tracked", False),
        ("いいえ", "tracked", False), ("", "tracked", True), ("", "untracked", False), (None, "untracked", False),
        (None, "tracked", True), ("ask me later", "tracked", False),
    ],
)  # fmt: skip
def test_who_may_be_tracked(said: str | None, unasked: str, tracked: bool) -> None:
    attributes = {} if said is None else {"ok": said}
    assert definition({"consent": "ok", "unasked": unasked}).tracks(attributes) is tracked
    assert definition({"consent": "ok", "unasked": unasked, "mode": "off"}).tracks(attributes) is False


def test_without_consent_there_is_no_pixel_and_no_tracked_link_and_unsubscribing_works(
    mixed: tuple[Mailing, list[Recipient]],
) -> None:
    mailing, people = mixed
    sent = {mail.recipient: mail for mail in mailing.transport.messages}
    for i, person in enumerate(people):
        mail = sent[person.email]
        assert ("/o/" in mail.html) == ("/c/" in mail.html) == ("/c/" in mail.text) == (i % 4 != 3)
        assert ('href="https://example.com/a?x=1&amp;y=2#z"' in mail.html) == (i % 4 == 3)
        assert "/u/" in mail.html
        assert b"List-Unsubscribe-Post" in mail.raw
        hosted = mailing.engine.hosted(mail.message_id)
        assert hosted is not None
        assert ("/c/" in hosted) == (i % 4 != 3)


def test_mails_without_consent_are_missing_in_every_number_of_opens_and_clicks(
    mixed: tuple[Mailing, list[Recipient]],
) -> None:
    mailing, people = mixed
    mailing.happens(EventType.CLICKED, [p.id for i, p in enumerate(people) if i % 5 == 0 and i % 4 != 3])
    mailing.happens(EventType.OPENED, [p.id for i, p in enumerate(people) if i % 2 == 0])
    mailing.happens(EventType.UNSUBSCRIBED, [p.id for i, p in enumerate(people) if i % 40 == 3], hours=2)
    report = mailing.report()
    assert report.sent == 400
    for arm in report.arms:
        cell = [m.message_id for m in mailing.transport.messages if m.subject == arm.content["subject"]]
        mine = [i for i in range(400) if mailing.engine.signer.message_id("spring", f"r{i}") in cell]
        asked = [i for i in mine if i % 4 != 3]
        clicks = [i for i in asked if i % 5 == 0]
        assert (arm.n, arm.untracked, arm.successes) == (len(mine), len(mine) - len(asked), len(clicks))
        assert arm.rate == pytest.approx(len(clicks) / len(asked))
        assert arm.human_opens == sum(i % 2 == 0 for i in asked)
        assert arm.unsubscribes == sum(i % 40 == 3 for i in mine)  # an unsubscribe needs no tracking
    assert sum(arm.untracked for arm in report.arms) == 100
    counts = mailing.engine.counts("spring", now=NOW + timedelta(days=9))
    assert counts.n.sum() == 300
    assert np.allclose(counts.exposure, counts.n)
    first = mailing.engine.counts("spring", now=NOW)
    assert first.exposure is not None
    assert (first.exposure <= counts.n).all()


def test_the_comparison_is_that_of_a_test_among_those_who_agreed(mixed: tuple[Mailing, list[Recipient]]) -> None:
    mailing, people = mixed
    clicking = [p.id for i, p in enumerate(people) if i % 5 == 0 and i % 4 != 3]
    mailing.happens(EventType.CLICKED, clicking)
    whole = mailing.report()
    agreed = [p for i, p in enumerate(people) if i % 4 != 3]
    alone = Mailing("sqlite://", definition(), agreed)
    alone.happens(EventType.CLICKED, clicking)
    other = alone.report()
    assert other.sent == 300
    for mine, theirs in zip(whole.arms, other.arms, strict=True):
        assert mine.name == theirs.name
        for value in ("rate", "effect", "ci_lower", "ci_upper", "p_value", "p_best", "expected_loss"):
            assert getattr(mine, value) == pytest.approx(getattr(theirs, value)), value
    assert any("100 mails are missing" in each for each in whole.actions)
    assert any("100 通は集計に含まれません" in each for each in whole.actions_ja)
    assert not any("missing" in each for each in other.actions)
    alone.engine.close()


def test_opens_that_a_provider_reports_of_an_untracked_mail_do_not_count(
    mixed: tuple[Mailing, list[Recipient]],
) -> None:
    mailing, _ = mixed
    mailing.happens(EventType.CLICKED, ["r3", "r7"])
    mailing.happens(EventType.CLICKED, ["r0"])
    assert sum(arm.clicks for arm in mailing.report().arms) == 1
    store = mailing.engine.store
    kept, again = store.tally("spring", n_cells=2), store.recount("spring", n_cells=2)
    for metric in ("sent", "untracked", "clicked", "clicked_all"):
        assert kept.matrix(metric).tolist() == again.matrix(metric).tolist()
    parts = mailing.engine.counts("spring", by="stage", now=NOW + timedelta(days=9))
    assert sum(int(part.n.sum()) for part in parts.values()) == 300


def test_who_withdraws_before_the_mail_goes_out_is_not_tracked(store_url: str) -> None:
    transport = Memory()
    with Engine(store_url, transport=transport, secret=b"0123456789abcdef", clock=lambda: NOW) as engine:
        people = [
            Recipient(id=f"r{i}", email=f"p{i}@example.com", attributes={"tracking_consent": "1"}) for i in range(6)
        ]
        engine.apply(engine.plan(definition(), people, template=TEMPLATE))
        experiment = definition()
        epoch = Epoch(
            number=0, version=1, opened_at=NOW, size=0, planned=100, weights=(0.5, 0.5), policy={}, seed=1, reason=""
        )
        zones = engine.store.zones("spring")
        engine.store.open_epoch(
            "spring", epoch, zones=zones, assign=lambda some: cells_of(experiment, epoch, some), now=NOW
        )
        changed = Recipient(id="r2", email="p2@example.com", attributes={"tracking_consent": "no"})
        engine.store.import_recipients([changed], now=NOW)
        engine.tick()
        tracked = {mail.recipient: "/o/" in mail.html for mail in transport.messages}
        assert tracked == {f"p{i}@example.com": i != 2 for i in range(6)}
        assert int(engine.store.tally("spring", n_cells=2).matrix("untracked").sum()) == 1


def test_where_nothing_is_tracked_the_report_says_so_and_names_no_winner(store_url: str) -> None:
    people = [Recipient(id=f"r{i}", email=f"p{i}@example.com") for i in range(60)]
    mailing = Mailing(store_url, definition({"mode": "off"}), people)
    assert all("/o/" not in mail.html and "/c/" not in mail.html for mail in mailing.transport.messages)
    mailing.happens(EventType.CLICKED, ["r1"])
    report = mailing.report()
    assert (report.sent, sum(arm.untracked for arm in report.arms)) == (60, 60)
    assert [arm.rate for arm in report.arms] == [None, None]
    assert report.decision.state == "too_early"
    assert any("privacy: off" in each for each in report.actions)
    json.dumps(report.to_dict())
    mailing.engine.close()


def test_companies_count_their_tracked_mails_alone(store_url: str) -> None:
    people = [
        Recipient(id=f"r{i}", email=f"p{i}@c{i // 4}.example.com", attributes={"tracking_consent": "0" * (i % 4 == 3)})
        for i in range(320)
    ]  # fmt: skip
    mailing = Mailing(store_url, definition(audience={"unit": "company"}), people)
    mailing.happens(EventType.CLICKED, [f"r{i}" for i in range(0, 320, 8)])
    arms = mailing.report().arms
    assert sum(arm.untracked for arm in arms) == 80
    assert sum(arm.n for arm in arms) == 320
    for arm in arms:
        assert arm.rate == pytest.approx(arm.successes / (arm.n - arm.untracked))
    mailing.engine.close()


def test_a_definition_without_privacy_keeps_its_hash_and_slips_are_told_at_their_place() -> None:
    assert definition().spec_hash == "f64f493f0f3154c1"
    assert definition({"mode": "off"}).spec_hash != definition().spec_hash
    assert "privacy" not in definition().resolved()
    assert Experiment.from_dict(definition({"mode": "off"}).resolved()) == definition({"mode": "off"})
    for privacy, words in (
        ({"mode": "of"}, "did you mean 'off'?"), ({"mod": "off"}, "did you mean 'mode'?"),
        ({"unasked": "x"}, "tracked"), ({"consent": ""}, "empty"),
    ):  # fmt: skip
        with pytest.raises(SpecError) as caught:
            definition(privacy)
        assert words in "\n".join(f"{each} {each.hint}" for each in caught.value.diagnostics)
    properties = json_schema()["properties"]
    assert set(properties["privacy"]["properties"]) == {"mode", "consent", "unasked"}
