"""Two parsers read definitions; where both read a text, they see the same values at the same places."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abmail import _yaml
from abmail._yaml import ListNode, MapNode, Node, Scalar
from abmail.diagnostics import Source
from abmail.spec import starter

FOLDER = Path(__file__).parent.parent
FILES = [*(FOLDER / "experiments").glob("*.yaml"), *(FOLDER / "tests" / "cases").rglob("*.yaml")]
TEXTS = [
    *(path.read_text(encoding="utf-8") for path in sorted(FILES)),
    starter("x"),
    "a: 'x''y'\nb: |\n  t\nc: >-\n  u\n",
]
SLOW = {"fixed", "segment-double-quoted"}  # with an alias; with a character as two escapes
PIECES = [*" \n:-?[]{},#&*!|>'\"%@`~\\ab1\t\r", "\r\n", "  ", "\n- ", ": ", "あ", "\x85", "\\x", "---", "...", "<<"]

patches = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.sampled_from(PIECES) | st.just("")), max_size=5
)


def placed(node: Node | None) -> object:
    """All of a text's values, with where they stand; a missing value stands nowhere, its key says where."""
    if isinstance(node, Scalar):
        return (repr(node.data), *((node.start, node.end, node.style, node.source) if node.source else ()))
    if isinstance(node, ListNode):
        return (node.start, [placed(item) for item in node.items])
    if isinstance(node, MapNode):
        return (node.start, [(key.text, key.start, key.end, placed(value)) for key, value in node.entries.values()])
    return None


def by_ruamel(source: Source) -> tuple[object, object]:
    root, problems = _yaml._compose(_yaml._Composer(source), _yaml._sure_events(source.text))
    return placed(root), problems


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(TEXTS), patches)
@example("- \n- a\n", [])
@example(" 4:\n", [])
@example("x: &a:b 1\n", [])
@example("*x: 1\n", [])
@example("a: >-#\n  b\n", [])
@example("a\x85b: c\n", [])
def test_whichever_parser_is_asked_a_text_means_the_same_at_the_same_places(
    text: str, changes: list[tuple[int, int, str]]
) -> None:
    for where, length, piece in changes:
        start = where % (len(text) + 1)
        text = text[:start] + piece + text[start + length :]
    source = Source("x.yaml", text)
    root, problems = _yaml.read(source)
    sure, told = by_ruamel(source)
    if told and not problems:
        # JSON's form of a pair, ["a":1], is YAML 1.2, and ruamel's parser does not know it
        assert '"' in text or "'" in text
        return
    assert (placed(root), problems) == (sure, told)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_that_can_be_read_is_read_by_the_quick_parser(path: Path) -> None:
    source = Source("x.yaml", path.read_text(encoding="utf-8"))
    _, problems = _yaml.read(source)
    if path.stem in SLOW or any(problem.kind == "syntax" for problem in problems):
        return
    quick = _yaml._compose(_yaml._Composer(source, quick=True), _yaml._quick_events(source.text))
    assert placed(quick[0]) == by_ruamel(source)[0]
