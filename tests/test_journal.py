"""Opens and clicks that are kept at once and judged when there is time."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from revisions import migrate_to

from abmail._event_notes import event_of, note_of, told_of
from abmail._tables import SCHEMA_REVISION
from abmail._verdict_facts import Agent, RequestFacts
from abmail._web_hits import Hit
from abmail._web_judge import PATIENCE_SECONDS, Judge
from abmail._web_writer import EventWriter
from abmail.engine import Engine
from abmail.events import Event, EventType, Signer
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import loads
from abmail.store import Store, upgrade
from abmail.web import BackgroundServer, create_app

NOW = datetime(2026, 3, 1, 11, 0, 0, 250_000, tzinfo=UTC)
SECRET = b"0123456789abcdef0123456789abcdef"
SIGNER = Signer(SECRET)
BROWSER = RequestFacts(agent=Agent.BROWSER, family="firefox/linux", network="a1b2c3d4e5f6")
DEFINITION = """\
spec: 1
name: spring
factors:
  subject: {plain: Join us, number: Three ways}
control: {subject: plain}
message: {template: mails/spring.html.j2, from: news@example.com}
allocation: {policy: uniform}
"""


def note(type_: EventType, message_id: str, *, at: datetime = NOW, facts: RequestFacts = BROWSER) -> str:
    link = 1 if type_ is EventType.CLICKED else None
    return note_of(type_, message_id, link, round(at.timestamp() * 1e6), told_of(facts), facts.network)


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    """An engine that has sent a mail to each of four people."""
    with Engine(store_url, transport=Memory(), secret=SECRET) as made:
        people = [Recipient(id=str(number), email=f"p{number}@example.com") for number in range(4)]
        made.apply(made.plan(loads(DEFINITION), people, template='<a href="https://example.com/">Go</a>'), now=NOW)
        made.tick(now=NOW)
        yield made


def ids(engine: Engine) -> list[str]:
    return [message.id for message in engine.store.messages("spring")]


@given(
    st.sampled_from([EventType.OPENED, EventType.CLICKED]),
    st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.builds(
        RequestFacts, head=st.booleans(), prefetch=st.booleans(), agent=st.sampled_from(Agent),
        family=st.sampled_from(["", "chrome/windows"]), network=st.sampled_from(["", "a1b2c3d4e5f6"]),
    ),
)  # fmt: skip
def test_a_note_says_all_that_was_seen(type_: EventType, at: datetime, facts: RequestFacts) -> None:
    event = event_of(note(type_, SIGNER.message_id("spring", "1"), at=at, facts=facts))
    assert (event.type, event.facts, event.link) == (type_, facts, 1 if type_ is EventType.CLICKED else None)
    assert event.message_id == SIGNER.message_id("spring", "1")
    assert abs(event.at - at) <= timedelta(microseconds=100)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '[1,"opened"]', '[1,"opened","x",null,"late",{},""]',
             '[1,"opened","x",null,1e99,{},""]', '[1,"burnt","x",null,1,{},""]', '[1,"opened","x",null,1,{"who":1},""]',
             '[1,"opened","",null,1,{},""]', '[1,"opened","x",null,1,7,""]', '[9,"opened","x",null,1,{},""]'],
)  # fmt: skip
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"note|names its message"):
        event_of(text)


def test_what_was_kept_is_recorded_once_and_counted_like_any_event(engine: Engine) -> None:
    first, second, *_ = ids(engine)
    kept = [note(EventType.OPENED, first), note(EventType.CLICKED, first), note(EventType.OPENED, second)]
    engine.journal(kept)
    engine.journal([])
    engine.journal(kept[:1])  # twice in one second of one mail: one open
    assert engine.store.backlog().size == 4
    assert list(engine.store.events("spring")) == []
    taken, events = engine.digest(limit=3, now=NOW + timedelta(minutes=5))
    assert (taken, [event.type for event in events]) == (3, ["opened", "clicked", "opened"])
    assert engine.digest(now=NOW + timedelta(minutes=5))[0] == 1
    assert engine.digest()[0] == engine.store.backlog().size == 0
    assert sorted(event.type for event in engine.store.events("spring")) == ["clicked", "opened", "opened"]
    tally = engine.store.tally("spring", n_cells=2)
    assert (tally.matrix("opened_all").sum(), tally.matrix("clicked_all").sum()) == (2, 1)
    assert (tally.n == engine.store.recount("spring", n_cells=2).n).all()


def test_what_waited_before_it_was_kept_in_groups_waits_still(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mail.db"
    migrate_to(url, "0010")
    old = '[1,"opened","{}",null,1772362800.25,{{"agent": "browser"}},"a1b2c3d4e5f6"]'
    with closing(sqlite3.connect(tmp_path / "mail.db")) as db, db:
        db.executemany("INSERT INTO journal (note) VALUES (?)", [(old.format(each),) for each in ("x", "y", "z")])
    assert upgrade(url) == ("0010", SCHEMA_REVISION)
    with closing(Store(url)) as store:
        assert store.backlog().size == 3
        taken, events = store.digest(event_of, limit=2, now=NOW)
        assert (taken, [event.message_id for event in events], store.backlog().size) == (2, ["x", "y"], 1)
        assert events[0].at == NOW


def test_a_tick_decides_by_all_that_was_seen(engine: Engine) -> None:
    engine.journal([note(EventType.OPENED, each) for each in ids(engine)])
    engine.tick(now=NOW + timedelta(hours=1))
    assert engine.store.backlog().size == 0
    assert len(list(engine.store.events("spring"))) == 4


def test_a_note_that_cannot_be_read_takes_no_other_with_it(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.journal(["nonsense", note(EventType.OPENED, ids(engine)[0])])
    assert engine.digest(now=NOW)[0] == 2
    assert len(list(engine.store.events("spring"))) == 1
    assert "an open or click is lost" in caplog.text


def test_nothing_is_taken_out_that_was_not_recorded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.journal([note(EventType.OPENED, ids(engine)[0])])

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle of it")

    with monkeypatch.context() as broken:
        broken.setattr("abmail._recording.Recorder.record", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            engine.digest()
    assert engine.store.backlog().size == 1
    assert engine.digest()[0] == 1


def test_two_that_judge_at_the_same_time_take_nothing_twice_and_leave_nothing(engine: Engine, store_url: str) -> None:
    known = ids(engine)
    for number in range(200):
        engine.journal([note(EventType.OPENED, known[number % 4], at=NOW + timedelta(seconds=number))])
    taken: list[int] = []

    def work() -> None:
        with closing(Store(store_url)) as store:
            while n := store.digest(event_of, limit=7, now=NOW)[0]:
                taken.append(n)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 200
    assert len(list(engine.store.events("spring"))) == 200


def test_the_tracker_keeps_first_and_judges_when_there_is_time(engine: Engine) -> None:
    target = "https://example.com/"
    sign, (first, *_) = engine.signer.sign, ids(engine)
    urls = [f"/o/{sign('o', first)}.gif", f"/c/{sign('c', first, link=1, target=target)}?u={quote(target, safe='')}"]
    app = create_app(engine, clock=lambda: NOW + timedelta(hours=1), journal=engine)
    headers = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
    with BackgroundServer(app) as server, httpx.Client(base_url=server.url, headers=headers, trust_env=False) as http:
        assert [http.get(url).status_code for url in urls] == [200, 302]
        assert app.state.writer.flush(60)
        assert engine.store.backlog().size == 0
    assert [(event.type, event.verdict) for event in sorted(engine.store.events("spring"), key=lambda e: e.type)] == [
        ("clicked", "human"), ("opened", "human"),
    ]  # fmt: skip


# --- the writer -------------------------------------------------------------------------------------------------------


def hits(n: int) -> list[Hit]:
    signed = SIGNER.signed("o", SIGNER.sign("o", SIGNER.message_id("spring", "1")))
    assert signed is not None
    return [Hit(signed, round(NOW.timestamp() * 1e6)) for _ in range(n)]


def judge(work: Callable[[int], int], *, is_calm: Callable[[], bool] = lambda: True, ticks: float = 0.0) -> Judge:
    """One whose clock goes on by so many seconds whenever it is looked at."""
    clock = itertools.count().__next__
    return Judge(work, turn=threading.Lock(), is_calm=is_calm, clock=lambda: clock() * ticks)


def test_what_was_put_off_waits_for_the_end_of_a_rush() -> None:
    calm, log = threading.Event(), list[str]()

    def work(_: int) -> int:
        log.append("judged")
        return 0

    def is_calm() -> bool:
        log.append("looked")
        if len(log) == 3:
            calm.set()
        return calm.is_set()

    made = judge(work, is_calm=is_calm)
    made.wake()
    assert calm.wait(60)
    made.close()
    assert "judged" not in log[:3]


def test_a_rush_puts_judging_off_for_half_a_minute_at_most() -> None:
    judged = threading.Event()

    def work(_: int) -> int:
        judged.set()
        return 0

    made = judge(work, is_calm=lambda: False, ticks=PATIENCE_SECONDS / 3)
    made.wake()
    assert judged.wait(60)
    made.close()


def test_a_calm_moment_does_not_make_judging_wait_for_another_half_minute() -> None:
    now, asked, through = [0.0], list[float](), threading.Event()

    def work(most: int) -> int:
        asked.append(now[0])
        if len(asked) == 3:
            through.set()
            return 0
        return most

    def is_calm() -> bool:
        now[0] += PATIENCE_SECONDS / 10
        return len(asked) == 0

    made = Judge(work, turn=threading.Lock(), is_calm=is_calm, clock=lambda: now[0])
    made.wake()
    assert through.wait(60)
    made.close()
    assert asked[0] < PATIENCE_SECONDS <= asked[1]
    assert asked[2] - asked[1] < PATIENCE_SECONDS / 2


def test_the_parts_are_as_large_as_fits_into_a_moment() -> None:
    asked: list[int] = []

    def work(most: int) -> int:
        asked.append(most)
        return most if len(asked) < 8 else 0

    for ticks, grows in ((0.0, True), (1.0, False)):
        asked.clear()
        made = judge(work, ticks=ticks)
        made.wake()
        assert made.flush(60)
        made.close()
        assert (asked[1] > asked[0]) is grows
        assert 100 <= min(asked) <= max(asked) <= 1_000  # one that judges a few at a time never gets through


def test_hits_are_stored_between_the_parts_of_what_was_put_off() -> None:
    log: list[str] = []
    writer: EventWriter

    def work(_: int) -> int:
        if "stored" in log or len(log) > 2_000:
            return 0
        if not log:
            writer.put(hits(1)[0])  # it is stored after this part and before the rest of them
        log.append("judged")
        return 1

    writer = EventWriter(lambda group: log.extend("stored" for _ in group), wait=0.0, catch_up=work)
    writer.open()
    assert writer.flush(60)
    writer.close()
    assert "stored" in log
    assert len(log) <= 2_000


def test_what_goes_wrong_while_catching_up_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def catch_up(most: int) -> int:
        tries.append(most)
        if len(tries) == 1:
            raise RuntimeError("the database is away")
        return 0

    stored: list[Hit] = []
    writer = EventWriter(stored.extend, catch_up=catch_up)
    for hit in hits(3):
        writer.put(hit)
    assert writer.flush(60)
    assert (len(stored), writer.stored) == (3, 3)
    assert len(tries) >= 2
    assert "events wait to be judged, as that failed: the database is away" in caplog.text


def test_closing_leaves_what_was_put_off_to_the_next_one() -> None:
    kept: list[Hit] = []
    judging, go_on = threading.Event(), threading.Event()

    def catch_up(most: int) -> int:
        judging.set()
        assert go_on.wait(60)
        return most  # there is always more

    writer = EventWriter(kept.extend, catch_up=catch_up)
    for hit in hits(5):
        writer.put(hit)
    assert judging.wait(60)
    go_on.set()
    writer.close()
    assert (len(kept), writer.waiting) == (5, 0)


def test_events_of_notes_are_events() -> None:
    assert isinstance(event_of(note(EventType.OPENED, "x")), Event)
