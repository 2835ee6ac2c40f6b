"""`abmail check` on one file, beside the bare import of the libraries that it stands on.

Run: ``python -m benchmarks.check``. Both commands run in turn; the ratio is taken pair by pair.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PAIRS = 15
BARE = [sys.executable, "-c", "import click, pydantic, ruamel.yaml"]
CHECK = [sys.executable, "-m", "abmail", "check", "experiments/02-subject-and-button.yaml"]


def seconds(command: list[str]) -> float:
    """Wall time of a whole process."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    seconds(BARE), seconds(CHECK)
    pairs = [(seconds(BARE), seconds(CHECK)) for _ in range(PAIRS)]
    bare, check = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(c / b for b, c in pairs)
    print(f"bare import   {bare:.3f} s (median of {PAIRS})")
    print(f"abmail check  {check:.3f} s")
    print(f"ratio         {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
