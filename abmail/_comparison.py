"""What a comparison answers: values, tables and the sentence."""

from __future__ import annotations

import html
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from abmail._later import named_figures
from abmail._wording import Facts, write_sentence
from abmail.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable

    from abmail._clusters import Clusters
    from abmail._counts import Counts
    from abmail._later import Later
    from abmail._method import MethodName
    from abmail._sample_ratio import SampleRatio
    from abmail._wording import Language

__all__ = ["ArmResult", "Belief", "Comparison", "Contrast", "Decision", "MethodInfo"]

FORMAT_VERSION = 1

Status = Literal["ok", "too_few", "zero_variance", "srm_failed"]
State = Literal["winner", "leading", "no_difference", "too_early", "stopped"]
Cell = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What the posterior of one arm says: decision aids, without an error guarantee.

    Attributes:
        p_best: Posterior probability of the highest rate.
        expected_loss: Posterior mean of the rate lost by using this arm.
        credible_lower: Lower end of the posterior interval for the rate.
        credible_upper: Upper end of the posterior interval for the rate.
    """

    p_best: float
    expected_loss: float
    credible_lower: float
    credible_upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm; effects are against the control, and None for the control itself or where there is no answer.

    Attributes:
        name: Name of the arm.
        index: Column of the arm in the counts.
        n: Sends.
        successes: ``0 <= successes <= n``.
        rate: Successes per send over all epochs, None without sends. Where base rates drift, rates of arms with
            different weights do not compare; ``effect`` does.
        effect: Difference to the control's rate, compared within epochs.
        lift: Relative difference to the control's rate, compared within epochs.
        ci_lower: Lower end of the interval for ``effect``.
        ci_upper: Upper end of the interval for ``effect``.
        lift_lower: Lower end of the interval for ``lift``.
        lift_upper: Upper end of the interval for ``lift``; None also where it is infinite.
        p_value: p-value against the control, corrected for the number of arms; valid at every look unless the method
            is ``fixed``; None with ``bayes``.
        belief: What the posterior says, worked out when it is first read; read ``p_best``, ``expected_loss``,
            ``credible_lower`` and ``credible_upper``.
        weight: Allocation weight of the latest epoch, None where not logged.
        status: ``ok``, ``too_few`` or ``zero_variance``, of the comparison with the control.
    """

    name: str
    index: int
    n: int
    successes: int
    rate: float | None
    effect: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    lift_lower: float | None
    lift_upper: float | None
    p_value: float | None
    belief: Later[Belief]
    weight: float | None
    status: Status

    @property
    def p_best(self) -> float:
        """Posterior probability of the highest rate: a decision aid, without an error guarantee."""
        return self.belief.value.p_best

    @property
    def expected_loss(self) -> float:
        """Posterior mean of the rate lost by using this arm: a decision aid."""
        return self.belief.value.expected_loss

    @property
    def credible_lower(self) -> float:
        """Lower end of the posterior interval for the rate."""
        return self.belief.value.credible_lower

    @property
    def credible_upper(self) -> float:
        """Upper end of the posterior interval for the rate."""
        return self.belief.value.credible_upper


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What may be said now.

    Attributes:
        state: ``winner`` (proved better than every other arm), ``leading`` (ahead, not proved), ``no_difference``
            (every difference to the leading arm is smaller than the mde), ``too_early`` (too few successes) or
            ``stopped`` (the sends do not fit the weights, or the test was ended without a result; nothing may be said).
        arm: Name of the winning or leading arm, None in the other states.
        reason: Why, in a few words.
        look: Index of the epoch at which ``winner`` or ``no_difference`` was proved; what was proved stays. None in the
            other states.
    """

    state: State
    arm: str | None
    reason: str
    look: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """The winning or leading arm beside the best of the others, at the level of the claim to be the best.

    Attributes:
        arm: Name of the arm.
        rival: Name of the runner-up.
        effect: Difference of their rates, compared within epochs; None where unknown, as all that follows.
        lift: Relative difference.
        ci_lower: Lower end of the interval for ``effect``, at level 2 alpha / n_arms.
        ci_upper: Upper end.
        lift_lower: Lower end of the interval for ``lift``.
        lift_upper: Upper end; None also where it is infinite.
        p_value: p-value of the pair, times n_arms / 2.
    """

    arm: str
    rival: str
    effect: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    lift_lower: float | None
    lift_upper: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """How the comparison was made.

    Attributes:
        name: ``fixed``, ``sequential``, ``anytime``, ``exact``, ``aipw`` or ``bayes``.
        why: Why this method, in a sentence.
        why_ja: The same in Japanese.
        alpha: Two-sided level of the whole comparison.
        looks: Planned number of looks, None where no end is planned.
        spent: Share of the plan that the epochs so far stand for, fraction in [0, 1]; None where no end is planned.
    """

    name: MethodName
    why: str
    why_ja: str
    alpha: float
    looks: int | None
    spent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The answer of `compare`.

    Attributes:
        arms: Results in the order of the counts.
        control: Name of the control.
        decision: What may be said now.
        srm: Sample-ratio check.
        method: How the comparison was made.
        beside: The winning or leading arm beside the best of the others, worked out when it is first read; read
            ``runner_up``.
        not_beaten: Names of the arms that no other arm was proved to beat; the best arm is among them with
            probability 1 - alpha.
        status: ``ok``, ``too_few``, ``zero_variance`` or ``srm_failed``.
        mde: Smallest difference worth finding, None where not given.
        design_effect: Variance of the rates over that of as many strangers, at least 1; None where companies are
            unknown.
        counts: What was compared.
        again: Compares other counts with the same arguments.
    """

    arms: tuple[ArmResult, ...]
    control: str
    decision: Decision
    srm: SampleRatio
    method: MethodInfo
    beside: Later[Contrast | None]
    not_beaten: tuple[str, ...]
    status: Status
    mde: float | None
    design_effect: float | None = None
    counts: Counts = field(repr=False, compare=False)
    again: Callable[..., Comparison] = field(repr=False, compare=False)

    @property
    def runner_up(self) -> Contrast | None:
        """The winning or leading arm beside the best of the others, None where there is nothing to compare."""
        return self.beside.value

    def updated(self, more: Counts, *, clusters: Clusters | None = None) -> Comparison:
        """The answer after further epochs: what `compare` says of all epochs together.

        Args:
            more: The epochs that came after those compared so far.
            clusters: What each company did in all epochs, where the answer so far knew of companies.

        Raises:
            ValueError: They do not follow: other arms, or strata or companies on one side alone.
        """
        if (clusters is None) != (self.design_effect is None):
            raise ValueError("clusters must be given for all epochs together where the first comparison had them")
        return self.again(self.counts.followed_by(more), clusters=clusters)

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
        return write_sentence(self._facts(), language)

    def rows(self) -> list[dict[str, Cell]]:
        """One dict per arm: the one source of every table."""
        return [named_figures(arm) for arm in self.arms]

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "format_version": FORMAT_VERSION,
            "arms": self.rows(),
            "control": self.control,
            "decision": named_figures(self.decision),
            "sentence": self.sentence,
            "srm": self.srm.to_dict(),
            "method": named_figures(self.method),
            "runner_up": None if self.runner_up is None else named_figures(self.runner_up),
            "not_beaten": list(self.not_beaten),
            "status": self.status,
            "mde": self.mde,
            "design_effect": self.design_effect,
        }

    def to_pandas(self) -> Any:  # pandas ships no types, and is optional
        """A pandas.DataFrame with one row per arm.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            raise MissingExtra("Comparison.to_pandas()", "pandas") from error
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

    def _why_too_early(self) -> Literal["empty", "zero_variance", "too_few"]:
        if any(arm.n == 0 for arm in self.arms):
            return "empty"
        return "zero_variance" if self.status == "zero_variance" else "too_few"

    def _facts(self) -> Facts:
        others = [arm for arm in self.arms if arm.name != self.control]
        arm = next((arm for arm in others if arm.name == self.decision.arm), others[0])
        leader = self.decision.arm or self.control
        flip = leader == self.control and len(others) == 1 and self.decision.state in ("winner", "leading")
        known = arm.effect is not None and arm.ci_lower is not None and arm.ci_upper is not None
        effect, low, high = (arm.effect or 0.0, arm.ci_lower or 0.0, arm.ci_upper or 0.0)
        return Facts(
            state=self.decision.state,
            reason=self._why_too_early(),
            leader=leader,
            rival=arm.name if leader == self.control else self.control,
            effect=-effect if flip else effect,
            low=-high if flip else low,
            high=-low if flip else high,
            contrast_known=known and (len(others) == 1 or leader != self.control),
            p_value=arm.p_value,
            level=1 - self.method.alpha,
            n_arms=len(self.arms),
            not_beaten=self.not_beaten,
            successes=sum(a.successes for a in self.arms),
            sends=sum(a.n for a in self.arms),
            mde=self.mde or 0.0,
            srm_p=self.srm.anytime_p_value if self.srm.p_value is None else self.srm.p_value,
            srm_failed=not self.srm.ok,
            **self._second(),
            p_best=next((a.p_best for a in self.arms if a.name == leader), 0.0),
            posterior_only=self.method.name == "bayes",
        )

    def _second(self) -> dict[str, Any]:
        """The runner-up as the sentence needs it."""
        second = self.runner_up
        if second is None or second.effect is None or second.ci_lower is None or second.ci_upper is None:
            return {"runner_up": None, "gap": 0.0, "gap_low": 0.0, "gap_high": 0.0}
        return {
            "runner_up": second.rival, "gap": second.effect, "gap_low": second.ci_lower, "gap_high": second.ci_upper,
        }  # fmt: skip


def _text(key: str) -> Callable[[dict[str, Cell]], str]:
    return lambda row: _shown(row[key], "{}")


def _percent(key: str, sign: str = "") -> Callable[[dict[str, Cell]], str]:
    return lambda row: _shown(row[key], "{:" + sign + ".2%}")


def _interval(low: str, high: str) -> Callable[[dict[str, Cell]], str]:
    return lambda row: "-" if row[low] is None else f"{_shown(row[low], '{:+.2%}')} .. {_shown(row[high], '{:+.2%}')}"


def _shown(value: Cell, form: str) -> str:
    return "-" if value is None else form.format(value)


_COLUMNS: tuple[tuple[str, Callable[[dict[str, Cell]], str]], ...] = (
    ("arm", _text("name")),
    ("n", _text("n")),
    ("successes", _text("successes")),
    ("rate", _percent("rate")),
    ("effect", _percent("effect", "+")),
    ("interval", _interval("ci_lower", "ci_upper")),
    ("lift", _percent("lift", "+")),
    ("p", lambda row: _shown(row["p_value"], "{:.3g}")),
    ("P(best)", _percent("p_best")),
    ("expected loss", _percent("expected_loss")),
    ("status", _text("status")),
)
