"""The tracker as it is run: ``abmail serve`` in processes of its own, and mounted in other applications."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from mailserver import free_port
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from abmail.cli import _run
from abmail.engine import Engine
from abmail.project import Project
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import loads
from abmail.store import State
from abmail.web import BackgroundServer, TrackerSettings, create_app

AGENT = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
TARGET = "https://example.com/next"
EVENTS_OF_THREE = re.compile(r'abmail_tracker_events_total\{kind="(?:clicked|opened)",verdict="\w+"\} 3\.0')
DEFINITION = """\
spec: 1
name: spring
factors:
  subject: {plain: Join us, number: Three ways}
control: {subject: plain}
message: {template: mails/spring.html.j2, from: news@example.com}
allocation: {policy: uniform}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has sent a mail to each of three people."""
    made, _ = Project.init(tmp_path)
    template = '<p>Hello</p><a href="https://example.com/next">Go</a><a href="{{ unsubscribe_url }}">no more</a>'
    (tmp_path / "mails" / "spring.html.j2").write_text(template, encoding="utf-8")
    with engine_of(made, transport=Memory()) as engine:
        people = [Recipient(id=str(number), email=f"p{number}@example.com") for number in range(3)]
        engine.apply(engine.plan(loads(DEFINITION), people))
        engine.tick()
        assert engine.store.states("spring")[State.SENT] == 3
    return made


def engine_of(project: Project, *, transport: Memory | None = None) -> Engine:
    secret = (project.root / "abmail.secret").read_bytes().strip()
    return Engine(project.database, transport=transport, secret=secret, project=project.root)


def urls(engine: Engine) -> list[str]:
    """An open and a click of each mail."""
    ids = [message.id for message in engine.store.messages("spring")]
    sign = engine.signer.sign
    clicks = [f"/c/{sign('c', each, link=0, target=TARGET)}?u={quote(TARGET, safe='')}" for each in ids]
    return [f"/o/{sign('o', each)}.gif" for each in ids] + clicks


def events(project: Project) -> list[str]:
    with engine_of(project) as engine:
        while engine.digest()[0]:  # what was stored and not judged before the end
            pass
        return sorted(event.type for event in engine.store.events("spring"))


@contextmanager
def serving(project: Project, *options: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The command, from the moment that it says it listens; killed at the end where it did not end by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ABMAIL_", "PROMETHEUS_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "abmail", "serve", *options], cwd=project.root, env={**clean, **settings},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "the tracker listens on" in line, line + process.stderr.read()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(path: Path) -> None:
    """Wait until somebody listens on a socket."""
    while True:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
        time.sleep(0.05)


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    process.send_signal(how)
    assert process.wait(timeout=60) == 0


def client(port: int = 0, *, path: Path | None = None, base_url: str = "") -> httpx.Client:
    """A browser, which waits for a server that is not there yet."""
    transport = httpx.HTTPTransport(retries=20, uds=None if path is None else str(path))
    place = base_url or f"http://127.0.0.1:{port}"
    return httpx.Client(transport=transport, base_url=place, headers=AGENT, trust_env=False, timeout=60)


@pytest.mark.parametrize(("workers", "how"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
def test_the_command_stores_what_it_has_seen_before_it_ends(
    project: Project, workers: str, how: signal.Signals
) -> None:
    port = free_port()
    with engine_of(project) as engine:
        wanted = urls(engine)
    with serving(project, "--port", str(port), "--workers", workers) as process, client(port) as http:
        answers = [http.get(url).status_code for url in wanted]
        end(process, how)
    assert answers == [200] * 3 + [302] * 3
    assert events(project) == ["clicked"] * 3 + ["opened"] * 3


def test_the_command_listens_on_a_unix_socket_and_takes_the_place_of_a_dead_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    path = project.root / "tracker.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(project, "--socket", str(path)) as process, client(path=path) as http:
        wait_for(path)
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert http.get("/health").json()["status"] == "ok"
        assert "a server listens there" in refused("--socket", str(path))
        end(process, signal.SIGTERM)
    assert not path.exists()
    path.write_text("mine", encoding="utf-8")
    assert "there is a file of that name" in refused("--socket", str(path))
    assert "there is no such folder" in refused("--socket", str(project.root / "none" / "t.sock"))


def refused(*options: str) -> str:
    """What the command says where it does not begin to listen."""
    said = StringIO()
    with contextlib.redirect_stderr(said):
        assert _run(["serve", *options]) == 2
    assert "listens on http" not in said.getvalue()
    return said.getvalue()


def test_a_port_that_is_taken_and_settings_that_are_none_are_said_in_words(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused("--port", port)
    assert f"cannot listen on 127.0.0.1 port {port}: something else does" in said
    assert "choose another port" in said
    monkeypatch.setenv("ABMAIL_TRACKER_RATE", "fast")
    assert "tracker_rate (environment variable ABMAIL_TRACKER_RATE) is 'fast'" in refused("--port", port)
    monkeypatch.setenv("ABMAIL_TRACKER_RATE", "10")
    monkeypatch.setenv("ABMAIL_TRACKER_PROXIES", "127.0.0.1, everybody")
    assert "'everybody' is no network of proxies" in refused("--port", port)


def test_numbers_for_prometheus_are_those_of_all_workers(project: Project) -> None:
    port = free_port()
    with engine_of(project) as engine:
        wanted = urls(engine)
    settings = {"ABMAIL_TRACKER_RATE": "1", "ABMAIL_TRACKER_PROXIES": "127.0.0.1"}
    with serving(project, "--port", str(port), "--workers", "2", "--metrics", **settings):
        for url in wanted:
            with client(port) as http:  # a connection each, so that either worker may get it
                assert http.get(url, headers={"x-forwarded-for": f"198.51.100.{len(url)}"}).status_code in {200, 302}
        for number in range(200):
            with client(port) as http:
                numbers = http.get("/metrics", headers={"x-forwarded-for": f"203.0.113.{number}"}).text
            if len(EVENTS_OF_THREE.findall(numbers)) == 2:
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"the events are not counted:\n{numbers}")
        with client(port) as http:
            statuses = [http.get("/o/x.gif").status_code for _ in range(40)]
    assert 'abmail_tracker_answers_total{place="pixel",status="200"} 3.0' in numbers
    assert 'abmail_tracker_answers_total{place="click",status="302"} 3.0' in numbers
    assert 'abmail_tracker_dropped_total{kind="opened"} 0.0' in numbers
    assert re.search(r'abmail_tracker_request_seconds_bucket\{le="0\.05",place="click"\} [0-3]\.0', numbers)
    assert "abmail_tracker_waiting" in numbers
    assert statuses[:5] == [404] * 5  # five seconds' worth at once
    assert 429 in statuses


# --- health -----------------------------------------------------------------------------------------------------------


def test_health_tells_whether_events_are_stored(project: Project) -> None:
    with engine_of(project) as engine:
        app = create_app(engine, clock=lambda: datetime.now(UTC))
        with BackgroundServer(app) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
            assert http.get("/health").json() == {
                "status": "ok", "database": "ok", "writer": "ok", "waiting": 0, "stored": 0, "dropped": 0, "failed": 0,
            }  # fmt: skip
            app.state.writer.close()
            answer = http.get("/health")
            assert (answer.status_code, answer.json()["status"], answer.json()["writer"]) == (503, "failing", "failing")


def test_health_tells_of_a_database_that_is_away(project: Project) -> None:
    class Away(Engine):
        def ping(self) -> None:
            raise OSError("no route to the database")

    with Away(project.database, secret=b"0123456789abcdef") as engine:
        app = create_app(engine, clock=lambda: datetime.now(UTC))
        with BackgroundServer(app) as server:
            answer = httpx.get(f"{server.url}/health", trust_env=False)
    assert (answer.status_code, answer.json()["database"]) == (503, "failing")
    assert httpx.codes.is_server_error(answer.status_code)


def test_health_and_metrics_tell_what_is_stored_and_not_judged_yet(project: Project) -> None:
    now = datetime(2026, 3, 1, 11, tzinfo=UTC)
    with engine_of(project) as engine:
        settings = TrackerSettings(metrics=True)
        app = create_app(engine, clock=lambda: now + timedelta(seconds=90), settings=settings, journal=engine)
        with BackgroundServer(app) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
            assert app.state.writer.flush(60)
            told = http.get("/health").json()
            assert (told["journal"], told["journal_seconds"]) == (0, 0)
            assert "abmail_tracker_journal_since_seconds 0.0" in http.get("/metrics").text
            engine.store.journal(["a", "b"], now=now)  # by another process; it wakes nobody here
            engine.store.journal(["c"], now=now + timedelta(seconds=30))
            told, numbers = http.get("/health").json(), http.get("/metrics").text
    assert (told["journal"], told["journal_seconds"]) == (3, 90)
    assert "abmail_tracker_journal 3.0" in numbers
    since = re.search(r"^abmail_tracker_journal_since_seconds (\S+)", numbers, re.MULTILINE)
    assert since is not None
    assert float(since[1]) == now.timestamp()


def test_metrics_are_told_only_where_they_were_asked_for(project: Project) -> None:
    with engine_of(project) as engine:
        for asked, status in ((False, 404), (True, 200)):
            settings = TrackerSettings(metrics=asked)
            app = create_app(engine, clock=lambda: datetime.now(UTC), settings=settings)
            with BackgroundServer(app) as server:
                answer = httpx.get(f"{server.url}/metrics", trust_env=False)
            assert (answer.status_code, "abmail_tracker_waiting 0.0" in answer.text) == (status, asked)


# --- mounted ----------------------------------------------------------------------------------------------------------


def test_a_host_application_carries_the_tracker_under_a_path_of_its_own(project: Project) -> None:
    with engine_of(project) as engine:
        wanted = urls(engine)
        leave = f"/u/{engine.signer.sign('u', next(engine.store.messages('spring')).id)}"
        tracker = create_app(engine, clock=lambda: datetime.now(UTC))

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with tracker.router.lifespan_context(tracker):
                yield

        inner = Starlette(routes=[Mount("/mail", tracker)])
        routes = [Mount("/a b", inner), Route("/{rest:path}", lambda _: PlainTextResponse("host"))]
        host = Starlette(routes=routes, lifespan=lifespan)
        with (
            BackgroundServer(host) as server,
            httpx.Client(base_url=server.url, headers=AGENT, trust_env=False) as http,
        ):
            assert [http.get(f"/a%20b/mail{url}").status_code for url in wanted] == [200] * 3 + [302] * 3
            assert http.get(f"/a%20b/mail{wanted[3]}").headers["location"] == TARGET
            assert http.get(wanted[0]).text == "host"
            page = http.get(f"/a%20b/mail{leave}")
            assert 'form method="post"><button' in page.text  # no action: the form goes to the page's own address
            assert http.post(f"/a%20b/mail{leave}/").status_code == 404
            assert http.post(f"/a%20b/mail{leave}").status_code == 200
            assert http.get("/a%20b/mail/o/" + "x" * 9_000).status_code == 414
        assert tracker.state.writer.waiting == 0
    assert events(project) == ["clicked"] * 3 + ["opened"] * 3 + ["unsubscribed"]
