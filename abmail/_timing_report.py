"""What the report says of the hours of sending: what choosing is worth, which are compared, and when people read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from abmail._evidence import Evidence
from abmail.report import HabitReport, HourReport, SendTimeReport
from abmail.sendtime import Uplift, UpliftStatus, hour_curve, uplift
from abmail.spec import Experiment
from abmail.stats import Comparison, Counts, compare
from abmail.store import Release, SlotMail

__all__ = ["account_uplift", "plain_report", "timing_report"]

Language = Literal["en", "ja"]

_KINDS: Final = 3
_POINT: Final = 0.01


def plain_report(experiment: Experiment) -> SendTimeReport:
    """What a definition says of the hours of sending."""
    settings = experiment.send_time
    return SendTimeReport(
        mode=settings.mode, between="" if settings.between is None else str(settings.between), zone=settings.zone
    )


def timing_report(
    evidence: Evidence, releases: Sequence[Release], own: Sequence[SlotMail], gain: Uplift | None
) -> SendTimeReport:
    """What is known of the hours of sending.

    Args:
        evidence: Of the experiment.
        releases: Its plans.
        own: Its mails that went out at moments of their own.
        gain: Chosen hours against the fixed one, over the account; None where hours are not chosen.
    """
    experiment = evidence.experiment
    compared = _Hours.of(own, evidence, releases) if experiment.send_time.mode == "test" else None
    known = gain if gain is not None and gain.status is not UpliftStatus.TOO_FEW else None
    return replace(
        plain_report(experiment),
        status=None if gain is None else gain.status.value,
        effect=None if known is None else known.effect,
        ci_lower=None if known is None else known.watched_lower,
        ci_upper=None if known is None else known.watched_upper,
        skipped=sum(release.skipped for release in releases),
        hours=() if compared is None else compared.rows(),
        habits=_habits(releases[-1].habits) if releases else (),
        sentence=_sentence(experiment, gain, compared, "en"),
        sentence_ja=_sentence(experiment, gain, compared, "ja"),
    )


def _habits(known: Mapping[str, Any]) -> tuple[HabitReport, ...]:
    """When people read, as `abmail._habits.habits_of` notes it: all of them, and the commonest kinds."""
    kinds = ({"activity": known["activity"], "share": None}, *known["kinds"][:_KINDS])
    return tuple(HabitReport(share=kind["share"], activity=tuple(kind["activity"])) for kind in kinds)


# -- what choosing is worth ------------------------------------------------------------------------------------------


def account_uplift(
    mails: Sequence[SlotMail], *, rates: Callable[[datetime], Mapping[str, float]], open_for: timedelta
) -> Uplift | None:
    """Chosen hours against the fixed one over all experiments that choose hours; None where none has done so.

    Args:
        mails: Of all experiments, whose opens can be counted in full.
        rates: Gives each recipient's open rate in the mails before a moment.
        open_for: How long after the send an open counts.
    """
    unchosen = {_plan(mail) for mail in mails if mail.arm == "control" and not mail.control}  # all at the fixed hour
    chosen = [mail for mail in mails if mail.arm != "test" and _plan(mail) not in unchosen]
    if not any(not mail.control for mail in chosen):
        return None
    sides: dict[str, set[bool]] = {}
    for mail in chosen:
        sides.setdefault(mail.recipient, set()).add(mail.control)
    kept = [mail for mail in chosen if len(sides[mail.recipient]) == 1]  # the share of the control may have changed
    before = rates(min(mail.sent_at for mail in chosen))
    return uplift(
        np.array([mail.recipient for mail in kept], dtype=np.str_),
        np.array([_plan(mail) for mail in kept], dtype=np.str_),
        np.array([mail.control for mail in kept], dtype=np.bool_),
        np.array([_within(mail.opened_at, mail, open_for) for mail in kept], dtype=np.bool_),
        before=np.array([before.get(mail.recipient, np.nan) for mail in kept], dtype=np.float64),
    )


def _plan(mail: SlotMail) -> str:
    return f"{mail.experiment} {mail.release}"


def _within(at: datetime | None, mail: SlotMail, window: timedelta) -> bool:
    return at is not None and at - mail.sent_at <= window


# -- hours that are compared -----------------------------------------------------------------------------------------


class _Hours:
    """Mails of a test of hours whose window has closed."""

    def __init__(
        self, mails: Sequence[SlotMail], answered: Sequence[bool], weights: Mapping[int, Mapping[int, float]]
    ) -> None:
        self._weights = weights
        self._hour = np.array([mail.hour % 24 for mail in mails], dtype=np.int64)
        self._release = np.array([mail.release for mail in mails], dtype=np.int64)
        self._ahead = np.array([mail.ahead for mail in mails], dtype=np.int64)
        self._chance = np.array([mail.propensity or 0.0 for mail in mails], dtype=np.float64)
        self._answered = np.array(answered, dtype=np.int64)
        self.hours = np.unique(self._hour)

    @classmethod
    def of(cls, mails: Sequence[SlotMail], evidence: Evidence, releases: Sequence[Release]) -> _Hours:
        """Those of an experiment."""
        window = evidence.experiment.metrics.window
        closed = [m for m in mails if m.arm == "test" and m.propensity and m.sent_at + window <= evidence.now]
        opened = evidence.experiment.metrics.primary == "opened"
        answered = [_within(m.opened_at if opened else m.clicked_at, m, window) for m in closed]
        return cls(closed, answered, {release.number: release.weights for release in releases})

    def rows(self) -> tuple[HourReport, ...]:
        """Each hour with its rate."""
        curve = hour_curve(self._hour, self._chance, self._answered)
        place = np.searchsorted(self.hours, self._hour)
        n, successes = np.bincount(place), np.bincount(place, self._answered).astype(int)
        return tuple(
            HourReport(
                hour=int(hour), n=int(n[i]), successes=int(successes[i]), rate=float(curve.rate[i]),
                error=float(curve.error[i]),
            )
            for i, hour in enumerate(self.hours)
        )  # fmt: skip

    def comparison(self, control: int | None) -> Comparison | None:
        """The hours as variants, valid at any number of looks; None where there is nothing to compare.

        The strata are the people of one plan who could get the same hours: within them chance alone decided.

        Args:
            control: The hour that the others are compared with, or the first one.
        """
        if len(self.hours) < 2:
            return None
        strata = self._strata()
        shape = (int(strata.max()) + 1, len(self.hours))
        n, successes = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        place = np.searchsorted(self.hours, self._hour)
        np.add.at(n, (strata, place), 1)
        np.add.at(successes, (strata, place), self._answered)
        base = int(np.argmax(self.hours == control)) if control in self.hours else 0
        return compare(
            Counts(n, successes), method="anytime", control=base, names=[f"{hour:02d}:00" for hour in self.hours]
        )

    def _strata(self) -> NDArray[np.int64]:
        """Plan, clock, and the share of the hours that a recipient could get: a chance is an hour's share over that.

        The clock is in it, as soon after a plan those further east can get other hours with the same share in all.
        """
        share = np.array(
            [self._weights[r][h] for r, h in zip(self._release.tolist(), self._hour.tolist(), strict=True)]
        )
        key = np.stack([self._release, self._ahead, np.round(share / self._chance, 9)], axis=1)
        return np.asarray(np.unique(key, axis=0, return_inverse=True)[1]).ravel()


# -- in words --------------------------------------------------------------------------------------------------------


def _sentence(experiment: Experiment, gain: Uplift | None, compared: _Hours | None, language: Language) -> str:
    if compared is not None:
        home = experiment.send_time.home
        found = compared.comparison(None if home is None else home.hour)
        if found is None:
            return _WORDS[language]["hours_young"]
        return _WORDS[language]["hours"].format(
            sentence=found.sentence if language == "en" else found.sentence_in("ja")
        )
    if gain is None:
        return ""
    words = _WORDS[language]
    people = {"people": f"{gain.people[0]:,}", "control": f"{gain.people[1]:,}"}
    if gain.status is UpliftStatus.TOO_FEW:
        return words["too_few"].format(**people)
    digits = 2 if max(abs(gain.watched_lower), abs(gain.watched_upper)) < _POINT else 1
    figures = {
        "chosen": f"{100 * (gain.rate + gain.effect):.1f}%", "fixed": f"{100 * gain.rate:.1f}%",
        "detectable": f"{100 * gain.detectable:.{digits}f}",
    }  # fmt: skip
    return words[gain.status.value].format(**people, **figures)


_WORDS: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "too_few": "What choosing the hour brings is not proven yet: {people} people with a chosen hour and {control} "
        "with the fixed one have had their 72 hours; each group needs 30 people and 20 opens at least",
        "not_proven": "What choosing the hour brings is not proven yet: {chosen} opened at chosen hours, {fixed} of "
        "the control group at the fixed hour ({people} and {control} people); this many people would show a gain of "
        "{detectable} points in 8 of 10 cases",
        "proven": "Choosing the hour pays: {chosen} opened at chosen hours, {fixed} of the control group at the fixed "
        "hour ({people} and {control} people), more than chance explains",
        "worse": "Choosing the hour costs opens here: {chosen} at chosen hours, {fixed} of the control group at the "
        "fixed hour ({people} and {control} people). Write mode: fixed until the cause is found",
        "hours": "Hours of sending: {sentence}",
        "hours_young": "The hours of sending cannot be compared yet: the mails of two hours must have had their window",
    },
    "ja": {
        "too_few": "時刻を選ぶ効果はまだ確認できていません。72時間を過ぎた受信者は、"
        "時刻を選んだ側が{people}人、固定時刻の側が{control}人です。それぞれ30人以上、開封20件以上が必要です",
        "not_proven": "時刻を選ぶ効果はまだ確認できていません。開封率は、時刻を選んだ側が{chosen}、"
        "固定時刻の対照グループが{fixed}です（{people}人と{control}人）。"
        "この人数なら、{detectable}ポイントの差を10回中8回検出できます",
        "proven": "時刻を選ぶ効果が確認できました。開封率は、時刻を選んだ側が{chosen}、"
        "固定時刻の対照グループが{fixed}です（{people}人と{control}人）。偶然では説明できない差です",
        "worse": "時刻を選んだほうが開封率が下がっています。時刻を選んだ側が{chosen}、"
        "固定時刻の対照グループが{fixed}です（{people}人と{control}人）。"
        "原因がわかるまで mode: fixed にしてください",
        "hours": "送信時刻の比較：{sentence}",
        "hours_young": "送信時刻はまだ比較できません。2つ以上の時刻で、計測期間の終わったメールが必要です",
    },
}
