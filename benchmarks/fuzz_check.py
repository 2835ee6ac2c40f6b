"""`abmail check` on whatever somebody may put into a folder: never a crash, never long, always exit 0, 1 or 2.

Run: ``python -m benchmarks.fuzz_check [SECONDS] [SEED]``. Every text goes through reading, all rules, all formats and
mending; what takes more than a second of CPU is a failure, too. tests/test_fuzz.py does the same for a few seconds.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from abmail import diagnostics
from abmail._fix import fixed
from abmail.check import check_text, exit_code

__all__ = ["bombs", "judge", "mutated", "seeds"]

ROOT = Path(__file__).parent.parent
LONGEST = 1.0  # seconds of CPU for one text, on a machine that has other things to do
WRITERS: tuple[Callable[..., str], ...] = (
    diagnostics.write_text, diagnostics.write_json, diagnostics.write_github_log, diagnostics.write_junit,
    diagnostics.write_sarif, diagnostics.write_gitlab,
)  # fmt: skip
PIECES = [
    *"\0\t\r\n :-?[]{},#&*!|>'\"%@`~\\abz019", "\r\n", "\ufeff", "\x85", "\u2028", "\ud83d", "😀", "件名", "- ", ": ",
    "? ", "&a ", "*a", "<<: *a", "!!python/object:os.system ", "!x ", "%YAML 1.1\n", "---\n", "...\n", "|9\n", ">-\n",
    "\\uD83D", "\\x00", "1e999", "0x1F", ".nan", "NO", "12:30", "2026-12-29", "99999999999999999999", "-0", "5％",
    "factors:", "subject:", "segment:", "days:", "spec:", "allocation:", "{policy: fixed}", "'unclosed", '"unclosed',
    "a and b or (", "not not not ", "# abmail: ignore[", "# abmail: ignore-file[AB2] x",
]  # fmt: skip


def seeds() -> list[str]:
    """Definitions that are right, and such that are wrong in one way."""
    files = [*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "tests" / "cases").rglob("*.yaml")]
    return [path.read_text(encoding="utf-8") for path in sorted(files)]


def bombs() -> dict[str, str | bytes]:
    """Texts that are small and come to much, or that go deep."""
    start = "spec: 1\nname: x\n"
    laughs = "a: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    keyed = "a: &a0 {k: x}\n" + "".join(f"a{n}: &a{n} {{k: *a{n - 1}, l: *a{n - 1}}}\n" for n in range(1, 60))
    wide = ", ".join(f"l{n}: text" for n in range(9000))
    return {
        "billion laughs": laughs,
        "laughs of keys": keyed,
        "an alias of itself": "a: &a [*a]\n",
        "brackets": "[" * 100_000,
        "braces": "{a: " * 60_000,
        "brackets, closed": "[" * 50_000 + "]" * 50_000,
        "dashes": "- " * 100_000,
        "question marks": "? " * 100_000,
        "indents": "".join(" " * n + f"a{n}:\n" for n in range(600)),
        "one long key": "a" * 250_000 + ": b",
        "one long scalar": f"{start}hypothesis: {'a ' * 120_000}",
        "one long quoted": start + 'hypothesis: "' + r"\u3042" * 40_000 + '"',
        "unclosed quote": f"{start}hypothesis: '{'a' * 250_000}",
        "many keys": "".join(f"k{n}: v\n" for n in range(20_000)),
        "many levels": f"{start}factors: {{subject: {{{wide}}}}}\ncontrol: {{subject: l0}}\n",
        "many factors": f"{start}factors: {{{wide}}}\n",
        "a deep segment": f'{start}audience: {{segment: "{"(" * 50_000}a == 1{")" * 50_000}"}}',
        "a long segment": f'{start}audience: {{segment: "{" and ".join(["a == 1"] * 20_000)}"}}',
        "nots": f'{start}audience: {{segment: "{"not " * 50_000}a == 1"}}',
        "a long duration": f"{start}stop: {{after: {'9' * 100_000}w}}",
        "a long number": f"{start}allocation: {{seed: {'9' * 200_000}}}",
        "a long share": f"{start}audience: {{holdout: {'0' * 100_000}.5 %}}",
        "a long window": f'{start}send_time: {{between: "{" " * 100_000}08:00-20:00{" " * 100_000}x"}}',
        "a long name": f"{start.replace('x', 'x' * 200_000)}",
        "a long mailbox": f'{start}message: {{template: a, from: "{"a " * 50_000}<{"a" * 50_000}"}}',
        "many comments": "# abmail: ignore[AB202] why\n" * 9_000 + start,
        "many line ends": "\r" * 200_000 + start,
        "tabs": "\t" * 200_000,
        "anchors": "".join(f"k{n}: &a{n} x\n" for n in range(9_000)),
        "tags": "".join(f"k{n}: !t{n} x\n" for n in range(9_000)),
        "documents": "---\n" * 60_000,
        "directives": "%YAML 1.1\n" * 20_000,
        "zero bytes": b"\0" * 200_000,
        "no UTF-8": b"\xff\xfe" * 100_000,
        "UTF-16": start.encode("utf-16"),
        "surrogates": "a: \ud83d\n",
        "ten megabytes": "a: b\n" * 2_000_000,
    }


def mutated(rng: random.Random, known: list[str]) -> Iterator[str | bytes]:
    """Damaged definitions without end: cut, spliced, with pieces put in, some with bytes turned over."""
    while True:
        text = rng.choice(known)
        if rng.random() < 0.2:
            text = text[: rng.randrange(len(text) + 1)]
        if rng.random() < 0.2:
            other = rng.choice(known)
            text = text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other)) :]
        for _ in range(rng.randrange(6)):
            place = rng.randrange(len(text) + 1)
            text = text[:place] + rng.choice(PIECES) * rng.choice([1, 1, 1, 2, 50]) + text[place + rng.randrange(4) :]
        if rng.random() < 0.1:
            data = bytearray(text.encode("utf-8", "replace"))
            for _ in range(rng.randrange(1, 4)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            yield bytes(data)
        else:
            yield text


def judge(text: str | bytes) -> float:
    """Put a text through everything, and return the CPU seconds that it took.

    Raises:
        Exception: Whatever goes wrong; nothing may.
    """
    begin = time.process_time()
    found = check_text(text, "x.yaml")
    assert exit_code(found) in {0, 1, 2}
    for finding in found:
        assert 1 <= finding.column <= len(finding.source_line) + 1
        assert "\n" not in finding.message
    for write in WRITERS:
        write(found)
    if isinstance(text, str):
        fixed(text, schema="s.json")
    return time.process_time() - begin


def main() -> None:
    """Fuzz until the time is over."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    for name, bomb in bombs().items():
        spent = judge(bomb)
        print(f"{name:20} {spent:6.3f} s{'  TOO LONG' if spent > LONGEST else ''}")
    end, count, longest = time.monotonic() + seconds, 0, 0.0
    for text in mutated(random.Random(seed), seeds()):
        try:
            spent = judge(text)
        except Exception:
            print(f"seed {seed}, text {count}: {text!r}")
            raise
        if spent > LONGEST:
            raise SystemExit(f"seed {seed}, text {count} took {spent:.2f} s: {text!r}")
        longest, count = max(longest, spent), count + 1
        if time.monotonic() > end:
            break
    print(f"seed {seed}: {count} texts, none crashed, the longest took {longest:.3f} s")


if __name__ == "__main__":
    main()
