"""Commands about mails on their way, as an operator uses them: real processes, a real mail server that refuses some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run
from mailserver import Recorder, recording

LIST = "email,name\n" + "".join(f"lead{i}@example.com,Lead {i}\n" for i in range(30))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outbox") / "project"
    run(folder.parent, "init", "project")
    (folder / "leads.csv").write_text(LIST, encoding="utf-8")
    run(folder, "new", "subjects", "--kind", "subject")
    run(folder, "audience", "import", "leads.csv")
    run(folder, "apply", "subjects")
    return folder


def test_an_operator_sees_what_failed_and_sends_it_again(project: Path) -> None:
    refusals = {f"lead{i}@example.com": "554 5.7.1 Blocked today" for i in range(3)}
    with recording(Recorder(refuse=dict(refusals))) as inbox:
        send = ("send", "subjects", "--until-done", "--yes", "--connections", "2")
        said = run(project, "pause", "subjects", "--why", "a link is broken").stdout
        assert said == "subjects: paused; to go on: abmail resume subjects\n"
        assert "paused, wave 0 of 1" in run(project, "status").stdout
        assert "a link is broken; to go on: abmail resume subjects" in run(project, "status").stdout
        assert run(project, *send, ABMAIL_SMTP_URL=inbox.url).stdout.startswith("0 sent")
        assert run(project, "pause", "subjects").stdout == "subjects: nothing to pause\n"
        assert run(project, "resume", "subjects").stdout.startswith("subjects: resumed")
        assert run(project, "resume", "subjects").stdout == "subjects: was not paused\n"

        assert run(project, *send, status=1, ABMAIL_SMTP_URL=inbox.url).stdout.startswith("27 sent, 0 to be tried")
        listed = run(project, "outbox", "list", "subjects")
        lines = listed.stdout.splitlines()
        assert len(lines) == 3
        assert all("failed" in line and "554 5.7.1 Blocked today" in line for line in lines)
        assert listed.stderr == "3 mails\n"
        rows = [
            json.loads(line)
            for line in run(project, "outbox", "list", "subjects", "--format", "json").stdout.splitlines()
        ]
        assert {row["email"] for row in rows} == set(refusals)
        assert {(row["state"], row["attempts"]) for row in rows} == {("failed", 1)}
        sent = run(project, "outbox", "list", "subjects", "--state", "sent", "--state", "failed").stdout
        assert len(sent.splitlines()) == 30

        inbox.refuse.clear()
        one, *_ = (row["id"] for row in rows)
        assert run(project, "outbox", "retry", "subjects", one).stdout.startswith("1 mails will be sent again")
        assert run(project, "outbox", "retry", "subjects").stdout.startswith("2 mails will be sent again")
        assert run(project, "outbox", "retry", "subjects").stdout == "0 mails will be sent again\n"
        assert run(project, *send, ABMAIL_SMTP_URL=inbox.url).stdout.startswith("3 sent")
        assert sorted(inbox.recipients) == sorted(f"lead{i}@example.com" for i in range(30))
    assert "all sent, wave 1 of 1; 30 sent" in run(project, "status").stdout
    assert run(project, "outbox", "list", "subjects").stderr == "0 mails\n"


def test_uncertain_mails_are_sent_again_on_an_explicit_word_alone(project: Path) -> None:
    refused = run(project, "outbox", "retry", "subjects", "--state", "uncertain", status=130)
    assert "would then come twice" in refused.stderr
    assert run(project, "outbox", "retry", "subjects", "--state", "uncertain", "--yes").stdout.startswith("0 mails")


@pytest.mark.parametrize("command", [("pause",), ("resume",), ("outbox", "list"), ("outbox", "retry")])
def test_an_experiment_that_was_not_applied_is_named(project: Path, command: tuple[str, ...]) -> None:
    assert "no experiment 'summer' was applied" in run(project, *command, "summer", status=2).stderr
