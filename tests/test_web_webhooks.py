"""Webhooks over real HTTP into a real database, and how a project sets them up."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from command import run
from mailserver import free_port
from webhooks import amazon_ses as amazon
from webhooks.harness import NOW, OURS, Request, as_json, mutated, payloads, provider

from abmail._fetch import fetch
from abmail.engine import Engine
from abmail.errors import ConfigError
from abmail.events import Event, EventType, Verdict
from abmail.project import Project
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import Experiment
from abmail.web import MAX_WEBHOOK, BackgroundServer, create_app, webhook_routes
from abmail.webhooks import Adapter, providers

SENT_AT = NOW - timedelta(hours=1)
DEFINITION = {
    "spec": 1,
    "name": "spring",
    "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
    "control": {"subject": "plain"},
    "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
    "allocation": {"policy": "uniform"},
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with sending(f"sqlite:///{tmp_path / 'mail.db'}") as made:
        yield made


@contextmanager
def sending(url: str) -> Iterator[Engine]:
    """An experiment whose ten mails were sent an hour ago."""
    people = [Recipient(id=f"r{i}", email=f"r{i}@c{i}.example", attributes={}, zone=None) for i in range(10)]
    experiment = Experiment.from_dict(DEFINITION)
    with Engine(url, transport=Memory(), secret=b"0123456789abcdef", clock=lambda: SENT_AT) as made:
        made.apply(made.plan(experiment, people, template='<a href="https://example.com/">go</a>'))
        made.tick(now=SENT_AT)
        yield made


@contextmanager
def served(
    recording: Any, adapters: Mapping[str, Adapter] | None = None, *, confirmed: list[str] | None = None
) -> Iterator[httpx.Client]:
    def confirm(url: str) -> bytes:
        if confirmed is None:
            raise TimeoutError(url)
        confirmed.append(url)
        return b""

    chosen = {name: provider(name).adapter for name in providers()} if adapters is None else adapters
    routes = webhook_routes(chosen, recording, clock=lambda: NOW, fetch=confirm)
    with (
        BackgroundServer(create_app(recording, clock=lambda: NOW, routes=routes)) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        yield client


def post(client: httpx.Client, name: str, request: Request) -> httpx.Response:
    return client.post(f"/w/{name}", content=request.body, headers=dict(request.headers))


def payloads_about(name: str, message: str) -> list[tuple[Any, str]]:
    """The documented payloads that name a message of ours, of this one, with the type of their event."""
    return [
        (json.loads(json.dumps(payload).replace(OURS, message)), expected[0].type)
        for payload, expected in provider(name).documented
        if len(expected) == 1 and expected[0].ours == OURS
    ]


@pytest.mark.parametrize("name", providers())
def test_a_signed_webhook_of_our_message_arrives_in_the_store_and_counts(name: str, engine: Engine) -> None:
    sent = next(iter(engine.store.messages("spring")))
    found, known = provider(name), payloads_about(name, sent.id)
    assert known
    with served(engine) as client:
        for payload, _ in known:
            request = found.sign(payload, at=NOW)
            if name == "mailgun":  # a token is good for one event
                request = unlike(request)
            for _ in range(2):
                answer = post(client, name, request)
                assert (answer.status_code, answer.text) == (200, "OK")
    events = list(engine.store.events("spring"))
    assert {event.source for event in events} == {name}
    assert {str(event.type) for event in events} == {kind for _, kind in known}
    assert len({event.key for event in events}) == len(events) <= len(known)
    opened = [event for event in events if event.type is EventType.OPENED and event.verdict is not Verdict.MACHINE]
    assert engine.store.tally("spring", n_cells=2).matrix("opened").sum() == bool(opened)


def unlike(request: Request) -> Request:
    """The same event under a token of its own."""
    import hashlib
    import hmac

    whole = json.loads(request.body)
    proof = whole["signature"]
    proof["token"] = hashlib.sha256(request.body).hexdigest()[:50]
    text = f"{proof['timestamp']}{proof['token']}".encode()
    proof["signature"] = hmac.new(b"key-of-today", text, hashlib.sha256).hexdigest()
    return Request(body=as_json(whole))


def test_a_complaint_a_dead_address_and_an_unsubscribe_stop_mail_to_their_people(store_url: str) -> None:
    with sending(store_url) as engine:
        check_who_is_mailed_no_more(engine)


def check_who_is_mailed_no_more(engine: Engine) -> None:
    mails = sorted(engine.store.messages("spring"), key=lambda each: each.id)
    told = [
        {"event": "spamreport", "abmail_message": mails[0].id},
        {"event": "bounce", "reason": "550 5.1.1 User unknown", "abmail_message": mails[1].id},
        {"event": "bounce", "reason": "550 5.7.1 Blocked as spam", "abmail_message": mails[2].id},
        {"event": "group_unsubscribe", "abmail_message": mails[3].id},
    ]
    with served(engine) as client:
        post(client, "sendgrid", provider("sendgrid").sign(told, at=NOW))
    assert engine.store.suppressed() == {
        mails[0].email: "complained", mails[1].email: "bounced", mails[3].email: "unsubscribed",
    }  # fmt: skip


def test_a_flag_of_the_provider_keeps_an_open_out_of_the_counts(engine: Engine) -> None:
    sent = next(iter(engine.store.messages("spring")))
    told = [{"event": "open", "abmail_message": sent.id, "sg_machine_open": True, "useragent": "Mozilla/5.0 (X11)"}]
    with served(engine) as client:
        post(client, "sendgrid", provider("sendgrid").sign(told, at=NOW))
    tally = engine.store.tally("spring", n_cells=2)
    assert (tally.matrix("opened").sum(), tally.matrix("opened_all").sum()) == (0, 1)


def test_whatever_a_provider_signs_is_stored_or_its_own_fault(store_url: str) -> None:
    rng = random.Random(11)
    with sending(store_url) as engine, served(engine) as client:
        known = [mail.id for mail in engine.store.messages("spring")]
        for name in providers():
            found, samples = provider(name), list(payloads(name))
            for _ in range(12):
                changed = json.dumps(mutated(rng.choice(samples), rng)).replace(OURS, rng.choice(known))
                request = found.sign(json.loads(changed), at=NOW)
                assert post(client, name, request).status_code in {200, 400}, request.body
        assert list(engine.store.events("spring"))


class Kept:
    """Keeps events in a list; the rest of the tracker is not asked for here."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False

    def record_all(self, events: Iterable[Event], /) -> None:
        if self.broken:
            raise ConnectionError("the database is away")
        self.events += events


def test_an_event_of_no_message_of_ours_and_a_bad_item_are_kept() -> None:
    kept = Kept()
    request = provider("sendgrid").sign([{"event": "open", "sg_message_id": "m1", "sg_event_id": "e1"}, 7], at=NOW)
    with served(kept) as client:
        assert post(client, "sendgrid", request).status_code == 200
    assert [(event.type, event.message_id) for event in kept.events] == [
        (EventType.OPENED, "sendgrid:m1"),
        (EventType.UNKNOWN, "sendgrid:"),
    ]
    assert kept.events[1].detail == "item 2: the item is no JSON object: 7"


def test_events_that_cannot_be_stored_are_to_be_told_again(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    request = provider("resend").sign(provider("resend").unknown[0], at=NOW)
    with served(kept) as client:
        kept.broken = True
        answer = post(client, "resend", request)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "120")
        kept.broken = False
        assert post(client, "resend", request).status_code == 200
    assert len(kept.events) == 1
    assert "a webhook of resend could not be taken" in caplog.text


@pytest.mark.parametrize("name", providers())
def test_a_stranger_s_webhook_is_refused_and_nothing_is_stored(name: str, caplog: pytest.LogCaptureFixture) -> None:
    kept, found = Kept(), provider(name)
    request = found.sign(found.unknown[0], at=NOW, secret=2)
    with served(kept) as client, caplog.at_level(logging.WARNING):
        answer = post(client, name, request)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="abmail"'
        assert answer.headers["Cache-Control"] == "no-store"
        assert post(client, name, Request(body=b"")).status_code in {400, 401}
    assert not kept.events
    assert f"a webhook of {name} was refused" in caplog.text


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b"[" * 1_000_000, b'{"a":' + b"9" * 5_000 + b"}"])
def test_a_genuine_body_that_nobody_can_read_is_the_sender_s_fault(body: bytes) -> None:
    kept = Kept()
    headers = {"X-Webhook-Secret": "token-of-today"}
    with served(kept) as client:
        assert post(client, "brevo", Request(body=body, headers=headers)).status_code == 400
    assert not kept.events


def test_a_provider_that_is_not_set_up_is_not_found_and_one_that_is_says_that_it_is_there() -> None:
    with served(Kept(), {"mandrill": provider("mandrill").adapter}) as client:
        assert client.post("/w/sendgrid", content=b"[]").status_code == 404
        assert client.get("/w/sendgrid").status_code == 404
        assert [client.request(method, "/w/mandrill").status_code for method in ("HEAD", "GET")] == [200, 200]
        assert client.delete("/w/mandrill").status_code == 405
        assert client.post("/w/mandrill/").status_code == 404


def test_a_body_over_five_megabytes_is_refused_unseen() -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b" " * 1_048_576 for _ in range(MAX_WEBHOOK // 1_048_576 + 1))

    kept = Kept()
    with served(kept) as client:
        assert client.post("/w/brevo", content=chunks()).status_code == 413
    assert not kept.events


def test_a_subscription_to_our_topic_is_confirmed_and_one_to_another_s_is_not() -> None:
    confirmed: list[str] = []
    ours = amazon.signed(amazon.envelope("Confirm", at=NOW, kind="SubscriptionConfirmation"))
    foreign = amazon.envelope("Confirm", at=NOW, kind="SubscriptionConfirmation", topic=amazon.FOREIGN_TOPIC)
    with served(Kept(), confirmed=confirmed) as client:
        assert post(client, "amazon_ses", amazon.signed(foreign)).status_code == 401
        assert not confirmed
        assert post(client, "amazon_ses", ours).status_code == 200
    assert confirmed == [amazon.SUBSCRIBE]


def test_a_subscription_that_cannot_be_confirmed_now_is_to_be_told_again() -> None:
    with served(Kept()) as client:
        request = amazon.signed(amazon.envelope("Confirm", at=NOW, kind="SubscriptionConfirmation"))
        assert post(client, "amazon_ses", request).status_code == 503


def test_a_certificate_that_cannot_be_fetched_now_is_to_be_told_again() -> None:
    def away(url: str) -> bytes:
        raise TimeoutError(url)

    adapter = replace(provider("amazon_ses").adapter, fetch=away)  # type: ignore[type-var]
    with served(Kept(), {"amazon_ses": adapter}) as client:
        request = amazon.signed(amazon.envelope("{}", at=NOW))
        assert post(client, "amazon_ses", request).status_code == 503


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "file:///etc/hostname", "ftp://127.0.0.1/", ""])
def test_nothing_is_fetched_but_over_https(url: str) -> None:
    with pytest.raises(OSError, match="no https"):
        fetch(url)


# --- a project --------------------------------------------------------------------------------------------------------


def set_up(folder: Path, text: str, **environ: str) -> dict[str, Adapter]:
    Project.init(folder)
    (folder / "abmail.toml").write_text(text, encoding="utf-8")
    project = Project.find(folder, environ={"ABMAIL_TRACKER_URL": "https://t.example.com/", **environ})
    return project.webhooks(environ=environ)


def test_a_project_takes_the_webhooks_that_it_names_and_those_it_has_a_secret_for(tmp_path: Path) -> None:
    (tmp_path / "mailgun.secret").write_text("today\n\nyesterday\n", encoding="utf-8")
    text = """
        [webhooks.mailgun]
        secret_file = "mailgun.secret"
        tolerance = 60
        [webhooks.amazon_ses]
        topics = ["arn:aws:sns:eu-west-1:123456789012:abmail"]
    """
    found = set_up(
        tmp_path, text, ABMAIL_WEBHOOK_RESEND_SECRET="whsec_AAAA whsec_BBBB", ABMAIL_WEBHOOK_MANDRILL_SECRET="key"
    )
    assert list(found) == ["amazon_ses", "mailgun", "mandrill", "resend"]
    read = {name: {**vars_of(adapter)} for name, adapter in found.items()}
    assert read["mailgun"] == {"secrets": ("today", "yesterday"), "tolerance": 60.0}
    assert read["resend"] == {"secrets": ("whsec_AAAA", "whsec_BBBB"), "tolerance": 300.0}
    assert read["mandrill"] == {"secrets": ("key",), "url": "https://t.example.com/w/mandrill"}
    assert read["amazon_ses"]["topics"] == ("arn:aws:sns:eu-west-1:123456789012:abmail",)


def vars_of(adapter: Adapter) -> dict[str, Any]:
    return {name: getattr(adapter, name) for name in type(adapter).__dataclass_fields__ if name != "name"}  # type: ignore[attr-defined]


def test_the_environment_wins_over_the_file_and_a_pem_is_one_secret(tmp_path: Path) -> None:
    pem = "-----BEGIN PUBLIC KEY-----\nMFkw EwYH\n-----END PUBLIC KEY-----\n"
    (tmp_path / "old").write_text("old", encoding="utf-8")
    text = '[webhooks.sendgrid]\nsecret_file = "old"'
    found = set_up(tmp_path, text, ABMAIL_WEBHOOK_SENDGRID_SECRET=pem)
    assert vars_of(found["sendgrid"])["secrets"] == (pem.strip(),)


def test_a_project_without_webhooks_takes_none(tmp_path: Path) -> None:
    assert set_up(tmp_path, 'db = "sqlite:///abmail.db"') == {}
    (tmp_path / "abmail.toml").unlink()
    assert Project.find(tmp_path, environ={}).webhooks(environ={}) == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[webhooks.sendgird]", "no provider 'sendgird'"),
        ("[webhooks.sendgrid]", "no secret for the webhooks of sendgrid"),
        ('[webhooks.sendgrid]\nsecret_file = "missing"', "cannot be read: .*No such file"),
        ("[webhooks.sendgrid]\nsecret_file = 7", "secret_file is 7, must be a text"),
        ('[webhooks.sendgrid]\nsecret = "x"', "holds a secret, which belongs into no file that is shared"),
        ('[webhooks.sendgrid]\nsecret_file = "key"\ntolerence = 9', "'tolerence' is no setting of sendgrid"),
        ("webhooks = 7", "webhooks must be tables"),
        ("webhooks.sendgrid = 7", "webhooks must be tables"),
        ("[webhooks.amazon_ses]", "amazon_ses needs the setting 'topics'"),
    ],
)
def test_a_setting_of_a_webhook_that_cannot_be_used_is_refused_in_words(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "key").write_text("key", encoding="utf-8")
    with pytest.raises(ConfigError, match=fault):
        set_up(tmp_path, text)


def test_serve_takes_webhooks(tmp_path: Path) -> None:
    import os
    import signal
    import subprocess
    import sys
    import time

    run(tmp_path, "init", ".")
    port = free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ABMAIL_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "abmail", "serve", "--port", str(port)], cwd=tmp_path, text=True, stderr=subprocess.PIPE,
        env={**clean, "ABMAIL_WEBHOOK_BREVO_SECRET": "token"},
    )  # fmt: skip
    try:
        payload = as_json({"event": "opened", "ts_epoch": 1520363423000, "message-id": "<m1@smtp-relay.mailin.fr>"})
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = httpx.post(
                    f"http://127.0.0.1:{port}/w/brevo", content=payload, headers={"X-Webhook-Secret": "token"}
                )
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert answer.status_code == 200
    finally:
        server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=60)
    assert "webhooks are taken from brevo" in told
    with Project.find(tmp_path, environ={}).engine() as engine, engine.store._read() as db:
        (row,) = db.exec_driver_sql("SELECT type, message, source FROM events").all()
    assert tuple(row) == ("opened", None, "brevo")
