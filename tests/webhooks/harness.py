"""What a provider's tests hold, and how the whole events that are expected are written down."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from abmail.events import Agent, Event, EventType, RequestFacts, Verdict
from abmail.webhooks import Adapter

NOW = datetime(2026, 11, 28, tzinfo=UTC)
OURS = "0123456789abcdef0123456789abcdef"
DIGEST = "of the item"
FLAGS = {
    "sg_machine_open", "bot_apple", "bot_gmail", "bot_generic", "proxy_open", "is_prefetched", "auto_reply", "challenge",
}  # fmt: skip
"""The providers' own words for machines."""
AGENTS = {"apple_privacy": "apple_privacy", "known_machine": "machine", "image_proxy": "image_proxy"}
"""Of the reasons that come from the User-Agent: the kind of program."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A whole event but for its source, as it is expected.

    Attributes:
        at: ISO 8601; empty where the payload tells no time, and the event has that of its receipt.
        message: The provider's id of the message.
        ours: Our id of the message, which then is the event's.
        agent: Kind of program that asked; empty where the payload does not tell its User-Agent.
        family: Its browser and system.
        key: The provider's id of the event; else a digest of the item stands for it.
    """

    type: str
    at: str = ""
    message: str = ""
    ours: str = ""
    key: str = DIGEST
    verdict: str = "human"
    reasons: Sequence[str] = ()
    agent: str = ""
    family: str = ""
    link: int | None = None
    detail: str = ""
    hard: bool = False

    def event(self, source: str, key: str) -> Event:
        """The event; a digest cannot be foretold and is taken over from ``key``."""
        return Event(
            type=EventType(self.type),
            at=datetime.fromisoformat(self.at) if self.at else NOW,
            message_id=self.ours or f"{source}:{self.message}",
            verdict=Verdict(self.verdict),
            reasons=tuple(self.reasons),
            facts=self._facts(source),
            link=self.link,
            source=source,
            key=key if self.key == DIGEST else f"{source}:{self.key}",
            detail=self.detail,
            hard=self.hard,
        )

    def _facts(self, source: str) -> RequestFacts | None:
        """What an open or a click goes with, unless its source gave the verdict itself."""
        if source == "standard" or self.type not in {"opened", "clicked"} or {*self.reasons} & FLAGS:
            return None
        told = next((AGENTS[reason] for reason in self.reasons if reason in AGENTS), "unknown")
        return RequestFacts(agent=Agent(self.agent or told), family=self.family)


def seen(type_: str, **fields: Any) -> Seen:
    """Short for `Seen`."""
    return Seen(type=type_, **fields)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A signed request."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Signs(Protocol):
    """Signs a payload as the provider does, with the secret of that number; 2 is one that the adapter lacks."""

    def __call__(self, payload: Any, *, at: datetime, secret: int = 0) -> Request: ...


@dataclass(frozen=True, kw_only=True)
class Provider:
    """All that is known of a provider in the tests.

    Attributes:
        adapter: With two secrets.
        sign: See `Signs`.
        covers: How much of the body a signature covers.
        expected: Case of the published payloads -> events.
        documented: Further payloads, written after the documentation, each with its events.
        unknown: A payload of a kind that nobody knows, and the name of that kind.
        items: From payloads to a body's value that holds all of them, where the provider sends several.
    """

    adapter: Adapter
    sign: Signs
    covers: Literal["all", "part", "nothing"]
    expected: Mapping[str, Sequence[Seen]]
    documented: Sequence[tuple[Any, Sequence[Seen]]]
    unknown: tuple[Any, str]


def provider(name: str) -> Provider:
    """The tests of a provider, out of its own module."""
    found: Provider = importlib.import_module(f"webhooks.{name}").PROVIDER
    return found


def as_json(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def payloads(name: str) -> Iterator[Any]:
    """What the documentation of a provider shows, and a kind of event that nobody knows."""
    yield from (payload for payload, _ in provider(name).documented)
    yield provider(name).unknown[0]


ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, 1e300, "", "x", "é\0\ud800", "9" * 400, [], {}, [[]], [None], {"": None},
    [{"a": []}], {"name": 7, "value": []}, "2026-13-45", "{", '{"abmail_message": 7}', "https://[",
    "a@b.example " * 300,
)  # fmt: skip


def mutated(payload: Any, rng: random.Random) -> Any:
    """The payload with some values replaced, removed or moved a level down."""
    if rng.random() < 0.08:
        return rng.choice(ODD)
    if isinstance(payload, dict):
        return {
            rng.choice(("x", key)) if rng.random() < 0.03 else key: mutated(each, rng)
            for key, each in payload.items()
            if rng.random() > 0.03
        }
    if isinstance(payload, list):
        return [mutated(each, rng) for each in payload for _ in range(rng.choice((1, 1, 1, 2)))]
    return payload
