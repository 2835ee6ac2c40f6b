"""Files of what a provider's webhooks posted, one body or one of its items after the other."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from abmail._export_rows import Refused
from abmail.errors import WebhookError
from abmail.events import Event, EventType
from abmail.webhooks import parse, providers

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["are_webhooks", "read_webhook"]

_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def are_webhooks(provider: str, first: dict[str, Any] | None) -> bool:
    """Whether an item is what the provider's webhooks post, and no row of a report, whose times they don't know."""
    if first is None or provider not in providers():
        return False
    rows = list(read_webhook(provider, 1, first, now=_LATEST))
    return any(isinstance(row, Event) and row.type is not EventType.UNKNOWN and row.at != _LATEST for row in rows)


def read_webhook(provider: str, line: int, item: dict[str, Any], *, now: datetime) -> Iterator[Event | Refused]:
    """The events of an item, and what in it is none."""
    try:
        batch = parse(provider, json.dumps(item).encode(), now=now)
    except WebhookError as error:
        yield Refused(line=line, message=error.message, raw=item)
        return
    yield from batch.events
    for problem in batch.problems:
        message = f"{problem.place}: {problem.message}" if problem.place else problem.message
        yield Refused(line=line, message=message, raw=json.loads(problem.raw))
