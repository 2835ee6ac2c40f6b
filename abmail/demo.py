"""Demo: a whole experiment on a made-up list, through a real SMTP server and real HTTP requests on this machine.

Only two things are synthetic: the people, whose hidden taste is drawn from a table below, and the clock, which runs two
days in about a minute. Everything between is the product itself: the project folder, the import, the waves, the mails
on the wire, the links in them, the tracker, the verdicts on machine traffic, and the report.
"""

from __future__ import annotations

import csv
import email
import heapq
import http.client
import re
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from abmail.audience import read_recipients
from abmail.engine import Engine
from abmail.errors import ConfigError, MissingExtra
from abmail.project import Project
from abmail.report import Report
from abmail.send import SMTP
from abmail.spec import Experiment, load
from abmail.web import BackgroundServer, EventWriter, create_app

try:
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import Envelope
except ModuleNotFoundError as error:
    raise MissingExtra("the demo", "demo") from error

__all__ = ["Outcome", "run_demo"]

NAME: Final = "spring-webinar"
START: Final = datetime(2026, 4, 6, 23, 0, tzinfo=UTC)  # Tuesday, 8:00 in Tokyo
LENGTH: Final = timedelta(hours=48)
_MARK: Final = ".abmail-demo"
_DATA: Final = Path(__file__).parent / "templates"

# The hidden truth: chance of an open by subject, and of a click once opened by call to action.
OPENS: Final = {"plain": 0.20, "question": 0.24, "number": 0.34, "deadline": 0.28}
CLICKS: Final = {"register": 0.22, "seats": 0.36}

_MEDIAN_DELAY: Final = 1.5 * 3600.0  # seconds until the open; log-normal
_DELAY_SPREAD: Final = 1.4
_SHARES: Final = {"scanner": 0.06, "head": 0.03, "prefetch": 0.10}
_AGENTS: Final = {
    "person": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "gmail": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "prefetch": "Mozilla/5.0",
    "scanner": "Barracuda Sentinel (EE)",
}
_LINK: Final = re.compile(r"https?://[^\s\"'<>]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the demo did, and how well it went.

    Attributes:
        folder: The project folder that it leaves.
        html: The report as a page.
        sent: Mails that the ledger says were sent.
        delivered: Mails that the SMTP server got.
        duplicates: Mails that it got twice.
        opens: Mails opened by what was judged a person.
        clicks: Mails clicked by what was judged a person.
        machine_hits: Opens and clicks by scanners and prefetching, kept and not counted.
        expected_clicks: Expected clicks of the allocation, by the hidden truth.
        even_split_clicks: Expected clicks of an even split.
        best_clicks: Expected clicks had everybody got the best variant.
        truth: Cell -> hidden chance of a click.
        found: Cell -> click rate that was measured.
        decision: The report's decision.
        sentence: The report's sentence.
        report: The report.
    """

    folder: Path
    html: Path
    sent: int
    delivered: int
    duplicates: int
    opens: int
    clicks: int
    machine_hits: int
    expected_clicks: float
    even_split_clicks: float
    best_clicks: float
    truth: Mapping[str, float]
    found: Mapping[str, float | None]
    decision: Mapping[str, Any]
    sentence: str
    report: Report

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``regret`` is the expected clicks that were missed against the best variant."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in {"folder", "html", "report"}}
        regret = {
            "ours": round(self.best_clicks - self.expected_clicks, 2),
            "even_split": round(self.best_clicks - self.even_split_clicks, 2),
            "clicks_gained": round(self.expected_clicks - self.even_split_clicks, 2),
        }
        return {"format_version": 1, **plain, "regret": regret, "folder": str(self.folder), "html": str(self.html)}

    def to_text(self, *, color: bool = False) -> str:
        """The report, the hidden truth beside what was found, and what an even split would have cost."""
        best = max(self.truth, key=lambda name: self.truth[name])
        rows = zip(self.found.items(), self.report.arms, strict=True)
        lines = [self._row(name, found, arm.n, is_best=name == best) for (name, found), arm in rows]
        return f"""\
{self.report.to_text(color=color)}
The hidden truth beside what was found (chance of a click)
{chr(10).join(lines)}

Expected clicks: {self.expected_clicks:.0f} as sent, {self.even_split_clicks:.0f} with an even split, \
{self.best_clicks:.0f} had the best variant been known beforehand.
SMTP server: {self.delivered} mails delivered, {self.duplicates} of them twice.
Machine traffic: {self.machine_hits} opens and clicks, kept and not counted.
Project folder: {self.folder}
Report page:    {self.html}"""

    def _row(self, name: str, found: float | None, n: int, *, is_best: bool) -> str:
        mark = "   <- truly best" if is_best else ""
        return f"  {name:22} truth {self.truth[name]:6.2%}   found {found or 0:6.2%}   {n:5} mails{mark}"


def run_demo(
    folder: Path, *, recipients: int = 6_000, seed: int = 7, on_step: Callable[[str, float], None] = lambda *_: None
) -> Outcome:
    """Run the demo.

    Args:
        folder: Where the project is made; an earlier demo there is replaced.
        recipients: Size of the list.
        seed: Of the people, their delays and the experiment.
        on_step: Told what goes on, and how much is done as a fraction in [0, 1].

    Raises:
        ConfigError: The folder holds something that is not an earlier demo.
        MissingExtra: A part that the demo needs is not installed.
        RuntimeError: The tracker does not answer as it must: a fault of abmail.
    """
    on_step("making a list", 0.0)
    project = _fresh_project(folder, recipients, seed)
    experiment = load(project.definition(NAME))
    inbox = _Inbox()
    clock = _Clock(START)
    port = _free_port()
    with ExitStack() as running:
        mail_server = running.enter_context(_mail_server(inbox))
        engine = running.enter_context(
            Engine(
                project.database, transport=mail_server, tracker_url=f"http://127.0.0.1:{port}", project=project.root,
                clock=clock.now, secret=(project.root / "abmail.secret").read_bytes().strip(),
            )
        )  # fmt: skip
        app = create_app(engine, clock=clock.now)
        running.enter_context(BackgroundServer(app, port=port))
        readers = running.enter_context(closing(_Readers(np.random.default_rng(seed), inbox, port)))
        _live_through(engine, project, experiment, clock, readers, app.state.writer, on_step)
        report = engine.analyze(NAME)
        machine = _machine_hits(engine)
    return _outcome(project.root, experiment, report, inbox, machine)


@contextmanager
def _mail_server(inbox: _Inbox) -> Iterator[SMTP]:
    """Run an SMTP server that keeps what it gets; yields the way to send to it."""
    port = _free_port()
    server = Controller(inbox, hostname="127.0.0.1", port=port, ident="demo")
    server.start()
    try:
        yield SMTP("127.0.0.1", port=port)
    finally:
        server.stop()


def _live_through(
    engine: Engine,
    project: Project,
    experiment: Experiment,
    clock: _Clock,
    readers: _Readers,
    writer: EventWriter,
    on_step: Callable[[str, float], None],
) -> None:
    on_step("importing the list", 0.0)
    people = read_recipients(project.root / "leads.csv").recipients
    engine.store.import_recipients(people, now=clock.now())
    engine.apply(engine.plan(experiment))
    end = START + LENGTH
    while clock.now() < end:
        done = (clock.now() - START) / LENGTH
        on_step(f"{clock.now():%a %H:%M} UTC: sending", done)
        tick = engine.tick()
        readers.receive(clock.now())
        on_step(f"{clock.now():%a %H:%M} UTC: people read", done)
        readers.read_until(min(tick.next_at or end, end), clock)
        writer.flush()
    on_step("writing the report", 1.0)


def _fresh_project(folder: Path, recipients: int, seed: int) -> Project:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise ConfigError(f"{folder} holds something else than an earlier demo", hint="name another folder with -o")
        shutil.rmtree(folder)
    project, _ = Project.init(folder)
    (folder / _MARK).touch()
    definition = (_DATA / "demo.yaml").read_text(encoding="utf-8").replace("seed: 7", f"seed: {seed}")
    (folder / "experiments" / f"{NAME}.yaml").write_text(definition, encoding="utf-8")
    shutil.copyfile(_DATA / "demo.html.j2", folder / "mails" / "webinar.html.j2")
    with (folder / "leads.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "email", "name", "company", "language", "industry", "stage", "zone"])
        writer.writerows(_people(np.random.default_rng([seed, 1]), recipients))
    return project


_FAMILY: Final = (
    ("佐藤", "sato"), ("鈴木", "suzuki"), ("高橋", "takahashi"), ("田中", "tanaka"), ("伊藤", "ito"),
    ("渡辺", "watanabe"), ("山本", "yamamoto"), ("中村", "nakamura"), ("小林", "kobayashi"), ("加藤", "kato"),
)  # fmt: skip
_GIVEN: Final = (
    ("花子", "hanako"), ("太郎", "taro"), ("美咲", "misaki"), ("健一", "kenichi"), ("陽子", "yoko"),
    ("大輔", "daisuke"), ("直樹", "naoki"), ("由美", "yumi"),
)  # fmt: skip
_WESTERN: Final = (
    "Anna Schmidt",
    "Liam Brown",
    "Maria Rossi",
    "Noah Jones",
    "Emma Dubois",
    "Oliver Smith",
    "Sofia Novak",
)
_INDUSTRIES: Final = ("manufacturing", "software", "logistics", "retail", "finance")


def _people(rng: np.random.Generator, n: int) -> Iterator[tuple[str, ...]]:
    """Rows of a B2B list, every other person Japanese."""
    for number in range(n):
        japanese = number % 2 == 0
        company = int(rng.integers(max(n // 8, 1)))
        if japanese:
            family, given = _FAMILY[rng.integers(len(_FAMILY))], _GIVEN[rng.integers(len(_GIVEN))]
            name, local, domain = f"{family[0]} {given[0]}", f"{family[1]}.{given[1]}", f"kaisha{company}.example.jp"
        else:
            name = _WESTERN[rng.integers(len(_WESTERN))]
            local, domain = name.lower().replace(" ", "."), f"company{company}.example.com"
        yield (
            f"p{number:06d}", f"{local}.{number}@{domain}", name, domain.split(".")[0], "ja" if japanese else "en",
            str(rng.choice(_INDUSTRIES)), str(rng.choice(["cold", "warm", "hot"], p=[0.5, 0.35, 0.15])),
            "Asia/Tokyo" if japanese else "Europe/Berlin",
        )  # fmt: skip


class _Clock:
    """A clock that stands still until it is set."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def set(self, now: datetime) -> None:
        self._now = max(self._now, now)


class _Inbox:
    """The SMTP server's end: keeps what arrives, per recipient."""

    def __init__(self) -> None:
        self.copies: Counter[str] = Counter()
        self._new: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802  (aiosmtpd calls it so)
        content = envelope.content or b""
        raw = content if isinstance(content, bytes) else content.encode()
        with self._lock:
            for recipient in envelope.rcpt_tos:
                self.copies[recipient] += 1
                self._new.append((recipient, raw))
        return "250 taken"

    def take(self) -> list[tuple[str, bytes]]:
        """What arrived since the last call."""
        with self._lock:
            arrived, self._new = self._new, []
        return arrived


@dataclass(frozen=True, slots=True, order=True)
class _Hit:
    """One HTTP request to come."""

    at: datetime
    number: int
    method: str
    path: str
    agent: str


class _Readers:
    """People (and the machines before them) with a hidden taste; they know only what stands in their mail."""

    def __init__(self, rng: np.random.Generator, inbox: _Inbox, port: int) -> None:
        self._rng = rng
        self._inbox = inbox
        self._queue: list[_Hit] = []
        self._number = 0
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def receive(self, now: datetime) -> None:
        """Decide what becomes of the mails that arrived."""
        for _, raw in sorted(self._inbox.take()):
            self._decide(raw, now)

    def _decide(self, raw: bytes, now: datetime) -> None:
        opened, clicked, scanner, head, prefetch, gmail = self._rng.random(6)
        delay, pause, burst = self._rng.lognormal(np.log(_MEDIAN_DELAY), _DELAY_SPREAD), *self._rng.uniform(20, 60, 2)
        mail = email.message_from_bytes(raw)
        subject, _, call = str(mail["Feedback-ID"]).split(":")[0].partition("+")
        pixel, links = _links(mail)
        if scanner < _SHARES["scanner"]:
            for path in (pixel, *links):
                self._plan(now, burst, "GET", path, "scanner")
        if head < _SHARES["head"]:
            self._plan(now, burst, "HEAD", links[0], "person")
        if prefetch < _SHARES["prefetch"]:
            self._plan(now, burst * 10, "GET", pixel, "prefetch")
        if opened < OPENS[subject]:
            self._plan(now, delay, "GET", pixel, "gmail" if gmail < 0.3 else "person")
            if clicked < CLICKS[call]:
                self._plan(now, delay + pause, "GET", links[0], "person")

    def _plan(self, now: datetime, seconds: float, method: str, path: str, agent: str) -> None:
        self._number += 1
        hit = _Hit(now + timedelta(seconds=float(seconds)), self._number, method, path, _AGENTS[agent])
        heapq.heappush(self._queue, hit)

    def read_until(self, end: datetime, clock: _Clock) -> None:
        """Let time pass, and send every request at its time."""
        self._http.close()  # the tracker hangs up on idle connections; the next request opens a new one
        while self._queue and self._queue[0].at < end:
            hit = heapq.heappop(self._queue)
            clock.set(hit.at)
            self._http.request(hit.method, hit.path, headers={"User-Agent": hit.agent})
            answer = self._http.getresponse()
            answer.read()
            if answer.status not in {200, 302}:
                raise RuntimeError(f"the tracker answered {answer.status} to {hit.method} {hit.path[:40]}")
        clock.set(end)


def _links(mail: Message) -> tuple[str, list[str]]:
    """The pixel's path, and the paths of the tracked links, as a mail program would find them."""
    html = next(part for part in mail.walk() if part.get_content_type() == "text/html").get_payload(decode=True)
    source = html.decode() if isinstance(html, bytes) else ""
    paths = [path for url in _LINK.findall(source.replace("&amp;", "&")) if (path := _path(url))]
    pixel = next(path for path in paths if path.startswith("/o/"))
    return pixel, [path for path in paths if path.startswith("/c/")]


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _machine_hits(engine: Engine) -> int:
    return sum(event.verdict not in {"human", "proxy"} for event in engine.store.events(NAME))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _outcome(folder: Path, experiment: Experiment, report: Report, inbox: _Inbox, machine: int) -> Outcome:
    truth = {c.name: OPENS[c.levels["subject"]] * CLICKS[c.levels["cta"]] for c in experiment.cells}
    html = folder / "report.html"
    html.write_text(report.to_html(), encoding="utf-8")
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    return Outcome(
        folder=folder,
        html=html,
        sent=report.sent,
        delivered=len(inbox.copies),
        duplicates=sum(n - 1 for n in inbox.copies.values()),
        opens=sum(arm.human_opens for arm in report.arms),
        clicks=sum(arm.clicks for arm in report.arms),
        machine_hits=machine,
        expected_clicks=sum(arm.n * truth[arm.name] for arm in report.arms),
        even_split_clicks=report.sent * sum(truth.values()) / len(truth),
        best_clicks=report.sent * max(truth.values()),
        truth=truth,
        found={arm.name: arm.rate for arm in report.arms},
        decision=asdict(report.decision),
        sentence=report.sentence,
        report=report,
    )
