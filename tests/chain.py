"""The whole product on a list as people have them: import, plan, SMTP, mails read as a mail program does, clicks.

The list is Shift_JIS, has blank lines, cells with line ends in quotes, rows with too few and too many cells, addresses
that are none and addresses that come twice in other letters. Commands run as processes of their own, mails go to a real
SMTP server, every link of every mail is asked for over HTTP, and the report is held against what was clicked.
"""

from __future__ import annotations

import csv
import email
import http.client
import io
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from random import Random
from typing import BinaryIO
from urllib.parse import urlsplit

from mailserver import Recorder, free_port, recording

from abmail.events import EventType
from abmail.project import Project
from abmail.store import State
from abmail.web import BackgroundServer, create_app

NAME = "chain"
SUBJECTS = {"春のウェビナーのご案内": "案内", "報告時間を40%減らす3つの方法": "数字"}
DEFINITION = """\
spec: 1
name: chain
factors:
  subject: {案内: "春のウェビナーのご案内", 数字: "報告時間を40%減らす3つの方法"}
control: {subject: 案内}
message: {template: mails/chain.html.j2, from: "営業部 <news@example.com>", language: ja}
audience: {holdout: 0.1}
allocation: {policy: uniform}
"""
TEMPLATE = """\
<p>{{ recipient["氏名"] }} 様</p><p>{{ recipient["メモ"] }}</p>
<p><a href="https://example.com/セミナー?c={{ cell | urlencode }}&amp;n={{ recipient["番号"] }}">詳しく見る</a></p>
<p><a href="https://example.com/next?a=1&amp;b=%E6%98%A5#top">次へ</a></p>
<p><a href="{{ unsubscribe_url }}">配信停止</a></p>
"""
AGENTS = {
    "person": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "scanner": "Barracuda Sentinel (EE)",
}
_URL = re.compile(r'(?:href|src)="(https?://[^"]+)"')


@dataclass(frozen=True, slots=True)
class Person:
    """A row that can be imported."""

    name: str
    number: str
    memo: str


@dataclass(frozen=True, slots=True)
class FaultyList:
    """A list with the faults of real ones.

    Attributes:
        content: The file.
        people: Address as it must be imported -> row.
        rows: Rows that hold any text.
    """

    content: bytes
    people: dict[str, Person]
    rows: int


def faulty_list(rows: int, seed: int) -> FaultyList:
    """Make a list of so many rows, every sixth of them faulty."""
    rng = Random(seed)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["氏名", "メールアドレス", "番号", "メモ"])
    people: dict[str, Person] = {}
    for number in range(rows):
        name = rng.choice(["佐藤 花子", "髙橋 健一", "O'Neil, Anna", "田中①"])
        address, memo = f"p{number}@kaisha{number % 50}.example.jp", rng.choice(["", "見込み", '"重要"', "3時, 東京"])
        if number % 10 == 5:
            memo = "一行目\r\n二行目, 続き"
        person = Person(name, f"{number:06d}", memo)
        match number % 25:
            case 3:
                writer.writerow([name, "not-an-address", person.number, memo])
            case 7:
                again = list(people)[-1] if number < 100 else f"p{number - 1}@kaisha{(number - 1) % 50}.example.jp"
                writer.writerow([name, again.upper(), person.number, memo])
            case 11:
                people[address] = Person(name, "", "")
                writer.writerow([name, address])
            case 13:
                writer.writerow([name, address, person.number, memo, "x", "y"])
            case 17:
                writer.writerow([name, "", person.number, memo])
            case 19:
                text.write("\r\n , ,,\r\n")
                people[address] = person
                writer.writerow([name, f"  {address.title()} ", person.number, memo])
            case _:
                people[address] = person
                writer.writerow([name, address, person.number, memo])
    return FaultyList(text.getvalue().encode("cp932"), people, rows)


class Spool(Recorder):
    """Keeps the mails in a file: a hundred thousand are too many for memory."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._sizes: list[int] = []
        self.copies: Counter[str] = Counter()

    def keep(self, recipient: str, raw: bytes) -> None:
        """Append one mail."""
        self.copies[recipient] += 1
        self._sizes.append(self._file.write(raw))

    def __len__(self) -> int:
        return len(self._sizes)

    def read(self) -> Iterator[bytes]:
        """The mails in the order of arrival."""
        self._file.seek(0)
        for size in self._sizes:
            yield self._file.read(size)


@dataclass(frozen=True, slots=True)
class Mail:
    """What a mail program finds in a mail; links as paths of the tracker."""

    recipient: str
    variant: str
    pixel: str
    clicks: tuple[str, str]
    page: str
    one_click: str


def read_mail(raw: bytes, people: dict[str, Person]) -> Mail:
    """Read a mail with the standard library, and hold it against the person it is for.

    Raises:
        ValueError: Something about it is wrong.
    """
    mail = email.message_from_bytes(raw, policy=default_policy)
    assert isinstance(mail, EmailMessage)
    recipient, person = str(mail["To"]), people[str(mail["To"])]
    html, plain = mail.get_body(("html",)), mail.get_body(("plain",))
    if mail.defects or html is None or plain is None or html.defects or plain.defects:
        raise ValueError(f"defects in the mail to {recipient}: {mail.defects}")
    source = html.get_content()
    for part in (source.replace("&#39;", "'").replace("&#34;", '"'), plain.get_content()):
        found = " ".join(part.split())
        if f"{person.name} 様" not in found or " ".join(person.memo.split()) not in found:
            raise ValueError(f"the mail to {recipient} is not about {person.name}")
    paths = [_path(url.replace("&amp;", "&")) for url in _URL.findall(source)]
    kinds = "".join(path[1] for path in paths)
    if kinds != "ccuo" or mail["List-Unsubscribe-Post"] != "List-Unsubscribe=One-Click":
        raise ValueError(f"the links of the mail to {recipient} are {kinds}")
    one_click = _path(str(mail["List-Unsubscribe"]).strip("<>"))
    return Mail(recipient, SUBJECTS[str(mail["Subject"])], paths[3], (paths[0], paths[1]), paths[2], one_click)


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


@dataclass
class Expected:
    """What people and machines did, by variant; what the report must say."""

    clicks: Counter[str] = field(default_factory=Counter)
    opens: Counter[str] = field(default_factory=Counter)
    unsubscribes: Counter[str] = field(default_factory=Counter)
    all_clicks: Counter[str] = field(default_factory=Counter)
    events: int = 0
    requests: int = 0


class Clock:
    """Tells the time so many seconds ahead of the real one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)


class Readers:
    """Everybody who follows a link: scanners 40 seconds after the sending, people an hour after it."""

    def __init__(self, port: int, clock: Clock, people: dict[str, Person], seed: int) -> None:
        self.did = Expected()
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._clock, self._people, self._rng = clock, people, Random(seed)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def follow(self, mail: Mail) -> None:
        """Ask for every link of a mail, by a scanner, by a person, or by one after the other."""
        kind = self._rng.random()
        self.did.all_clicks[mail.variant] += 1
        if kind < 0.4:
            self._clock.ahead = 40.0
            self._ask_all(mail, "scanner", pause=0.0)
            self._ask(mail.clicks[0], "person", 302, method="HEAD")
        if kind >= 0.25:
            self._clock.ahead = 3_600.0
            self._ask_all(mail, "person", pause=30.0)
            self.did.clicks[mail.variant] += 1
            self.did.opens[mail.variant] += 1
            if kind > 0.98:
                self._ask(mail.one_click, "person", 200, method="POST", body="List-Unsubscribe=One-Click")
                self.did.unsubscribes[mail.variant] += 1
                self.did.events += 1

    def _ask_all(self, mail: Mail, agent: str, *, pause: float) -> None:
        number = self._people[mail.recipient].number
        wanted = (
            f"https://example.com/%E3%82%BB%E3%83%9F%E3%83%8A%E3%83%BC?c={_quoted(mail.variant)}&n={number}",
            "https://example.com/next?a=1&b=%E6%98%A5#top",
        )
        self._ask(mail.pixel, agent, 200)
        self._ask(mail.page, agent, 200)
        for path, target in zip(mail.clicks, wanted, strict=True):
            self._clock.ahead += pause
            self._ask(path, agent, 302, location=target)
        self.did.events += 3

    def _ask(
        self, path: str, agent: str, status: int, *, method: str = "GET", body: str | None = None, location: str = ""
    ) -> None:
        headers = {"User-Agent": AGENTS[agent]}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        answer.read()
        self.did.requests += 1
        if answer.status != status or (location and answer.headers["Location"] != location):
            raise ValueError(f"{method} {path[:3]}: {answer.status} {answer.headers['Location']}, wanted {location}")


def _quoted(text: str) -> str:
    return "".join(f"%{octet:02X}" for octet in text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What went in at one end and came out at the other.

    Attributes:
        rows: Rows of the list.
        people: Rows that can be imported.
        imported: Recipients that the import made.
        held_out: Recipients who deliberately got nothing.
        sent: Mails that the ledger says were sent.
        delivered: Mails that the SMTP server got, by address.
        did: What people and machines did.
        report: The report as JSON.
        events: Events in the store.
        seconds: Stage -> wall time.
    """

    rows: int
    people: dict[str, Person]
    imported: int
    held_out: frozenset[str]
    sent: int
    delivered: Counter[str]
    did: Expected
    report: dict[str, object]
    events: Counter[EventType]
    seconds: dict[str, float]

    @property
    def faults(self) -> tuple[str, ...]:
        """What came out other than it went in, in words."""
        expected = self.people.keys() - self.held_out
        kinds = (EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED)
        checks = {
            "people imported": (self.imported, len(self.people)),
            "mails sent": (self.sent, len(expected)),
            "addresses that got one mail": (self.delivered, Counter(expected)),
            "human clicks": (self.counted("clicks"), self.did.clicks),
            "human opens": (self.counted("human_opens"), self.did.opens),
            "unsubscribes": (self.counted("unsubscribes"), self.did.unsubscribes),
            "events": (sum(self.events[kind] for kind in kinds), self.did.events),
        }
        return tuple(name for name, (found, wanted) in checks.items() if found != wanted)

    def counted(self, name: str) -> Counter[str]:
        """A number of the report by variant, such as ``clicks``."""
        arms = self.report["arms"]
        assert isinstance(arms, list)
        return Counter({arm["name"]: arm[name] for arm in arms})


def run_chain(folder: Path, *, rows: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Take a faulty list through the whole product.

    Args:
        folder: An empty folder, which becomes the project.
        rows: Rows of the list.
        seed: Of the list and of the people.
        say: Told the name of each stage as it begins.

    Raises:
        ValueError: A mail or an answer of the tracker is not what it must be.
    """
    listed, port, seconds = faulty_list(rows, seed), free_port(), dict[str, float]()

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        say(name)
        begin = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - begin

    Project.init(folder)
    (folder / "leads.csv").write_bytes(listed.content)
    (folder / "mails" / "chain.html.j2").write_text(TEMPLATE, encoding="utf-8")
    (folder / "experiments" / "chain.yaml").write_text(DEFINITION, encoding="utf-8")
    with (folder / "spool").open("w+b") as file, recording(inbox := Spool(file)):
        with stage("import"):
            imported = json.loads(abmail(folder, "audience", "import", "leads.csv", "--format", "json", status=1))
        with stage("apply"):
            abmail(folder, "apply", NAME)
        with stage("send"):
            tracker = f"http://127.0.0.1:{port}"
            send = ("send", NAME, "--until-done", "--yes")
            abmail(folder, *send, ABMAIL_SMTP_URL=inbox.url, ABMAIL_TRACKER_URL=tracker)
        clock = Clock()
        with (
            Project.find(folder, environ={}).engine() as engine,
            BackgroundServer(app := create_app(engine, clock=clock), port=port),
            closing(Readers(port, clock, listed.people, seed)) as readers,
            stage("read and click"),
        ):
            engine._clock = lambda: clock() + timedelta(hours=2)  # no event may seem to come from the future
            for raw in inbox.read():
                readers.follow(read_mail(raw, listed.people))
            app.state.writer.flush()
            held_out = frozenset(m.email for m in engine.store.messages(NAME, states=[State.HELD_OUT]))
            sent = engine.store.states(NAME)[State.SENT]
            events = Counter(event.type for event in engine.store.events(NAME))
        with stage("report"):
            report = json.loads(abmail(folder, "report", NAME, "--format", "json"))
    return Outcome(
        rows=imported["rows"], people=listed.people, imported=imported["new"], held_out=held_out, sent=sent,
        delivered=inbox.copies, did=readers.did, report=report, events=events, seconds=seconds,
    )  # fmt: skip


def abmail(folder: Path, *arguments: str, status: int = 0, **settings: str) -> str:
    """Run a command in a process of its own, and return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ABMAIL_")}
    ran = subprocess.run(
        [sys.executable, "-m", "abmail", *arguments], cwd=folder, env={**clean, **settings}, capture_output=True,
        stdin=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    if ran.returncode != status:
        raise ValueError(f"abmail {' '.join(arguments)} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    return ran.stdout
