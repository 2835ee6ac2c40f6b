"""What a marketer reads of a `Simulation`, in English and Japanese: the answer, the table behind it, and what to do."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from abmail.simulate import Estimate, Need, Simulation

__all__ = ["SimulationWords", "describe"]

_WIDTH: Final = 100
_LABEL: Final = 36
_CASES: Final = (0.095, 0.905)  # outside of which tenths are too coarse
_HOUR: Final = 3_600.0
_LITTLE: Final = 2.0  # standard errors within which a gain is none

_WORDS: Final[dict[str, tuple[str, str]]] = {
    "clicked": ("clicks", "クリック"),
    "opened": ("opens", "開封"),
    "head": (
        "{name}: {replications:,} simulated mailings to {recipients:,} people, {variants} variants, policy {policy}",
        "{name}：{recipients:,} 人への配信を {replications:,} 回シミュレーション（{variants} パターン、配分 {policy}）",
    ),
    "nobody": (
        "No mail goes out: the list is too small for what the definition asks, and stop.too_small ends the test.",
        "配信は行われません。リストが小さすぎるため、stop.too_small によりテストは終了します。",
    ),
    "fixed": (
        "With {recipients:,} recipients this test finds the {gap} between the best variant and the next in {cases}",
        "受信者 {recipients:,} 人の場合、このテストは最良パターンと次点の差（{gap}）を{cases}で検出します",
    ),
    "drawn": (
        "With {recipients:,} recipients this test names the best variant in {cases} in which there is one",
        "受信者 {recipients:,} 人の場合、このテストは最良パターンが存在するとき{cases}で正しく勝者と判定します",
    ),
    "alike": (
        "All variants are equally good here: no test can find a best one",
        "すべてのパターンは同等です。最良パターンはありません",
    ),
    "more": (
        "; expect {n} more {noun} than an even split.",
        "。均等配分より{noun}が約 {n} 件増える見込みです。",
    ),
    "fewer": (
        "; expect {n} fewer {noun} than an even split.",
        "。均等配分より{noun}が約 {n} 件減る見込みです。",
    ),
    "same": (
        "; expect about as many {noun} as an even split.",
        "。{noun}数は均等配分とほぼ同じ見込みです。",
    ),
    "aa": (
        "Of {n:,} tests of equal variants {k} named a winner: {rate} ({low} to {high}). {promise}",
        "同等なパターンのテスト {n:,} 回中 {k} 回で勝者が出ました：{rate}（{low}〜{high}）。{promise}",
    ),
    "kept": ("At most {alpha} are promised; that holds.", "約束の {alpha} 以下は守られています。"),
    "broken": ("At most {alpha} are promised; that is broken.", "約束の {alpha} 以下は守られていません。"),
    "right": ("names the best variant", "最良パターンを勝者と判定"),
    "wrong": ("names another one", "別のパターンを勝者と判定"),
    "no_difference": ("says that no difference matters", "「意味のある差なし」と判定"),
    "alarms": ("names one of equal variants", "同等なのに勝者と判定（偽陽性）"),
    "guessed": ("winner or leader is truly the best", "勝者または首位が真に最良"),
    "loss": ("rate lost by going on with that one", "それを使い続けた場合の率の損失"),
    "coverage": ("intervals that hold the truth", "真の差を含む信頼区間"),
    "caught": ("stops a variant above a limit", "上限を超えるパターンを停止"),
    "wronged": ("stops one within its limits", "上限内のパターンを誤って停止"),
    "harm": ("unwanted events (an even split)", "望ましくない反応（均等配分）"),
    "time": ("verdict after", "判定までの時間"),
    "between": ("{middle} (half of them {low} to {high})", "{middle}（半数は {low}〜{high}）"),
    "sent": ("of the mails sent by then", "その時点での配信済み割合"),
    "table": ("{noun}", "{noun}"),
    "lost": ("lost", "損失"),
    "own": ("this test", "このテスト"),
    "even": ("even split", "均等配分"),
    "classic": ("a fifth, 4 h, winner to the rest", "2割で4時間テスト後に勝者を配信"),
    "ideal": ("the best variant to everybody", "全員に最良パターン"),
    "ideal_within": ("the best within the limits", "全員に上限内の最良パターン"),
    "band": ("   ahead by {low} to {high}", "   差 {low}〜{high}"),
    "error": (
        "± is one standard error of the simulation. Clicks and opens are those of people, all at an ordinary hour.",
        "± はシミュレーションの標準誤差です。件数は人による通常時間帯のものです。",
    ),
    "of_file": ("Rates: as given.", "率：指定された値。"),
    "of_history": (
        "Rates: drawn anew for each mailing from the spread of this account's earlier mailings ({detail}).",
        "率：このアカウントの過去の配信のばらつきから毎回抽出（{detail}）。",
    ),
    "of_headlines": (
        "Rates: drawn anew for each mailing from the spread of 2,400 real headline tests ({detail}).",
        "率：実際の見出しテスト約 2,400 件のばらつきから毎回抽出（{detail}）。",
    ),
    "of_typical": (
        "Rates: drawn anew for each mailing from what open rates usually are ({detail}).",
        "率：一般的な開封率のばらつきから毎回抽出（{detail}）。",
    ),
    "level": ("mean rate {mean}", "平均 {mean}"),
    "baseline": ("the definition's baseline {mean}", "定義の baseline {mean}"),
    "detail": (
        "{level}, variants apart by {sd:.0%}, none apart in {null:.0%} of the mailings",
        "{level}、パターン間のばらつき {sd:.0%}、{null:.0%} の配信では差なし",
    ),
    "need_list": (
        "for {power} of the cases it takes about {mails} recipients",
        "{power} の確率で検出するには受信者が約 {mails} 人必要です",
    ),
    "need_never": (
        "no list is long enough to find so small a difference",
        "これほど小さな差は、どんなに大きなリストでも検出できません",
    ),
    "need_two": (
        "with two variants about {mails} recipients are enough",
        "2 パターンに絞れば約 {mails} 人で足ります",
    ),
    "need_opens": (
        "by opens (metrics.primary: opened) about {mails}, if the open rates differ in the same proportion",
        "開封を主要指標にすれば（metrics.primary: opened）、同じ比率の差なら約 {mails} 人です",
    ),
    "classic_more": (
        "the classical test brings {n} more {noun} here; {change} earns more and proves less",
        "従来のテストのほうが{noun}が約 {n} 件増えます。{change}と成果が増え、検出力は下がります",
    ),
    "less_floor": ("a lower allocation.min_weight", "allocation.min_weight を下げる"),
    "a_bandit": (
        "allocation.policy: thompson with a low min_weight",
        "allocation.policy: thompson にして min_weight を下げる",
    ),
    "next": ("next: ", "次に："),
    "hours": ("{n:.0f} h", "{n:.0f} 時間"),
    "days": ("{n:.1f} days", "{n:.1f} 日"),
    "points": ("{n} points", "{n} ポイント"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationWords:
    """The report in words.

    Attributes:
        sentence: The answer.
        advice: What would help.
        text: All of it with the table.
    """

    sentence: str
    advice: tuple[str, ...]
    text: str


def describe(found: Simulation, language: Literal["en", "ja"] = "en") -> SimulationWords:
    """Put a simulation into words."""
    writer = _Writer(found, japanese=language == "ja")
    return SimulationWords(sentence=writer.sentence(), advice=tuple(writer.advice()), text=writer.text())


class _Writer:
    """Writes one simulation in one language."""

    def __init__(self, found: Simulation, *, japanese: bool) -> None:
        self.found, self.japanese = found, japanese
        self.noun = self._say(found.experiment.metrics.primary)

    def _say(self, key: str, **values: object) -> str:
        return _WORDS[key][self.japanese].format(**values)

    def sentence(self) -> str:
        found = self.found
        if not found.mails:
            return self._say("nobody")
        if found.aa:
            return self._false_alarms()
        cases = _cases(found.right.value, japanese=self.japanese) if found.right.n else ""
        how = "alike" if not found.right.n else "fixed" if found.truth.spread is None else "drawn"
        told = self._say(how, recipients=found.recipients, gap=self._points(found.gap), cases=cases)
        gain = found.over_even
        few = abs(gain.value) < max(_LITTLE * gain.se, 0.5)
        return told + self._say(
            "same" if few else "more" if gain.value > 0 else "fewer", n=f"{abs(gain.value):,.0f}", noun=self.noun
        )

    def _false_alarms(self) -> str:
        alarms = self.found.false_alarms
        if alarms is None:
            return self._say("alike") + ("。" if self.japanese else ".")
        promise = self._say("kept" if alarms.ok else "broken", alpha=_percent(alarms.promised))
        return self._say(
            "aa", n=alarms.n, k=round(alarms.rate * alarms.n), rate=_percent(alarms.rate), low=_percent(alarms.lower),
            high=_percent(alarms.upper), promise=promise,
        )  # fmt: skip

    def advice(self) -> Iterator[str]:
        found = self.found
        if found.aa or not found.mails:
            return
        for need in found.needs:
            yield self._need(need)
        lead = -found.over_classic.value
        if lead > max(_LITTLE * found.over_classic.se, 0.5) and not found.caught.n:  # it knows no limits
            still = found.experiment.allocation.policy in {"uniform", "fixed"}
            change = self._say("a_bandit" if still else "less_floor")
            yield self._say("classic_more", n=f"{lead:,.0f}", noun=self.noun, change=change)

    def _need(self, need: Need) -> str:
        key = {"list": "need_list", "two_variants": "need_two", "opens": "need_opens"}[need.what]
        if need.mails is None:
            return self._say("need_never")
        people = need.mails / (1 - self.found.experiment.audience.holdout)
        return self._say(key, power=f"{self.found.experiment.analysis.power:.0%}", mails=_round(people))

    # -- the page -----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        found = self.found
        settings = found.experiment.allocation
        lines = self._wrapped(
            self._say(
                "head", name=found.experiment.name, replications=found.replications, recipients=found.recipients,
                variants=len(found.experiment.cells), policy=settings.policy,
            ), "",
        )  # fmt: skip
        lines += self._wrapped(self.sentence(), "  ")
        if found.mails:
            lines += ["", *self._shares(), "", *self._earnings(), ""]
            lines += [line for note in self._notes() for line in self._wrapped(note, "  ")]
        if advice := tuple(self.advice()):
            lines += ["", *(line for step in advice for line in self._wrapped(self._say("next") + step, ""))]
        return "\n".join(lines) + "\n"

    def _shares(self) -> Iterator[str]:
        found = self.found
        if found.right.n:
            yield self._row("right", _share(found.right))
            for band in found.bands:
                label = self._say("band", low=f"{100 * band.low:.2f}", high=self._points(band.high))
                yield _padded(label) + _share(band.found)
            yield self._row("wrong", _share(found.wrong))
            yield self._row("guessed", _share(found.guessed))
        if found.experiment.analysis.mde is not None:
            yield self._row("no_difference", _share(found.no_difference))
        if (alarms := found.false_alarms) is not None:
            span = f"{_percent(alarms.rate)} ({_percent(alarms.lower)} – {_percent(alarms.upper)})"
            yield self._row("alarms", span)
        yield self._row("loss", self._points(found.loss.value))
        if found.coverage.n:
            yield self._row("coverage", _share(found.coverage))
        if found.caught.n:
            yield self._row("caught", _share(found.caught))
        if found.wronged.n:
            yield self._row("wronged", _share(found.wronged))
            harm = found.harm
            yield self._row("harm", f"{harm.value:,.1f} ± {harm.se:.1f} ({found.even_harm.value:,.1f})")
        if found.sent_then.n:
            low, middle, high = (self._span(seconds) for seconds in found.time)
            yield self._row("time", self._say("between", middle=middle, low=low, high=high))
            yield self._row("sent", _share(found.sent_then))

    def _row(self, key: str, value: str) -> str:
        return _padded("  " + self._say(key)) + value

    def _earnings(self) -> Iterator[str]:
        found = self.found
        yield _padded("") + _right(self.noun, 10) + _right(self._say("lost"), 10)
        ideal = found.answers.value + found.regret.value
        ways = {
            "own": found.regret, "even": found.even_regret, "classic": found.classic_regret,
        }  # fmt: skip
        for key, lost in ways.items():
            figures = f"{ideal - lost.value:10,.1f}{max(lost.value, 0.0):10,.1f} ± {lost.se:.1f}"
            yield _padded("  " + self._say(key)) + figures
        best = "ideal_within" if found.caught.n else "ideal"
        yield _padded("  " + self._say(best)) + f"{ideal:10,.1f}{0:10,.1f}"

    def _notes(self) -> Iterator[str]:
        spread = self.found.truth.spread
        detail = ""
        if spread is not None:
            a, b = spread.level
            mean = _percent(a / (a + b) if spread.baseline is None else spread.baseline)
            level = self._say("level" if spread.baseline is None else "baseline", mean=mean)
            detail = self._say("detail", level=level, sd=spread.sd, null=spread.null)
        yield self._say(f"of_{self.found.truth.source}", detail=detail)
        yield self._say("error")

    def _points(self, difference: float) -> str:
        digits = 1 if difference >= 0.0095 else 2
        return self._say("points", n=f"{100 * difference:.{digits}f}")

    def _span(self, seconds: float) -> str:
        long = seconds >= 48 * _HOUR
        return self._say("days" if long else "hours", n=seconds / (24 * _HOUR if long else _HOUR))

    def _wrapped(self, text: str, indent: str) -> list[str]:
        if self.japanese:
            return [indent + text]
        return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent or "  ")


# -- numbers -----------------------------------------------------------------------------------------------------------


def _cases(share: float, *, japanese: bool) -> str:
    """A share as people say it: 7 of 10 cases, 4 of 100 cases."""
    low, high = _CASES
    many = 10 if low <= share <= high else 100
    n = math.floor(share * many + 0.5)
    return f"{many} 回中 {n} 回" if japanese else f"{n} of {many} cases"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(found: Estimate) -> str:
    return f"{_percent(found.value)} ± {100 * found.se:.1f}"


def _round(mails: float) -> str:
    """Two digits that count; more would promise too much."""
    step = 10 ** max(math.floor(math.log10(max(mails, 1))) - 1, 0)
    return f"{math.ceil(mails / step) * step:,}"


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _padded(label: str) -> str:
    return label + " " * max(_LABEL + 2 - _columns(label), 1)


def _right(text: str, width: int) -> str:
    return " " * max(width - _columns(text), 1) + text
