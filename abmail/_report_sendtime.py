"""When mails went out, and what choosing the hour was worth, as a part of the report."""

from dataclasses import dataclass
from typing import Literal

from abmail._report_codec import Part, require_interval

__all__ = ["HabitReport", "HourReport", "SendTimeReport"]

_WEEK = 168


@dataclass(frozen=True, slots=True, kw_only=True)
class HourReport(Part):
    """Mails that went out in one hour of the day.

    Attributes:
        hour: By the clocks of the recipients, 0 to 23.
        n: Mails whose window has closed.
        successes: Those with the primary metric inside it, 0 <= successes <= n.
        rate: Rate as if everybody had been mailed then, from the logged propensities; None without mails.
        error: Its standard error.
    """

    hour: int
    n: int
    successes: int
    rate: float | None = None
    error: float | None = None

    def _check(self) -> None:
        if not 0 <= self.hour < 24 or not 0 <= self.successes <= self.n:
            raise ValueError(f"hour {self.hour} has {self.successes} successes in {self.n} mails")


@dataclass(frozen=True, slots=True, kw_only=True)
class HabitReport(Part):
    """When people read.

    Attributes:
        share: Share of the people with these habits, fraction in [0, 1]; None for all of them together.
        activity: (168,) activity by hour of the week, 0 = Monday 00:00, mean 1.
    """

    share: float | None = None
    activity: tuple[float, ...]

    def _check(self) -> None:
        if len(self.activity) != _WEEK:
            raise ValueError(f"activity has {len(self.activity)} hours, must have {_WEEK}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTimeReport(Part):
    """When the mails went out, and what choosing the time was worth.

    Attributes:
        mode: How send times are set.
        between: Allowed hours, such as "08:00-20:00"; empty for all day.
        zone: "recipient" or an IANA name; empty if unknown.
        status: ``proven``, ``worse``, ``not_proven`` or ``too_few``; None where nothing is chosen.
        effect: Open rate at chosen times minus that at the fixed time, a fraction, over all experiments of the account;
            None without an answer.
        ci_lower: Lower end of the interval around ``effect``, which holds however often it is looked at.
        ci_upper: Upper end of it.
        skipped: Mails for which no hour was left before the deadline.
        hours: Hours of the day that are compared.
        habits: When people read, as it was known at the latest plan: all, then the commonest kinds of readers.
        sentence: The finding in English; may be empty.
        sentence_ja: The same in Japanese.
    """

    mode: Literal["fixed", "learn", "test"] = "fixed"
    between: str = ""
    zone: str = ""
    status: Literal["proven", "worse", "not_proven", "too_few"] | None = None
    effect: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    skipped: int = 0
    hours: tuple[HourReport, ...] = ()
    habits: tuple[HabitReport, ...] = ()
    sentence: str = ""
    sentence_ja: str = ""

    def _check(self) -> None:
        require_interval("send_time", self.ci_lower, self.ci_upper)
