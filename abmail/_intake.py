"""From the rows of a file to the record of events: find each one's message, and store what was found."""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from abmail.errors import mask_address
from abmail.events import Event
from abmail.ingest import Draft, Refused
from abmail.store import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from abmail.ingest import Export
    from abmail.store import Store

__all__ = ["Ingested", "take_in"]

_BATCH: Final = 5_000


@dataclass(slots=True, kw_only=True)
class Ingested:
    """What became of the rows of a file, in numbers.

    Attributes:
        new: Events that were recorded.
        known: Events that had been recorded before.
        unknown: Events of messages that are not in the ledger, kept apart.
        foreign: Rows about mails that are not abmail's.
        nothing: Rows that say nothing of a mail.
        refused: Rows that could not be used.
    """

    new: int = 0
    known: int = 0
    unknown: int = 0
    foreign: int = 0
    nothing: int = 0
    refused: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.new + self.known + self.unknown + self.foreign + self.nothing + self.refused


def take_in(
    store: Store,
    export: Export,
    *,
    refused: Callable[[Refused], None],
    told: Callable[[int], None],
    now: datetime,
) -> Ingested:
    """Record the events of a file; see `abmail.engine.Engine.ingest`."""
    intake = _Intake(store, refused, frozenset(each.name for each in store.experiments()), now)
    for row in export.rows(now=now, told=told):
        intake.take(row)
    intake.flush()
    return intake.done


class _Intake:
    """Collects rows until there are enough for a transaction."""

    def __init__(
        self, store: Store, refused: Callable[[Refused], None], experiments: frozenset[str], now: datetime
    ) -> None:
        self.done = Ingested()
        self._store, self._refused, self._experiments, self._now = store, refused, experiments, now
        self._waiting: list[Event | Draft] = []

    def take(self, row: Event | Draft | Refused | None) -> None:
        if row is None:
            self.done.nothing += 1
        elif isinstance(row, Refused):
            self._refuse(row)
        elif isinstance(row, Draft) and (problem := self._lacks(row)):
            self._refuse(Refused(line=row.line, message=problem, raw=row.raw))
        else:
            self._waiting.append(row)
            if len(self._waiting) >= _BATCH:
                self.flush()

    def flush(self) -> None:
        """Store what waits."""
        batch, self._waiting = self._waiting, []
        events = list(self._events(batch))
        for outcome in self._store.record(events, now=self._now):
            if outcome is Recorded.NEW:
                self.done.new += 1
            elif outcome is Recorded.DUPLICATE:
                self.done.known += 1
            else:
                self.done.unknown += 1

    def _refuse(self, row: Refused) -> None:
        self.done.refused += 1
        self._refused(row)

    def _lacks(self, draft: Draft) -> str:
        """What is missing for a message to be found; empty where nothing is."""
        if draft.message_id or (draft.foreign and not draft.experiment):
            return ""
        if not (draft.recipient or draft.email):
            return "the row does not say whose mail it is"
        if not draft.experiment:
            return "the row names neither our message nor an experiment; --experiment says which one it is"
        if draft.experiment in self._experiments:
            return ""
        near = difflib.get_close_matches(draft.experiment, self._experiments, n=1)
        hint = (
            f"did you mean {near[0]}?" if near else "--experiment, or `experiments` in a mapping, says which one it is"
        )
        return f"no experiment {draft.experiment!r} was applied; {hint}"

    def _events(self, batch: Sequence[Event | Draft]) -> Iterable[Event]:
        drafts = [row for row in batch if isinstance(row, Draft)]
        ledger = self._store.known_messages([draft.message_id for draft in drafts if draft.message_id])
        people = self._people([draft for draft in drafts if draft.message_id not in ledger and draft.experiment])
        for row in batch:
            event = row if isinstance(row, Event) else self._event(row, ledger, people)
            if event is not None:
                yield event

    def _people(self, drafts: Sequence[Draft]) -> Mapping[str, Mapping[str, str]]:
        """Experiment -> id or address -> message."""
        wanted: defaultdict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
        for draft in drafts:
            wanted[draft.experiment][0 if draft.recipient else 1].add(draft.recipient or draft.email)
        return {
            name: self._store.messages_to(name, recipients=sorted(ids), emails=sorted(emails))
            for name, (ids, emails) in wanted.items()
            if name in self._experiments
        }

    def _event(self, draft: Draft, ledger: frozenset[str], people: Mapping[str, Mapping[str, str]]) -> Event | None:
        who = draft.recipient or draft.email
        found = draft.message_id if draft.message_id in ledger else people.get(draft.experiment, {}).get(who, "")
        if not found and draft.foreign and not draft.experiment:
            self.done.foreign += 1
            return None
        try:
            if found:
                return draft.event(found)
            problem = f"{draft.experiment or 'abmail'} has no mail to {mask_address(who)}" if who else _NOT_OURS
        except ValueError as error:
            problem = str(error)
        self._refuse(Refused(line=draft.line, message=problem, raw=draft.raw))
        return None


_NOT_OURS: Final = "no message of this id is in the ledger"
