"""Replications of an experiment under Thompson sampling, for tests of what the statistics promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from abmail._sequential import Pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Sends, successes and weights, each (replications, 2, epochs)."""

    n: Floats
    k: Floats
    weights: Floats

    def pair(self) -> Pair:
        """Arm 1 against arm 0."""
        return Pair(n_a=self.n[:, 0], k_a=self.k[:, 0], n_b=self.n[:, 1], k_b=self.k[:, 1])

    def __getitem__(self, some: slice) -> Runs:
        return Runs(n=self.n[some], k=self.k[some], weights=self.weights[some])


def thompson(
    rates: ArrayLike, floor: float, *, replications: int, epochs: int = 25, size: int = 400, seed: int = 20_250
) -> Runs:
    """Beta-Bernoulli Thompson sampling of two arms with an additive floor; 0.5 keeps the split even.

    ``rates`` is (2,), or (epochs, 2) for rates that move.
    """
    rng = np.random.default_rng(seed)
    by_epoch = np.broadcast_to(np.asarray(rates, dtype=np.float64), (epochs, 2))
    n = np.zeros((replications, 2, epochs))
    k, weights = np.zeros_like(n), np.zeros_like(n)
    for epoch in range(epochs):
        sends, hits = n.sum(axis=2), k.sum(axis=2)
        mean = (1 + hits) / (2 + sends)
        sd = np.sqrt(mean * (1 - mean) / (3 + sends))
        second = ndtr((mean[:, 1] - mean[:, 0]) / np.hypot(sd[:, 0], sd[:, 1]))
        best = np.column_stack((1 - second, second))
        weights[:, :, epoch] = floor + (1 - 2 * floor) * best if epoch else 0.5
        n[:, :, epoch] = rng.multinomial(size, weights[:, :, epoch])
        k[:, :, epoch] = rng.binomial(n[:, :, epoch].astype(np.int64), by_epoch[epoch])
    return Runs(n=n, k=k, weights=weights)
