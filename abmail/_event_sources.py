"""Whose reports of a kind of event count in an experiment; only `abmail.store` imports this module.

Where the own tracker and a mail service both report opens, one person's open would come from two sides, judged by two
rules. One source counts for each kind; what others report is kept beside.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail.events import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

__all__ = ["ONE_SOURCE", "Sources"]

ONE_SOURCE: Final = (EventType.OPENED, EventType.CLICKED, EventType.REPLIED, EventType.CONVERTED)
"""The kinds of events that one source reports for each experiment; of the others every report counts."""

_OWN: Final = "own"
_names: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)
_SOURCES = sa.select(t.event_sources).where(t.event_sources.c.experiment.in_(_names))
_SETTINGS = sa.select(t.experiments.c.name, t.experiments.c.sources).where(
    t.experiments.c.name.in_(_names), t.experiments.c.sources.is_not(None)
)


class Sources:
    """Notes who reports what, and says whose reports count.

    Args:
        upserts: The statements whose form depends on the database.
    """

    def __init__(self, upserts: Any) -> None:
        self._upserts = upserts

    def note(self, db: sa.Connection, seen: Iterable[tuple[str, str, str, datetime]]) -> frozenset[str]:
        """Note events by experiment, type, source and time; gives the experiments where another source counts now."""
        firsts: dict[tuple[str, str, str], datetime] = {}
        for experiment, type_, source, at in seen:
            if type_ in ONE_SOURCE:
                place = experiment, str(type_), source
                firsts[place] = min(at, firsts.get(place, at))
        if not firsts:
            return frozenset()
        names = {experiment for experiment, *_ in firsts}
        before = self.chosen(db, names)
        db.execute(
            self._upserts.source,
            [
                {"experiment": e, "type": type_, "source": source, "first_at": at}
                for (e, type_, source), at in sorted(firsts.items())
            ],
        )
        after = self.chosen(db, names)
        # A kind that nobody reported before has no counts to correct.
        return frozenset(name for name in names if any(after[name][kind] != old for kind, old in before[name].items()))

    def set(self, db: sa.Connection, name: str, definition: Mapping[str, Any]) -> bool:
        """Note what a definition says of the sources; returns whether another one counts now."""
        wanted = definition.get("metrics", {}).get("sources") or None
        before = self.chosen(db, [name])[name]
        db.execute(t.experiments.update().where(t.experiments.c.name == name).values(sources=wanted))
        return self.chosen(db, [name])[name] != before

    def chosen(self, db: sa.Connection, names: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
        """Experiment -> kind of event -> the source that counts: as was set, else the own tracker, else the first."""
        known = {"names": sorted(names)}
        told: defaultdict[str, defaultdict[str, list[tuple[bool, datetime, str]]]]
        told = defaultdict(lambda: defaultdict(list))
        for row in db.execute(_SOURCES, known):
            told[row.experiment][row.type].append((row.source != _OWN, row.first_at, row.source))
        found = {name: {kind: min(sources)[-1] for kind, sources in told[name].items()} for name in known["names"]}
        for row in db.execute(_SETTINGS, known):
            found[row.name] |= row.sources
        return found
