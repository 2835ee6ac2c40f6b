"""Did the sends follow the weights? The sample-ratio check of an experiment whose weights change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from abmail._boundary import check_alpha, mixture_p_value, mixture_rho

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._counts import Counts

    Floats = NDArray[np.float64]

__all__ = ["SampleRatio", "sample_ratio", "srm"]

_FEWEST_EXPECTED = 5.0  # sends that the chi-square needs of each arm
_DEFAULT_EPOCHS = 10
_SMALLEST_TUNING = 1.0  # keeps a single send to a nearly closed arm from raising the alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Whether the sends per arm agree with the weights that were drawn from.

    Attributes:
        p_value: Chi-square p-value of the sends as they stand, None where it cannot be computed.
        anytime_p_value: p-value that may be watched at every epoch, None where it cannot be computed.
        ok: False when the check failed: the result must not be read before the cause is found. With a single epoch the
            chi-square decides, with several the p-value that may be watched.
        status: ``ok``, ``srm_failed``, ``too_few`` (not enough sends) or ``unknown`` (weights were not logged).
        expected: Sends that the weights promised, per arm; empty where weights are unknown.
        alpha: Level of the check.
    """

    p_value: float | None
    anytime_p_value: float | None
    ok: bool
    status: Literal["ok", "srm_failed", "too_few", "unknown"]
    expected: tuple[float, ...]
    alpha: float

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "p_value": self.p_value,
            "anytime_p_value": self.anytime_p_value,
            "ok": self.ok,
            "status": self.status,
            "expected": list(self.expected),
            "alpha": self.alpha,
        }


def srm(counts: Counts, *, alpha: float = 0.001) -> SampleRatio:
    """Check the sends against the epochs' own weights.

    Given the past, the sends of an epoch minus what its weights promised have mean zero, so their sum over the epochs
    is a martingale whatever the bandit did: chi-square of the sum at the end, a normal-mixture boundary (Howard et al.
    2021) while it is watched. Equal shares would be the wrong yardstick as soon as weights change.

    Args:
        counts: Sends per epoch and arm with their weights. A single epoch without weights is held against equal shares.
        alpha: Level of the check, fraction in (0, 1).

    Returns:
        The verdict; ``status`` is ``unknown`` where several epochs carry no weights.

    Raises:
        ValueError: ``alpha`` is out of range.

    Example:
        >>> from abmail.stats import Counts, srm
        >>> srm(Counts([9463, 7681], [0, 0], weights=[0.5, 0.5])).ok
        False
    """
    if counts.weights is None and counts.n_epochs == 1:
        return sample_ratio(counts.n, np.full(counts.n.shape, 1 / counts.n_arms), counts.looks, check_alpha(alpha))
    return sample_ratio(counts.n, counts.weights, counts.looks, check_alpha(alpha))


def sample_ratio(n: NDArray[np.int64], weights: Floats | None, looks: int | None, alpha: float) -> SampleRatio:
    """The check for sends and weights of shape (n_epochs, n_arms)."""
    if weights is None:
        return SampleRatio(p_value=None, anytime_p_value=None, ok=True, status="unknown", expected=(), alpha=alpha)
    sizes = n.sum(axis=1, keepdims=True).astype(np.float64)
    promised = sizes * weights
    p_value, watched = _chi_square(n, promised, weights), _anytime(n - promised, promised * (1 - weights), looks, alpha)
    if ((n > 0) & (weights == 0)).any():  # nobody may come where nobody was sent
        p_value = watched = 0.0
    decisive = watched if len(n) > 1 and p_value is not None else p_value
    ok = decisive is None or decisive > alpha
    return SampleRatio(
        p_value=p_value,
        anytime_p_value=watched,
        ok=ok,
        status="too_few" if decisive is None else "ok" if ok else "srm_failed",
        expected=tuple(promised.sum(axis=0).tolist()),
        alpha=alpha,
    )


def _chi_square(n: NDArray[np.int64], promised: Floats, weights: Floats) -> float | None:
    """p-value of the summed deviations; arms with too few promised sends are counted together."""
    from scipy.special import chdtrc

    expected = promised.sum(axis=0)
    groups = _groups(expected)
    if len(groups) < 2:
        return None
    deviation = groups @ (n.sum(axis=0) - expected)
    covariance = groups @ (np.diag(expected) - promised.T @ weights) @ groups.T
    spread, axes = np.linalg.eigh(covariance)
    kept = spread > 1e-9 * max(float(spread.max()), 1.0)
    if not kept.any():
        return None
    statistic = float((((axes.T @ deviation)[kept]) ** 2 / spread[kept]).sum())
    return float(chdtrc(int(kept.sum()), statistic))


def _groups(expected: Floats) -> Floats:
    """Which arms are counted together, (n_groups, n_arms) of 0 and 1; every group promises enough sends."""
    rows: list[Floats] = []
    gathered, row = 0.0, np.zeros(len(expected))
    for arm in np.argsort(expected, kind="stable"):
        gathered += float(expected[arm])
        row[arm] = 1.0
        if gathered >= _FEWEST_EXPECTED:
            rows.append(row)
            gathered, row = 0.0, np.zeros(len(expected))
    if rows:
        rows[-1] = rows[-1] + row
    return np.array(rows)


def _anytime(deviation: Floats, variance: Floats, looks: int | None, alpha: float) -> float | None:
    """Smallest mixture p-value over epochs and arms, times the number of arms (two arms mirror each other)."""
    total = variance.cumsum(axis=0)
    if not len(total) or not total[-1].any():
        return None
    first = variance[np.argmax(variance > 0, axis=0), np.arange(variance.shape[1])]
    rho = np.maximum(first * (looks or _DEFAULT_EPOCHS) * mixture_rho(1.0, alpha), _SMALLEST_TUNING)
    smallest = float(mixture_p_value(deviation.cumsum(axis=0), total, rho).min())
    n_arms = variance.shape[1]
    return min(1.0, smallest * (1 if n_arms == 2 else n_arms))
