"""The engine as people have it who are in its list; only `abmail.engine` imports it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from abmail._engine_tracking import TrackingSide
from abmail._person import person_data
from abmail._timing import Timing
from abmail.store import Forgotten, Retired

__all__ = ["PeopleSide"]


class PeopleSide(TrackingSide):
    """What an `abmail.engine.Engine` tells of a person, and how it forgets."""

    _timing: Timing

    def forget(self, email: str, *, now: datetime | None = None, dry_run: bool = False) -> Forgotten:
        """Erase a person everywhere but in the counts, and see to it that no mail goes to them again.

        Harmless when repeated. The address stays known by a keyed hash alone: an import leaves it out.

        Args:
            email: The address, normalised.
            now: Time of the deed.
            dry_run: Only say what would be erased.

        Raises:
            StoreError: A mail to the person is on its way at this moment.
        """
        moment = now or self._clock()
        if not dry_run:  # a note that comes later would name a mail that nobody knows any more
            self._digest_all(lambda: moment)
        found = self.store.forget(email, now=moment, dry_run=dry_run)
        known = bool(found.recipient) and self._timing.forget(found.recipient, dry_run=dry_run)
        return replace(found, in_send_times=known)

    def person(self, email: str) -> dict[str, object]:
        """All that is kept of a person, JSON-able.

        Args:
            email: The address, normalised.
        """
        return person_data(email, self.store.holdings(email), variant=self._variant, model=self._timing.file)

    def _variant(self, experiment: str, cell: int) -> str:
        return self._definitions.of(self.store.experiment(experiment)).cells[cell].name

    def retire(self, *, keep: timedelta, now: datetime | None = None, dry_run: bool = False) -> Retired:
        """Drop what tells of people and is older than a stretch of time; reports stay as they are.

        Args:
            keep: How long it is kept.
            now: Time of the deed.
            dry_run: Only say what would be dropped.
        """
        moment = now or self._clock()
        if not dry_run:
            self._digest_all(lambda: moment)
        return self.store.retire(before=moment - keep, now=moment, dry_run=dry_run)
