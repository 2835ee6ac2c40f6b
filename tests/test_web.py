"""The tracker, called as an ASGI application and over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import json
import logging
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.types import Message, Scope

from abmail.errors import ConfigError, MissingExtra
from abmail.events import Event, EventType, Signer, Verdict
from abmail.store import CrowdHit
from abmail.web import MAX_BODY, MAX_URL, PIXEL, BackgroundServer, conversion_api, create_app

SIGNER = Signer(b"0123456789abcdef0123456789abcdef")
SENT_AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
NOW = SENT_AT + timedelta(hours=1)
KNOWN = SIGNER.message_id("spring", "17")
JAPANESE = SIGNER.message_id("haru", "17")
UNKNOWN = SIGNER.message_id("never-sent", "17")
TARGET = "https://example.com/a%20b/?q=1&r=%C3%A9#top"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
ONE_CLICK = b"List-Unsubscribe=One-Click"


@dataclass(frozen=True)
class Known:
    language: str
    sent_at: datetime | None = SENT_AT
    keeps_requests: bool = False


@dataclass
class FakeTracking:
    """Tracking in memory."""

    signer: Signer = SIGNER
    known: dict[str, Known] = field(default_factory=lambda: {KNOWN: Known("en"), JAPANESE: Known("ja")})
    events: dict[str, Event] = field(default_factory=dict)
    unsubscribed: list[tuple[str, datetime, str]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    broken: bool = False

    def message(self, message_id: str, /) -> Known | None:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise OSError("the database is away")
        return self.known.get(message_id)

    def hosted(self, message_id: str, /) -> str | None:
        if self.broken:
            raise OSError("the database is away")
        return "<p>日本語</p>" if message_id in self.known else None

    def messages(self, message_ids: Sequence[str], /) -> dict[str, Known]:
        found = {each: self.message(each) for each in message_ids}
        return {each: known for each, known in found.items() if known is not None}

    def record_all(self, events: Iterable[Event], /) -> None:
        self.events.update({event.key: event for event in events if event.key not in self.events})

    def count_crowd(self, hits: Iterable[CrowdHit], /) -> None:
        raise AssertionError(f"no mail of these tests is counted without a person: {list(hits)}")

    def ping(self) -> None:
        if self.broken:
            raise OSError("the database is away")

    def unsubscribe(self, message_id: str, /, *, at: datetime, reason: str) -> None:
        self.unsubscribed.append((message_id, at, reason))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Browser:
    """Speaks ASGI to the tracker."""

    tracking: FakeTracking = field(default_factory=FakeTracking)
    now: datetime = NOW

    @functools.cached_property
    def app(self) -> Starlette:
        return create_app(self.tracking, clock=lambda: self.now)

    def request(
        self, method: str, url: str, body: bytes = b"", *, chunks: int = 1, query: bytes | None = None, **headers: str
    ) -> Answer:
        path, _, given = url.partition("?")
        fields = {"host": "t.example.com", "user-agent": CHROME, **{k.replace("_", "-"): v for k, v in headers.items()}}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode("utf-8", "surrogateescape"),
            "root_path": "",
            "query_string": given.encode() if query is None else query,
            "headers": [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in fields.items()],
            "server": ("t.example.com", 443),
            "client": ("192.0.2.1", 5),
        }
        return asyncio.run(self._speak(scope, [body] * chunks))

    async def _speak(self, scope: Scope, bodies: list[bytes]) -> Answer:
        waiting: list[Message] = [{"type": "http.request", "body": each, "more_body": True} for each in bodies]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
        said: list[Message] = []

        async def receive() -> Message:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            said.append(message)

        await self.app(scope, receive, send)
        start, *rest = said
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], headers, b"".join(each.get("body", b"") for each in rest))

    @property
    def events(self) -> list[Event]:
        assert self.app.state.writer.flush(60)
        return list(self.tracking.events.values())


@pytest.fixture
def browser() -> Browser:
    return Browser()


def pixel_url(message_id: str = KNOWN) -> str:
    return f"/o/{SIGNER.sign('o', message_id)}.gif"


def click_url(target: str = TARGET, *, message_id: str = KNOWN) -> str:
    return f"/c/{SIGNER.sign('c', message_id, link=3, target=target)}?u={quote(target, safe='')}"


def leave_url(message_id: str = KNOWN) -> str:
    return f"/u/{SIGNER.sign('u', message_id)}"


def tampered(url: str) -> str:
    """The URL with the 30th character of its token changed."""
    place = 3 + 30
    return f"{url[:place]}{'A' if url[place] != 'A' else 'B'}{url[place + 1 :]}"


# --- opens ------------------------------------------------------------------------------------------------------------


def test_an_open_is_a_small_gif_that_nobody_stores_and_an_event(browser: Browser) -> None:
    answer = browser.request("GET", pixel_url())
    assert (answer.status, answer.body, len(answer.body)) == (200, PIXEL, 43)
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-robots-tag"] == "noindex"
    (event,) = browser.events
    assert (event.type, event.at, event.message_id, event.verdict) == (EventType.OPENED, NOW, KNOWN, Verdict.HUMAN)


def test_whoever_stands_before_the_tracker_may_change_an_answer_and_no_other() -> None:
    browser = Browser()
    told: list[int] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            told.append(len(message["headers"]))
            message["headers"].append((b"set-cookie", b"a=b"))

    for url in (pixel_url(), click_url()):
        for _ in range(3):
            path, _, query = url.partition("?")
            scope = {
                "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": [],
                "client": ("192.0.2.1", 5), "root_path": "",
            }  # fmt: skip
            asyncio.run(browser.app(scope, receive, send))
        assert len(set(told[-3:])) == 1


def test_the_short_way_and_the_long_one_give_the_same_answer(browser: Browser) -> None:
    for url in (pixel_url(), click_url()):
        short = browser.request("GET", url)
        assert browser.request("GET", url, content_length="0") == short  # a body is no matter of the short way
        assert browser.request("HEAD", url).headers == short.headers
    assert len(browser.events) == 2


def test_the_gif_is_one_transparent_pixel() -> None:
    head, control, image = PIXEL[:19], PIXEL[19:27], PIXEL[27:]
    assert head[:10] == b"GIF89a\x01\x00\x01\x00"
    assert control[:4] == b"\x21\xf9\x04\x01"  # colour 0 is transparent
    bits = int.from_bytes(image[12:14], "little")
    codes = [bits >> shift & 7 for shift in (0, 3, 6)]  # codes of 3 bits: clear, colour 0, end
    assert (image[10:12], codes, image[14:]) == (b"\x02\x02", [4, 0, 5], b"\x00;")


@pytest.mark.parametrize(
    ("agent", "seconds", "verdict"),
    [
        ("Mozilla/5.0 (via ggpht.com GoogleImageProxy)", 3_600, Verdict.PROXY),
        ("Mozilla/5.0 (via ggpht.com GoogleImageProxy)", 2, Verdict.MACHINE),
        ("Mozilla/5.0", 3_600, Verdict.MACHINE),
        ("", 3_600, Verdict.MACHINE),
    ],
)
def test_an_open_is_judged_by_its_agent_and_its_age(agent: str, seconds: int, verdict: Verdict) -> None:
    browser = Browser(now=SENT_AT + timedelta(seconds=seconds))
    browser.request("GET", pixel_url(), user_agent=agent)
    assert [event.verdict for event in browser.events] == [verdict]


def test_an_open_of_a_message_whose_sending_is_not_known_is_judged_without_its_age(browser: Browser) -> None:
    browser.tracking.known[KNOWN] = Known("en", sent_at=None)
    browser.request("GET", pixel_url(), user_agent="GoogleImageProxy")
    assert [event.verdict for event in browser.events] == [Verdict.PROXY]


def test_two_fetches_in_one_second_are_one_open_and_get_the_same_answer(browser: Browser) -> None:
    first, again = browser.request("GET", pixel_url()), browser.request("GET", pixel_url())
    assert first == again
    assert len(browser.events) == 1


def test_a_message_that_is_not_in_the_ledger_gets_its_pixel_and_no_event(browser: Browser) -> None:
    assert browser.request("GET", pixel_url(UNKNOWN)).body == PIXEL
    assert browser.events == []


# --- clicks -----------------------------------------------------------------------------------------------------------


def test_a_click_leads_to_the_signed_target_byte_for_byte_and_is_an_event(browser: Browser) -> None:
    answer = browser.request("GET", click_url())
    assert (answer.status, answer.headers["location"], answer.body) == (302, TARGET, b"")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    (event,) = browser.events
    assert (event.type, event.message_id, event.link, event.verdict) == (EventType.CLICKED, KNOWN, 3, Verdict.HUMAN)


def test_a_click_right_after_sending_is_suspected(browser: Browser) -> None:
    browser.now = SENT_AT + timedelta(seconds=2)
    assert browser.request("GET", click_url()).status == 302
    assert [(event.verdict, event.reasons) for event in browser.events] == [(Verdict.SUSPECTED, ("fast_click",))]


def test_a_prefetched_click_is_a_machine(browser: Browser) -> None:
    browser.request("GET", click_url(), sec_purpose="prefetch")
    assert [event.verdict for event in browser.events] == [Verdict.MACHINE]


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://example.com/",
        "//example.com/",
        "/local",
        "https:example.com",
        "https:///path",
        "https://user@example.com/",
        "https://example.com\\@evil.example/",
        "https://example.com/\r\nSet-Cookie: a=b",
        "https://example.com/a b",
        "https://example.com:99999/",
        "https://[::1",
        "",
    ],
)
def test_even_a_signed_target_must_be_a_web_address(browser: Browser, target: str) -> None:
    answer = browser.request("GET", click_url(target))
    assert answer.status == 404
    assert "location" not in answer.headers
    assert browser.events == []


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("https://example.com/山?q=é", "https://example.com/%E5%B1%B1?q=%C3%A9"),
        ("http://example.com:8080/a|b{c}^`\"<>'%zz", "http://example.com:8080/a|b{c}^`\"<>'%zz"),
    ],
)
def test_only_what_a_header_cannot_hold_is_encoded(browser: Browser, target: str, location: str) -> None:
    assert browser.request("GET", click_url(target)).headers["location"] == location


@pytest.mark.parametrize("changed", ["", "?u=", "?u=https%3A%2F%2Fevil.example%2F", "?v=x"])
def test_another_target_than_the_signed_one_is_never_followed(browser: Browser, changed: str) -> None:
    answer = browser.request("GET", click_url().partition("?")[0] + changed)
    assert answer.status == 404
    assert "location" not in answer.headers
    assert browser.events == []


def test_a_second_target_is_refused_and_other_parameters_are_ignored(browser: Browser) -> None:
    assert browser.request("GET", f"{click_url()}&u=https%3A%2F%2Fevil.example%2F").status == 404
    assert browser.request("GET", f"{click_url()}&utm_source=x").headers["location"] == TARGET


def test_a_broken_link_is_explained_to_its_reader(browser: Browser) -> None:
    assert "This link does not work" in browser.request("GET", tampered(click_url())).text
    assert "このリンクは開けません" in browser.request("GET", tampered(click_url()), accept_language="ja-JP,en").text


# --- unsubscribing ----------------------------------------------------------------------------------------------------


def test_looking_at_the_unsubscribe_page_changes_nothing(browser: Browser) -> None:
    for method in ("GET", "HEAD"):
        assert browser.request(method, leave_url()).status == 200
    assert (browser.events, browser.tracking.unsubscribed) == ([], [])


@pytest.mark.parametrize(
    ("message_id", "language", "title"), [(KNOWN, "en", "Unsubscribe"), (JAPANESE, "ja", "配信停止")]
)
def test_the_unsubscribe_page_is_a_form_in_the_mails_language(
    browser: Browser, message_id: str, language: str, title: str
) -> None:
    answer = browser.request("GET", leave_url(message_id), accept_language="de")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f'<html lang="{language}">' in answer.text
    assert f"<title>{title}</title>" in answer.text
    assert '<form method="post"><button' in answer.text
    assert 'name="viewport"' in answer.text


def test_the_page_needs_no_script_and_nothing_from_elsewhere(browser: Browser) -> None:
    answer = browser.request("GET", leave_url())
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    for outside in ("<script", "src=", "href=", "url(", "@import", "http"):
        assert outside not in answer.text


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (ONE_CLICK, "application/x-www-form-urlencoded", "one-click"),
        (
            b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "one-click",
        ),
        (b"unsubscribe=yes", "application/x-www-form-urlencoded", "form"),
        (b"", "text/plain", "form"),
        (b"\xff\x00garbage", "multipart/form-data", "form"),
    ],
)
def test_a_post_unsubscribes_at_once_whatever_its_body(
    browser: Browser, body: bytes, content_type: str, reason: str
) -> None:
    answer = browser.request("POST", leave_url(), body, content_type=content_type)
    assert answer.status == 200
    assert "You are unsubscribed" in answer.text
    assert not {"location", "set-cookie"} & set(answer.headers)
    assert browser.tracking.unsubscribed == [(KNOWN, NOW, reason)]


def test_unsubscribing_twice_gives_the_same_answer(browser: Browser) -> None:
    assert browser.request("POST", leave_url(), ONE_CLICK) == browser.request("POST", leave_url(), ONE_CLICK)


def test_a_reader_who_leaves_early_is_unsubscribed_all_the_same() -> None:
    tracking = FakeTracking()
    app = create_app(tracking, clock=lambda: NOW)
    path = leave_url()
    scope: Scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    async def nowhere(_: Message) -> None:
        return None

    asyncio.run(app(scope, leave, nowhere))
    assert [each[0] for each in tracking.unsubscribed] == [KNOWN]


def test_a_message_that_is_not_in_the_ledger_cannot_be_unsubscribed_from(browser: Browser) -> None:
    for method in ("GET", "POST"):
        assert browser.request(method, leave_url(UNKNOWN)).status == 404
    assert browser.tracking.unsubscribed == []


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [pixel_url(), click_url(), leave_url()])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_tampered_token_gets_404_and_changes_nothing(browser: Browser, url: str, method: str) -> None:
    answer = browser.request(method, tampered(url))
    assert answer.status == (405 if method == "POST" and not url.startswith("/u/") else 404)
    assert "location" not in answer.headers
    assert (browser.events, browser.tracking.unsubscribed) == ([], [])


@pytest.mark.parametrize(("url", "status"), [(pixel_url(), 200), (click_url(), 302), (leave_url(), 200)])
def test_head_answers_like_get_and_records_nothing(browser: Browser, url: str, status: int) -> None:
    head = browser.request("HEAD", url)
    assert browser.events == []
    got = browser.request("GET", url)
    assert (head.status, head.headers) == (status, got.headers)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("url", [pixel_url(), click_url(), leave_url(), "/health"])
def test_other_methods_are_not_allowed(browser: Browser, method: str, url: str) -> None:
    assert browser.request(method, url).status == 405


def test_the_allowed_methods_are_named(browser: Browser) -> None:
    allowed = browser.request("PUT", leave_url()).headers["allow"]
    assert {each.strip() for each in allowed.split(",")} == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("url", ["/", "/o/", "/o/x", "/c", "/u/", "/x/y/z", f"{leave_url()}/", f"/{pixel_url()}"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_found_and_never_redirected(browser: Browser, method: str, url: str) -> None:
    assert browser.request(method, url).status == 404


def test_a_token_of_one_kind_opens_no_other_door(browser: Browser) -> None:
    opened, left = SIGNER.sign("o", KNOWN), SIGNER.sign("u", KNOWN)
    assert browser.request("POST", f"/u/{opened}").status == 404
    assert browser.request("GET", f"/o/{left}.gif").status == 404
    assert browser.tracking.unsubscribed == []


def test_a_url_or_body_over_its_limit_is_refused(browser: Browser) -> None:
    room = MAX_URL - len(click_url()) + 1  # the question mark is part of neither path nor query
    assert browser.request("GET", f"{click_url()}&{'x' * (room - 1)}").status == 302
    assert browser.request("GET", f"{click_url()}&{'x' * room}").status == 414
    assert browser.request("POST", leave_url(), b"x" * MAX_BODY).status == 200
    assert browser.request("POST", leave_url(), b"x" * (MAX_BODY // 2 + 1), chunks=2).status == 413
    for declared in (str(MAX_BODY + 1), "9" * 5_000):
        assert browser.request("POST", leave_url(), content_length=declared).status == 413
    assert len(browser.tracking.unsubscribed) == 1


def test_health_is_said(browser: Browser) -> None:
    assert browser.request("GET", "/health").status == 200


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
    path=st.sampled_from(["/o/{}.gif", "/c/{}", "/u/{}", "/{}", "{}"]),
    token=st.text(max_size=60) | st.sampled_from([SIGNER.sign("o", KNOWN), SIGNER.sign("u", KNOWN)]),
    query=st.binary(max_size=60) | st.text(max_size=40).map(lambda text: f"u={text}".encode("utf-8", "replace")),
    body=st.binary(max_size=60),
    agent=st.text(max_size=40),
    length=st.text(max_size=8),
)
def test_no_garbage_makes_the_tracker_fail(
    method: str, path: str, token: str, query: bytes, body: bytes, agent: str, length: str
) -> None:
    browser = Browser()
    url = path.format(token.encode("utf-8", "replace").decode())
    answer = browser.request(method, url, body, query=query, user_agent=agent, content_length=length, content_type="x")
    assert answer.status in (200, 404, 405, 413)
    assert "location" not in answer.headers


@given(st.text(max_size=60).map(lambda text: f"https://example.com/{text}"))
def test_a_signed_target_is_followed_exactly_or_not_at_all(target: str) -> None:
    browser = Browser()
    try:
        url = click_url(target)
    except ValueError:
        return
    answer = browser.request("GET", url)
    location = answer.headers.get("location")
    assert (answer.status == 302) == (location is not None)
    if location is not None:
        assert location.isascii()
        assert urlsplit(location).hostname == "example.com"
        assert location == target or not target.isascii()


# --- faults behind the tracker ----------------------------------------------------------------------------------------


def test_readers_are_served_while_the_database_is_away_and_no_event_is_lost(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    browser.tracking.broken = True
    with caplog.at_level(logging.ERROR, "abmail"):
        assert browser.request("GET", pixel_url()).body == PIXEL
        assert browser.request("GET", click_url()).headers["location"] == TARGET
        assert not browser.app.state.writer.flush(0.1)
    assert "events wait, as they could not be stored: the database is away" in caplog.records[0].message
    assert browser.app.state.writer.waiting == 2
    browser.tracking.broken = False
    assert sorted(event.type for event in browser.events) == ["clicked", "opened"]


def test_an_unsubscribe_that_cannot_be_stored_is_not_confirmed(browser: Browser) -> None:
    browser.tracking.broken = True
    for method in ("GET", "POST"):
        answer = browser.request(method, leave_url(), ONE_CLICK)
        assert (answer.status, answer.headers["retry-after"]) == (503, "120")
        assert ("Please try again" in answer.text) == ("<form" in answer.text) == (method == "POST")


def test_the_database_is_asked_outside_the_event_loop(browser: Browser) -> None:
    for method, url in (("GET", pixel_url()), ("GET", click_url()), ("GET", leave_url()), ("POST", leave_url())):
        browser.request(method, url)
    assert len(browser.events) == 2
    assert browser.tracking.threads
    assert threading.get_ident() not in browser.tracking.threads


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[tuple[httpx.Client, FakeTracking]]:
    tracking = FakeTracking()
    with (
        BackgroundServer(create_app(tracking, clock=lambda: NOW)) as server,
        httpx.Client(base_url=server.url, headers={"user-agent": CHROME}, trust_env=False) as client,
    ):
        yield client, tracking


def test_a_mails_whole_life_over_real_http(served: tuple[httpx.Client, FakeTracking]) -> None:
    client, tracking = served
    assert client.get("/health").json()["status"] == "ok"
    assert client.get(pixel_url()).content == PIXEL
    head = client.head(pixel_url())
    assert (head.content, head.headers["content-length"]) == (b"", "43")
    clicked = client.get(click_url())
    assert (clicked.status_code, clicked.headers["location"]) == (302, TARGET)
    assert client.get(tampered(click_url())).status_code == 404
    assert client.get(leave_url()).status_code == 200
    assert tracking.unsubscribed == []
    assert client.post(leave_url(), content=ONE_CLICK).status_code == 200
    assert client.post(leave_url(), files={"List-Unsubscribe": (None, "One-Click")}).status_code == 200
    assert [reason for _, _, reason in tracking.unsubscribed] == ["one-click", "one-click"]
    assert client.get("/o/" + "x" * (MAX_URL + 1)).status_code == 414


def test_what_was_seen_is_stored_before_a_server_ends() -> None:
    tracking = FakeTracking()
    with BackgroundServer(create_app(tracking, clock=lambda: NOW)) as server:
        for url in (pixel_url(), click_url()):
            httpx.get(server.url + url, headers={"user-agent": CHROME}, trust_env=False)
    assert sorted(event.type for event in tracking.events.values()) == ["clicked", "opened"]


def test_bytes_that_are_no_http_do_not_stop_the_server(served: tuple[httpx.Client, FakeTracking]) -> None:
    client, _ = served
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10) as raw:
            raw.sendall(garbage)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(100)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert client.get("/health").status_code == 200


def test_a_server_stops_with_its_block_and_can_be_started_again() -> None:
    server = BackgroundServer(create_app(FakeTracking(), clock=lambda: NOW))
    for _ in range(2):
        with server:
            url = server.url
            assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health", trust_env=False)
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        _ = server.url


def test_a_server_that_is_stopped_at_once_stops() -> None:
    with BackgroundServer(create_app(FakeTracking(), clock=lambda: NOW)) as server:
        assert server.url.startswith("http://127.0.0.1:")
    assert "abmail-web" not in {thread.name for thread in threading.enumerate()}


def test_an_address_that_cannot_be_listened_on_is_refused_in_words() -> None:
    app = create_app(FakeTracking(), clock=lambda: NOW)
    with BackgroundServer(app) as first:
        port = urlsplit(first.url).port
        assert port is not None
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
            BackgroundServer(app, port=port).__enter__()
    with pytest.raises(ConfigError, match=r"the port is 70000, must be in 0\.\.65535"):
        BackgroundServer(app, port=70_000).__enter__()


@pytest.mark.parametrize("missing", ["starlette.applications", "starlette.routing"])
def test_without_starlette_the_module_names_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "abmail.web")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match="the tracker needs the extra 'web'"):
        importlib.import_module("abmail.web")


def test_without_a_server_the_application_works_and_serving_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    app = create_app(FakeTracking(), clock=lambda: NOW)
    with pytest.raises(MissingExtra, match="needs the extra 'demo'"), contextlib.ExitStack() as stack:
        stack.enter_context(BackgroundServer(app))


def test_a_mail_is_shown_in_a_browser_without_being_counted_and_can_do_nothing_there(browser: Browser) -> None:
    url = f"/v/{SIGNER.sign('v', KNOWN)}"
    answer = browser.request("GET", url)
    assert (answer.status, answer.text) == (200, "<p>日本語</p>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert browser.request("HEAD", url).status == 200
    assert not browser.tracking.events
    for wrong in (tampered(url), f"/v/{SIGNER.sign('u', KNOWN)}", f"/v/{SIGNER.sign('v', UNKNOWN)}", "/v/x"):
        assert browser.request("GET", wrong).status == 404
    assert browser.request("POST", url).status == 405
    browser.tracking.broken = True
    assert browser.request("GET", url).status == 503


# --- conversions ------------------------------------------------------------------------------------------------------


def conversion_url(kind: str = "") -> str:
    return f"/k/{SIGNER.sign('k', KNOWN)}{kind}"


def test_a_pixel_on_the_shops_page_records_a_conversion_once_for_each_order() -> None:
    browser = Browser()
    for query in ("?value=49.5&key=A17", "?value=49.5&key=A17", "?key=A18"):
        assert browser.request("GET", conversion_url(".gif") + query).body == PIXEL
    assert browser.request("HEAD", conversion_url(".gif")).status == 200
    events = list(browser.tracking.events.values())
    assert [(event.type.value, event.message_id, event.value) for event in events] == [
        ("converted", KNOWN, 49.5),
        ("converted", KNOWN, None),
    ]


def test_a_server_reports_conversions_and_replies_as_json_or_as_a_form() -> None:
    browser = Browser()
    json_body = b'{"value": 120, "key": "order-1"}'
    assert browser.request("POST", conversion_url(), json_body, content_type="application/json").status == 200
    assert browser.request("POST", conversion_url(), b"type=replied&key=r1").status == 200
    events = list(browser.tracking.events.values())
    assert [(event.type.value, event.value) for event in events] == [("converted", 120.0), ("replied", None)]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"value=many", "", "must be a number"),
        (b"value=nan", "", "must be a number"),
        (b"value=1e15", "", "value is"),
        (b"type=opened", "", "must be one of converted, replied"),
        (b"[1]", "application/json", "must be a JSON object"),
        (b"{", "application/json", "neither JSON nor a form"),
        (b'{"key": 7}', "application/json", "key must be a text"),
        (b"key=" + b"x" * 201, "", "at most 200"),
        (b"x" * 5_000, "", "more than 4096 bytes"),
    ],
)
def test_a_call_that_says_nonsense_is_told_so_and_records_nothing(body: bytes, kind: str, said: str) -> None:
    browser = Browser()
    answer = browser.request("POST", conversion_url(), body, content_type=kind)
    assert answer.status == 400
    assert said in answer.text
    assert not browser.tracking.events


def test_a_conversion_needs_a_token_of_its_own_kind() -> None:
    browser = Browser()
    for token in (SIGNER.sign("o", KNOWN), "x" * 47):
        assert browser.request("GET", f"/k/{token}.gif").status == 404
        assert browser.request("POST", f"/k/{token}").status == 404
    assert not browser.tracking.events


class People:
    """A ledger of one experiment with one mail."""

    def known_messages(self, ids: Sequence[str], /) -> frozenset[str]:
        return frozenset({KNOWN} & set(ids))

    def messages_to(self, name: str, /, *, recipients: Sequence[str], emails: Sequence[str]) -> dict[str, str]:
        asked = [*recipients, *emails] if name == "spring" else []
        return {each: KNOWN for each in asked if each in {"u-17", "hanako@example.jp"}}


API_KEY = "a key of twenty letters and more"


def reported(fields: object, *, key: str = f"Bearer {API_KEY}") -> tuple[int, list[Event]]:
    """The answer to a server that names a mail and has a key, and the events that it left."""
    browser = Browser()
    routes = conversion_api(browser.tracking, People(), ("another key than this", API_KEY), clock=lambda: NOW)
    browser.app = create_app(browser.tracking, clock=lambda: NOW, routes=routes)
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    statuses = {browser.request("POST", "/k", body, authorization=key).status for _ in range(2)}
    assert len(statuses) == 1
    return statuses.pop(), list(browser.tracking.events.values())


@pytest.mark.parametrize(
    "named",
    [
        {"message_id": KNOWN},
        {"experiment": "spring", "recipient": "u-17"},
        {"experiment": "spring", "email": " Hanako@Example.JP "},
    ],
)
def test_a_server_with_a_key_reports_each_order_once_for_whom_it_names(named: dict[str, str]) -> None:
    at = NOW - timedelta(hours=3)
    status, events = reported({**named, "key": "A17", "value": 49.5, "at": at.isoformat()})
    assert status == 200
    assert [(each.type.value, each.message_id, each.value, each.at) for each in events] == [
        ("converted", KNOWN, 49.5, at)
    ]
    assert events[0].key == f"{KNOWN}:converted:A17"  # as the pixel's, so that both count once


@pytest.mark.parametrize("key", ["", "Bearer ", "Bearer another", f"Basic {API_KEY}", API_KEY, f"Bearer {API_KEY}x"])
def test_a_server_without_a_key_reports_nothing(key: str) -> None:
    assert reported({"message_id": KNOWN, "key": "A17"}, key=key) == (401, [])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"message_id": "f" * 32, "key": "A"}, 404),
        ({"experiment": "autumn", "recipient": "u-17", "key": "A"}, 404),
        ({"message_id": KNOWN}, 400),
        ({"experiment": "spring", "key": "A"}, 400),
        ({"experiment": "spring", "email": "nobody", "key": "A"}, 400),
        ({"recipient": "u-17", "key": "A"}, 400),
        ({"message_id": 7, "key": "A"}, 400),
        ({"message_id": KNOWN, "key": "A", "at": "yesterday"}, 400),
        ({"message_id": KNOWN, "key": "A", "at": "2026-03-01T10:00:00"}, 400),
        ({"message_id": KNOWN, "key": "A", "at": "2999-01-01T00:00:00Z"}, 400),
        (b"[", 400),
        (b"[]", 400),
    ],
)
def test_what_a_server_says_wrongly_is_refused_and_recorded_nowhere(fields: object, status: int) -> None:
    assert reported(fields) == (status, [])


def test_without_keys_there_is_no_such_address() -> None:
    assert conversion_api(FakeTracking(), People(), (), clock=lambda: NOW) == []
    assert Browser().request("POST", "/k", b"{}").status == 404
