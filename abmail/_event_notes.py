"""An open or click in one short line: what the tracker keeps at once, and what makes an event of it later."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from abmail._event_types import EventType
from abmail._verdict_facts import Agent, RequestFacts
from abmail.events import Event, judge_facts

__all__ = ["event_of", "note_of", "told_of"]

_VERSION: Final = 2
_UNITS: Final = {1: 1.0, _VERSION: 1e6}  # of the moment in a note, a second


def note_of(type_: EventType, message_id: str, link: int | None, at: int, told: str, network: str) -> str:
    """Write it down. Neither an address nor a User-Agent is in it.

    Args:
        type_: ``opened`` or ``clicked``.
        message_id: Of the mail.
        link: Number of the link that was followed.
        at: Microseconds since 1970.
        told: What `told_of` makes of the request.
        network: What `Signer.network` makes of its address.
    """
    return f'[{_VERSION},"{type_}","{message_id}",{"null" if link is None else link},{at},{told},"{network}"]'


def told_of(facts: RequestFacts) -> str:
    """The part of a note that is the same for all requests of one program; it says nothing of the network."""
    return json.dumps(replace(facts, network="").to_dict())


def event_of(note: str) -> Event:
    """Read it again.

    Raises:
        ValueError: It is no such line.
    """
    try:
        version, kind, message_id, link, at, told, network = json.loads(note)
        facts = RequestFacts(**{**told, "agent": Agent(told.get("agent", Agent.UNKNOWN)), "network": network})
        known = EventType(kind)
        moment = datetime.fromtimestamp(at / _UNITS.get(version, 1.0), UTC)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise ValueError(f"this is no note of an open or click: {note[:80]!r}") from error
    if version not in _UNITS:
        raise ValueError(f"a note of version {version} comes from another version of abmail")
    found = judge_facts(known, facts, age=None, link=link)
    return Event(
        type=known, at=moment, message_id=message_id, link=link, verdict=found.verdict, reasons=found.reasons,
        facts=facts,
    )  # fmt: skip
