"""What mails give away beside one another: clicks from one network, clicks at one company. Pure, and linear in time.

Each rule looks at its own neighbourhood only, so that the store can judge a new event among the few around it and
`abmail events rejudge` a whole experiment, with the same result.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from abmail._event_types import EventType, Verdict
from abmail._verdict_facts import Agent, own_reasons
from abmail._verdict_reasons import NO_REASON, Reason, verdict_of
from abmail._verdict_rules import BURST_SECONDS, READING_SECONDS, crowded, echoes, leave, readings, stretches

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from abmail._verdict_rules import Sighting

__all__ = [
    "DAY_SECONDS",
    "LEAST_COMPANIES",
    "NEIGHBOURS",
    "NETWORK_SECONDS",
    "SIBLINGS",
    "SIBLING_SECONDS",
    "SWEEP_SECONDS",
    "Delivery",
    "Passing",
    "company_reasons",
    "follow_up",
    "hasty_networks",
    "is_phone",
    "is_soon",
    "is_swift",
    "nearest_reasons",
    "network_reasons",
    "passings",
    "plain_clicks",
]

NETWORK_SECONDS: Final = 620.0
"""The rules on a network's bursts compare events at most this far apart."""

SWEEP_SECONDS: Final = 600.0
"""The company rules compare mails that were delivered at most this long before one another."""

NEIGHBOURS: Final = 12
"""The rule on networks that never read looks at so many clicks of the network on each side of one,"""

DAY_SECONDS: Final = 86_400.0
"""and not further than this."""

SIBLINGS: Final = 6
"""A mail is held against so many on each side of it that its company got,"""

SIBLING_SECONDS: Final = 3_600.0
"""and not further than this from it."""

LEAST_COMPANIES: Final = 3
"""A network is everybody's only where it follows links in the mails of so many companies."""

_NETWORK_BURST_SECONDS: Final = 30.0
_ACROSS_SECONDS: Final = 60.0
_ROBOT_SECONDS: Final = 600.0
_SWIFT_SECONDS: Final = 180.0
_SOON_SECONDS: Final = 1_800.0
_LATE_SECONDS: Final = 3_600.0
_PEOPLE = _MAILS = 3
_ROUND: Final = 5  # mails
_PAIR: Final = 2
_HASTY: Final = 4  # the part of a network's clicks that is haste: one in so many
_SWEPT: Final = 4  # the part of a company's mails that makes a sweep: one in so many
_READERS: Final = 0.1  # share of clicks
_PHONES: Final = ("/ios", "/android")
_at: Final = attrgetter("at")


# --- networks -------------------------------------------------------------------------------------------------------


def network_reasons(sightings: Iterable[Sighting]) -> dict[str, Reason]:
    """What networks give away by the mails of several people.

    Args:
        sightings: Events of one experiment, in any order; those within `NETWORK_SECONDS` of one that is asked for have
            to be among them.

    Returns:
        Key of an event -> its reasons, for those that have any.
    """
    found: defaultdict[str, Reason] = defaultdict(lambda: NO_REASON)
    by_network: defaultdict[str, list[Sighting]] = defaultdict(list)
    for one in sightings:
        if one.network and one.type is EventType.CLICKED:
            by_network[one.network].append(one)
    for group in by_network.values():
        group.sort(key=_at)
        for key in crowded(group, lambda one: one.mail, within=_NETWORK_BURST_SECONDS, least=_PEOPLE):
            found[key] |= Reason.NETWORK_BURST
        at_companies = [one for one in group if one.company]
        for key in crowded(at_companies, lambda one: one.company, within=_ACROSS_SECONDS, least=LEAST_COMPANIES):
            found[key] |= Reason.NETWORK_ACROSS
        for key in _beside_robots(group):
            found[key] |= Reason.NETWORK_ROBOT
    return found


def _beside_robots(group: Sequence[Sighting]) -> Iterator[str]:
    """Clicks of a network, in the order of time, around which it followed several links at a time in three mails."""
    by_mail: defaultdict[str, list[Sighting]] = defaultdict(list)
    for one in group:
        by_mail[one.mail].append(one)
    robots = {
        key for own in by_mail.values() for key in crowded(own, lambda one: one.link, within=BURST_SECONDS, least=_PAIR)
    }
    signs = [one for one in group if one.key in robots]
    inside: Counter[Hashable] = Counter()
    first = last = 0
    for one in group:
        while last < len(signs) and signs[last].at <= one.at + _ROBOT_SECONDS:
            inside[signs[last].mail] += 1
            last += 1
        while first < last and signs[first].at < one.at - _ROBOT_SECONDS:
            leave(inside, signs[first].mail)
            first += 1
        if len(inside) >= _MAILS:
            yield one.key


def nearest_reasons(sightings: Iterable[Sighting]) -> dict[str, Reason]:
    """What networks give away by their nearest clicks, in whosever mails.

    Looked at are the nearest clicks of the network, `NEIGHBOURS` on each side and within `DAY_SECONDS`. Where hardly
    any of them (one in ten) comes from who had read the mail there, an unread one is a machine's if they are at three
    companies, or come after a scanner at two, or half are plainly a program's. Phones are left alone: their networks
    are shared by whole towns.

    Args:
        sightings: All events of the mails in question, in any order.

    Returns:
        Key of a click -> ``NETWORK_BLIND``, ``NETWORK_RETURNS``, ``NETWORK_KNOWN``, for those that have any.
    """
    by_mail: defaultdict[str, list[Sighting]] = defaultdict(list)
    for one in sightings:
        by_mail[one.mail].append(one)
    by_network: defaultdict[str, list[_Look]] = defaultdict(list)
    for own in by_mail.values():
        for look in _looks(own):
            by_network[look.network].append(look)
    found: dict[str, Reason] = {}
    for group in by_network.values():
        if len(group) > 1 and any(look.unread for look in group):  # else there is nothing to tell
            group.sort(key=attrgetter("at", "key"))
            found.update(_from_nearest(group))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A click from a known network, as its neighbours see it.

    Attributes:
        key: Its key.
        at: When, seconds since the epoch.
        network: Where it came from.
        company: The mail's.
        read: Whether somebody there had read the mail before.
        unread: Whether nobody had; who uses a phone, or Apple's privacy, is neither.
        again: Whether unread, and an hour and more after a scanner.
        plain: Whether it is a program's: it says so, or comes right behind another's click.
        rendered: Whether it comes with the pictures, and begins a stretch.
    """

    key: str
    at: float
    network: str
    company: str
    read: bool
    unread: bool
    again: bool
    plain: bool
    rendered: bool


def _looks(own: Sequence[Sighting]) -> Iterator[_Look]:
    """The clicks of a mail that came from a known network."""
    clicks = sorted((one for one in own if one.type is EventType.CLICKED), key=attrgetter("at", "key"))
    first, hidden = readings(own, clicks) if clicks else ({}, False)
    plain = plain_clicks(clicks)
    opens = sorted((one for one in own if one.type is EventType.OPENED), key=_at) if clicks else []
    scanned = False
    for one, latest in stretches(clicks):
        read = min(first.get(one.network, math.inf), first.get("", math.inf)) <= latest
        unread = not (read or hidden or not one.company or is_phone(one))
        begins = one.at - READING_SECONDS <= latest
        if one.network:
            yield _Look(
                key=one.key, at=one.at, network=one.network, company=one.company, read=read, unread=unread,
                again=unread and scanned and one.age is not None and one.age >= _LATE_SECONDS,
                plain=unread and one.key in plain,
                rendered=unread and begins and _is_rendered(one, opens),
            )  # fmt: skip
        scanned = scanned or (unread and one.age is not None and one.age < _SOON_SECONDS)


def plain_clicks(clicks: Sequence[Sighting]) -> frozenset[str]:
    """Keys of a mail's clicks, given in the order of time, that say of themselves that they are a program's.

    It is named, or follows right behind another's click.
    """
    named = (one.key for one in clicks if one.facts is not None and one.facts.agent is Agent.MACHINE)
    return frozenset((*named, *echoes(clicks)))


def _is_rendered(one: Sighting, opens: Sequence[Sighting]) -> bool:
    """Whether the pictures were loaded there within seconds before, as by what renders a mail and follows its links."""
    first, last = bisect_left(opens, one.at - READING_SECONDS, key=_at), bisect_right(opens, one.at, key=_at)
    return any(each.network == one.network for each in opens[first:last])


def is_phone(one: Sighting) -> bool:
    """Whether it came from a phone, or from nobody knows what."""
    return one.facts is None or one.facts.family.endswith(_PHONES)


class _Window:
    """The nearest clicks of one of a network's, counted."""

    def __init__(self) -> None:
        self.n = self.read = self.plain = self.rendered = 0
        self.unread: Counter[Hashable] = Counter()
        self.again: Counter[Hashable] = Counter()

    def enter(self, look: _Look) -> None:
        self._count(look, 1)
        if look.unread:
            self.unread[look.company] += 1
        if look.again:
            self.again[look.company] += 1

    def leave(self, look: _Look) -> None:
        self._count(look, -1)
        if look.unread:
            leave(self.unread, look.company)
        if look.again:
            leave(self.again, look.company)

    def _count(self, look: _Look, step: int) -> None:
        self.n += step
        self.read += step * look.read
        self.plain += step * look.plain
        self.rendered += step * look.rendered

    def reasons(self, look: _Look) -> Reason:
        """What they say of the one in their middle."""
        if not look.unread or self.read > _READERS * (self.read + self.unread.total()):
            return NO_REASON
        bits = Reason.NETWORK_BLIND if len(self.unread) >= LEAST_COMPANIES else NO_REASON
        bits |= Reason.NETWORK_RETURNS if look.again and len(self.again) >= _PAIR else NO_REASON
        rendered = self.rendered if self.rendered >= _MAILS and len(self.unread) >= _PAIR else 0
        known = (self.plain and 2 * self.plain >= self.n) or (rendered and 2 * rendered >= self.n)
        return bits | Reason.NETWORK_KNOWN if known else bits


def _from_nearest(group: Sequence[_Look]) -> Iterator[tuple[str, Reason]]:
    """The reasons of a network's clicks, which come in the order of time."""
    inside = _Window()
    first = last = 0
    for number, one in enumerate(group):
        while last < len(group) and last <= number + NEIGHBOURS and group[last].at <= one.at + DAY_SECONDS:
            inside.enter(group[last])
            last += 1
        while first < number - NEIGHBOURS or group[first].at < one.at - DAY_SECONDS:
            inside.leave(group[first])
            first += 1
        if bits := inside.reasons(one):
            yield one.key, bits


class Passing(NamedTuple):
    """A click as the rule on hasty networks sees it.

    Attributes:
        at: When, seconds since the epoch.
        key: Its key.
        network: Where it came from.
        company: The mail's; empty for mailboxes that everybody can have.
        age: Seconds since its mail was handed over; None where it never was.
    """

    at: float
    key: str
    network: str
    company: str
    age: float | None


def passings(sightings: Iterable[Sighting]) -> Iterator[Passing]:
    """The clicks from known networks among some events."""
    for one in sightings:
        if one.type is EventType.CLICKED and one.network:
            yield Passing(one.at, one.key, one.network, one.company, one.age)


def hasty_networks(clicks: Iterable[Passing]) -> frozenset[str]:
    """Clicks in companies' mails from networks that come within minutes of delivery.

    A quarter of the network's clicks within a day before and after have to, at three companies. A scanner is that
    hasty; people are who share an exit to the internet only one in some thirty times.

    Args:
        clicks: All clicks of the networks in question, in any order.

    Returns:
        Keys of clicks.
    """
    by_network: defaultdict[str, list[Passing]] = defaultdict(list)
    for one in clicks:
        by_network[one.network].append(one)
    return frozenset(key for group in by_network.values() for key in _hasty(sorted(group)))


def _hasty(group: Sequence[Passing]) -> Iterator[str]:
    if len({one.company for one in group if _in_haste(one)}) < LEAST_COMPANIES:
        return
    inside: Counter[Hashable] = Counter()
    first = last = 0
    for one in group:
        while last < len(group) and group[last].at <= one.at + DAY_SECONDS:
            if _in_haste(group[last]):
                inside[group[last].company] += 1
            last += 1
        while group[first].at < one.at - DAY_SECONDS:
            if _in_haste(group[first]):
                leave(inside, group[first].company)
            first += 1
        if one.company and len(inside) >= LEAST_COMPANIES and _HASTY * inside.total() >= last - first:
            yield one.key


def _in_haste(one: Passing) -> bool:
    return bool(one.company) and one.age is not None and one.age < _SWIFT_SECONDS


# --- companies ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Delivery:
    """A mail to a company: when it was handed over, and whether a link in it was followed soon after.

    Attributes:
        at: When it was handed over, seconds since the epoch.
        mail: Its id.
        swift: Whether within minutes.
        soon: Whether within half an hour.
    """

    at: float
    mail: str
    swift: bool = field(default=False, compare=False)
    soon: bool = field(default=False, compare=False)


def is_swift(sighting: Sighting) -> bool:
    """Whether a link was followed within minutes of delivery by what may be a person: known machines tell nothing."""
    return sighting.age is not None and sighting.age < _SWIFT_SECONDS and is_soon(sighting)


def is_soon(sighting: Sighting) -> bool:
    """The same within half an hour."""
    if sighting.type is not EventType.CLICKED or sighting.age is None or sighting.age >= _SOON_SECONDS:
        return False
    if sighting.facts is None:
        return sighting.verdict is not Verdict.MACHINE
    return verdict_of(own_reasons(sighting.type, sighting.facts, age=None, link=sighting.link)) is not Verdict.MACHINE


def company_reasons(deliveries: Iterable[Delivery]) -> dict[str, Reason]:
    """What a company's mails give away together.

    Of the mails delivered in the ten minutes up to one of them, so many were clicked within minutes, or within half an
    hour, that it was a machine's doing. What is delivered later changes nothing in that.

    Args:
        deliveries: Mails to the company, each once.

    Returns:
        Mail -> ``COMPANY_SWEEP`` for its clicks within minutes, ``COMPANY_ROUND`` for those within half an hour, and
        ``COMPANY_SCANNED`` where it lies among mails that were swept.
    """
    ordered = sorted(deliveries)
    found: defaultdict[str, Reason] = defaultdict(lambda: NO_REASON)
    first = swift = soon = 0
    swept = rounds = told = 0
    for last, one in enumerate(ordered):
        swift, soon = swift + one.swift, soon + one.soon
        while one.at - ordered[first].at > SWEEP_SECONDS:
            swift, soon = swift - ordered[first].swift, soon - ordered[first].soon
            first += 1
        size = last + 1 - first
        if one.swift and _is_sweep(swift, size):
            swept, told = max(swept, first), max(told, first)
            for each in ordered[swept : last + 1]:
                found[each.mail] |= Reason.COMPANY_SWEEP if each.swift else NO_REASON
            for each in ordered[told : last + 1]:
                found[each.mail] |= Reason.COMPANY_SCANNED
            swept = told = last + 1
        if one.soon and soon >= _ROUND and 2 * soon >= size:
            rounds = max(rounds, first)
            for each in ordered[rounds : last + 1]:
                found[each.mail] |= Reason.COMPANY_ROUND if each.soon else NO_REASON
            rounds = last + 1
    for number, one in enumerate(ordered):
        if one.soon and _is_beside(ordered, number):
            found[one.mail] |= Reason.COMPANY_SCANNED
    return {mail: bits for mail, bits in found.items() if bits}


def _is_beside(ordered: Sequence[Delivery], number: int) -> bool:
    """Whether half of the mails around one, of which there may be a single one, were clicked within minutes."""
    at = ordered[number].at
    around = (*ordered[max(number - SIBLINGS, 0) : number], *ordered[number + 1 : number + 1 + SIBLINGS])
    near = [one.swift for one in around if abs(one.at - at) <= SIBLING_SECONDS]
    return any(near) and 2 * sum(near) >= len(near)


def _is_sweep(swift: int, size: int) -> bool:
    return (swift >= _PEOPLE and _SWEPT * swift >= size) or (swift >= _PAIR and swift == size)


def follow_up(sighting: Sighting, of_company: Reason, *, links: int | None) -> Reason:
    """What its company's mails say of an event.

    Args:
        sighting: The event.
        of_company: What `company_reasons` says of its mail.
        links: Number of links in the mail; what follows several gives itself away, so that less is needed for one.
    """
    if Reason.COMPANY_SWEEP in of_company and is_swift(sighting):
        return Reason.COMPANY_SWEEP
    if links != 1 or not is_soon(sighting):
        return NO_REASON
    return of_company & (Reason.COMPANY_SCANNED if Reason.COMPANY_SCANNED in of_company else Reason.COMPANY_ROUND)
