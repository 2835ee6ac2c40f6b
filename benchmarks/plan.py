"""A plan of a large list beside merely reading the recipients: CPU time, ratio and memory, for each kind of definition.

Run: ``python -m benchmarks.plan`` (SQLite in a temporary folder). Reading is what a plan cannot do without: everybody,
page by page, with what bars a mail.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from abmail.engine import Engine
from abmail.recipient import Recipient
from abmail.spec import Experiment
from benchmarks.ledger import NOW, Memory, people

MOST: Final = 4.0  # times the reading that a plan without figures of power may take
HOURS: Final = 3.0  # seconds more for hours of one's own: the model is made once, and asked for 2,000 people
ZONES: Final = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", None)
KINDS: Final[dict[str, dict[str, Any]]] = {
    "fixed split": {"allocation": {"policy": "uniform"}},
    "thompson": {},
    "thompson, unit company": {"audience": {"unit": "company"}},
    "an hour for each": {"send_time": {"mode": "learn", "between": "08:00-20:00"}},
    "another salt": {"salt": "other", "allocation": {"policy": "uniform"}},
}


def definition(name: str = "spring", **parts: Any) -> Experiment:
    """Two subjects, with a segment, a holdout and a window."""
    audience = {"segment": "name != 'P 0'", "holdout": 0.01} | parts.pop("audience", {})
    return Experiment.from_dict({
        "spec": 1, "name": name,
        "factors": {"subject": {"plain": "Hello", "number": "3 ways"}}, "control": {"subject": "plain"},
        "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "audience": audience, "send_time": {"between": "08:00-20:00"}, "analysis": {"baseline": 0.04, "mde": 0.01},
        **parts,
    })  # fmt: skip


def spread(n: int) -> Iterator[Recipient]:
    """Made-up recipients in several zones."""
    for i, one in enumerate(people(n)):
        yield Recipient(id=one.id, email=one.email, attributes=one.attributes, zone=ZONES[i % len(ZONES)])


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds, and MB of growth."""
    with Memory() as memory:
        start = time.process_time()
        work()
        took = time.process_time() - start
    return took, memory.growth


def read(engine: Engine) -> None:
    """Look at everybody, and do nothing with it."""
    for _ in engine.store.candidates("spring"):
        pass


def main() -> int:
    """Measure and print; 1 where a plan takes too many times the reading."""
    parser = argparse.ArgumentParser(description="plans beside reading the recipients")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    options = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.html.j2").write_text("<p>Hello</p>", encoding="utf-8")
        for n in options.sizes:
            worst = measure(folder, n)
    return int(worst > MOST)


def measure(folder: str, n: int) -> float:
    """Print all kinds for a list of ``n``; returns the largest ratio."""
    url = f"sqlite:///{folder}/{n}.db"
    with Engine(url, secret=b"0123456789abcdef", clock=lambda: NOW, project=folder) as engine:
        engine.store.import_recipients(spread(n), now=NOW - timedelta(days=40))
        running = definition("running", allocation={"policy": "uniform"})
        engine.apply(engine.plan(running))
        read(engine)
        alone, _ = timed(lambda: read(engine))
        print(f"{n:,} recipients: reading {alone:.2f} s of CPU", flush=True)
        worst = 0.0
        for kind, parts in KINDS.items():
            exp = definition("running" if "salt" in parts else "spring", **parts)
            took, growth = timed(lambda exp=exp: engine.review(exp, power=False))  # type: ignore[misc]
            whole, _ = timed(lambda exp=exp: engine.review(exp))  # type: ignore[misc]
            once = HOURS if exp.send_time.is_planned else 0.0
            worst = max(worst, (took - once) / alone)
            print(
                f"  {kind:24} {took:6.2f} s, {took / alone:5.2f} times the reading, +{growth:.0f} MB; "
                f"with power {whole:6.2f} s",
                flush=True,
            )
    return worst


if __name__ == "__main__":
    sys.exit(main())
