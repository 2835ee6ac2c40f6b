"""An open or click in one short line: what the tracker keeps at once, and what makes an event of it later."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from abmail._event_types import EventType
from abmail._verdict_facts import Agent, RequestFacts
from abmail.events import Event, judge_facts

if TYPE_CHECKING:
    from abmail.events import Token

__all__ = ["event_of", "note_of"]

_VERSION: Final = 1


def note_of(type_: EventType, token: Token, at: datetime, facts: RequestFacts) -> str:
    """Write it down. Neither an address nor a User-Agent is in it."""
    link = "null" if token.link is None else token.link
    told = _told(facts.head, facts.prefetch, facts.agent, facts.family)
    return f'[{_VERSION},"{type_.value}","{token.message_id}",{link},{at.timestamp()!r},{told},"{facts.network}"]'


@lru_cache(4_096)  # the same few programs ask again and again
def _told(head: bool, prefetch: bool, agent: Agent, family: str) -> str:
    return json.dumps(RequestFacts(head=head, prefetch=prefetch, agent=agent, family=family).to_dict())


def event_of(note: str) -> Event:
    """Read it again.

    Raises:
        ValueError: It is no such line.
    """
    try:
        version, kind, message_id, link, at, told, network = json.loads(note)
        facts = RequestFacts(**{**told, "agent": Agent(told.get("agent", Agent.UNKNOWN)), "network": network})
        known = EventType(kind)
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise ValueError(f"this is no note of an open or click: {note[:80]!r}") from error
    if version != _VERSION:
        raise ValueError(f"a note of version {version} comes from another version of abmail")
    found = judge_facts(known, facts, age=None, link=link)
    return Event(
        type=known, at=moment, message_id=message_id, link=link, verdict=found.verdict, reasons=found.reasons,
        facts=facts,
    )  # fmt: skip
