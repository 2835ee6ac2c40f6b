"""A provider's export of a million rows: time and memory of `abmail ingest`, beside only reading and only inserting it.

Run: python -m benchmarks.ingest [rows]
"""

from __future__ import annotations

import csv
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from abmail import Experiment, Recipient
from abmail.engine import Engine
from abmail.ingest import Export
from abmail.send import Memory

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_PEOPLE = 20_000
_HEADER = ("processed", "message_id", "event", "email", "subject", "reason", "url", "user_agent", "type")
_KINDS = ("delivered", "open", "open", "click", "processed")
_AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"


def _rows(n: int) -> Iterator[tuple[str, ...]]:
    for i in range(n):
        at = NOW + timedelta(seconds=i % 86_400, minutes=5)
        kind, who = _KINDS[i % len(_KINDS)], i * 7919 % _PEOPLE
        url = "https://example.com/next" if kind == "click" else ""
        yield (
            at.strftime("%Y-%m-%d %H:%M:%S"), f"{i:x}.filter1", kind, f"p{who}@example.com", "Hello", "", url, _AGENT,
            "",
        )  # fmt: skip


def _account(url: str) -> Engine:
    engine = Engine(url, transport=Memory(), secret=b"0123456789abcdef", clock=lambda: NOW)
    experiment = Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"},
    })  # fmt: skip
    people = [Recipient(id=f"r{i}", email=f"p{i}@example.com") for i in range(_PEOPLE)]
    engine.apply(engine.plan(experiment, people, template="<p>Hi</p>"))
    engine.tick()
    return engine


def _timed(work: Callable[[], int]) -> tuple[float, float, int]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _only_read(path: Path) -> int:
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file))


def _only_events(path: Path, now: datetime) -> int:
    return sum(row is not None for row in Export.open(path, experiment="spring").rows(now=now))


def _only_insert(path: Path, target: Path) -> int:
    with sqlite3.connect(target) as db, path.open(encoding="utf-8", newline="") as file:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE events (key TEXT PRIMARY KEY, at TEXT, type TEXT, email TEXT, body TEXT)")
        rows = ((row[1], row[0], row[2], row[3], ",".join(row)) for row in csv.reader(file))
        return db.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", rows).rowcount


def main(n: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "activity.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_HEADER)
            writer.writerows(_rows(n))
        print(f"{n:,} rows, {path.stat().st_size / 1e6:.0f} MB")
        engine = _account(f"sqlite:///{folder / 'mail.db'}")
        before = _peak()
        later = NOW + timedelta(days=3)
        for title, work in (
            ("only read (csv)", lambda: _only_read(path)),
            ("read and insert (sqlite3)", lambda: _only_insert(path, folder / "bare.db")),
            ("rows to events", lambda: _only_events(path, later)),
            ("ingest", lambda: engine.ingest(Export.open(path, experiment="spring"), now=later).new),
            ("ingest again", lambda: engine.ingest(Export.open(path, experiment="spring"), now=later).known),
        ):
            wall, cpu, found = _timed(work)
            print(
                f"{title:26} {found:>9,} {wall:8.1f} s {cpu:8.1f} s CPU {n / cpu:10,.0f} rows/s CPU, "
                f"peak {_peak():4.0f} MB, before it all {before:.0f}"
            )
        engine.close()


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "").replace("_", "")) if len(sys.argv) > 1 else 1_000_000)
