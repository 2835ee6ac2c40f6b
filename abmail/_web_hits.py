"""What a request said, kept until a writer judges and stores it together with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from abmail._event_notes import note_of
from abmail.events import Event, EventType, Signer, Token, crowd_of, facts_of, judge_facts
from abmail.store import CrowdHit

if TYPE_CHECKING:
    from datetime import datetime

    from abmail._verdict_facts import RequestFacts

_MOST_AGENT: Final = 500  # characters

__all__ = ["Hit", "Journal", "SentMessage", "Tracking", "journalist", "recorder"]


class SentMessage(Protocol):
    """What the tracker needs to know of a message."""

    @property
    def sent_at(self) -> datetime | None:
        """When a server accepted it, aware UTC; None where not known."""

    @property
    def language(self) -> str:
        """Language of its reader: ``en`` or ``ja``."""

    @property
    def keeps_requests(self) -> bool:
        """Whether the address and User-Agent of its reader are kept with the events."""


class Tracking(Protocol):
    """What stands behind the tracker. Its methods are called from several threads at once and may block."""

    @property
    def signer(self) -> Signer:
        """Verifies the tokens."""

    def message(self, message_id: str, /) -> SentMessage | None:
        """Look a message up; None where it is not known."""

    def messages(self, message_ids: Sequence[str], /) -> Mapping[str, SentMessage]:
        """Look many messages up at once; those that are not known are left out."""

    def hosted(self, message_id: str, /) -> str | None:
        """A sent mail as a page; None where there is none."""

    def record_all(self, events: Iterable[Event], /) -> object:
        """Store events in one transaction; those with a key that was stored before change nothing."""

    def count_crowd(self, hits: Iterable[CrowdHit], /) -> object:
        """Count opens and clicks of mails that are counted without a person, each once."""

    def unsubscribe(self, message_id: str, /, *, at: datetime, reason: str) -> None:
        """Never mail the message's recipient again: idempotent, and committed before it returns."""

    def ping(self) -> None:
        """Raise an error where the database cannot be reached."""


class Journal(Protocol):
    """Where opens and clicks are kept first, to be judged when there is time; an `Engine` fits."""

    @property
    def keeps_requests(self) -> bool:
        """Whether for any mail the addresses and User-Agents of its readers are kept: no note has these."""

    def journal(self, notes: Sequence[str], /) -> None:
        """Keep lines in one transaction."""

    def digest(self) -> tuple[int, Sequence[Event]]:
        """Judge and record some of the oldest: how many lines they were, 0 where none is left, and their events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A request for a pixel or a link, with what it tells of who made it.

    Attributes:
        type: ``opened`` or ``clicked``.
        token: What its URL said, verified.
        at: When it came, aware UTC.
        method: HTTP method.
        headers: Those that a verdict is made of: names in lower case, and values.
        address: Of the reader, empty where it is not known. For judging only: nobody stores it.
    """

    type: EventType
    token: Token
    at: datetime
    method: str
    headers: Mapping[str, str]
    address: str = ""


def recorder(
    tracking: Tracking, *, on_stored: Callable[[Sequence[Event]], None] = lambda _: None
) -> Callable[[Sequence[Hit]], None]:
    """What judges and stores a group of hits: one look-up, one transaction. Hits of unknown messages are left out.

    Args:
        tracking: Where messages and events are.
        on_stored: Told the events of each group that was stored, those included that were known before.
    """

    def record(hits: Sequence[Hit]) -> None:
        if crowd := [_crowd_hit(hit) for hit in hits if hit.token.kind in {"O", "C"}]:
            tracking.count_crowd(crowd)
        hits = [hit for hit in hits if hit.token.kind in {"o", "c"}]
        known = tracking.messages(list({hit.token.message_id for hit in hits}))
        found = ((hit, known.get(hit.token.message_id)) for hit in hits)
        events = [_event(hit, message, tracking.signer) for hit, message in found if message is not None]
        if events:
            tracking.record_all(events)
            on_stored(events)

    return record


def journalist(
    journal: Journal, signer: Signer, *, at_once: Callable[[Sequence[Hit]], None]
) -> Callable[[Sequence[Hit]], None]:
    """What keeps a group of hits for later.

    Args:
        journal: Where to.
        signer: Makes keyed hashes of networks.
        at_once: Takes those that cannot wait: of mails that are counted without a person, and whose requests are kept.
    """

    def keep(hits: Sequence[Hit]) -> None:
        later = [] if journal.keeps_requests else [hit for hit in hits if hit.token.kind in {"o", "c"}]
        if len(later) < len(hits):
            gone = set(map(id, later))
            at_once([hit for hit in hits if id(hit) not in gone])
        journal.journal([note_of(hit.type, hit.token, hit.at, _facts(hit, signer)) for hit in later])

    return keep


def _facts(hit: Hit, signer: Signer) -> RequestFacts:
    agent, network = hit.headers.get("user-agent", ""), signer.network(hit.address)
    return facts_of(method=hit.method, user_agent=agent, headers=hit.headers, network=network)


def _event(hit: Hit, message: SentMessage, signer: Signer) -> Event:
    facts = _facts(hit, signer)
    age = None if message.sent_at is None else (hit.at - message.sent_at).total_seconds()
    found = judge_facts(hit.type, facts, age=age, link=hit.token.link)
    asked = f"{hit.address} {hit.headers.get('user-agent', '')[:_MOST_AGENT]}".strip()
    return Event(
        type=hit.type,
        at=hit.at,
        message_id=hit.token.message_id,
        link=hit.token.link,
        verdict=found.verdict,
        reasons=found.reasons,
        facts=facts,
        detail=asked if message.keeps_requests else "",
    )


def _crowd_hit(hit: Hit) -> CrowdHit:
    """Judged by itself: of other hits of its mail or of its network nothing is kept."""
    agent, ident = hit.headers.get("user-agent", ""), hit.token.message_id
    facts = facts_of(method=hit.method, user_agent=agent, headers=hit.headers, network="")
    age = (hit.at - crowd_of(ident).sent_at).total_seconds()
    found = judge_facts(hit.type, facts, age=age, link=hit.token.link)
    return CrowdHit(id=ident, type=hit.type, at=hit.at, verdict=found.verdict, reasons=found.reasons)
