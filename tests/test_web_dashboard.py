"""The dashboard: for who has the password, and without any effect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from abmail import Experiment, Recipient
from abmail.engine import Engine
from abmail.errors import ConfigError
from abmail.events import Event, EventType
from abmail.project import Project
from abmail.send import Memory
from abmail.web import BackgroundServer, create_app, dashboard_routes

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PASSWORD = "correct horse battery"
OPEN = ("anybody", PASSWORD)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    exp = Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "<b>3 ways</b>"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"},
    })  # fmt: skip
    people = [Recipient(id=f"r{i}", email=f"r{i}@x{i}.example.com") for i in range(60)]
    store = f"sqlite:///{tmp_path / 'abmail.db'}"
    with Engine(store, transport=Memory(), secret=b"0123456789abcdef", clock=lambda: NOW) as engine:
        engine.apply(engine.plan(exp, people, template="<p>Hi</p>"))
        engine.tick()
        opened = NOW + timedelta(hours=1)
        mails = [engine.signer.message_id("spring", f"r{i}") for i in range(0, 60, 3)]
        for mail in mails:
            engine.record(Event(type=EventType.OPENED, at=opened, message_id=mail), now=opened)
        app = create_app(engine, clock=lambda: NOW, routes=dashboard_routes(engine, PASSWORD))
        with (
            BackgroundServer(app) as server,
            httpx.Client(base_url=server.url, trust_env=False, headers={"Accept-Language": "en"}) as client,
        ):
            yield client


def test_the_list_leads_to_each_report(client: httpx.Client) -> None:
    listed = client.get("/dashboard", auth=OPEN)
    assert listed.status_code == 200
    assert 'href="dashboard/spring"' in listed.text
    assert ">60<" in listed.text
    report = client.get("/dashboard/spring", auth=OPEN)
    assert report.status_code == 200
    assert "spring" in report.text
    assert "<script" not in report.text
    assert "33" in report.text  # 20 of 60 opened
    assert report.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in report.headers["content-security-policy"]


def test_it_speaks_the_readers_language(client: httpx.Client) -> None:
    assert "テスト一覧" in client.get("/dashboard", auth=OPEN, headers={"Accept-Language": "ja,en;q=0.5"}).text
    assert 'lang="ja"' in client.get("/dashboard/spring?language=ja", auth=OPEN).text


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic bm9jb2xvbg==",
        "Bearer correct horse battery",
        "Basic YTp3cm9uZw==",
        "Basic YTo=",
    ],
)
def test_without_the_password_nothing_is_told(client: httpx.Client, header: str) -> None:
    for path in ("/dashboard", "/dashboard/spring", "/dashboard/nothing"):
        answer = client.get(path, headers={"Authorization": header} if header else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
        assert "spring" not in answer.text


def test_an_unknown_name_and_other_methods(client: httpx.Client) -> None:
    missing = client.get("/dashboard/%3Cscript%3E", auth=OPEN)
    assert missing.status_code == 404
    assert "<script" not in missing.text
    assert client.post("/dashboard", auth=OPEN).status_code == 405


def test_without_a_password_there_is_no_dashboard_and_a_short_one_is_refused() -> None:
    with Engine("sqlite://", transport=Memory(), secret=b"0123456789abcdef") as engine:
        assert dashboard_routes(engine, "") == []
    assert Project.dashboard_password(environ={}) == ""
    assert Project.dashboard_password(environ={"ABMAIL_DASHBOARD_PASSWORD": PASSWORD}) == PASSWORD
    with pytest.raises(ConfigError, match="fewer than 20 characters"):
        Project.dashboard_password(environ={"ABMAIL_DASHBOARD_PASSWORD": "short"})
