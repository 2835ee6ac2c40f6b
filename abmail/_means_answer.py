"""What a comparison of means answers: values, tables and the sentence."""

from __future__ import annotations

import html
import importlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from abmail._later import named_figures
from abmail._mean_score import FEWEST_UNITS
from abmail.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable

    from abmail._comparison import MethodInfo, Status
    from abmail._later import Later
    from abmail._sample_ratio import SampleRatio
    from abmail._wording import Language

__all__ = ["LiftInterval", "MeanResult", "MeansComparison", "Metric"]

FORMAT_VERSION: Final = 1

Metric = Literal["mean", "ratio"]
Cell = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftInterval:
    """Interval for a relative difference; None where there is none, and for an infinite end."""

    lift_lower: float | None
    lift_upper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanResult:
    """One arm; effects are against the control, and None for the control itself or where there is no answer.

    Attributes:
        name: Name of the arm.
        index: Column of the arm in the moments.
        n: Units: recipients, or companies.
        mean: Mean (or ratio of sums) over all epochs, None without units. Where base rates drift, means of arms with
            different weights do not compare; ``effect`` does.
        effect: Difference to the control's mean, compared within epochs, with the covariate taken out.
        lift: Relative difference to the control's mean, compared within epochs; None where a mean is negative.
        ci_lower: Lower end of the interval for ``effect``.
        ci_upper: Upper end of the interval for ``effect``.
        lift_interval: Interval for ``lift``, worked out when it is first read; read ``lift_lower`` and ``lift_upper``.
        p_value: p-value against the control, corrected for the number of arms; valid at every look unless the method
            is ``fixed``.
        status: ``ok``, ``too_few`` or ``zero_variance``, of the comparison with the control.
    """

    name: str
    index: int
    n: int
    mean: float | None
    effect: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    lift_interval: Later[LiftInterval]
    p_value: float | None
    status: Status

    @property
    def lift_lower(self) -> float | None:
        """Lower end of the interval for ``lift``."""
        return self.lift_interval.value.lift_lower

    @property
    def lift_upper(self) -> float | None:
        """Upper end of the interval for ``lift``; None also where it is infinite."""
        return self.lift_interval.value.lift_upper


@dataclass(frozen=True, slots=True, kw_only=True)
class MeansComparison:
    """The answer of `compare_means`.

    Attributes:
        arms: Results in the order of the moments.
        control: Name of the control.
        method: How the comparison was made.
        srm: Sample-ratio check of the units.
        status: ``ok``, ``too_few``, ``zero_variance`` or ``srm_failed``.
        metric: ``mean`` per unit, or ``ratio`` of two sums (clicks per open; a mean per recipient of companies).
        limit: The cap that the values were winsorised at, None without.
        variance_saved: Share of the variance that the covariate took out, None where none was used.
    """

    arms: tuple[MeanResult, ...]
    control: str
    method: MethodInfo
    srm: SampleRatio
    status: Status
    metric: Metric
    limit: float | None = None
    variance_saved: float | None = None

    @property
    def sentence(self) -> str:
        """The result in plain English."""
        return self.sentence_in("en")

    def sentence_in(self, language: Language, *, unit: str = "") -> str:
        """The result in plain words.

        Args:
            language: ``en`` or ``ja``.
            unit: What the values are counted in, such as EUR.

        Raises:
            ValueError: The language is not known.
        """
        if language not in _TEXTS:
            raise ValueError(f"language is '{language}', must be one of {', '.join(_TEXTS)}")
        return _sentence(self, _TEXTS[language], unit)

    def rows(self) -> list[dict[str, Cell]]:
        """One dict per arm: the one source of every table."""
        return [named_figures(arm) for arm in self.arms]

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "format_version": FORMAT_VERSION,
            "arms": self.rows(),
            "control": self.control,
            "sentence": self.sentence,
            "method": asdict(self.method),
            "srm": self.srm.to_dict(),
            "status": self.status,
            "metric": self.metric,
            "limit": self.limit,
            "variance_saved": self.variance_saved,
        }

    def to_pandas(self) -> Any:  # pandas ships no types, and is optional
        """A pandas.DataFrame with one row per arm.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            raise MissingExtra("MeansComparison.to_pandas()", "pandas") from error
        return pandas.DataFrame(self.rows())

    def to_html(self) -> str:
        """An HTML table with the sentence as its caption."""
        head = "".join(f"<th>{html.escape(title)}</th>" for title, _ in _COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(show(row))}</td>" for _, show in _COLUMNS) + "</tr>"
            for row in self.rows()
        )
        caption = html.escape(self.sentence)
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __str__(self) -> str:
        table = [[title for title, _ in _COLUMNS], *([show(row) for _, show in _COLUMNS] for row in self.rows())]
        widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in table
        ]
        return "\n".join([*(line.rstrip() for line in lines), "", self.sentence])


_TEXTS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "differs": "'{arm}' lies {distance} {side} '{control}' ({level} interval {low} to {high}; {p}).",
        "differed": "'{arm}' and '{control}' differ: proved at an earlier look; the difference now stands at {effect} "
        "({level} interval {low} to {high}; {p}).",
        "chance": "'{arm}' lies {distance} {side} '{control}', which chance could explain ({level} interval {low} to "
        "{high}; {p}).",
        "equal": "'{arm}' and '{control}' have the same mean so far ({level} interval {low} to {high}; {p}).",
        "some": "Proved to differ from '{control}': {list}. Not proved: {rest}.",
        "all": "All {others} other arms were proved to differ from '{control}': {list}.",
        "none": "None of the {others} other arms was proved to differ from '{control}'.",
        "too_few": "Too early to tell: both arms need {fewest} units in the same epoch.",
        "zero_variance": "Too early to tell: all values so far are alike.",
        "srm_failed": "The units do not fit the weights they were drawn with ({srm}): find the cause before you read "
        "the result.",
        "above": "above",
        "below": "below",
        "p": "p = {:.2g}",
        "p_small": "p < 0.001",
        "item": "'{name}' ({effect})",
        "name": "'{name}'",
        "nobody": "none",
        "join": ", ",
    },
    "ja": {
        "differs": "「{arm}」は「{control}」より{distance}{side}、差は確かです({level}区間 {low}〜{high}、{p})。",
        "differed": "「{arm}」と「{control}」の差は以前の時点で示されました。現在の差は{effect}です"
        "({level}区間 {low}〜{high}、{p})。",
        "chance": "「{arm}」は「{control}」より{distance}{side}ですが、偶然でも起こりうる差です"
        "({level}区間 {low}〜{high}、{p})。",
        "equal": "「{arm}」と「{control}」の平均は今のところ同じです({level}区間 {low}〜{high}、{p})。",
        "some": "「{control}」との差が示された案: {list}。示されていない案: {rest}。",
        "all": "他の{others}案すべてについて「{control}」との差が示されました: {list}。",
        "none": "他の{others}案のうち「{control}」との差が示されたものはありません。",
        "too_few": "まだ判断できません。比較する2案には同じ回に{fewest}件ずつ必要です。",
        "zero_variance": "まだ判断できません。これまでの値はすべて同じです。",
        "srm_failed": "配信の内訳が割り当ての重みと合いません({srm})。原因が分かるまで結果を読まないでください。",
        "above": "高く",
        "below": "低く",
        "p": "p = {:.2g}",
        "p_small": "p < 0.001",
        "item": "「{name}」({effect})",
        "name": "「{name}」",
        "nobody": "なし",
        "join": "、",
    },
}


def _sentence(answer: MeansComparison, texts: dict[str, str], unit: str) -> str:
    others = [arm for arm in answer.arms if arm.name != answer.control]
    if answer.status != "ok":
        watched = answer.srm.anytime_p_value if answer.srm.p_value is None else answer.srm.p_value
        return texts[answer.status].format(fewest=FEWEST_UNITS, srm=_p(watched, texts))
    if len(others) == 1:
        return _one(answer, others[0], texts, unit)
    proved = [arm for arm in others if _is_proved(answer, arm)]
    rest = [arm for arm in others if arm not in proved]
    key = "none" if not proved else "some" if rest else "all"
    return texts[key].format(
        control=answer.control,
        others=len(others),
        list=texts["join"].join(
            texts["item"].format(name=a.name, effect=_amount(a.effect or 0.0, unit, sign="+")) for a in proved
        ),
        rest=texts["join"].join(texts["name"].format(name=arm.name) for arm in rest) or texts["nobody"],
    )


def _one(answer: MeansComparison, arm: MeanResult, texts: dict[str, str], unit: str) -> str:
    effect, low, high = (value or 0.0 for value in (arm.effect, arm.ci_lower, arm.ci_upper))
    key = "chance" if effect else "equal"
    if _is_proved(answer, arm):
        key = "differed" if low <= 0 <= high else "differs"
    return texts[key].format(
        arm=arm.name,
        control=answer.control,
        side=texts["above" if effect > 0 else "below"],
        distance=_amount(abs(effect), unit),
        effect=_amount(effect, unit, sign="+"),
        low=f"{low:+.4g}",
        high=_amount(high, unit, sign="+"),
        level=f"{100 * (1 - answer.method.alpha):.4g} %",
        p=_p(arm.p_value, texts),
    )


def _amount(value: float, unit: str, *, sign: str = "") -> str:
    return f"{value:{sign}.4g} {unit}".rstrip()


def _is_proved(answer: MeansComparison, arm: MeanResult) -> bool:
    return arm.status == "ok" and arm.p_value is not None and arm.p_value <= answer.method.alpha


def _p(value: float | None, texts: dict[str, str]) -> str:
    return texts["p_small"] if (value or 0.0) < 0.001 else texts["p"].format(value)


def _text(key: str) -> Callable[[dict[str, Cell]], str]:
    return lambda row: _shown(row[key], "{}")


def _number(key: str, form: str) -> Callable[[dict[str, Cell]], str]:
    return lambda row: _shown(row[key], "{:" + form + "}")


def _interval(low: str, high: str) -> Callable[[dict[str, Cell]], str]:
    return lambda row: "-" if row[low] is None else f"{_shown(row[low], '{:+.4g}')} .. {_shown(row[high], '{:+.4g}')}"


def _shown(value: Cell, form: str) -> str:
    return "-" if value is None else form.format(value)


_COLUMNS: tuple[tuple[str, Callable[[dict[str, Cell]], str]], ...] = (
    ("arm", _text("name")),
    ("n", _text("n")),
    ("mean", _number("mean", ".4g")),
    ("effect", _number("effect", "+.4g")),
    ("interval", _interval("ci_lower", "ci_upper")),
    ("lift", _number("lift", "+.2%")),
    ("p", _number("p_value", ".3g")),
    ("status", _text("status")),
)
