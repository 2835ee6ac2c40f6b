"""A person reads a delivered mail in a real browser: the pixel, a link, and leaving; English and Japanese.

Needs Debian's ``chromium`` (or another Chromium); skipped on a machine without one, except in CI, where it fails.
"""

from __future__ import annotations

import email
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from typing import Final, Literal

import pytest
from mailserver import Recorder, free_port, recording
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from abmail._links import link_target
from abmail.engine import Engine
from abmail.events import Event, Verdict
from abmail.recipient import Recipient
from abmail.send import SMTP
from abmail.spec import loads
from abmail.web import BackgroundServer, EventWriter, create_app

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
READER = "hanako@example.com"
DEFINITION = """\
spec: 1
name: spring
factors:
  subject: {plain: Join us, number: Three ways}
control: {subject: plain}
message: {template: mails/spring.html.j2, from: news@example.com, language: LANGUAGE}
allocation: {policy: uniform}
"""
TEMPLATE = """\
<!doctype html><html><body><p>Hello {{ recipient.name }}</p>
<p><a id="cta" href="SHOP/seminar?c=%E6%98%A5&amp;n=1#top">Register</a></p>
<p><a id="leave" href="{{ unsubscribe_url }}">no more</a></p></body></html>
"""
WORDS = {
    "en": ("Unsubscribe", "You are unsubscribed", "This link does not work"),
    "ja": ("配信停止", "配信を停止しました", "このリンクは開けません"),
}
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
LOCALES = {"en": "en-US", "ja": "ja-JP"}
SCREENS: dict[str, ViewportSize] = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 800}}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium; .ci/run installs it with apt-get")
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Mailing:
    """A mail that was sent and delivered, with all that answers its links."""

    engine: Engine
    writer: EventWriter
    tracker: str
    mail: EmailMessage
    file: Path
    visits: list[str]

    @property
    def events(self) -> list[Event]:
        assert self.writer.flush(60)
        return list(self.engine.store.events("spring"))

    @property
    def message_id(self) -> str:
        return next(self.engine.store.messages("spring")).id


def deliver(running: ExitStack, folder: Path, language: str) -> Mailing:
    """Send a mail over SMTP, and open the servers that its links lead to."""
    port, visits = free_port(), list[str]()

    def shop(request: Request) -> HTMLResponse:
        visits.append(str(request.url))
        return HTMLResponse("<h1>Seminar</h1>")

    target = running.enter_context(BackgroundServer(Starlette(routes=[Route("/seminar", shop)])))
    inbox: Recorder = running.enter_context(recording())
    transport = SMTP("127.0.0.1", port=inbox.port)
    tracker = f"http://127.0.0.1:{port}"
    engine = running.enter_context(
        Engine(f"sqlite:///{folder}/mail.db", transport=transport, secret=b"0123456789abcdef", tracker_url=tracker)
    )
    experiment = loads(DEFINITION.replace("LANGUAGE", language))
    people = [Recipient(id="1", email=READER, attributes={"name": "Hanako"})]
    sent = datetime.now(UTC) - timedelta(minutes=5)
    engine.apply(engine.plan(experiment, people, template=TEMPLATE.replace("SHOP", target.url)), now=sent)
    engine.tick(now=sent)
    ((recipient, raw),) = inbox.mails
    assert recipient == READER
    mail = email.message_from_bytes(raw, policy=default_policy)
    assert isinstance(mail, EmailMessage)
    html = mail.get_body(("html",))
    assert html is not None
    file = folder / "mail.html"
    file.write_text(html.get_content(), encoding="utf-8")
    app = create_app(engine, clock=lambda: datetime.now(UTC))
    running.enter_context(BackgroundServer(app, port=port))
    return Mailing(engine, app.state.writer, tracker, mail, file, visits)


@pytest.fixture(params=["en", "ja"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mailing(tmp_path: Path, language: str) -> Iterator[Mailing]:
    with ExitStack() as running:
        yield deliver(running, tmp_path, language)


@pytest.fixture
def context(chromium: Browser, language: str) -> Iterator[BrowserContext]:
    made = chromium.new_context(user_agent=AGENT, locale=LOCALES[language])
    yield made
    made.close()


def is_harmless(said: ConsoleMessage) -> bool:
    return said.type not in {"error", "warning"} or said.location["url"].endswith("/favicon.ico")


def watched(context: BrowserContext) -> tuple[Page, list[str]]:
    """A page, and what its console complains about and which foreign places it asks."""
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda said: None if is_harmless(said) else complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    context.on(
        "request",
        lambda asked: None if asked.url.startswith(("file:", "http://127.0.0.1:")) else complaints.append(asked.url),
    )
    return page, complaints


def test_a_person_opens_a_mail_follows_its_link_and_leaves(
    context: BrowserContext, mailing: Mailing, language: str
) -> None:
    page, complaints = watched(context)
    offer, done, _ = WORDS[language]

    page.goto(mailing.file.as_uri())
    assert "Hello Hanako" in page.inner_text("body")
    assert page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])") == [
        [True, 1, 1]
    ]
    assert [(event.type, event.verdict) for event in mailing.events] == [("opened", Verdict.HUMAN)]

    page.click("#cta")
    page.wait_for_selector("h1")
    assert page.inner_text("h1") == "Seminar"
    assert [visit.partition("/seminar")[2] for visit in mailing.visits] == ["?c=%E6%98%A5&n=1"]
    assert page.url.endswith("#top")
    assert page.evaluate("document.referrer") == ""
    assert {(event.type, event.verdict) for event in mailing.events} == {
        ("opened", Verdict.HUMAN), ("clicked", Verdict.HUMAN),
    }  # fmt: skip

    page.goto(mailing.file.as_uri())
    page.click("#leave")
    assert page.title() == offer
    assert page.get_attribute("html", "lang") == language
    page.reload()
    assert READER not in mailing.engine.store.suppressed()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    page.keyboard.press("Enter")
    page.wait_for_function("title => document.title === title", arg=done)
    assert READER in mailing.engine.store.suppressed()
    page.reload()  # sends the form again
    assert page.title() == done
    assert context.cookies() == []
    assert complaints == []
    assert {event.type for event in mailing.events} == {"opened", "clicked", "unsubscribed"}


def test_the_pages_fit_every_screen_and_can_be_read_in_the_dark(
    chromium: Browser, mailing: Mailing, language: str
) -> None:
    sign = mailing.engine.signer.sign
    offer, _, bad = WORDS[language]
    pages = {f"/u/{sign('u', mailing.message_id)}": offer, "/u/cut-off": bad, f"/c/{'x' * 50}?u=y": bad}
    for screen in SCREENS.values():
        for scheme in SCHEMES:
            context = chromium.new_context(
                user_agent=AGENT,
                locale=LOCALES[language],
                viewport=screen,
                color_scheme=scheme,
            )
            page, _ = watched(context)
            for path, title in pages.items():
                page.goto(mailing.tracker + path)
                assert page.title() == title
                assert page.evaluate("document.documentElement.scrollWidth") <= screen["width"]
                assert contrast(page, "h1") >= 7.0
                assert contrast(page, "p") >= 7.0
                if page.query_selector("button"):
                    box = page.query_selector("button").bounding_box()  # type: ignore[union-attr]
                    assert box is not None
                    assert box["height"] >= 44  # a thumb's width
                    assert contrast(page, "button") >= 4.5
            context.close()


def contrast(page: Page, selector: str) -> float:
    """Contrast of a text with what is behind it (WCAG 2.2, 1.4.3)."""
    found: float = page.evaluate(
        """selector => {
            const channels = colour => colour.match(/[\\d.]+/g).map(Number);
            const light = colour => channels(colour).slice(0, 3)
                .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const element = document.querySelector(selector);
            let behind = element;
            const clear = node => (channels(getComputedStyle(node).backgroundColor)[3] ?? 1) === 0;
            while (clear(behind)) behind = behind.parentElement;
            const [a, b] = [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }""",
        selector,
    )
    return found


def test_a_mail_in_the_browser_shows_itself_and_runs_nothing(context: BrowserContext, mailing: Mailing) -> None:
    page, _ = watched(context)
    url = f"{mailing.tracker}/v/{mailing.engine.signer.sign('v', mailing.message_id)}"
    page.goto(url)
    assert "Hello Hanako" in page.inner_text("body")
    page.click("#cta")
    page.wait_for_selector("h1")
    assert page.inner_text("h1") == "Seminar"


def test_the_button_of_the_mail_program_unsubscribes_without_a_page(context: BrowserContext, mailing: Mailing) -> None:
    assert mailing.mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = str(mailing.mail["List-Unsubscribe"]).partition(">")[0].strip("<")
    answer = context.request.post(url, form={"List-Unsubscribe": "One-Click"}, max_redirects=0)
    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    assert READER in mailing.engine.store.suppressed()


PIECES = (
    "a", "Z", "é", "日本", "😀", "%", "%2F", "%zz", " ", "\t", "\n", '"', "'", "<", ">", "`", "{", "|", "}", "^", "[",
    "]", "&", "&amp;", "+", "=", ";", ",", "!", "$", "(", ")", "*", "~", ":", "@", ".", "..", "/", "//", "/./", "/../",
    "?", "#", "??", "##", "\u00a0", "\u200d", "\u2028",
)  # fmt: skip
HOSTS = (
    "example.com", "EXAMPLE.com", "bücher.example", "例え.テスト", "example.com:8080", "example.com:443",
    "[2001:db8::1]", "127.0.0.1", "x-y.co.jp.",
)  # fmt: skip
READ = "pairs => pairs.map(pair => pair.map(each => URL.canParse(each) ? new URL(each).href : each))"


def test_a_redirect_leads_where_a_browser_reads_the_link(chromium: Browser) -> None:
    rng = random.Random(7)
    hrefs = [
        rng.choice(("", " ", "\n")) + rng.choice(("http", "https", "HTTPS")) + "://" + rng.choice(HOSTS)
        + rng.choice(("", "/", "?", "#")) + "".join(rng.choices(PIECES, k=rng.randint(0, 8))) + rng.choice(("", " "))
        for _ in range(4_000)
    ]  # fmt: skip
    targets: list[tuple[str, str]] = []
    for href in hrefs:
        with suppress(ValueError):
            targets.append((href, link_target(href) or ""))
    page = chromium.new_page()
    read = page.evaluate(READ, targets)
    page.close()
    assert len(targets) > 3_000
    assert all(target.isascii() and " " not in target for _, target in targets)
    assert [href for (href, _), (link, redirect) in zip(targets, read, strict=True) if link != redirect] == []
