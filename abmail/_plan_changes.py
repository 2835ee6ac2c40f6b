"""What a change of a definition means for a test that runs: nothing, from the next wave on, or that it breaks."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from abmail._planning import Change
from abmail.spec import Experiment

__all__ = ["Effect", "Judged", "alternatives", "judge", "short_diff"]

Effect = Literal["nothing", "next_look", "next_wave", "moves", "forbidden"]

_SOURCES: Final = ("template", "text_template")
_LONGEST_DIFF: Final = 24  # lines that are shown
_MOVING: Final = ("salt", "audience.holdout", "audience.unit")
_VARIANTS: Final = "factors"
_KINDS: Final[tuple[tuple[str, str, Effect], ...]] = (
    ("hypothesis", "words", "nothing"),
    ("spec", "format", "nothing"),
    ("factors", "joins", "next_wave"),
    ("audience.segment", "segment", "next_wave"),
    ("metrics", "measured", "next_look"),
    ("analysis", "planning", "nothing"),
    ("stop", "stop", "next_look"),
    ("allocation", "shares", "next_wave"),
    ("send_time", "hours", "next_wave"),
    ("message", "mail", "next_wave"),
)
"""Beginning of a setting's path, what its change is called, and what it does, where nothing forbids it."""

_FORBIDDEN: Final[tuple[tuple[str, str], ...]] = (
    ("salt", "salt"), ("audience.holdout", "holdout"), ("audience.unit", "unit"), ("factors", "variant"),
    ("control", "question"), ("metrics", "question"), ("analysis", "question"),
)  # fmt: skip
"""The same for what would break a running test; anything else there is part of the mail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A change and what it means.

    Attributes:
        change: Setting, before and after.
        effect: ``nothing``, ``next_look`` (from the next reckoning on), ``next_wave``, ``moves`` (people would get
            another variant than they were dealt: forbidden while the test runs), or ``forbidden``.
        kind: What its meaning is called, for the words.
        moved: People who would be moved; 0 but with ``moves``.
        diff: Lines of a short comparison, for the sources of mails.
    """

    change: Change
    effect: Effect
    kind: str
    moved: int = 0
    diff: tuple[str, ...] = ()

    @property
    def breaks(self) -> bool:
        """Whether it would break a running test."""
        return self.effect in {"moves", "forbidden"}


def alternatives(old: Experiment, new: Experiment) -> dict[str, Experiment]:
    """Where two definitions deal in different ways, the old one with each such change alone, by its setting's path."""
    audience, same = old.audience, {cell.name for cell in old.cells} == {cell.name for cell in new.cells}
    altered = {
        "salt": replace(old, salt=new.salt),
        "audience.holdout": replace(old, audience=replace(audience, holdout=new.audience.holdout)),
        "audience.unit": replace(old, audience=replace(audience, unit=new.audience.unit)),
        "allocation": replace(old, allocation=new.allocation) if same else old,
        _VARIANTS: old if same else new,
    }
    return {path: one for path, one in altered.items() if one.spec_hash != old.spec_hash}


def judge(change: Change, moved: Mapping[str, int]) -> Judged:
    """Say what a change means for a running test.

    Args:
        change: Of one setting.
        moved: People whom each of the `alternatives` gives another variant.
    """
    diff: tuple[str, ...] = ()
    if change.path in _SOURCES:
        diff = short_diff(str(change.before or ""), str(change.after or ""))
    if change.risky:
        kind = next((kind for prefix, kind in _FORBIDDEN if change.path.startswith(prefix)), "sources")
        gone = kind == "variant" and None in (change.before, change.after)
        moving = change.path in _MOVING or gone
        return Judged(
            change=change, effect="moves" if moving else "forbidden", kind="variants" if gone else kind, diff=diff,
            moved=moved.get(_VARIANTS if gone else change.path, 0),
        )  # fmt: skip
    found = next(((kind, effect) for prefix, kind, effect in _KINDS if change.path.startswith(prefix)), None)
    kind, effect = found or ("mail", "next_wave")
    return Judged(change=change, effect=effect, kind=kind, diff=diff)


def short_diff(before: str, after: str) -> tuple[str, ...]:
    """The lines in which two texts differ, with one line around them; cut where there are many."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm=""))[2:]
    if len(lines) <= _LONGEST_DIFF:
        return tuple(lines)
    return (*lines[:_LONGEST_DIFF], f"... {len(lines) - _LONGEST_DIFF}")
