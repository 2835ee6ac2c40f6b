"""kill -9 in the middle of sending: nobody gets a mail twice, and nobody is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from email.parser import BytesHeaderParser
from pathlib import Path

import pytest
from command import run
from mailserver import Recorder, recording

from abmail.store import State, Store

MAILS = 360
KILLS = 4


def abmail(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "abmail", *arguments], cwd=folder, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def prepare(folder: Path, environment: dict[str, str], n: int, *, uncertain: str = "hold") -> None:
    folder.mkdir()
    rows = "".join(f"person{i}@example.com,Person {i}\n" for i in range(n))
    (folder / "leads.csv").write_text("email,name\n" + rows, encoding="utf-8")
    run(folder, "init", ".", status=0, **environment)
    run(folder, "new", "subjects", "--kind", "subject", status=0, **environment)
    definition = folder / "experiments" / "subjects.yaml"
    words = definition.read_text(encoding="utf-8")
    assert "\nmessage:\n" in words
    definition.write_text(words.replace("\nmessage:\n", f"\nmessage:\n  uncertain: {uncertain}\n"), encoding="utf-8")
    run(folder, "audience", "import", "leads.csv", status=0, **environment)
    run(folder, "apply", "subjects", status=0, **environment)


def kill_in_mid_send(
    folder: Path, environment: dict[str, str], inbox: Recorder, rng: random.Random, connections: int
) -> None:
    """Start a sender, let it send some mails, and kill it at a random moment."""
    before, some = len(inbox), rng.randint(1, 60)
    send = ("send", "subjects", "--until-done", "--yes", "--connections", str(connections))
    with abmail(folder, environment, *send) as process:
        while len(inbox) < before + some and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL


def finish(folder: Path, environment: dict[str, str]) -> None:
    """Send what is left; the status is 1 where an uncertain mail needs a word."""
    with abmail(folder, environment, "send", "subjects", "--until-done", "--yes") as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode in {0, 1}, output


@pytest.mark.parametrize("connections", [1, 4])
def test_kills_in_mid_send_double_nobody_and_lose_nobody(store_url: str, tmp_path: Path, connections: int) -> None:
    rng = random.Random(3)
    with recording() as inbox:
        environment = {"ABMAIL_DB": store_url, "ABMAIL_SMTP_URL": inbox.url}
        folder = tmp_path / "project"
        prepare(folder, environment, MAILS)
        for _ in range(KILLS):
            kill_in_mid_send(folder, environment, inbox, rng, connections)
        finish(folder, environment)
        copies = Counter(inbox.recipients)
    assert max(copies.values()) == 1
    with Store(store_url) as store:
        states = store.states("subjects")
        ledger = {message.email: message.state for message in store.messages("subjects")}
    assert set(states) <= {State.SENT, State.UNCERTAIN, State.FAILED}
    assert sum(states.values()) == MAILS
    assert states.get(State.UNCERTAIN, 0) <= KILLS * connections
    assert {email for email, state in ledger.items() if state == State.SENT} <= set(copies)
    assert all(ledger[email] in {State.SENT, State.UNCERTAIN} for email in copies)


def test_kills_in_mid_send_with_resend_lose_nobody_and_double_one_mail_a_connection_at_most(
    store_url: str, tmp_path: Path
) -> None:
    """A mail that is uncertain a second time is held: nothing goes out a third time."""
    rng = random.Random(4)
    connections = 4
    with recording() as inbox:
        environment = {"ABMAIL_DB": store_url, "ABMAIL_SMTP_URL": inbox.url}
        folder = tmp_path / "project"
        prepare(folder, environment, MAILS, uncertain="resend")
        for _ in range(KILLS):
            kill_in_mid_send(folder, environment, inbox, rng, connections)
        finish(folder, environment)
        copies = Counter(inbox.recipients)
        identities = {(recipient, BytesHeaderParser().parsebytes(raw)["Message-ID"]) for recipient, raw in inbox.mails}
    with Store(store_url) as store:
        ledger = {message.email: message.state for message in store.messages("subjects")}
    assert len(ledger) == MAILS
    assert set(ledger.values()) <= {State.SENT, State.UNCERTAIN}
    assert {email for email, state in ledger.items() if state == State.SENT} <= set(copies)
    assert max(copies.values()) <= 2
    assert sum(copies.values()) - len(copies) <= KILLS * connections
    assert len(identities) == len(copies)  # a second copy has the Message-ID of the first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_between_two_mails_and_leaves_nothing_uncertain(
    tmp_path: Path, number: signal.Signals
) -> None:
    with recording() as inbox:
        environment = {"ABMAIL_SMTP_URL": inbox.url}
        folder = tmp_path / "project"
        prepare(folder, environment, 400)
        with abmail(folder, environment, "send", "subjects", "--until-done", "--yes", "--rate", "50") as process:
            while len(inbox) < 5:
                time.sleep(0.005)
            process.send_signal(number)
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 130, output
        assert 5 <= len(inbox) < 400
    with Store(f"sqlite:///{folder / 'abmail.db'}") as store:
        states = store.states("subjects")
    assert states == {State.SENT: len(inbox), State.ASSIGNED: 400 - len(inbox)}


def test_two_senders_at_once_share_the_work(store_url: str, tmp_path: Path) -> None:
    with recording() as inbox:
        environment = {"ABMAIL_DB": store_url, "ABMAIL_SMTP_URL": inbox.url}
        folder = tmp_path / "project"
        prepare(folder, environment, 500)
        both = [abmail(folder, environment, "send", "subjects", "--until-done", "--yes") for _ in range(2)]
        outputs = [process.communicate(timeout=120)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        copies = Counter(inbox.recipients)
    assert len(copies) == 500
    assert max(copies.values()) == 1
