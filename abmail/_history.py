"""Past mails as arrays, judged row by row, and turned into clock hours.

What cannot be true is left out and reported with its rows; what is left is sorted by recipient and time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from abmail._calendar import FIRST, LAST, clock, known_zone, local_hour_of_week
from abmail._hash import hash52_array
from abmail._hazard import HORIZON, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]
    Whole = NDArray[Any]  # small integers, as narrow as they may be: a log has tens of millions of rows

__all__ = ["Events", "History", "HistoryCode", "HistoryProblem", "Labels", "Names", "keys_of", "prepare"]

MAX_SENDS: Final = 5_000
"""Mails of one recipient above which the address is no person's: thirteen years of daily mail."""

_BLOCK: Final = 1 << 20
"""Rows that are worked on at once."""

BEHIND_PROXY: Final = 0.1
"""Share of machine opens from which on a recipient's opens say nothing."""

_SALT: Final = "abmail-sendtime"
_CLICKS_PER_OPEN, _CLICK_PRIOR = 0.12, 50.0


class HistoryCode(StrEnum):
    """What can be wrong with a row of the history."""

    BAD_TIME = "bad_time"
    FUTURE = "future"
    OPEN_BEFORE_SEND = "open_before_send"
    MISSING_ZONE = "missing_zone"
    DUPLICATE = "duplicate"
    TOO_MANY = "too_many"


_MESSAGES: Final = {
    HistoryCode.BAD_TIME: "the time of sending is missing or lies outside 1971 to 2099; give seconds since the epoch",
    HistoryCode.FUTURE: "the mail was sent, opened or clicked in the future; check the clock or the zone of the export",
    HistoryCode.OPEN_BEFORE_SEND: "the open or click lies before the send; check that both columns have the same zone",
    HistoryCode.MISSING_ZONE: "the time zone is missing or unknown; give an IANA name, or name a default_zone",
    HistoryCode.DUPLICATE: "the same mail to the same recipient at the same second stands there twice; "
    "its first open is kept once",
    HistoryCode.TOO_MANY: f"the recipient has more than {MAX_SENDS:,} mails, as test and shared addresses have",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryProblem:
    """Rows of a history that were left out for one reason.

    Attributes:
        code: The reason, for programs.
        rows: (n,) indices into the arrays that were given, ascending.
        message: The reason in words, and what to do.
    """

    code: HistoryCode
    rows: Integers
    message: str

    def __str__(self) -> str:
        shown = ", ".join(f"{row:,}" for row in self.rows[:5]) + (", …" if len(self.rows) > 5 else "")
        return f"{len(self.rows):,} row{'s' * (len(self.rows) != 1)} left out ({shown}): {self.message}"


@dataclass(frozen=True, slots=True)
class History:
    """Past mails, one element each; all arrays are equally long.

    Attributes:
        recipient: (n,) ids: text or integers.
        sent_at: (n,) seconds since the epoch, UTC.
        opened_at: (n,) the first open by a person, seconds since the epoch; NaN where never opened.
        campaign: (n,) names or numbers; a campaign's mails share its appeal. None: no appeal is taken out.
        zone: (n,) IANA names, or one for all. None: the default zone.
        segment: (n,) names; a recipient's latest one counts.
        clicked_at: (n,) the first click by a person; NaN where never clicked.
        machine: (n,) whether a machine opened it, so that nobody knows whether a person did.
        randomised: (n,) whether the slot was drawn at random.
    """

    recipient: NDArray[Any]
    sent_at: Floats
    opened_at: Floats
    campaign: NDArray[Any] | None = None
    zone: NDArray[Any] | str | None = None
    segment: NDArray[Any] | None = None
    clicked_at: Floats | None = None
    machine: Booleans | None = None
    randomised: Booleans | None = None

    def __len__(self) -> int:
        return len(self.recipient)

    def only(self, rows: Booleans) -> History:
        """Some of the mails; ``rows`` is (n,)."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        cut: dict[str, Any] = {
            name: column if column is None or isinstance(column, str) else column[rows]
            for name, column in columns.items()
        }
        return History(**cut)

    @classmethod
    def of(
        cls,
        recipient: ArrayLike | Sequence[str],
        sent_at: ArrayLike,
        opened_at: ArrayLike,
        *,
        campaign: ArrayLike | None = None,
        zone: ArrayLike | Sequence[str | None] | str | None = None,
        segment: ArrayLike | None = None,
        clicked_at: ArrayLike | None = None,
        machine: ArrayLike | None = None,
        randomised: ArrayLike | None = None,
    ) -> History:
        """Make arrays of equal length from sequences.

        Raises:
            ValueError: The lengths differ, or a time is no number.
        """
        ids = _labels("recipient", recipient)

        def times(name: str, given: ArrayLike) -> Floats:
            try:
                return _fitting(name, np.asarray(given, dtype=np.float64), len(ids))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} must hold one number a mail, seconds since the epoch: {error}") from None

        def flags(name: str, given: ArrayLike) -> Booleans:
            return _fitting(name, np.asarray(given, dtype=np.bool_), len(ids))

        def labels(name: str, given: Any) -> NDArray[Any]:
            return _fitting(name, _labels(name, given), len(ids))

        return cls(
            recipient=ids,
            sent_at=times("sent_at", sent_at),
            opened_at=times("opened_at", opened_at),
            campaign=None if campaign is None else labels("campaign", campaign),
            zone=zone if zone is None or isinstance(zone, str) else labels("zone", zone),
            segment=None if segment is None else labels("segment", segment),
            clicked_at=None if clicked_at is None else times("clicked_at", clicked_at),
            machine=None if machine is None else flags("machine", machine),
            randomised=None if randomised is None else flags("randomised", randomised),
        )


def _fitting(name: str, array: NDArray[Any], n: int) -> NDArray[Any]:
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, must be ({n},) like recipient")
    return array


def _labels(name: str, given: Any) -> NDArray[Any]:
    """Names or numbers as an array of integers or of text; None and NaN become empty text."""
    array = np.asarray(given)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, must be (n,)")
    if array.dtype.kind in "iuUS":
        return array
    if array.dtype.kind == "O":
        return np.array(["" if x is None or x != x else str(x) for x in array.tolist()], dtype=np.str_)
    if not len(array):
        return array.astype(np.str_)
    raise ValueError(f"{name} is of type {array.dtype}, must be text or integers")


@dataclass(frozen=True, slots=True)
class Labels:
    """Distinct ids in the order of their keys.

    Attributes:
        keys: (n,) hashes, ascending and distinct.
        ids: (n,) the ids.
    """

    keys: Integers
    ids: NDArray[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, ids: NDArray[Any]) -> Integers:
        """(m,) index of each id, -1 where it is unknown."""
        return self.find_keys(keys_of(ids))

    def find_keys(self, keys: Integers) -> Integers:
        """(m,) index of each key, -1 where it is unknown."""
        if not len(self) or not len(keys):
            return np.full(len(keys), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        return np.where(self.keys[at] == keys, at, -1)


@dataclass(frozen=True, slots=True)
class Names:
    """Distinct names and the index of each row's; the first name stands for "none"."""

    names: tuple[str, ...]
    index: Whole


def keys_of(ids: NDArray[Any]) -> Integers:
    """(n,) 52-bit hashes of ids; integers hash as their decimal text.

    Two of a million ids share a key with a chance of one in ten thousand; `prepare` refuses them.
    """
    return hash52_array(_SALT, ids) if len(ids) else np.zeros(0, dtype=np.int64)


def distinct(ids: NDArray[Any]) -> tuple[Labels, Whole]:
    """The distinct ids, and the index of each row's."""
    keys = keys_of(ids)
    found, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return Labels(found, ids[first]), inverse.astype(np.int32)


def names_of(values: NDArray[Any] | None, n: int, known: tuple[str, ...] = ("",)) -> Names:
    """Number the names of the rows, those already known first."""
    if values is None:
        return Names(known, np.zeros(n, dtype=np.int16))
    labels, inverse = distinct(values)
    texts = [str(x.decode() if isinstance(x, bytes) else x) for x in labels.ids.tolist()]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    names = (*known, *(texts[i] for i in order if texts[i] not in known))
    place = {name: index for index, name in enumerate(names)}
    return Names(names, np.array([place[t] for t in texts], dtype=np.int32)[inverse])


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Good mails in the order of recipient and time.

    Attributes:
        people: The recipients, (n,).
        row: (m,) index of the recipient.
        slot: (m,) local hour of the week of the send.
        outcome: (m,) clock hours until the open, 72 for never.
        hour: (m,) local hour of the week of the open, -1 for never.
        scale: (m,) what an hour of exposure is worth: 1 for opens, the clicks per open where only clicks count.
        campaign: (m,) index of the campaign.
        n_campaigns: Number of campaigns; 0 where no appeal is to be taken out.
        randomised: (m,) whether the slot was drawn at random.
        proxied: (n,) recipients whose opens say nothing, because machines open their mail.
        segment: (n,) index of the recipient's segment; -1 where the history names none.
        segments: Their names.
        change: (m,) clock hours after the send at which the clock is put forward or back, 72 for not.
        shift: (m,) hours by which it is.
        clicks_per_open: Of the account.
        counts: Mails that were given, and human opens among the good ones.
    """

    people: Labels
    row: Whole
    slot: Whole
    outcome: Whole
    hour: Whole
    scale: NDArray[np.float32]
    campaign: Whole
    n_campaigns: int
    randomised: Booleans
    proxied: Booleans
    segment: Integers
    segments: tuple[str, ...]
    change: Whole
    shift: Whole
    clicks_per_open: float
    problems: tuple[HistoryProblem, ...]

    def __len__(self) -> int:
        return len(self.row)

    def of_first(self, n: int) -> Events:
        """The mails of the first n recipients."""
        return self._part(slice(0, int(np.searchsorted(self.row, n))))

    def thinned(self, step: int) -> Events:
        """Every ``step``-th mail."""
        return self._part(slice(0, None, step))

    def _part(self, some: slice) -> Events:
        return replace(
            self, row=self.row[some], slot=self.slot[some], outcome=self.outcome[some], hour=self.hour[some],
            scale=self.scale[some], campaign=self.campaign[some], randomised=self.randomised[some],
            change=self.change[some], shift=self.shift[some],
        )  # fmt: skip


def prepare(
    history: History,
    *,
    now: float | None,
    default_zone: str | None,
    segments: tuple[str, ...] = ("",),
    proxied: Labels | None = None,
) -> Events:
    """Judge a history and turn it into clock hours.

    Args:
        history: As it came.
        now: Seconds since the epoch; what is later is in the future. None: not checked.
        default_zone: For rows without a zone; None leaves them out where others have one.
        segments: Names already numbered.
        proxied: Recipients already known to be behind a prefetching proxy.
    """
    people, row = distinct(history.recipient)
    _refuse_shared_keys(history.recipient, people, row)
    zone = _zones(history, default_zone)
    why = _judge(history, row, len(people), zone.index, now)
    keep, first_open, first_click = _in_order(history, row, why)
    behind = _behind_proxy(history, row[keep], keep, people, proxied)
    clicks = np.full(len(keep), np.nan) if first_click is None else first_click
    ratio = _clicks_per_open(first_open, first_click, behind[row[keep]], history, keep)
    blind, dropped = behind[row[keep]], _dropped(history, keep, behind[row[keep]], first_click)
    answered = np.where(blind, clicks, first_open)[~dropped]
    scale = np.where(blind, np.float32(ratio), np.float32(1))[~dropped]
    keep = keep[~dropped]
    clocks = _ClockHours.of(history.sent_at[keep], answered, zone.names, zone.index[keep])
    campaign = names_of(history.campaign, len(history))
    segment = names_of(history.segment, len(history), segments)
    return Events(
        people=people, row=row[keep], slot=clocks.slot, outcome=clocks.outcome, hour=clocks.hour, scale=scale,
        campaign=campaign.index[keep], n_campaigns=0 if history.campaign is None else len(campaign.names),
        randomised=np.zeros(len(keep), np.bool_) if history.randomised is None else history.randomised[keep],
        proxied=behind, segment=_latest(segment.index, row, history, why, len(people)), segments=segment.names,
        change=clocks.change, shift=clocks.shift, clicks_per_open=ratio, problems=tuple(_problems(why)),
    )  # fmt: skip


def _refuse_shared_keys(ids: NDArray[Any], people: Labels, row: Whole) -> None:
    apart = people.ids[row] != ids
    if apart.any():
        at = int(np.argmax(apart))
        raise ValueError(
            f"the ids {ids[at]!r} and {people.ids[row[at]]!r} have the same 52-bit hash; rename one of the recipients"
        )


def _zones(history: History, default: str | None) -> Names:
    """Zones by index; index 0 means "none known", and becomes the default where one may be used."""
    if history.zone is None or isinstance(history.zone, str):
        name = history.zone or default or "UTC"
        clock(name, 1e9, 1e9)  # raises for an unknown name
        return Names(("", name), np.ones(len(history), dtype=np.int16))
    found = names_of(history.zone, len(history))
    good = np.array([bool(name) and known_zone(name) for name in found.names])
    names = found.names
    index = np.where(good[found.index], found.index, 0)
    if default is not None:
        clock(default, 1e9, 1e9)
        names, index = (*names, default), np.where(index == 0, len(names), index)
    return Names(names, index)


_CODES: Final = tuple(HistoryCode)


def _judge(history: History, row: Whole, n_people: int, zone: Whole, now: float | None) -> NDArray[np.int8]:
    """(n,) number of the reason to leave a row out, 0 for none; duplicates are not looked for yet."""
    why = np.zeros(len(history), dtype=np.int8)
    sent = history.sent_at

    def mark(bad: Booleans, code: HistoryCode) -> None:
        why[bad & (why == 0)] = _CODES.index(code) + 1

    with np.errstate(invalid="ignore"):
        mark(~((sent >= FIRST) & (sent < LAST - 400 * 86_400)), HistoryCode.BAD_TIME)
        for answer in (history.opened_at, history.clicked_at):
            if answer is not None:
                mark(answer < sent, HistoryCode.OPEN_BEFORE_SEND)
                mark(np.isinf(answer), HistoryCode.BAD_TIME)
                if now is not None:
                    mark(answer > now, HistoryCode.FUTURE)
        if now is not None:
            mark(sent > now, HistoryCode.FUTURE)
    mark(zone == 0, HistoryCode.MISSING_ZONE)
    busy = np.bincount(row, minlength=n_people) > MAX_SENDS
    if busy.any():
        mark(busy[row], HistoryCode.TOO_MANY)
    return why


def _in_order(history: History, row: Whole, why: NDArray[np.int8]) -> tuple[Integers, Floats, Floats | None]:
    """Good rows by recipient and time, each mail once with its first open and click; marks the others in ``why``."""
    good = np.flatnonzero(why == 0)
    last = np.full(int(row.max(initial=-1)) + 1, -1, dtype=np.int64)
    last[row[good]] = good
    again = np.zeros(len(good), dtype=np.bool_)
    if np.count_nonzero(last >= 0) == len(
        good
    ):  # one mailing: each recipient has one mail, and nothing is to be sorted
        good = last[last >= 0]
    else:
        sent = history.sent_at[good].astype(np.int64)
        key = row[good] * np.int64(1 << 32) + (sent - sent.min(initial=0))
        order = np.argsort(key, kind="stable")
        good, key = good[order], key[order]
        again[1:] = key[1:] == key[:-1]
    if again.any() and history.campaign is not None:
        again[1:] &= history.campaign[good][1:] == history.campaign[good][:-1]
    opened = history.opened_at[good]
    clicked = None if history.clicked_at is None else history.clicked_at[good]
    if again.any():
        starts = np.flatnonzero(~again)
        opened = np.fmin.reduceat(opened, starts)
        clicked = None if clicked is None else np.fmin.reduceat(clicked, starts)
        why[good[again]] = _CODES.index(HistoryCode.DUPLICATE) + 1
        good = good[starts]
    return good, opened, clicked


def _behind_proxy(history: History, row: Whole, keep: Integers, people: Labels, proxied: Labels | None) -> Booleans:
    """(n_people,) whether machines open a recipient's mail."""
    behind = np.zeros(len(people), dtype=np.bool_)
    if proxied is not None and len(proxied):
        at = np.minimum(np.searchsorted(proxied.keys, people.keys), len(proxied) - 1)
        behind = proxied.keys[at] == people.keys
    if history.machine is not None:
        flagged = np.bincount(row, history.machine[keep], minlength=len(people))
        sends = np.bincount(row, minlength=len(people))
        behind |= flagged > BEHIND_PROXY * sends
    return behind


def _clicks_per_open(
    opened: Floats, clicked: Floats | None, blind: Booleans, history: History, keep: Integers
) -> float:
    """Clicks for each open where people open their mail themselves, drawn towards 0.12 (worth 50 opens)."""
    if clicked is None:
        return _CLICKS_PER_OPEN
    seen = ~blind if history.machine is None else ~blind & ~history.machine[keep]
    opens, clicks = np.isfinite(opened[seen]).sum(), np.isfinite(clicked[seen]).sum()
    return float(min((clicks + _CLICK_PRIOR * _CLICKS_PER_OPEN) / (opens + _CLICK_PRIOR), 1.0))


def _dropped(history: History, keep: Integers, blind: Booleans, clicked: Floats | None) -> Booleans:
    """Mails that say nothing: opened by a machine, and no clicks to go by."""
    if clicked is None:
        machine = np.zeros(len(keep), np.bool_) if history.machine is None else history.machine[keep]
        return blind | machine
    return np.zeros(len(keep), np.bool_) if history.machine is None else history.machine[keep] & ~blind


def _latest(index: Whole, row: Whole, history: History, why: NDArray[np.int8], n: int) -> Integers:
    """(n,) segment that stands in each recipient's latest good row; -1 where none does."""
    latest = np.full(n, -1, dtype=np.int64)
    if history.segment is not None:
        good = np.flatnonzero((why == 0) & (index > 0))
        order = good[np.argsort(history.sent_at[good], kind="stable")]
        latest[row[order]] = index[order]
    return latest


def _problems(why: NDArray[np.int8]) -> Iterator[HistoryProblem]:
    for number, code in enumerate(_CODES, start=1):
        rows = np.flatnonzero(why == number)
        if len(rows):
            yield HistoryProblem(code=code, rows=rows, message=_MESSAGES[code])


@dataclass(frozen=True, slots=True)
class _ClockHours:
    """Slot, outcome, hour of the open, and when and how far the clock moves within the horizon; each (n,) int16."""

    slot: Whole
    outcome: Whole
    hour: Whole
    change: Whole
    shift: Whole

    @classmethod
    def of(cls, sent: Floats, answered: Floats, zones: tuple[str, ...], zone: Whole) -> _ClockHours:
        """From moments in seconds since the epoch, and the index of each mail's zone."""
        found = cls(*(np.empty(len(sent), dtype=np.int16) for _ in range(5)))
        order = np.argsort(zone, kind="stable") if zone.min(initial=0) < zone.max(initial=0) else None
        bounds = np.searchsorted(zone if order is None else zone[order], np.arange(len(zones) + 1))
        for number, name in enumerate(zones):
            for begin in range(int(bounds[number]), int(bounds[number + 1]), _BLOCK):
                some = slice(begin, min(begin + _BLOCK, int(bounds[number + 1])))
                found._fill(some if order is None else order[some], sent, answered, name)
        return found

    def _fill(self, rows: slice | Whole, sent: Floats, answered: Floats, zone: str) -> None:
        begin, answer = sent[rows], answered[rows]
        wall = clock(zone, float(begin.min()), float(begin.max()))
        offset = wall.offset(begin)
        first = np.floor((begin + offset) / 3600)
        with np.errstate(invalid="ignore"):
            gap = np.nan_to_num(np.floor((answer + offset) / 3600) - first, nan=HORIZON, posinf=HORIZON)
        age = outcome(np.minimum(gap, HORIZON).astype(np.int64))
        hour, seen = np.full(len(begin), -1), np.flatnonzero(age < HORIZON)
        hour[seen] = local_hour_of_week(answer[seen], wall.offset(answer[seen]))
        self.slot[rows], self.outcome[rows], self.hour[rows] = local_hour_of_week(begin, offset), age, hour
        self.change[rows], self.shift[rows] = age, 0
        changes = wall.changes
        if ((changes > begin.min()) & (changes <= begin.max() + 3600 * HORIZON)).any():
            moves, by = wall.next_change(begin)
            until = np.minimum(np.ceil((moves - begin) / 3600), HORIZON).astype(np.int64)
            self.change[rows] = np.minimum(until, age)
            self.shift[rows] = np.where(until < age, np.rint(by / 3600), 0)
