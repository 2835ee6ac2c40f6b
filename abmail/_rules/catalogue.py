"""Every rule by its code."""

from __future__ import annotations

from typing import Final

from abmail._fields import advice
from abmail._rules import (
    appearance,
    audience,
    content,
    drift,
    drift_mail,
    order,
    reading,
    statistics,
    suppressing,
    times,
)
from abmail._rules.base import Check
from abmail._values import shown

__all__ = ["RULES", "find_rule", "require_prefix"]

_FAMILIES: Final = (reading, order, suppressing, statistics, audience, content, appearance, times, drift, drift_mail)

RULES: Final[tuple[Check, ...]] = tuple(
    sorted((check for family in _FAMILIES for check in family.RULES), key=lambda check: check.rule.code)
)
"""Every rule, by code; those that speak while a definition is read find nothing afterwards."""


def find_rule(name: str) -> Check:
    """Find a rule by its code or name, in any case.

    Raises:
        ValueError: There is none; the message names the nearest.
    """
    wanted = name.strip()
    for check in RULES:
        if wanted.upper() == check.rule.code or wanted.lower() == check.rule.name:
            return check
    code = wanted.upper()
    known = tuple(each.rule.code if code.startswith("AB") else each.rule.name for each in RULES)
    raise ValueError(f"there is no rule {shown(name)}; {advice(code if code.startswith('AB') else wanted, known)}")


def require_prefix(written: str) -> str:
    """Return the beginning of a code, or the name of a rule, as the beginning of a code.

    Raises:
        ValueError: No code begins so; the message names the nearest.
    """
    text = written.strip().upper()
    if text and any(check.rule.code.startswith(text) for check in RULES):
        return text
    return find_rule(written).rule.code
