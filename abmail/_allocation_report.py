"""How the mail was shared, for the page: the policy, what it started from, who was stopped, who leads since when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from abmail._evidence import Evidence
from abmail._known import arm_curves
from abmail._reasons import in_japanese
from abmail._spec_allocation import LEARNING
from abmail.bandit import ArmCurves
from abmail.report import (
    AllocationReport,
    ChampionReport,
    DelayPoint,
    DelayReport,
    SegmentWeightsReport,
    StoppedArmReport,
)

__all__ = ["allocation_report"]

_POINTS: Final = 24  # of a curve on a page
_DIFFERS: Final = 0.5  # chance that the variants are alike, below which each one's own curve is shown
_FEWEST_ANSWERS: Final = 20
_SHOWN: Final = 20
_Saying = tuple[str, str]

_GOALS: Final[dict[str, _Saying]] = {
    "learn": (
        "Goal learn: every variant keeps at least {floor} of the mail, so that a winner can be proved.",
        "目標は検証（learn）：勝者を確かめるため、どのパターンにも{floor}以上を配信します。",
    ),
    "balance": (
        "Goal balance: every variant keeps at least {floor} of the mail.",
        "目標は両立（balance）：どのパターンにも{floor}以上を配信します。",
    ),
    "earn": (
        "Goal earn: the mail leans on the leader as the list runs out; every variant keeps at least {floor}.",
        "目標は成果（earn）：残りが少なくなるほど優勢なパターンに寄せ、どのパターンにも{floor}以上を配信します。",
    ),
}
_BALANCE_OF_FACTORS: Final = (
    "Goal balance: the mail leans a little on the leader as the list runs out; every variant keeps at least {floor}.",
    "目標は両立（balance）：残りが少なくなるほど優勢なパターンにやや寄せ、どのパターンにも{floor}以上を配信します。",
)
_SAYINGS: Final[dict[str, _Saying]] = {
    "standing": (
        "People keep coming and no end is planned: a new wave opens every {every}.",
        "対象者は随時加わり、終了予定はありません。{every}ごとに新しい配信分を始めます。",
    ),
    "half_life": (
        "An answer that is {age} old counts half as much as a new one, so that the shares follow a change.",
        "{age}前の反応は新しい反応の半分の重みとし、変化に追随します。",
    ),
    "quota": (
        "Each variant gets its exact share of every wave.",
        "配信分ごとに、各パターンへ比率どおりの通数を割り当てます。",
    ),
    "segments": (
        "Shares are worked out for each {by}, and segments learn from each other.",
        "比率は{by}ごとに決め、セグメント同士の結果も参考にします。",
    ),
    "factors": (
        "Cells learn from each other: what a level does in one of them is expected in the others.",
        "要素の水準の効果は、ほかの組み合わせにも当てはまるものとして学習します。",
    ),
    "slow": (
        "Some variants are answered sooner than others; mails are weighed by each one's own pace.",
        "反応の速さがパターンによって異なるため、それぞれの速さで未反応のメールを評価しています。",
    ),
    "stopped": (
        "{arm} gets no more mail since {at:%Y-%m-%d %H:%M} UTC: {reason}",
        "{arm}は{at:%Y-%m-%d %H:%M} UTCに配信を止めました。理由：{reason}",
    ),
    "stopped_limit": (
        "{arm} gets no more mail since {at:%Y-%m-%d %H:%M} UTC, as it broke a limit: {reason}",
        "{arm}は安全指標の上限を超えたため、{at:%Y-%m-%d %H:%M} UTCに配信を止めました。{reason}",
    ),
    "champion": (
        "{arm} gets most of the mail since {at:%Y-%m-%d} (wave {wave}).",
        "{at:%Y-%m-%d}（第{wave}回）から、{arm}に最も多く配信しています。",
    ),
    "dethroned": (
        "{arm} gets most of the mail since {at:%Y-%m-%d} (wave {wave}); before, {before} did.",
        "{at:%Y-%m-%d}（第{wave}回）から、{before}に代わって{arm}に最も多く配信しています。",
    ),
}


def allocation_report(evidence: Evidence) -> AllocationReport:
    """Say how an experiment shares its mail."""
    experiment, settings = evidence.experiment, evidence.experiment.allocation
    curves = arm_curves(evidence) if evidence.successes.any() else None
    learns, prior = settings.policy in LEARNING or settings.policy == "epsilon_greedy", evidence.past.prior
    champions = tuple(_champions(evidence)) if settings.standing else ()
    stopped = tuple(_stopped(evidence))
    return AllocationReport(
        goal=settings.goal,
        policy=settings.policy,
        min_weight=experiment.min_weight if learns else 0.0,
        assignment=settings.assignment,
        standing=settings.standing,
        half_life_seconds=None if settings.half_life is None else settings.half_life.total_seconds(),
        prior_rate=prior.rate if learns and prior.learnt else None,
        prior_worth=prior.worth if learns and prior.learnt else 0.0,
        prior_experiments=prior.experiments,
        alike=None if curves is None else curves.alike,
        delays=() if curves is None else tuple(_delays(evidence, curves)),
        stopped=stopped,
        champions=champions,
        segments_by=settings.shared_by,
        segments=tuple(_segments(evidence)),
        statements=tuple(_statements(evidence, curves, champions, stopped, "en")),
        statements_ja=tuple(_statements(evidence, curves, champions, stopped, "ja")),
    )  # fmt: skip


def _delays(evidence: Evidence, curves: ArmCurves) -> Iterator[DelayReport]:
    window = curves.pooled.window
    ages = np.append(0.0, np.geomspace(min(600.0, window), window, _POINTS))
    yield DelayReport(arm=None, points=_points(ages, curves.pooled.cdf(ages)))
    if curves.alike < _DIFFERS:
        for cell in evidence.experiment.cells:
            yield DelayReport(arm=cell.name, points=_points(ages, curves.curve(cell.index).cdf(ages)))


def _points(ages: NDArray[np.float64], shares: NDArray[np.float64]) -> tuple[DelayPoint, ...]:
    return tuple(DelayPoint(seconds=float(a), share=float(s)) for a, s in zip(ages, shares, strict=True))


def _segments(evidence: Evidence) -> Iterator[SegmentWeightsReport]:
    if not evidence.epochs or not evidence.epochs[-1].segments:
        return
    names = [cell.name for cell in evidence.experiment.cells]
    sent = {name: int(evidence.segment(name).sent.sum()) for name in evidence.epochs[-1].segments}
    for name in sorted(sent, key=lambda name: (-sent[name], name))[:_SHOWN]:
        shares = evidence.weights_of(len(evidence.epochs) - 1, name)
        yield SegmentWeightsReport(
            segment=name, n=sent[name], weights=dict(zip(names, shares.tolist(), strict=True))
        )  # fmt: skip


def _champions(evidence: Evidence) -> Iterator[ChampionReport]:
    """The arm with the largest share, each time it is another one; an even wave crowns nobody."""
    before = None
    for epoch, shares in zip(evidence.epochs, evidence.weights, strict=True):
        most = int(np.argmax(shares))
        if most != before and (shares[most] > np.delete(shares, most)).all():
            before = most
            name = evidence.experiment.cells[most].name
            yield ChampionReport(arm=name, since=epoch.opened_at, wave=epoch.number + 1)


def _statements(
    evidence: Evidence,
    curves: ArmCurves | None,
    champions: tuple[ChampionReport, ...],
    stopped: tuple[StoppedArmReport, ...],
    language: Literal["en", "ja"],
) -> Iterator[str]:
    settings = evidence.experiment.allocation

    def say(key: str, **values: object) -> str:
        return _SAYINGS[key][language == "ja"].format(**values)

    if settings.policy in LEARNING:
        leans = settings.goal == "balance" and settings.lean(len(evidence.experiment.factors)) > 1
        words = _BALANCE_OF_FACTORS if leans else _GOALS[settings.goal]
        yield words[language == "ja"].format(floor=f"{evidence.experiment.min_weight:.1%}")
        yield evidence.past.prior.statement(language)
    if settings.standing:
        yield say("standing", every=_span(settings.every.total_seconds(), language))
    if settings.half_life is not None:
        yield say("half_life", age=_span(settings.half_life.total_seconds(), language))
    if settings.assignment == "quota":
        yield say("quota")
    if settings.shared_by:
        yield say("segments", by=settings.shared_by)
    if len(evidence.experiment.factors) > 1 and settings.policy in LEARNING:
        yield say("factors")
    if curves is not None and curves.alike < _DIFFERS and evidence.successes.sum() >= _FEWEST_ANSWERS:
        yield say("slow")
    for arm in stopped:
        key = "stopped_limit" if arm.by == "guardrail" else "stopped"
        yield say(key, arm=arm.arm, at=arm.at, reason=(language == "ja" and arm.reason_ja) or arm.reason)
    if champions:
        last = champions[-1]
        before = {"before": champions[-2].arm} if len(champions) > 1 else {}
        yield say("dethroned" if before else "champion", arm=last.arm, at=last.since, wave=last.wave, **before)


def _stopped(evidence: Evidence) -> Iterator[StoppedArmReport]:
    for arm in evidence.stopped:
        yield StoppedArmReport(
            arm=arm.cell, at=arm.at, by="guardrail" if arm.by == "guardrail" else "hand", reason=arm.reason,
            reason_ja=in_japanese(arm.reason),
        )  # fmt: skip


_UNITS: Final = ((86_400, "day", "日"), (3_600, "hour", "時間"), (60, "minute", "分"))


def _span(seconds: float, language: Literal["en", "ja"]) -> str:
    for size, english, japanese in _UNITS:
        if seconds >= size and seconds % size == 0:
            n = int(seconds // size)
            return f"{n}{japanese}" if language == "ja" else english if n == 1 else f"{n} {english}s"
    return f"{seconds:g}秒" if language == "ja" else f"{seconds:g} seconds"
