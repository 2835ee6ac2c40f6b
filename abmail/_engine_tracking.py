"""The engine as the tracker sees it; only `abmail.engine` imports it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from abmail._delivery import Definitions
from abmail._engine_values import Tracked
from abmail._event_notes import event_of
from abmail.events import Event
from abmail.store import Backlog, CrowdHit, Store, StoredMessage

__all__ = ["TrackingSide"]

_LOOK_AGAIN: Final = timedelta(seconds=10)
_DIGESTED: Final = 1_000


class TrackingSide:
    """What an `abmail.engine.Engine` knows and does for its tracker."""

    store: Store
    _clock: Callable[[], datetime]
    _definitions: Definitions
    _mails: dict[str, tuple[str, bool]]
    _keeps_requests: tuple[datetime, bool] | None = None

    def message(self, message_id: str) -> Tracked | None:
        """What the tracker needs to know of a message; None where there is none."""
        found = self.store.message(message_id)
        return None if found is None else self._tracked(found)

    def messages(self, message_ids: Sequence[str]) -> dict[str, Tracked]:
        """The same of many messages at once; those that there are not are left out."""
        found = self.store.messages_of(message_ids)
        return {each.id: self._tracked(each) for each in found}

    def _tracked(self, message: StoredMessage) -> Tracked:
        if message.experiment not in self._mails:
            definition = self._definitions.of(self.store.experiment(message.experiment))
            self._mails[message.experiment] = (definition.message.language or "en", definition.keeps_requests)
        language, keeps_requests = self._mails[message.experiment]
        return Tracked(sent_at=message.attempted_at, language=language, keeps_requests=keeps_requests)

    def ping(self) -> None:
        """Ask the database for nothing, to see whether it answers.

        Raises:
            StoreError: It does not.
        """
        self.store.ping()

    def count_crowd(self, hits: Iterable[CrowdHit]) -> int:
        """Count opens and clicks of mails that are counted without a person; see `Store.count_crowd`."""
        return self.store.count_crowd(hits)

    def journal(self, notes: Sequence[str]) -> None:
        """Keep opens and clicks, as `note_of` writes them, until there is time to judge them."""
        self.store.journal(notes, now=self._clock())

    def backlog(self) -> Backlog:
        """What `journal` kept and nobody judged yet."""
        return self.store.backlog()

    def digest(self, *, limit: int = 100, now: datetime | None = None) -> tuple[int, Sequence[Event]]:
        """Judge and record the oldest of what `journal` kept: their number, and the events. A tick does it for all."""
        return self.store.digest(event_of, limit=limit, now=now or self._clock())

    @property
    def keeps_requests(self) -> bool:
        """Whether any experiment keeps the addresses and User-Agents of readers, as of the last ten seconds."""
        now, known = self._clock(), self._keeps_requests
        if known is None or not known[0] <= now < known[0] + _LOOK_AGAIN:
            stored = self.store.experiments()
            known = self._keeps_requests = (now, any(self._definitions.of(each).keeps_requests for each in stored))
        return known[1]

    def _digest_all(self, clock: Callable[[], datetime]) -> None:
        """Judge and record all that the tracker has seen so far."""
        while self.digest(limit=_DIGESTED, now=clock())[0]:
            pass
