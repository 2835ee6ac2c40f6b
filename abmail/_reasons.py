"""Why a wave was opened, and why an experiment or a variant was stopped, in English and Japanese.

The database keeps the English words, as it did before there were Japanese ones; a page tells them in its own language.
What people wrote themselves stays as they wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from abmail._guardrail import BROKEN
from abmail._why import Why

__all__ = ["GUARDED", "REASONS", "in_japanese", "reason"]

REASONS: Final[Mapping[str, Why]] = {
    # shares of a wave
    "first_wave": Why("first wave: {reason}", "最初の配信：{reason}"),
    "everybody_else": Why("everybody else gets {arm}: {reason}", "残り全員に{arm}を配信：{reason}"),
    "even": Why("even split", "均等に配信"),
    "fixed": Why("fixed shares", "決められた比率で配信"),
    "test_then_send": Why(
        "an even test, and the best of it for everybody else", "均等にテストし、最良のパターンを残り全員に配信"
    ),
    "epsilon_greedy": Why(
        "the best so far, and a fixed share for all", "現時点で最良のパターンを中心に、全パターンに一定の比率を配信"
    ),
    "top_two": Why("half to the leader, half to its rivals", "半分を首位のパターンに、半分を対抗のパターンに配信"),
    "exploration": Why(
        "most to those that may still be the best", "最良である可能性が残るパターンに多く配信"
    ),
    "earn": Why(
        "Thompson sampling that leans on the leader as the list runs out",
        "トンプソン抽出（残りが少なくなるほど首位のパターンに寄せる）",
    ),
    "balance": Why(
        "Thompson sampling that leans a little on the leader as the list runs out",
        "トンプソン抽出（残りが少なくなるほど首位のパターンにやや寄せる）",
    ),
    "thompson": Why("Thompson sampling over what is known so far", "これまでの結果に基づくトンプソン抽出"),
    # stops and verdicts
    "by_hand": Why("stopped by hand", "手動で停止しました。"),
    "time_over": Why("the time that the definition allows is over", "定義で定めた期間が終わりました。"),
    "won_but_stopped": Why("{arm} won, but was stopped: {reason}", "{arm}が勝ちましたが、停止済みでした：{reason}"),
    "better_but_stopped": Why("{arm} did better, but was stopped", "{arm}のほうが良い結果でしたが、停止済みです。"),
    "young": Why(
        "{share} of the mails have had their {hours} hours; the verdict waits for them",
        "計測期間（{hours}時間）を終えたメールは{share}です。残りを待って判定します。",
    ),
}  # fmt: skip
"""Reasons by name; the words of a person may stand at ``{reason}``."""


GUARDED: Final = {
    "unsubscribed": ("unsubscribes", "配信停止率"),
    "complained": ("complaints", "苦情率"),
    "bounced": ("bounces", "バウンス率"),
}
"""Guarded metrics, as English and Japanese sentences name them."""


def reason(name: str, **values: object) -> str:
    """A reason in English, as the database keeps it."""
    return REASONS[name].en.format(**values)


def in_japanese(english: str, known: Mapping[str, str] | None = None) -> str:
    """The Japanese of a stored reason.

    Args:
        english: As it was stored.
        known: Further reasons, English -> Japanese: those of a verdict.

    Returns:
        Empty where these are nobody's words but those of the person who wrote them.

    >>> in_japanese("first wave: even split")
    '最初の配信：均等に配信'
    >>> in_japanese("not our tone")
    ''
    """
    if found := (known or {}).get(english):
        return found
    for each in (*REASONS.values(), *BROKEN):
        values = each.values(english)
        if values is not None:
            if inner := values.get("reason", ""):
                values["reason"] = in_japanese(inner, known) or inner
            if metric := values.get("metric", ""):
                values["metric"] = dict(GUARDED.values()).get(metric, metric)
            return each.ja.format(**values)
    return ""
