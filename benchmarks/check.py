"""`abmail check` on one file and on a thousand, beside check-jsonschema on the same files with our own schema.

Run: ``python -m benchmarks.check [FILES]``. Commands run in turn, each in a process of its own; the figures are CPU
seconds of whole processes, and ratios are taken pair by pair. check-jsonschema looks at less: it knows no rule, no
template and no segment. What it can be held against most nearly is a check without the rules AB4, which make the mail.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PAIRS = 9
FILES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
SOURCE = Path(__file__).parent.parent
BARE = [sys.executable, "-c", "import click, yaml"]
OURS = [sys.executable, "-m", "abmail", "check"]
PEER = [sys.executable, "-m", "check_jsonschema", "--schemafile", "schema.json"]
IN_PROCESS = """
import sys, time
from abmail.check import check_paths
files = sys.argv[1:]
begin = time.process_time(); assert not check_paths(files); print(time.process_time() - begin)
begin = time.process_time(); assert not check_paths(files[:1]); print(time.process_time() - begin)
"""
"""CPU seconds of files in a process that has loaded the check and nothing else, and of one of them once more."""


def cpu(command: list[str], folder: Path) -> float:
    """CPU seconds of a whole process that has to succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_project(folder: Path) -> list[str]:
    """A project of many definitions: our examples again and again, each with a name of its own."""
    from abmail.spec import json_schema

    (folder / "schema.json").write_text(json.dumps(json_schema()), encoding="utf-8")
    (folder / "abmail.toml").touch()
    (folder / "experiments").mkdir()
    shutil.copytree(SOURCE / "abmail" / "templates", folder / "abmail" / "templates")
    examples = [path.read_text(encoding="utf-8") for path in sorted((SOURCE / "experiments").glob("*.yaml"))]
    names = [f"experiments/e{number:05d}.yaml" for number in range(FILES)]
    for number, name in enumerate(names):
        text = examples[number % len(examples)].replace("\nname: ", f"\nname: e{number:05d}-", 1)
        (folder / name).write_text(text, encoding="utf-8")
    return names


def compare(folder: Path, names: list[str], pairs: int, *options: str) -> tuple[float, float]:
    """Print both commands' CPU seconds on some files, and their ratio; returns the medians."""
    both = [(cpu([*OURS, *options, *names], folder), cpu([*PEER, *names], folder)) for _ in range(pairs)]
    ours, peer = (statistics.median(column) for column in zip(*both, strict=True))
    ratios = sorted(one / other for one, other in both)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"{len(names):5} files {' '.join(options):12} abmail {ours:.3f} s   check-jsonschema {peer:.3f} s   ", end="")
    print(f"ratio {statistics.median(ratios):.2f} ({spread}), must be at most 1")
    return ours, peer


def in_process(folder: Path, names: list[str]) -> tuple[float, float]:
    """CPU seconds of files in one fresh process without its start, and of a file that it has seen."""
    command = [sys.executable, "-c", IN_PROCESS, *names]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    every, again = map(float, ran.stdout.split())
    return every, again


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = make_project(folder)
        bare = statistics.median(cpu(BARE, folder) for _ in range(PAIRS))
        print(f"import of click and yaml alone  {bare:.3f} s")
        one, _ = compare(folder, names[:1], PAIRS)
        compare(folder, names[:1], PAIRS, "--ignore", "AB4")
        many, _ = compare(folder, names, max(3, PAIRS // 3))
        compare(folder, names, max(3, PAIRS // 3), "--ignore", "AB4")
        print(
            f"all files, start-up left out, in times of one file's check: {(many - one) / one:.1f}, must be at most 20"
        )
        rounds = [(in_process(folder, names[:1]), in_process(folder, names)) for _ in range(max(3, PAIRS // 3))]
        first, again = (statistics.median(column) for column in zip(*(one for one, _ in rounds), strict=True))
        everything = statistics.median(every for _, (every, _) in rounds)
        ratio = statistics.median(every / one for (one, _), (every, _) in rounds)
        print(f"in a process of their own, its start left out: one file {first:.4f} s (again {again:.4f} s), ", end="")
        print(f"all {everything:.3f} s, {ratio:.1f} times one file's, must be at most 20")


if __name__ == "__main__":
    main()
