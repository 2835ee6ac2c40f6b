"""The ledger: planning a million messages beside a bare bulk insert, memory while it is done, and claims by table size.

Run: ``python -m benchmarks.ledger`` (SQLite in a temporary folder), or with ``--url postgresql://...`` on an empty
database. The bare insert writes the same finished rows into the same table with its indexes, as fast as the driver can:
one prepared statement on SQLite, COPY on PostgreSQL. Claims come at the end, one of each size by turns, so that what
else the machine does hits all sizes alike.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from abmail.engine import Engine
from abmail.recipient import Recipient
from abmail.spec import Experiment
from abmail.store import Store, worker_name

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ZONES = {"spring": ["UTC"]}
TEMPLATE = '<p>{{ recipient.name }}</p><a href="https://example.com/x">go</a>'
COLUMNS = ("id", "experiment", "recipient", "step", "state", "position", "zone", "propensity")
SHARE = 1.0 / 3.0  # of the bare insert's rate that `apply` must reach
SLOWEST = 1.3  # times the fastest size's claim that the slowest size's may take


def definition() -> Experiment:
    """Two subjects, evenly split, with a segment and a holdout."""
    return Experiment.from_dict({
        "spec": 1, "name": "spring",
        "factors": {"subject": {"plain": "Hello", "number": "3 ways"}}, "control": {"subject": "plain"},
        "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
        "audience": {"segment": "name != 'P 0'", "holdout": 0.01},
        "allocation": {"policy": "uniform"},
    })  # fmt: skip


def people(n: int) -> Iterator[Recipient]:
    """Made-up recipients with two attributes."""
    return (
        Recipient(id=f"c-{i:08d}", email=f"p{i}@c{i % 5_000}.example", attributes={"name": f"P {i}"}, zone=None)
        for i in range(n)
    )


class Memory:
    """The growth of this process's memory while something runs, in MB, looked at every tenth of a second."""

    def __enter__(self) -> Self:
        self._before, self._peak, self._done = _resident(), _resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self._peak = max(self._peak, _resident())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def growth(self) -> float:
        """MB above the start."""
        return self._peak - self._before


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and MB of growth."""
    with Memory() as memory:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    return seconds, memory.growth


def planned(engine: Engine, n: int) -> tuple[float, float]:
    """Plan and apply; seconds of `apply`, and MB of growth over both."""
    with Memory() as memory:
        made = engine.plan(definition(), template=TEMPLATE)
        start = time.perf_counter()
        added = engine.apply(made, now=NOW).added
        seconds = time.perf_counter() - start
    if not 0.9 * n < added <= n:
        raise RuntimeError(f"{added} rows were added, about {n} were planned")
    return seconds, memory.growth


def bare(engine: sa.Engine, n: int) -> float:
    """Seconds that the same rows take without planning, checks or ids to make."""
    with engine.connect() as db:
        rows = [
            tuple(row) for row in db.exec_driver_sql(f"SELECT {', '.join(COLUMNS)} FROM messages ORDER BY recipient")
        ]
        db.exec_driver_sql("DELETE FROM messages")
        db.commit()
        start = time.perf_counter()
        with db.begin():
            _insert(db, rows)
        seconds = time.perf_counter() - start
    return seconds * n / len(rows)


def _insert(db: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(COLUMNS)
    if db.dialect.name == "sqlite":
        marks = ", ".join("?" for _ in COLUMNS)
        db.exec_driver_sql(f"INSERT INTO messages ({names}) VALUES ({marks})", list(rows))
        return
    driver: Any = db.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY messages ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def claims(urls: Sequence[str], rounds: int) -> list[float]:
    """Milliseconds of a claim of 100 messages in each database, the median of some, from the front of what is left."""
    stores = [Store(url) for url in urls]
    took = [[_claim(store) for store in stores] for _ in range(rounds)]
    for store in stores:
        store.close()
    return [1_000 * statistics.median(own) for own in zip(*took, strict=True)]


def _claim(store: Store) -> float:
    start = time.perf_counter()
    found = store.claim(worker=worker_name(), limit=100, now=NOW + timedelta(minutes=1), open_zones=ZONES)
    seconds = time.perf_counter() - start
    if len(found) != 100:
        raise RuntimeError(f"{len(found)} messages were claimed, not 100")
    return seconds


def measure(url: str, n: int) -> tuple[float, float, float, float]:
    """Rows a second of apply and of the bare insert, MB of both verbs, seconds of an epoch."""
    with Engine(url, secret=b"0123456789abcdef", clock=lambda: NOW) as engine:
        start = time.perf_counter()
        engine.store.import_recipients(people(n), now=NOW)
        print(f"  {n:,} recipients imported at {n / (time.perf_counter() - start):,.0f} a second", flush=True)
        seconds, growth = planned(engine, n)
        alone = bare(engine.store._engine, n)
        stored = engine.store.experiment("spring")
        opened, _ = timed(lambda: engine._open_due_epoch(stored, NOW + timedelta(seconds=1)))
    return n / seconds, n / alone, growth, opened


def main() -> int:
    """Measure and print; 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description="the ledger")
    parser.add_argument("--url", action="append", help="an empty database for each size; SQLite files by default")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=31, help="claims that are timed")
    options = parser.parse_args()
    urls: list[str] = options.url or []
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        for index, n in enumerate(options.sizes):
            if index == len(urls):
                urls.append(f"sqlite:///{folder}/{n}.db")
            apply, alone, growth, opened = measure(urls[index], n)
            print(
                f"{n:10,} messages: apply {apply:8,.0f}/s, bare insert {alone:8,.0f}/s, share {apply / alone:.2f}; "
                f"memory +{growth:.0f} MB; one epoch of all {opened:.1f} s",
                flush=True,
            )
            shares.append(apply / alone)
        took = claims(urls[: len(options.sizes)], options.rounds)
    each = ", ".join(f"{n:,} {claim:.1f} ms" for n, claim in zip(options.sizes, took, strict=True))
    print(f"a claim of 100: {each}; {max(took) / min(took):.2f} times from the fastest size to the slowest")
    return int(shares[-1] < SHARE or max(took) > SLOWEST * min(took))


if __name__ == "__main__":
    sys.exit(main())
