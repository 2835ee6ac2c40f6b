"""Verdicts in the store: made with the event, corrected by later ones, the same in any order and made at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from revisions import migrate_to

from abmail import _judging, _outcomes, _rejudging, _tables, _verdict_around, _verdict_rules
from abmail._judging import changed_verdicts, judge_all
from abmail.events import RULES_VERSION, Agent, Event, EventType, RequestFacts, Verdict
from abmail.recipient import Recipient
from abmail.store import BIN_SECONDS, Epoch, Outcome, Placed, Recorded, State, Store

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=2)
N = 24
CHROME = RequestFacts(agent=Agent.BROWSER, family="chrome/windows", network="aa")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with Store(store_url) as opened:
        send(opened)
        yield opened


def message_id(number: int) -> str:
    return f"{number:032x}"


def send(store: Store, n: int = N, *, every: float = 5.0) -> None:
    """Mail to ``n`` people at companies of four, one every few seconds, in two cells by turns."""
    people = [Recipient(id=f"r{i}", email=f"r{i}@c{i // 4}.example", attributes={}, zone=None) for i in range(n)]
    store.import_recipients(people, now=NOW)
    rows = [
        {"id": message_id(i), "recipient": f"r{i}", "state": State.QUEUED, "position": i, "zone": "UTC",
         "propensity": None} for i in range(n)
    ]  # fmt: skip
    store.apply(
        "spring", spec_hash="h", content_hash="c", definition={"name": "spring"}, template="<p>", text_template=None,
        waves=[n], messages=lambda _: rows, after_version=0, now=NOW,
    )  # fmt: skip
    epoch = Epoch(
        number=0, version=1, opened_at=NOW, size=0, planned=n, weights=(0.5, 0.5), policy={"name": "uniform"}, seed=7,
        reason="first wave",
    )  # fmt: skip
    store.open_epoch(
        "spring", epoch, zones=["UTC"], now=NOW,
        assign=lambda taken: [Placed(cell=i % 2, propensity=0.5) for i in range(len(taken))],
    )  # fmt: skip
    store.claim(worker="w:1:0", limit=n, now=NOW, open_zones={"spring": ["UTC"]})
    for i in range(n):
        at = NOW + timedelta(seconds=every * i)
        store.advance(worker="w:1:0", now=at, begin=[message_id(i)])
        sent = Outcome(message=message_id(i), state=State.SENT, at=at, links=1 if i % 3 else 3)
        store.advance(worker="w:1:0", now=at, done=[sent])


def hit(kind: EventType, number: int, seconds: float, **fields: object) -> Event:
    """An event some seconds after the first mail was sent."""
    known: dict[str, object] = {"facts": CHROME, "link": 1 if kind is EventType.CLICKED else None}
    at = NOW + timedelta(seconds=seconds)
    return Event(type=kind, at=at, message_id=message_id(number), **{**known, **fields})  # type: ignore[arg-type]


def verdicts(store: Store) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {event.key: (event.verdict.value, event.reasons) for event in store.events("spring")}


def counted(store: Store, metric: str) -> int:
    return int(store.tally("spring", n_cells=2).matrix(metric).sum())


def assert_consistent(store: Store) -> None:
    """Counts are those of the events, and verdicts those that judging everything at once gives."""
    kept, anew = store.tally("spring", n_cells=2), store.recount("spring", n_cells=2)
    for field in ("epoch", "cell", "metric", "bin", "n"):
        assert getattr(kept, field).tolist() == getattr(anew, field).tolist()
    with store._read() as db:
        assert changed_verdicts(judge_all(db, "spring")) == []


def drawn_events(rng: np.random.Generator, n: int = 200) -> list[Event]:
    """Events of people, scanners and proxies all over the place, many of them close together."""
    agents = [
        CHROME, replace(CHROME, family="safari/ios"), replace(CHROME, network="bb"), RequestFacts(agent=Agent.MACHINE),
        RequestFacts(agent=Agent.IMAGE_PROXY), replace(CHROME, network=""), None,
    ]  # fmt: skip
    kinds = [EventType.OPENED, EventType.CLICKED, EventType.CLICKED, EventType.REPLIED, EventType.DELIVERED]
    events = []
    for _ in range(n):
        who, kind = int(rng.integers(N)), kinds[int(rng.integers(5))]
        at = 5 * who + float(rng.choice([20, 300, 5_000], p=[0.5, 0.25, 0.25])) + float(rng.integers(0, 50))
        link = int(rng.choice([1, 2, 3, 0xFFFF], p=[0.4, 0.3, 0.28, 0.02])) if kind is EventType.CLICKED else None
        facts = agents[int(rng.integers(7))] if kind in {EventType.OPENED, EventType.CLICKED} else None
        verdict = Verdict.HUMAN if facts or rng.random() < 0.5 else Verdict.MACHINE
        events.append(hit(kind, who, at, link=link, facts=facts, verdict=verdict))
    for who in rng.integers(N, size=6):
        at = 5 * int(who) + float(rng.choice([45, 2_000])) + float(rng.integers(0, 60))
        events += [hit(EventType.CLICKED, int(who), at + 3 * link, link=link) for link in (1, 2, 3)]
    blind = replace(CHROME, network="dd", family="edge/windows")
    events += [hit(EventType.CLICKED, int(who), 5 * int(who) + 12, facts=blind) for who in rng.integers(N, size=9)]
    return list({event.key: event for event in events}.values())


@pytest.mark.parametrize("seed", range(3))
def test_any_order_and_grouping_of_events_gives_the_verdicts_of_judging_all_at_once(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    events = drawn_events(rng)
    found = []
    for number in range(2):
        with Store(f"sqlite:///{tmp_path / str(number)}.db") as store:
            send(store)
            rest = [events[i] for i in rng.permutation(len(events))]
            while rest:
                size = int(rng.integers(1, 30))
                store.record(rest[:size], now=LATER)
                rest = rest[size:]
            assert_consistent(store)
            found.append(verdicts(store))
    assert found[0] == found[1]
    assert {"human", "machine", "suspected", "proxy"} <= {verdict for verdict, _ in found[0].values()}
    given = {reason for _, reasons in found[0].values() for reason in reasons}
    assert {"link_burst", "network_burst", "network_across", "network_blind", "confirmed", "unread"} <= given
    assert {"company_sweep", "company_scanned", "another"} <= given


def scanners_by_and_by(rng: np.random.Generator) -> list[Event]:
    """Scanners that read as people do, that return hours later, that name themselves, that follow somebody's click."""
    events = []

    def ask(kind: EventType, who: int, after: float, network: str, agent: Agent = Agent.BROWSER) -> None:
        facts = replace(CHROME, network=network, agent=agent)
        events.append(hit(kind, who, 5 * who + after, facts=facts))

    for number, who in enumerate(rng.permutation(N).tolist()):
        if number % 2:
            ask(EventType.OPENED, who, 100, "reads")
            ask(EventType.CLICKED, who, 130 + float(rng.choice([0, 900])), "reads")
        else:
            ask(EventType.CLICKED, who, 800, f"first {who}")
            ask(EventType.CLICKED, who, 5_000 + float(rng.integers(20_000)), "returns")
        at = 30_000 + float(rng.integers(20_000))
        ask(EventType.CLICKED, who, at, f"home {who}")
        if number % 3:
            ask(EventType.CLICKED, who, at + float(rng.integers(5)), "follows")
        named = Agent.MACHINE if rng.random() < 0.6 else Agent.BROWSER
        ask(EventType.CLICKED, who, at + 100, f"names {who // 8}", named)
    return list({event.key: event for event in events}.values())


def test_what_networks_give_away_over_a_day_is_the_same_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    events = scanners_by_and_by(rng)
    found = []
    for number in range(3):
        with Store(f"sqlite:///{tmp_path / str(number)}.db") as store:
            send(store)
            rest = [events[i] for i in rng.permutation(len(events))]
            while rest:
                size = int(rng.integers(1, 12))
                store.record(rest[:size], now=LATER)
                rest = rest[size:]
            assert_consistent(store)
            found.append(verdicts(store))
    assert found[0] == found[1] == found[2]
    given = {reason for _, reasons in found[0].values() for reason in reasons}
    assert {"network_hasty", "network_returns", "network_known", "echo"} <= given


def test_both_databases_judge_alike(store: Store) -> None:
    for event in drawn_events(np.random.default_rng(5), 40):
        store.record([event], now=LATER)
    assert_consistent(store)
    assert {"human", "machine"} <= {verdict for verdict, _ in verdicts(store).values()}


def test_a_burst_takes_back_the_clicks_that_had_counted(store: Store) -> None:
    first, second, third = (hit(EventType.CLICKED, 0, 1_000 + 3 * n, link=n) for n in range(3))
    store.record([first], now=LATER)
    assert counted(store, "clicked") == 1
    store.record([third], now=LATER)
    assert counted(store, "clicked") == 1
    store.record([second], now=LATER)
    assert (counted(store, "clicked"), counted(store, "clicked_all")) == (0, 1)
    store.record([hit(EventType.CLICKED, 0, 9_000, link=2)], now=LATER)
    assert counted(store, "clicked") == 1
    _, _, bins, _ = store.tally("spring", n_cells=2).rows("clicked")
    assert bins.tolist() == [9_000 // BIN_SECONDS]
    assert_consistent(store)


def test_a_company_whose_mails_are_clicked_as_they_come_in_loses_them_all(store: Store) -> None:
    for number in range(4):
        store.record([hit(EventType.CLICKED, number, 5 * number + 45, facts=replace(CHROME, network=""))], now=LATER)
    assert counted(store, "clicked") == 0
    assert all("company_sweep" in reasons for _, reasons in verdicts(store).values())
    assert_consistent(store)


def test_strict_counts_leave_out_what_anything_speaks_against(store: Store) -> None:
    store.record([hit(EventType.OPENED, 0, 600), hit(EventType.CLICKED, 0, 660)], now=LATER)
    store.record([hit(EventType.OPENED, 1, 600), hit(EventType.CLICKED, 2, 660)], now=LATER)
    assert [counted(store, f"clicked{view}") for view in ("_all", "", "_strict")] == [2, 2, 1]
    assert [counted(store, f"opened{view}") for view in ("_all", "", "_strict")] == [2, 2, 1]


def test_an_event_from_the_future_counts_from_when_it_was_seen_and_keeps_what_it_claims(store: Store) -> None:
    seen_at = NOW + timedelta(hours=1)
    claimed = hit(EventType.CLICKED, 0, 86_400 * 3)
    store.record([claimed], now=seen_at)
    _, _, bins, _ = store.tally("spring", n_cells=2).rows("clicked")
    assert bins.tolist() == [3_600 // BIN_SECONDS]
    (event,) = store.events("spring")
    assert (event.at, event.key) == (claimed.at, claimed.key)
    assert "clock_ahead" in event.reasons
    assert counted(store, "clicked_strict") == 0
    assert_consistent(store)


def test_an_event_that_comes_days_late_counts_from_when_it_happened(store: Store) -> None:
    store.record([hit(EventType.CLICKED, 0, 1_200)], now=NOW + timedelta(days=9))
    _, _, bins, _ = store.tally("spring", n_cells=2).rows("clicked")
    assert bins.tolist() == [1_200 // BIN_SECONDS]


@pytest.mark.parametrize("named", ["by id", "by recipient"])
def test_events_that_came_before_their_message_are_joined_when_it_is_known(store_url: str, named: str) -> None:
    events = [hit(EventType.OPENED, 0, 900), hit(EventType.CLICKED, 1, 900), hit(EventType.UNSUBSCRIBED, 2, 950)]
    if named == "by recipient":
        events = [
            replace(event, message_id="", experiment="spring", recipient=f"r{int(event.message_id, 16)}", key="")
            for event in events
        ]
    stray = hit(EventType.OPENED, 999, 900)
    with Store(store_url) as store:
        assert store.record([*events, stray], now=LATER) == [Recorded.UNKNOWN_MESSAGE] * 4
        send(store)
        assert (counted(store, "opened"), counted(store, "clicked"), counted(store, "sent")) == (1, 1, N - 1)
        assert store.suppressed() == {"r2@c0.example": "unsubscribed"}
        assert store.record(events, now=LATER) == [Recorded.DUPLICATE] * 3
        assert_consistent(store)
        with store._read() as db:
            assert db.execute(sa.select(_tables.unmatched_events.c.key)).scalars().all() == [stray.key]


@pytest.mark.parametrize("broken", ["judge_around", "add_to_counts"])
def test_a_transaction_that_fails_half_way_leaves_neither_event_nor_count(
    store: Store, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.record([hit(EventType.CLICKED, 0, 1_000, link=1)], now=LATER)
    before = verdicts(store), store.tally("spring", n_cells=2).n.tolist()
    real = getattr(_outcomes, broken)

    def fail(*arguments: object, **named: object) -> None:
        real(*arguments, **named)
        raise RuntimeError("the power failed")

    burst = [hit(EventType.CLICKED, 0, 1_000 + n, link=n) for n in (2, 3)]
    with monkeypatch.context() as patch:
        patch.setattr(_outcomes, broken, fail)
        with pytest.raises(RuntimeError):
            store.record(burst, now=LATER)
    assert (verdicts(store), store.tally("spring", n_cells=2).n.tolist()) == before
    assert_consistent(store)
    store.record(burst, now=LATER)
    assert (counted(store, "clicked"), counted(store, "clicked_all")) == (0, 1)
    assert_consistent(store)


def test_whose_report_counts_is_the_own_tracker_else_the_first_that_reported(store: Store) -> None:
    def from_(source: str, number: int, seconds: float) -> Event:
        return hit(EventType.CLICKED, number, seconds, source=source, facts=None)

    store.record([from_("sendgrid", 0, 900), from_("postmark", 1, 950)], now=LATER)
    assert counted(store, "clicked") == 1
    store.record([from_("postmark", 2, 500)], now=LATER)
    assert counted(store, "clicked") == 2  # it is postmark that was first
    store.record([from_("own", 3, 2_000)], now=LATER)
    assert counted(store, "clicked") == 1
    assert len(verdicts(store)) == 4
    assert_consistent(store)


def test_a_database_of_the_version_before_keeps_its_verdicts_and_finds_its_strays(empty_url: str) -> None:
    from abmail import _database
    from abmail.store import upgrade

    migrate_to(empty_url, "0006")
    engine = _database.create_engine(empty_url)
    with engine.begin() as db:
        stray = hit(EventType.OPENED, 3, 900, facts=None).to_dict()
        del stray["facts"]
        db.execute(
            sa.text(
                "INSERT INTO events (key, type, at, seen_at, verdict, body) VALUES (:k, 'opened', :t, :t, 'human', :b)"
            ),
            {"k": stray["key"], "t": "2026-03-02 09:15:00", "b": __import__("json").dumps(stray)},
        )
        db.execute(
            sa.text(
                "INSERT INTO recipients (id, email, attributes, imported_at) VALUES ('r3', 'r3@c0.example', '{}', :t)"
            ),
            {"t": "2026-03-02 08:00:00"},
        )
    engine.dispose()
    assert upgrade(empty_url) == ("0006", _tables.SCHEMA_REVISION)
    with Store(empty_url) as store:
        with store._read() as db:
            assert db.execute(sa.select(_tables.recipients.c.domain)).scalars().all() == ["c0.example"]
            assert db.execute(sa.select(_tables.events.c.source)).scalars().all() == ["own"]
        send(store)
        assert counted(store, "opened") == 1
        assert_consistent(store)


def test_judging_reads_only_the_neighbourhood(store: Store) -> None:
    of_company = [replace(CHROME, network=f"office {n}") for n in range(N)]
    store.record([hit(EventType.CLICKED, n, 50_000 + 400 * n, facts=of_company[n // 4]) for n in range(N)], now=LATER)
    read: list[str] = []
    real = _judging.seen_of

    def noted(row: Any) -> _judging.Seen:
        read.append(row.key)
        return real(row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_judging, "seen_of", noted)
        store.record([hit(EventType.CLICKED, 7, 90_000, facts=of_company[1])], now=LATER)
        assert len(read) <= 4
        for module in (_judging, _verdict_around):
            patch.setattr(module, "NEIGHBOURS", 2)
        store.record([hit(EventType.CLICKED, n, 60_000 + 400 * n) for n in range(N)], now=LATER)
        read.clear()
        store.record([hit(EventType.CLICKED, 7, 90_020)], now=LATER)
        assert len(read) <= 17  # its mail, itself in its network, and the mails of its nearest clicks


# --- judging anew -----------------------------------------------------------------------------------------------------


def stricter(patch: pytest.MonkeyPatch) -> None:
    """Rules of a later version, to which two links within ten seconds are a burst."""
    patch.setattr(_verdict_rules, "_LINKS", 2)
    patch.setattr(_judging, "RULES_VERSION", RULES_VERSION + 1)
    patch.setattr(_outcomes, "RULES_VERSION", RULES_VERSION + 1)
    written = _judging._REJUDGE.values(rules=RULES_VERSION + 1)
    patch.setattr(_judging, "_REJUDGE", written)


def two_links(store: Store, *, people: int = 6) -> None:
    alone = replace(CHROME, network="")
    for number in range(people):
        at = 1_000 + 200 * number
        clicks = [hit(EventType.CLICKED, number, at + 6 * link, link=link, facts=alone) for link in (1, 2)]
        store.record(clicks, now=LATER)


def test_new_rules_judge_old_events_and_correct_the_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    two_links(store)
    assert counted(store, "clicked") == 6
    assert store.rejudged("spring", n_cells=2).events == 0
    stricter(monkeypatch)
    shown = store.rejudged("spring", n_cells=2)
    assert (shown.events, shown.touched) == (12, 12)
    assert shown.moves == {(0, "clicked", "human", "machine"): 6, (1, "clicked", "human", "machine"): 6}
    assert shown.tally.matrix("clicked").sum() == 0
    assert counted(store, "clicked") == 6  # it was only shown
    assert store.rejudge("spring", now=LATER) == 12
    assert [counted(store, f"clicked{view}") for view in ("", "_all", "_machine")] == [0, 6, 6]
    assert shown.tally.n.tolist() == store.tally("spring", n_cells=2).n.tolist()
    assert store.rejudge("spring", now=LATER) == 0
    assert_consistent(store)


def test_judging_anew_goes_on_where_it_was_broken_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    two_links(store)
    stricter(monkeypatch)
    monkeypatch.setattr(_rejudging, "_CHUNK", 2)
    parts: list[int] = []
    real = _judging.write_verdicts

    def third_fails(db: sa.Connection, changed: Any, *, now: datetime) -> None:
        real(db, changed, now=now)
        parts.append(len(changed))
        if len(parts) == 3:
            raise RuntimeError("the power failed")

    with monkeypatch.context() as patch:
        patch.setattr(_rejudging, "write_verdicts", third_fails)
        with pytest.raises(RuntimeError):
            store.rejudge("spring", now=LATER)
    assert parts == [4, 4, 4]
    assert counted(store, "clicked") == 2  # two parts are through, with their counts; the third left nothing
    kept, anew = store.tally("spring", n_cells=2), store.recount("spring", n_cells=2)
    assert kept.n.tolist() == anew.n.tolist()
    assert store.rejudge("spring", now=LATER) == 4
    assert counted(store, "clicked") == 0
    assert_consistent(store)


def test_verdicts_that_change_after_the_provisional_time_are_told(store: Store) -> None:
    first = NOW + timedelta(seconds=2_000)
    store.record([hit(EventType.CLICKED, 0, 2_000, link=1)], now=first)
    store.record([hit(EventType.CLICKED, 1, 2_000, link=1)], now=first)
    burst = [hit(EventType.CLICKED, 0, 2_000 + 2 * n, link=n) for n in (2, 3)]
    store.record(burst, now=first + timedelta(seconds=600))
    burst = [hit(EventType.CLICKED, 1, 2_000 + 2 * n, link=n) for n in (2, 3)]
    store.record(burst, now=first + timedelta(seconds=100))
    assert store.snapshot("spring", n_cells=2, provisional=300.0).facts.reclassified == 1


def test_what_is_provisional_is_left_out_of_what_shares_go_by(store: Store) -> None:
    for number, seconds in ((0, 1_000), (1, 1_000), (2, 1_250), (3, 1_295)):
        seen_at = NOW + timedelta(seconds=seconds)
        alone = replace(CHROME, network="")
        click = hit(EventType.CLICKED, number, 900, facts=alone, source="sendgrid")
        store.record([click, hit(EventType.UNSUBSCRIBED, number, 900, facts=None)], now=seen_at)
    now = NOW + timedelta(seconds=1_300)
    settled = store.snapshot("spring", n_cells=2, provisional=120.0, settled_at=now).tally
    assert settled.matrix("clicked").sum() == settled.matrix("clicked_all").sum() == 2
    assert settled.matrix("unsubscribed").sum() == 4
    assert settled.matrix("sent").sum() == N
    assert store.snapshot("spring", n_cells=2, provisional=120.0).tally.matrix("clicked").sum() == 4


def test_a_definition_may_say_whose_reports_count(store: Store) -> None:
    told = [hit(EventType.CLICKED, n, 900, source=source, facts=None) for n, source in ((0, "own"), (1, "postmark"))]
    store.record([*told, hit(EventType.CLICKED, 2, 900, source="postmark", facts=None)], now=LATER)
    assert counted(store, "clicked") == 1
    definition = {"name": "spring", "metrics": {"sources": {"clicked": "postmark"}}}
    store.apply(
        "spring", spec_hash="h2", content_hash="c2", definition=definition, template="<p>", text_template=None,
        waves=[N], messages=lambda _: [], after_version=1, now=LATER,
    )  # fmt: skip
    assert counted(store, "clicked") == 2
    assert store.snapshot("spring", n_cells=2).facts.beside == {("clicked", "own"): 1}
    assert_consistent(store)
