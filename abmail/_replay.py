"""What another policy would have brought, from a log of mails whose variants were drawn with known chances.

None of the four estimators needs a model to be right. *Rejection replay* (Li, Chu, Langford & Wang 2011; with unequal
chances Mandel, Liu, Brunskill & Popovic 2016) lets a policy go through the log and keeps the mails on which it agrees:
it learns from those alone, as it would have live. *IPS* (Horvitz & Thompson 1952) weighs every reward by how much more
often the policy would have chosen its arm; *SNIPS* (Swaminathan & Joachims 2015) divides by the sum of those weights;
*doubly robust* (Dudik, Erhan, Langford & Li 2014) weighs only what a model of the rewards leaves unexplained. For the
last three a policy that learns is told all of the log that came before, and its weights are fixed for each batch.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from abmail.bandit import Policy
from abmail.stats import Counts

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Log", "Replayed", "replay"]

Method = Literal["rejection", "ips", "snips", "dr"]

_METHODS: Final = ("rejection", "ips", "snips", "dr")
_FOLDS: Final = 2
_PRIOR: Final = 5.0  # mails of the arm's mean that a context's mean is drawn to
_SUM: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Log:
    """Mails in the order in which they went out.

    Attributes:
        arms: Names of the arms.
        arm: (n,) index of the arm that each got.
        reward: (n,) what came of it, 0 or 1 for policies that learn; any finite number otherwise.
        propensity: (n,) chance with which that arm was chosen, fraction in (0, 1].
        context: (n,) name of the group that each belongs to; one group without names by default.

    Raises:
        ValueError: Lengths differ, or a value is out of range; the message names the row.
    """

    arms: tuple[str, ...]
    arm: Integers
    reward: Floats
    propensity: Floats
    context: NDArray[np.str_]

    def __post_init__(self) -> None:
        n = len(self.arm)
        if not n or any(len(part) != n for part in (self.reward, self.propensity, self.context)):
            raise ValueError("arm, reward, propensity and context must be as many, and at least one")
        faults = {
            "arm": (self.arm < 0) | (self.arm >= len(self.arms)),
            "reward": ~np.isfinite(self.reward),
            "propensity": ~((self.propensity > 0) & (self.propensity <= 1)),
        }
        for name, wrong in faults.items():
            if wrong.any():
                row = int(np.argmax(wrong))
                allowed = {"arm": "a known arm", "reward": "a finite number", "propensity": "in (0, 1]"}[name]
                raise ValueError(f"{name} of row {row + 1} is {getattr(self, name)[row]}, must be {allowed}")

    def __len__(self) -> int:
        return len(self.arm)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        arm: str = "arm",
        reward: str = "reward",
        propensity: str = "propensity",
        context: Sequence[str] = (),
    ) -> Log:
        """A log from rows as a query or a CSV file gives them, first mail first.

        Args:
            rows: One mapping per mail.
            arm: Name of the column with the arm's name.
            reward: Name of the column with the reward.
            propensity: Name of the column with the chance of that arm.
            context: Names of the columns that make up the context.

        Raises:
            ValueError: A column is missing or a number is none; the message names the row.
        """
        names: list[str] = []
        numbers: list[tuple[float, float]] = []
        groups: list[str] = []
        for number, row in enumerate(rows, start=1):
            names.append(str(_cell(row, arm, number)))
            numbers.append((_number(row, reward, number), _number(row, propensity, number)))
            groups.append(" / ".join(str(_cell(row, column, number)) for column in context))
        arms = tuple(sorted(set(names)))
        place = {name: i for i, name in enumerate(arms)}
        table = np.array(numbers, dtype=np.float64).reshape(-1, 2)
        return cls(
            arms=arms, arm=np.array([place[name] for name in names], dtype=np.int64), reward=table[:, 0],
            propensity=table[:, 1], context=np.array(groups, dtype=np.str_),
        )  # fmt: skip

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str], **columns: Any) -> Log:
        """A log from a CSV file in UTF-8 with a header; ``columns`` as for `from_rows`."""
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return cls.from_rows(csv.DictReader(file), **columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The reward per mail that a policy would have brought.

    Attributes:
        value: The estimate.
        se: Its standard error.
        ci_lower: Lower end of its interval.
        ci_upper: Upper end.
        used: Mails that it rests on: those kept by rejection, else the effective number (Kish 1965).
        method: ``rejection``, ``ips``, ``snips`` or ``dr``.
        weights: (n_batches, n_arms) the policy's weights, batch by batch; the mean over the mails where they vary.
    """

    value: float
    se: float
    ci_lower: float
    ci_upper: float
    used: float
    method: Method
    weights: Floats

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self) | {"weights": self.weights.tolist()}


def replay(
    log: Log,
    policy: Policy | Sequence[float] | Floats,
    *,
    method: Method = "dr",
    every: int = 1_000,
    rng: int | np.random.Generator = 0,
    alpha: float = 0.05,
) -> Replayed:
    """Estimate what a policy would have brought on the mails of a log.

    Args:
        log: Mails whose arms were drawn with known chances.
        policy: Any policy; or shares (n_arms,) for everybody, or (n, n_arms) for each mail, that sum to 1.
        method: Rejection replay, or weighing by importance; see the module.
        every: Mails after which a policy that learns gets new weights, at least 1.
        rng: Seed or generator, for rejection replay.
        alpha: The interval holds 1 - ``alpha``.

    Returns:
        The reward per mail with its interval, from the normal distribution; NaN where no mail is left to rest it on.
        IPS, SNIPS and DR say what the policy's weights are worth when it learns from the whole log; rejection replay
        what it would have brought by learning from its own mails, of which it keeps about one in so many arms.

    Raises:
        ValueError: An argument is out of range, or a share is given to an arm that the log never chose.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> arm = rng.integers(2, size=20_000)
        >>> log = Log(arms=("a", "b"), arm=arm, reward=rng.binomial(1, np.where(arm == 1, 0.3, 0.1)).astype(float),
        ...           propensity=np.full(20_000, 0.5), context=np.full(20_000, ""))
        >>> found = replay(log, [0.5, 0.5], method="dr")
        >>> found.ci_lower < 0.2 < found.ci_upper
        True
    """
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}, must be {', '.join(_METHODS)}")
    if every < 1 or not 0 < alpha < 1:
        raise ValueError(f"every is {every} and alpha {alpha}, must be at least 1 and in (0, 1)")
    if method == "rejection":
        return _rejection(log, policy, every, np.random.default_rng(rng), alpha)
    shares, path = _told_all(log, policy, every)
    return _weighted(log, shares, path, method, alpha)


# -- by rejection ------------------------------------------------------------------------------------------------------


def _rejection(
    log: Log, policy: Policy | Sequence[float] | Floats, every: int, rng: np.random.Generator, alpha: float
) -> Replayed:
    """Keep each mail with chance share / (c x propensity), c so that no chance is above 1."""
    u = rng.random(len(log))
    if not isinstance(policy, Policy):
        shares = _shares(log, policy)
        ratio = np.take_along_axis(shares, log.arm[:, None], axis=1)[:, 0] / log.propensity
        reward = log.reward[u * ratio.max() < ratio]
        return _interval(
            _mean(reward), reward - _mean(reward), len(reward), shares.mean(axis=0)[None], "rejection", alpha
        )
    _require_binary(log)
    n_arms, least = len(log.arms), float(log.propensity.min())
    n, k = np.zeros((1, n_arms), dtype=np.int64), np.zeros((1, n_arms), dtype=np.int64)
    kept, taken_by, at = [], [], 0
    while at < len(log):
        share = policy.weights(Counts(n, k))
        taken_by.append(share)
        chance = share[log.arm[at:]] / log.propensity[at:] * least / share.max()
        taken = np.flatnonzero(u[at:] < chance)[:every] + at
        at = int(taken[-1]) + 1 if len(taken) == every else len(log)
        kept.append(log.reward[taken])
        n = np.vstack([n, np.bincount(log.arm[taken], minlength=n_arms)])
        k = np.vstack([k, np.bincount(log.arm[taken], log.reward[taken], n_arms).astype(np.int64)])
    reward = np.concatenate(kept)
    return _interval(_mean(reward), reward - _mean(reward), len(reward), np.array(taken_by), "rejection", alpha)


# -- by importance -----------------------------------------------------------------------------------------------------


def _told_all(log: Log, policy: Policy | Sequence[float] | Floats, every: int) -> tuple[Floats, Floats]:
    """Shares for each mail, (n, n_arms), and for each batch: a policy knows all mails of earlier batches."""
    if not isinstance(policy, Policy):
        shares = _shares(log, policy)
        return shares, shares.mean(axis=0)[None]
    _require_binary(log)
    n_arms, n_batches = len(log.arms), math.ceil(len(log) / every)
    batch = np.arange(len(log)) // every
    cell = batch * n_arms + log.arm
    n = np.bincount(cell, minlength=n_batches * n_arms).reshape(n_batches, n_arms)
    k = np.bincount(cell, log.reward, n_batches * n_arms).astype(np.int64).reshape(n_batches, n_arms)
    known = (Counts(n[:t], k[:t]) if t else Counts(n[:1] * 0, n[:1] * 0) for t in range(n_batches))
    path = np.array([policy.weights(counts) for counts in known])
    return path[batch], path


def _weighted(log: Log, shares: Floats, path: Floats, method: Method, alpha: float) -> Replayed:
    ratio = np.take_along_axis(shares, log.arm[:, None], axis=1)[:, 0] / log.propensity
    unseen = shares.max(axis=0)[np.bincount(log.arm, minlength=len(log.arms)) == 0]
    if (unseen > 0).any():
        raise ValueError("the policy gives mails to an arm that the log never chose: nothing is known of it")
    if method == "snips":
        total = float(ratio.sum())
        value = float((ratio * log.reward).sum()) / total if total else math.nan
        score = ratio * (log.reward - value) / (total / len(log)) if total else np.full(len(log), math.nan)
        return _interval(value, score, _kish(ratio), path, method, alpha)
    score = ratio * log.reward
    if method == "dr":
        model = _model(log)
        own = np.take_along_axis(model, log.arm[:, None], axis=1)[:, 0]
        score = (shares * model).sum(axis=1) + ratio * (log.reward - own)
    return _interval(float(score.mean()), score - score.mean(), _kish(ratio), path, method, alpha)


def _model(log: Log) -> Floats:
    """Mean reward of each arm in each context, drawn to the arm's; (n, n_arms), each from the half it is not in."""
    _, group = np.unique(log.context, return_inverse=True)
    n_arms, n_groups = len(log.arms), int(group.max()) + 1
    model, fold = np.empty((len(log), n_arms)), np.arange(len(log)) % _FOLDS
    for part in range(_FOLDS):
        learn = fold != part if (fold != part).any() else np.ones(len(log), dtype=bool)
        cell = group[learn] * n_arms + log.arm[learn]
        n = np.bincount(cell, minlength=n_groups * n_arms).reshape(n_groups, n_arms)
        total = np.bincount(cell, log.reward[learn], n_groups * n_arms).reshape(n_groups, n_arms)
        everywhere = total.sum() / max(n.sum(), 1)
        arm = (total.sum(axis=0) + _PRIOR * everywhere) / (n.sum(axis=0) + _PRIOR)
        model[fold == part] = ((total + _PRIOR * arm) / (n + _PRIOR))[group[fold == part]]
    return model


# -- parts -------------------------------------------------------------------------------------------------------------


def _mean(reward: Floats) -> float:
    return float(reward.mean()) if len(reward) else math.nan


def _interval(value: float, score: Floats, used: float, path: Floats, method: Method, alpha: float) -> Replayed:
    from scipy.special import ndtri

    n = len(score)
    se = float(np.sqrt((score**2).sum() / (n - 1) / n)) if n > 1 else math.nan
    half = float(ndtri(1 - alpha / 2)) * se
    return Replayed(
        value=value, se=se, ci_lower=value - half, ci_upper=value + half, used=used, method=method, weights=path
    )


def _kish(ratio: Floats) -> float:
    squares = float((ratio**2).sum())
    return float(ratio.sum()) ** 2 / squares if squares else 0.0


def _shares(log: Log, given: Sequence[float] | Floats) -> Floats:
    shares = np.asarray(given, dtype=np.float64)
    shape = (len(log), len(log.arms))
    if shares.shape not in {shape, shape[1:]}:
        raise ValueError(f"shares have shape {shares.shape}, must be {shape[1:]} or {shape}")
    if not (shares >= 0).all() or (np.abs(shares.sum(axis=-1) - 1) > _SUM).any():
        raise ValueError("shares must be 0 or more and sum to 1")
    return np.broadcast_to(shares, shape)


def _require_binary(log: Log) -> None:
    if not np.isin(log.reward, (0.0, 1.0)).all():
        raise ValueError("a policy learns from rewards that are 0 or 1; pass its shares for other rewards")


def _cell(row: Mapping[str, Any], column: str, number: int) -> Any:
    if row.get(column) is None:
        raise ValueError(f"row {number} has no column {column!r}; it has {', '.join(map(str, row))}")
    return row[column]


def _number(row: Mapping[str, Any], column: str, number: int) -> float:
    try:
        return float(_cell(row, column, number))
    except (TypeError, ValueError) as error:
        if column in row and row[column] is not None:
            raise ValueError(f"{column} of row {number} is {row[column]!r}, must be a number") from error
        raise
