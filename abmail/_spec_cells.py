"""What a definition's factors, control, weights and floor must be together: every problem at its own place."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeGuard, get_args

from pydantic import PlainValidator, ValidationError, ValidationInfo, WithJsonSchema
from pydantic_core import InitErrorDetails

from abmail._spec_problems import Location, MissingKey, UnknownKey, WrongType
from abmail._spec_types import Factor, Policy
from abmail._values import BadValue, FrozenDict, nearest, require_line, require_text, shown

__all__ = [
    "Control",
    "Factors",
    "cell_names",
    "default_floor",
    "level_names",
    "require_shares",
]

Refusals = Iterator[tuple[Location, BadValue]]
Levels = Mapping[Factor, tuple[str, ...]]

_LEVEL: Final = re.compile(r"[\w-]{1,64}")
_MOST_CELLS: Final = 256
_SLACK: Final = 1e-6  # how far from 1 a sum of weights may be: the rounding of binary fractions, nobody's slip
_FACTORS: Final[tuple[str, ...]] = get_args(Factor)
_LISTED: Final = 12


def level_names(definition: object) -> Levels | None:
    """List the levels of each factor of plain data, however wrong their texts; None where the factors are unclear."""
    factors = definition.get("factors") if isinstance(definition, Mapping) else None
    if not isinstance(factors, Mapping) or not factors:
        return None
    if not all(_is_factor(factor) and isinstance(levels, Mapping) for factor, levels in factors.items()):
        return None
    return {factor: tuple(levels) for factor, levels in factors.items()}


def cell_names(factors: Mapping[Factor, Iterable[str]]) -> tuple[str, ...]:
    """Name every combination of levels, the last factor varying fastest."""
    return tuple("+".join(levels) for levels in itertools.product(*factors.values()))


def default_floor(cells: int) -> float:
    """Smallest weight of a cell where none is given: 0.10, and all floors together at most 0.4."""
    return min(0.10, 0.4 / cells)


def require_shares(
    names: tuple[str, ...], *, policy: Policy, weights: Mapping[str, float] | None, floor: float | None
) -> None:
    """Refuse weights and a smallest weight that the cells cannot have.

    Raises:
        ValidationError: With every problem at its key below the allocation.
    """
    _refuse(itertools.chain(_bad_weights(names, policy, weights), _bad_floor(len(names), floor)))


def _is_factor(name: object) -> TypeGuard[Factor]:
    return name in _FACTORS


def _refuse(problems: Refusals) -> None:
    details = [
        InitErrorDetails(type="value_error", loc=location, input=None, ctx={"error": problem})
        for location, problem in problems
    ]
    if details:
        raise ValidationError.from_exception_data("definition", details)


# --- factors ----------------------------------------------------------------------------------------------------------


def _read_factors(value: object) -> FrozenDict[Factor, FrozenDict[str, str]]:
    if not isinstance(value, Mapping):
        raise WrongType("keys with values", value)
    if not value:
        raise BadValue("no factor varies", hint="write subject: {name: text, name: text}")
    factors: dict[Factor, FrozenDict[str, str]] = {}
    _refuse(_into_factors(value, factors))
    return FrozenDict(factors)


def _into_factors(value: Mapping[object, object], factors: dict[Factor, FrozenDict[str, str]]) -> Refusals:
    for factor, levels in value.items():
        if not _is_factor(factor):
            yield (str(factor),), UnknownKey.among(str(factor), _FACTORS)
        elif not isinstance(levels, Mapping):
            yield (factor,), WrongType("keys with values", levels)
        else:
            texts: dict[str, str] = {}
            yield from _into_levels(factor, levels, texts)
            factors[factor] = FrozenDict(texts)
    yield from _bad_number_of_cells(level_names({"factors": value}))


def _into_levels(factor: Factor, levels: Mapping[object, object], texts: dict[str, str]) -> Refusals:
    if not levels:
        yield (factor,), BadValue("the factor has no level", hint="write name: text for each level")
    for level, text in levels.items():
        name = str(level)
        if not _LEVEL.fullmatch(name):
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


def _bad_number_of_cells(levels: Levels | None) -> Refusals:
    if levels is None:
        return
    cells = math.prod(len(names) for names in levels.values())
    if cells > _MOST_CELLS:
        yield (), BadValue(f"the levels combine to {cells} cells, at most {_MOST_CELLS} can be told apart")
    if cells == 1:
        yield (), BadValue("there is one cell alone, nothing to compare", hint="give a factor a second level")


# --- control ----------------------------------------------------------------------------------------------------------


def _read_control(value: object, info: ValidationInfo) -> FrozenDict[Factor, str]:
    if not isinstance(value, Mapping):
        raise WrongType("keys with values", value)
    levels: Levels | None = (info.context or {}).get("levels") or level_names(info.data)
    control: dict[Factor, str] = {}
    _refuse(itertools.chain(_into_control(value, levels, control), _lacking(value, levels)))
    return FrozenDict({factor: control[factor] for factor in levels or control})


def _into_control(value: Mapping[object, object], levels: Levels | None, control: dict[Factor, str]) -> Refusals:
    for factor, level in value.items():
        known = tuple(levels) if levels else _FACTORS
        if not _is_factor(factor) or factor not in known:
            yield (str(factor),), UnknownKey.among(str(factor), known)
        elif not isinstance(level, str):
            yield (factor,), WrongType("the name of a level", level)
        elif levels and level not in levels[factor]:
            yield (factor,), BadValue(f"no level {shown(level)} of {factor}", hint=_advice(level, levels[factor]))
        else:
            control[factor] = level


def _lacking(value: Mapping[object, object], levels: Levels | None) -> Refusals:
    for factor, names in (levels or {}).items():
        if factor not in value:
            yield (), MissingKey(f"the control has no level of {factor}", hint=f"one of {_list(names)}")


# --- allocation -------------------------------------------------------------------------------------------------------


def _bad_weights(names: tuple[str, ...], policy: Policy, weights: Mapping[str, float] | None) -> Refusals:
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


def _bad_named_weights(names: tuple[str, ...], weights: Mapping[str, float]) -> Refusals:
    for name in weights:
        if name not in names:
            yield ("weights", name), UnknownKey(f"no cell {shown(name)}", hint=_advice(name, names))
    without = tuple(name for name in names if name not in weights)
    if without:
        yield ("weights",), MissingKey(f"no weight for {_list(without)}", hint="0 keeps a cell from being sent")
    total = math.fsum(weights.values())
    if abs(total - 1.0) > _SLACK:
        yield ("weights",), BadValue(f"the weights sum to {total:.6g}, must be 1")


def _bad_floor(cells: int, floor: float | None) -> Refusals:
    if floor is not None and floor * cells > 1.0 + _SLACK:
        message = f"{cells} cells with at least {floor:g} each come to more than 1"
        yield ("min_weight",), BadValue(message, hint=f"at most {math.floor(1000 / cells) / 1000:g}")


def _advice(name: str, known: tuple[str, ...]) -> str:
    near = nearest(name, known)
    return f"did you mean {near!r}?" if near else f"known: {_list(known)}"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


_FACTORS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"enum": list(_FACTORS)},
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": r"^[\w-]{1,64}$"},
        "additionalProperties": {"type": "string"},
    },
    "examples": [{"subject": {"plain": "Join our webinar", "number": "3 ways to report faster"}}],
}
_CONTROL_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"enum": list(_FACTORS)},
    "additionalProperties": {"type": "string"},
    "examples": [{"subject": "plain"}],
}

Factors = Annotated[Mapping[Factor, Mapping[str, str]], PlainValidator(_read_factors), WithJsonSchema(_FACTORS_SCHEMA)]
Control = Annotated[Mapping[Factor, str], PlainValidator(_read_control), WithJsonSchema(_CONTROL_SCHEMA)]
