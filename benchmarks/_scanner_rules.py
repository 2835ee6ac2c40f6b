"""Judges a day of `benchmarks._scanner_day` by the rules alone, without a store: for figures over many mails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from abmail._company import company_of
from abmail._verdict_around import (
    Delivery,
    company_reasons,
    follow_up,
    hasty_networks,
    is_phone,
    is_soon,
    is_swift,
    nearest_reasons,
    network_reasons,
    passings,
)
from abmail._verdict_reasons import NO_REASON, Reason
from abmail._verdict_rules import Sighting, judge_mail
from abmail.events import HUMAN_LIKELY, EventType, RequestFacts, Signer, facts_of
from benchmarks._scanner_day import Day

__all__ = ["counted_clicks"]

_SIGNER = Signer(b"the secret of a made-up day")


def counted_clicks(day: Day, links: Sequence[int]) -> NDArray[np.bool_]:
    """(n,) whether each mail counts as clicked."""
    seen = _sightings(day)
    around, nearest, swept = network_reasons(seen), nearest_reasons(seen), _swept(day, seen)
    hasty = hasty_networks(passings(seen))
    by_mail: defaultdict[str, list[Sighting]] = defaultdict(list)
    for one in seen:
        bits = around.get(one.key, NO_REASON)
        bits |= follow_up(one, swept.get(one.mail, NO_REASON), links=links[int(day.arms[int(one.mail)])])
        bits |= nearest.get(one.key, NO_REASON)
        bits |= Reason.NETWORK_HASTY if one.key in hasty and not is_phone(one) else NO_REASON
        by_mail[one.mail].append(replace(one, around=bits))
    counts = np.zeros(len(day.sent), dtype=bool)
    for mail, own in by_mail.items():
        judged = judge_mail(own, links=links[int(day.arms[int(mail)])])
        clicks = [one for one in own if one.type is EventType.CLICKED]
        counts[int(mail)] = any(judged[one.key].verdict in HUMAN_LIKELY for one in clicks)
    return counts


def _sightings(day: Day) -> list[Sighting]:
    known: dict[tuple[str, str], RequestFacts] = {}
    seen = []
    for number, one in enumerate(day.requests):
        if one.method == "HEAD":  # the tracker ignores it
            continue
        who = one.agent, one.address
        if who not in known:
            known[who] = facts_of(user_agent=one.agent, network=_SIGNER.network(one.address))
        seen.append(
            Sighting(
                key=str(number), mail=str(one.mail), type=EventType.CLICKED if one.link else EventType.OPENED,
                at=one.at, delivered=float(day.sent[one.mail]), link=one.link or None, facts=known[who],
                company=company_of(day.domains[one.mail]),
            )
        )  # fmt: skip
    return seen


def _swept(day: Day, seen: Sequence[Sighting]) -> dict[str, Reason]:
    swift, soon = ({one.mail for one in seen if rule(one)} for rule in (is_swift, is_soon))
    mails: defaultdict[str, list[Delivery]] = defaultdict(list)
    for number, domain in enumerate(day.domains):
        if company := company_of(domain):
            mail = str(number)
            mails[company].append(Delivery(float(day.sent[number]), mail, mail in swift, mail in soon))
    return {mail: bits for own in mails.values() for mail, bits in company_reasons(own).items()}
