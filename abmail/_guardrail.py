"""Guardrails: is a rate above its limit, or above the control's? One-sided, and valid however often one looks.

Every claim rests on an e-process: a non-negative process that starts at 1, doesn't grow on average as long as nothing
is wrong, and so passes 1 / alpha with probability at most alpha at any number of looks (Ville 1939). Young mails, whose
events are still to come, lower the evidence against a limit: they can delay an alarm, never raise a false one. Against
the control they are fair, since both arms of an epoch are equally old.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from abmail._arms import arm_index, arm_names
from abmail._boundary import check_alpha
from abmail._conditional import excess_evidence, log_odds_ratio, stratified_difference
from abmail._multiple import holm
from abmail._sequential import Pair
from abmail._why import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from abmail._counts import Counts
    from abmail._wording import Language

    Floats = NDArray[np.float64]

__all__ = [
    "BROKEN",
    "GuardrailResult",
    "Versus",
    "breaks_limit",
    "check_guardrails",
    "exceeds_limit",
    "rate_bounds",
    "worse_than_control",
]

Verdict = Literal["ok", "broken", "worse_than_control", "too_few"]

_HALVINGS = 60
_ODDS_HALVINGS = 20
_FEWEST_EVENTS = 10  # over an arm and the control, before a comparison without an alarm means anything
_WORST = 2.0  # an arm is cleared once its rate can't be this many times the limit


def exceeds_limit(n: int, k: int, limit: float, *, alpha: float = 0.05) -> bool:
    """Whether the data prove that a rate is above its limit.

    The likelihood of rates above the limit, mixed, divided by the likelihood at the limit, is an e-process for any true
    rate up to the limit (the one-sided beta-binomial mixture of Robbins 1970 and Howard et al. 2021). The mixture is a
    Beta(1, 1 / limit) distribution above the limit: excesses of about the limit's own size, so that twice the limit is
    found soon where limits are small.

    Args:
        n: Trials, 0 or more.
        k: Events, ``0 <= k <= n``.
        limit: Highest accepted rate, fraction in [0, 1].
        alpha: Level, fraction in (0, 1).

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> exceeds_limit(1_000, 20, 0.005), exceeds_limit(1_000, 6, 0.005)
        (True, False)
    """
    check_alpha(alpha)
    _check_events(n, k)
    _check_limit(limit)
    return bool(_limit_evidence(*_floats(n, k, limit)) >= -np.log(alpha))


def rate_bounds(n: int, k: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """A lower and an upper confidence bound for one rate, each valid at any number of looks.

    The bounds invert the e-process of `exceeds_limit`: the lower one is the smallest limit that the data don't prove to
    be exceeded, the upper one the same for what did not happen. Each is one-sided: both hold together with probability
    1 - 2 ``alpha``.

    Args:
        n: Trials, 0 or more.
        k: Events, ``0 <= k <= n``.
        alpha: One-sided level of each bound, fraction in (0, 1).

    Returns:
        Lower and upper bound, fractions in [0, 1].

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> low, high = rate_bounds(10_000, 50)
        >>> round(low, 4), round(high, 4)
        (0.0032, 0.0074)
    """
    check_alpha(alpha)
    _check_events(n, k)
    trials, events = _floats(n, k)
    return float(_lower_bound(trials, events, alpha)), float(1 - _lower_bound(trials, trials - events, alpha))


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """An arm against the control, one-sided: is it worse?

    Attributes:
        arm: Name of the arm.
        effect: Difference to the control's rate, compared within epochs (Mantel-Haenszel); None where nothing compares.
        odds_ratio: Odds of the event relative to the control's, within epochs (Mantel-Haenszel); None where it isn't
            finite. For rare events the same as the ratio of the rates.
        odds_ratio_lower: Lower confidence bound of the odds ratio, at ``alpha`` divided by the number of arms; 0 where
            nothing is known.
        p_value: One-sided p-value at any look, Holm-corrected over the arms.
        worse: Whether the arm is proved worse than the control by more than the margin.
    """

    arm: str
    effect: float | None
    odds_ratio: float | None
    odds_ratio_lower: float
    p_value: float
    worse: bool


def worse_than_control(
    counts: Counts,
    *,
    control: int | str = 0,
    alpha: float = 0.05,
    margin: float = 0.0,
    names: Sequence[str] | None = None,
) -> tuple[Versus, ...]:
    """Which arms are proved to have more of a bad event than the control; a proof stands once it was made.

    Arms are compared within epochs by the exact conditional likelihood of the odds ratio, so that neither changing
    weights nor drifting base rates nor small counts matter. With several arms, Holm's correction keeps the chance of
    any false alarm, at any look, at ``alpha``.

    Args:
        counts: Sends and events per epoch and arm.
        control: Index or name of the control.
        alpha: One-sided level over all arms, fraction in (0, 1).
        margin: How much larger than the control's the odds may be: 0.2 accepts 1.2 times the control's odds.
        names: Names of the arms; A, B, ... by default.

    Returns:
        One value for each arm but the control, in their order.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from abmail.stats import Counts
        >>> counts = Counts([[5_000, 5_000], [5_000, 5_000]], [[10, 31], [12, 35]])
        >>> [found.worse for found in worse_than_control(counts)]
        [True]
    """
    check_alpha(alpha)
    labels = arm_names(names, counts.n_arms)
    base = arm_index(control, labels)
    others = [i for i in range(len(labels)) if i != base]
    if not others:
        raise ValueError(f"counts have {len(labels)} arm, a comparison with the control needs at least 2")
    pair = _against(counts, base, others)
    p_values, effects = _excess(pair, margin)
    ratios = np.exp(log_odds_ratio(pair)[0])
    lower = _odds_ratio_lower(pair, alpha / len(others))
    return tuple(
        Versus(
            arm=labels[arm],
            effect=_known(effects[row]),
            odds_ratio=_known(ratios[row]),
            odds_ratio_lower=float(lower[row]),
            p_value=float(p_values[row]),
            worse=bool(p_values[row] <= alpha),
        )
        for row, arm in enumerate(others)
    )


def _excess(pair: Pair, margin: float) -> tuple[Floats, Floats]:
    """Holm-corrected anytime p-values for "more events than the control", and differences of the rates, (n_others,)."""
    if not 0 <= margin < np.inf:
        raise ValueError(f"margin is {margin:g}, must be 0 or a positive number")
    return holm(_p_value(excess_evidence(pair, np.log1p(margin)))), stratified_difference(pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailResult:
    """One guardrail for one arm.

    Attributes:
        metric: What is guarded.
        arm: Name of the arm.
        control: Name of the control.
        n: Sends.
        k: Events, ``0 <= k <= n``.
        rate: Events per send, None without sends.
        lower: Lower confidence bound of the rate at any look, corrected for the number of arms.
        upper: Upper confidence bound of the rate, likewise; sends too young to have had their event count as without.
        limit: Highest accepted rate, None for no limit.
        effect: Difference to the control's rate within epochs, None for the control or where nothing compares.
        p_value: One-sided p-value "worse than the control" at any look, Holm-corrected over the arms; None for the
            control.
        ok: False when the arm should stop.
        verdict: ``broken`` (proved above the limit), ``worse_than_control`` (proved), ``too_few`` (the sends don't yet
            rule out twice the limit; without a limit: fewer than 10 events in the arm and the control) or ``ok``.
    """

    metric: str
    arm: str
    control: str
    n: int
    k: int
    rate: float | None
    lower: float
    upper: float
    limit: float | None
    effect: float | None
    p_value: float | None
    ok: bool
    verdict: Verdict

    @property
    def sentence(self) -> str:
        """The finding in plain English."""
        return self.sentence_in("en")

    def sentence_in(self, language: Language) -> str:
        """The finding in plain words.

        Args:
            language: ``en`` or ``ja``.

        Raises:
            ValueError: The language is not known.
        """
        if language not in _TEXTS:
            raise ValueError(f"language is '{language}', must be one of {', '.join(_TEXTS)}")
        return _TEXTS[language][self._saying()].format(
            metric=self.metric,
            arm=self.arm,
            control=self.control,
            n=f"{self.n:,}",
            k=f"{self.k:,}",
            rate=_percent(self.rate or 0.0),
            lower=_percent(self.lower),
            upper=_percent(self.upper),
            limit=_percent(self.limit or 0.0),
            effect=f"{100 * (self.effect or 0.0):+.2f}",
        )

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form, with the sentence."""
        return {**asdict(self), "sentence": self.sentence}

    def _saying(self) -> str:
        if self.rate is None:
            return "empty"
        if self.verdict == "ok":
            return "free" if self.limit is None else "ok" if self.upper <= self.limit else "open"
        if self.verdict == "broken" and self.limit is not None and self.lower <= self.limit:
            return "broken_before"
        return self.verdict


_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "ok": "'{arm}' keeps the limit on {metric}: {rate} ({k} of {n}), at most {upper}; the limit is {limit}.",
        "open": "'{arm}' is not proved above the limit on {metric}: {rate} ({k} of {n}), between {lower} and {upper}; "
        "the limit is {limit}.",
        "free": "'{arm}' is not proved worse than '{control}' on {metric}: {rate} ({k} of {n}).",
        "broken": "'{arm}' breaks the limit on {metric}: {rate} ({k} of {n}), at least {lower}; the limit is {limit}.",
        "broken_before": "'{arm}' broke the limit on {metric}: proved at an earlier look; the rate now stands at "
        "{rate} ({k} of {n}), the limit is {limit}.",
        "worse_than_control": "'{arm}' is worse than '{control}' on {metric}: {rate} ({k} of {n}), {effect} points.",
        "too_few": "Too few sends of '{arm}' to judge {metric}: {k} of {n}, which may stand for up to {upper}.",
        "empty": "'{arm}' has not been sent: nothing can be said on {metric}.",
    },
    "ja": {
        "ok": "「{arm}」は{metric}の上限を守っています。{rate}({n}通中{k}件)、高くても{upper}、上限は{limit}です。",
        "open": "「{arm}」が{metric}の上限を超えている証拠はありません。{rate}({n}通中{k}件)、範囲は{lower}〜{upper}、"
        "上限は{limit}です。",
        "free": "「{arm}」の{metric}が「{control}」より悪い証拠はありません。{rate}({n}通中{k}件)です。",
        "broken": "「{arm}」は{metric}の上限を超えています。{rate}({n}通中{k}件)、低くても{lower}、上限は{limit}です。",
        "broken_before": "「{arm}」が{metric}の上限を超えたことは以前の時点で示されました。現在は{rate}({n}通中{k}件)、"
        "上限は{limit}です。",
        "worse_than_control": "「{arm}」の{metric}は「{control}」より悪くなっています。{rate}({n}通中{k}件)、"
        "差は{effect}ポイントです。",
        "too_few": "「{arm}」の{metric}を判断するには配信数が足りません。{n}通中{k}件で、{upper}に達する可能性が"
        "あります。",
        "empty": "「{arm}」はまだ配信されていないため、{metric}は判断できません。",
    },
}
BROKEN: Final = tuple(Why(_TEXTS["en"][saying], _TEXTS["ja"][saying]) for saying in ("broken", "broken_before"))
"""What is said of an arm that broke a limit."""


def check_guardrails(
    counts_by_metric: Mapping[str, Counts],
    limits: Mapping[str, float | None],
    control: int | str = 0,
    alpha: float = 0.05,
    *,
    margin: float = 0.0,
    names: Sequence[str] | None = None,
) -> tuple[GuardrailResult, ...]:
    """Check every arm on every guarded metric, against its limit and against the control.

    On each metric the chance of stopping any arm wrongly, at any look, is at most ``alpha``: limits share it over the
    arms, comparisons with the control over the other arms, and where both are made each kind has half of it. A proof
    stands once it was made, although later epochs disagree.

    Args:
        counts_by_metric: Sends and events per epoch and arm, for each metric; bad events, the fewer the better.
        limits: Highest accepted rate of each metric, fraction in [0, 1]; None, or no entry, for no limit.
        control: Index or name of the control.
        alpha: Level of each metric, fraction in (0, 1).
        margin: How much larger than the control's the odds may be, 0.2 for 1.2 times.
        names: Names of the arms; A, B, ... by default.

    Returns:
        One result for each metric and arm, in the order given.

    Raises:
        ValueError: An argument is out of range, or a limit belongs to no metric.

    Example:
        >>> from abmail.stats import Counts
        >>> counts = Counts([[5_000, 5_000], [5_000, 5_000]], [[10, 71], [12, 75]])
        >>> [found.verdict for found in check_guardrails({"unsubscribed": counts}, {"unsubscribed": 0.005})]
        ['ok', 'broken']
    """
    check_alpha(alpha)
    if unknown := sorted(set(limits) - set(counts_by_metric)):
        raise ValueError(f"limits name '{unknown[0]}', which has no counts; there are {', '.join(counts_by_metric)}")
    found: list[GuardrailResult] = []
    for metric, counts in counts_by_metric.items():
        labels = arm_names(names, counts.n_arms)
        limit = limits.get(metric)
        if limit is not None:
            _check_limit(limit)
        base = arm_index(control, labels)
        found.extend(_check_metric(metric, counts, limit, base=base, alpha=alpha, margin=margin, labels=labels))
    return tuple(found)


def breaks_limit(counts: Counts, limit: float | None, *, alpha: float = 0.05) -> bool:
    """Whether `check_guardrails` finds an arm broken on this metric, without its ranges and the control.

    Args:
        counts: Sends and events per epoch and arm.
        limit: Highest accepted rate, fraction in [0, 1]; None for none.
        alpha: Level of the metric, fraction in (0, 1).
    """
    return bool(_broken(counts, limit, _share(counts.n_arms, limit, alpha)).any())


def _share(n_arms: int, limit: float | None, alpha: float) -> float:
    """The part of the level that one arm has against its limit."""
    return (alpha if limit is None or n_arms == 1 else alpha / 2) / n_arms


def _check_metric(
    metric: str, counts: Counts, limit: float | None, *, base: int, alpha: float, margin: float, labels: tuple[str, ...]
) -> list[GuardrailResult]:
    n_arms = len(labels)
    share = alpha if limit is None or n_arms == 1 else alpha / 2
    n, k = counts.n.sum(axis=0), counts.successes.sum(axis=0)
    trials, events = n.astype(np.float64), k.astype(np.float64)
    lower = _lower_bound(trials, events, share / n_arms)
    upper = 1 - _lower_bound(trials, trials - events, share / n_arms)
    broken = _broken(counts, limit, _share(n_arms, limit, alpha))
    others = [i for i in range(n_arms) if i != base]
    p_values, effects = np.full((2, n_arms), np.nan)
    if others:
        p_values[others], effects[others] = _excess(_against(counts, base, others), margin)
    results = []
    for i, arm in enumerate(labels):
        verdict: Verdict = "ok"
        if broken[i]:
            verdict = "broken"
        elif p_values[i] <= share:
            verdict = "worse_than_control"
        elif _unknown(int(n[i]), int(k[i] + k[base]), float(upper[i]), limit):
            verdict = "too_few"
        results.append(
            GuardrailResult(
                metric=metric,
                arm=arm,
                control=labels[base],
                n=int(n[i]),
                k=int(k[i]),
                rate=float(k[i] / n[i]) if n[i] else None,
                lower=float(lower[i]),
                upper=float(upper[i]),
                limit=limit,
                effect=_known(effects[i]),
                p_value=_known(p_values[i]),
                ok=verdict in ("ok", "too_few"),
                verdict=verdict,
            )
        )
    return results


def _unknown(n: int, events: int, upper: float, limit: float | None) -> bool:
    """Whether silence says nothing yet; ``events`` are those of the arm and the control."""
    if not n or limit is None:
        return not n or events < _FEWEST_EVENTS
    return upper > _WORST * limit > 0


def _broken(counts: Counts, limit: float | None, alpha: float) -> NDArray[np.bool_]:
    """Whether each arm was above the limit at any look, (n_arms,)."""
    if limit is None:
        return np.zeros(counts.n_arms, dtype=np.bool_)
    n, k = (part.cumsum(axis=0).astype(np.float64) for part in (counts.n, counts.successes))
    crossed: NDArray[np.bool_] = (_limit_evidence(n, k, np.asarray(limit)) >= -np.log(alpha)).any(axis=0)
    return crossed


def _limit_evidence(n: Floats, k: Floats, limit: Floats) -> Floats:
    """Log of the e-process against rates up to ``limit``, element by element."""
    from scipy.special import betaincc, betaln

    inner = (limit > 0) & (limit < 1)
    rate = np.where(inner, limit, 0.5)
    a, b = 1 + k, 1 / rate + n - k
    above = betaincc(a, b, rate)
    mixed = betaln(a, b) + np.log(np.maximum(above, np.finfo(np.float64).tiny)) - np.log(rate) - np.log1p(-rate) / rate
    evidence = mixed - k * np.log(rate) - (n - k) * np.log1p(-rate)
    certain = np.where((limit <= 0) & (k > 0), np.inf, -np.inf)
    return np.where(inner, np.where(above > 0, evidence, -np.inf), certain)


def _lower_bound(n: Floats, k: Floats, alpha: float) -> Floats:
    """The limit at which the evidence is just 1 / alpha, by bisection: it falls as the limit rises."""
    low, high = np.zeros(n.shape), np.divide(k, n, out=np.zeros(n.shape), where=n > 0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        proved = _limit_evidence(n, k, middle) >= -np.log(alpha)
        low, high = np.where(proved, middle, low), np.where(proved, high, middle)
    return low


def _odds_ratio_lower(pair: Pair, alpha: float) -> Floats:
    """The smallest odds ratio that was never proved to be exceeded, (...,)."""
    centre, variance = (np.nan_to_num(part) for part in log_odds_ratio(pair))
    lowest = centre - 1 - 10 * np.sqrt(variance)
    low, high = lowest, 2 * centre - lowest
    for _ in range(_ODDS_HALVINGS):
        middle = (low + high) / 2
        proved = _p_value(excess_evidence(pair, middle[..., None])) <= alpha
        low, high = np.where(proved, middle, low), np.where(proved, high, middle)
    return np.where(low > lowest, np.exp(low), 0.0)


def _p_value(log_evidence: Floats) -> Floats:
    """Anytime p-value of a path of log e-values, (...,)."""
    if not log_evidence.shape[-1]:
        return np.ones(log_evidence.shape[:-1])
    smallest: Floats = np.exp(-np.maximum(log_evidence.max(axis=-1), 0.0))
    return smallest


def _against(counts: Counts, base: int, others: list[int]) -> Pair:
    """Each of the other arms with the control, (n_others, n_epochs)."""
    n, k = counts.n.T.astype(np.float64), counts.successes.T.astype(np.float64)
    n_a, k_a = (np.broadcast_to(part[base], (len(others), part.shape[-1])) for part in (n, k))
    return Pair(n_a=n_a, k_a=k_a, n_b=n[others], k_b=k[others])


def _check_events(n: int, k: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"k is {k} of n = {n}, must be in 0..n")


def _check_limit(limit: float) -> None:
    if not 0 <= limit <= 1:
        raise ValueError(f"limit is {limit}, must be in [0, 1]")


def _floats(*values: float) -> tuple[Floats, ...]:
    return tuple(np.asarray(value, dtype=np.float64) for value in values)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _percent(rate: float) -> str:
    return f"{rate:.2%}" if rate >= 0.001 or rate == 0 else f"{rate:.3%}"
