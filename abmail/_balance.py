"""Whether something that no variant can have caused fell on all variants alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Balance", "balance"]

_FEWEST_EXPECTED: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A test of balance.

    Attributes:
        shares: (n_arms,) share of each arm's mails that it fell on, fraction in [0, 1].
        p_value: Chance of shares at least as uneven among equal arms; None where ``status`` is not ``ok``.
        status: ``ok``, or ``too_few`` where fewer than five are to be expected of an arm.
    """

    shares: tuple[float, ...]
    p_value: float | None
    status: Literal["ok", "too_few"]


def balance(n: NDArray[np.int64], k: NDArray[np.int64]) -> Balance:
    """Test whether ``k`` of ``n`` mails fell on the arms alike, epoch by epoch whatever their weights were.

    The generalised Cochran-Mantel-Haenszel test: in each epoch the marked mails are a draw without replacement from all
    of its mails (Landis, Heyman & Koch 1978; chi-square with n_arms - 1 degrees of freedom). It asks nothing of how the
    marks come about, as long as the arms were drawn by chance.

    Args:
        n: (n_epochs, n_arms) mails.
        k: (n_epochs, n_arms) marked ones, 0 <= k <= n.

    >>> balance(np.array([[1000, 1000]]), np.array([[80, 120]])).p_value < 0.01
    True
    """
    from scipy.stats import chi2  # a second that only reports need

    size, marked = n.sum(axis=1, keepdims=True), k.sum(axis=1, keepdims=True)
    shares = tuple((k.sum(axis=0) / np.maximum(n.sum(axis=0), 1)).tolist())
    part = n / np.maximum(size, 1)
    used = n.sum(axis=0) > 0
    expected = (part * marked).sum(axis=0)[used]
    if len(expected) < 2 or expected.min() < _FEWEST_EXPECTED:
        return Balance(shares=shares, p_value=None, status="too_few")
    scale = (marked * (size - marked) / np.maximum(size - 1, 1))[:, :, None]
    spread = (scale * (part[:, :, None] * np.eye(n.shape[1]) - part[:, :, None] * part[:, None, :])).sum(axis=0)
    off = (k.sum(axis=0)[used] - expected)[:-1]
    rest = spread[np.ix_(used, used)][:-1, :-1]
    statistic = float(off @ np.linalg.pinv(rest) @ off)
    return Balance(shares=shares, p_value=float(chi2.sf(statistic, len(off))), status="ok")
