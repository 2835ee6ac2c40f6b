"""kill -9 in the middle of taking events in, and of judging them anew: done again, nothing is amiss."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_web_serve import DEFINITION, engine_of

from abmail.ingest import Export
from abmail.project import Project
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import loads

PEOPLE = 24
SENT_AT = datetime(2024, 3, 1, 11, tzinfo=UTC)
TAKEN_IN = "SELECT count(*) FROM events WHERE source <> 'smtp'"
JUDGED = f"{TAKEN_IN} AND rules > 0"
# Small parts, each of which takes a moment, so that there is a middle.
SLOWLY = """\
import time
from abmail import _intake, _rejudging, store
from abmail.cli import main
{part}
do = {name}
def slowly(*given, **named):
    time.sleep(0.02)
    return do(*given, **named)
{name} = slowly
main()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has sent its mails, and an export of what happened to them."""
    made, _ = Project.init(tmp_path / "first")
    with engine_of(made, transport=Memory()) as engine:
        people = [Recipient(id=f"r{number}", email=f"p{number}@example.com") for number in range(PEOPLE)]
        plan = engine.plan(loads(DEFINITION), people, template='<a href="https://example.com/">Go</a>')
        engine.apply(plan, now=SENT_AT)
        engine.tick(now=SENT_AT)
    rows = ["type,at,recipient,experiment"]
    for number in range(480):
        at = SENT_AT + timedelta(seconds=number // 4)
        kind = "clicked" if number % 3 == 0 else "opened"
        rows.append(f"{kind},{at:%Y-%m-%dT%H:%M:%SZ},r{number % PEOPLE},spring")
    (made.root / "export.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return made


def copied(project: Project, name: str) -> Project:
    return Project.find(shutil.copytree(project.root, project.root.parent / name))


def kill_in_the_middle(project: Project, *arguments: str, slow: str, until: str, least: int) -> None:
    """Start a command and kill it once a query gives so much."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ABMAIL_")}
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *arguments], cwd=project.root, env=clean, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while process.poll() is None and number(project, until) < least:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, output
    assert number(project, until) >= least


def ingest(project: Project) -> None:
    with engine_of(project) as engine:
        engine.ingest(Export.open(project.root / "export.csv"), now=SENT_AT + timedelta(days=1))


def rejudge(project: Project) -> None:
    with engine_of(project) as engine:
        engine.rejudge("spring", apply=True)


def number(project: Project, query: str) -> int:
    with closing(sqlite3.connect(project.root / "abmail.db")) as db:
        return int(db.execute(query).fetchone()[0])


def state(project: Project) -> list[list[tuple[object, ...]]]:
    """What is known of events, and what was counted."""
    queries = (
        "SELECT key, message, verdict, reasons, rules FROM events WHERE source <> 'smtp' ORDER BY key",
        "SELECT message, metric, at FROM outcomes ORDER BY message, metric",
        "SELECT epoch, cell, stratum, metric, bin, n FROM counts WHERE n <> 0 ORDER BY 1, 2, 3, 4, 5",
    )
    with closing(sqlite3.connect(project.root / "abmail.db")) as db:
        return [db.execute(query).fetchall() for query in queries]


def test_a_kill_in_mid_ingest_is_mended_by_ingesting_again(project: Project) -> None:
    whole, killed = copied(project, "whole"), copied(project, "killed")
    ingest(whole)
    slow = SLOWLY.format(part="_intake._BATCH = 16", name="store.Store.record")
    kill_in_the_middle(killed, "ingest", "export.csv", slow=slow, until=TAKEN_IN, least=60)
    assert number(killed, TAKEN_IN) < number(whole, TAKEN_IN) == 480
    ingest(killed)
    assert state(killed) == state(whole)


def test_a_kill_in_mid_rejudging_is_mended_by_judging_again(project: Project) -> None:
    ingest(project)
    with closing(sqlite3.connect(project.root / "abmail.db")) as db, db:  # as older rules may have left them
        db.execute("UPDATE events SET verdict = 'machine', rules = 0 WHERE source <> 'smtp'")
    whole, killed = copied(project, "whole"), copied(project, "killed")
    rejudge(whole)
    slow = SLOWLY.format(part="_rejudging._CHUNK = 1", name="_rejudging.write_verdicts")
    kill_in_the_middle(killed, "events", "rejudge", "spring", slow=slow, until=JUDGED, least=60)
    assert number(killed, JUDGED) < number(whole, JUDGED)
    rejudge(killed)
    assert state(killed) == state(whole)
