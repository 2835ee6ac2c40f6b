"""What is kept of people: shown to them, erased for them, and dropped in time; the counts stay."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from abmail import Experiment, Recipient, SendTime
from abmail._erasure import Forgotten
from abmail._event_notes import note_of, told_of
from abmail.cli import _run
from abmail.engine import Engine
from abmail.errors import ConfigError, StoreError
from abmail.events import Event, EventType, RequestFacts, Signer, Verdict
from abmail.project import Project
from abmail.send import Memory
from abmail.store import State, Store

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECRET = b"0123456789abcdef"
WHO, ADDRESS = "hanako-77", "hanako.secret@example.com"


def definition(name: str, **more: object) -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": name, "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"}, "metrics": {"window": "24h", "value": {"unit": "EUR"}}, **more,
    })  # fmt: skip


class Account:
    """Two experiments that went out to sixty people, of whom many opened, clicked, bought, bounced or unsubscribed."""

    def __init__(self, url: str) -> None:
        self.now = NOW
        self.engine = Engine(url, transport=Memory(), secret=SECRET, clock=lambda: self.now)

    def live(self) -> None:
        people = [Recipient(id=f"r{i}", email=f"p{i}@example.com", attributes={"stage": "hot"}) for i in range(60)]
        people.append(Recipient(id=WHO, email=ADDRESS, attributes={"city": "Kobe-shi-secret"}, zone="Asia/Tokyo"))
        for experiment in (definition("spring"), definition("summer")):
            self.engine.apply(self.engine.plan(experiment, people, template="<p>Hi</p>"))
            self.engine.tick()
            for_all = [self.happened(experiment.name, i, person.id) for i, person in enumerate(people)]
            self.engine.record_all(event for each in for_all for event in each)
            self.now += timedelta(days=3)
        self.engine.record(Event(type=EventType.OPENED, at=NOW, experiment="autumn", recipient=WHO, detail=ADDRESS))

    def happened(self, name: str, number: int, recipient: str) -> Iterator[Event]:
        mail = self.engine.signer.message_id(name, recipient)
        at = self.now + timedelta(minutes=7 * number % 120)
        rates = {EventType.OPENED: 2, EventType.CLICKED: 3, EventType.CONVERTED: 4, EventType.UNSUBSCRIBED: 15}
        for kind, every in rates.items():
            if number % every == 0 and (kind is not EventType.UNSUBSCRIBED or recipient != WHO):
                value = 10.1 * number if kind is EventType.CONVERTED else None
                verdict = Verdict.MACHINE if number % 12 == 6 else Verdict.HUMAN
                yield Event(type=kind, at=at, message_id=mail, value=value, verdict=verdict, detail=f"of {recipient}")

    def report(self, name: str, **options: str) -> str:
        return json.dumps(self.engine.analyze(name, **options).to_dict(), sort_keys=True)  # type: ignore[arg-type]

    def text(self) -> str:
        """Everything that the database holds, as text."""
        engine = sa.create_engine(self.engine.store._engine.url)
        found = []
        with engine.connect() as db:
            tables = sa.MetaData()
            tables.reflect(engine)
            for table in tables.tables.values():
                found += [repr(tuple(row)) for row in db.execute(sa.select(table))]
        engine.dispose()
        return "\n".join(found)


@pytest.fixture
def account(store_url: str) -> Iterator[Account]:
    opened = Account(store_url)
    opened.live()
    yield opened
    opened.engine.close()


def test_a_forgotten_person_is_nowhere_and_the_reports_are_the_same_to_the_byte(account: Account) -> None:
    engine = account.engine
    engine.store.suppress([ADDRESS], reason="asked by phone", now=NOW)
    before = [account.report(name) for name in ("spring", "summer")]
    tallies = [engine.store.tally(name, n_cells=2).n.tolist() for name in ("spring", "summer")]
    mails = [engine.signer.message_id(name, WHO) for name in ("spring", "summer")]
    text = account.text()
    assert all(each in text for each in (WHO, ADDRESS, "Kobe-shi-secret", *mails))

    looked = engine.forget(ADDRESS, dry_run=True)
    assert looked == Forgotten(
        recipient=WHO, messages=tuple(mails), waiting=0, events=6, apart=1, suppression="asked by phone"
    )
    assert account.text() == text
    assert engine.forget(ADDRESS) == looked

    text = account.text()
    for trace in (WHO, ADDRESS, "Kobe-shi-secret", "hanako", *mails):
        assert trace not in text
    assert [account.report(name) for name in ("spring", "summer")] == before
    assert [engine.store.tally(name, n_cells=2).n.tolist() for name in ("spring", "summer")] == tallies
    for name in ("spring", "summer"):
        again, kept = engine.store.recount(name, n_cells=2), engine.store.tally(name, n_cells=2)
        assert again.matrix("clicked").tolist() == kept.matrix("clicked").tolist()
        assert sum(engine.store.states(name).values()) == {"spring": 61, "summer": 58}[name]
    assert engine.store.count_recipients() == 60
    assert all(each.email.endswith("@example.com") for each in engine.store.recipients())


def test_to_forget_again_changes_nothing_and_says_since_when(account: Account) -> None:
    account.engine.forget(ADDRESS)
    text, first = account.text(), account.now
    account.now += timedelta(days=5)
    again = account.engine.forget(ADDRESS)
    assert again == Forgotten(before=first)
    assert account.text() == text


def test_whoever_was_forgotten_is_never_mailed_again_not_even_after_a_new_import(account: Account) -> None:
    engine = account.engine
    engine.forget(ADDRESS)
    engine.forget("never.seen@example.com")
    newcomers = [
        Recipient(id="x1", email=ADDRESS), Recipient(id="x2", email="never.seen@example.com"),
        Recipient(id="x3", email="other@example.com"),
    ]  # fmt: skip
    imported = engine.store.import_recipients(newcomers, now=NOW)
    assert (imported.new, imported.forgotten) == (1, ("x1", "x2"))
    transport = Memory()
    with Engine(
        engine.store._engine.url.render_as_string(hide_password=False), transport=transport, secret=SECRET
    ) as e:
        e.apply(e.plan(definition("spring"), newcomers, template="<p>Hi</p>"), now=account.now)
        e.apply(e.plan(definition("autumn"), template="<p>Hi</p>"), now=account.now)
        e.tick(now=account.now)
    to = {mail.recipient for mail in transport.messages}
    assert "other@example.com" in to
    assert not to & {ADDRESS, "never.seen@example.com"}
    assert not any("erased" in each for each in to)


def test_the_hash_is_of_no_use_without_the_key_and_a_store_without_it_takes_nobody_in(account: Account) -> None:
    account.engine.forget(ADDRESS)
    url = account.engine.store._engine.url.render_as_string(hide_password=False)
    with Store(url) as store, pytest.raises(StoreError, match="without the signing key nobody can tell who"):
        store.import_recipients([Recipient(id="x", email=ADDRESS)], now=NOW)
    with Engine(url, secret=b"another secret, 16 bytes") as other:
        assert other.store.import_recipients([Recipient(id="x", email=ADDRESS)], now=NOW).forgotten == ()
    first, second = Signer(SECRET, previous=[b"an older secret 16"]).fingerprints(ADDRESS)
    assert (first,) == Signer(SECRET).fingerprints(ADDRESS)
    assert (second,) == Signer(b"an older secret 16").fingerprints(ADDRESS)


def test_mails_that_wait_are_not_sent_and_failed_ones_are_not_tried_again(store_url: str) -> None:
    transport = Memory()
    with Engine(store_url, transport=transport, secret=SECRET, clock=lambda: NOW) as engine:
        people = [Recipient(id=f"r{i}", email=f"p{i}@example.com") for i in range(4)]
        engine.apply(engine.plan(definition("spring"), people, template="<p>Hi</p>"))
        found = engine.forget("p1@example.com")
        assert (found.waiting, len(found.messages)) == (1, 1)
        assert engine.store.states("spring") == {State.QUEUED: 3, State.SUPPRESSED: 1}
        engine.tick()
        assert {mail.recipient for mail in transport.messages} == {f"p{i}@example.com" for i in (0, 2, 3)}
        with engine.store._write() as db:
            db.execute(sa.text("UPDATE messages SET state = 'failed' WHERE recipient = 'r2'"))
        engine.forget("p2@example.com")
        assert engine.retry("spring") == 1
        engine.tick()
        assert len(transport.messages) == 3
        assert engine.store.states("spring") == {State.SENT: 2, State.SUPPRESSED: 2}


def test_nothing_is_erased_while_a_mail_to_the_person_is_on_its_way(account: Account) -> None:
    with account.engine.store._write() as db:
        db.execute(
            sa.text("UPDATE messages SET state = 'sending' WHERE recipient = :r AND experiment = 'summer'"), {"r": WHO}
        )
    text = account.text()
    with pytest.raises(StoreError, match="on its way right now"):
        account.engine.forget(ADDRESS)
    assert account.text() == text


def test_of_a_database_file_not_even_the_bytes_remain(tmp_path: Path) -> None:
    account = Account(f"sqlite:///{tmp_path / 'mail.db'}")
    account.live()
    holds = [ADDRESS.encode(), b"Kobe-shi-secret", WHO.encode()]

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(tmp_path.glob("mail.db*")))

    assert all(each in files() for each in holds)
    account.engine.forget(ADDRESS)
    assert not any(each in files() for each in holds)
    account.engine.close()


def test_the_file_of_send_times_forgets_one_person_and_keeps_the_others(tmp_path: Path) -> None:
    sent = np.repeat(NOW.timestamp() - np.arange(1, 5) * 7 * 86_400.0, 3)
    model = SendTime.fit(["a", "b", WHO] * 4, sent, sent + 3_600.0)
    without = model.without(WHO)
    assert len(without) == 2
    assert without.without("nobody") is without
    slots = list(range(168))
    assert np.array_equal(without.score(["a", "b"], slots), model.score(["a", "b"], slots))
    assert np.array_equal(without.score([WHO], slots), model.score(["a stranger"], slots))
    model.save(tmp_path / "sendtime.npz")
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    with Engine(url, secret=SECRET, send_times=tmp_path / "sendtime.npz") as engine:
        engine.store.import_recipients([Recipient(id=WHO, email=ADDRESS)], now=NOW)
        assert engine.person(ADDRESS)["send_time"]
        assert engine.forget(ADDRESS, dry_run=True).in_send_times
        assert len(SendTime.load(tmp_path / "sendtime.npz")) == 3
        assert engine.forget(ADDRESS).in_send_times
        assert len(SendTime.load(tmp_path / "sendtime.npz")) == 2


def test_a_person_is_told_all_that_is_kept_of_them(account: Account) -> None:
    account.engine.store.suppress([ADDRESS], reason="asked by phone", now=NOW)
    found: dict[str, object] = json.loads(json.dumps(account.engine.person(ADDRESS)))
    assert found["format_version"] == 1
    assert found["recipient"] == {
        "id": WHO, "attributes": {"city": "Kobe-shi-secret"}, "zone": "Asia/Tokyo", "domain": "example.com",
        "imported_at": NOW.isoformat(),
    }  # fmt: skip
    assert found["suppressed"] == {"reason": "asked by phone", "at": NOW.isoformat()}
    mails = found["mails"]
    assert isinstance(mails, list)
    assert [mail["experiment"] for mail in mails] == ["spring", "summer"]
    assert {mail["variant"] for mail in mails} <= {"plain", "number"}
    assert [len(mail["events"]) for mail in mails] == [3, 3]
    assert found["other_events"] == [{
        "type": "opened", "at": NOW.isoformat(), "experiment": "autumn", "recipient": WHO, "verdict": "human",
        "source": "own", "detail": ADDRESS, "hard": False, "key": found["other_events"][0]["key"],  # type: ignore[index]
    }]  # fmt: skip
    account.engine.forget(ADDRESS)
    after = account.engine.person(ADDRESS)
    assert (after["recipient"], after["mails"], after["forgotten_at"]) == (None, [], account.now.isoformat())


# --- retention --------------------------------------------------------------------------------------------------------


def test_what_is_old_is_dropped_and_every_number_of_the_reports_is_the_same_to_the_byte(account: Account) -> None:
    account.now = NOW + timedelta(days=401)
    engine, keep = account.engine, timedelta(days=400)
    reports = {name: account.report(name) for name in ("spring", "summer")}
    looked = engine.retire(keep=keep, dry_run=True)
    text = account.text()
    assert (looked.messages, looked.experiments) == (61, ("spring",))
    assert engine.retire(keep=keep) == looked
    assert {name: account.report(name) for name in reports} == reports
    after = account.text()
    assert text.count("of hanako-77") > after.count("of hanako-77") > 0  # the later experiment's events are younger
    assert engine.signer.message_id("spring", WHO) in text
    assert engine.signer.message_id("spring", WHO) not in after
    assert engine.signer.message_id("summer", WHO) in after
    assert engine.store.count_recipients() == 61
    again = engine.retire(keep=keep)
    assert (again.messages, again.bodies, again.apart) == (0, 0, 0)
    assert account.text() == after

    account.now += timedelta(days=10)
    reports = {name: account.report(name) for name in reports}
    done = engine.retire(keep=keep)
    assert (done.messages, done.apart, done.experiments) == (58, 9, ("spring", "summer"))
    assert {name: account.report(name) for name in reports} == reports
    assert "of hanako-77" not in account.text()


def test_an_experiment_whose_mails_were_cut_loose_takes_nobody_in_any_more(account: Account) -> None:
    account.now = NOW + timedelta(days=500)
    account.engine.retire(keep=timedelta(days=400))
    assert {each.name: each.state for each in account.engine.store.experiments()} == {
        "spring": "finished", "summer": "finished",
    }  # fmt: skip
    plan = account.engine.plan(definition("spring"), template="<p>Hi</p>")
    with pytest.raises(StoreError, match="has ended"):
        account.engine.apply(plan)


def test_what_waits_or_is_young_is_left_alone(store_url: str) -> None:
    with Engine(store_url, transport=Memory(), secret=SECRET, clock=lambda: NOW) as engine:
        people = [Recipient(id=f"r{i}", email=f"p{i}@example.com") for i in range(40)]
        engine.apply(engine.plan(definition("spring"), people, template="<p>Hi</p>"))
        done = engine.retire(keep=timedelta(days=1), now=NOW + timedelta(days=900))
        assert (done.messages, done.experiments) == (0, ())


# --- command line -----------------------------------------------------------------------------------------------------


def test_the_commands_tell_what_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str, status: int = 0) -> str:
        assert _run(arguments) == status
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.out + said.err

    monkeypatch.chdir(tmp_path)
    command("init", ".")
    Path("leads.csv").write_text("email,city\nhanako@example.jp,Kobe\ntaro@example.jp,Nara\n", encoding="utf-8")
    command("new", "spring")
    command("audience", "import", "leads.csv")
    command("apply", "spring")
    command("send", "spring", "--yes")
    assert len(list(Path("outbox").glob("*.eml"))) == 2

    assert "say --yes" in command("forget", "hanako@example.jp", status=2)
    assert "not a usable e-mail address" in command("forget", "hanako", status=2)
    said = command("forget", "Hanako@Example.JP", "--dry-run")
    assert said == "would be erased:\n  the recipient with all attributes\n  the person behind 1 mails\n"
    assert "Kobe" in command("person", "export", "hanako@example.jp")
    assert "city: Kobe" in command("person", "export", "hanako@example.jp", "--format", "text")
    said = command("forget", "hanako@example.jp", "--yes")
    assert "erased; a hash keeps the address out of every list from now on:" in said
    assert "1 mails in outbox/" in said
    assert len(list(Path("outbox").glob("*.eml"))) == 1
    assert "nothing to erase: the address was erased on" in command("forget", "hanako@example.jp", "--yes")
    assert "is not known here" in command("forget", "jiro@example.jp", "--dry-run")
    assert "This address was erased on" in command("person", "export", "hanako@example.jp", "--format", "text")
    assert "Nothing." in command("person", "export", "jiro@example.jp", "--format", "text")
    said = command("audience", "import", "leads.csv", status=1)
    assert "recipient hanako@example.jp: asked to be forgotten" in said
    assert "0 new, 0 updated, 1 unchanged, 1 skipped" in said
    command("report", "spring")

    assert "say how long data is kept" in command("retention", "run", status=2)
    said = command("retention", "run", "--keep", "400d", "--dry-run")
    assert said.startswith("0 mails of 0 ended experiments would be cut loose")
    toml = Path("abmail.toml").read_text(encoding="utf-8")
    Path("abmail.toml").write_text(f'{toml}\n[privacy]\nkeep = "1s"\n', encoding="utf-8")
    time.sleep(1.1)
    assert command("retention", "run").startswith("1 mails of 1 ended experiments were cut loose")
    command("report", "spring")
    Path("abmail.toml").write_text(f'{toml}\n[privacy]\nkeep = "soon"\n', encoding="utf-8")
    assert "privacy.keep" in command("retention", "run", status=2)
    Path("abmail.toml").write_text(f'{toml}\n[privacy]\nkepe = "1d"\n', encoding="utf-8")
    assert "unknown setting 'privacy.kepe'" in command("status", status=2)


def test_the_setting_can_come_from_the_environment(tmp_path: Path) -> None:
    project, _ = Project.init(tmp_path / "p")
    assert project.keep is None
    assert Project.find(tmp_path / "p", environ={"ABMAIL_PRIVACY_KEEP": "2w"}).keep == timedelta(days=14)
    with pytest.raises(ConfigError, match="environment variable ABMAIL_PRIVACY_KEEP"):
        _ = Project.find(tmp_path / "p", environ={"ABMAIL_PRIVACY_KEEP": "x"}).keep
    shutil.rmtree(tmp_path / "p")


def test_where_companies_are_the_unit_their_people_stay_together_and_nobody_else(store_url: str) -> None:
    with Engine(store_url, transport=Memory(), secret=SECRET, clock=lambda: NOW) as engine:
        experiment = definition("spring", audience={"unit": "company"})
        homes = ["gmail.com" if i % 4 == 0 else f"c{i // 5}.example.com" for i in range(200)]
        people = [Recipient(id=f"r{i}", email=f"p{i}@{home}") for i, home in enumerate(homes)]
        engine.apply(engine.plan(experiment, people, template="<p>Hi</p>"))
        engine.tick()
        engine.record_all(
            Event(
                type=EventType.CLICKED,
                at=NOW + timedelta(hours=1),
                message_id=engine.signer.message_id("spring", f"r{i}"),
            )
            for i in range(0, 200, 3)
        )
        later = NOW + timedelta(days=500)
        before = json.dumps(engine.analyze("spring", now=later).to_dict())
        assert '"intervals"' in before or "compan" in before
        assert engine.retire(keep=timedelta(days=400), now=later).messages == 200
        assert json.dumps(engine.analyze("spring", now=later).to_dict()) == before


def test_what_the_tracker_saw_and_nobody_judged_yet_is_taken_in_before_a_person_is_erased(account: Account) -> None:
    engine = account.engine
    mail = engine.signer.message_id("spring", WHO)
    token = engine.signer.verify(
        "c", engine.signer.sign("c", mail, link=9, target="https://x.jp/"), target="https://x.jp/"
    )
    assert token is not None
    seen_at = int((NOW + timedelta(hours=9)).timestamp() * 1e6)
    told = told_of(RequestFacts(family="secret/agent"))
    engine.journal([note_of(EventType.CLICKED, token.message_id, token.link, seen_at, told, "")])
    engine.forget(ADDRESS)
    assert engine.store.backlog().size == 0
    assert mail not in account.text()
    assert "secret/agent" not in account.text()
    assert sum(event.link == 9 for event in engine.store.events("spring")) == 1
