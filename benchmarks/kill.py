"""kill -9 in the middle of sending, again and again: who got a mail twice, who got none, and of whom nobody knows.

Run: ``python -m benchmarks.kill`` (SQLite), or with ``--url postgresql://...`` on a server where databases may be made.
A real sender process sends over real SMTP to a sink in this process that notes every mail it takes; it is killed at
random moments and started again, until everything is sent.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiosmtpd.controller import Controller

from abmail.store import State, Store


@dataclass
class Sink:
    """Counts the mails it takes, by recipient."""

    taken: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  (aiosmtpd's name)
        """Note who gets a mail."""
        with self.lock:
            self.taken.update(envelope.rcpt_tos)
        return "250 taken"

    @property
    def total(self) -> int:
        """Mails taken so far."""
        with self.lock:
            return self.taken.total()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to, in mails."""

    mails: int
    kills: int
    connections: int
    duplicates: int
    lost: int
    uncertain: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not self.duplicates and not self.lost and self.uncertain <= self.kills * self.connections


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start the command line in a project."""
    return subprocess.Popen(
        [sys.executable, "-m", "abmail", *arguments], cwd=folder, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def prepare(folder: Path, environment: dict[str, str], n: int) -> None:
    """A project with a list and an applied test."""
    folder.mkdir()
    rows = "".join(f"person{i}@example.com,Person {i}\n" for i in range(n))
    (folder / "leads.csv").write_text("email,name\n" + rows, encoding="utf-8")
    for arguments in (
        ("init", "."), ("new", "subjects", "--kind", "subject"), ("audience", "import", "leads.csv"),
        ("apply", "subjects"),
    ):  # fmt: skip
        with run(folder, environment, *arguments) as process:
            output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(output)


def experiment(url: str, mails: int, kills: int, connections: int, seed: int) -> Outcome:
    """Send a whole list with so many kills on the way."""
    rng, sink = random.Random(seed), Sink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    controller = Controller(sink, hostname="127.0.0.1", port=port)
    controller.start()
    start = time.perf_counter()
    try:
        environment = {"ABMAIL_DB": url, "ABMAIL_SMTP_URL": f"smtp://127.0.0.1:{port}"}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "project"
            prepare(folder, environment, mails)
            send = ("send", "subjects", "--until-done", "--yes", "--connections", str(connections))
            for kill in range(kills):
                _kill_once(run(folder, environment, *send), sink, rng, mails, kills - kill)
            with run(folder, environment, *send) as last:
                last.communicate()
            return _count(url, sink, mails, kills, connections, time.perf_counter() - start)
    finally:
        controller.stop()


def _kill_once(process: subprocess.Popen[str], sink: Sink, rng: random.Random, mails: int, left: int) -> None:
    """Let a sender send some of what is left, and kill it at a random moment."""
    before = sink.total
    some = rng.randint(1, max((mails - before) // (left + 1), 1))
    with process:
        while sink.total < before + some and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()


def _count(url: str, sink: Sink, mails: int, kills: int, connections: int, seconds: float) -> Outcome:
    with Store(url) as store:
        ledger = {message.email: message.state for message in store.messages("subjects")}
    missing = [email for email, state in ledger.items() if email not in sink.taken and state != State.UNCERTAIN]
    return Outcome(
        mails=mails, kills=kills, connections=connections, seconds=seconds,
        duplicates=sum(n - 1 for n in sink.taken.values()), lost=len(missing) + mails - len(ledger),
        uncertain=sum(state == State.UNCERTAIN for state in ledger.values()),
    )  # fmt: skip


@contextmanager
def database(server: str | None) -> Iterator[str]:
    """The URL of an empty database, gone afterwards."""
    if server is None:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/mail.db"
        return
    parsed, name = sa.make_url(server).set(drivername="postgresql+psycopg"), f"abmail_kill_{uuid.uuid4().hex[:8]}"
    admin = sa.create_engine(parsed, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield parsed.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as db:
            db.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def main() -> int:
    """Run and print; 1 where a mail came twice, was lost, or too many are uncertain."""
    parser = argparse.ArgumentParser(description="kill -9 while sending")
    parser.add_argument("--url", help="a PostgreSQL server; SQLite by default")
    parser.add_argument("--mails", type=int, default=6_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kept = True
    for connections in options.connections:
        with database(options.url) as url:
            found = experiment(url, options.mails, options.kills, connections, options.seed)
        print(
            f"{found.mails} mails, {found.kills} kills, {found.connections} connections: {found.duplicates} twice, "
            f"{found.lost} lost, {found.uncertain} uncertain; {found.seconds:.0f} s",
            flush=True,
        )
        kept &= found.holds
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
