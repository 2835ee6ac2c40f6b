"""Pictures of how fast each arm is answered, weighed by the evidence of the delays alone.

Delays are read from their end: a reverse hazard is the chance that an answer falls into a bin given that it came by the
bin's end. The chance of right-truncated delays is a product of binomials in these (Lagakos, Barraj & De Gruttola 1988),
so neither the arms' rates, nor the hours of sending, nor mails that are still silent enter. Three pictures compete:

* all arms share one curve;
* each arm follows the prior's curve, moved along the clock by its own factor and stretched by a common one;
* the arms share one such curve, except for some that go their own way (opened in two waves, say): their hazards are
  beta distributed around the common ones, bin by bin, as in a beta-Stacy process (Walker & Muliere 1997).

The third is what keeps the second honest: moved curves alone, forced upon an arm that is answered in two waves, take
the second wave for the sign of a very slow arm and promise answers that never come.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["reverse_counts", "speeds"]

_SHIFTS: Final = np.arange(-24, 25) * 0.15  # grid of medians, in log time around the prior's
_STRETCHES: Final = np.array([0.28, 0.38, 0.5, 0.66, 0.87, 1.15, 1.5])  # grid of spreads, as multiples of the prior's
_SHIFT_SD: Final = 1.0  # how far a whole experiment's median may lie from the prior's, in log time
_STRETCH_SD: Final = 0.4
_ARM_SDS: Final = (0.5, 1.0, 1.5, 2.0)  # how far arms that differ may lie apart, in log time
_ODD: Final = 0.1  # chance of an arm to go its own way
_LOOSE: Final = np.array([8.0, 64.0])  # answers that the common curve is worth in each bin of such an arm
_SEED: Final = 20_240_229  # the draws stand for a posterior; they are the same ones every time
_TINY: Final = 1e-300
_LEAST: Final = 1e-12  # smallest hazard and smallest chance to escape one


def reverse_counts(table: Floats) -> tuple[Floats, Floats]:
    """Answers in each bin and answers up to it, among mails that have lived through the bin.

    Args:
        table: (..., n_bins + 1, n_bins) answers by number of bins that the mail has lived through and bin of the delay.

    Returns:
        Two (..., n_bins) arrays; their ratio is the estimate of the reverse hazard.
    """
    bins = table.shape[-1]
    old_enough = np.arange(bins + 1)[:, None] > np.arange(bins)[None, :]
    return table.sum(axis=-2), (table.cumsum(axis=-1) * old_enough).sum(axis=-2)


def speeds(table: Floats, clock: Floats, spread: float, *, alike: float, draws: int) -> tuple[Floats, float]:
    """Draws of the arms' curves given that they differ, and the chance that they are alike.

    Args:
        table: (n_arms, n_bins + 1, n_bins) answers, as `reverse_counts` takes them.
        clock: (n_bins,) ends of the bins on a clock on which the prior's delays are normal around 0.
        spread: Their standard deviation.
        alike: Chance beforehand that the arms share one curve, fraction in [0, 1].
        draws: Number of draws.

    Returns:
        (draws, n_arms, n_bins) shares of the answers within each bin's end, and a fraction in [0, 1].
    """
    bins = np.arange(table.shape[2])
    order = np.lexsort((table.sum(axis=1) @ bins, table.sum(axis=(1, 2))))  # whatever the order of the arms
    table = table[order]
    seen, up_to = reverse_counts(table)
    hazard = _hazards(tuple(clock.tolist()), spread)
    fits = _log_fits(_with_sum(seen), _with_sum(up_to), hazard)
    near = _nearness()
    chance = _chances(fits, near, alike)
    pick, u = _strewn(chance[1:], draws, len(table))
    shift = np.where(pick.odd[:, None], _SHIFTS[pick.common][:, None], _shifts(fits[0, :-1], near, pick, u))
    drawn = _moved(clock, spread, shift, _STRETCHES[pick.stretch])
    own, strays = _own_ways(fits[:, :-1], seen, up_to, hazard, pick, u)
    drawn = np.where(strays[..., None], own, drawn)
    return drawn[:, order.argsort()], min(float(chance[0].sum()), 1.0)


class _Pick:
    """Of each draw: index of the arms' nearness, of the stretch and of the common shift, and whether arms may stray."""

    def __init__(self, picture: Integers, stretch: Integers, common: Integers) -> None:
        self.odd = picture == len(_ARM_SDS)
        self.sd, self.stretch, self.common = picture.clip(max=len(_ARM_SDS) - 1), stretch, common


@lru_cache(maxsize=8)
def _hazards(clock: tuple[float, ...], spread: float) -> Floats:
    """(n_stretches, n_shifts, n_bins) reverse hazards of the prior's curve, moved and stretched."""
    from scipy.special import log_ndtr

    share = log_ndtr((np.array(clock) - _SHIFTS[:, None]) / (spread * _STRETCHES)[:, None, None])
    before = np.concatenate([np.full((*share.shape[:2], 1), -np.inf), share[..., :-1]], axis=2)
    hazard: Floats = np.clip(-np.expm1(before - share), _LEAST, 1 - _LEAST)
    hazard.setflags(write=False)
    return hazard


def _log_fits(seen: Floats, up_to: Floats, hazard: Floats) -> Floats:
    """(1 + n_loose, n_arms + 1, n_stretches, n_shifts) log likelihoods of each arm and, last, of all together."""
    from scipy.special import gammaln

    told = up_to.sum(axis=0) > 0
    told[0] = False  # whatever came by the end of the first bin came in it
    k, n, g = seen[:, told], up_to[:, told], hazard[..., told]
    tight = np.einsum("aj,smj->asm", k, np.log(g)) + np.einsum("aj,smj->asm", n - k, np.log1p(-g))
    fits = [tight]
    coarse = g[:, ::2]
    for worth in _LOOSE:
        a, b = worth * coarse, worth * (1 - coarse)
        alone = (gammaln(a) + gammaln(b)).sum(axis=2)
        total = (gammaln(worth) - gammaln(worth + n)).sum(axis=1)
        together = [(gammaln(a + hit) + gammaln(b + miss)).sum(axis=2) for hit, miss in zip(k, n - k, strict=True)]
        fits.append(_refined(np.stack(together) - alone + total[:, None, None]))
    return np.stack(fits)


def _refined(coarse: Floats) -> Floats:
    """Values at all shifts from those at every second one, by cubic interpolation."""
    fine = np.empty((*coarse.shape[:-1], 2 * coarse.shape[-1] - 1))
    fine[..., ::2] = coarse
    fine[..., 1::2] = (coarse[..., :-1] + coarse[..., 1:]) / 2
    outer = coarse[..., :-3] + coarse[..., 3:]
    fine[..., 3:-3:2] = (9 * (coarse[..., 1:-2] + coarse[..., 2:-1]) - outer) / 16
    return fine


def _chances(fits: Floats, near: Floats, alike: float) -> Floats:
    """(1 + n_sds + 1, n_stretches, n_shifts) chance of each picture: alike; moved; alike but for some arms."""
    mixed = np.logaddexp(*_odd_or_not(fits))
    best = fits[0, :-1].max(axis=2, keepdims=True)
    moved = np.log(np.maximum(np.einsum("asm,tmc->tasc", np.exp(fits[0, :-1] - best), near), _TINY)) + best
    shared, moved, but_some = mixed[-1], moved.sum(axis=1), mixed[:-1].sum(axis=0)
    evidence = np.concatenate([shared[None], moved, but_some[None]])
    evidence += -0.5 * (_SHIFTS / _SHIFT_SD) ** 2 - 0.5 * (np.log(_STRETCHES) / _STRETCH_SD)[:, None] ** 2
    pictures = len(_ARM_SDS) + 1
    odds = np.append(alike, np.full(pictures, (1 - alike) / pictures))
    possible = np.where(odds[:, None, None] > 0, evidence, -np.inf)
    chance: Floats = np.exp(possible - possible.max()) * odds[:, None, None]
    total: np.float64 = chance.sum()
    return chance / total


def _odd_or_not(fits: Floats) -> tuple[Floats, Floats]:
    """Log likelihoods of arms that go their own way and of arms that don't, times the chance of either beforehand."""
    odd = np.logaddexp.reduce(fits[1:], axis=0) - np.log(len(_LOOSE))
    return np.log(_ODD) + odd, np.log1p(-_ODD) + fits[0]


def _with_sum(arms: Floats) -> Floats:
    return np.vstack([arms, arms.sum(axis=0)])


@cache
def _nearness() -> Floats:
    """(n_sds, n_shifts, n_shifts) chance of an arm's shift (rows) given the common one."""
    apart = _SHIFTS[:, None] - _SHIFTS[None, :]
    kernels = [np.exp(-0.5 * (apart / sd) ** 2) for sd in _ARM_SDS]
    near = np.stack([kernel / kernel.sum(axis=0) for kernel in kernels])
    near.setflags(write=False)
    return near


def _strewn(chance: Floats, draws: int, n_arms: int) -> tuple[_Pick, Floats]:
    """Draws of pictures, and (draws, n_arms) levels for what is drawn of each arm, evenly (a Latin hypercube)."""
    u = _levels(draws, n_arms)
    flat = chance.ravel().cumsum()
    at = np.searchsorted(flat, u[:, 0] * flat[-1]).clip(0, flat.size - 1)
    return _Pick(*np.unravel_index(at, chance.shape)), u[:, 1:]


@lru_cache(maxsize=32)
def _levels(draws: int, n_arms: int) -> Floats:
    """(draws, 1 + n_arms) levels between 0 and 1, each column strewn evenly."""
    order = np.random.default_rng(_SEED).random((draws, n_arms + 1)).argsort(axis=0)
    levels: Floats = (order + 0.5) / draws
    levels.setflags(write=False)
    return levels


def _shifts(fit: Floats, near: Floats, pick: _Pick, u: Floats) -> Floats:
    """(draws, n_arms) shifts of arms that each follow a moved curve."""
    likely = np.swapaxes(fit[:, pick.stretch], 0, 1)
    mass = np.exp(likely - likely.max(axis=2, keepdims=True)) * near[pick.sd, :, pick.common][:, None]
    below = mass.cumsum(axis=2)
    level = u[..., None] * below[..., -1:]
    at = (below < level).sum(axis=2, keepdims=True).clip(0, len(_SHIFTS) - 1)
    inside = np.take_along_axis(mass, at, axis=2)
    part = 1 - (np.take_along_axis(below, at, axis=2) - level) / np.maximum(inside, _TINY)
    step = _SHIFTS[1] - _SHIFTS[0]
    shift: Floats = _SHIFTS[at[..., 0]] + (np.clip(part[..., 0], 0, 1) - 0.5) * step
    return shift


def _moved(clock: Floats, spread: float, shift: Floats, stretch: Floats) -> Floats:
    """(draws, n_arms, n_bins) the prior's curve, moved and stretched, with 1 at the window."""
    from scipy.special import log_ndtr

    share = log_ndtr((clock - shift[..., None]) / (spread * stretch)[:, None, None])
    moved: Floats = np.exp(share - share[..., -1:])
    return moved


def _own_ways(
    fits: Floats, seen: Floats, up_to: Floats, hazard: Floats, pick: _Pick, u: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """(draws, n_arms, n_bins) curves of arms that go their own way, and (draws, n_arms) which of them do."""
    here = np.swapaxes(fits[:, :, pick.stretch, pick.common], 1, 2)
    odd, regular = _odd_or_not(here)
    strays = pick.odd[:, None] & (np.log(u) < odd - np.logaddexp(odd, regular))
    share = np.exp(here[1:] - np.logaddexp.reduce(here[1:], axis=0))
    common = hazard[pick.stretch, pick.common][:, None]
    own = sum(part[..., None] * (c * common + seen) / (c + up_to) for c, part in zip(_LOOSE, share, strict=True))
    escape = np.clip(1.0 - np.asarray(own), 0.0, 1.0)
    values = np.ones(escape.shape)
    values[..., :-1] = np.cumprod(escape[..., :0:-1], axis=2)[..., ::-1]
    return values, strays
