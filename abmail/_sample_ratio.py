"""Did the sends follow the weights? The sample-ratio check of an experiment whose weights change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from abmail._boundary import check_alpha, mixture_p_value, mixture_rho

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from abmail._counts import Counts
    from abmail._wording import Language

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
        arm: Index of the arm that is farthest from its promised sends, None where unknown.
        excess: Its sends beyond those promised, negative where it got too few.
        since: Index of the first epoch at which the watched check failed; None where it did not.
        forbidden: Whether an arm got sends in an epoch in which its weight was 0.
    """

    p_value: float | None
    anytime_p_value: float | None
    ok: bool
    status: Literal["ok", "srm_failed", "too_few", "unknown"]
    expected: tuple[float, ...]
    alpha: float
    arm: int | None = None
    excess: float = 0.0
    since: int | None = None
    forbidden: bool = False

    def explain(self, names: Sequence[str], language: Language = "en") -> str:
        """What is wrong and where to look first; empty when nothing is.

        Args:
            names: Names of the arms.
            language: ``en`` or ``ja``.

        Raises:
            ValueError: The language is not known.
        """
        if language not in _CAUSES:
            raise ValueError(f"language is '{language}', must be one of {', '.join(_CAUSES)}")
        if self.ok or self.arm is None:
            return ""
        texts = _CAUSES[language]
        facts = {"arm": names[self.arm], "n": f"{abs(self.excess):,.0f}", "wave": (self.since or 0) + 1}
        parts = [texts["short" if self.excess < 0 else "long"]]
        if self.since:
            parts.append(texts["since"])
        causes = "forbidden" if self.forbidden else "changed" if self.since else "missing"
        return " ".join(part.format(**facts) for part in (*parts, texts[causes]))

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "p_value": self.p_value,
            "anytime_p_value": self.anytime_p_value,
            "ok": self.ok,
            "status": self.status,
            "expected": list(self.expected),
            "alpha": self.alpha,
            "arm": self.arm,
            "excess": self.excess,
            "since": self.since,
            "forbidden": self.forbidden,
        }


_CAUSES: dict[str, dict[str, str]] = {
    "en": {
        "short": "'{arm}' got {n} mails fewer than its weights promised.",
        "long": "'{arm}' got {n} mails more than its weights promised.",
        "since": "It shows from wave {wave} on.",
        "missing": "Likely causes: mails of one variant that could not be rendered or were refused (look at the failed "
        "mails by variant), bounces that were taken out, or recipients that were removed after they had been assigned.",
        "changed": "Likely causes: something changed at that time: a template that fails for some recipients, a new "
        "suppression list, a second sender with other weights, or failed mails of one variant.",
        "forbidden": "Likely cause: mails went to a variant whose weight was 0: another process or an old version of "
        "the definition assigned them.",
    },
    "ja": {
        "short": "「{arm}」の配信数は、重みから期待される数より{n}通少なくなっています。",
        "long": "「{arm}」の配信数は、重みから期待される数より{n}通多くなっています。",
        "since": "第{wave}ウェーブから現れています。",
        "missing": "考えられる原因: 特定の案のメールの描画失敗や受信拒否(案ごとの失敗メールを確認)、"
        "除外されたバウンス、割り当て後に削除された宛先。",
        "changed": "考えられる原因: その時点での変更(一部の宛先で失敗するテンプレート、新しい配信停止リスト、"
        "別の重みで動く二つ目の送信プロセス、特定の案の配信失敗)。",
        "forbidden": "考えられる原因: 重みが0の案にメールが配信されています。別のプロセス、または古い定義が割り当てた"
        "可能性があります。",
    },
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
    forbidden = bool(((n > 0) & (weights == 0)).any())  # nobody may come where nobody was sent
    if forbidden:
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
        forbidden=forbidden,
        **_place(n, promised, weights, looks, alpha, failed=not ok),
    )


def _place(
    n: NDArray[np.int64], promised: Floats, weights: Floats, looks: int | None, alpha: float, *, failed: bool
) -> dict[str, Any]:
    """The arm that is farthest off, by how much, and since when."""
    excess = (n - promised).sum(axis=0)
    spread = np.sqrt((promised * (1 - weights)).sum(axis=0))
    if not len(n) or not n.any():
        return {}
    off = np.abs(excess) / np.maximum(spread, 1e-9)
    arm = int(np.argmax(np.where(excess < 0, 1.0 + 1e-6, 1.0) * off))  # of two that mirror each other, what is missing
    since = None
    if failed:
        path = _path(n - promised, promised * (1 - weights), looks, alpha)
        reached = np.flatnonzero(path <= alpha)
        since = int(reached[0]) if len(reached) else None
    return {"arm": arm, "excess": float(excess[arm]), "since": since}


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
    """Smallest mixture p-value over epochs and arms; None where nothing was sent."""
    if not len(variance) or not variance.any():
        return None
    return float(_path(deviation, variance, looks, alpha).min())


def _path(deviation: Floats, variance: Floats, looks: int | None, alpha: float) -> Floats:
    """Mixture p-value after each epoch: the smallest over the arms, times their number (two arms mirror each other)."""
    first = variance[np.argmax(variance > 0, axis=0), np.arange(variance.shape[1])]
    rho = np.maximum(first * (looks or _DEFAULT_EPOCHS) * mixture_rho(1.0, alpha), _SMALLEST_TUNING)
    n_arms = variance.shape[1]
    p: Floats = mixture_p_value(deviation.cumsum(axis=0), variance.cumsum(axis=0), rho).min(axis=1)
    return np.minimum(p * (1 if n_arms == 2 else n_arms), 1.0)
