"""What the account knows of when people read, and that in words: the send-time model beside the store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np

from abmail.sendtime import History, SendTime, Why, infer_shifts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail.recipient import Recipient
    from abmail.store import PastMail

    Floats = NDArray[np.float64]

__all__ = [
    "clock_hour",
    "habits_of",
    "history_of",
    "joined",
    "model_page",
    "model_values",
    "why_page",
    "why_values",
    "zones_elsewhere",
]

Language = Literal["en", "ja"]

_DAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    "ja": ("月", "火", "水", "木", "金", "土", "日"),
}
_SHADES: Final = " ·░▒▓█"
_TOP_HOURS: Final = 3
_KINDS: Final = 4


# -- history ---------------------------------------------------------------------------------------------------------


def history_of(mails: Iterable[PastMail], *, by: str | None = None) -> History:
    """The arrays that `SendTime.fit` reads, from mails of the store.

    Args:
        mails: Finished mails.
        by: Attribute of the recipients that is taken for their segment.
    """
    rows = list(mails)
    return History.of(
        np.array([mail.recipient for mail in rows], dtype=np.str_),
        [mail.sent_at.timestamp() for mail in rows],
        [_seconds(mail.opened_at) for mail in rows],
        campaign=np.array([mail.experiment for mail in rows], dtype=np.str_),
        zone=np.array([mail.zone for mail in rows], dtype=np.str_),
        segment=None if by is None else np.array([str(mail.attributes.get(by, "")) for mail in rows], dtype=np.str_),
        clicked_at=[_seconds(mail.clicked_at) for mail in rows],
        machine=[mail.machine for mail in rows],
    )


def _seconds(at: Any) -> float:
    return math.nan if at is None else float(at.timestamp())


def joined(parts: Sequence[History], *, zone: str, ids: Mapping[str, str]) -> History:
    """Histories one after another; what a part lacks is filled in, and addresses become the ids of the account.

    Args:
        parts: At least one.
        zone: IANA name for parts without zones.
        ids: Address -> id of the account's recipients.
    """

    def column(name: str, blank: object, kind: Any) -> NDArray[Any]:
        own = [(part, getattr(part, name)) for part in parts]
        whole = [np.full(len(p), blank if x is None else x) if x is None or isinstance(x, str) else x for p, x in own]
        return np.concatenate([np.asarray(each, dtype=kind) for each in whole])

    recipient = [ids.get(str(one), str(one)) for part in parts for one in part.recipient.tolist()]
    campaigns = [
        np.full(len(part), f"history {i}") if part.campaign is None else np.asarray(part.campaign, dtype=np.str_)
        for i, part in enumerate(parts)
    ]
    return History.of(
        np.array(recipient, dtype=np.str_), column("sent_at", math.nan, np.float64),
        column("opened_at", math.nan, np.float64), campaign=np.concatenate(campaigns),
        zone=column("zone", zone, np.str_), segment=column("segment", "", np.str_),
        clicked_at=column("clicked_at", math.nan, np.float64), machine=column("machine", False, np.bool_),
    )  # fmt: skip


def zones_elsewhere(
    history: History, recipients: Sequence[Recipient], *, clock: str, now: datetime, at_least: float
) -> list[tuple[Recipient, str, float]]:
    """Recipients who by their hours of opening live in another zone than the one in which their mails were counted.

    Habits are learned from everybody else, by their own clocks, or are those of the shipped profiles where nobody is
    left: people who are abroad must not pass for a kind of night owl.

    Args:
        history: Finished mails.
        recipients: Of unknown zone; who was never mailed is passed over.
        clock: IANA name of the zone in which their mails were counted.
        now: What the offset of ``clock`` is taken at.
        at_least: Probability from which it is told, fraction in (0, 1].

    Returns:
        Each with a zone of a fixed offset, by its IANA name, at least two hours away, and the probability that this one
        is right to an hour: a reader an hour east cannot be told from one who begins an hour earlier.
    """
    unknown = np.isin(history.recipient, np.array([one.id for one in recipients], dtype=np.str_))
    times: dict[str, Any] = {"now": now.timestamp(), "default_zone": clock}
    others = SendTime.fit(history.only(~unknown), **times)
    model = others.update(history.only(unknown), **times)
    rows = model.people.find(np.array([one.id for one in recipients], dtype=np.str_))
    known = np.flatnonzero(rows >= 0)
    found = infer_shifts(model.memory.take(rows[known]), others.population.classes)
    near = found.posterior + np.roll(found.posterior, 1, axis=1) + np.roll(found.posterior, -1, axis=1)
    chances = near[np.arange(len(known)), np.searchsorted(found.candidates, found.hours)]
    base = now.astimezone(ZoneInfo(clock)).utcoffset() or timedelta()
    told = []
    for place, shift, chance in zip(known.tolist(), found.hours.tolist(), chances.tolist(), strict=True):
        east = round((base + timedelta(hours=shift)) / timedelta(hours=1))
        if abs(shift) > 1 and chance >= at_least:
            told.append((recipients[place], f"Etc/GMT{-((east + 11) % 24 - 11):+d}", min(chance, 1.0)))
    return told


# -- pages -----------------------------------------------------------------------------------------------------------


def clock_hour(slot: int, language: Language = "en") -> str:
    """A slot as people say it: ``Tue 09:00``."""
    return f"{_DAYS[language][slot // 24]} {slot % 24:02d}:00"


def model_values(model: SendTime) -> dict[str, Any]:
    """The model's figures, JSON-able: activity by hour of the week, of the account and of each class."""
    classes = model.population.classes
    return {
        "format_version": 1,
        "recipients": len(model),
        "opens": round(float(model.population.opens), 1),
        "activity": np.round(model.activity, 4).tolist(),
        "best_slots": _best(model.activity),
        "segments": list(model.segments),
        "classes": [
            {"shares": np.round(classes.shares[:, k], 4).tolist(), "activity": np.round(shape, 4).tolist()}
            for k, shape in enumerate(classes.shapes)
        ],
    }


def habits_of(model: SendTime) -> dict[str, Any]:
    """When people read, as a report draws it: activity by hour of the week, of the account and of its commonest kinds.

    Returns:
        JSON-able: ``recipients``, ``opens``, ``activity`` (168,) with mean 1, and ``kinds`` with share and activity.
    """
    classes = model.population.classes
    present = np.bincount(model.segment, minlength=len(model.segments)) if len(model) else np.ones(len(model.segments))
    shares = present @ classes.shares / present.sum()
    commonest = np.argsort(-shares, kind="stable")[:_KINDS]
    return {
        "recipients": len(model),
        "opens": round(float(model.population.opens), 1),
        "activity": np.round(model.activity, 3).tolist(),
        "kinds": [
            {"share": round(float(shares[k]), 3), "activity": np.round(classes.shapes[k], 3).tolist()}
            for k in commonest
        ],
    }


def model_page(model: SendTime, language: Language = "en") -> str:
    """What the account reads when: a heat map for the terminal, and the commonest kinds of readers."""
    words, values = _WORDS[language], model_values(model)
    hours = words["and"].join(clock_hour(slot, language) for slot in values["best_slots"])
    shares = model.population.classes.shares[0]
    lines = [
        words["known"].format(recipients=f"{len(model):,}", opens=f"{model.population.opens:,.0f}"),
        words["busiest"].format(hours=hours),
        "",
        words["account"],
        *_heat(model.activity, language),
        "",
        words["kinds"],
    ]
    for k in np.argsort(-shares)[:_TOP_HOURS].tolist():
        peak = words["and"].join(clock_hour(slot, language) for slot in _best(model.population.classes.shapes[k]))
        lines.append(words["kind"].format(share=f"{shares[k]:.0%}", hours=peak))
    return "\n".join(lines) + "\n"


def _heat(activity: Floats, language: Language) -> list[str]:
    """One line a day; a darker block is a busier hour."""
    week = activity.reshape(7, 24)
    level = np.clip(np.floor(week / max(float(week.max()), 1e-12) * (len(_SHADES) - 0.01)), 0, len(_SHADES) - 1)
    ruler = "".join(f"{hour:<6d}" for hour in range(0, 24, 3))
    width = 2 if language == "ja" else 3
    lines = [f"  {'':{width}}  {ruler}".rstrip()]
    for day, row in zip(_DAYS[language], level.astype(int), strict=True):
        lines.append(f"  {day}  " + "".join(_SHADES[i] * 2 for i in row.tolist()).rstrip())
    return lines


def _best(activity: Floats) -> list[int]:
    """The busiest hours of the week, no two of them neighbours."""
    found: list[int] = []
    for slot in np.argsort(-activity, kind="stable").tolist():
        if all(min((slot - other) % 168, (other - slot) % 168) > 1 for other in found):
            found.append(slot)
        if len(found) == _TOP_HOURS:
            break
    return found


def why_values(why: Why) -> dict[str, Any]:
    """The figures behind one recipient's hour, JSON-able."""
    return {
        "format_version": 1,
        "recipient": str(why.recipient),
        "known": why.known,
        "segment": why.segment,
        "decided_by": why.decided_by,
        "mails": round(why.sends, 2),
        "opens": round(why.opens, 2),
        "best": why.best,
        "chance": round(why.chance, 4),
        "fixed": why.fixed,
        "chance_fixed": None if why.chance_fixed is None else round(why.chance_fixed, 4),
        "activity": np.round(why.activity, 4).tolist(),
    }


def why_page(why: Why, language: Language = "en") -> str:
    """Why this hour, for one recipient, in words and with a heat map."""
    words = _WORDS[language]
    lines = [
        words["best"].format(hour=clock_hour(why.best, language), chance=f"{why.chance:.1%}"),
        words[f"by_{why.decided_by}"].format(mails=f"{why.sends:.0f}", opens=f"{why.opens:.0f}", segment=why.segment),
    ]
    if why.fixed is not None and why.chance_fixed is not None:
        fixed = words["fixed"].format(hour=clock_hour(why.fixed, language), chance=f"{why.chance_fixed:.1%}")
        lines.append(fixed)
    if why.opens >= 1:
        by_hour = why.opens_by_hour.sum(axis=0)
        hour = int(by_hour.argmax())
        lines.append(
            words["opened"].format(hour=f"{hour:02d}{words['o_clock']}", share=f"{by_hour[hour] / by_hour.sum():.0%}")
        )
    return "\n".join([*lines, "", words["person"], *_heat(why.activity, language)]) + "\n"


_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "known": "{recipients} recipients are known, by {opens} opens of theirs. Hours are on the reader's clock.",
        "busiest": "Busiest: {hours}.",
        "account": "When people read (a darker block is a busier hour):",
        "kinds": "The commonest kinds of readers:",
        "kind": "  {share} read most at {hours}",
        "and": ", ",
        "o_clock": ":00",
        "best": "Best hour: {hour}. Of mails sent then, about {chance} should be opened within 72 hours.",
        "fixed": "Sent at {hour}, about {chance} should be. Both are forecasts; the control group shows the gain.",
        "by_person": "Why: this recipient's own habits ({opens} opens among {mails} mails that still count).",
        "by_segment": "Why: too few own opens yet, so this is how people of the segment '{segment}' read.",
        "by_prior": "Why: too few own opens yet, so this is how people of this account read.",
        "opened": "Opens came most often from {hour} on, within the hour ({share} of them).",
        "person": "When this recipient is expected to read (a darker block is a busier hour):",
    },
    "ja": {
        "known": "{recipients}人の受信者について、{opens}件の開封から学習しています。時刻は受信者の現地時間です。",
        "busiest": "最もよく読まれる時間：{hours}。",
        "account": "読まれる時間（濃いほどよく読まれます）：",
        "kinds": "多い読み方：",
        "kind": "  {share} は {hours} によく読みます",
        "and": "、",
        "o_clock": "時",
        "best": "最適な時間：{hour}。この時間に送ると、72時間以内に約{chance}が開封される見込みです。",
        "fixed": "{hour} に送る場合は約{chance}の見込みです。どちらも予測で、実際の効果は比較グループが示します。",
        "by_person": "理由：本人の習慣（現在も考慮しているメール{mails}通のうち開封{opens}件）。",
        "by_segment": "理由：本人の開封がまだ少ないため、セグメント「{segment}」の人たちの読み方をもとにしています。",
        "by_prior": "理由：本人の開封がまだ少ないため、このアカウント全体の読み方をもとにしています。",
        "opened": "開封が最も多いのは{hour}台です（全体の{share}）。",
        "person": "この受信者が読むと予想される時間（濃いほどよく読まれます）：",
    },
}
