"""Judges new events among those around them, and stored ones anew; only `abmail.store` imports this module.

A new event can change the verdicts of others: of its mail, of its network's clicks within a day, of its company's
mails within an hour. Just these are looked up and judged with it, so that after any order of events each verdict is
what judging the whole experiment at once would give.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from abmail import _tables as t
from abmail._company import company_of
from abmail._event_types import EventType, Verdict
from abmail._verdict_around import (
    DAY_SECONDS,
    LEAST_COMPANIES,
    NEIGHBOURS,
    NETWORK_SECONDS,
    SIBLING_SECONDS,
    SIBLINGS,
    SWEEP_SECONDS,
    Delivery,
    Passing,
    company_reasons,
    follow_up,
    hasty_networks,
    is_phone,
    is_soon,
    is_swift,
    nearest_reasons,
    network_reasons,
    passings,
    plain_clicks,
)
from abmail._verdict_reasons import COMPANY, NEAREST, NO_REASON, RULES_VERSION, Reason, given_reasons
from abmail._verdict_rules import BURST_SECONDS, NETWORK, READING_SECONDS, Judged, Sighting, judge_mail, near
from abmail.events import RequestFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["Seen", "changed_verdicts", "judge_all", "judge_around", "seen_of", "write_verdicts"]

_CHUNK: Final = 5_000
_PLAIN: Final = int(Reason.KNOWN_MACHINE | Reason.ECHO)
_HASTY: Final = int(Reason.NETWORK_HASTY)
_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_e: sa.BindParameter[str] = sa.bindparam("e")
_first: sa.BindParameter[Any] = sa.bindparam("first", type_=t.UTCDateTime)
_last: sa.BindParameter[Any] = sa.bindparam("last", type_=t.UTCDateTime)
_JUDGED: Final = (
    EventType.OPENED, EventType.CLICKED, EventType.REPLIED, EventType.CONVERTED, EventType.DELIVERED,
)  # fmt: skip
_SEEN = (
    sa.select(
        t.events.c.key, t.events.c.message, t.events.c.type, t.events.c.at, t.events.c.verdict, t.events.c.reasons,
        t.events.c.rules, t.events.c.body, t.messages.c.experiment, t.messages.c.attempted_at, t.messages.c.links,
        t.recipients.c.domain,
    )
    .select_from(t.events.join(t.messages, t.messages.c.id == t.events.c.message).join(t.recipients))
    .where(t.events.c.type.in_([kind.value for kind in _JUDGED]))
)  # fmt: skip
_OF_MAILS = _SEEN.where(t.events.c.message.in_(_ids))
_OF_EXPERIMENT = _SEEN.where(t.messages.c.experiment == _e)
_OF_NETWORKS = _SEEN.where(
    t.events.c.network.in_(_ids), t.events.c.at.between(_first, _last), t.messages.c.experiment == _e
)
_CLICKS_OF_NETWORKS = (
    sa.select(
        t.events.c.network, t.events.c.at, t.events.c.key, t.events.c.message, t.events.c.reasons,
        t.messages.c.attempted_at, t.recipients.c.domain,
    )
    .select_from(t.events.join(t.messages, t.messages.c.id == t.events.c.message).join(t.recipients))
    .where(
        t.events.c.network.in_(_ids), t.events.c.at.between(_first, _last), t.messages.c.experiment == _e,
        t.events.c.type == EventType.CLICKED.value,
    )
    .order_by(t.events.c.at, t.events.c.key)
)  # fmt: skip
_CLICKS_OF_MAILS = _OF_MAILS.where(t.events.c.type == EventType.CLICKED.value)
_DELIVERED = (
    sa.select(t.messages.c.id, t.messages.c.attempted_at)
    .select_from(t.messages.join(t.recipients))
    .where(t.recipients.c.domain == sa.bindparam("d"), t.messages.c.experiment == _e)
    .where(t.messages.c.attempted_at.between(_first, _last))
)
_REJUDGE = (
    t.events.update()
    .where(t.events.c.key == sa.bindparam("k"))
    .values(
        verdict=sa.bindparam("v"), reasons=sa.bindparam("r"), rules=RULES_VERSION,
        changed_at=sa.func.coalesce(sa.bindparam("changed", type_=t.UTCDateTime), t.events.c.changed_at),
    )
)  # fmt: skip


class Seen(NamedTuple):
    """A stored event: as the rules see it, and the verdict that it has."""

    sighting: Sighting
    experiment: str
    links: int | None
    judged: Judged
    rules: int


def seen_of(row: Any) -> Seen:
    """A row of the events with what its mail says; its body was checked when it was stored."""
    body = row.body
    facts, verdict = body.get("facts"), Verdict(body["verdict"])
    given = given_reasons(verdict, body["reasons"]) if facts is None else NO_REASON
    ahead = datetime.fromisoformat(body["at"]) > row.at
    return Seen(
        sighting=Sighting(
            key=row.key, mail=row.message, type=EventType(row.type), at=row.at.timestamp(),
            delivered=None if row.attempted_at is None else row.attempted_at.timestamp(), link=body["link"],
            facts=None if facts is None else RequestFacts.from_dict(facts), company=company_of(row.domain),
            verdict=verdict, given=given | Reason.CLOCK_AHEAD if ahead else given,
            around=Reason(row.reasons),
        ),
        experiment=row.experiment,
        links=row.links,
        judged=Judged(verdict=Verdict(row.verdict), reasons=Reason(row.reasons)),
        rules=row.rules,
    )  # fmt: skip


def judge_around(db: sa.Connection, mails: Iterable[str], new: frozenset[str], *, now: datetime) -> frozenset[str]:
    """Judge new events, and those whose verdicts they can change.

    Args:
        db: The transaction.
        mails: The messages that the new events belong to.
        new: Keys of the new events.
        now: When they reached us.

    Returns:
        The messages in which a verdict was made or changed.
    """
    seen = _of_mails(db, mails)
    fresh = [one for one in seen if one.sighting.key in new]
    corrections: dict[str, Sighting] = {}
    others: set[str] = set()
    around = (*_from_networks(db, fresh), *_from_networks_by_and_by(db, seen, new), *_from_companies(db, fresh, seen))
    for one, mask, bits in around:
        before = corrections.get(one.sighting.key, one.sighting)
        corrections[one.sighting.key] = replace(before, around=(before.around & ~mask) | bits)
        if (one.sighting.around & mask) != bits:
            others.add(one.sighting.mail)
    seen += _of_mails(db, others.difference(one.sighting.mail for one in seen))
    changed = changed_verdicts([one._replace(sighting=corrections.get(one.sighting.key, one.sighting)) for one in seen])
    write_verdicts(db, changed, new=new, now=now)
    return frozenset(one.sighting.mail for one, _ in changed)


def judge_all(db: sa.Connection, name: str) -> list[Seen]:
    """All events of an experiment with what their neighbourhoods say; `changed_verdicts` judges them."""
    seen = [seen_of(row) for row in db.execute(_OF_EXPERIMENT, {"e": name}, execution_options={"yield_per": _CHUNK})]
    around = network_reasons(one.sighting for one in seen)
    nearest = nearest_reasons(one.sighting for one in seen)
    hasty = hasty_networks(passings(one.sighting for one in seen))
    swept = _swept(db, name, seen)
    return [
        one._replace(
            sighting=replace(
                one.sighting,
                around=around.get(one.sighting.key, NO_REASON)
                | nearest.get(one.sighting.key, NO_REASON)
                | _of_haste(one.sighting, hasty)
                | follow_up(one.sighting, swept.get(one.sighting.mail, NO_REASON), links=one.links),
            )
        )
        for one in seen
    ]


def changed_verdicts(seen: Iterable[Seen]) -> list[tuple[Seen, Judged]]:
    """Judge whole mails; gives the events whose verdict, reasons or rules are new, with the new ones."""
    by_mail: defaultdict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_mail[one.sighting.mail].append(one)
    changed = []
    for own in by_mail.values():
        judged = judge_mail([one.sighting for one in own], links=own[0].links)
        for one in own:
            found = judged[one.sighting.key]
            if found != one.judged or one.rules != RULES_VERSION:
                changed.append((one, found))
    return changed


def write_verdicts(
    db: sa.Connection, changed: Sequence[tuple[Seen, Judged]], *, now: datetime, new: frozenset[str] = frozenset()
) -> None:
    """Store verdicts; those of events that had one before are noted as changed."""
    rows = [
        {
            "k": one.sighting.key, "v": found.verdict, "r": int(found.reasons),
            "changed": now if found.verdict != one.judged.verdict and one.sighting.key not in new else None,
        }
        for one, found in sorted(changed, key=lambda each: each[0].sighting.key)
    ]  # fmt: skip
    if rows:
        db.execute(_REJUDGE, rows)


# --- neighbourhoods -------------------------------------------------------------------------------------------------


def _of_mails(db: sa.Connection, mails: Iterable[str], wanted: sa.Select[Any] = _OF_MAILS) -> list[Seen]:
    ids = sorted(mails)
    chunks = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
    return [seen_of(row) for chunk in chunks for row in db.execute(wanted, {"ids": chunk})]


def _from_networks(db: sa.Connection, fresh: Sequence[Seen]) -> Iterator[tuple[Seen, Reason, Reason]]:
    """What networks say of the clicks within a minute of new ones: event, the bits in question, those it has."""
    clicks = [one for one in fresh if one.sighting.type is EventType.CLICKED and one.sighting.network]
    for experiment, slice_ in _slices(clicks):
        networks = sorted({one.sighting.network for one in slice_})
        span = _span([one.sighting.at for one in slice_], NETWORK_SECONDS)
        seen = [seen_of(row) for row in db.execute(_OF_NETWORKS, {"e": experiment, "ids": networks, **span})]
        found = network_reasons(one.sighting for one in seen)
        moments, by_network = _by_network(slice_), _by_network(seen)
        for network in networks:
            ats = [one.sighting.at for one in moments[network]]
            for one in near(by_network[network], ats, key=_happened_at, within=NETWORK_SECONDS):
                yield one, NETWORK, found.get(one.sighting.key, NO_REASON)


def _by_network(seen: Iterable[Seen]) -> dict[str, list[Seen]]:
    """The events of each network, in the order of time."""
    found: defaultdict[str, list[Seen]] = defaultdict(list)
    for one in sorted(seen, key=_happened_at):
        found[one.sighting.network].append(one)
    return found


def _happened_at(one: Seen) -> float:
    return one.sighting.at


def _slices(clicks: Iterable[Seen]) -> Iterator[tuple[str, list[Seen]]]:
    """Clicks of one experiment and a few minutes at a time: what lies between the slices need not be read."""
    pending: list[Seen] = []
    for one in sorted(clicks, key=lambda each: (each.experiment, each.sighting.at)):
        begun = pending and pending[0]
        if begun and (one.experiment != begun.experiment or one.sighting.at > begun.sighting.at + SWEEP_SECONDS):
            yield begun.experiment, pending
            pending = []
        pending.append(one)
    if pending:
        yield pending[0].experiment, pending


def _from_networks_by_and_by(
    db: sa.Connection, seen: Sequence[Seen], new: frozenset[str]
) -> Iterator[tuple[Seen, Reason, Reason]]:
    """The same of the clicks beside those in mails with a new open or click, and of all that day's for haste."""
    whole = _by_mail(seen)
    moved = {mail for mail, own in whole.items() if any(one.key in new and _moves(one, own) for one in own)}
    touched: defaultdict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        known = one.sighting.type is EventType.CLICKED and one.sighting.network
        if known and (one.sighting.key in new or one.sighting.mail in moved):
            touched[one.experiment].append(one)
    for experiment, clicks in sorted(touched.items()):
        near_by = _Near.of(db, experiment, clicks, plain=_plain(seen))
        around = [one for one in seen if one.sighting.mail in near_by.mails]
        around += _of_mails(db, near_by.mails - whole.keys())
        nearest = nearest_reasons(one.sighting for one in around)
        for one in around:
            if one.sighting.key in near_by.beside:
                yield one, NEAREST, nearest.get(one.sighting.key, NO_REASON)
            if one.sighting.key in near_by.unsettled:
                yield one, Reason.NETWORK_HASTY, _of_haste(one.sighting, near_by.hasty)


def _moves(one: Sighting, own: Iterable[Sighting]) -> bool:
    """Whether a new event changes how its mail's other clicks look: whether read, at a stretch, or after a scanner."""
    if one.type is EventType.OPENED or is_soon(one):
        return True
    return one.type is EventType.CLICKED and any(
        (each.type is EventType.CLICKED and each.key != one.key and abs(each.at - one.at) <= BURST_SECONDS)
        or (each.type is EventType.OPENED and 0 <= one.at - each.at <= READING_SECONDS)
        for each in own
    )


class _Near(NamedTuple):
    """What to look at when clicks are new, or their mails were opened."""

    beside: set[str]  # keys of the clicks whose nearest these are
    unsettled: set[str]  # of those of which it is news whether their network is hasty
    hasty: set[str]  # clicks of hasty networks
    mails: set[str]  # that hold all of these, and those that decide on them

    @classmethod
    def of(cls, db: sa.Connection, experiment: str, clicks: Sequence[Seen], *, plain: frozenset[str]) -> _Near:
        networks = sorted({one.sighting.network for one in clicks})
        span = _span([one.sighting.at for one in clicks], DAY_SECONDS)
        by_network: defaultdict[str, list[Any]] = defaultdict(list)
        for row in db.execute(_CLICKS_OF_NETWORKS, {"e": experiment, "ids": networks, **span}):
            by_network[row.network].append(row)
        keys = {one.sighting.key for one in clicks}
        found = cls(set(), set(), set(), set())
        for rows in by_network.values():
            found._add(rows, [number for number, row in enumerate(rows) if row.key in keys], plain)
        return found

    def _add(self, rows: Sequence[Any], places: Sequence[int], plain: frozenset[str]) -> None:
        companies = len({row.domain for row in rows} - {""})
        for place in places:
            nearest = _around_place(rows, place, 2 * NEIGHBOURS)
            if companies > 1 or any(row.key in plain or row.reasons & _PLAIN for row in nearest):
                self.beside.update(row.key for row in _around_place(rows, place, NEIGHBOURS))
                self.mails.update(row.message for row in nearest)
        if companies >= LEAST_COMPANIES:
            self._add_hasty(rows, [rows[place].at.timestamp() for place in places])

    def _add_hasty(self, rows: Sequence[Any], moments: Sequence[float]) -> None:
        passed = [_passing(row) for row in rows]
        hasty = hasty_networks(passed)
        self.hasty.update(hasty)
        for row, one in near(list(zip(rows, passed, strict=True)), moments, key=_passed_at, within=DAY_SECONDS):
            if (one.key in hasty) != bool(row.reasons & _HASTY):
                self.unsettled.add(row.key)
                self.mails.add(row.message)


def _passed_at(pair: tuple[Any, Passing]) -> float:
    return pair[1].at


def _plain(seen: Iterable[Seen]) -> frozenset[str]:
    """Clicks that are plainly a program's, in whole mails."""
    of_mails = _by_mail(one for one in seen if one.sighting.type is EventType.CLICKED)
    return frozenset(key for own in of_mails.values() for key in plain_clicks(sorted(own, key=_in_time)))


def _by_mail(seen: Iterable[Seen]) -> dict[str, list[Sighting]]:
    found: defaultdict[str, list[Sighting]] = defaultdict(list)
    for one in seen:
        found[one.sighting.mail].append(one.sighting)
    return found


def _in_time(one: Sighting) -> tuple[float, str]:
    return one.at, one.key


def _passing(row: Any) -> Passing:
    age = None if row.attempted_at is None else (row.at - row.attempted_at).total_seconds()
    return Passing(row.at.timestamp(), row.key, row.network, company_of(row.domain), age)


def _of_haste(one: Sighting, hasty: AbstractSet[str]) -> Reason:
    return Reason.NETWORK_HASTY if one.key in hasty and not is_phone(one) else NO_REASON


def _around_place(rows: Sequence[Any], place: int, reach: int) -> Sequence[Any]:
    return rows[max(place - reach, 0) : place + reach + 1]


def _from_companies(
    db: sa.Connection, fresh: Sequence[Seen], seen: Sequence[Seen]
) -> Iterator[tuple[Seen, Reason, Reason]]:
    """The same of the early clicks in a company's mails that were delivered within minutes of those with new ones."""
    by_company: defaultdict[tuple[str, str], list[Seen]] = defaultdict(list)
    for one in fresh:
        if one.sighting.company and is_soon(one.sighting):
            by_company[one.experiment, one.sighting.company].append(one)
    whole: defaultdict[str, list[Seen]] = defaultdict(list)  # what need not be read again
    for one in seen:
        whole[one.sighting.mail].append(one)
    for (experiment, company), own in sorted(by_company.items(), key=lambda each: each[0]):
        moments = sorted({one.sighting.delivered for one in own if one.sighting.delivered is not None})
        reach = SIBLING_SECONDS + SWEEP_SECONDS
        rows = db.execute(_DELIVERED, {"e": experiment, "d": company, **_span(moments, reach)}).all()
        beside, mails = _siblings(sorted(rows, key=_attempted), moments)
        wanted = {row.id for row in mails}
        clicks = [one for mail in wanted & whole.keys() for one in whole[mail]]
        clicks += _of_mails(db, wanted - whole.keys(), _CLICKS_OF_MAILS)
        soon = [one for one in clicks if is_soon(one.sighting)]
        swept = _swept_of(mails, soon)
        for one in soon:
            if one.sighting.mail in beside:
                yield one, COMPANY, follow_up(one.sighting, swept.get(one.sighting.mail, NO_REASON), links=one.links)


def _siblings(rows: Sequence[Any], moments: Sequence[float]) -> tuple[set[str], list[Any]]:
    """A company's mails, in the order of time, whose verdicts may change with those of some moments.

    Returns:
        Their ids, and the rows of all that decide on it.
    """
    ats = [row.attempted_at.timestamp() for row in rows]
    beside: set[str] = set()
    wanted: set[int] = set()
    for moment in moments:
        first, last = _stretch(ats, moment, moment)
        beside.update(row.id for row in rows[first:last])
        wanted.update(range(*_stretch(ats, ats[first], ats[last - 1])) if first < last else ())
    return beside, [rows[number] for number in sorted(wanted)]


def _stretch(ats: Sequence[float], first: float, last: float) -> tuple[int, int]:
    """The places of what lies within the reach of the company rules before the first moment and after the last."""
    begin, end = bisect_left(ats, first - SWEEP_SECONDS), bisect_right(ats, last + SWEEP_SECONDS)
    return (
        max(min(begin, bisect_left(ats, first) - SIBLINGS), 0),
        min(max(end, bisect_right(ats, last) + SIBLINGS), len(ats)),
    )


def _attempted(row: Any) -> tuple[datetime, str]:
    return row.attempted_at, row.id


def _swept(db: sa.Connection, name: str, seen: Iterable[Seen]) -> dict[str, Reason]:
    by_company: defaultdict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        if one.sighting.company and is_soon(one.sighting):
            by_company[one.sighting.company].append(one)
    always = {"first": datetime.min.replace(tzinfo=UTC), "last": datetime.max.replace(tzinfo=UTC)}
    found: dict[str, Reason] = {}
    for company, own in by_company.items():
        found |= _swept_of(db.execute(_DELIVERED, {"e": name, "d": company, **always}).all(), own)
    return found


def _swept_of(mails: Iterable[Any], soon: Iterable[Seen]) -> dict[str, Reason]:
    early, clicked = set(), set()
    for one in soon:
        clicked.add(one.sighting.mail)
        if is_swift(one.sighting):
            early.add(one.sighting.mail)
    return company_reasons(
        Delivery(row.attempted_at.timestamp(), row.id, swift=row.id in early, soon=row.id in clicked) for row in mails
    )


def _span(moments: Sequence[float], reach: float) -> Mapping[str, datetime]:
    """From twice the reach of a rule before the first moment to twice after the last: whole neighbourhoods."""
    beyond = timedelta(seconds=2 * reach)
    first, last = (datetime.fromtimestamp(end(moments), UTC) for end in (min, max))
    return {"first": first - beyond, "last": last + beyond}
