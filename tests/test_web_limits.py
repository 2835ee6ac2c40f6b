"""Who asks, how often one address may, and how much a request may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from abmail._web_limits import ADDRESS, MAX_BODY, MAX_WEBHOOK, Guard, Proxies, RateLimit, TrackerSettings
from abmail.errors import ConfigError


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


# --- who asks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "reader"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # nobody named that proxy
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # the first one is the reader's own word
        ("127.0.0.1", ["6.6.6.6", "198.51.100.1, 10.2.3.4"], "198.51.100.1"),
        ("127.0.0.1", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["garbage"], "garbage"),
        ("127.0.0.1", ["198.51.100.1,"], "198.51.100.1"),
        ("2001:db8::7", ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    ],
)
def test_the_reader_is_the_last_address_that_no_named_proxy_vouches_for(
    peer: str, forwarded: list[str], reader: str
) -> None:
    proxies = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32", "unix"])
    assert proxies.reader(peer, forwarded) == reader


def test_without_named_proxies_nobody_may_say_who_asks() -> None:
    for peer in ("127.0.0.1", "", "::1"):
        assert Proxies([]).reader(peer, ["198.51.100.1"]) == peer


@given(st.text(max_size=20), st.lists(st.text(max_size=40), max_size=3))
def test_no_header_makes_the_search_for_the_reader_fail(peer: str, forwarded: list[str]) -> None:
    assert isinstance(Proxies(["0.0.0.0/0", "::/0", "unix"]).reader(peer, forwarded), str)


@pytest.mark.parametrize("network", ["nonsense", "10.0.0.0/99", "", "10.0.0.0 /8"])
def test_a_network_that_is_none_is_refused_with_its_name(network: str) -> None:
    with pytest.raises(ConfigError, match="is no network of proxies"):
        TrackerSettings(proxies=(network,))


@pytest.mark.parametrize("rate", [-1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="the tracker's rate is"):
        TrackerSettings(rate=rate)
    with pytest.raises(ConfigError, match="capacity is 0"):
        TrackerSettings(capacity=0)


# --- how often --------------------------------------------------------------------------------------------------------


def test_a_burst_passes_and_then_so_many_a_second() -> None:
    clock = Clock()
    limit = RateLimit(10.0, burst=5.0, clock=clock)
    assert [limit.takes("192.0.2.1") for _ in range(7)] == [True] * 5 + [False] * 2
    assert limit.takes("192.0.2.2")
    clock.now += 0.1
    assert [limit.takes("192.0.2.1") for _ in range(2)] == [True, False]
    clock.now += 60.0
    assert [limit.takes("192.0.2.1") for _ in range(6)] == [True] * 5 + [False]


def test_over_a_long_time_as_many_pass_as_the_rate_says() -> None:
    clock = Clock()
    limit = RateLimit(3.0, burst=2.0, clock=clock)
    passed = 0
    for _ in range(10_000):
        clock.now += 0.01
        passed += limit.takes("192.0.2.1")
    assert 300 <= passed <= 303


def test_no_rate_limits_nobody() -> None:
    limit = RateLimit(0.0, burst=1.0, clock=Clock())
    assert all(limit.takes("192.0.2.1") for _ in range(100))


def test_a_home_with_many_addresses_has_one_bucket() -> None:
    limit = RateLimit(1.0, burst=1.0, clock=Clock())
    assert limit.takes("2001:db8:1:2::1")
    assert not limit.takes("2001:db8:1:2:3:4:5:6")
    assert limit.takes("2001:db8:1:3::1")
    assert limit.takes("::ffff:192.0.2.1")
    assert not limit.takes("192.0.2.1")
    assert limit.takes("no:address")


def test_only_so_many_addresses_are_remembered_and_the_newest_of_them() -> None:
    limit = RateLimit(1.0, burst=1.0, addresses=100, clock=Clock())
    for number in range(5_000):
        assert limit.takes(f"10.0.{number // 250}.{number % 250}")
        assert len(limit) <= 100
    assert not limit.takes("10.0.19.249")
    assert limit.takes("10.0.0.0")


# --- the guard --------------------------------------------------------------------------------------------------------


def ask(
    path: str,
    *,
    method: str = "GET",
    root: str = "",
    headers: Sequence[tuple[str, str]] = (),
    times: int = 1,
    status: int = 200,
) -> tuple[list[int], list[str]]:
    """Statuses of so many requests, and the addresses that reached the application."""
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope[ADDRESS])
        await send({"type": "http.response.start", "status": status, "headers": []})

    limits = {name: RateLimit(1.0, burst=2.0, clock=Clock()) for name in ("limit", "refused")}
    guard = Guard(app, proxies=Proxies(["127.0.0.1"]), **limits)
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    raw = [(name.encode(), value.encode()) for name, value in headers]
    for _ in range(times):
        scope: Scope = {
            "type": "http", "method": method, "path": root + path, "root_path": root, "query_string": b"",
            "headers": raw, "client": ("127.0.0.1", 5),
        }  # fmt: skip
        asyncio.run(guard(scope, receive, send))
    return statuses, reached


def test_an_address_that_asks_too_often_is_told_to_wait() -> None:
    assert ask("/o/x.gif", times=4)[0] == [200, 200, 429, 429]


def test_nobody_who_wants_to_leave_is_told_to_wait() -> None:
    assert ask("/u/x", method="POST", times=9)[0] == [200] * 9
    assert ask("/u/x", method="POST", root="/mail", times=9)[0] == [200] * 9
    assert ask("/u/x", times=3)[0] == [200, 200, 429]


def test_a_provider_may_send_as_many_webhooks_as_it_likes_and_a_stranger_may_not() -> None:
    assert ask("/w/sendgrid", method="POST", times=9)[0] == [200] * 9
    assert ask("/w/sendgrid", method="POST", times=9, root="/mail")[0] == [200] * 9
    assert ask("/w/sendgrid", method="POST", times=4, status=401)[0] == [401, 401, 429, 429]
    assert ask("/w/sendgrid", method="POST", times=4, status=503)[0] == [503] * 4  # that is our fault
    assert ask("/w/sendgrid", times=4)[0] == [200, 200, 429, 429]


def test_the_application_learns_who_asks() -> None:
    assert ask("/o/x.gif", headers=[("x-forwarded-for", "6.6.6.6, 198.51.100.1")])[1] == ["198.51.100.1"]


def test_webhooks_may_hold_more_than_anything_else() -> None:
    for path, most in (("/u/x", MAX_BODY), ("/w/sendgrid", MAX_WEBHOOK), ("/wrong", MAX_BODY)):
        for root in ("", "/mail"):
            for length, status in ((most, 200), (most + 1, 413)):
                headers = [("content-length", str(length))]
                assert ask(path, method="POST", root=root, headers=headers)[0] == [status]
