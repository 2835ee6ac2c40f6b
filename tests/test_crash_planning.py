"""kill -9 in the middle of planning (the list, hours, variants, a claim): done again, everybody gets one mail."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from abmail import _releases, store
from abmail.engine import Engine
from abmail.recipient import Recipient
from abmail.render import RenderedMessage
from abmail.send import Memory
from abmail.spec import Experiment
from abmail.store import State, Store

PEOPLE = 24
PART = 8  # people at a time, so that there is a middle
BEGIN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DEFINITION = Experiment.from_dict({
    "spec": 1, "name": "spring",
    "factors": {"subject": {"plain": "Hello", "number": "3 ways"}}, "control": {"subject": "plain"},
    "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
    "allocation": {"policy": "uniform"},
    "send_time": {"mode": "learn"},
})  # fmt: skip


class Noted(Memory):
    """Writes down who got a mail, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def send(self, message: RenderedMessage) -> str:
        with self._path.open("a", encoding="utf-8") as notes:
            notes.write(f"{message.recipient}\n")
        return super().send(message)


def go_on(url: str, notes: Path) -> None:
    """Do all that is left of a mailing: the list, the plan, and each hour of it until the last mail is out."""
    now = BEGIN
    with Engine(url, transport=Noted(notes), secret=b"0123456789abcdef", clock=lambda: now) as engine:
        people = [Recipient(id=f"r{n}", email=f"r{n}@example.com") for n in range(PEOPLE)]
        engine.apply(engine.plan(DEFINITION, people, template="<p>Hi</p>"))
        while (next_at := engine.tick().next_at) is not None:
            now = max(next_at, now + timedelta(hours=1))


def stop_at(statement: str, *, at_commit: bool) -> None:
    """Let this process say so and stand still after a statement, in the transaction, or before the commit of it."""
    store._EPOCH_BATCH = _releases._CHUNK = PART  # type: ignore[misc]
    reached: list[sa.Connection] = []

    def stand_still() -> None:
        print("here", flush=True)  # noqa: T201
        signal.pause()

    @sa.event.listens_for(sa.Engine, "after_cursor_execute")
    def after(connection: sa.Connection, _cursor: object, text: str, *_: object) -> None:
        if " ".join(text.split()).startswith(statement):
            reached.append(connection)
            if not at_commit:
                stand_still()

    @sa.event.listens_for(sa.Engine, "commit")
    def before_commit(connection: sa.Connection) -> None:
        if connection in reached:
            stand_still()


def kill_at(statement: str, *, at_commit: bool, url: str, notes: Path) -> None:
    """Go on in a process of its own, and kill it there."""
    arguments = [sys.executable, __file__, statement, str(int(at_commit)), url, str(notes)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def found(url: str) -> tuple[dict[State, int], int, int]:
    """Mails by state, releases and epochs."""
    with Store(url) as ledger:
        return ledger.states("spring"), len(ledger.releases("spring")), len(ledger.epochs("spring"))


@pytest.mark.parametrize("at_commit", [False, True])
def test_kills_in_mid_planning_double_nobody_and_lose_nobody(store_url: str, tmp_path: Path, at_commit: bool) -> None:
    notes = tmp_path / "notes"
    notes.touch()

    def kill(statement: str) -> None:
        kill_at(statement, at_commit=at_commit, url=store_url, notes=notes)

    Store(store_url).close()
    kill("INSERT INTO versions")
    with Store(store_url) as ledger:
        assert ledger.experiments() == ()  # neither half a list nor a version without one
    kill("INSERT INTO send_slots")
    assert found(store_url) == ({State.QUEUED: PEOPLE}, 0, 0)
    kill("UPDATE messages SET state=")  # of the mails of the first hour
    assert found(store_url) == ({State.QUEUED: PEOPLE}, 1, 0)
    kill("INSERT INTO leases")
    states, releases, epochs = found(store_url)
    assert (set(states), releases, epochs) == ({State.QUEUED, State.ASSIGNED}, 1, 1)
    assert notes.read_text(encoding="utf-8") == ""

    go_on(store_url, notes)
    assert found(store_url)[:2] == ({State.SENT: PEOPLE}, 1)
    copies = Counter(notes.read_text(encoding="utf-8").split())
    assert copies == {f"r{n}@example.com": 1 for n in range(PEOPLE)}
    with Store(store_url) as ledger:
        assert len(list(ledger.slot_mails(before=BEGIN + timedelta(days=400)))) == PEOPLE  # an hour each
        assert sum(epoch.size for epoch in ledger.epochs("spring")) == PEOPLE


if __name__ == "__main__":
    stop_at(sys.argv[1], at_commit=sys.argv[2] == "1")
    go_on(sys.argv[3], Path(sys.argv[4]))
