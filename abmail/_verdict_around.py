"""What mails give away beside one another: clicks from one network, clicks at one company. Pure, and linear in time.

Each rule looks at its own neighbourhood only, so that the store can judge a new event among the few around it and
`abmail events rejudge` a whole experiment, with the same result.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from abmail._event_types import EventType, Verdict
from abmail._verdict_facts import own_reasons
from abmail._verdict_reasons import NO_REASON, Reason, verdict_of
from abmail._verdict_rules import BURST_SECONDS, crowded, first_reading, leave, stretches

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from abmail._verdict_rules import Sighting

__all__ = [
    "BLIND_NEIGHBOURS",
    "BLIND_SECONDS",
    "LEAST_COMPANIES",
    "NETWORK_SECONDS",
    "SWEEP_SECONDS",
    "Delivery",
    "blind_networks",
    "company_reasons",
    "follow_up",
    "is_soon",
    "is_swift",
    "network_reasons",
]

NETWORK_SECONDS: Final = 620.0
"""The rules on a network's bursts compare events at most this far apart."""

SWEEP_SECONDS: Final = 600.0
"""The company rules compare mails that were delivered at most this long before one another."""

BLIND_NEIGHBOURS: Final = 12
"""The rule on networks that never read looks at so many clicks of the network on each side of one,"""

BLIND_SECONDS: Final = 86_400.0
"""and not further than this."""

LEAST_COMPANIES: Final = 3
"""A network is everybody's only where it follows links in the mails of so many companies."""

_NETWORK_BURST_SECONDS: Final = 30.0
_ACROSS_SECONDS: Final = 60.0
_ROBOT_SECONDS: Final = 600.0
_SWIFT_SECONDS: Final = 180.0
_SOON_SECONDS: Final = 1_800.0
_PEOPLE = _MAILS = 3
_ROUND: Final = 5  # mails
_PAIR: Final = 2
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


def blind_networks(sightings: Iterable[Sighting]) -> frozenset[str]:
    """Clicks from networks that follow links in the mails of three companies and read hardly any of them first.

    Looked at are the nearest clicks of the network, `BLIND_NEIGHBOURS` on each side and within `BLIND_SECONDS`. Phones
    are left alone: their networks are shared by whole towns.

    Args:
        sightings: All events of the mails in question, in any order.

    Returns:
        Keys of clicks.
    """
    by_mail: defaultdict[str, list[Sighting]] = defaultdict(list)
    for one in sightings:
        by_mail[one.mail].append(one)
    looks = {key: look for own in by_mail.values() for key, look in _looks(own)}
    by_network: defaultdict[str, list[Sighting]] = defaultdict(list)
    for own in by_mail.values():
        for one in own:
            if one.key in looks:
                by_network[one.network].append(one)
    found: set[str] = set()
    for group in by_network.values():
        group.sort(key=lambda one: (one.at, one.key))
        found.update(_blind(group, looks))
    return frozenset(found)


_READ, _UNREAD, _UNKNOWN = "read", "unread", "unknown"


def _looks(own: Sequence[Sighting]) -> Iterator[tuple[str, str]]:
    """Clicks of a mail that came from a known network, and whether somebody had read it before."""
    clicks = sorted((one for one in own if one.type is EventType.CLICKED), key=lambda one: (one.at, one.key))
    if not clicks:
        return
    read, hidden = first_reading(own)
    for one, begun in stretches(clicks):
        if not one.network:
            continue
        if read <= begun:
            yield one.key, _READ
        elif hidden or not one.company or one.facts is None or one.facts.family.endswith(_PHONES):
            yield one.key, _UNKNOWN
        else:
            yield one.key, _UNREAD


def _blind(group: Sequence[Sighting], looks: Mapping[str, str]) -> Iterator[str]:
    """The unread ones among a network's clicks, in the order of time, around which it never reads."""
    inside: Counter[Hashable] = Counter()
    read = first = last = 0
    for number, one in enumerate(group):
        while last < len(group) and last <= number + BLIND_NEIGHBOURS and group[last].at <= one.at + BLIND_SECONDS:
            read += looks[group[last].key] == _READ
            if looks[group[last].key] == _UNREAD:
                inside[group[last].company] += 1
            last += 1
        while first < number - BLIND_NEIGHBOURS or group[first].at < one.at - BLIND_SECONDS:
            read -= looks[group[first].key] == _READ
            if looks[group[first].key] == _UNREAD:
                leave(inside, group[first].company)
            first += 1
        unread = inside.total()
        if looks[one.key] == _UNREAD and len(inside) >= LEAST_COMPANIES and read <= _READERS * (read + unread):
            yield one.key


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
    return {mail: bits for mail, bits in found.items() if bits}


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
