"""What each factor does: main effects with intervals, pairs of levels that act together, and whether any do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from abmail import _effects_words as words
from abmail._laplace import rate_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Drawn", "Effects", "FactorEffect", "LevelEffect", "PairEffect", "effects_of"]

_CLEAR: Final = 0.95  # chance from which a sentence calls a level the best
_LIKELY: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelEffect:
    """One level of a factor, averaged evenly over the levels of all others.

    Attributes:
        level: Its name.
        n: Sends so far.
        successes: Successes so far.
        rate: Posterior mean of its rate, fraction.
        effect: How far the rate lies above the average of the factor's levels, fraction.
        ci_lower: Lower end of the effect's credible interval.
        ci_upper: Upper end.
        p_best: Chance to be the best level of its factor.
    """

    level: str
    n: int
    successes: int
    rate: float
    effect: float
    ci_lower: float
    ci_upper: float
    p_best: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorEffect:
    """A factor and its levels, in the order of the definition."""

    factor: str
    levels: tuple[LevelEffect, ...]

    @property
    def best(self) -> LevelEffect:
        """The level with the highest chance to be the best."""
        return max(self.levels, key=lambda level: level.p_best)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEffect:
    """Two levels of different factors: what they do together beyond what each does alone.

    Attributes:
        factors: Names of the factors.
        levels: Names of the levels.
        effect: Rate of the pair minus the rate that its main effects promise, fraction.
        ci_lower: Lower end of its credible interval.
        ci_upper: Upper end.
    """

    factors: tuple[str, str]
    levels: tuple[str, str]
    effect: float
    ci_lower: float
    ci_upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What the factors do. From the posterior that steers the mails: no error rate is promised.

    Attributes:
        factors: Main effects, in the order of the definition.
        pairs: Pairs of levels, the most striking first: by effect over its posterior standard deviation.
        acting_together: Chance that levels of different factors act together at all, 0.5 before anything was seen: the
            check whether main effects are enough.
        level: Probability that each interval holds its effect, fraction.
    """

    factors: tuple[FactorEffect, ...]
    pairs: tuple[PairEffect, ...]
    acting_together: float
    level: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"format_version": 1} | asdict(self)

    def sentence(self, language: Literal["en", "ja"] = "en") -> str:
        """The effects in plain words: one sentence for each factor, and one about acting together."""
        lines = [self._of(effect, language) for effect in self.factors if len(effect.levels) > 1]
        if self.pairs and self.acting_together > _LIKELY:
            pair = self.pairs[0]
            ends = (pair.effect, pair.ci_lower, pair.ci_upper)
            lines.append(words.together(pair.levels, self.acting_together, ends, self.level, language))
        elif self.pairs:
            lines.append(words.apart(1 - self.acting_together, language))
        return words.joined(lines, language)

    def _of(self, effect: FactorEffect, language: Literal["en", "ja"]) -> str:
        best = effect.best
        if best.p_best < _CLEAR:
            return words.open_still(effect.factor, best.level, best.p_best, language)
        ends = (best.effect, best.ci_lower, best.ci_upper)
        return words.settled(effect.factor, best.level, best.p_best, ends, self.level, language)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """Draws of all cells' log odds, and what is counted in them.

    Attributes:
        odds: (n_draws, n_cells) log odds.
        weight: (n_draws,) weights of the draws, sum 1.
        sends: (n_cells,) sends.
        successes: (n_cells,) successes.
    """

    odds: Floats
    weight: Floats
    sends: Integers
    successes: Integers


def effects_of(
    drawn: Drawn,
    factors: Sequence[tuple[str, tuple[str, ...]]],
    codes: Integers,
    acting_together: float,
    level: float,
) -> Effects:
    """Effects from draws of the posterior.

    Args:
        drawn: Draws of a complete design; cells that were never sent are there too, by what their levels promise.
        factors: Names of the factors and their levels.
        codes: (n_cells, n_factors) number of each cell's level.
        acting_together: Chance that there are interactions.
        level: Probability that each interval holds its effect.
    """
    masks = [(codes[:, [f]] == np.arange(len(levels))).astype(np.float64) for f, (_, levels) in enumerate(factors)]
    mains = tuple(
        FactorEffect(factor=name, levels=_main(drawn, mask, levels, level))
        for (name, levels), mask in zip(factors, masks, strict=True)
    )
    pairs: list[tuple[float, PairEffect]] = []
    for one in range(len(factors)):
        for other in range(one + 1, len(factors)):
            pairs += _pairs(drawn, (factors[one], factors[other]), (masks[one], masks[other]), level)
    pairs.sort(key=lambda pair: -pair[0])
    found = tuple(pair for _, pair in pairs)
    return Effects(factors=mains, pairs=found, acting_together=acting_together, level=level)


def _main(drawn: Drawn, mask: Floats, levels: Sequence[str], level: float) -> tuple[LevelEffect, ...]:
    rates = rate_of(drawn.odds) @ (mask / mask.sum(axis=0))
    above = rates - rates.mean(axis=1, keepdims=True)
    best = np.minimum(np.bincount(rates.argmax(axis=1), drawn.weight, minlength=len(levels)), 1.0)
    low, high = _interval(above, drawn.weight, level)
    figures = zip(
        levels, (drawn.sends @ mask).tolist(), (drawn.successes @ mask).tolist(), (drawn.weight @ rates).tolist(),
        (drawn.weight @ above).tolist(), low.tolist(), high.tolist(), best.tolist(), strict=True,
    )  # fmt: skip
    return tuple(
        LevelEffect(level=name, n=int(n), successes=int(k), rate=rate, effect=effect, ci_lower=a, ci_upper=b, p_best=p)
        for name, n, k, rate, effect, a, b, p in figures
    )


def _pairs(
    drawn: Drawn,
    factors: tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]],
    masks: tuple[Floats, Floats],
    level: float,
) -> list[tuple[float, PairEffect]]:
    """How striking each pair of levels of two factors is, and the pair."""
    both = (masks[0][:, :, None] * masks[1][:, None, :]).reshape(len(masks[0]), -1)
    together = drawn.odds @ (both / both.sum(axis=0))
    shape = (len(together), masks[0].shape[1], masks[1].shape[1])
    cells = together.reshape(shape)
    promised = cells.mean(axis=1, keepdims=True) + cells.mean(axis=2, keepdims=True)
    promised = promised - cells.mean(axis=(1, 2), keepdims=True)
    excess = (rate_of(cells) - rate_of(promised)).reshape(len(together), -1)
    mean = drawn.weight @ excess
    sd = np.sqrt(np.maximum(drawn.weight @ excess**2 - mean**2, 0.0))
    low, high = _interval(excess, drawn.weight, level)
    found = []
    for place, (effect, a, b) in enumerate(zip(mean.tolist(), low.tolist(), high.tolist(), strict=True)):
        first, second = divmod(place, shape[2])
        names = (factors[0][1][first], factors[1][1][second])
        pair = PairEffect(factors=(factors[0][0], factors[1][0]), levels=names, effect=effect, ci_lower=a, ci_upper=b)
        found.append((float(abs(effect) / sd[place]) if sd[place] > 0 else 0.0, pair))
    return found


def _interval(values: Floats, weight: Floats, level: float) -> tuple[Floats, Floats]:
    """Weighted central quantiles of each column."""
    order = np.argsort(values, axis=0)
    below = np.cumsum(weight[order], axis=0)
    ranked = np.take_along_axis(values, order, axis=0)
    tail = (1 - level) / 2
    low, high = (
        np.take_along_axis(ranked, np.argmax(below >= end - 1e-12, axis=0)[None], axis=0)[0] for end in (tail, 1 - tail)
    )
    return low, high
