"""The result in one sentence, English or Japanese."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Facts", "Language", "write_sentence"]

Language = Literal["en", "ja"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the sentence speaks of; rates and differences are fractions.

    Attributes:
        state: State of the decision.
        reason: What is missing when it is too early to tell.
        leader: Winning or leading arm.
        rival: The arm that the difference is measured against.
        effect: Rate of the leader minus rate of the rival.
        low: Lower end of its interval.
        high: Upper end of its interval.
        contrast_known: Whether the difference and its interval exist.
        p_value: p-value of that difference.
        level: Confidence level, fraction.
        n_arms: Number of arms.
        not_beaten: Names of the arms still in the race.
        successes: Successes of all arms.
        sends: Sends of all arms.
        mde: Smallest difference worth finding.
        srm_p: p-value of the sample-ratio check.
        srm_failed: Whether that check failed; a test may be stopped for other reasons, too.
        runner_up: Name of the best of the other arms, None where unknown.
        gap: Rate of the leader minus that of the runner-up.
        gap_low: Lower end of its interval.
        gap_high: Upper end of its interval.
        p_best: Posterior probability that the leader is the best.
        posterior_only: Whether the method promises no error rate.
    """

    state: str
    reason: Literal["empty", "zero_variance", "too_few"]
    leader: str
    rival: str
    effect: float
    low: float
    high: float
    contrast_known: bool
    p_value: float | None
    level: float
    n_arms: int
    not_beaten: tuple[str, ...]
    successes: int
    sends: int
    mde: float
    srm_p: float | None
    srm_failed: bool
    runner_up: str | None
    gap: float
    gap_low: float
    gap_high: float
    p_best: float
    posterior_only: bool


_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "winner": "'{leader}' beats '{rival}' by {effect} points ({level} interval {low} to {high} points; {p}).",
        "winner_before": "'{leader}' beats '{rival}': proved at an earlier look; the difference now stands at {effect} "
        "points ({level} interval {low} to {high} points; {p}).",
        "winner_many": "'{leader}' beats each of the other {others} arms.",
        "winner_runner_up": "'{leader}' beats each of the other {others} arms; the runner-up '{runner_up}' is {gap} "
        "points behind ({level} interval {gap_low} to {gap_high} points).",
        "posterior": "'{leader}' is the best with probability {p_best}, by its posterior alone: a guide that promises "
        "no error rate.",
        "leading": "'{leader}' leads '{rival}' by {effect} points, which chance could explain ({level} interval {low} "
        "to {high} points): not proved.",
        "leading_many": "'{leader}' leads, which chance could explain. Not beaten so far: {not_beaten}.",
        "no_difference": "No difference worth finding: '{leader}' and '{rival}' are less than {mde} points apart "
        "({level} interval {low} to {high} points).",
        "no_difference_many": "No difference worth finding: every arm is less than {mde} points from the best one.",
        "empty": "Too early to tell: not every arm has been sent.",
        "too_few": "Too early to tell: each pair of arms needs 30 successes and 30 failures; so far there are "
        "{successes} successes in {sends} sends.",
        "zero_variance": "Too early to tell: all sends ended alike ({successes} successes in {sends} sends).",
        "srm_failed": "The sends do not fit the weights they were drawn with ({p}): find the cause before you read the "
        "result.",
        "stopped": "The test was stopped before anything was proved.",
        "p": "p = {:.2g}",
        "p_small": "p < 0.001",
        "join": ", ",
        "quote": "'{}'",
    },
    "ja": {
        "winner": "「{leader}」は「{rival}」より{effect}ポイント高く、差は確かです"
        "({level}区間 {low}〜{high}ポイント、{p})。",
        "winner_before": "「{leader}」が「{rival}」に勝つことは以前の時点で示されました。現在の差は{effect}ポイントです"
        "({level}区間 {low}〜{high}ポイント、{p})。",
        "winner_many": "「{leader}」は他の{others}案すべてに勝っています。",
        "winner_runner_up": "「{leader}」は他の{others}案すべてに勝っています。2位の「{runner_up}」との差は"
        "{gap}ポイントです({level}区間 {gap_low}〜{gap_high}ポイント)。",
        "posterior": "事後確率だけで見ると「{leader}」が最良である確率は{p_best}です。"
        "目安であり、誤り率は保証されません。",
        "leading": "「{leader}」が「{rival}」を{effect}ポイント上回っていますが、偶然でも起こりうる差です"
        "({level}区間 {low}〜{high}ポイント)。まだ証明されていません。",
        "leading_many": "「{leader}」が先行していますが、偶然でも起こりうる差です。まだ負けていない案: {not_beaten}。",
        "no_difference": "意味のある差はありません。「{leader}」と「{rival}」の差は{mde}ポイント未満です"
        "({level}区間 {low}〜{high}ポイント)。",
        "no_difference_many": "意味のある差はありません。どの案も最良の案との差は{mde}ポイント未満です。",
        "empty": "まだ判断できません。まだ配信されていない案があります。",
        "too_few": "まだ判断できません。比較する2案には成功30件と失敗30件が必要です"
        "(現在は配信{sends}通のうち成功{successes}件)。",
        "zero_variance": "まだ判断できません。すべての配信が同じ結果です(配信{sends}通、成功{successes}件)。",
        "srm_failed": "配信の内訳が割り当ての重みと合いません({p})。原因が分かるまで結果を読まないでください。",
        "stopped": "何かが証明される前に実験を停止しました。",
        "p": "p = {:.2g}",
        "p_small": "p < 0.001",
        "join": "、",
        "quote": "「{}」",
    },
}


def write_sentence(facts: Facts, language: Language) -> str:
    """The sentence in that language.

    Raises:
        ValueError: The language is not known.
    """
    if language not in _TEXTS:
        raise ValueError(f"language is '{language}', must be one of {', '.join(_TEXTS)}")
    texts = _TEXTS[language]
    key = _key(facts)
    p_value = facts.srm_p if key == "srm_failed" else facts.p_value
    return texts[key].format(
        leader=facts.leader,
        rival=facts.rival,
        effect=f"{100 * facts.effect:.2f}",
        low=f"{100 * facts.low:+.2f}",
        high=f"{100 * facts.high:+.2f}",
        level=f"{100 * facts.level:.4g} %",
        mde=f"{100 * facts.mde:.2f}",
        p=texts["p_small"] if (p_value or 0.0) < 0.001 else texts["p"].format(p_value),
        others=facts.n_arms - 1,
        not_beaten=texts["join"].join(texts["quote"].format(name) for name in facts.not_beaten),
        successes=f"{facts.successes:,}",
        sends=f"{facts.sends:,}",
        runner_up=facts.runner_up,
        gap=f"{100 * facts.gap:.2f}",
        gap_low=f"{100 * facts.gap_low:+.2f}",
        gap_high=f"{100 * facts.gap_high:+.2f}",
        p_best=f"{100 * facts.p_best:.3g} %",
    )


def _key(facts: Facts) -> str:
    if facts.state == "too_early":
        return facts.reason
    if facts.state == "stopped":
        return "srm_failed" if facts.srm_failed else "stopped"
    if facts.posterior_only and facts.state in ("winner", "leading"):
        return "posterior"
    if facts.n_arms > 2 and facts.state == "winner" and facts.runner_up is not None and facts.gap_low > 0:
        return "winner_runner_up"
    if facts.n_arms > 2 or not facts.contrast_known:
        return f"{facts.state}_many"
    crossed_before = facts.state == "winner" and facts.low <= 0
    return "winner_before" if crossed_before else facts.state
