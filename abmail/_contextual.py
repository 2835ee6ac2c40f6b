"""Weights by what is known of the recipients: arms times attributes, shrunk to the arms alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from abmail._laplace import Prior
from abmail._policies import ChanceToBeBest
from abmail._structure import THOMPSON, Structured, Table

__all__ = ["Contextual"]

Floats = NDArray[np.float64]

_ARM_SDS: Final = (0.05, 0.15, 0.4)  # of the arms' effects on the log odds, tried side by side
_ATTRIBUTE_SDS: Final = (0.02, 0.08, 0.25)  # of what a value of an attribute adds to them
_STRATUM_SDS: Final = (0.02, 0.1)  # of what a combination of values adds besides
_LEVEL_SD: Final = 0.4  # of what a value adds to all arms alike
_OWN_SD: Final = 0.2  # of what a combination adds to all arms alike
_REACH: Final = 0.5  # part of a scale over which neighbouring ranges of a number are alike

_BETWEEN: Final = "|"
_OTHER: Final = "other"
_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contextual(Structured):
    """Weights by the recipient's industry, role, stage or recency: a Bayesian logistic model with arm x attribute.

    Recipients with the same values (numbers: in the same range) are a stratum. All of a stratum get the same weights,
    so that the chance of every assignment is exact and logged, and arms are compared within epoch and stratum as ever.
    The log odds of an arm in a stratum are what the values add to all arms + the arm's effect + what each value adds to
    the arm + what their combination adds. How large these are is averaged over a grid by its evidence: attributes that
    change nothing soon weigh nothing. Ranges of a number are the more alike the nearer they are.

    It helps where attributes change which arm is best, and costs a little where they don't: see docs/bandit.md.

    Attributes:
        categories: ((attribute, (value, ...)), ...): values with weights of their own; all others, and people without
            the attribute, are "other".
        numbers: ((attribute, (cut, ...)), ...): rising numbers where one range ends and the next begins; people without
            the attribute are "unknown".
        rule: As `Hierarchical`.

    Raises:
        ValueError: There is no attribute, a name comes twice, a value holds "|", or the cuts don't rise.

    Example:
        >>> policy = Contextual.of(categories={"role": ["sales", "it"]}, numbers={"days": [30, 90]})
        >>> policy.stratum({"role": "it", "days": 41}), policy.stratum({"role": "chef"})
        ('it|30 to 90', 'other|unknown')
    """

    name: ClassVar[str] = "contextual"
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    numbers: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def __post_init__(self) -> None:
        Structured.__post_init__(self)
        categories = tuple((name, tuple(values)) for name, values in self.categories)  # JSON has lists
        numbers = tuple((name, tuple(map(float, cuts))) for name, cuts in self.numbers)
        object.__setattr__(self, "categories", categories)
        object.__setattr__(self, "numbers", numbers)
        names = [name for name, _ in (*categories, *numbers)]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"attributes are {names}, must be at least one name, each once")
        for name, values in categories:
            if not values or len({*values, _OTHER}) <= len(values) or any(_BETWEEN in value for value in values):
                raise ValueError(f"values of {name} are {list(values)}: must differ, none be 'other' or hold '|'")
        for name, cuts in numbers:
            if not cuts or not all(map(math.isfinite, cuts)) or any(b <= a for a, b in pairwise(cuts)):
                raise ValueError(f"cuts of {name} are {list(cuts)}, must be at least one number, rising")

    @classmethod
    def of(
        cls,
        *,
        categories: Mapping[str, Sequence[str]] | None = None,
        numbers: Mapping[str, Sequence[float]] | None = None,
        rule: ChanceToBeBest = THOMPSON,
    ) -> Self:
        """The policy for mappings of attributes to their values and cuts."""
        texts = tuple((name, tuple(values)) for name, values in (categories or {}).items())
        cuts = tuple((name, tuple(values)) for name, values in (numbers or {}).items())
        return cls(categories=texts, numbers=cuts, rule=rule)

    def stratum(self, attributes: Mapping[str, Any]) -> str:
        """Name of the stratum of a recipient with these attributes; it is the name of a segment in the counts."""
        labels = [_label_of(attributes.get(name), values) for name, values in self.categories]
        labels += [_range_of(attributes.get(name), cuts) for name, cuts in self.numbers]
        return _BETWEEN.join(labels)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `policy_from_dict` reads."""
        lists = {
            "categories": [[name, list(values)] for name, values in self.categories],
            "numbers": [[name, list(cuts)] for name, cuts in self.numbers],
        }
        return Structured.to_dict(self) | lists

    def _prior(self, table: Table, sd: float) -> Prior:
        n_arms = table.counts.n_arms
        sds = np.meshgrid(_ARM_SDS, _ATTRIBUTE_SDS, _STRATUM_SDS, indexing="ij")
        arm, attribute, own = (part.ravel() for part in sds)
        one, alike, always = np.eye(n_arms), self._alike(), np.ones((1, 1))
        of_all = _blocks([sd**2 * always, _LEVEL_SD**2 * alike])
        by_arm = [_blocks([a**2 * always, t**2 * alike]) for a, t in zip(arm, attribute, strict=True)]
        shared = np.stack([_blocks([of_all, *[block] * n_arms]) for block in by_arm])
        features = self._features(table)
        own_cov = own[:, None, None] ** 2 * one + _OWN_SD**2 * np.ones((n_arms, n_arms))
        return Prior(own=own_cov, shared=shared, design=_design(features, n_arms), log_chance=np.zeros(len(arm)))

    def _labels(self) -> list[list[str]]:
        """The values that each attribute can have in a stratum's name."""
        texts = [[*values, _OTHER] for _, values in self.categories]
        return texts + [[*_ranges(cuts), _UNKNOWN] for _, cuts in self.numbers]

    def _alike(self) -> Floats:
        """How alike the values are, (n_values, n_values): 0 for values of different attributes."""
        blocks = [np.eye(len(values) + 1) for _, values in self.categories]
        for _, cuts in self.numbers:
            place = np.arange(len(cuts) + 1) / len(cuts)
            block = np.eye(len(cuts) + 2)
            block[:-1, :-1] = np.exp(-0.5 * ((place[:, None] - place) / _REACH) ** 2)
            blocks.append(block)
        return _blocks(blocks)

    def _features(self, table: Table) -> Floats:
        """(n_rows, 1 + n_values) 1, and which values each row's recipients have."""
        labels = self._labels()
        starts = np.cumsum([1, *map(len, labels)])
        features = np.zeros((table.n_rows, int(starts[-1])))
        features[:, 0] = 1.0
        for row, name in enumerate(table.names):
            if name is None:
                continue
            parts = name.split(_BETWEEN)
            if len(parts) != len(labels) or any(part not in known for part, known in zip(parts, labels, strict=True)):
                order = _BETWEEN.join(attribute for attribute, _ in (*self.categories, *self.numbers))
                raise ValueError(f"there is no stratum {name!r}; `stratum` makes their names, as {order}")
            for start, part, known in zip(starts, parts, labels, strict=False):
                features[row, start + known.index(part)] = 1.0
        return features


def _label_of(value: object, values: Sequence[str]) -> str:
    return str(value) if str(value) in values else _OTHER


def _range_of(value: object, cuts: Sequence[float]) -> str:
    try:
        number = float(str(value))
    except ValueError:
        return _UNKNOWN
    return _UNKNOWN if math.isnan(number) else _ranges(cuts)[int(np.searchsorted(cuts, number, side="right"))]


def _ranges(cuts: Sequence[float]) -> list[str]:
    """Names of the ranges between the cuts; a cut belongs to the range that it begins."""
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
    return [f"under {cuts[0]:g}", *inner, f"from {cuts[-1]:g}"]


def _blocks(parts: Sequence[Floats]) -> Floats:
    """A matrix with these on its diagonal."""
    size = sum(map(len, parts))
    whole, at = np.zeros((size, size)), 0
    for part in parts:
        whole[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return whole


def _design(features: Floats, n_arms: int) -> Floats:
    """(n_rows, n_arms, p): the features for all arms alike, then those of each arm."""
    n_rows, width = features.shape
    design = np.zeros((n_rows, n_arms, (n_arms + 1) * width))
    design[:, :, :width] = features[:, None]
    for arm in range(n_arms):
        design[:, arm, (arm + 1) * width : (arm + 2) * width] = features
    return design
