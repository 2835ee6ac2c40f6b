"""What a marketer reads of a `Rehearsal`, in English and Japanese."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

__all__ = ["describe"]

Language = Literal["en", "ja"]

_NONE: Final = 1e-6  # a gain that is none

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "head": (
        "{n} simulated lists of {recipients:,} people with {past} past mails each, then {mailings} mailings.",
        "シミュレーション {n} 回：受信者 {recipients:,} 人、過去の配信 1人 {past} 通、今後の配信 {mailings} 回。",
    ),
    "rate": (
        "  At Tue 10:00 {rate} open, within 72 hours.",
        "  火曜10:00に送ったメールは、72時間以内に {rate} が開封されます。",
    ),
    "gain": (
        "Learned send times bring {gain} opens than always {fixed:02d}:00 (9 in 10 lists: {low} to {high}).",
        "配信時刻の学習により、常に {fixed:02d}:00 に送る場合と比べて開封が {gain}（リストの9割で {low}〜{high}）。",
    ),
    "more": ("{x} more", "{x} 増えます"),
    "fewer": ("{x} fewer", "{x} 減ります"),
    "count": (
        "That is {opens} opens over {mailings} mailings (9 in 10 lists: {low} to {high}).",
        "配信 {mailings} 回の合計で {opens} 件です（リストの9割で {low}〜{high} 件）。",
    ),
    "share": (
        "With everybody's best hour known it would be {best}.",
        "全員の最適な時刻が分かっていれば {best} です。",
    ),
    "reached": (
        "Of that, chosen hours reach {first} in the first mailing and {last} in the last one.",
        "選ばれた時刻はそのうち、最初の配信で {first}、最後の配信で {last} に達します。",
    ),
    "nothing": (
        "These people have no hours of their own: there is nothing to gain, whatever is predicted.",
        "この受信者には決まった習慣がないため、予測値にかかわらず増える余地はありません。",
    ),
    "control": (
        "A control group of {people:,} people ({share}) stays at {fixed:02d}:00, to prove it.",
        "効果を確かめるため、{people:,} 人（{share}）の比較グループには {fixed:02d}:00 に送り続けます。",
    ),
    "no_control": (
        "Without a control group nothing can be proven.",
        "比較グループがないため、効果を確かめることはできません。",
    ),
    "proven": (
        "The gain is proven within {mailings} mailings in {k} of {n} lists, there after {after} mailings as a rule.",
        "配信 {mailings} 回以内に効果が証明されたのは {n} 回中 {k} 回で、その場合はおおむね {after} 回目の配信後です。",
    ),
    "never": (
        "In none of {n} lists is the gain proven within {mailings} mailings: go on longer, or hold more people back.",
        "配信 {mailings} 回では効果は証明されません（{n} 回中 0 回）。期間か比較グループを増やしてください。",
    ),
    "false": (
        "In {k} of {n} lists something was claimed that is not there.",
        "{n} 回中 {k} 回、実際にはない効果があると判定されました。",
    ),
    "report": (
        "After the last mailing your report would show about {lift} ({low} to {high}).",
        "最後の配信後のレポートの表示はおよそ {lift}（{low}〜{high}）となります。",
    ),
    "own": (
        "The readers are made up, from the kinds of readers that this account's history shows. ",
        "受信者は、このアカウントの履歴から学習した読み方をもとに作った架空のものです。",
    ),
    "made_up": (
        "The readers are made up, with {habits} habits of abmail's own simulator, not yours. ",
        "受信者は abmail のシミュレーターによる架空のもの（習慣：{habits}）で、実際の受信者ではありません。",
    ),
    "strong": ("strong", "強い"),
    "weak": ("weak", "弱い"),
    "no": ("no", "なし"),
    "honest": (
        "Only your control group shows what your list gains.",
        "実際の効果は、比較グループとの差だけが示します。",
    ),
}


def describe(values: Mapping[str, Any], language: Language = "en") -> str:
    """The answer first, then what it rests on.

    Args:
        values: As of `Rehearsal.to_dict`.
        language: Of the text.
    """
    return "\n".join(_lines(values, int(language == "ja"))) + "\n"


def _lines(values: Mapping[str, Any], tongue: int) -> Iterator[str]:
    plan, n = values["plan"], values["replications"]

    def say(key: str, **filled: Any) -> str:
        return _WORDS[key][tongue].format(**filled)

    common = {"mailings": plan["mailings"], "fixed": plan["fixed"], "n": n}
    yield say("head", n=n, **{k: plan[k] for k in ("recipients", "past", "mailings")})
    yield say("rate", rate=_percent(plan["open_rate"]))
    middle, low, high = values["gain"]
    if values["attainable"][0] < _NONE:
        yield "  " + say("nothing")
    else:
        change = say("more" if middle >= 0 else "fewer", x=_percent(abs(middle)))
        yield "  " + say("gain", gain=change, low=_signed(low), high=_signed(high), **common)
        more, fewest, most = values["opens_more"]
        yield "  " + say("count", opens=f"{more:+,.0f}", low=f"{fewest:+,.0f}", high=f"{most:+,.0f}", **common)
        first, last = (_percent(round(values[key][0], 2)) for key in ("share_first", "share_last"))
        yield "  " + say("share", best=_signed(values["attainable"][0]))
        yield "  " + say("reached", first=first, last=last)
    yield from ("  " + line for line in _proof(values, say, common))
    habits = "strong" if plan["strength"] > 0.75 else "weak" if plan["strength"] > 0 else "no"
    source = say("own") if plan["own_kinds"] else say("made_up", habits=_WORDS[habits][tongue])
    yield source + say("honest")


def _proof(values: Mapping[str, Any], say: Any, common: Mapping[str, Any]) -> Iterator[str]:
    plan, n = values["plan"], values["replications"]
    if not plan["control"]:
        yield say("no_control")
        return
    people = round(plan["control"] * plan["recipients"])
    yield say("control", people=people, share=_percent(plan["control"]), **common)
    if values["attainable"][0] < _NONE:
        yield say("false", k=values["claimed"], n=n)
    elif values["proven"]:
        yield say("proven", k=values["proven"], after=f"{values['proven_after'][0]:.0f}", **common)
    else:
        yield say("never", **common)
    if values["measured"] is not None:
        lift, low, high = (_signed(x) for x in values["measured"])
        yield say("report", lift=lift, low=low, high=high)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %"
