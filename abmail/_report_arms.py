"""What was sent and what came of it, as parts of the report: waves, variants, factors and segments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from abmail._report_codec import (
    Part,
    require_alpha,
    require_counts,
    require_interval,
    require_share,
    require_successes,
)

__all__ = [
    "ArmReport",
    "EpochReport",
    "FactorReport",
    "LevelReport",
    "SegmentArmReport",
    "SegmentReport",
    "SegmentSummary",
]

_LARGEST_SUM_OF_SHARES = 1.0 + 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport(Part):
    """One wave: the sends between two re-weightings.

    Attributes:
        n: Sends in the wave.
        number: Its number, counted from 1.
        opened_at: When its weights were fixed, aware UTC datetime.
        reason: Why it was opened, in English; may be empty.
        reason_ja: The same in Japanese; empty where there is none.
        weights: Variant's name -> share of the wave, fraction in [0, 1].
    """

    n: int
    number: int
    opened_at: datetime
    reason: str = ""
    reason_ja: str = ""
    weights: Mapping[str, float]

    def _check(self) -> None:
        require_counts(f"wave {self.number}", n=self.n)
        for arm, weight in self.weights.items():
            require_share(f"weight of {arm!r} in wave {self.number}", weight)
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
        rate: successes / (n - untracked), or None without sends.
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
        untracked: Sends of which no open or click can be known, 0 <= untracked <= n.
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
    untracked: int = 0

    def _check(self) -> None:
        require_successes(self.name, self.n - self.untracked, self.successes)
        require_counts(
            self.name,
            untracked=self.untracked,
            human_opens=self.human_opens,
            clicks=self.clicks,
            unsubscribes=self.unsubscribes,
            complaints=self.complaints,
            bounces=self.bounces,
        )
        for key in ("rate", "p_value", "p_best", "weight"):
            require_share(f"{key} of {self.name}", getattr(self, key))
        require_interval(self.name, self.ci_lower, self.ci_upper)


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
        require_successes(self.level, self.n, self.successes)
        require_interval(self.level, self.ci_lower, self.ci_upper)


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
        require_successes(self.name, self.n, self.successes)
        require_interval(self.name, self.ci_lower, self.ci_upper)
        require_interval(f"{self.name} (shrunk)", self.shrunk_lower, self.shrunk_upper)


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
        require_share("p_value of the segments", self.p_value)
        require_alpha(self.alpha)
        require_counts(f"segments by {self.by}", n_segments=self.n_segments, left_out=self.left_out)
