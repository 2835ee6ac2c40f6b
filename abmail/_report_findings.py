"""What to make of it, as parts of the report: the verdict, its checks, the second look, values and curves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from abmail._report_codec import (
    Part,
    require_alpha,
    require_counts,
    require_interval,
    require_share,
    require_successes,
)

__all__ = [
    "BotSensitivity",
    "CurvePoint",
    "CurveReport",
    "DecisionReport",
    "GuardrailReport",
    "MethodReport",
    "SecondArm",
    "SecondOpinion",
    "SrmReport",
    "ValueArmReport",
    "ValueReport",
    "VerdictView",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SrmReport(Part):
    """Sample-ratio check: did each variant get the share of mails that its weights promised?

    Attributes:
        p_value: Of the check, or None when there is too little to check.
        ok: False when the shares are off by more than chance; the comparison is then not to be trusted.
        sentence: Where the fault is and its likely causes, in English; empty where there is none.
        sentence_ja: The same in Japanese.
    """

    p_value: float | None = None
    ok: bool = True
    sentence: str = ""
    sentence_ja: str = ""

    def _check(self) -> None:
        require_share("p_value of the sample-ratio check", self.p_value)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionReport(Part):
    """What to make of the result.

    Attributes:
        state: What can be said now.
        arm: The variant it is about, if any.
        reason: Why, in English.
        reason_ja: The same in Japanese.
    """

    state: Literal["winner", "leading", "no_difference", "too_early", "stopped"]
    arm: str | None = None
    reason: str = ""
    reason_ja: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView(Part):
    """The result as it is where other opens and clicks count.

    Attributes:
        view: Which count: ``all``, ``human-likely``, or ``strict`` for those that nothing speaks against.
        opened: Variant -> mails opened.
        clicked: Variant -> mails clicked.
        state: The decision that these counts would give.
        arm: The variant it is about, if any.
        survives: Whether that is the decision of the human-likely view.
    """

    view: Literal["all", "human-likely", "strict"]
    opened: Mapping[str, int] = field(default_factory=dict)
    clicked: Mapping[str, int] = field(default_factory=dict)
    state: str
    arm: str | None = None
    survives: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BotSensitivity(Part):
    """What machines did to the counts.

    Attributes:
        all: Variant -> the primary metric's successes over all events.
        human_likely: Variant -> successes over events that are most likely a person's; what the report rests on.
        strict: Variant -> successes over events that nothing speaks against; empty where not computed.
        leader_changes: Whether another variant would lead where machines count.
        views: Opens, clicks and the decision in each view; empty before any mail was sent.
        survives: Whether all views give the same decision; None before any mail was sent.
        machine_share: Variant -> share of its mails in which a machine did what the primary metric counts.
        machine_p_value: Chance of shares at least as uneven among equal variants; None where there are too few.
        machine_balanced: False where they are too uneven for chance (under 0.001).
        machine_test: Name of that test.
        reclassified: Verdicts that changed after the provisional time, when shares may have gone by them.
        unjudged: Opens and clicks of an older version, see `abmail events rejudge`.
        sources: Kind of event -> whose reports count.
        beside: Reports of others, which are kept and not counted.
    """

    all: Mapping[str, int] = field(default_factory=dict)
    human_likely: Mapping[str, int] = field(default_factory=dict)
    strict: Mapping[str, int] = field(default_factory=dict)
    leader_changes: bool = False
    views: tuple[VerdictView, ...] = ()
    survives: bool | None = None
    machine_share: Mapping[str, float] = field(default_factory=dict)
    machine_p_value: float | None = None
    machine_balanced: bool = True
    machine_test: str = ""
    reclassified: int = 0
    unjudged: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)
    beside: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodReport(Part):
    """How the comparison was made.

    Attributes:
        name: The method's name.
        why: Why it was chosen, in English.
        why_ja: The same in Japanese.
        alpha: Error level, in (0, 1).
        looks: Planned number of looks, or None where any number is allowed.
        design_effect: Mails that say as much as one to a stranger, where variants went out by company; else None.
    """

    name: str
    why: str = ""
    why_ja: str = ""
    alpha: float = 0.05
    looks: int | None = None
    design_effect: float | None = None

    def _check(self) -> None:
        require_alpha(self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondArm(Part):
    """One variant in a second look.

    Attributes:
        name: The variant's name.
        n: Sends.
        successes: By the verdicts that the look counts, 0 <= successes <= n.
        rate: successes / n, or None without sends.
        effect: Difference from the control, a fraction; None for the control or without an answer.
        ci_lower: Lower end of the interval around ``effect``.
        ci_upper: Upper end of it.
        p_value: Of the comparison with the control; None where the method has none.
    """

    name: str
    n: int
    successes: int
    rate: float | None
    effect: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    p_value: float | None = None

    def _check(self) -> None:
        require_successes(self.name, self.n, self.successes)
        require_share(f"p_value of {self.name}", self.p_value)
        require_interval(self.name, self.ci_lower, self.ci_upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOpinion(Part):
    """The same data by another method, level or verdict than was registered; it decides nothing.

    Attributes:
        method: Name of the method.
        alpha: Its error level, in (0, 1).
        verdicts: Which opens and clicks count.
        arms: The variants in the order of the report; empty where the method cannot be used.
        decision: What it would make of the data; None where the method cannot be used.
        sentence: The result in English; empty where the method cannot be used.
        sentence_ja: The same in Japanese.
        note: What to keep in mind, or why the method cannot be used, in English; may be empty.
        note_ja: The same in Japanese.
    """

    method: str
    alpha: float
    verdicts: Literal["human-likely", "all", "strict"] = "human-likely"
    arms: tuple[SecondArm, ...] = ()
    decision: DecisionReport | None = None
    sentence: str = ""
    sentence_ja: str = ""
    note: str = ""
    note_ja: str = ""

    def _check(self) -> None:
        require_alpha(self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailReport(Part):
    """One limit for one variant.

    Attributes:
        metric: What is limited.
        limit: Largest acceptable rate, fraction in [0, 1].
        arm: The variant's name.
        rate: The variant's rate, or None without sends.
        ok: False when the variant was proved above the limit, or worse than the control.
        verdict: ``ok``, ``broken``, ``worse_than_control`` or ``too_few`` (not enough mails to judge).
        upper: Upper confidence bound of the rate, valid at any number of looks; None where unknown.
        sentence: The finding in English; empty for the standard wording.
        sentence_ja: The same in Japanese.
    """

    metric: Literal["unsubscribed", "complained", "bounced"]
    limit: float
    arm: str
    rate: float | None
    ok: bool
    verdict: Literal["ok", "broken", "worse_than_control", "too_few"] = "ok"
    upper: float | None = None
    sentence: str = ""
    sentence_ja: str = ""

    def _check(self) -> None:
        require_share(f"limit of {self.metric}", self.limit)
        require_share(f"{self.metric} of {self.arm}", self.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueArmReport(Part):
    """What one variant brought in; differences are per mail, from control.

    Attributes:
        name: The variant.
        n: Mails.
        valued: Mails that brought something in.
        total: Sum of all values, uncapped.
        mean: Value per mail, capped where a cap was set.
        effect: Difference of the means, compared within waves.
        lift: The same, relative to control.
        ci_lower: Lower end of the interval for ``effect``.
        ci_upper: Upper end of the interval for ``effect``.
        p_value: Corrected for several variants.
        status: ``ok``, or why there is no answer.
    """

    name: str
    n: int
    valued: int
    total: float
    mean: float | None = None
    effect: float | None = None
    lift: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    p_value: float | None = None
    status: str = "ok"

    def _check(self) -> None:
        require_counts(self.name, n=self.n, valued=self.valued)
        require_interval(self.name, self.ci_lower, self.ci_upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueReport(Part):
    """What mails bring in, beside the primary metric; it decides nothing.

    Attributes:
        event: The event that carries the value.
        unit: What it is counted in; may be empty.
        limit: Cap on one mail's value, None without.
        capped: Mails whose value was above it.
        arms: The variants in the order of the definition.
        method: How the comparison was made.
        sentence: The result in one plain English sentence.
        sentence_ja: The same in Japanese.
    """

    event: str
    unit: str = ""
    limit: float | None = None
    capped: int = 0
    arms: tuple[ValueArmReport, ...]
    method: MethodReport
    sentence: str = ""
    sentence_ja: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint(Part):
    """One place of a curve.

    Attributes:
        seconds: Age of the mail.
        share: Share of all mails with the event by then, fraction in [0, 1].
        lower: Lower end of its band, for this place by itself.
        upper: Upper end of its band.
    """

    seconds: float
    share: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveReport(Part):
    """How soon one variant's mails were opened or clicked (Kaplan-Meier, mails of any age).

    Attributes:
        metric: ``opened`` or ``clicked``.
        arm: The variant.
        n: Mails.
        events: Mails with the event.
        median: Seconds until half of all mails have it; None where fewer than half do.
        points: The curve, by age.
    """

    metric: Literal["opened", "clicked"]
    arm: str
    n: int
    events: int
    median: float | None = None
    points: tuple[CurvePoint, ...]
