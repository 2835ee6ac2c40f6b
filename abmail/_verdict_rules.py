"""What several events give away together: in one mail, from one network, at one company. Pure, and linear in time.

Each rule looks at its own neighbourhood only, so that the store can judge a new event among the few around it and
`abmail events rejudge` a whole experiment, with the same result.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

from abmail._event_types import HUMAN_LIKELY, EventType, Verdict
from abmail._tokens import HONEYPOT_LINK
from abmail._verdict_facts import Agent, RequestFacts, own_reasons
from abmail._verdict_reasons import COMPANY, NEAREST, NO_REASON, Reason, given_reasons, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "BURST_SECONDS",
    "NETWORK",
    "READING_SECONDS",
    "Judged",
    "Sighting",
    "crowded",
    "echoes",
    "judge_mail",
    "leave",
    "near",
    "readings",
    "stretches",
]

T = TypeVar("T")

BURST_SECONDS: Final = 10.0
"""A program that follows several links of a mail does so within this time."""

READING_SECONDS: Final = 10.0
"""Who follows a link sooner after loading the pictures has not read."""

_ECHO_SECONDS: Final = 3.0
_PAIR_SECONDS: Final = 5.0
_AT_ONCE_SECONDS: Final = 1.0
_LATER_SECONDS: Final = 60.0
_LATE_SECONDS: Final = 3_600.0
_LINKS: Final = 3
_PAIR: Final = 2
_SHORT_MAIL: Final = 4  # links
NETWORK: Final = Reason.NETWORK_BURST | Reason.NETWORK_ACROSS | Reason.NETWORK_ROBOT
"""What is known from a network's bursts."""

_AROUND: Final = NETWORK | COMPANY | NEAREST | Reason.NETWORK_HASTY
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


def echoes(clicks: Sequence[Sighting]) -> Iterator[str]:
    """Keys of a mail's clicks that come right behind another network's to the same link.

    Args:
        clicks: In the order of time.
    """
    inside: defaultdict[int | None, Counter[Hashable]] = defaultdict(Counter)  # networks of the seconds before, by link
    first = 0
    for one in clicks:
        while clicks[first].at < one.at - _ECHO_SECONDS:
            leave(inside[clicks[first].link], clicks[first].network)
            first += 1
        networks = inside[one.link]
        if one.network and len(networks) > ("" in networks) + (one.network in networks):
            yield one.key
        networks[one.network] += 1


def leave(inside: Counter[Hashable], who: Hashable) -> None:
    inside[who] -= 1
    if not inside[who]:
        del inside[who]


def crowded(
    group: Sequence[Sighting], who: Callable[[Sighting], Hashable], *, within: float, least: int
) -> Iterator[str]:
    """Keys of events, which come in the order of time, that lie with ``least`` different others in a stretch of it."""
    first = told = 0
    inside: Counter[Hashable] = Counter()
    for last, one in enumerate(group):
        inside[who(one)] += 1
        while one.at - group[first].at > within:
            leave(inside, who(group[first]))
            first += 1
        if len(inside) >= least:
            told = max(told, first)
            yield from (each.key for each in group[told : last + 1])
            told = last + 1


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
    _note_others(clicks, reasons, links)
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
    for key in crowded(linked, lambda one: one.link, within=BURST_SECONDS, least=_LINKS):
        reasons[key] |= Reason.LINK_BURST
    if links is not None and links <= _SHORT_MAIL:
        for key in crowded(linked, lambda one: one.link, within=_PAIR_SECONDS, least=_PAIR):
            reasons[key] |= NO_REASON if Reason.LINK_BURST in reasons[key] else Reason.LINK_PAIR
    for key in crowded(linked, lambda one: one.link, within=_AT_ONCE_SECONDS, least=_PAIR):
        reasons[key] |= Reason.LINKS_AT_ONCE
    for key in echoes(clicks):
        reasons[key] |= Reason.ECHO
    traps = [one.at for one in clicks if one.link == HONEYPOT_LINK]
    for one in near(clicks, traps, key=_at, within=BURST_SECONDS):
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


_LONE: Final = Reason.EARLY | Reason.UNREAD


def _note_others(clicks: Sequence[Sighting], reasons: dict[str, Reason], links: int | None) -> None:
    for one in clicks:  # a scanner comes first: who comes after it from elsewhere, or with another program, is another
        if one.at > clicks[0].at + _LATER_SECONDS and _source(one) != _source(clicks[0]):
            reasons[one.key] |= Reason.ANOTHER if reasons[one.key] & COMPANY else NO_REASON
            beside = one.network == clicks[0].network and reasons[one.key] & (
                Reason.NETWORK_ROBOT | Reason.NETWORK_BURST
            )
            reasons[one.key] |= Reason.ANOTHER_BESIDE if beside else NO_REASON
    if links == 1:
        for one in clicks:
            reasons[one.key] |= Reason.LONE_LINK if _LONE in reasons[one.key] else NO_REASON


def _is_late(one: Sighting) -> bool:
    return one.age is not None and one.age >= _LATE_SECONDS


def _source(one: Sighting) -> tuple[str, str]:
    return one.network, _family(one)


def _family(one: Sighting) -> str:
    return "" if one.facts is None else one.facts.family


def _note_opens(opens: Sequence[Sighting], clicks: Sequence[Sighting], reasons: dict[str, Reason]) -> None:
    """A browser that follows a mail's links on its own also loads its pictures."""
    machines = [one.at for one in clicks if verdict_of(reasons[one.key]) is Verdict.MACHINE]
    for one in near(opens, machines, key=_at, within=BURST_SECONDS):
        if not reasons[one.key]:
            reasons[one.key] |= Reason.NEAR_MACHINE


def stretches(clicks: Sequence[Sighting]) -> Iterator[tuple[Sighting, float]]:
    """The clicks of a mail, in the order of time, and by when who followed them had to have read it.

    What follows at a stretch was decided with the first of it.
    """
    begun = before = -math.inf
    for one in clicks:
        if one.at - before > BURST_SECONDS:
            begun = one.at
        before = one.at
        yield one, begun - READING_SECONDS


def readings(sightings: Iterable[Sighting], clicks: Sequence[Sighting]) -> tuple[dict[str, float], bool]:
    """When each network first opened a mail, as far as the requests say, and whether Apple's privacy hides that.

    Who follows a link within seconds of loading the pictures has not read.

    Args:
        sightings: All events of the mail.
        clicks: Its clicks, in the order of time.

    Returns:
        Network -> seconds since the epoch, ``""`` for image proxies and where nobody knows; and whether it is hidden.
    """
    first: dict[str, float] = {}
    hidden = False
    for one in sightings:
        if one.type is EventType.OPENED:
            bits = _alone(one)
            hidden = hidden or Reason.APPLE_PRIVACY in bits
            if verdict_of(bits) in HUMAN_LIKELY and not _is_hasty(one, clicks):
                first[one.network] = min(first.get(one.network, math.inf), one.at)
    return first, hidden


def _is_hasty(opened: Sighting, clicks: Sequence[Sighting]) -> bool:
    first, last = bisect_left(clicks, opened.at, key=_at), bisect_right(clicks, opened.at + READING_SECONDS, key=_at)
    return any(one.network == opened.network for one in clicks[first:last])


def _note_readers(opens: Sequence[Sighting], clicks: Sequence[Sighting], reasons: dict[str, Reason]) -> None:
    """Whether somebody had opened the mail before a link was followed, and with such a program."""
    seen = [one for one in opens if verdict_of(reasons[one.key]) in HUMAN_LIKELY]
    first: dict[str, float] = {}
    for one in seen:
        first.setdefault(_reader(one), one.at)
    hidden = any(Reason.APPLE_PRIVACY in reasons[one.key] for one in opens)
    for one, latest in stretches(clicks):
        if one.facts is not None:
            found = _readers_of(one, latest, first, reasons[one.key])
            veiled = hidden and one.facts.family.endswith(_APPLES)
            reasons[one.key] |= NO_REASON if veiled and found is Reason.UNREAD else found


def _readers_of(one: Sighting, latest: float, first: Mapping[str, float], known: Reason) -> Reason:
    readers = (_family(one), _PROXIED, f"{_PROGRAM}/{_family(one).partition('/')[2]}")
    if any(first.get(reader, math.inf) <= latest for reader in readers):
        return Reason.READ_FIRST
    if _is_late(one) or Reason.FAST_CLICK in known:  # many see no pictures; and who is fast cannot have read
        return NO_REASON
    return Reason.UNREAD if min(first.values(), default=math.inf) > latest else NO_REASON


_at: Final = attrgetter("at")
_APPLES: Final = ("/ios", "/mac")
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
