"""What several events give away together: in one mail, from one network, at one company. Pure, and linear in time.

Each rule looks at its own neighbourhood only, so that the store can judge a new event among the few around it and
`abmail events rejudge` a whole experiment, with the same result.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

from abmail._event_types import HUMAN_LIKELY, EventType, Verdict
from abmail._verdict_facts import HONEYPOT_LINK, Agent, RequestFacts, own_reasons
from abmail._verdict_reasons import NO_REASON, Reason, given_reasons, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "NETWORK",
    "NETWORK_SECONDS",
    "SWEEP_SECONDS",
    "Delivery",
    "Judged",
    "Sighting",
    "company_reasons",
    "is_swift",
    "judge_mail",
    "near",
    "network_reasons",
]

T = TypeVar("T")

NETWORK_SECONDS: Final = 620.0
"""The network rules compare events at most this far apart."""

SWEEP_SECONDS: Final = 600.0
"""The company rule compares mails that were delivered at most this long before one another."""

_BURST_SECONDS: Final = 10.0
_PAIR_SECONDS: Final = 5.0
_AT_ONCE_SECONDS: Final = 1.0
_NETWORK_BURST_SECONDS: Final = 30.0
_ACROSS_SECONDS: Final = 60.0
_ROBOT_SECONDS: Final = 600.0
_SWIFT_SECONDS: Final = 180.0
_READING_SECONDS: Final = 10.0
_LATER_SECONDS: Final = 60.0
_LATE_SECONDS: Final = 3_600.0
_LINKS = _PEOPLE = _COMPANIES = _MAILS = 3
_PAIR: Final = 2
_SHORT_MAIL: Final = 4  # links
NETWORK: Final = Reason.NETWORK_BURST | Reason.NETWORK_ACROSS | Reason.NETWORK_ROBOT
"""What is known from a network."""

_AROUND: Final = NETWORK | Reason.COMPANY_SWEEP
"""What is known from other mails."""

_HASTE: Final = NETWORK | Reason.LINK_BURST | Reason.LINK_PAIR


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """An event as the rules see it.

    Attributes:
        key: Its key.
        mail: The message that it belongs to.
        type: What happened.
        at: When, seconds since the epoch.
        delivered: When its mail was handed over, seconds since the epoch; None where it never was.
        link: Number of the clicked link.
        facts: What the request said of itself; None where the verdict is as its source gave it.
        company: The mail's domain; empty for mailboxes that everybody can have.
        verdict: As its source gave it.
        given: The source's reasons.
        around: What is known from other mails.
    """

    key: str
    mail: str
    type: EventType
    at: float
    delivered: float | None = None
    link: int | None = None
    facts: RequestFacts | None = None
    company: str = ""
    verdict: Verdict = Verdict.HUMAN
    given: Reason = NO_REASON
    around: Reason = NO_REASON

    @property
    def network(self) -> str:
        """Where it came from; empty where nobody knows, or where it says nothing: a mailbox provider's proxy."""
        return "" if self.facts is None or self.facts.agent is Agent.IMAGE_PROXY else self.facts.network

    @property
    def age(self) -> float | None:
        """Seconds since its mail was handed over."""
        return None if self.delivered is None else self.at - self.delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on an event, and why."""

    verdict: Verdict
    reasons: Reason


@dataclass(frozen=True, slots=True, order=True)
class Delivery:
    """A mail to a company: when it was handed over, and whether a link in it was followed soon after."""

    at: float
    mail: str
    swift: bool = field(default=False, compare=False)


def is_swift(sighting: Sighting) -> bool:
    """Whether a link was followed within minutes of delivery by what may be a person: known machines tell nothing."""
    if sighting.type is not EventType.CLICKED or sighting.age is None or sighting.age >= _SWIFT_SECONDS:
        return False
    if sighting.facts is None:
        return sighting.verdict is not Verdict.MACHINE
    return verdict_of(own_reasons(sighting.type, sighting.facts, age=None, link=sighting.link)) is not Verdict.MACHINE


# --- other mails ----------------------------------------------------------------------------------------------------


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
        for key in _crowded(group, lambda one: one.mail, within=_NETWORK_BURST_SECONDS, least=_PEOPLE):
            found[key] |= Reason.NETWORK_BURST
        at_companies = [one for one in group if one.company]
        for key in _crowded(at_companies, lambda one: one.company, within=_ACROSS_SECONDS, least=_COMPANIES):
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
        key
        for own in by_mail.values()
        for key in _crowded(own, lambda one: one.link, within=_BURST_SECONDS, least=_PAIR)
    }
    signs = [one for one in group if one.key in robots]
    inside: Counter[Hashable] = Counter()
    first = last = 0
    for one in group:
        while last < len(signs) and signs[last].at <= one.at + _ROBOT_SECONDS:
            inside[signs[last].mail] += 1
            last += 1
        while first < last and signs[first].at < one.at - _ROBOT_SECONDS:
            _leave(inside, signs[first].mail)
            first += 1
        if len(inside) >= _MAILS:
            yield one.key


def _leave(inside: Counter[Hashable], who: Hashable) -> None:
    inside[who] -= 1
    if not inside[who]:
        del inside[who]


def _crowded(
    group: Sequence[Sighting], who: Callable[[Sighting], Hashable], *, within: float, least: int
) -> Iterator[str]:
    """Keys of events, which come in the order of time, that lie with ``least`` different others in a stretch of it."""
    first = told = 0
    inside: Counter[Hashable] = Counter()
    for last, one in enumerate(group):
        inside[who(one)] += 1
        while one.at - group[first].at > within:
            _leave(inside, who(group[first]))
            first += 1
        if len(inside) >= least:
            told = max(told, first)
            yield from (each.key for each in group[told : last + 1])
            told = last + 1


def company_reasons(deliveries: Iterable[Delivery]) -> frozenset[str]:
    """The mails of one company whose links a machine followed as they came in.

    Of the mails delivered in the ten minutes up to one of them, half and at least three, or all and at least two, were
    clicked within five minutes of their delivery. What is delivered later changes nothing in that.

    Args:
        deliveries: Mails to the company, each once.
    """
    ordered = sorted(deliveries)
    swept: set[str] = set()
    first = told = swift = 0
    for last, one in enumerate(ordered):
        swift += one.swift
        while one.at - ordered[first].at > SWEEP_SECONDS:
            swift -= ordered[first].swift
            first += 1
        size = last + 1 - first
        if one.swift and ((swift >= _PEOPLE and 2 * swift >= size) or (swift >= _PAIR and swift == size)):
            told = max(told, first)
            swept.update(each.mail for each in ordered[told : last + 1] if each.swift)
            told = last + 1
    return frozenset(swept)


def near(group: Sequence[T], moments: Sequence[float], *, key: Callable[[T], float], within: float) -> Iterator[T]:
    """What lies within some seconds of one of the moments; both come in the order of time."""
    first = 0
    for one in group:
        at = key(one)
        while first < len(moments) and moments[first] < at - within:
            first += 1
        if first < len(moments) and moments[first] <= at + within:
            yield one


# --- one mail -------------------------------------------------------------------------------------------------------


def judge_mail(sightings: Iterable[Sighting], *, links: int | None = None) -> dict[str, Judged]:
    """Judge all events of one mail.

    Args:
        sightings: They, in any order, with what other mails say of them in ``around``.
        links: Number of different links in the mail; None where not known.

    Returns:
        Key -> verdict and reasons.
    """
    ordered = sorted(sightings, key=lambda one: (one.at, one.key))
    reasons = {one.key: _alone(one) for one in _delivered(ordered)}
    clicks = [one for one in ordered if one.type is EventType.CLICKED]
    opens = [one for one in ordered if one.type is EventType.OPENED]
    _note_bursts(clicks, reasons, links)
    _note_late(clicks, reasons)
    _note_opens(opens, clicks, reasons)
    _note_readers(opens, clicks, reasons)
    judged = {one.key: Judged(verdict=_verdict(one, reasons[one.key]), reasons=reasons[one.key]) for one in ordered}
    return {**judged, **_confirmed(ordered, judged)}


def _delivered(ordered: Sequence[Sighting]) -> Iterator[Sighting]:
    """The events, their ages counted from what a provider says of the delivery where it says so."""
    told = [one.at for one in ordered if one.type is EventType.DELIVERED]
    for one in ordered:
        known = one.delivered is not None and told and told[0] > one.delivered
        yield replace(one, delivered=told[0]) if known else one


def _alone(one: Sighting) -> Reason:
    if one.facts is None:
        return given_reasons(one.verdict, ()) | one.given
    return own_reasons(one.type, one.facts, age=one.age, link=one.link) | one.given | (one.around & _AROUND)


def _verdict(one: Sighting, reasons: Reason) -> Verdict:
    return one.verdict if one.facts is None else verdict_of(reasons)


def _note_bursts(clicks: Sequence[Sighting], reasons: dict[str, Reason], links: int | None) -> None:
    linked = [one for one in clicks if one.link is not None]
    for key in _crowded(linked, lambda one: one.link, within=_BURST_SECONDS, least=_LINKS):
        reasons[key] |= Reason.LINK_BURST
    if links is not None and links <= _SHORT_MAIL:
        for key in _crowded(linked, lambda one: one.link, within=_PAIR_SECONDS, least=_PAIR):
            reasons[key] |= NO_REASON if Reason.LINK_BURST in reasons[key] else Reason.LINK_PAIR
    for key in _crowded(linked, lambda one: one.link, within=_AT_ONCE_SECONDS, least=_PAIR):
        reasons[key] |= Reason.LINKS_AT_ONCE
    traps = [one.at for one in clicks if one.link == HONEYPOT_LINK]
    for one in near(clicks, traps, key=_at, within=_BURST_SECONDS):
        if one.link != HONEYPOT_LINK:
            reasons[one.key] |= Reason.NEAR_HONEYPOT


def _note_late(clicks: Sequence[Sighting], reasons: dict[str, Reason]) -> None:
    """What looks like haste is a person's more often once the hour of the scanners is over, unless one was here."""
    early = [one for one in clicks if not _is_late(one)]
    if any(reasons[one.key] & _HASTE or verdict_of(reasons[one.key]) is Verdict.MACHINE for one in early):
        return
    for one in clicks:
        if reasons[one.key] & _HASTE and _is_late(one):
            reasons[one.key] |= Reason.LATE


def _is_late(one: Sighting) -> bool:
    return one.age is not None and one.age >= _LATE_SECONDS


def _family(one: Sighting) -> str:
    return "" if one.facts is None else one.facts.family


def _note_opens(opens: Sequence[Sighting], clicks: Sequence[Sighting], reasons: dict[str, Reason]) -> None:
    """A browser that follows a mail's links on its own also loads its pictures."""
    machines = [one.at for one in clicks if verdict_of(reasons[one.key]) is Verdict.MACHINE]
    for one in near(opens, machines, key=_at, within=_BURST_SECONDS):
        if not reasons[one.key]:
            reasons[one.key] |= Reason.NEAR_MACHINE


def _note_readers(opens: Sequence[Sighting], clicks: Sequence[Sighting], reasons: dict[str, Reason]) -> None:
    """Whether somebody had opened the mail before a link was followed, and with such a program."""
    seen = [one for one in opens if verdict_of(reasons[one.key]) in HUMAN_LIKELY]
    first: dict[str, float] = {}
    for one in seen:
        first.setdefault(_reader(one), one.at)
    begun: float | None = None
    before = -math.inf
    for one in clicks:
        if begun is None or one.at - before > _BURST_SECONDS:
            begun = one.at  # what follows at a stretch was decided then
        before = one.at
        if one.facts is not None:
            reasons[one.key] |= _readers_of(one, begun - _READING_SECONDS, first, reasons[one.key])


def _readers_of(one: Sighting, latest: float, first: Mapping[str, float], known: Reason) -> Reason:
    readers = (_family(one), _PROXIED, f"{_PROGRAM}/{_family(one).partition('/')[2]}")
    if any(first.get(reader, math.inf) <= latest for reader in readers):
        return Reason.READ_FIRST
    if _is_late(one) or Reason.FAST_CLICK in known:  # many see no pictures; and who is fast cannot have read
        return NO_REASON
    return Reason.UNREAD if min(first.values(), default=math.inf) > latest else NO_REASON


_at: Final = attrgetter("at")
_PROXIED: Final = "proxied"
_PROGRAM: Final = "program"
_PROGRAMS: Final = frozenset({"outlook", "thunderbird"})


def _reader(one: Sighting) -> str:
    """Who loaded the pictures; a mail program opens links in whatever browser its system has."""
    if one.facts is None:
        return ""
    if one.facts.agent is Agent.IMAGE_PROXY:
        return _PROXIED
    program, _, system = one.facts.family.partition("/")
    return f"{_PROGRAM}/{system}" if program in _PROGRAMS else one.facts.family


_SIGNS: Final = frozenset({EventType.CLICKED, EventType.REPLIED, EventType.CONVERTED})


def _confirmed(ordered: Sequence[Sighting], judged: Mapping[str, Judged]) -> dict[str, Judged]:
    """Opens, and what was merely suspected, judged again in the light of what a person did in the mail later."""
    signs = [one for one in ordered if one.type in _SIGNS and judged[one.key].verdict in HUMAN_LIKELY]
    last = max((one.at for one in signs), default=None)
    changed = {}
    for one in ordered:
        before = judged[one.key]
        if one.type is EventType.OPENED and before.verdict in HUMAN_LIKELY:
            bit = Reason.CONFIRMED if last is not None and last >= one.at else Reason.UNCONFIRMED
        elif before.verdict is Verdict.SUSPECTED and last is not None and last >= one.at + _LATER_SECONDS:
            bit = Reason.CONFIRMED
        else:
            continue
        reasons = before.reasons | bit
        changed[one.key] = Judged(verdict=_verdict(one, reasons), reasons=reasons)
    return changed
