"""Files of what webhooks posted, as ``abmail ingest FILE --provider NAME`` reads them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from command import run
from webhooks.harness import NOW, as_json, provider

from abmail.events import Event
from abmail.ingest import Export, Refused
from abmail.webhooks import parse, providers


def timed(name: str) -> list[Any]:
    """Documented payloads of known kinds, which tell their times."""
    return [p for p, events in provider(name).documented if events and events[0].at and events[0].type != "unknown"]


def rows(path: Path, name: str, **options: Any) -> list[Any]:
    return list(Export.open(path, provider=name, **options).rows(now=NOW))


@pytest.mark.parametrize("name", [name for name in providers() if name != "standard"])
def test_a_file_of_bodies_gives_the_events_that_the_bodies_gave(name: str, tmp_path: Path) -> None:
    bodies = timed(name)
    wire = [event for body in bodies for event in parse(name, as_json(body), now=NOW).events]
    lines, whole = tmp_path / "log.jsonl", tmp_path / "log.json"
    lines.write_text("".join(f"{json.dumps(body)}\n" for body in bodies), encoding="utf-8")
    items = [item for body in bodies for item in (body if isinstance(body, list) else [body])]
    whole.write_text(json.dumps(items, indent=1), encoding="utf-8")
    assert rows(lines, name) == rows(lines, name) == wire
    kinds = [(event.type, event.at, event.message_id) for event in wire]
    assert [(event.type, event.at, event.message_id) for event in rows(whole, name)] == kinds


def test_bad_items_are_refused_with_their_reason_and_the_rest_is_read(tmp_path: Path) -> None:
    good = {"event": "open", "timestamp": 1461095250, "sg_event_id": "e1", "sg_message_id": "m1"}
    file = tmp_path / "log.json"
    file.write_text(json.dumps([good, {**good, "timestamp": "yesterday"}, 7, good]), encoding="utf-8")
    first, bad, worse, again = rows(file, "sendgrid")
    assert isinstance(first, Event)
    assert first == again
    assert isinstance(bad, Refused)
    assert bad.message == "'timestamp' is 'yesterday', not a time"
    assert bad.raw == {**good, "timestamp": "yesterday"}
    assert isinstance(worse, Refused)


def test_a_report_is_read_as_one_where_the_experiment_is_named_or_its_times_are_a_report_s(tmp_path: Path) -> None:
    hook, report = tmp_path / "hook.json", tmp_path / "report.json"
    told = {"event": "delivered", "email": "a@example.com", "message-id": "<m1@smtp-relay.mailin.fr>"}
    hook.write_text(json.dumps([{**told, "ts_epoch": 1520363423000}]))
    report.write_text(json.dumps([{**told, "date": "2026-03-01T10:00:00Z"}]))
    assert Export.open(hook, provider="brevo").webhook == "brevo"
    assert Export.open(hook, provider="brevo", experiment="spring").webhook == ""
    assert Export.open(report, provider="brevo").webhook == ""


def test_the_command_takes_them_in_once(tmp_path: Path) -> None:
    run(tmp_path, "init", ".")
    told = {"RecordType": "Open", "MessageID": "m1", "ReceivedAt": (NOW - timedelta(days=1)).isoformat()}
    (tmp_path / "log.jsonl").write_text(json.dumps(told) + "\n" + json.dumps({**told, "ReceivedAt": "now"}) + "\n")
    ran = run(tmp_path, "ingest", "log.jsonl", "--provider", "postmark", status=1)
    assert ran.stdout == "0 new events, 0 known before, 1 of unknown messages, 1 lines refused\n"
    assert "log.jsonl:2: 'ReceivedAt' is 'now', not a time" in ran.stderr
    assert "read as webhooks of postmark" in ran.stderr
    ran = run(tmp_path, "ingest", "log.jsonl", "--provider", "postmark", status=1)
    assert ran.stdout == "0 new events, 1 known before, 0 of unknown messages, 1 lines refused\n"
