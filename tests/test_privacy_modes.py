"""The modes of privacy, over HTTP: what the tracker learns of a reader in each; the counts are right in all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from abmail import Experiment, Recipient, SpecError
from abmail.engine import Engine
from abmail.events import NONCE, EventType, Signer, Verdict, crowd_id, crowd_of
from abmail.render import RenderedMessage
from abmail.report import Report
from abmail.send import Memory
from abmail.store import CrowdHit, State
from abmail.web import BackgroundServer, create_app

NOW = datetime(2026, 3, 2, 9, 4, tzinfo=UTC)
TEMPLATE = (
    '<p>Hi {{ recipient.id }}</p><a href="https://example.com/a?x=1">go</a><a href="https://example.com/b">or</a>'
)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
_URL = re.compile(r"http://127\.0\.0\.1:8025(/[ocu]/[^\"\s<]+)")


def definition(mode: str, **more: object) -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"}, "metrics": {"window": "24h"}, "privacy": {"mode": mode}, **more,
    })  # fmt: skip


class Mailing:
    """Mails to forty people, and a tracker on loopback."""

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.now, self.transport = NOW, Memory()
        url = f"sqlite:///{folder / 'mail.db'}"
        self.engine = Engine(url, transport=self.transport, secret=b"0123456789abcdef", clock=lambda: self.now)
        people = [Recipient(id=f"r{i}", email=f"p{i}@example.com") for i in range(40)]
        self.engine.apply(self.engine.plan(experiment, people, template=TEMPLATE))
        self.engine.tick()

    @property
    def mails(self) -> list[RenderedMessage]:
        return list(self.transport.messages)

    @contextmanager
    def tracker(self) -> Iterator[httpx.Client]:
        with (
            BackgroundServer(create_app(self.engine, clock=lambda: self.now)) as server,
            httpx.Client(base_url=server.url, headers={"user-agent": CHROME}, trust_env=False) as client,
        ):
            yield client

    def report(self) -> Report:
        return self.engine.analyze("spring", now=NOW + timedelta(days=9))

    def rows(self) -> dict[str, list[str]]:
        """Table -> its rows as text."""
        engine = sa.create_engine(self.engine.store._engine.url)
        tables = sa.MetaData()
        tables.reflect(engine)
        with engine.connect() as db:
            found = {
                name: [repr(tuple(row)) for row in db.execute(sa.select(table))]
                for name, table in tables.tables.items()
            }
        engine.dispose()
        return found


def paths(mail: RenderedMessage, kind: str) -> list[str]:
    return [path.replace("&amp;", "&") for path in _URL.findall(mail.html) if path.startswith(f"/{kind}/")]


def test_aggregate_counts_each_mail_once_by_arm_with_its_delay_and_nobody_can_say_whose_it_was(tmp_path: Path) -> None:
    mailing = Mailing(tmp_path, definition("aggregate"))
    before = mailing.rows()
    openers, clickers = mailing.mails[:20], mailing.mails[5:15]
    with mailing.tracker() as client:
        for hours in (1, 3):
            mailing.now = NOW + timedelta(hours=hours, minutes=2)
            for mail in openers:
                assert client.get(paths(mail, "o")[0]).status_code == 200
            for mail in clickers:
                for path in paths(mail, "c"):
                    assert client.get(path).headers["location"].startswith("https://example.com/")
            client.get(paths(mailing.mails[30], "o")[0], headers={"user-agent": "Mozilla/5.0"})
            client.head(paths(mailing.mails[31], "o")[0])
    report = mailing.report()
    for arm in report.arms:
        mine = {mail.message_id for mail in mailing.mails if mail.subject == arm.content["subject"]}
        assert arm.n == len(mine)
        assert arm.untracked == 0
        assert arm.human_opens == sum(mail.message_id in mine for mail in openers)
        assert arm.clicks == arm.successes == sum(mail.message_id in mine for mail in clickers)
    tally = mailing.engine.store.tally("spring", n_cells=2)
    assert (tally.matrix("opened_all").sum(), tally.matrix("opened").sum(), tally.matrix("clicked").sum()) == (
        21,
        20,
        10,
    )
    assert set(tally.rows("clicked")[2]) == {6}  # an hour after the mail, in steps of ten minutes

    after = mailing.rows()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"crowd_hits", "counts"}
    tokens = {Signer(b"0123456789abcdef").verify("O", paths(mail, "o")[0][3:-4]): mail for mail in mailing.mails}
    idents = {token.message_id for token in tokens if token is not None}
    assert len(idents) == 40
    elsewhere = "\n".join(line for name, lines in after.items() if name != "crowd_hits" for line in lines)
    assert not any(ident in elsewhere for ident in idents)
    held = "\n".join(after["crowd_hits"])
    assert not any(mail.message_id in held or mail.recipient in held for mail in mailing.mails)
    mailing.engine.close()


def test_with_aggregate_unsubscribing_is_still_a_persons_own_deed(tmp_path: Path) -> None:
    mailing = Mailing(tmp_path, definition("aggregate"))
    leaving = mailing.mails[3]
    with mailing.tracker() as client:
        assert client.post(paths(leaving, "u")[0], content=b"List-Unsubscribe=One-Click").status_code == 200
    assert mailing.engine.store.suppressed() == {leaving.recipient: "unsubscribed"}
    assert sum(arm.unsubscribes for arm in mailing.report().arms) == 1
    mailing.engine.close()


def test_tokens_of_the_two_kinds_cannot_stand_in_for_each_other(tmp_path: Path) -> None:
    signer = Signer(b"0123456789abcdef")
    ident = crowd_id("spring", epoch=1, cell=2, stratum="", sent_at=NOW, nonce=b"\0" * NONCE)
    personal, crowd = signer.of(ident), signer.of(ident, crowd=True)
    assert len(personal.pixel()) == len(crowd.pixel()) == 47
    assert signer.verify("o", crowd.pixel()) is None
    assert signer.verify("O", personal.pixel()) is None
    url = "https://example.com/"
    assert signer.verify("c", crowd.click(3, url), target=url) is None
    found = signer.verify("C", crowd.click(3, url), target=url)
    assert found is not None
    assert (found.message_id, found.link) == (ident, 3)
    assert signer.verify("C", crowd.click(3, url), target="https://evil.example/") is None
    assert (crowd_of(ident).epoch, crowd_of(ident).cell, crowd_of(ident).sent_at) == (1, 2, NOW.replace(minute=0))


def test_hits_of_another_database_or_of_nothing_are_left_out(store_url: str) -> None:
    with Engine(store_url, secret=b"0123456789abcdef") as engine:
        assert engine.count_crowd([]) == 0
        ident = crowd_id("elsewhere", epoch=0, cell=0, stratum="", sent_at=NOW, nonce=b"12345")
        one = CrowdHit(id=ident, type=EventType.OPENED, at=NOW, verdict=Verdict.HUMAN)
        engine.count_crowd([one, one])
        assert engine.store.tally("spring", n_cells=2).n.tolist() == []


def test_segments_with_weights_of_their_own_are_counted_apart(store_url: str) -> None:
    with Engine(store_url, transport=(transport := Memory()), secret=b"0123456789abcdef", clock=lambda: NOW) as engine:
        people = [
            Recipient(id=f"r{i}", email=f"p{i}@example.com", attributes={"stage": ("hot", "cold")[i % 2]})
            for i in range(60)
        ]  # fmt: skip
        shares = {"policy": "thompson", "segments": "stage"}
        engine.apply(engine.plan(definition("aggregate", allocation=shares), people, template=TEMPLATE))
        engine.tick()
        hot = [mail for mail in transport.messages if int(mail.recipient[1:].partition("@")[0]) % 2 == 0]
        hits = []
        for mail in hot:
            token = engine.signer.verify("O", paths(mail, "o")[0][3:-4])
            assert token is not None
            hits.append(CrowdHit(id=token.message_id, type=EventType.CLICKED, at=NOW, verdict=Verdict.HUMAN))
        assert engine.count_crowd(hits) == len(hot)
        counts = engine.counts("spring", by="stage")
        assert {name: int(own.successes.sum()) for name, own in counts.items()} == {"cold": 0, "hot": len(hot)}


def test_what_needs_people_is_refused_with_the_place(tmp_path: Path) -> None:
    for mode, more, words in (
        ("aggregate", {"audience": {"unit": "company"}}, "audience.unit: with privacy.mode aggregate"),
        ("aggregate", {"send_time": {"mode": "learn"}}, "send_time.mode: with privacy.mode aggregate"),
        ("off", {"send_time": {"mode": "test"}}, "send_time.mode: with privacy.mode off"),
    ):
        with pytest.raises(SpecError) as caught:
            definition(mode, **more)
        assert words in str(caught.value)
    mailing = Mailing(tmp_path, definition("aggregate"))
    with pytest.raises(ValueError, match="counts opens and clicks without people"):
        mailing.engine.analyze("spring", by="domain")
    assert list(mailing.engine.store.past_mails(before=NOW + timedelta(days=9))) == []
    mailing.engine.close()


@pytest.mark.parametrize(("mode", "kept"), [("pseudonymous", False), ("identified", True)])
def test_addresses_and_agents_are_kept_only_where_the_definition_says_so(mode: str, kept: bool, tmp_path: Path) -> None:
    mailing = Mailing(tmp_path, definition(mode))
    with mailing.tracker() as client:
        mailing.now = NOW + timedelta(hours=1)
        client.get(paths(mailing.mails[0], "o")[0])
        client.get(paths(mailing.mails[0], "c")[0])
    events = [event for event in mailing.engine.store.events("spring") if event.source == "own"]
    assert [event.detail for event in events] == [f"127.0.0.1 {CHROME}" if kept else ""] * 2
    everything = "\n".join(line for lines in mailing.rows().values() for line in lines)
    assert (CHROME in everything, "127.0.0.1 Mozilla" in everything) == (kept, kept)
    shown = mailing.engine.person(mailing.mails[0].recipient)
    assert (CHROME in str(shown)) == kept
    mailing.engine.forget(mailing.mails[0].recipient)
    assert CHROME not in "\n".join(line for lines in mailing.rows().values() for line in lines)
    assert mailing.engine.store.states("spring") == {State.SENT: 40}
    mailing.engine.close()
