"""Mends what has one safe answer in the text of a definition, and leaves every other character as it is.

Lists whose order says nothing are put into the usual order, keys of an older version of the format get their present
names, and the line that tells editors where the schema is comes to the top. What would change the meaning of a
definition is not done: it is read before and after.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, get_args

from abmail import _yaml
from abmail._spec_types import WEEK, StopReason
from abmail._spec_versions import Edit, migrate
from abmail._yaml import ListNode, MapNode, Node, Scalar
from abmail.diagnostics import Source
from abmail.spec import decode

__all__ = ["SORTED", "fixed", "out_of_order"]

SORTED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("send_time", "days"): WEEK,
    ("stop", "when"): get_args(StopReason),
}
"""Lists whose order has no meaning, and the order in which people expect them."""

_SCHEMA_LINE: Final = re.compile(r"^#\s*yaml-language-server:\s*\$schema=", re.MULTILINE)
_BOM: Final = "\ufeff"


def fixed(text: str, *, schema: str | None = None) -> str:
    """Mend a text.

    Args:
        text: With its line ends as they are in the file.
        schema: How the schema is named for the file's editor; None to leave that line out.

    Returns:
        The text, the same where there is nothing to mend or no safe way to do so.
    """
    mark, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    root, problems = _yaml.read(Source("", body))
    if root is None or problems:
        return text
    edits = {edit.start: edit for edit in (*migrate(root), *_sorting(root, body))}
    mended = _edited(body, edits.values())
    if schema is not None and not _SCHEMA_LINE.search(body):
        mended = f"# yaml-language-server: $schema={schema}{_line_end(body)}{mended}"
    return f"{mark}{mended}" if _means_the_same(body, mended) else text


def _edited(text: str, edits: Iterable[Edit]) -> str:
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _line_end(text: str) -> str:
    found = re.search(r"\r\n|\r|\n", text)
    return found[0] if found else "\n"


def _means_the_same(before: str, after: str) -> bool:
    one, other = decode(before, "")[0], decode(after, "")[0]
    return one == other if one is not None else other is None


# --- order ------------------------------------------------------------------------------------------------------------


def out_of_order(items: Iterable[object], order: tuple[str, ...]) -> bool:
    """Whether known and different items stand otherwise than in ``order``."""
    names = list(items)
    known = [name for name in names if isinstance(name, str) and name in order]
    return known == names and len(set(known)) == len(known) and known != sorted(known, key=order.index)


def _sorting(root: Node, text: str) -> Iterator[Edit]:
    for (part, name), order in SORTED.items():
        node = _value(_value(root, part), name)
        if isinstance(node, ListNode) and out_of_order((item.data for item in node.items), order):
            yield from _reordered(node, order, text)


def _value(node: Node | None, name: str) -> Node | None:
    return node.entries[name][1] if isinstance(node, MapNode) and name in node.entries else None


def _reordered(node: ListNode, order: tuple[str, ...], text: str) -> Iterator[Edit]:
    """Move the items' characters, not what is between them; where a comment belongs to an item, they stay."""
    items = [item for item in node.items if isinstance(item, Scalar)]
    flow = text[node.start] == "["
    end = items[-1].end if flow else _end_of_line(text, items[-1].end)
    if len(items) < len(node.items) or "#" in text[node.start : end]:
        return
    for place, item in zip(items, sorted(items, key=lambda each: order.index(str(each.data))), strict=True):
        yield Edit(place.start, place.end, item.source)


def _end_of_line(text: str, start: int) -> int:
    found = re.compile(r"[\r\n]").search(text, start)
    return found.start() if found else len(text)
