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
from abmail._report_arms import (
    ArmReport,
    EpochReport,
    FactorReport,
    LevelReport,
    SegmentArmReport,
    SegmentReport,
    SegmentSummary,
)
from abmail._report_codec import (
    Part,
    decode,
    encode,
    require_counts,
    require_share,
)
from abmail._report_findings import (
    BotSensitivity,
    CurvePoint,
    CurveReport,
    DecisionReport,
    GuardrailReport,
    MethodReport,
    SecondArm,
    SecondOpinion,
    SrmReport,
    ValueArmReport,
    ValueReport,
    VerdictView,
)
from abmail._report_sendtime import HabitReport, HourReport, SendTimeReport

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
    "HabitReport",
    "HourReport",
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
    "VerdictView",
]

Language = Literal["en", "ja"]
"""Language of a page."""


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
        acting_together: Posterior chance that levels of different factors act together, so that main effects don't tell
            it all, fraction; None for a single factor or without an answer. No error rate is promised of it.
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
    acting_together: float | None = None
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
        require_counts(
            self.experiment,
            window_seconds=self.window_seconds,
            audience=self.audience,
            sent=self.sent,
            held_out=self.held_out,
            pending=self.pending,
            failed=self.failed,
            uncertain=self.uncertain,
        )
        require_share("mature_share", self.mature_share)
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
