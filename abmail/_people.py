"""Recipients, and addresses that must never be mailed; only `abmail.store` imports this module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail._connection import BATCH, Connected, batches
from abmail._records import Imported, recipient_row, same_recipient, to_recipient
from abmail.errors import StoreError
from abmail.recipient import Recipient

__all__ = ["People"]


class People(Connected):
    """The part of the store that knows who there is, and who must never come back.

    Attributes:
        fingerprints: Keyed hashes of an address, by which those who were forgotten are known again; set by whoever
            holds the key.
    """

    fingerprints: Callable[[str], tuple[str, ...]] | None = None

    def import_recipients(self, recipients: Iterable[Recipient], *, now: datetime) -> Imported:
        """Insert or update recipients; the id decides who is who.

        A recipient whose address another id already has is left out and named in the result; so is one who was
        forgotten.
        """
        new = updated = unchanged = 0
        conflicts: list[str] = []
        gone: list[str] = []
        with self._write() as db:
            for people in batches(recipients):
                erased = self._erased(db, [each.email for each in people])
                gone += [each.id for each in people if each.email in erased]
                batch = [each for each in people if each.email not in erased]
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
        return Imported(
            new=new, updated=updated, unchanged=unchanged, conflicts=tuple(conflicts), forgotten=tuple(gone)
        )

    def _erased(self, db: sa.Connection, emails: Sequence[str]) -> frozenset[str]:
        """Those of some addresses whose owners were forgotten."""
        if not db.execute(_ANY_FORGOTTEN).scalar_one():
            return frozenset()
        hashes = {each: email for email in emails for each in self._hashes(email)}
        return frozenset(hashes[row.hash] for row in db.execute(_by(t.forgotten, "hash", list(hashes))))

    def _hashes(self, email: str) -> tuple[str, ...]:
        if self.fingerprints is None:
            raise StoreError(
                "people were forgotten here, and without the signing key nobody can tell who",
                hint="open the database through an Engine",
            )
        return self.fingerprints(email)

    def recipients(self) -> Iterator[Recipient]:
        """All recipients, by id."""
        with self._read() as db:
            result = db.execution_options(yield_per=BATCH).execute(_LISTED)
            for row in result:
                yield to_recipient(row)

    def arrivals(self, since: datetime) -> Iterator[tuple[Recipient, datetime]]:
        """Recipients who came onto the list since a moment, and when."""
        query = sa.select(t.recipients).where(t.recipients.c.imported_at >= since).order_by(t.recipients.c.id)
        with self._read() as db:
            for row in db.execution_options(yield_per=BATCH).execute(query):
                yield to_recipient(row), row.imported_at

    def count_recipients(self) -> int:
        """Number of recipients."""
        return self._number(t.recipients, t.recipients.c.erased_at.is_(None))

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


_ANY_FORGOTTEN: Final = sa.select(sa.exists().select_from(t.forgotten))
_LISTED: Final = sa.select(t.recipients).where(t.recipients.c.erased_at.is_(None)).order_by(t.recipients.c.id)


def _by(table: sa.Table, column: str, values: Sequence[str]) -> sa.Select[Any]:
    return sa.select(table).where(table.c[column].in_(values))
