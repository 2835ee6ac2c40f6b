"""Does the effect differ between segments, and by how much? Pooled estimates, a test that may be watched, winners.

A winner per segment is easy to find by chance: with 20 segments one of them "wins" at 5 %. So the segments are first
asked whether they differ at all; only then may one of them have a winner of its own.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from abmail._arms import arm_index, arm_names
from abmail._boundary import check_alpha
from abmail._conditional import breslow_day, homogeneity_evidence, log_odds_ratio
from abmail._method import Arrays, Plan, make_plan
from abmail._multiple import benjamini_hochberg
from abmail._pooling import Pooled, partial_pool
from abmail._sample_ratio import sample_ratio
from abmail._sequential import Pair
from abmail.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail._comparison import Cell
    from abmail._counts import Counts
    from abmail._method import MethodName
    from abmail._wording import Language

    Floats = NDArray[np.float64]

__all__ = ["Interaction", "SegmentComparison", "SegmentEffect", "SegmentWinner", "compare_segments"]

FORMAT_VERSION = 1

_SRM_ALPHA = 0.001
_NAMED = 5  # winners that the sentence names
_HALVINGS = 60
_FARTHEST_LOGIT = 40.0

SegmentStatus = Literal["ok", "too_few", "zero_variance", "srm_failed", "empty"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEffect:
    """One arm in one segment, against the control.

    Attributes:
        segment: Name of the segment.
        arm: Name of the arm.
        n: Sends of the arm in the segment.
        successes: ``0 <= successes <= n``.
        rate: Successes per send, None without sends.
        control_n: Sends of the control in the segment.
        control_successes: Its successes.
        control_rate: Its successes per send, None without sends.
        effect: Difference to the control's rate, compared within epochs by the method; None where nothing compares.
        ci_lower: Lower end of the method's interval for ``effect``, for this segment and arm alone.
        ci_upper: Upper end of that interval.
        log_odds_ratio: Mantel-Haenszel log odds ratio within epochs; None where nothing compares.
        log_odds_se: Its standard error.
        shrunk_log_odds_ratio: The same drawn towards the other segments; also for a segment without data, from the
            others alone. None where no segment compares the arm with the control.
        shrunk_log_odds_lower: Lower end of its interval: a posterior interval, without a guarantee over many looks.
        shrunk_log_odds_upper: Upper end of that interval.
        shrunk_effect: The shrunk log odds ratio as a difference of rates at the segment's overall rate.
        shrunk_lower: Lower end of its interval.
        shrunk_upper: Upper end of its interval.
        p_value: p-value against the control in this segment alone; valid at any look unless the method is ``fixed``.
        p_adjusted: The same after Benjamini and Hochberg over all segments and arms.
        status: ``ok``, ``too_few``, ``zero_variance``, ``srm_failed`` or ``empty`` (an arm got nobody).
    """

    segment: str
    arm: str
    n: int
    successes: int
    rate: float | None
    control_n: int
    control_successes: int
    control_rate: float | None
    effect: float | None
    ci_lower: float | None
    ci_upper: float | None
    log_odds_ratio: float | None
    log_odds_se: float | None
    shrunk_log_odds_ratio: float | None
    shrunk_log_odds_lower: float | None
    shrunk_log_odds_upper: float | None
    shrunk_effect: float | None
    shrunk_lower: float | None
    shrunk_upper: float | None
    p_value: float | None
    p_adjusted: float | None
    status: SegmentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """How much the effect of one arm differs between segments.

    Attributes:
        arm: Name of the arm.
        log_odds_ratio: Mean over the segments of the log odds ratio to the control; None where no segment compares.
        log_odds_lower: Lower end of its posterior interval.
        log_odds_upper: Upper end of it.
        tau: Standard deviation of the log odds ratio between segments (Paule & Mandel 1982).
        tau_lower: Lower end of its posterior interval.
        tau_upper: Upper end of it.
        statistic: Breslow and Day's chi-square with Tarone's correction, None where it can't be computed.
        degrees: Its degrees of freedom, None likewise.
        p_value: Its p-value, for one look; not corrected for the number of arms.
        anytime_p_value: p-value that may be watched at every epoch; not corrected for the number of arms.
    """

    arm: str
    log_odds_ratio: float | None
    log_odds_lower: float | None
    log_odds_upper: float | None
    tau: float | None
    tau_lower: float | None
    tau_upper: float | None
    statistic: float | None
    degrees: int | None
    p_value: float | None
    anytime_p_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentWinner:
    """An arm that was proved better than every other one in a segment.

    Attributes:
        segment: Name of the segment.
        arm: Name of the arm.
    """

    segment: str
    arm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentComparison:
    """The answer of `compare_segments`.

    Attributes:
        effects: One value for each segment and each arm but the control, segments in the order given.
        interactions: One value for each arm but the control.
        winners: Segments with a winner of their own; empty unless the segments are proved to differ.
        differs: Whether the effect of any arm is proved to differ between segments.
        p_value: The p-value that decides about ``differs``, over all arms: Breslow and Day's for ``fixed``, else the
            one that may be watched; None where it can't be computed.
        n_segments: Number of segments.
        control: Name of the control.
        method: ``fixed``, ``sequential`` or ``anytime``.
        alpha: Level of the test and of the false discovery rate among winners.
        status: ``ok``, ``one_segment`` or ``too_few`` (fewer than two segments compare arms).
    """

    effects: tuple[SegmentEffect, ...]
    interactions: tuple[Interaction, ...]
    winners: tuple[SegmentWinner, ...]
    differs: bool
    p_value: float | None
    n_segments: int
    control: str
    method: MethodName
    alpha: float
    status: Literal["ok", "one_segment", "too_few"]

    @property
    def sentence(self) -> str:
        """The result in plain English."""
        return self.sentence_in("en")

    def sentence_in(self, language: Language) -> str:
        """The result in plain words.

        Args:
            language: ``en`` or ``ja``.

        Raises:
            ValueError: The language is not known.
        """
        if language not in _TEXTS:
            raise ValueError(f"language is '{language}', must be one of {', '.join(_TEXTS)}")
        texts = _TEXTS[language]
        named = [texts["winner"].format(segment=one.segment, arm=one.arm) for one in self.winners[:_NAMED]]
        more = len(self.winners) - len(named)
        if more:
            named.append(texts["more"].format(more=more))
        p_value = 1.0 if self.p_value is None else self.p_value
        return texts[self._saying()].format(
            p=texts["p_small"] if p_value < 0.001 else texts["p"].format(p_value),
            winners=texts["join"].join(named),
            rest=texts["rest"].format(left=self.n_segments - len(self.winners)) if self._undecided else "",
            segments=self.n_segments,
        )

    @property
    def _undecided(self) -> bool:
        return len(self.winners) < self.n_segments

    def _saying(self) -> str:
        if self.status != "ok":
            return self.status
        if not self.differs:
            return "alike"
        return "differs" if self.winners else "no_winner"

    def rows(self) -> list[dict[str, Cell]]:
        """One dict per segment and arm: the one source of every table."""
        return [{field.name: getattr(effect, field.name) for field in fields(effect)} for effect in self.effects]

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "format_version": FORMAT_VERSION,
            "effects": self.rows(),
            "interactions": [asdict(interaction) for interaction in self.interactions],
            "winners": [asdict(winner) for winner in self.winners],
            "differs": self.differs,
            "p_value": self.p_value,
            "n_segments": self.n_segments,
            "control": self.control,
            "method": self.method,
            "alpha": self.alpha,
            "status": self.status,
            "sentence": self.sentence,
        }

    def to_pandas(self) -> Any:  # pandas ships no types, and is optional
        """A pandas.DataFrame with one row per segment and arm.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            raise MissingExtra("SegmentComparison.to_pandas()", "pandas") from error
        return pandas.DataFrame(self.rows())


_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "differs": "The effect differs between the {segments} segments ({p}): {winners}{rest}.",
        "no_winner": "The effect differs between the {segments} segments ({p}), but none of them has enough data for a "
        "winner of its own.",
        "alike": "It is not proved that the effect differs between the {segments} segments ({p}): judge them together.",
        "one_segment": "There is one segment: nothing to compare it with.",
        "too_few": "Too early to tell whether the effect differs between segments: fewer than two of them have "
        "successes to compare.",
        "winner": "'{arm}' wins in '{segment}'",
        "more": "and {more} more",
        "rest": "; no winner is proved in the other {left}",
        "join": ", ",
        "p": "p = {:.2g}",
        "p_small": "p < 0.001",
    },
    "ja": {
        "differs": "効果は{segments}個のセグメントの間で異なります({p})。{winners}{rest}。",
        "no_winner": "効果は{segments}個のセグメントの間で異なりますが({p})、個別の勝者を決められるだけのデータがある"
        "セグメントはありません。",
        "alike": "効果が{segments}個のセグメントの間で異なる証拠はありません({p})。全体の結果で判断してください。",
        "one_segment": "セグメントが1つだけなので、比べる相手がありません。",
        "too_few": "セグメントの間で効果が異なるかはまだ判断できません。比較できる成果のあるセグメントが2つ未満です。",
        "winner": "「{segment}」では「{arm}」の勝ち",
        "more": "ほか{more}件",
        "rest": "、残り{left}個では勝者は未確定です",
        "join": "、",
        "p": "p = {:.2g}",
        "p_small": "p < 0.001",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """All counts side by side, (n_segments, n_arms, n_epochs), what they stand for, and how they are compared."""

    segments: tuple[str, ...]
    labels: tuple[str, ...]
    base: int
    n: Floats
    k: Floats
    sent: NDArray[np.int64]
    answered: NDArray[np.int64]
    plan: Plan
    healthy: NDArray[np.bool_]

    @property
    def others(self) -> list[int]:
        return [i for i in range(len(self.labels)) if i != self.base]

    def pair(self, arm: int) -> Pair:
        """An arm and the control in all segments, (n_segments, n_epochs); segments with faulty sends are left empty."""
        fine = self.healthy[:, None]
        n_a, k_a, n_b, k_b = (np.where(fine, part[:, i], 0.0) for i in (self.base, arm) for part in (self.n, self.k))
        return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b)


def compare_segments(
    segments: Mapping[str, Counts],
    *,
    control: int | str = 0,
    alpha: float = 0.05,
    method: Literal["auto", "fixed", "sequential", "anytime"] = "auto",
    looks: int | None = None,
    weights: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    design_effect: float = 1.0,
) -> SegmentComparison:
    """Compare the arms in each segment, and the segments with each other.

    Everything is compared within epochs, on the scale of log odds, so that segments may differ in their base rates.
    Each segment's estimate is drawn towards the others' mean by as much as they agree. Whether the effect differs is
    tested by Breslow and Day's chi-square for a single look, and while it is watched by an exact e-process: given the
    successes of all segments in an epoch, a segment with the common odds ratio has a known distribution, whatever the
    bandit did; the segments' e-processes are averaged. Only where the effect differs are winners named per segment,
    with the false discovery rate held at ``alpha`` over all segments and arms.

    Args:
        segments: Counts of each segment, all with the same epochs and arms.
        control: Index or name of the control.
        alpha: Level of the test, of the false discovery rate among winners, and of the intervals; fraction in (0, 1).
        method: As in `compare`.
        looks: Planned number of epochs; that of the counts by default.
        weights: Planned share of each epoch, as in `compare`.
        names: Names of the arms; A, B, ... by default.
        design_effect: That of `compare` over all segments, where recipients were assigned by company: so many mails
            then count as one, and the sample ratio of a segment is not checked.

    Returns:
        The answer, with a status where there is none.

    Raises:
        ValueError: An argument is out of range, or the segments' epochs, arms or looks differ.

    Example:
        >>> from abmail.stats import Counts, compare_segments
        >>> young, old = Counts([4_000, 4_000], [800, 1_000]), Counts([4_000, 4_000], [800, 650])
        >>> result = compare_segments({"young": young, "old": old})
        >>> result.differs, [(winner.segment, winner.arm) for winner in result.winners]
        (True, [('young', 'B'), ('old', 'A')])
    """
    if not 1 <= design_effect < np.inf:
        raise ValueError(f"design_effect is {design_effect:g}, must be at least 1")
    table = _table(segments, control, check_alpha(alpha), method, looks, weights, names, design_effect)
    effects: dict[tuple[int, int], dict[str, Any]] = {}
    interactions, evidence = [], []
    for arm in table.others:
        pair = table.pair(arm)
        estimates, variances = log_odds_ratio(pair)
        pooled = partial_pool(estimates, variances, alpha)
        log_e = homogeneity_evidence(pair if design_effect == 1 else _in_whole_mails(pair))
        evidence.append(log_e)
        interactions.append(_interaction(table.labels[arm], pair, pooled, log_e))
        shrunk = _shrunk(pair, pooled)
        for row in range(len(table.segments)):
            effects[row, arm] = {
                "log_odds_ratio": _known(estimates[row]),
                "log_odds_se": _known(np.sqrt(variances[row])),
                **{name: _known(column[row]) for name, column in shrunk.items()},
            }
    p_value = _decisive(table.plan.name, interactions, evidence)
    differs = p_value is not None and p_value <= alpha
    rows = _compared(table, effects, alpha)
    return SegmentComparison(
        effects=rows,
        interactions=tuple(interactions),
        winners=_winners(table, rows, alpha) if differs else (),
        differs=differs,
        p_value=p_value,
        n_segments=len(table.segments),
        control=table.labels[table.base],
        method=table.plan.name,
        alpha=alpha,
        status="one_segment" if len(table.segments) == 1 else "too_few" if p_value is None else "ok",
    )


def _table(
    segments: Mapping[str, Counts],
    control: int | str,
    alpha: float,
    method: str,
    looks: int | None,
    weights: ArrayLike | None,
    names: Sequence[str] | None,
    design_effect: float,
) -> _Table:
    if not segments:
        raise ValueError("segments are empty: give the counts of at least one")
    first_name, first = next(iter(segments.items()))
    for name, counts in segments.items():
        if counts.n.shape != first.n.shape or counts.looks != first.looks:
            raise ValueError(
                f"segment '{name}' has {counts.n_epochs} epochs, {counts.n_arms} arms and looks={counts.looks}, "
                f"'{first_name}' has {first.n_epochs}, {first.n_arms} and looks={first.looks}: they must agree"
            )
    if first.n_arms < 2:
        raise ValueError(f"counts have {first.n_arms} arm, a comparison needs at least 2")
    labels = arm_names(names, first.n_arms)
    plans = [
        make_plan(
            counts, method=method, alpha=alpha, weights=weights, plan=None, looks=looks, horizon=None, shape=0.0,
            prior=None, baseline=None,
        )
        for counts in segments.values()
    ]  # fmt: skip
    if plans[0].name not in ("fixed", "sequential", "anytime"):
        raise ValueError(f"method is '{method}', must be auto, fixed, sequential or anytime")
    together = plans[0].name == "fixed" or not first.n_epochs
    sources = [counts.total() if together else counts for counts in segments.values()]
    by_company = design_effect > 1
    healthy = [
        by_company or sample_ratio(counts.n, counts.weights, counts.looks, _SRM_ALPHA).ok
        for counts in segments.values()
    ]
    return _Table(
        segments=tuple(segments),
        labels=labels,
        base=arm_index(control, labels),
        n=np.stack([counts.n.T for counts in sources]) / design_effect,
        k=np.stack([counts.successes.T for counts in sources]) / design_effect,
        sent=np.stack([counts.n.sum(axis=0) for counts in sources]),
        answered=np.stack([counts.successes.sum(axis=0) for counts in sources]),
        plan=plans[0],
        healthy=np.array(healthy),
    )


def _interaction(arm: str, pair: Pair, pooled: Pooled | None, log_evidence: Floats) -> Interaction:
    from scipy.special import chdtrc

    found = breslow_day(pair)
    informative = bool((log_evidence != 0).any())
    return Interaction(
        arm=arm,
        log_odds_ratio=None if pooled is None else pooled.mean,
        log_odds_lower=None if pooled is None else pooled.mean_lower,
        log_odds_upper=None if pooled is None else pooled.mean_upper,
        tau=None if pooled is None else pooled.tau,
        tau_lower=None if pooled is None else pooled.tau_lower,
        tau_upper=None if pooled is None else pooled.tau_upper,
        statistic=None if found is None else found[0],
        degrees=None if found is None else found[1],
        p_value=None if found is None else float(chdtrc(found[1], found[0])),
        anytime_p_value=watched_p_value(log_evidence) if informative else None,
    )


def _in_whole_mails(pair: Pair) -> Pair:
    """The pair in whole numbers, as an exact law needs them."""
    k_a, k_b = np.rint(pair.k_a), np.rint(pair.k_b)
    return Pair(n_a=np.maximum(np.rint(pair.n_a), k_a), k_a=k_a, n_b=np.maximum(np.rint(pair.n_b), k_b), k_b=k_b)


def watched_p_value(log_evidence: Floats) -> float:
    """Anytime p-value of the mean of e-processes over segments (and arms): their mean is an e-process again.

    It is never larger than Bonferroni's correction of the separate p-values.

    Args:
        log_evidence: (n_processes, n_epochs).
    """
    top = log_evidence.max(axis=0)
    mean = np.log(np.exp(log_evidence - top).mean(axis=0)) + top
    return float(np.exp(-max(mean.max(), 0.0)))


def _decisive(method: str, interactions: list[Interaction], evidence: list[Floats]) -> float | None:
    """p-value of "the effect of some arm differs between segments"."""
    if method == "fixed":
        known = [one.p_value for one in interactions if one.p_value is not None]
        return min(1.0, min(known) * len(known)) if known else None
    known_evidence = [
        log_e for one, log_e in zip(interactions, evidence, strict=True) if one.anytime_p_value is not None
    ]
    return watched_p_value(np.concatenate(known_evidence)) if known_evidence else None


def _shrunk(pair: Pair, pooled: Pooled | None) -> dict[str, Floats]:
    """The shrunk columns of every segment."""
    if pooled is None:
        return {}
    thetas = {"ratio": pooled.estimate, "lower": pooled.lower, "upper": pooled.upper}
    n, k = pair.n.sum(axis=-1), pair.k.sum(axis=-1)
    overall = (k.sum() + 0.5) / (n.sum() + 1)
    inner = (k > 0) & (k < n)
    rate = np.where(inner, k / np.maximum(n, 1), np.where(n > 0, (k + 0.5) / (n + 1), overall))
    share = np.where(n > 0, pair.n_b.sum(axis=-1) / np.maximum(n, 1), 0.5)
    columns = {f"shrunk_log_odds_{name}": theta for name, theta in thetas.items()}
    for name, theta in zip(("effect", "lower", "upper"), thetas.values(), strict=True):
        columns[f"shrunk_{name}"] = as_difference(theta, rate, share)
    return columns


def as_difference(log_odds: Floats, rate: Floats, share: Floats) -> Floats:
    """Difference p_b - p_a with that log odds ratio, with ``share`` of the sends in arm b and an overall ``rate``."""
    from scipy.special import expit

    low, high = np.full(rate.shape, -_FARTHEST_LOGIT), np.full(rate.shape, _FARTHEST_LOGIT)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        short = (1 - share) * expit(middle) + share * expit(middle + log_odds) < rate
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    difference: Floats = expit(low + log_odds) - expit(low)
    return difference


def _compared(table: _Table, effects: dict[tuple[int, int], dict[str, Any]], alpha: float) -> tuple[SegmentEffect, ...]:
    """Rows of the result, with each segment's own comparison and the correction over all of them."""
    others = table.others
    sends, hits = table.sent, table.answered
    statuses = {arm: _statuses(table.pair(arm), table.healthy) for arm in others}
    found = _separately(table, alpha)
    rows: list[dict[str, Any]] = []
    for row, segment in enumerate(table.segments):
        n_a, k_a = sends[row, table.base], hits[row, table.base]
        for i, arm in enumerate(others):
            n_b, k_b = sends[row, arm], hits[row, arm]
            rows.append(
                {
                    "segment": segment,
                    "arm": table.labels[arm],
                    "n": int(n_b),
                    "successes": int(k_b),
                    "rate": float(k_b / n_b) if n_b else None,
                    "control_n": int(n_a),
                    "control_successes": int(k_a),
                    "control_rate": float(k_a / n_a) if n_a else None,
                    "status": statuses[arm][row],
                    **{name: _known(column[row, i]) if n_a and n_b else None for name, column in found.items()},
                    **effects[row, arm],
                }
            )
    adjusted = benjamini_hochberg([_claim(one) for one in rows])
    return tuple(
        SegmentEffect(**_COLUMNS | one, p_adjusted=None if one["p_value"] is None else float(p))
        for one, p in zip(rows, adjusted, strict=True)
    )


def _separately(table: _Table, alpha: float) -> dict[str, Floats]:
    """Effect, interval and p-value of each arm in each segment by itself, (n_segments, n_others)."""
    others = np.array(table.others)
    test = table.plan.test(Arrays.plain(table.n, table.k), np.full(len(others), table.base), others)
    low, high = (end[..., -1] for end in test.difference(alpha))
    return {"effect": test.effect[..., -1], "ci_lower": low, "ci_upper": high, "p_value": test.p_value()}


_COLUMNS: dict[str, Any] = dict.fromkeys(
    f"shrunk_{name}" for name in ("log_odds_ratio", "log_odds_lower", "log_odds_upper", "effect", "lower", "upper")
)


def _claim(row: dict[str, Any]) -> float:
    """The p-value that a claim may rest on: 1 where none may be made."""
    return 1.0 if row["p_value"] is None or row["status"] != "ok" else float(row["p_value"])


def _statuses(pair: Pair, healthy: NDArray[np.bool_]) -> list[SegmentStatus]:
    """Whether each segment carries a claim about the arm, and if not, why."""
    sends, n, k = np.minimum(pair.n_a.sum(axis=-1), pair.n_b.sum(axis=-1)), pair.n.sum(axis=-1), pair.k.sum(axis=-1)
    ready = pair.ready()[:, -1]
    found: list[SegmentStatus] = []
    for row, fine in enumerate(healthy):
        if not fine:
            found.append("srm_failed")
        elif not sends[row]:
            found.append("empty")
        elif ready[row]:
            found.append("ok")
        else:
            found.append("zero_variance" if k[row] in (0.0, n[row]) else "too_few")
    return found


def _winners(table: _Table, rows: tuple[SegmentEffect, ...], alpha: float) -> tuple[SegmentWinner, ...]:
    """Segments in which one arm beats every other one.

    The segments with a rejection after Benjamini and Hochberg are selected; in each of them the arms are then compared
    at ``alpha`` times the share of selected segments, which keeps the false discovery rate (Benjamini & Yekutieli 2005,
    JASA 100:71). With two arms both steps are the same.
    """
    found = {
        one.segment for one in rows if one.status == "ok" and one.p_adjusted is not None and one.p_adjusted <= alpha
    }
    level = alpha * len(found) / len(table.segments)
    winners = []
    for row, segment in enumerate(table.segments):
        best = _best_arm(table, row, level) if segment in found else None
        if best is not None:
            winners.append(SegmentWinner(segment=segment, arm=table.labels[best]))
    return tuple(winners)


def _best_arm(table: _Table, row: int, level: float) -> int | None:
    """The arm that beats every other one, each pair at two-sided ``2 level / n_arms``; None where there is none."""
    arrays = Arrays.plain(table.n[row], table.k[row])
    n_arms = arrays.n_arms
    beats = np.zeros((n_arms, n_arms), dtype=np.bool_)
    a, b = np.triu_indices(n_arms, 1)
    sign = table.plan.test(arrays, a, b).proved(2 * level / n_arms)[..., -1]
    beats[a, b], beats[b, a] = sign < 0, sign > 0
    champions = np.flatnonzero(beats.sum(axis=1) == n_arms - 1)
    return int(champions[0]) if len(champions) else None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
