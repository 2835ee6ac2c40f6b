"""The command line as a marketer and a CI job use it: real processes, real exit codes, real mail."""

from __future__ import annotations

import email
import http.client
import importlib
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.policy import default as default_policy
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import click
import pytest
import sqlalchemy as sa
from command import run
from mailserver import free_port, recording

from abmail.cli import cli
from abmail.engine import Engine
from abmail.events import Agent, Event, EventType, RequestFacts

LISTS = "email,name,stage\n" + "".join(
    f"lead{i}@example.com,Lead {i},{'hot' if i % 2 else 'cold'}\n" for i in range(40)
)


@pytest.fixture(scope="module")
def first_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "project"
    run(folder.parent, "init", "project")
    (folder / "leads.csv").write_text(LISTS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def first_applied(first_project: Path) -> Path:
    folder = first_project.with_name("applied")
    shutil.copytree(first_project, folder)
    run(folder, "new", "subjects", "--kind", "subject")
    run(folder, "audience", "import", "leads.csv")
    run(folder, "apply", "subjects")
    return folder


@pytest.fixture
def project(first_project: Path, tmp_path: Path) -> Path:
    """A project with a list that is not imported yet."""
    return Path(shutil.copytree(first_project, tmp_path / "project"))


@pytest.fixture
def applied(first_applied: Path, tmp_path: Path) -> Path:
    """A project with an experiment that waits to be sent to 40 recipients."""
    return Path(shutil.copytree(first_applied, tmp_path / "applied"))


def test_the_first_session_of_the_help_text_works_as_it_stands(tmp_path: Path) -> None:
    run(tmp_path, "init", "mailing")
    folder = tmp_path / "mailing"
    (folder / "leads.csv").write_text(LISTS, encoding="utf-8")
    run(folder, "new", "subjects", "--kind", "subject")
    assert "40 new" in run(folder, "audience", "import", "leads.csv").stdout
    run(folder, "apply", "subjects")
    with recording() as inbox:
        sent = run(folder, "send", "subjects", "--until-done", "--yes", ABMAIL_SMTP_URL=inbox.url)
        assert len(inbox) == 40
    assert "40 sent" in sent.stdout
    report = json.loads(run(folder, "report", "subjects", "--format", "json").stdout)
    assert report["sent"] == 40
    assert report["format_version"] == 1


def test_without_a_mail_server_mails_are_written_to_files_and_the_command_says_so(applied: Path) -> None:
    ran = run(applied, "send", "subjects", "--until-done", "--yes")
    assert "no mail server is configured" in ran.stderr
    assert len(list((applied / "outbox").glob("*.eml"))) == 40


def test_mail_to_people_needs_a_yes_where_there_is_no_terminal(applied: Path) -> None:
    with recording() as inbox:
        refused = run(applied, "send", "subjects", status=2, ABMAIL_SMTP_URL=inbox.url)
        assert "--yes" in refused.stderr
        assert "40 mails" in refused.stderr
        assert "lead to http://127.0.0.1:8025," in refused.stderr
        assert len(inbox) == 0


@pytest.mark.parametrize("tracker", ["http://localhost:8025/t", "https://[::1]", "https://127.0.0.1.example.com"])
def test_links_that_no_reader_can_follow_are_told_before_mails_go_to_people(applied: Path, tracker: str) -> None:
    with recording() as inbox:
        said = [
            run(
                applied,
                "send",
                "subjects",
                *words,
                status=status,
                ABMAIL_SMTP_URL=inbox.url,
                ABMAIL_TRACKER_URL=tracker,
            )
            for words, status in (((), 2), (("--yes",), 0), (("--yes",), 0))
        ]
    warned = ["set tracker_url in abmail.toml" in each.stderr for each in said]
    assert warned == ([False] * 3 if "example" in tracker else [True, True, False])  # nothing is left to send at last


def test_without_a_mail_server_links_to_this_machine_are_no_fault(applied: Path) -> None:
    assert "tracker_url" not in run(applied, "send", "subjects", "--yes").stderr


def test_a_dry_run_sends_nothing(applied: Path) -> None:
    with recording() as inbox:
        ran = run(applied, "send", "subjects", "--dry-run", ABMAIL_SMTP_URL=inbox.url)
        assert "40 mails would be sent now" in ran.stdout
        assert len(inbox) == 0
    assert "40 queued" in run(applied, "status").stdout


def test_refused_recipients_make_exit_status_one_and_the_rest_is_sent(applied: Path) -> None:
    with recording() as inbox:
        inbox.refuse = {"lead3@example.com": "550 5.1.1 no such user", "lead4@example.com": "451 4.2.1 busy"}
        ran = run(applied, "send", "subjects", "--yes", status=1, ABMAIL_SMTP_URL=inbox.url)
        assert len(inbox) == 38
    assert "38 sent, 1 to be tried again, 1 failed" in ran.stdout


def test_a_tick_that_does_nothing_though_something_is_due_is_not_repeated_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from abmail.cli import _sending
    from abmail.engine import Tick

    class Stuck:
        ticks = 0

        def tick(self, **_: object) -> Tick:
            self.ticks += 1
            return Tick(next_at=datetime.now(UTC))

    pauses: list[float] = []
    monkeypatch.setattr(_sending, "_sleep", lambda seconds, _: pauses.append(seconds))
    engine = Stuck()
    with pytest.raises(KeyboardInterrupt):
        _sending._send_all(
            cast("Engine", engine), None, once=False, until_done=True, limit=None, stopping=lambda: engine.ticks == 4
        )
    assert pauses == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("once", "until_done"), [(True, False), (False, False), (False, True)])
def test_a_sender_says_when_mails_that_have_an_hour_of_their_own_go_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], once: bool, until_done: bool
) -> None:
    from abmail.cli import _sending
    from abmail.engine import Scheduled, Tick

    first, last = datetime(2999, 3, 2, 11, 2, tzinfo=UTC), datetime(2999, 3, 3, 9, 30, tzinfo=UTC)
    made = Scheduled(experiment="spring", size=3, reason="each one's best hour", first_at=first, last_at=last)
    ticks = iter([Tick(scheduled=(made,), next_at=first), Tick()])

    class Planned:
        def tick(self, **_: object) -> Tick:
            return next(ticks)

    monkeypatch.setattr(_sending, "_sleep", lambda *_: None)
    _sending._send_all(
        cast("Engine", Planned()), None, once=once, until_done=until_done, limit=None, stopping=lambda: False
    )
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "spring: 3 mails have their hour: each one's best hour; "
        "the first goes out at 2999-03-02 11:02 UTC, the last at 2999-03-03 09:30 UTC"
    )
    assert said[1:] == [
        "waiting until 2999-03-02 11:02:00 UTC, when more is due"
        if until_done
        else "nothing more is due before 2999-03-02 11:02:00 UTC; run this again then, or let --until-done wait for it"
    ]


def test_a_wrong_password_stops_with_the_servers_words_and_loses_nothing(applied: Path) -> None:
    with recording() as inbox:
        url = inbox.url.replace("smtp://", "smtp://me:s3cret@")
        refused = run(applied, "send", "subjects", "--yes", status=2, ABMAIL_SMTP_URL=url)
    assert "s3cret" not in refused.stderr + refused.stdout
    assert "error:" in refused.stderr
    assert "40 assigned" in run(applied, "status").stdout


def test_an_import_names_bad_rows_with_their_line_and_takes_the_rest(project: Path) -> None:
    rows = (
        'email,name\r\nGood@Example.com,"Two\r\nlines"\r\n\r\nnot-an-address,X\r\ngood@example.COM,Again\r\n山田@,Y\r\n'
    )
    (project / "bad.csv").write_bytes(rows.encode("cp932"))
    ran = run(project, "audience", "import", "bad.csv", "--problems", "skipped.csv", status=1)
    assert "cp932" in ran.stdout
    assert "1 new" in ran.stdout
    for line in (5, 6, 7):
        assert f"bad.csv:{line}:" in ran.stderr
    assert len((project / "skipped.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_a_list_without_an_address_column_is_refused_in_words(project: Path) -> None:
    (project / "x.csv").write_text("name,phone\nA,1\n", encoding="utf-8")
    assert "email" in run(project, "audience", "import", "x.csv", status=2).stderr


def test_the_audience_can_be_listed_by_a_segment_and_errors_point_into_it(applied: Path) -> None:
    ran = run(applied, "audience", "list", "--segment", "stage == 'hot'", "--limit", "1")
    assert "20 recipients" in ran.stderr
    assert "^" in run(applied, "audience", "list", "--segment", "stage ==", status=2).stderr


def test_suppressed_people_get_no_mail(applied: Path) -> None:
    assert "1 suppressed" in run(applied, "suppress", "LEAD1@example.com").stdout
    run(applied, "send", "subjects", "--yes")
    assert len(list((applied / "outbox").glob("*.eml"))) == 39
    assert "not" in run(applied, "suppress", "nonsense", status=2).stderr


def test_check_tells_clean_from_findings_from_unreadable_by_its_exit_status(project: Path) -> None:
    run(project, "new", "subjects")
    assert "no findings" in run(project, "check").stderr
    (project / "experiments" / "bad.yaml").write_text("spec: 1\nnam: x\nnam: y\n", encoding="utf-8")
    found = run(project, "check", "experiments", status=1)
    assert re.search(r"bad\.yaml:2:1: ", found.stdout)
    assert re.search(r"bad\.yaml:3:1: ", found.stdout)
    run(project, "check", "nowhere", status=2)


def test_check_writes_annotations_for_github(project: Path) -> None:
    (project / "experiments" / "bad.yaml").write_text("spec: 1\n", encoding="utf-8")
    assert "::error file=" in run(project, "check", "--format", "github", status=1).stdout


def test_plan_shows_what_would_happen_and_with_check_fails_on_a_risky_change(applied: Path) -> None:
    assert "Nothing would change" in run(applied, "plan", "subjects").stdout
    file = applied / "experiments" / "subjects.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "\nsalt: other\n", encoding="utf-8")
    assert "x salt: deals the cards anew" in run(applied, "plan", "subjects", "--check", status=1).stdout
    assert "worthless" in run(applied, "apply", "subjects", status=2).stderr


def test_preview_shows_each_variant_and_sends_nothing(applied: Path) -> None:
    shown = run(applied, "preview", "subjects", "--to", "LEAD5@example.com", "-o", "preview").stdout
    assert "Subject: Join our spring webinar" in shown
    assert "Subject: 3 ways to cut reporting time by 40 %" in shown
    assert shown.count("To: lead5@example.com") == 2
    assert {p.name for p in (applied / "preview").iterdir()} == {
        "plain.eml", "plain.html", "number.eml", "number.html", "index.html",
    }  # fmt: skip
    page = (applied / "preview" / "index.html").read_text(encoding="utf-8")
    assert page.count("<iframe") == 4
    assert "/o/" not in page
    assert "40 queued" in run(applied, "status").stdout
    assert "no recipient" in run(applied, "preview", "subjects", "--to", "nobody@example.com", status=2).stderr


def test_events_from_a_file_count_once(applied: Path) -> None:
    run(applied, "send", "subjects", "--yes")
    line = {"type": "clicked", "at": "2026-01-01T00:00:00Z", "experiment": "subjects", "recipient": "lead0@example.com"}
    (applied / "events.jsonl").write_text(json.dumps(line) + "\n{nonsense\n", encoding="utf-8")
    first = run(applied, "ingest", "events.jsonl", "--rejected", "rejected.jsonl", status=1)
    assert "1 new events" in first.stdout
    assert "events.jsonl:2:" in first.stderr
    assert (applied / "rejected.jsonl").read_text(encoding="utf-8") == "{nonsense\n"
    assert "0 new events, 1 known before" in run(applied, "ingest", "events.jsonl", status=1).stdout


def test_the_report_comes_in_every_form_and_in_japanese(applied: Path) -> None:
    run(applied, "send", "subjects", "--yes")
    assert "subjects" in run(applied, "report", "subjects").stdout
    assert run(applied, "report", "subjects", "--format", "md").stdout.startswith("#")
    run(applied, "report", "subjects", "--format", "html", "--language", "ja", "-o", "report.html")
    page = (applied / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert 'lang="ja"' in page


def test_stop_needs_a_yes_and_cancels_what_waits(applied: Path) -> None:
    assert "--yes" in run(applied, "stop", "subjects", status=2).stderr
    assert "40 cancelled" in run(applied, "stop", "subjects", "--why", "too late", "--yes").stdout
    assert "0 sent" in run(applied, "send", "subjects", "--yes").stdout
    assert "would let it end: no mail waits" in run(applied, "stop", "subjects", status=2).stderr


def test_mails_that_have_their_variant_and_wait_are_counted_too(applied: Path) -> None:
    with recording() as inbox:
        run(applied, "send", "subjects", "--limit", "10", "--yes", ABMAIL_SMTP_URL=inbox.url)
        refused = run(applied, "send", "subjects", status=2, ABMAIL_SMTP_URL=inbox.url)
    assert "up to 30 mails" in refused.stderr
    assert "cancel the 30 mails" in run(applied, "stop", "subjects", status=2).stderr


def test_the_status_says_what_is_due(applied: Path) -> None:
    assert "mails are due now: abmail send subjects" in run(applied, "status").stdout
    (found,) = json.loads(run(applied, "status", "--format", "json").stdout)["experiments"]
    assert datetime.fromisoformat(found["next_at"]) <= datetime.now(UTC)
    run(applied, "send", "subjects")
    (found,) = json.loads(run(applied, "status", "--format", "json").stdout)["experiments"]
    assert found["next_at"] is None


@pytest.mark.parametrize("command", ["status", "report", "plan", "preview"])
def test_a_wrong_mail_server_disturbs_no_command_but_the_one_that_sends(applied: Path, command: str) -> None:
    arguments = [command] if command == "status" else [command, "subjects"]
    run(applied, *arguments, ABMAIL_SMTP_URL="gopher://nowhere")
    assert "SMTP URL" in run(applied, "send", "subjects", "--yes", status=2, ABMAIL_SMTP_URL="gopher://nowhere").stderr


def test_stop_names_the_nearest_variant(applied: Path) -> None:
    refused = run(applied, "stop", "subjects", "--ship", "nonsense", "--yes", status=2)
    assert "nonsense" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reprot", "x"], "report"),
        (["report", "subject"], "subject"),
        (["apply", "subject"], "did you mean subjects?"),
        (["send", "nothing"], "nothing"),
        (["new", "Bad Name!"], "name"),
        (["new", "subjects"], "is there already"),
    ],
)
def test_mistakes_are_answered_in_words_with_exit_status_two(applied: Path, arguments: list[str], words: str) -> None:
    assert words in run(applied, *arguments, status=2).stderr


def test_a_database_of_another_version_asks_for_the_upgrade(applied: Path) -> None:
    import sqlite3

    with sqlite3.connect(applied / "abmail.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'old'")
    assert "abmail db upgrade" in run(applied, "status", status=2).stderr


def test_a_full_disk_is_told_in_words_and_leaves_nothing_half_done(project: Path) -> None:
    rows = "".join(f"person{i}@example.com,{'x' * 100}\n" for i in range(5_000))
    (project / "big.csv").write_text("email,name\n" + rows, encoding="utf-8")
    limit = (project / "abmail.db").stat().st_size + 100_000
    ran = subprocess.run(
        [sys.executable, "-m", "abmail", "audience", "import", "big.csv"], cwd=project, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)), check=False,
    )  # fmt: skip
    assert ran.returncode == 2, ran.stderr
    assert "the database" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "0 recipients" in run(project, "audience", "list").stderr
    assert "5000 new" in run(project, "audience", "import", "big.csv").stdout


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["report", "subjects", "-o", "nowhere/report.txt"], "nowhere/report.txt: No such file or directory"),
        (["schema", "-o", "leads.csv/schema.json"], "leads.csv/schema.json: Not a directory"),
        (["plan", "subjects", "-o", "/dev/full"], "/dev/full: No space left on device"),
        (["preview", "subjects", "-o", "leads.csv/mails"], "leads.csv/mails: Not a directory"),
        (["audience", "import", "new.csv", "--problems", "nowhere/problems.csv"], "nowhere/problems.csv: No such file"),
        (["ingest", "events.jsonl", "--rejected", "nowhere/rejected"], "nowhere/rejected: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_named_and_nothing_is_done(
    applied: Path, arguments: list[str], place: str
) -> None:
    (applied / "new.csv").write_text("email\nnew@example.com\n", encoding="utf-8")
    (applied / "events.jsonl").write_text("{}\n", encoding="utf-8")
    assert f"error: {place}" in run(applied, *arguments, status=2).stderr
    assert "40 recipients" in run(applied, "db", "status").stdout


def test_a_full_disk_behind_standard_output_is_told_in_words(project: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "abmail", "schema"], cwd=project, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (2, "error: No space left on device\n")


def test_too_short_a_signing_key_is_refused_in_words(project: Path) -> None:
    assert "has 5 bytes" in run(project, "status", status=2, ABMAIL_SECRET="short").stderr


@pytest.mark.parametrize("content", [b"", b"email", b"\x00\xff\x00"])
def test_files_that_are_no_list_are_refused_without_a_traceback(project: Path, content: bytes) -> None:
    (project / "odd.csv").write_bytes(content)
    ran = run(project, "audience", "import", "odd.csv", status=0 if content == b"email" else 2)
    assert ran.stdout or ran.stderr


def test_db_upgrade_makes_the_tables_and_is_a_no_op_after(tmp_path: Path) -> None:
    (tmp_path / "abmail.toml").touch()
    assert "was empty" in run(tmp_path, "db", "upgrade").stdout
    assert "was" not in run(tmp_path, "db", "upgrade").stdout
    assert "0 recipients" in run(tmp_path, "db", "status").stdout


def test_config_show_tells_where_each_setting_came_from(applied: Path) -> None:
    shown = run(applied, "config", "show", ABMAIL_TRACKER_URL="https://t.example.com").stdout
    assert "https://t.example.com  [environment variable ABMAIL_TRACKER_URL]" in shown
    resolved = json.loads(run(applied, "config", "show", "subjects").stdout)
    assert resolved["metrics"]["primary"] == "clicked"


def test_serve_tracks_what_a_reader_of_a_delivered_mail_does(applied: Path) -> None:
    port = free_port()
    tracker = f"http://127.0.0.1:{port}"
    run(applied, "send", "subjects", "--yes", ABMAIL_TRACKER_URL=tracker)
    mail = email.message_from_bytes(next((applied / "outbox").glob("*.eml")).read_bytes(), policy=default_policy)
    command = [sys.executable, "-m", "abmail", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=applied, stderr=subprocess.DEVNULL) as server:
        try:
            body = mail.get_body(("html",))
            assert body is not None
            urls = [u.replace("&amp;", "&") for u in re.findall(tracker + r'/[^"\s]+', body.get_content())]
            assert {urlsplit(u).path[:3] for u in urls} == {"/o/", "/c/", "/u/"}
            urls.sort(key=lambda u: "/o/" not in u)
            answers = {"o": ask(urls[0])}
            time.sleep(10.5)  # who follows a link at once, or without reading, is taken for a machine
            answers |= {urlsplit(u).path[1]: ask(u) for u in urls[1:]}
            assert answers == {"o": 200, "c": 302, "u": 200}
            assert "1 recipients" not in run(applied, "audience", "list", "--limit", "0").stdout
            unsubscribe = re.findall(r"<(http[^>]+)>", mail["List-Unsubscribe"])[0]
            assert ask(unsubscribe, "POST", "List-Unsubscribe=One-Click") == 200
        finally:
            server.terminate()
    report = json.loads(run(applied, "report", "subjects", "--format", "json").stdout)
    assert sum(arm["clicks"] for arm in report["arms"]) == 1
    assert sum(arm["human_opens"] for arm in report["arms"]) == 1
    assert sum(arm["unsubscribes"] for arm in report["arms"]) == 1


def test_stored_events_are_judged_anew_and_what_changes_is_shown(
    applied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from abmail.store import Store

    run(applied, "send", "subjects", "--until-done", "--yes")
    soon = datetime.now(UTC) + timedelta(seconds=40)
    with Store(f"sqlite:///{applied / 'abmail.db'}") as store:
        mail = next(iter(store.messages("subjects"))).id
        browser = RequestFacts(agent=Agent.BROWSER, family="chrome/windows")
        clicks = [
            Event(type=EventType.CLICKED, at=soon + timedelta(seconds=3 * n), message_id=mail, link=n, facts=browser)
            for n in (1, 2, 3)
        ]
        with monkeypatch.context() as older:  # a version that looked at each click alone
            older.setattr("abmail._verdict_rules._note_bursts", lambda *_: None)
            older.setattr("abmail._verdict_rules._note_others", lambda *_: None)
            store.record(clicks, now=soon + timedelta(days=1))
        with store._write() as db:
            db.execute(sa.text("UPDATE events SET rules = 0 WHERE type = 'clicked'"))
    shown = run(applied, "events", "rejudge", "--dry-run", status=1).stdout
    assert "subjects: 3 verdicts would change" in shown
    assert "3 clicked: human -> machine" in shown
    done = json.loads(run(applied, "events", "rejudge", "subjects", "--format", "json").stdout)
    assert (done["applied"], done["experiments"][0]["events"]) == (True, 3)
    assert "0 verdicts would change" in run(applied, "events", "rejudge", "subjects", "--dry-run").stdout


def ask(url: str, method: str = "GET", body: str | None = None) -> int:
    """The status of one request, tried until the server has started."""
    parts = urlsplit(url)
    headers = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
    if body:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    for _ in range(200):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
            return connection.getresponse().status
        except ConnectionRefusedError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise AssertionError("the tracker did not start")


def commands(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        found += (
            commands(command, f"{prefix}{name} ") if isinstance(command, click.Group) else [(prefix + name, command)]
        )
    return found


@pytest.mark.parametrize(("name", "command"), commands(cli), ids=lambda x: x if isinstance(x, str) else "")
def test_every_command_has_help_that_ends_in_an_example_and_stands_in_the_docs(
    name: str, command: click.Command
) -> None:
    assert command.help
    assert command.help.rstrip().splitlines()[-1].strip().startswith(f"Example: abmail {name}")
    reference = Path(__file__).parent.parent / "docs" / "cli.md"
    assert f"## abmail {name}\n" in reference.read_text(encoding="utf-8")


def test_the_help_of_abmail_shows_a_first_session_line_by_line(tmp_path: Path) -> None:
    said = run(tmp_path, "--help").stdout
    assert (
        "\n  A first session:\n    abmail init mailing && cd mailing\n    abmail new subjects --kind subject\n" in said
    )
    assert "\\" not in said


def test_a_report_takes_a_second_look_and_compares_segments(applied: Path) -> None:
    run(applied, "send", "subjects", "--until-done", "--yes")
    plain = json.loads(run(applied, "report", "subjects", "--format", "json").stdout)
    asked = ["--by", "stage", "--method", "exact", "--alpha", "0.1", "--verdicts", "all"]
    report = json.loads(run(applied, "report", "subjects", *asked, "--format", "json").stdout)
    for key in ("arms", "decision", "method", "sentence", "actions"):
        assert report[key] == plain[key]
    assert {key: report["second_opinion"][key] for key in ("method", "alpha", "verdicts")} == {
        "method": "exact", "alpha": 0.1, "verdicts": "all",
    }  # fmt: skip
    assert [arm["name"] for arm in report["second_opinion"]["arms"]] == [arm["name"] for arm in plain["arms"]]
    assert sorted(segment["segment"] for segment in report["segments"]) == ["cold", "hot"]
    shown = run(applied, "report", "subjects", *asked).stdout
    assert "A second look, not registered beforehand: it decides nothing" in shown
    assert "By segment: stage" in shown
    refused = run(applied, "report", "subjects", "--by", "stag", status=2)
    assert "no recipient of subjects has the attribute 'stag'; there are: domain, hour, name, stage" in refused.stderr
    assert "alpha is 5, must be in (0, 1)" in run(applied, "report", "subjects", "--alpha", "5", status=2).stderr


def test_every_module_of_commands_is_in_the_table_that_loads_them() -> None:
    folder = Path(__file__).parent.parent / "abmail" / "cli"
    modules = {path.stem for path in folder.glob("_*.py") if "\nCOMMANDS = " in path.read_text(encoding="utf-8")}
    for module in modules:
        there = importlib.import_module(f"abmail.cli.{module}").COMMANDS
        assert {command.name for command in there} <= set(cli.list_commands(click.Context(cli))), module


def test_a_command_that_is_misspelt_is_told_with_the_nearest(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "abmail", "chek"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert "check" in done.stderr.split("chek")[-1]
