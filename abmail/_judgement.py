"""What a history can teach, and what it cannot: said before anybody builds on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._hazard import COLUMNS, HORIZON, WEEK, default_ageing, exposure_table, tally
from abmail._history import History, HistoryProblem, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["HistoryGap", "HistoryReport", "judge_history"]

_ALWAYS: Final = 0.9
_ENOUGH_OPENS: Final = 2_000
_HARDLY: Final = 0.1


class HistoryGap(StrEnum):
    """Something that a history cannot tell."""

    ONE_HOUR = "one_hour"
    NO_WEEKEND = "no_weekend"
    FEW_OPENS = "few_opens"
    NO_CAMPAIGNS = "no_campaigns"
    ONE_CAMPAIGN = "one_campaign"
    MACHINES = "machines"
    NO_OPENS = "no_opens"


_SAID: Final = {
    HistoryGap.ONE_HOUR: "nearly all mail went out at one hour of the day ({hour:02d}:00 for {share:.0%}). When people "
    "read can be learned from it, but not whether mail sent at that hour is buried faster than at others: only some "
    "mails at random hours show that",
    HistoryGap.NO_WEEKEND: "hardly any mail lay unopened at weekends, so that habits of weekends are those of the "
    "profiles",
    HistoryGap.FEW_OPENS: "there are {opens:,} opens by people; under 2,000 the shipped profiles, which come from a "
    "simulation, weigh more than the account's own people",
    HistoryGap.NO_CAMPAIGNS: "no column names the campaign, so that a good subject at an unusual hour passes for a "
    "good hour",
    HistoryGap.ONE_CAMPAIGN: "all mails are of one campaign",
    HistoryGap.MACHINES: "machines open the mail of {machines:.0%} of the recipients; for them only clicks count",
    HistoryGap.NO_OPENS: "there is no open by a person, so that nothing can be learned",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryReport:
    """What a history holds.

    Attributes:
        mails: Good rows.
        recipients: People with a good row.
        opens: Opens (clicks, for people behind a proxy) within 72 hours.
        by_hour: (24,) share of the mails by local hour of sending.
        opened_by_hour: (24,) share of the opens by the hour in which they happened.
        exposure: (168,) how long mails lay unopened in each hour of the week, fresh ones counting more; mean 1.
        gaps: What it cannot tell.
        messages: The same in words.
        problems: Rows that cannot be used.
    """

    mails: int
    recipients: int
    opens: int
    by_hour: Floats
    opened_by_hour: Floats
    exposure: Floats
    gaps: tuple[HistoryGap, ...]
    messages: tuple[str, ...]
    problems: tuple[HistoryProblem, ...]


def judge_history(history: History, *, now: float | None = None, default_zone: str | None = None) -> HistoryReport:
    """Say what a history can teach and what it cannot.

    Args:
        history: Past mails.
        now: Seconds since the epoch; later times are reported.
        default_zone: For rows without a zone, as in `SendTime.fit`.
    """
    events = prepare(history, now=now, default_zone=default_zone)
    opened = events.hour >= 0
    n, opens = len(events), int(opened.sum())
    by_hour = tally(events.slot % 24, np.ones(n), 24) / max(n, 1)
    opened_by_hour = tally(events.hour[opened] % 24, np.ones(opens), 24) / max(opens, 1)
    counts = tally(events.slot * COLUMNS + np.minimum(events.outcome, HORIZON), np.ones(n), WEEK * COLUMNS)
    exposure = counts @ exposure_table(default_ageing()).reshape(-1, WEEK)
    exposure = exposure / exposure.mean() if n else np.ones(WEEK)
    machines = float(events.proxied.mean()) if len(events.people) else 0.0
    gaps = [] if opens else [HistoryGap.NO_OPENS]
    if n and by_hour.max() >= _ALWAYS:
        gaps.append(HistoryGap.ONE_HOUR)
    if n and exposure[120:].mean() < _HARDLY * exposure[:120].mean():
        gaps.append(HistoryGap.NO_WEEKEND)
    if 0 < opens < _ENOUGH_OPENS:
        gaps.append(HistoryGap.FEW_OPENS)
    if history.campaign is None:
        gaps.append(HistoryGap.NO_CAMPAIGNS)
    elif n and len(np.unique(events.campaign)) == 1:
        gaps.append(HistoryGap.ONE_CAMPAIGN)
    if machines > 0:
        gaps.append(HistoryGap.MACHINES)
    figures = {
        "hour": int(by_hour.argmax()), "share": float(by_hour.max()), "opens": opens, "machines": machines,
    }  # fmt: skip
    return HistoryReport(
        mails=n, recipients=len(np.unique(events.row)), opens=opens, by_hour=by_hour, opened_by_hour=opened_by_hour,
        exposure=exposure, gaps=tuple(gaps), messages=tuple(_SAID[gap].format(**figures) for gap in gaps),
        problems=events.problems,
    )  # fmt: skip
