"""A second look at an experiment: another method, level or verdict than was registered, beside the registered one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from abmail._aipw import FEWEST_PER_ARM, LOWEST_WEIGHT
from abmail._analysis import Findings, decision_report, findings, is_tested
from abmail._evidence import Verdicts
from abmail.report import SecondArm, SecondOpinion
from abmail.stats import Method

if TYPE_CHECKING:
    from collections.abc import Iterator

    from abmail._analysis import Evidence

__all__ = ["SecondLook", "second_opinion"]

_NOTES: Final = {
    "nothing": ("no mail has been sent yet", "まだメールが送信されていません"),
    "refused": ("this method cannot be used here: {error}", "この方法はここでは使えません({error})"),
    "unsupported": (
        f"aipw gives no range: a variant got under {LOWEST_WEIGHT:.0%} of a wave, or under {FEWEST_PER_ARM} outcomes",
        f"aipw の範囲なし：配信比率{LOWEST_WEIGHT:.0%}未満の回か、成果{FEWEST_PER_ARM}件未満のパターンがあります",
    ),
    "one_look": (
        "fixed holds for a single look that was planned beforehand, not for one that is repeated",
        "fixed は事前に計画した1回の確認でのみ有効で、繰り返し確認すると成り立ちません",
    ),
    "young": (
        "the plan counts waves whose windows have closed, and some are still open",
        "この計画は計測期間が終わった回を数えますが、まだ終わっていない回があります",
    ),
    "posterior": (
        "bayes gives a posterior, without a bound on false alarms",
        "bayes は事後確率であり、誤検出の割合は保証しません",
    ),
    "all": ("machine traffic counts here", "機械による反応も数えています"),
    "strict": (
        "only what nothing at all speaks against counts here: many people's answers are left out",
        "疑いの余地がまったくない反応だけを数えているため、人による反応の多くも除かれています",
    ),
}  # fmt: skip


class SecondLook(NamedTuple):
    """What is asked for beside the registered analysis; None stands for what was registered."""

    method: str | None = None
    alpha: float | None = None
    verdicts: str | None = None

    @property
    def asked(self) -> bool:
        """Whether anything is asked for."""
        return any(part is not None for part in self)

    def checked(self) -> tuple[Method, float | None, Verdicts]:
        """The parts, or a ValueError in words."""
        methods, verdicts = get_args(Method), get_args(Verdicts)
        if self.method is not None and self.method not in methods:
            raise ValueError(f"method is '{self.method}', must be one of {', '.join(methods)}")
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha:g}, must be in (0, 1)")
        if self.verdicts is not None and self.verdicts not in verdicts:
            raise ValueError(f"verdicts is '{self.verdicts}', must be one of {', '.join(verdicts)}")
        method: Method = methods[methods.index(self.method)] if self.method else "auto"
        counted: Verdicts = verdicts[verdicts.index(self.verdicts)] if self.verdicts else "human-likely"
        return method, self.alpha, counted


def second_opinion(evidence: Evidence, look: SecondLook) -> SecondOpinion | None:
    """Analyse once more, without the verdict that was noted; None where nothing is asked for.

    Raises:
        ValueError: A method, level or verdict is unknown. A method that this experiment's data do not allow is no
            error: its words are the note.
    """
    if not look.asked:
        return None
    method, alpha, verdicts = look.checked()
    level = evidence.experiment.analysis.alpha if alpha is None else alpha
    if not is_tested(evidence):
        note, note_ja = _NOTES["nothing"]
        return SecondOpinion(method=method, alpha=level, verdicts=verdicts, note=note, note_ja=note_ja)
    seen = replace(evidence, stored=replace(evidence.stored, verdict=None), verdicts=verdicts)
    try:
        found = findings(seen, method=method, alpha=alpha)
    except ValueError as error:
        note, note_ja = (words.format(error=error) for words in _NOTES["refused"])
        return SecondOpinion(method=method, alpha=level, verdicts=verdicts, note=note, note_ja=note_ja)
    return _opinion(found, verdicts, len(evidence.epochs))


def _opinion(found: Findings, verdicts: Verdicts, n_epochs: int) -> SecondOpinion:
    comparison = found.comparison
    notes = [_NOTES[key] for key in _reservations(found, verdicts, n_epochs)]
    return SecondOpinion(
        method=comparison.method.name,
        alpha=comparison.method.alpha,
        verdicts=verdicts,
        arms=tuple(_arms(found)),
        decision=decision_report(comparison.decision),
        sentence=comparison.sentence,
        sentence_ja=comparison.sentence_in("ja"),
        note="; ".join(english for english, _ in notes),
        note_ja="。".join(japanese for _, japanese in notes),
    )


def _arms(found: Findings) -> Iterator[SecondArm]:
    without_range = _unsupported(found)
    for arm in found.comparison.arms:
        known = not without_range or (arm.ci_lower, arm.ci_upper) != (-1.0, 1.0)
        yield SecondArm(
            name=arm.name,
            n=arm.n,
            successes=arm.successes,
            rate=arm.rate,
            effect=arm.effect,
            ci_lower=arm.ci_lower if known else None,
            ci_upper=arm.ci_upper if known else None,
            p_value=arm.p_value if known else None,
        )


def _reservations(found: Findings, verdicts: Verdicts, n_epochs: int) -> Iterator[str]:
    method = found.comparison.method.name
    if _unsupported(found):
        yield "unsupported"
    if method == "fixed" and (found.young or n_epochs > 1):
        yield "one_look"
    if method == "sequential" and found.young:
        yield "young"
    if method == "bayes":
        yield "posterior"
    if verdicts != "human-likely":
        yield verdicts


def _unsupported(found: Findings) -> bool:
    """Whether aipw left an interval at its widest, which it does where weights or outcomes do not support one."""
    return found.comparison.method.name == "aipw" and any(
        (arm.ci_lower, arm.ci_upper) == (-1.0, 1.0) for arm in found.comparison.arms
    )
