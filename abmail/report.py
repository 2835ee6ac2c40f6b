"""What an experiment has shown so far: one value, and its forms for people and programs.

`Report` is filled by the engine and knows no database. JSON is its contract (`to_dict`, `from_dict`, `to_json`);
terminal text, Markdown and a self-contained HTML page with charts are views of the same value, in English or Japanese.
Rates, shares and probabilities are fractions in the value and percentages on a page.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from abmail._report_allocation import (
    AllocationReport,
    ChampionReport,
    DelayPoint,
    DelayReport,
    SegmentWeightsReport,
    StoppedArmReport,
)
from abmail._report_codec import Part, decode, encode

__all__ = [
    "AllocationReport",
    "ArmReport",
    "BotSensitivity",
    "ChampionReport",
    "CurvePoint",
    "CurveReport",
    "DecisionReport",
    "DelayPoint",
    "DelayReport",
    "EpochReport",
    "FactorReport",
    "GuardrailReport",
    "Language",
    "LevelReport",
    "MethodReport",
    "Report",
    "SecondArm",
    "SecondOpinion",
    "SegmentArmReport",
    "SegmentReport",
    "SegmentSummary",
    "SegmentWeightsReport",
    "SendTimeReport",
    "SrmReport",
    "StoppedArmReport",
    "ValueArmReport",
    "ValueReport",
]

Language = Literal["en", "ja"]
"""Language of a page."""

_LARGEST_SUM_OF_SHARES = 1.0 + 1e-6


def _require_share(name: str, value: float | None) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value!r}, must be a fraction in [0, 1]")


def _require_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha!r}, must be in (0, 1)")


def _require_counts(name: str, **counts: int) -> None:
    for key, count in counts.items():
        if count < 0:
            raise ValueError(f"{key} of {name} is {count}, must be 0 or more")


def _require_successes(name: str, n: int, successes: int) -> None:
    _require_counts(name, n=n, successes=successes)
    if successes > n:
        raise ValueError(f"successes of {name} is {successes}, must be at most n = {n}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport(Part):
    """One wave: the sends between two re-weightings.

    Attributes:
        n: Sends in the wave.
        number: Its number, counted from 1.
        opened_at: When its weights were fixed, aware UTC datetime.
        reason: Why it was opened, in words; may be empty.
        weights: Variant's name -> share of the wave, fraction in [0, 1].
    """

    n: int
    number: int
    opened_at: datetime
    reason: str = ""
    weights: Mapping[str, float]

    def _check(self) -> None:
        _require_counts(f"wave {self.number}", n=self.n)
        for arm, weight in self.weights.items():
            _require_share(f"weight of {arm!r} in wave {self.number}", weight)
        if sum(self.weights.values()) > _LARGEST_SUM_OF_SHARES:
            raise ValueError(
                f"weights of wave {self.number} sum to {sum(self.weights.values()):.6g}, must be at most 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReport(Part):
    """One variant: its counts, and how it compares with the control.

    Attributes:
        name: The cell's name.
        cell: Factor -> level.
        content: Factor -> the text that recipients see, where the caller wants it on the page; may be empty.
        n: Sends.
        successes: Sends with the primary metric inside the window, 0 <= successes <= n.
        rate: successes / n, or None without sends.
        human_opens: Sends opened by what is most likely a person.
        clicks: Sends clicked by what is most likely a person.
        unsubscribes: Sends that ended in an unsubscribe.
        complaints: Sends reported as spam.
        bounces: Sends that bounced.
        effect: Difference of the rate from the control's, a fraction; None for the control or without an answer.
        lift: The same relative to the control's rate, a fraction; None likewise.
        ci_lower: Lower end of the interval around ``effect``.
        ci_upper: Upper end of it.
        p_value: Of the comparison with the control.
        p_best: Posterior probability of having the highest rate; a guide, not an error guarantee.
        expected_loss: Posterior mean of what choosing this variant would lose against the best one, a fraction.
        weight: Current share of a wave, fraction in [0, 1].
        status: "ok", or why there is no effect: "too_few", "zero_variance", "srm_failed".
    """

    name: str
    cell: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, str] = field(default_factory=dict)
    n: int
    successes: int
    rate: float | None
    human_opens: int = 0
    clicks: int = 0
    unsubscribes: int = 0
    complaints: int = 0
    bounces: int = 0
    effect: float | None = None
    lift: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    p_value: float | None = None
    p_best: float | None = None
    expected_loss: float | None = None
    weight: float | None = None
    status: str = "ok"

    def _check(self) -> None:
        _require_successes(self.name, self.n, self.successes)
        _require_counts(
            self.name,
            human_opens=self.human_opens,
            clicks=self.clicks,
            unsubscribes=self.unsubscribes,
            complaints=self.complaints,
            bounces=self.bounces,
        )
        for key in ("rate", "p_value", "p_best", "weight"):
            _require_share(f"{key} of {self.name}", getattr(self, key))
        _require_interval(self.name, self.ci_lower, self.ci_upper)


def _require_interval(name: str, lower: float | None, upper: float | None) -> None:
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"interval of {name} runs from {lower} to {upper}, must not be upside down")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelReport(Part):
    """One level of a factor, averaged over the other factors; the effect is against the factor's control level.

    Attributes:
        level: The level's name.
        n: Sends.
        successes: 0 <= successes <= n.
        rate: successes / n, or None without sends.
        effect: Difference from the control level, a fraction; None for that level or without an answer.
        ci_lower: Lower end of the interval around ``effect``.
        ci_upper: Upper end of it.
        p_value: Of the comparison.
    """

    level: str
    n: int
    successes: int
    rate: float | None
    effect: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    p_value: float | None = None

    def _check(self) -> None:
        _require_successes(self.level, self.n, self.successes)
        _require_interval(self.level, self.ci_lower, self.ci_upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorReport(Part):
    """Main effect of one factor.

    Attributes:
        factor: The factor's name.
        levels: Its levels in the order of the definition.
    """

    factor: str
    levels: tuple[LevelReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentArmReport(Part):
    """One variant within one segment.

    Attributes:
        name: The variant's name.
        n: Sends.
        successes: 0 <= successes <= n.
        rate: successes / n, or None without sends.
        effect: Difference from the control within the segment, a fraction, or None.
        ci_lower: Lower end of the interval around ``effect``, for this segment and variant alone.
        ci_upper: Upper end of it.
        shrunk_effect: The difference drawn towards the other segments by as much as they agree, a fraction, or None.
        shrunk_lower: Lower end of the posterior interval around ``shrunk_effect``.
        shrunk_upper: Upper end of it.
        p_value: Of the comparison, adjusted for the number of segments and variants (false discovery rate).
        status: "ok", or why nothing is claimed: "too_few", "zero_variance", "srm_failed", "empty".
    """

    name: str
    n: int
    successes: int
    rate: float | None
    effect: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    shrunk_effect: float | None = None
    shrunk_lower: float | None = None
    shrunk_upper: float | None = None
    p_value: float | None = None
    status: str = "ok"

    def _check(self) -> None:
        _require_successes(self.name, self.n, self.successes)
        _require_interval(self.name, self.ci_lower, self.ci_upper)
        _require_interval(f"{self.name} (shrunk)", self.shrunk_lower, self.shrunk_upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport(Part):
    """The comparison within one segment of the audience.

    Attributes:
        segment: The value of the attribute; empty for recipients without it.
        arms: The variants in the order of the report.
        winner: The variant that was proved best here; None unless the segments are proved to differ.
    """

    segment: str
    arms: tuple[SegmentArmReport, ...]
    winner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSummary(Part):
    """What the segments say together.

    Attributes:
        by: The attribute that makes the segments, or "domain".
        differs: Whether the effect of any variant is proved to differ between segments.
        p_value: Of that question, over all segments and variants; None without an answer.
        method: "fixed", "sequential" or "anytime".
        alpha: Level of the question, and of the false discovery rate among winners; in (0, 1).
        n_segments: Segments that were compared, shown or not.
        left_out: How many of them, the smallest, are not shown.
        sentence: The finding in English.
        sentence_ja: The same in Japanese.
    """

    by: str
    differs: bool
    p_value: float | None
    method: str
    alpha: float
    n_segments: int
    left_out: int = 0
    sentence: str
    sentence_ja: str = ""

    def _check(self) -> None:
        _require_share("p_value of the segments", self.p_value)
        _require_alpha(self.alpha)
        _require_counts(f"segments by {self.by}", n_segments=self.n_segments, left_out=self.left_out)


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
        _require_share("p_value of the sample-ratio check", self.p_value)


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
class BotSensitivity(Part):
    """The primary metric's successes per variant, counted with and without machine traffic.

    Attributes:
        all: Variant -> successes over all events.
        human_likely: Variant -> successes over events that are most likely a person's; what the report rests on.
        strict: Variant -> successes over events that are surely a person's; empty where not computed.
        leader_changes: Whether another variant would lead under another count.
    """

    all: Mapping[str, int] = field(default_factory=dict)
    human_likely: Mapping[str, int] = field(default_factory=dict)
    strict: Mapping[str, int] = field(default_factory=dict)
    leader_changes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodReport(Part):
    """How the comparison was made.

    Attributes:
        name: The method's name.
        why: Why it was chosen, in English.
        why_ja: The same in Japanese.
        alpha: Error level, in (0, 1).
        looks: Planned number of looks, or None where any number is allowed.
    """

    name: str
    why: str = ""
    why_ja: str = ""
    alpha: float = 0.05
    looks: int | None = None

    def _check(self) -> None:
        _require_alpha(self.alpha)


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
        _require_successes(self.name, self.n, self.successes)
        _require_share(f"p_value of {self.name}", self.p_value)
        _require_interval(self.name, self.ci_lower, self.ci_upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOpinion(Part):
    """The same data by another method, level or verdict than was registered; it decides nothing.

    Attributes:
        method: Name of the method.
        alpha: Its error level, in (0, 1).
        verdicts: Whether machine traffic counts too.
        arms: The variants in the order of the report; empty where the method cannot be used.
        decision: What it would make of the data; None where the method cannot be used.
        sentence: The result in English; empty where the method cannot be used.
        sentence_ja: The same in Japanese.
        note: What to keep in mind, or why the method cannot be used, in English; may be empty.
        note_ja: The same in Japanese.
    """

    method: str
    alpha: float
    verdicts: Literal["human-likely", "all"] = "human-likely"
    arms: tuple[SecondArm, ...] = ()
    decision: DecisionReport | None = None
    sentence: str = ""
    sentence_ja: str = ""
    note: str = ""
    note_ja: str = ""

    def _check(self) -> None:
        _require_alpha(self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTimeReport(Part):
    """When the mails went out, and what choosing the time was worth.

    Attributes:
        mode: How send times are set.
        between: Allowed hours, such as "08:00-20:00"; empty for all day.
        zone: "recipient" or an IANA name; empty if unknown.
        effect: Rate at chosen times minus rate at the comparison time, a fraction; None without an answer.
        ci_lower: Lower end of the interval around ``effect``.
        ci_upper: Upper end of it.
        sentence: The finding in English; may be empty.
        sentence_ja: The same in Japanese.
    """

    mode: Literal["fixed", "learn", "test"] = "fixed"
    between: str = ""
    zone: str = ""
    effect: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    sentence: str = ""
    sentence_ja: str = ""

    def _check(self) -> None:
        _require_interval("send_time", self.ci_lower, self.ci_upper)


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
        _require_share(f"limit of {self.metric}", self.limit)
        _require_share(f"{self.metric} of {self.arm}", self.rate)


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
        _require_counts(self.name, n=self.n, valued=self.valued)
        _require_interval(self.name, self.ci_lower, self.ci_upper)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Part):
    """The result of one experiment at one moment.

    Attributes:
        format_version: Version of the JSON form; 1.
        experiment: The experiment's name.
        hypothesis: What it is meant to find out; may be empty.
        spec_hash: Hash of the resolved definition.
        state: Life of the experiment.
        metric: Primary metric.
        window_seconds: Seconds after a send within which the metric counts.
        generated_at: When the report was made, aware UTC datetime.
        seed: The definition's seed.
        abmail_version: The version that made the report.
        audience: Recipients in the experiment, held out or not.
        sent: Mails sent.
        held_out: Recipients who get nothing, for comparison.
        pending: Mails still to send.
        failed: Mails refused for good.
        uncertain: Mails of which nobody knows whether the server took them.
        mature_share: Fraction of the sends whose window has closed, in [0, 1].
        epochs: The waves, oldest first.
        arms: The variants in the order of the definition; names are unique.
        control: Name of the variant that the others are compared with.
        srm: Sample-ratio check.
        decision: What to make of it.
        sentence: The result in one plain English sentence.
        sentence_ja: The same in Japanese; empty falls back to English.
        factors: Main effects, for experiments with several factors.
        segments: Comparisons within segments of the audience, the largest first.
        bot_sensitivity: The counts with and without machine traffic.
        method: How the comparison was made.
        send_time: When the mails went out.
        actions: Next steps in English.
        actions_ja: The same in Japanese; empty falls back to English.
        guardrails: Limits, per metric and variant.
        segment_summary: What the segments say together; None where none were asked for.
        second_opinion: Another analysis beside the registered one; None where none was asked for.
        value: What mails bring in, where the definition asks for it.
        curves: How soon each variant's mails are opened and clicked.
        allocation: How the mail is shared, and what that rests on.
    """

    format_version: Literal[1] = 1
    experiment: str
    hypothesis: str = ""
    spec_hash: str
    state: Literal["draft", "running", "finished", "stopped"]
    metric: Literal["clicked", "opened"]
    window_seconds: int
    generated_at: datetime
    seed: int
    abmail_version: str
    audience: int
    sent: int
    held_out: int = 0
    pending: int = 0
    failed: int = 0
    uncertain: int = 0
    mature_share: float = 0.0
    epochs: tuple[EpochReport, ...] = ()
    arms: tuple[ArmReport, ...]
    control: str
    srm: SrmReport
    decision: DecisionReport
    sentence: str
    sentence_ja: str = ""
    factors: tuple[FactorReport, ...] = ()
    segments: tuple[SegmentReport, ...] = ()
    bot_sensitivity: BotSensitivity = field(default_factory=BotSensitivity)
    method: MethodReport
    send_time: SendTimeReport = field(default_factory=SendTimeReport)
    actions: tuple[str, ...] = ()
    actions_ja: tuple[str, ...] = ()
    guardrails: tuple[GuardrailReport, ...] = ()
    segment_summary: SegmentSummary | None = None
    second_opinion: SecondOpinion | None = None
    value: ValueReport | None = None
    curves: tuple[CurveReport, ...] = ()
    allocation: AllocationReport | None = None

    def _check(self) -> None:
        _require_counts(
            self.experiment,
            window_seconds=self.window_seconds,
            audience=self.audience,
            sent=self.sent,
            held_out=self.held_out,
            pending=self.pending,
            failed=self.failed,
            uncertain=self.uncertain,
        )
        _require_share("mature_share", self.mature_share)
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms of {self.experiment} are {', '.join(names)}; each name must occur once")
        if self.control not in names:
            raise ValueError(f"control is {self.control!r}, must be one of the arms: {', '.join(names)}")

    def arm(self, name: str) -> ArmReport:
        """Look up a variant by its name; a ValueError names those there are."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ValueError(f"no variant {name!r} in the report; there are {', '.join(arm.name for arm in self.arms)}")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: plain dicts, lists, strings, finite numbers and None; times in ISO 8601, UTC."""
        document: dict[str, Any] = encode(self)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Read the JSON form back; ``Report.from_dict(report.to_dict()) == report``.

        Args:
            document: What `to_dict` returned, perhaps by way of JSON. Unknown keys are passed over.

        Returns:
            The report.

        Raises:
            ValueError: A field is missing or wrong; the message names its path, such as ``arms[1].rate``.
        """
        return decode(cls, document)

    def to_json(self) -> str:
        """The JSON form as indented text with a final newline; it holds no NaN and keeps non-Latin letters readable."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=2) + "\n"

    def to_text(self, *, width: int = 100, color: bool = False, language: Language = "en") -> str:
        """The report for a terminal.

        Args:
            width: Columns of the terminal; at least 40.
            color: Whether to use ANSI colours; off, the text holds no escape sequence.
            language: Language of the page.

        Returns:
            Lines with a final newline, none wider than ``width``.

        Raises:
            ValueError: ``width`` is under 40 or ``language`` unknown.
        """
        from abmail._report_text import to_text
        from abmail._report_view import view

        return to_text(view(self, language), width=width, color=color)

    def to_markdown(self, *, language: Language = "en") -> str:
        """The report as GitHub-flavoured Markdown, with all tables.

        Args:
            language: Language of the page.

        Returns:
            The document; names and texts are escaped.

        Raises:
            ValueError: ``language`` is unknown.
        """
        from abmail._report_text import to_markdown
        from abmail._report_view import view

        return to_markdown(view(self, language))

    def to_html(self, *, language: Language = "en") -> str:
        """The report as one self-contained page with charts: no scripts, nothing fetched.

        Args:
            language: Language of the page.

        Returns:
            The page; the same report gives the same bytes.

        Raises:
            MissingExtra: There are charts to draw and the extra ``report`` is not installed.
            ValueError: ``language`` is unknown.
        """
        from abmail._report_html import to_html

        return to_html(self, language)
