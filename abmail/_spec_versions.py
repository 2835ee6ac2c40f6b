"""Versions of the file format: what was called otherwise in an older one is read as it is called now.

A version that goes is entered in `MIGRATIONS`, with the keys that have another name since. Files of that version then
load as before, and ``abmail check --fix`` writes them in the present one. There is one version so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from abmail._yaml import Key, MapNode, Node, Scalar

__all__ = ["CURRENT", "MIGRATIONS", "Edit", "Migration", "migrate"]

CURRENT: Final = 1


class Edit(NamedTuple):
    """Other characters for those from ``start`` to ``end`` of a text (0-based, excluded)."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What the next version calls otherwise.

    Attributes:
        renamed: Location of a key, from the top -> its name in the next version; outer keys by their older names.
    """

    renamed: Mapping[tuple[str, ...], str]


MIGRATIONS: Final[dict[int, Migration]] = {}
"""The way from a version to the next one."""


def migrate(root: Node) -> tuple[Edit, ...]:
    """Turn the nodes of a definition in an older version into those of the present one, in place.

    Places stay those of the file. A key that stands there under both of its names keeps the older one, which reading
    then refuses.

    Returns:
        What to change in the text, in its order; nothing where the version is the present or an unknown one.
    """
    if not isinstance(root, MapNode) or "spec" not in root.entries:
        return ()
    key, written = root.entries["spec"]
    version = written.data
    if not isinstance(written, Scalar) or not isinstance(version, int) or version not in MIGRATIONS:
        return ()
    edits: dict[int, Edit] = {}
    while version in MIGRATIONS:
        for location in sorted(MIGRATIONS[version].renamed, key=len, reverse=True):
            renamed = _rename(root, location, MIGRATIONS[version].renamed[location])
            if renamed is not None:
                edits[renamed.start] = Edit(renamed.start, renamed.end, renamed.text)
        version += 1
    root.entries["spec"] = (key, replace(written, data=version, source=str(version)))
    edits[written.start] = Edit(written.start, written.end, str(version))
    return tuple(edits[start] for start in sorted(edits))


def _rename(root: MapNode, location: tuple[str, ...], name: str) -> Key | None:
    """Give a key another name where it stands, at its old place among its neighbours."""
    node: Node = root
    for part in location[:-1]:
        if not isinstance(node, MapNode) or part not in node.entries:
            return None
        node = node.entries[part][1]
    old = location[-1]
    if not isinstance(node, MapNode) or old not in node.entries or name in node.entries:
        return None
    key = replace(node.entries[old][0], text=name)
    entries = [(name, (key, value)) if text == old else (text, (at, value)) for text, (at, value) in _items(node)]
    node.entries.clear()
    node.entries.update(entries)
    return key


def _items(node: MapNode) -> list[tuple[str, tuple[Key, Node]]]:
    return list(node.entries.items())
