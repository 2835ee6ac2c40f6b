"""Throws mutated requests at the tracker, and holds what it answers against what must never happen.

No answer in the 500s, no redirect to a host that was not signed, no line end in a header, and nothing but a POST to a
valid unsubscribe link changes anything beside the record of opens and clicks. ``python -m benchmarks.fuzz_tracker``
tries 100,000 requests of a seeded mutator; with ``--atheris`` (``pip install atheris``) coverage leads the mutations.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from urllib.parse import quote, urlsplit

from starlette.applications import Starlette
from starlette.types import Message, Scope

from abmail.events import Event, Signer
from abmail.store import CrowdHit
from abmail.web import TrackerSettings, create_app

NOW = datetime(2026, 3, 1, 11, tzinfo=UTC)
SIGNER = Signer(b"0123456789abcdef0123456789abcdef")
KNOWN = SIGNER.message_id("spring", "17")
TARGET = "https://example.com/a%20b/?q=1&r=%C3%A9#top"
HOST = "example.com"
_WORDS = (
    b"//evil.example", b"https://evil.example/", b"javascript:alert(1)", b"%00", b"%0d%0aSet-Cookie: a=b", b"\r\n",
    b"..", b"%2e%2e%2f", b"%2f", b"\\", b"@", b"?u=", b"&u=", b"u=", b"#", b"\x00", b"\xff\xfe", b"\xed\xa0\x80",
    b"%zz", b"[::1", b"One-Click", b"--x\r\n", b"POST", b"HEAD", b"GET", b"/u/", b"/o/", b"/c/", b"/v/", b"/w/",
    b"/metrics", b"/health", b"x-forwarded-for: 1.2.3.4", b"content-length: 99999999", b"content-length: -1",
    b"accept-language: ja", b"A" * 9_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Sent:
    language: str = "en"
    sent_at: datetime = NOW - timedelta(hours=1)
    keeps_requests: bool = False


@dataclass
class Ledger:
    """One sent message, in memory."""

    signer: Signer = SIGNER
    unsubscribed: int = 0
    recorded: int = 0

    def message(self, message_id: str, /) -> _Sent | None:
        """The message, or nothing."""
        return _Sent() if message_id == KNOWN else None

    def messages(self, message_ids: Sequence[str], /) -> Mapping[str, _Sent]:
        """Likewise."""
        return {each: _Sent() for each in message_ids if each == KNOWN}

    def hosted(self, message_id: str, /) -> str | None:
        """Its page."""
        return "<p>Hello</p>" if message_id == KNOWN else None

    def record_all(self, events: Iterable[Event], /) -> None:
        """Count the events, which must be of the message."""
        for event in events:
            assert event.message_id == KNOWN
            self.recorded += 1

    def count_crowd(self, hits: Iterable[CrowdHit], /) -> None:
        """No mail here is counted without a person."""
        raise AssertionError(list(hits))

    def unsubscribe(self, message_id: str, /, *, at: datetime, reason: str) -> None:
        """Note that it was asked for."""
        assert message_id == KNOWN, (at, reason)
        self.unsubscribed += 1

    def ping(self) -> None:
        """Be there."""


@dataclass
class Target:
    """The tracker, and what was seen of it."""

    ledger: Ledger = field(default_factory=Ledger)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        settings = TrackerSettings(rate=0.0, metrics=True, proxies=("192.0.2.0/24",))
        self._app: Starlette = create_app(self.ledger, clock=lambda: NOW, settings=settings)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """End the loop and the writer."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self._app.state.writer.close()

    def try_one(self, data: bytes) -> int:
        """Send the request that some bytes stand for.

        Raises:
            AssertionError: The tracker did what it must never do.
        """
        scope, body = request_of(data)
        before = self.ledger.unsubscribed
        status, headers = self._loop.run_until_complete(self._speak(scope, body))
        place = scope["path"][:3]
        self.seen[
            f"{scope['method'] if len(scope['method']) < 8 else 'odd'} {place if place[:1] == '/' else 'odd'}"
        ] += 1
        assert 200 <= status < 500, f"{status} to {data!r}"
        for name, value in headers:
            assert b"\r" not in value, f"{name!r} of {data!r}"
            assert b"\n" not in value, f"{name!r} of {data!r}"
            if name.lower() == b"location":
                self.seen["redirects"] += 1
                assert status == 302, f"{status} to {data!r}"
                assert scope["path"].startswith("/c/"), f"a redirect to {data!r}"
                assert urlsplit(value.decode("ascii")).hostname == HOST, f"{value!r} to {data!r}"
            assert name.lower() != b"set-cookie", f"a cookie to {data!r}"
        if self.ledger.unsubscribed != before:
            self.seen["unsubscribes"] += 1
            assert scope["method"] == "POST", f"{scope['method']} changed something: {data!r}"
            assert scope["path"] == f"/u/{SIGNER.sign('u', KNOWN)}", f"unsubscribed by {data!r}"
            assert status == 200, f"{status} to {data!r}"
        return status

    async def _speak(self, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        said: list[Message] = []

        async def receive() -> Message:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            said.append(message)

        await self._app(scope, receive, send)
        return said[0]["status"], list(said[0]["headers"])


def corpus() -> list[bytes]:
    """Requests that are as they should be."""
    sign = SIGNER.sign
    click, leave = f"/c/{sign('c', KNOWN, link=3, target=TARGET)}", f"/u/{sign('u', KNOWN)}"
    paths = [
        f"GET\n/o/{sign('o', KNOWN)}.gif\n", f"GET\n{click}\nu={quote(TARGET, safe='')}", f"GET\n{leave}\n",
        f"POST\n{leave}\n", f"GET\n/v/{sign('v', KNOWN)}\n", "GET\n/health\n", "GET\n/metrics\n",
        "POST\n/w/sendgrid\n", f"HEAD\n{click}\nu={quote(TARGET, safe='')}",
    ]  # fmt: skip
    part = b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'
    tails = [
        b"\nhost: t.example.com\nuser-agent: Mozilla/5.0 (X11) Firefox/128.0\n\nList-Unsubscribe=One-Click",
        b"\ncontent-type: multipart/form-data; boundary=x\ncontent-length: 80\n\n" + part,
        b"\naccept-language: ja\nx-forwarded-for: 198.51.100.1, 192.0.2.9\nsec-purpose: prefetch\n\n",
    ]
    return [path.encode() + tail for path in paths for tail in tails]


def request_of(data: bytes) -> tuple[Scope, bytes]:
    """The request that bytes stand for: method, path, query and headers on a line each, an empty line, the body."""
    head, _, body = data.partition(b"\n\n")
    method, path, query, *lines = [*head.split(b"\n"), b"", b"", b""][: max(3, head.count(b"\n") + 1)]
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method.decode("latin-1"),
        "scheme": "https", "path": path.decode("utf-8", "replace"), "raw_path": path, "root_path": "",
        "query_string": query, "headers": fields, "server": ("t.example.com", 443), "client": ("192.0.2.1", 5),
    }, body  # fmt: skip


def mutated(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """A request with some changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        where = rng.randrange(len(data) + 1)
        until = min(where + rng.choice((1, 1, 2, 5, 20)), len(data))
        match rng.randrange(6):
            case 0:
                data[where:until] = rng.randbytes(until - where)
            case 1:
                del data[where:until]
            case 2:
                data[where:where] = rng.choice(_WORDS)
            case 3:
                data[where:until] = rng.choice(_WORDS)
            case 4:
                other = rng.choice(seeds)
                start = rng.randrange(len(other))
                data[where:until] = other[start : start + rng.randrange(80)]
            case _:
                data[where:where] = data[where:until] * rng.choice((1, 2, 50))
    return bytes(data)


def run(n: int, *, seed: int) -> Target:
    """Try so many mutated requests; see `Target.try_one`."""
    rng, seeds, target = Random(seed), corpus(), Target()
    try:
        for data in seeds:
            target.try_one(data)
        for _ in range(n):
            target.seen[f"status {target.try_one(mutated(rng, seeds))}"] += 1
    finally:
        target.close()
    return target


def _with_atheris(n: int) -> None:
    import atheris

    target = Target()
    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(corpus()):
            (Path(folder) / str(number)).write_bytes(data)
        options = [sys.argv[0], f"-runs={n}", "-max_len=12000", folder]
        atheris.Setup(options, lambda data: target.try_one(data) and None)
        atheris.Fuzz()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--atheris", action="store_true")
    arguments = parser.parse_args()
    if arguments.atheris:
        _with_atheris(arguments.runs)
        return
    begun = time.perf_counter()
    target = run(arguments.runs, seed=arguments.seed)
    print(f"{arguments.runs:,} requests in {time.perf_counter() - begun:.0f} s, seed {arguments.seed}: nothing amiss")
    print(f"recorded {target.ledger.recorded:,} opens and clicks")
    for name, count in target.seen.most_common(30):
        print(f"{count:9,}  {name}")


if __name__ == "__main__":
    main()
