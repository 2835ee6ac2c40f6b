"""The words in which effects of factors are told, English and Japanese."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["apart", "joined", "open_still", "settled", "together"]

Language = Literal["en", "ja"]


def settled(
    factor: str, level: str, chance: float, effect: tuple[float, float, float], certainty: float, language: Language
) -> str:
    """A factor whose best level is known."""
    points = [f"{100 * rate:.1f}" for rate in effect]
    if language == "ja":
        return (
            f"{factor}では「{level}」が最も良く、平均を{points[0]}ポイント上回ります"
            f"（{_percent(certainty)}区間 {points[1]}～{points[2]}、最良である確率 {_percent(chance)}）。"
        )
    return (
        f"Of the factor {factor}, {level} does best: {points[0]} points above the average of its levels "
        f"({_percent(certainty)} interval {points[1]} to {points[2]}); "
        f"the chance that it is the best is {_percent(chance)}."
    )


def open_still(factor: str, level: str, chance: float, language: Language) -> str:
    """A factor whose best level is not known yet."""
    shown = _percent(chance)
    if language == "ja":
        return f"{factor}では「{level}」が先行していますが、最良である確率は{shown}で、まだ決まっていません。"
    return f"Of the factor {factor}, {level} leads, but nothing is settled: the chance that it is the best is {shown}."


def together(
    levels: tuple[str, str], chance: float, effect: tuple[float, float, float], certainty: float, language: Language
) -> str:
    """Levels that act together."""
    points, more = f"{100 * abs(effect[0]):.1f}", effect[0] > 0
    interval = f"{100 * effect[1]:+.1f}", f"{100 * effect[2]:+.1f}"
    if language == "ja":
        return (
            f"要素どうしの組み合わせ効果があるようです（確率 {_percent(chance)}）。最も目立つのは「{levels[0]}」と"
            f"「{levels[1]}」の組み合わせで、それぞれの効果の合計より{points}ポイント"
            f"{'高く' if more else '低く'}なっています"
            f"（{_percent(certainty)}区間 {interval[0]}～{interval[1]}）。"
        )
    return (
        f"Some levels act together (chance {_percent(chance)}); most of all {levels[0]} with {levels[1]}: "
        f"{points} points {'more' if more else 'less'} than the two promise on their own "
        f"({_percent(certainty)} interval {interval[0]} to {interval[1]})."
    )


def apart(chance: float, language: Language) -> str:
    """Factors that act on their own."""
    if language == "ja":
        return f"組み合わせ効果は見られず、各要素は独立に働いているようです（確率 {_percent(chance)}）。"
    return f"As far as can be seen each factor acts on its own (chance {_percent(chance)})."


def joined(lines: Sequence[str], language: Language) -> str:
    """The sentences as one text."""
    return ("" if language == "ja" else " ").join(lines)


def _percent(share: float) -> str:
    """A chance is never called 100 %."""
    return f"{min(100 * share, 99.9):.3g} %"
