"""The whole product on a long faulty list: import, SMTP, every link of every mail over HTTP, and the report.

Run: ``python -m benchmarks.chain --rows 100000``. What ``tests/test_chain.py`` does with a short list; the commands and
the readers share one machine, so the rates are those of a single process each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # the chain is the test's own

from chain import Outcome, run_chain


def show(outcome: Outcome) -> None:
    """Print the figures."""
    did, seconds = outcome.did, outcome.seconds
    done = {"import": outcome.rows, "apply": outcome.imported, "send": outcome.sent, "read and click": did.requests}
    print(f"{outcome.rows:,} rows, {len(outcome.people):,} of them people, {len(outcome.held_out):,} held out")
    for stage, wall in seconds.items():
        rate = f"  {done[stage] / wall:8,.0f} a second" if stage in done else ""
        print(f"  {stage:16} {wall:8.1f} s  {done.get(stage, ''):>9}{rate}")
    print(
        f"  mails delivered  {len(outcome.delivered):,}, of them twice {sum(n > 1 for n in outcome.delivered.values())}"
    )
    for name, wanted in (("clicks", did.clicks), ("human_opens", did.opens), ("unsubscribes", did.unsubscribes)):
        print(f"  {name:16} {outcome.counted(name).total():,} counted of {wanted.total():,}")
    print(f"  machines only    {did.all_clicks.total() - did.clicks.total():,} mails, clicks kept and not counted")


def main() -> int:
    """Measure and print; 1 where anything was lost, doubled or miscounted."""
    parser = argparse.ArgumentParser(description="the whole chain on a faulty list")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_chain(Path(folder), rows=options.rows, seed=options.seed, say=lambda name: print(f"... {name}"))
    show(outcome)
    print(f"faults: {', '.join(outcome.faults) or 'none'}")
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
