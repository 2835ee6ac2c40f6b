"""What the account knows of when people read: from the store and from exports, as the commands show it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from command import run

from abmail import Experiment, Recipient
from abmail._habits import clock_hour, joined, model_page, why_page
from abmail.engine import Engine
from abmail.events import Event, EventType, Verdict
from abmail.project import Project
from abmail.send import Memory
from abmail.sendtime import History, SendTime

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def sent(store_url: str) -> Iterator[tuple[Engine, Memory]]:
    transport = Memory()
    exp = Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"},
    })  # fmt: skip
    people = [
        Recipient(id=f"r{i}", email=f"r{i}@example.com", attributes={"stage": "hot" if i else "cold"}) for i in range(5)
    ]
    with Engine(store_url, transport=transport, secret=b"0123456789abcdef", clock=lambda: NOW) as engine:
        engine.apply(engine.plan(exp, people, template="<p>Hi</p>"))
        engine.tick()
        yield engine, transport


def test_the_store_tells_who_was_mailed_when_and_who_opened(sent: tuple[Engine, Memory]) -> None:
    engine, transport = sent
    of = {mail.recipient: mail.message_id for mail in transport.messages}

    def happens(who: str, kind: EventType, after: timedelta, verdict: Verdict = Verdict.HUMAN) -> None:
        mail = of[f"{who}@example.com"]
        engine.record(Event(type=kind, at=NOW + after, message_id=mail, verdict=verdict), now=NOW + after)

    happens("r0", EventType.OPENED, 5 * HOUR)
    happens("r0", EventType.OPENED, 2 * HOUR)
    happens("r1", EventType.OPENED, HOUR, Verdict.MACHINE)
    happens("r2", EventType.OPENED, HOUR, Verdict.MACHINE)
    happens("r2", EventType.OPENED, 3 * HOUR)
    happens("r2", EventType.CLICKED, 4 * HOUR)

    assert len(engine.send_history(now=NOW + timedelta(hours=71))) == 0  # not over yet
    found = engine.send_history(now=NOW + timedelta(hours=72), by="stage")
    row = {str(who): i for i, who in enumerate(found.recipient)}
    assert sorted(row) == ["r0", "r1", "r2", "r3", "r4"]
    start = NOW.timestamp()
    assert set(found.sent_at) == {start}
    assert found.opened_at[[row["r0"], row["r2"]]].tolist() == [start + 7_200, start + 10_800]
    assert np.isnan(found.opened_at[[row["r1"], row["r3"], row["r4"]]]).all()
    assert found.clicked_at is not None
    assert found.clicked_at[row["r2"]] == start + 14_400
    assert found.machine is not None
    assert np.flatnonzero(found.machine).tolist() == [row["r1"]]
    assert found.segment is not None
    assert found.segment[row["r0"]] == "cold"
    assert found.campaign is not None
    assert set(found.campaign) == {"spring"}


def test_an_export_joins_the_mails_of_the_store_and_its_addresses_become_ids() -> None:
    own = History.of(["r1"], [0.0], [math.nan], campaign=["spring"], zone=["Asia/Tokyo"], machine=[True])
    export = History.of(["a@example.com", "b@example.com"], [1.0, 2.0], [3.0, math.nan], clicked_at=[4.0, math.nan])
    both = joined([own, export], zone="Europe/Berlin", ids={"a@example.com": "r1"})
    assert both.recipient.tolist() == ["r1", "r1", "b@example.com"]
    assert both.campaign is not None
    assert both.campaign.tolist() == ["spring", "history 1", "history 1"]
    assert np.asarray(both.zone).tolist() == ["Asia/Tokyo", "Europe/Berlin", "Europe/Berlin"]
    assert both.machine is not None
    assert both.machine.tolist() == [True, False, False]
    assert both.clicked_at is not None
    assert both.clicked_at[1] == 4.0
    assert np.isnan(both.clicked_at[[0, 2]]).all()


def evenings() -> SendTime:
    """40 people who open every second mail at 20:00 local time, whenever it was sent."""
    start = datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp()
    sent_at = np.repeat(start + 86_400.0 * 4 * np.arange(10), 40)
    opened = np.where(np.arange(400) % 2 == 0, sent_at + 10 * 3_600, math.nan)
    who = [f"p{i}" for i in range(40)] * 10
    return SendTime.fit(who, sent_at, opened, campaign=np.repeat(np.arange(10), 40), zone="UTC")


def test_a_page_names_the_hours_at_which_people_read() -> None:
    model = evenings()
    page = model_page(model)
    assert "40 recipients are known" in page
    assert "20:00" in page.splitlines()[1]
    assert [line.split()[0] for line in page.splitlines()[5:12]] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    why = why_page(model.why("p0", list(range(168)), fixed=34))
    assert "Best hour:" in why
    assert clock_hour(34) == "Tue 10:00"
    assert "Sent at Tue 10:00, about" in why
    assert "the control group shows the gain" in why
    assert "最適な時間" in why_page(model.why("p0", list(range(168)), fixed=34), "ja")


def test_a_history_is_learned_from_and_shown_from_the_command_line(tmp_path: Path) -> None:
    run(tmp_path, "init", "p")
    folder = tmp_path / "p"
    refused = run(folder, "sendtime", "show", status=2)
    assert "abmail sendtime fit" in refused.stderr
    rows = ["email,sent at,opened at"]
    for day in range(2, 12):
        rows += [f"p{i}@example.com,2026-03-{day:02d} 09:00,2026-03-{day:02d} 20:15" for i in range(20)]
    (folder / "past.csv").write_text("\n".join([*rows, "nobody,2026-03-02 09:00,"]), encoding="shift_jis")
    learned = run(folder, "sendtime", "fit", "--history", "past.csv", "--clock", "Asia/Tokyo", status=1)
    assert "past.csv:202: 'n***' is not a usable e-mail address" in learned.stderr
    assert "nearly all mail went out at one hour of the day (09:00 for 100%)" in learned.stderr
    assert "200 mails to 20 recipients, 200 opened by people" in learned.stdout
    values = json.loads(run(folder, "sendtime", "show", "p3@example.com", "--format", "json").stdout)
    assert values["known"]
    assert values["best"] % 24 in {18, 19, 20}
    assert "Busiest" in run(folder, "sendtime", "show").stdout


def test_who_reads_at_tokyos_hours_is_told_to_live_there_by_a_zone_of_a_fixed_offset(tmp_path: Path) -> None:
    """Berlin's office hours for most, Tokyo's for ten of whom no zone is known; all are mailed all day long."""
    day, n = 86_400, 60
    rng = np.random.default_rng(11)
    who, nth = np.repeat(np.arange(n), 80), np.tile(np.arange(80), n)
    start = datetime(2026, 1, 12, tzinfo=UTC).timestamp() + day * nth
    sent = start + 3600 * rng.integers(0, 24, len(who))
    looks_in = np.where(who < 10, 0.0, 8.0) + rng.integers(0, 9, len(who))  # UTC: 9 to 18 o'clock there and here
    at = start + 3600 * looks_in + rng.uniform(0, 3600, len(who))
    at = np.where(at < sent, at + day, at)
    opened = np.where(rng.random(len(who)) < 0.5, at, np.nan)
    Project.init(tmp_path)
    stamps = [["" if math.isnan(t) else f"{datetime.fromtimestamp(t, UTC):%Y-%m-%dT%H:%M:%SZ}" for t in column.tolist()]
              for column in (sent, opened)]  # fmt: skip
    rows = "".join(f"r{i}@x{i}.example.com,{at},{seen}\n" for i, at, seen in zip(who.tolist(), *stamps, strict=True))
    (tmp_path / "past.csv").write_text("recipient,sent,opened\n" + rows, encoding="utf-8")
    zones = ["" if i < 10 or i > 54 else "Europe/Berlin" for i in range(n)]
    listed = "".join(f"r{i},r{i}@x{i}.example.com,{zone},shop\n" for i, zone in enumerate(zones))
    (tmp_path / "list.csv").write_text("id,email,zone,trade\n" + listed, encoding="utf-8")
    run(tmp_path, "audience", "import", "list.csv")

    done = run(
        tmp_path, "sendtime", "zones", "--history", "past.csv", "--clock", "Europe/Berlin", "-o", "elsewhere.csv"
    )
    head, *told = (tmp_path / "elsewhere.csv").read_text(encoding="utf-8").splitlines()
    assert head == "id,email,zone,zone_probability,trade"
    found = {row.split(",")[0]: row.split(",")[2] for row in told}
    assert found.keys() <= {f"r{i}" for i in range(10)}
    assert len(found) >= 8
    assert set(found.values()) <= {"Etc/GMT-8", "Etc/GMT-9", "Etc/GMT-10"}
    assert Counter(found.values()).most_common(1)[0][0] == "Etc/GMT-9"
    assert f"{len(found)} of 15 recipients without a zone" in done.stderr
