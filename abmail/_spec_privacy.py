"""What may be learned of single people: the part of a definition that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from abmail._fields import Refusal, choice
from abmail._spec_types import Line
from abmail._values import BadValue

__all__ = ["Privacy", "PrivacyMode", "Unasked", "bad_privacy"]

PrivacyMode = Literal["off", "aggregate", "pseudonymous", "identified"]
Unasked = Literal["tracked", "untracked"]

_YES: Final = frozenset({"1", "true", "yes", "y", "t", "on", "granted", "given", "はい", "同意", "同意する", "可"})
_NO: Final = frozenset(
    {"0", "false", "no", "n", "f", "off", "denied", "いいえ", "不同意", "同意しない", "不可", "拒否"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What is learned of single people.

    Attributes:
        mode: ``off`` tracks nothing; ``aggregate`` counts without people; ``identified`` keeps readers' addresses.
        consent: Column of the list that says who may be tracked: yes or no.
        unasked: What goes for those of whom the column says nothing: ``tracked`` or ``untracked``.
    """

    mode: Annotated[PrivacyMode, choice(PrivacyMode)] = "pseudonymous"
    consent: Line = "tracking_consent"
    unasked: Annotated[Unasked, choice(Unasked)] = "tracked"

    def tracks(self, attributes: Mapping[str, str]) -> bool:
        """Whether opens and clicks of somebody may be tracked.

        Args:
            attributes: What the list says of them. A value that is neither a yes nor a no is no consent.
        """
        if self.mode == "off":
            return False
        said = str(attributes.get(self.consent) or "").strip().casefold()
        return said in _YES or (not said and self.unasked == "tracked")


def bad_privacy(read: Mapping[str, Any]) -> Iterator[Refusal]:
    """Say what a definition wants to know of single people although it forbids it."""
    privacy, times, audience = read.get("privacy"), read.get("send_time"), read.get("audience")
    mode = None if privacy is None else privacy.mode
    if mode in {"off", "aggregate"} and times is not None and times.mode != "fixed":
        problem = BadValue(f"with privacy.mode {mode} nobody knows when a person reads", hint="write mode: fixed")
        yield ("send_time", "mode"), problem
    if mode == "aggregate" and audience is not None and audience.unit == "company":
        problem = BadValue("with privacy.mode aggregate nobody knows which company answered", hint="leave unit out")
        yield ("audience", "unit"), problem
