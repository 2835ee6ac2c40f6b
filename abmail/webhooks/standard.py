"""Our own events in JSON, signed after the Standard Webhooks: for everybody who has no adapter of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from abmail.events import Event
from abmail.webhooks._item import Item
from abmail.webhooks._proof import MINUTES, secrets_field
from abmail.webhooks._reading import Batch, gathered, json_of, listed, require_past
from abmail.webhooks._standard import require_standard

__all__ = ["ADAPTER", "Standard"]

_LONGEST: Final = 500  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """Events as `Event.to_dict` writes them: one, a list of them, or in the envelope that the standard advises.

    Attributes:
        secrets: Base64, with or without ``whsec_`` before it.
        tolerance: Seconds that a signature may be old; each attempt is signed anew.
    """

    name: ClassVar[str] = "standard"
    secrets: tuple[str, ...] = secrets_field()
    tolerance: float = 5 * MINUTES

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """See `Adapter.verify`."""
        require_standard(headers, body, self.secrets, now=now, tolerance=self.tolerance)

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """See `Adapter.parse`."""

        def read(item: Item, _: str) -> Iterable[Event]:
            event = Event.from_dict({"source": cls.name, **_fields(item)})
            require_past(event.at, now)
            _require_short(event)
            return [event]

        return gathered(listed(json_of(body)), read)


def _require_short(event: Event) -> None:
    """Refuse names that no index of a database takes."""
    for name in ("key", "message_id", "experiment", "recipient", "source"):
        if len(getattr(event, name)) > _LONGEST:
            raise ValueError(f"{name!r} is longer than {_LONGEST} characters")


def _fields(item: Item) -> Mapping[str, object]:
    """The event's fields; in an envelope ``type`` and ``timestamp`` stand outside of ``data``."""
    if "data" not in item.fields:
        return item.fields
    outer = {"type": item.fields.get("type"), "at": item.fields.get("timestamp")}
    return {**{name: value for name, value in outer.items() if value is not None}, **item.part("data").fields}


ADAPTER: Final = Standard
