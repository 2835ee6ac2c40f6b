"""Recipients, and addresses that must never be mailed; only `abmail.store` imports this module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from abmail import _tables as t
from abmail._connection import BATCH, Connected, batches
from abmail._records import Imported, recipient_row, same_recipient, to_recipient
from abmail.recipient import Recipient

__all__ = ["People"]


class People(Connected):
    """The part of the store that knows who there is."""

    def import_recipients(self, recipients: Iterable[Recipient], *, now: datetime) -> Imported:
        """Insert or update recipients; the id decides who is who.

        A recipient whose address another id already has is left out and named in the result.
        """
        new = updated = unchanged = 0
        conflicts: list[str] = []
        with self._write() as db:
            for batch in batches(recipients):
                known = {row.id: row for row in db.execute(_by(t.recipients, "id", [r.id for r in batch]))}
                owner = {row.email: row.id for row in db.execute(_by(t.recipients, "email", [r.email for r in batch]))}
                rows = []
                for recipient in batch:
                    before = known.get(recipient.id)
                    if owner.get(recipient.email, recipient.id) != recipient.id:
                        conflicts.append(recipient.id)
                    elif before is not None and same_recipient(before, recipient):
                        unchanged += 1
                    else:
                        owner[recipient.email] = recipient.id
                        new, updated = (new + 1, updated) if before is None else (new, updated + 1)
                        rows.append(recipient_row(recipient, now))
                if rows:
                    self._upsert(db, t.recipients, rows, ["email", "attributes", "zone", "domain"])
        return Imported(new=new, updated=updated, unchanged=unchanged, conflicts=tuple(conflicts))

    def recipients(self) -> Iterator[Recipient]:
        """All recipients, by id."""
        with self._read() as db:
            result = db.execution_options(yield_per=BATCH).execute(sa.select(t.recipients).order_by(t.recipients.c.id))
            for row in result:
                yield to_recipient(row)

    def count_recipients(self) -> int:
        """Number of recipients."""
        return self._number(t.recipients, sa.true())

    def _number(self, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
        with self._read() as db:
            return db.execute(sa.select(sa.func.count()).select_from(table).where(where)).scalar_one()

    def suppress(self, emails: Iterable[str], *, reason: str, now: datetime) -> int:
        """Never mail these addresses again; returns how many were not suppressed before."""
        with self._write() as db:
            return sum(
                self._insert_new(db, t.suppressions, [{"email": e, "reason": reason, "at": now} for e in batch])
                for batch in batches(emails)
            )

    def suppressed(self) -> dict[str, str]:
        """Suppressed addresses with the reason."""
        with self._read() as db:
            return {row.email: row.reason for row in db.execute(sa.select(t.suppressions))}


def _by(table: sa.Table, column: str, values: Sequence[str]) -> sa.Select[Any]:
    return sa.select(table).where(table.c[column].in_(values))
