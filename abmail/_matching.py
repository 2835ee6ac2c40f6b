"""Finding the message that an event of elsewhere is about; only `abmail.store` imports this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from abmail import _tables as t

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["known_messages", "messages_to"]

_values: sa.BindParameter[Any] = sa.bindparam("values", expanding=True)
_KNOWN: Final = sa.select(t.messages.c.id).where(t.messages.c.id.in_(_values))
_mails = t.messages.c.experiment == sa.bindparam("e")
_BY_ID: Final = (
    sa.select(t.messages.c.recipient, t.messages.c.id)
    .where(_mails, t.messages.c.recipient.in_(_values))
    .order_by(t.messages.c.step)
)
_BY_EMAIL: Final = (
    sa.select(t.recipients.c.email, t.messages.c.id)
    .join_from(t.recipients, t.messages)
    .where(_mails, t.recipients.c.email.in_(_values))
    .order_by(t.messages.c.step)
)


def known_messages(db: sa.Connection, ids: Sequence[str]) -> frozenset[str]:
    return frozenset(db.execute(_KNOWN, {"values": list(ids)}).scalars()) if ids else frozenset()


def messages_to(db: sa.Connection, name: str, *, recipients: Sequence[str], emails: Sequence[str]) -> dict[str, str]:
    """Id or address -> message; of several steps the last one."""
    found: dict[str, str] = {}
    for query, values in ((_BY_EMAIL, emails), (_BY_ID, recipients)):
        if values:
            found |= {row[0]: row.id for row in db.execute(query, {"e": name, "values": list(values)})}
    return found
