"""What a definition's factors, control, weights and floor must be together: every problem at its own place."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeGuard, get_args

from abmail._fields import Kind, MissingKey, Refusal, Refused, UnknownKey, WrongType, advice, listed
from abmail._spec_types import LINE_SCHEMA, Factor, Policy
from abmail._values import BadValue, FrozenDict, require_line, require_text, shown

__all__ = [
    "MOST_CELLS",
    "Control",
    "Factors",
    "Levels",
    "bad_control",
    "bad_shares",
    "cell_names",
    "count_cells",
    "level_names",
]

Levels = Mapping[Factor, tuple[str, ...]]

_LEVEL: Final = re.compile(r"[\w-]{1,64}")
_LEVEL_IN_EDITORS: Final = r"^[^\x00-,./:-@\[-\^`{-\x7f]{1,64}$"  # in JavaScript \w is ASCII alone
MOST_CELLS: Final = 256
_SLACK: Final = 1e-6  # how far from 1 a sum of weights may be: the rounding of binary fractions, nobody's slip
_FACTORS: Final[tuple[str, ...]] = get_args(Factor)


def level_names(definition: object) -> Levels | None:
    """List the levels of each factor of plain data, however wrong their texts; None where the factors are unclear."""
    factors = definition.get("factors") if isinstance(definition, Mapping) else None
    if not isinstance(factors, Mapping) or not factors:
        return None
    if not all(_is_factor(factor) and _has_names(levels) for factor, levels in factors.items()):
        return None
    return {factor: tuple(levels) for factor, levels in factors.items()}


def cell_names(factors: Mapping[Factor, Iterable[str]]) -> tuple[str, ...]:
    """Name every combination of levels, the last factor varying fastest."""
    return tuple("+".join(levels) for levels in itertools.product(*factors.values()))


def count_cells(levels: Levels) -> int:
    """Number of combinations of levels."""
    return math.prod(len(names) for names in levels.values())


def _has_names(levels: object) -> bool:
    return isinstance(levels, Mapping) and all(isinstance(level, str) for level in levels)


def _is_factor(name: object) -> TypeGuard[Factor]:
    return name in _FACTORS


# --- factors ----------------------------------------------------------------------------------------------------------


def _read_factors(value: object) -> FrozenDict[Factor, FrozenDict[str, str]]:
    if not isinstance(value, Mapping):
        raise WrongType("keys with values", value)
    if not value:
        raise BadValue("no factor varies", hint="write subject: {name: text, name: text}")
    factors: dict[Factor, FrozenDict[str, str]] = {}
    problems = list(_into_factors(value, factors))
    if problems:
        raise Refused(problems)
    return FrozenDict(factors)


def _into_factors(value: Mapping[object, object], factors: dict[Factor, FrozenDict[str, str]]) -> Iterator[Refusal]:
    for factor, levels in value.items():
        if not _is_factor(factor):
            found = UnknownKey.among(str(factor), _FACTORS)
            if isinstance(levels, str) and found.hint.startswith("known"):  # variants without what they vary
                found = UnknownKey(str(found), hint=f"say first what differs: write subject: {{{factor}: …}}")
            yield (str(factor),), found
        elif not isinstance(levels, Mapping):
            yield (factor,), WrongType("keys with values", levels)
        else:
            texts: dict[str, str] = {}
            yield from _into_levels(factor, levels, texts)
            factors[factor] = FrozenDict(texts)
    yield from _bad_number_of_cells(level_names({"factors": value}))


def _into_levels(factor: Factor, levels: Mapping[object, object], texts: dict[str, str]) -> Iterator[Refusal]:
    if not levels:
        yield (factor,), BadValue("the factor has no level", hint="write name: text for each level")
    for level, text in levels.items():
        name = str(level)
        if not isinstance(level, str) or not _LEVEL.fullmatch(name):
            message = f"{shown(name)} is not a name of a level"
            yield (factor, name), UnknownKey(message, hint="write letters, digits, hyphens and _, at most 64")
        if not isinstance(text, str):
            yield (factor, name), WrongType("text", text)
            continue
        try:
            texts[name] = _clean(factor, text)
        except BadValue as problem:
            yield (factor, name), problem


def _clean(factor: Factor, text: str) -> str:
    if factor == "body":
        return require_text(text)
    return "" if factor == "preheader" and not text.strip() else require_line(text)


def _bad_number_of_cells(levels: Levels | None) -> Iterator[Refusal]:
    if levels is None:
        return
    cells = count_cells(levels)
    if cells > MOST_CELLS:
        yield (), BadValue(f"the levels combine to {cells} cells, at most {MOST_CELLS} can be told apart")
    if cells == 1:
        yield (), BadValue("there is one cell alone, nothing to compare", hint="give a factor a second level")


# --- control ----------------------------------------------------------------------------------------------------------


def _read_control(value: object) -> FrozenDict[Factor, str]:
    """Read the control's levels; whether they are defined is for `bad_control` to say."""
    if not isinstance(value, Mapping):
        raise WrongType("keys with values", value)
    control: dict[Factor, str] = {}
    problems: list[Refusal] = []
    for factor, level in value.items():
        if not _is_factor(factor):
            problems.append(((str(factor),), UnknownKey.among(str(factor), _FACTORS)))
        elif not isinstance(level, str):
            problems.append(((factor,), WrongType("the name of a level", level)))
        else:
            control[factor] = level
    if problems:
        raise Refused(problems)
    return FrozenDict(control)


def bad_control(control: object, levels: Levels) -> Iterator[Refusal]:
    """Say where a control, as plain data, names what is not defined or leaves out what is; locations below it."""
    if not isinstance(control, Mapping):
        return
    for factor, names in levels.items():
        level = control.get(factor)
        if factor not in control:
            yield (), MissingKey(f"no level of {factor} is named", hint=f"one of {listed(names)}")
        elif isinstance(level, str) and names and level not in names:
            yield (factor,), BadValue(f"no level {shown(level)} of {factor}", hint=advice(level, names))
    for factor in control:
        if _is_factor(factor) and factor not in levels:
            yield (factor,), UnknownKey("no such factor is defined", hint=advice(factor, tuple(levels)))


# --- allocation -------------------------------------------------------------------------------------------------------


def bad_shares(
    names: tuple[str, ...], *, policy: Policy, weights: Mapping[str, float] | None, floor: float | None
) -> Iterator[Refusal]:
    """Say which weights and which smallest weight the cells cannot have; locations below the allocation."""
    yield from _bad_weights(names, policy, weights)
    yield from _bad_floor(len(names), floor)


def _bad_weights(names: tuple[str, ...], policy: Policy, weights: Mapping[str, float] | None) -> Iterator[Refusal]:
    if policy != "fixed":
        if weights is not None:
            hint = "remove them, or write policy: fixed"
            yield ("weights",), BadValue(f"weights have no meaning with policy {policy}", hint=hint)
        return
    if weights is None:
        even = ", ".join(f"{name}: {1 / len(names):.4g}" for name in names[:4])
        hint = f"weights: {{{even}{', …' if len(names) > 4 else ''}}}"
        yield ("weights",), MissingKey("policy fixed needs the weight of each cell", hint=hint)
        return
    yield from _bad_named_weights(names, weights)


def _bad_named_weights(names: tuple[str, ...], weights: Mapping[str, float]) -> Iterator[Refusal]:
    for name in weights:
        if name not in names:
            yield ("weights", name), UnknownKey(f"no cell {shown(name)}", hint=advice(name, names))
    without = tuple(name for name in names if name not in weights)
    total = math.fsum(weights.values())
    if without:
        yield ("weights",), MissingKey(f"no weight for {listed(without)}", hint="0 keeps a cell from being sent")
    elif len(weights) == len(names) and abs(total - 1.0) > _SLACK:
        yield ("weights",), BadValue(f"the weights sum to {total:.6g}, must be 1")


def _bad_floor(cells: int, floor: float | None) -> Iterator[Refusal]:
    if floor is not None and floor * cells > 1.0 + _SLACK:
        message = f"{cells} cells with at least {floor:g} each come to more than 1"
        yield ("min_weight",), BadValue(message, hint=f"at most {math.floor(1000 / cells) / 1000:g}")


_EMPTY_OR_LINE: Final = {"anyOf": [LINE_SCHEMA, {"type": "string", "pattern": r"^\s*$"}]}
_TEXTS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "subject": ("Subject lines, by a name of your choice each.", LINE_SCHEMA),
    "cta": ("Calls to action, {{ cta }} in the template, by a name of your choice each.", LINE_SCHEMA),
    "preheader": ("Lines that mail programs show behind the subject; an empty one is none.", _EMPTY_OR_LINE),
    "from_name": ("Names of the sender, in place of the one in message.from.", LINE_SCHEMA),
    "body": ("Passages of the mail, {{ body }} in the template.", {"type": "string", "pattern": r"\S"}),
}


def _levels_schema(described: str, text: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": described,
        "minProperties": 1,
        "propertyNames": {"pattern": _LEVEL_IN_EDITORS},
        "additionalProperties": text,
    }


Factors = Annotated[
    Mapping[Factor, Mapping[str, str]],
    Kind(
        _read_factors,
        {
            "type": "object",
            "minProperties": 1,
            "properties": {name: _levels_schema(*_TEXTS[name]) for name in _FACTORS},
            "additionalProperties": False,
            "examples": [{"subject": {"plain": "Join our webinar", "number": "3 ways to report faster"}}],
        },
        lambda factors: {factor: dict(levels) for factor, levels in factors.items()},
    ),
]
Control = Annotated[
    Mapping[Factor, str],
    Kind(
        _read_control,
        {
            "type": "object",
            "minProperties": 1,
            "properties": {
                name: {"type": "string", "description": f"The level of {name} that the others are compared with."}
                for name in _FACTORS
            },
            "additionalProperties": False,
            "examples": [{"subject": "plain"}],
        },
        dict[Factor, str],
    ),
]
