"""Servers for the sending benchmark: a sink, a proxy that delays, and the figures of clients that talk to them.

Sink and proxy run in processes of their own, so that a client's CPU time is the client's alone. Where postfix's
smtp-sink and smtp-source are installed (Debian: ``apt-get install postfix``), the sink is smtp-sink, and smtp-source
shows what a client in C reaches; without them our own sink takes the mails, and the limit is not shown.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import shutil
import smtplib
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from abmail.render import RenderedMessage
from abmail.send import SMTP

__all__ = [
    "Mail",
    "Sender",
    "delayed",
    "in_threads",
    "limit",
    "median_ratio",
    "ours",
    "own_sink",
    "per_second",
    "sink",
    "usual",
]

Mail = RenderedMessage
Sender = Callable[[Sequence[Mail]], None]
HOST: Final = "127.0.0.1"


class _Sink(asyncio.Protocol):
    """Takes every mail; offers PIPELINING, and answers all the commands of one read together."""

    def __init__(self) -> None:
        self._buffer = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        replies: list[bytes] = []
        while True:
            end = b"\r\n.\r\n" if self._in_data else b"\r\n"
            head, found, rest = self._buffer.partition(end)
            if not found:
                break
            self._buffer = rest
            replies.append(b"250 2.0.0 Ok\r\n" if self._in_data else self._reply(head))
            self._in_data = not self._in_data and head.upper() == b"DATA"
        if replies:
            self._transport.write(b"".join(replies))

    def _reply(self, command: bytes) -> bytes:
        match command[:4].upper():
            case b"EHLO":
                return b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
            case b"DATA":
                return b"354 Go\r\n"
            case b"QUIT":
                self._transport.close()
                return b"221 Bye\r\n"
            case _:
                return b"250 2.1.0 Ok\r\n"


def _serve(ready: socket.socket) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Sink, sock=ready)
        await server.serve_forever()

    with suppress(KeyboardInterrupt):
        asyncio.run(run())


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass octets on, each piece a little later than it came."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(65_536):
        loop.call_later(delay, writer.write, data)
    await asyncio.sleep(delay)
    writer.close()


def _proxy(ready: socket.socket, port: int, delay: float) -> None:
    async def pair(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(_pump(reader, far_writer, delay), _pump(far_reader, writer, delay))

    async def run() -> None:
        server = await asyncio.start_server(pair, sock=ready)
        await server.serve_forever()

    with suppress(KeyboardInterrupt):
        asyncio.run(run())


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[int]:
    with socket.create_server((HOST, 0), backlog=64) as ready:
        process = multiprocessing.get_context("fork").Process(target=target, args=(ready, *arguments), daemon=True)
        process.start()
        try:
            yield ready.getsockname()[1]
        finally:
            process.terminate()
            process.join(5)


@contextmanager
def own_sink() -> Iterator[int]:
    """The port of our own sink in Python."""
    with _process(_serve) as port:
        yield port


def _tool(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/lib/postfix/sbin")


@contextmanager
def sink() -> Iterator[tuple[int, str]]:
    """The port of a server that takes every mail, and its name."""
    tool = _tool("smtp-sink")
    if tool is None:
        with own_sink() as port:
            yield port, "our own sink in Python"
        return
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with subprocess.Popen([tool, *user, f"{HOST}:{port}", "256"]) as process:
        try:
            _wait_for(port)
            yield port, "postfix's smtp-sink"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


@contextmanager
def delayed(port: int, round_trip: float) -> Iterator[int]:
    """The port of a proxy before another one, with a round trip of so many seconds."""
    with _process(_proxy, port, round_trip / 2.0) as far:
        yield far


# --- clients ----------------------------------------------------------------------------------------------------------


def usual(port: int) -> Sender:
    """A client of smtplib with one connection that is kept."""

    def send(mails: Sequence[Mail]) -> None:
        with smtplib.SMTP(HOST, port, local_hostname="client.example") as client:
            for mail in mails:
                client.sendmail(mail.sender, [mail.recipient], mail.raw)

    return send


def ours(port: int) -> Sender:
    """The transport of this package, with one connection that is kept."""

    def send(mails: Sequence[Mail]) -> None:
        transport = SMTP(HOST, port=port, local_hostname="client.example", max_per_connection=1_000_000)
        for mail in mails:
            transport.send(mail)
        transport.close()

    return send


def in_threads(sender: Sender, n: int) -> Sender:
    """The same client in several threads, each with a connection of its own."""

    def send(mails: Sequence[Mail]) -> None:
        with ExitStack() as stack:
            for first in range(n):
                thread = threading.Thread(target=sender, args=(mails[first::n],))
                thread.start()
                stack.callback(thread.join)

    return send


def per_second(sender: Sender, mails: Sequence[Mail], *, clock: Callable[[], float] = time.process_time) -> float:
    """Mails per second, by default of this process's CPU time."""
    start = clock()
    sender(mails)
    return len(mails) / (clock() - start)


def median_ratio(
    better: Sender,
    worse: Sender,
    mails: Sequence[Mail],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> tuple[float, float, list[float]]:
    """Median rates of two clients in interleaved rounds, and the ratio of each round."""
    pairs = [(per_second(better, mails, clock=clock), per_second(worse, mails, clock=clock)) for _ in range(rounds)]
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second), [a / b for a, b in pairs]


def limit(port: int, mails: int, size: int) -> tuple[float, float] | None:
    """Mails per second and per CPU second of smtp-source over one connection that is kept; None without it."""
    tool = _tool("smtp-source")
    if tool is None:
        return None
    command = [tool, "-c", "-d", "-l", str(size), "-m", str(mails), "-s", "1", f"{HOST}:{port}"]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return mails / wall, mails / cpu
