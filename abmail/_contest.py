"""Every arm against every other: who was proved better than whom, by which look, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from abmail._method import Arrays, PairTest, Plan

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["Contest", "hold_contest", "sound"]

_BLOCK = 2_000_000  # numbers in one array of a test
_TOGETHER = 50_000  # up to so many, all pairs are tested at once and kept: the calls take longer than the numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """The race at every look; leading axes are experiments.

    Attributes:
        others: Indices of the arms but the control, (n_arms - 1,).
        versus: The arms against the control, (..., n_arms - 1, n_looks).
        everyone: Every pair, those of `versus` first; None where they are too many to be kept.
        pairs: Reference arm and other arm of every pair in `everyone`.
        leader: Arm with the largest effect now, (...,).
        beats: [..., i, j, t] is True where arm i was proved better than arm j by look t.
        winner: Arm that was proved better than every other one, -1 where there is none, (...,).
        close: Whether no difference worth finding was proved, before any winner was, (...,).
        decided_at: Look at which winner or closeness was proved, -1 where neither was, (...,).
    """

    others: Indices
    versus: PairTest
    everyone: PairTest | None
    pairs: tuple[tuple[int, int], ...]
    leader: NDArray[np.int64]
    beats: NDArray[np.bool_]
    winner: NDArray[np.int64]
    close: NDArray[np.bool_]
    decided_at: NDArray[np.int64]

    def test_of(self, a: int, b: int) -> PairTest | None:
        """The test of arm ``b`` beside reference arm ``a``; None where it was not kept, or the other way round."""
        if self.everyone is None or (a, b) not in self.pairs:
            return None
        at = self.pairs.index((a, b))
        return self.everyone.only(slice(at, at + 1))


def hold_contest(plan: Plan, arrays: Arrays, base: int, mde: float | None) -> Contest:
    """Hold every arm against the control and every pair against each other.

    A pair is compared at two-sided ``2 alpha / n_arms``: by a union bound over the arms that may be best, the best arm
    loses to none of the others with probability 1 - alpha. What was proved first stays proved.

    Args:
        plan: The method.
        arrays: Counts as the method reads them.
        base: The control.
        mde: Smallest difference worth finding, None where closeness is not asked for.
    """
    n_arms = arrays.n_arms
    others = np.array([arm for arm in range(n_arms) if arm != base])
    pairs = [(base, arm) for arm in others.tolist()] + list(combinations(others.tolist(), 2))
    a, b = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    few = len(a) * arrays.n[..., 0, :].size <= _TOGETHER
    everyone = plan.test(arrays, a, b) if few else None
    if everyone is None:
        versus = plan.test(arrays, a[: len(others)], others)
    else:  # of two arms there is one pair alone, which keeps what it has worked out
        versus = everyone if len(a) == len(others) else everyone.only(slice(len(others)))
    leader = _leader(versus.estimates()[0], others, base)
    level = 2 * plan.alpha / n_arms
    n_looks = arrays.n.shape[-1]
    beats = np.zeros((*leader.shape, n_arms, n_arms, n_looks), dtype=np.bool_)
    near = np.ones_like(beats) if mde is not None else None
    blocks = ((a, b, everyone),) if everyone is not None else _blocks(plan, arrays, a, b, versus)
    for a, b, test in blocks:
        sign = test.proved(level)
        beats[..., b, a, :], beats[..., a, b, :] = sign > 0, sign < 0
        if near is not None and mde is not None:
            within = test.within(level, mde) & _ready(arrays, a, b)
            near[..., a, b, :] = near[..., b, a, :] = within
    won = beats.sum(axis=-2) == n_arms - 1  # (..., arm, look)
    first_win = _first(won.any(axis=-2))
    first_close = np.full(first_win.shape, n_looks)
    if near is not None:
        first_close = _first(_all_near(near, _leader(np.swapaxes(versus.effect, -1, -2), others, base)))
    decided = np.minimum(first_win, first_close)
    champion = won[..., -1].argmax(axis=-1)
    return Contest(
        others=others,
        versus=versus,
        everyone=everyone,
        pairs=tuple(pairs) if everyone is not None else (),
        leader=leader,
        beats=beats,
        winner=np.where((first_win < n_looks) & (first_win <= first_close), champion, -1),
        close=first_close < first_win,
        decided_at=np.where(decided < n_looks, decided, -1),
    )


def sound(arrays: Arrays, a: Indices, b: Indices) -> NDArray[np.bool_]:
    """Whether the pairs carry a claim now, (..., n_pairs): both arms were sent, successes and failures suffice."""
    pair = arrays.pair(a, b)
    sends = np.minimum(pair.n_a.sum(axis=-1), pair.n_b.sum(axis=-1))
    enough: NDArray[np.bool_] = pair.ready()[..., -1] & (sends > 0)
    return enough


def _ready(arrays: Arrays, a: Indices, b: Indices) -> NDArray[np.bool_]:
    return arrays.pair(a, b).ready()


def _blocks(
    plan: Plan, arrays: Arrays, a: Indices, b: Indices, versus: PairTest
) -> Iterator[tuple[Indices, Indices, PairTest]]:
    """Every pair once, in blocks that fit the memory, those with the control first."""
    known = arrays.n_arms - 1
    yield a[:known], b[:known], versus
    step = max(1, _BLOCK // max(1, arrays.n[..., 0, :].size))
    for start in range(known, len(a), step):
        some = slice(start, start + step)
        yield a[some], b[some], plan.test(arrays, a[some], b[some])


def _leader(effect: Floats, others: Indices, base: int) -> NDArray[np.int64]:
    """The arm with the largest of the effects (..., n_others), compared within epochs; the control counts 0."""
    known = np.where(np.isnan(effect), -np.inf, effect)
    best = known.argmax(axis=-1)
    leader: NDArray[np.int64] = np.where(known.max(axis=-1) > 0, others[best], base)
    return leader


def _all_near(near: NDArray[np.bool_], leader: NDArray[np.int64]) -> NDArray[np.bool_]:
    """At every look whether every other arm is near the leader, (..., n_looks)."""
    of_leader = np.take_along_axis(near, leader[..., None, None, :], -3)[..., 0, :, :]
    itself = np.arange(near.shape[-2])[:, None] == leader[..., None, :]
    every: NDArray[np.bool_] = np.logical_or(of_leader, itself).all(axis=-2)
    return every


def _first(happened: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Look of the first True, the number of looks where there is none."""
    look: NDArray[np.int64] = np.where(happened.any(axis=-1), happened.argmax(axis=-1), happened.shape[-1])
    return look
