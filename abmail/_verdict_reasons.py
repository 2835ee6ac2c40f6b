"""Why an event got its verdict: named bits, what each of them weighs, and the verdict that they add up to."""

from __future__ import annotations

from enum import IntFlag
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from abmail._event_types import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "COMPANY",
    "NEAREST",
    "NO_REASON",
    "RULES_VERSION",
    "Reason",
    "given_reasons",
    "is_strict",
    "names_of",
    "verdict_of",
]

RULES_VERSION: Final = 3
"""Goes up whenever a rule, a weight or a window changes: verdicts of older rules can then be made anew."""


class Reason(IntFlag):
    """What speaks for or against a machine. The numbers are stored: a bit is never given another meaning."""

    HEAD_REQUEST = 1 << 0  # HEAD shows nothing to a person
    PREFETCH_HEADER = 1 << 1  # Purpose, Sec-Purpose, X-Purpose or X-Moz says prefetch, prerender, preview
    NO_USER_AGENT = 1 << 2  # the request names no program
    APPLE_PRIVACY = 1 << 3  # User-Agent exactly "Mozilla/5.0": Apple's prefetching mail privacy
    GMAIL_PREFETCH = 1 << 4  # Gmail's prefetcher in the guise of Edge 12
    IMAGE_PROXY_EARLY = 1 << 5  # Gmail's or Yahoo's image proxy within 10 s of delivery
    IMAGE_PROXY_CLICK = 1 << 6  # an image proxy follows a link
    KNOWN_MACHINE = 1 << 7  # crawlers, scanners, link previews, HTTP libraries
    REPORTED_MACHINE = 1 << 8  # who reports the event says so
    HONEYPOT = 1 << 9  # follows a link that nobody can see
    NEAR_HONEYPOT = 1 << 10  # within 10 s of one that did, in the same mail
    LINKS_AT_ONCE = 1 << 11  # several links of one mail within a second
    LINK_BURST = 1 << 12  # three links of one mail within 10 s
    NEAR_MACHINE = 1 << 13  # an open within 10 s of a machine's click in the same mail
    FAST_CLICK = 1 << 14  # a click within 5 s of delivery
    NOT_A_BROWSER = 1 << 15  # a click from what does not even claim to be a browser
    REPORTED_SUSPECTED = 1 << 16  # who reports the event doubts it
    NETWORK_ACROSS = 1 << 17  # one network clicks in mails to three companies within a minute
    COMPANY_SWEEP = 1 << 18  # half of a company's mails are clicked within minutes of delivery
    NETWORK_BURST = 1 << 19  # one network clicks in three people's mails within 30 s
    EARLY = 1 << 20  # a click within two minutes of delivery
    UNREAD = 1 << 21  # nobody had opened the mail before it was clicked
    UNCONFIRMED = 1 << 22  # an open that no click, reply or conversion confirms
    IMAGE_PROXY = 1 << 23  # Gmail's or Yahoo's image proxy: a person opened, the device is hidden
    READ_FIRST = 1 << 24  # a program like this one had opened the mail at least 5 s before
    CONFIRMED = 1 << 25  # the same mail has a later sign of a person
    CLOCK_AHEAD = 1 << 26  # it claims a time after we saw it
    LINK_PAIR = 1 << 27  # two links of one mail that has no more than four within 10 s
    NETWORK_ROBOT = 1 << 28  # its network follows several links at a time in three mails, in the ten minutes around
    LATE = 1 << 29  # an hour and more after delivery, when people come and scanners seldom do
    NETWORK_BLIND = 1 << 30  # its network follows links for three companies and never reads before
    COMPANY_ROUND = 1 << 31  # half of a company's mails are clicked within half an hour of delivery
    COMPANY_SCANNED = 1 << 32  # the first click in a mail whose neighbours at the company were swept
    LONE_LINK = 1 << 33  # early and unread in a mail with a single link, where no burst can show
    ANOTHER = 1 << 34  # not where, or not with what, someone came a minute before: its company says nothing of it
    ANOTHER_BESIDE = 1 << 35  # with another program from the same network: its network says nothing of it, either
    NETWORK_HASTY = 1 << 36  # a quarter of its network's clicks, at three companies, come within minutes of delivery
    NETWORK_RETURNS = 1 << 37  # its network comes, at two companies, an hour and more after a scanner did
    NETWORK_KNOWN = 1 << 38  # half of its network's nearest clicks are plainly a program's
    ECHO = 1 << 39  # right behind another network's click to the same link of the mail


NO_REASON: Final = Reason(0)
_SURE: Final = 100
_SUSPECTED: Final = 3
_MACHINE: Final = 4
_POINTS: Final = {
    **dict.fromkeys(
        (
            Reason.HEAD_REQUEST, Reason.PREFETCH_HEADER, Reason.NO_USER_AGENT, Reason.APPLE_PRIVACY,
            Reason.GMAIL_PREFETCH, Reason.IMAGE_PROXY_EARLY, Reason.IMAGE_PROXY_CLICK, Reason.KNOWN_MACHINE,
            Reason.REPORTED_MACHINE, Reason.HONEYPOT, Reason.NEAR_HONEYPOT, Reason.LINKS_AT_ONCE, Reason.NEAR_MACHINE,
        ),
        _SURE,
    ),
    Reason.LINK_BURST: 4,
    Reason.FAST_CLICK: 3,
    Reason.NOT_A_BROWSER: 3,
    Reason.REPORTED_SUSPECTED: 3,
    Reason.LINK_PAIR: 3,
    Reason.NETWORK_ACROSS: 3,
    Reason.NETWORK_ROBOT: 3,
    Reason.COMPANY_SWEEP: 3,
    Reason.NETWORK_BLIND: 3,
    Reason.NETWORK_HASTY: 3,
    Reason.NETWORK_RETURNS: 3,
    Reason.NETWORK_KNOWN: 3,
    Reason.ECHO: 3,
    Reason.NETWORK_BURST: 2,
    Reason.COMPANY_ROUND: 2,
    Reason.COMPANY_SCANNED: 2,
    Reason.LONE_LINK: 1,
    Reason.EARLY: 1,
    Reason.UNREAD: 1,
    Reason.READ_FIRST: -2,
    Reason.CONFIRMED: -2,
    Reason.LATE: -2,
}  # fmt: skip
"""What a reason weighs: 3 points make an event suspected, 4 a machine's."""

COMPANY: Final = Reason.COMPANY_SWEEP | Reason.COMPANY_ROUND | Reason.COMPANY_SCANNED
"""What is known from a company's mails."""

NEAREST: Final = Reason.NETWORK_BLIND | Reason.NETWORK_RETURNS | Reason.NETWORK_KNOWN
"""What is known from the nearest clicks of a network."""

_OUTWEIGHS: Final = {
    Reason.ANOTHER: COMPANY,
    Reason.ANOTHER_BESIDE: Reason.NETWORK_ROBOT | Reason.NETWORK_BURST,
    **dict.fromkeys(NEAREST | Reason.NETWORK_HASTY, Reason.READ_FIRST),
}
"""Reasons that take others their weight."""

_SPEAKS_FOR_A_PERSON: Final = (
    Reason.READ_FIRST | Reason.CONFIRMED | Reason.LATE | Reason.ANOTHER | Reason.ANOTHER_BESIDE
)


@lru_cache(maxsize=4096)
def verdict_of(reasons: Reason) -> Verdict:
    """The verdict that reasons add up to.

    >>> str(verdict_of(Reason.FAST_CLICK)), str(verdict_of(Reason.FAST_CLICK | Reason.NOT_A_BROWSER))
    ('suspected', 'machine')
    """
    weighed = reasons
    for reason, others in _OUTWEIGHS.items():
        weighed &= ~others if reason in reasons else weighed
    points = sum(_POINTS.get(reason, 0) for reason in weighed)
    if points >= _MACHINE:
        return Verdict.MACHINE
    if points >= _SUSPECTED:
        return Verdict.SUSPECTED
    return Verdict.PROXY if Reason.IMAGE_PROXY in reasons else Verdict.HUMAN


def is_strict(verdict: Verdict, reasons: Reason) -> bool:
    """Whether an event counts even in the strictest view: a person's, with nothing that speaks against it."""
    return verdict is Verdict.HUMAN and not reasons & ~_SPEAKS_FOR_A_PERSON


def names_of(reasons: Reason) -> tuple[str, ...]:
    """The reasons' names in lower case, in the order of their numbers."""
    return tuple(str(reason.name).lower() for reason in reasons)


_BY_NAME: Final = {str(reason.name).lower(): reason for reason in Reason}
_REPORTED: Final = {
    Verdict.MACHINE: Reason.REPORTED_MACHINE,
    Verdict.SUSPECTED: Reason.REPORTED_SUSPECTED,
    Verdict.PROXY: Reason.IMAGE_PROXY,
    Verdict.HUMAN: NO_REASON,
}


def given_reasons(verdict: Verdict, names: Iterable[str]) -> Reason:
    """The bits of a verdict that a source gave with its event; words of its own become the source's say-so.

    >>> given_reasons(Verdict.MACHINE, ("sg_machine_open",)).name
    'REPORTED_MACHINE'
    """
    known = NO_REASON
    for name in names:
        known |= _BY_NAME.get(name, NO_REASON)
    return known if verdict_of(known) is verdict else known | _REPORTED[verdict]
