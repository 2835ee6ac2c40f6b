"""What a request said, kept until a writer judges and stores it together with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from abmail._event_notes import note_of, told_of
from abmail.events import Event, EventType, Signer, crowd_of, facts_of, judge_facts, parts_of
from abmail.store import CrowdHit

if TYPE_CHECKING:
    from abmail._verdict_facts import RequestFacts
    from abmail.store import Backlog

_CROWD: Final = frozenset(b"OC")
_MOST_AGENT: Final = 1_000  # bytes that are looked at, as `facts_of` does
_MOST_PURPOSE: Final = 200
_MOST_KEPT: Final = 500  # characters of a User-Agent that are kept where they may be

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

    def digest(self, *, limit: int) -> tuple[int, Sequence[Event]]:
        """Judge and record some of the oldest: how many lines they were, 0 where none is left, and their events."""

    def backlog(self) -> Backlog:
        """How many lines are kept, and since when the first of them has been."""


class Hit(NamedTuple):
    """A request for a pixel or a link, with what it tells of who made it: as it came, made sense of later.

    Attributes:
        signed: What its token says, as `Signer.signed` gives it.
        at: When it came, in microseconds since 1970.
        agent: Its User-Agent, empty where it had none.
        purpose: What it says of being a prefetch, mostly empty.
        address: Of the reader, empty where it is not known. For judging only: nobody stores it.
    """

    signed: bytes
    at: int
    agent: bytes = b""
    purpose: bytes = b""
    address: str = ""

    @property
    def type(self) -> EventType:
        """``opened`` or ``clicked``."""
        return _TYPES[chr(self.signed[1])]

    @property
    def is_of_crowd(self) -> bool:
        """Whether its mail is counted without a person."""
        return self.signed[1] in _CROWD

    @property
    def moment(self) -> datetime:
        """When it came, aware UTC."""
        return datetime.fromtimestamp(self.at / 1e6, UTC)


_TYPES: Final = {
    "o": EventType.OPENED, "O": EventType.OPENED, "c": EventType.CLICKED, "C": EventType.CLICKED,
}  # fmt: skip


def recorder(
    tracking: Tracking, *, on_stored: Callable[[Sequence[Event]], None] = lambda _: None
) -> Callable[[Sequence[Hit]], None]:
    """What judges and stores a group of hits: one look-up, one transaction. Hits of unknown messages are left out.

    Args:
        tracking: Where messages and events are.
        on_stored: Told the events of each group that was stored, those included that were known before.
    """

    def record(hits: Sequence[Hit]) -> None:
        if crowd := [_crowd_hit(hit) for hit in hits if hit.is_of_crowd]:
            tracking.count_crowd(crowd)
        parted = [(hit, parts_of(hit.signed)[1]) for hit in hits if not hit.is_of_crowd]
        known = tracking.messages(list({message_id for _, message_id in parted}))
        found = ((hit, known.get(message_id)) for hit, message_id in parted)
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
        now = hits if journal.keeps_requests else [hit for hit in hits if hit.signed[1] in _CROWD]
        if now:
            at_once(now)
        if len(now) < len(hits):
            journal.journal([_note(hit, signer) for hit in hits if hit.signed[1] not in _CROWD])

    return keep


def _note(hit: Hit, signer: Signer) -> str:
    kind, message_id, link = parts_of(hit.signed)
    told = _told(hit.agent[:_MOST_AGENT], hit.purpose[:_MOST_PURPOSE])
    return note_of(_TYPES[kind], message_id, link, hit.at, told, signer.network(hit.address))


@lru_cache(4_096)  # the same few programs ask again and again
def _told(agent: bytes, purpose: bytes) -> str:
    return told_of(_facts_of(agent, purpose, ""))


def _facts(hit: Hit, signer: Signer) -> RequestFacts:
    return _facts_of(hit.agent, hit.purpose, signer.network(hit.address))


def _facts_of(agent: bytes, purpose: bytes, network: str) -> RequestFacts:
    headers = {"purpose": purpose.decode("latin-1")}
    return facts_of(method="GET", user_agent=agent.decode("latin-1"), headers=headers, network=network)


def _event(hit: Hit, message: SentMessage, signer: Signer) -> Event:
    facts, (kind, message_id, link) = _facts(hit, signer), parts_of(hit.signed)
    age = None if message.sent_at is None else (hit.moment - message.sent_at).total_seconds()
    found = judge_facts(_TYPES[kind], facts, age=age, link=link)
    asked = f"{hit.address} {hit.agent.decode('latin-1')[:_MOST_KEPT]}".strip()
    return Event(
        type=_TYPES[kind],
        at=hit.moment,
        message_id=message_id,
        link=link,
        verdict=found.verdict,
        reasons=found.reasons,
        facts=facts,
        detail=asked if message.keeps_requests else "",
    )


def _crowd_hit(hit: Hit) -> CrowdHit:
    """Judged by itself: of other hits of its mail or of its network nothing is kept."""
    kind, ident, link = parts_of(hit.signed)
    age = (hit.moment - crowd_of(ident).sent_at).total_seconds()
    found = judge_facts(_TYPES[kind], _facts_of(hit.agent, hit.purpose, ""), age=age, link=link)
    return CrowdHit(id=ident, type=_TYPES[kind], at=hit.moment, verdict=found.verdict, reasons=found.reasons)
