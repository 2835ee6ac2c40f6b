"""Whatever lies in a folder, a check ends soon, with 0, 1 or 2 and without a traceback.

`python -m benchmarks.fuzz_check` does the same for as long as one likes.
"""

from __future__ import annotations

import os
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import run
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail.spec import json_schema
from benchmarks.fuzz_check import bombs, judge, mutated, seeds

SOON = 5.0  # seconds of CPU, on a machine that may be busy; each takes less than one on a quiet one


def keys_in(schema: dict[str, Any]) -> set[str]:
    """Every key that a definition can have."""
    names = set(schema.get("properties", {}))
    return names.union(*(keys_in(entry) for entry in schema.get("properties", {}).values()))


WORDS = [*sorted(keys_in(json_schema())), "plain", "number", "12:30", "NO", "~", "1d", "5 %", "a@b.c", "x == 1", ""]
scalars = st.one_of(
    st.sampled_from(WORDS), st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none(), st.dates()
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | scalars, inner, max_size=6),
    max_leaves=25,
)


@settings(max_examples=120, deadline=None)
@given(documents, st.sampled_from([None, True, False]), st.booleans())
def test_any_yaml_is_judged(document: object, flow: bool | None, unicode: bool) -> None:
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=unicode)
    assert judge(text) < SOON
    assert judge("spec: 1\nname: x\n" + text) < SOON


def test_damaged_definitions_are_judged() -> None:
    for text in islice(mutated(random.Random(11), seeds()), 150):
        assert judge(text) < SOON


@pytest.mark.parametrize(("name", "bomb"), bombs().items(), ids=list(bombs()))
def test_a_text_that_comes_to_much_is_judged_in_time(name: str, bomb: str | bytes) -> None:
    assert judge(bomb) < SOON


def test_every_beginning_of_a_definition_is_judged() -> None:
    text = max(seeds(), key=len)
    for length in range(0, len(text), 23):
        assert judge(text[:length].encode()) < SOON


@pytest.mark.parametrize("form", ["text", "github", "junit"])
def test_a_folder_full_of_traps_is_judged_whole(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "experiments"
    (folder / "folder.yaml").mkdir(parents=True)
    (folder / "around").symlink_to(folder)
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "gone.yaml").symlink_to("nowhere")
    (folder / "unreadable.yaml").symlink_to("/proc/self/mem")  # a file that root cannot read either
    (folder / "endless.yaml").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.yaml")
    (folder / "a\nb::error::.yaml").write_text("nam: x\n", encoding="utf-8")
    (folder / "large.yaml").write_bytes(b"a: b\n" * 2_000_000)
    with (folder / "sparse.yaml").open("wb") as file:
        file.truncate(10**10)
    (folder / "empty.yaml").touch()
    (folder / "good.yaml").write_text(min(seeds(), key=len), encoding="utf-8")
    ran = run(tmp_path, "check", "--format", form, status=2)
    for name in ("loop", "gone", "unreadable", "endless", "pipe", "large", "sparse", "empty"):
        assert f"experiments/{name}.yaml" in ran.stdout, name
    assert not [line for line in ran.stdout.splitlines() if line.startswith("b::error")]
    run(tmp_path, "check", "--fix", "--format", form, status=2)
    run(tmp_path, "check", "--diff", status=0)


def test_names_that_are_no_file_are_bad_usage_or_findings(tmp_path: Path) -> None:
    for name in ("none", "x" * 5000, "a\nb", "."):
        assert run(tmp_path, "check", name, "--format", "json", status=2).stdout.startswith("{")
    run(tmp_path, "check", "--", "--not-an-option", status=2)
