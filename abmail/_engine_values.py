"""What the engine's verbs hand back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from abmail._outbox import Sent
from abmail.spec import Experiment
from abmail.store import Epoch, Release

__all__ = ["Applied", "Opened", "Scheduled", "Status", "Tick", "Tracked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What `Engine.apply` changed.

    Attributes:
        experiment: Its name.
        version: The version now in force.
        new_version: Whether it is new.
        added: New rows in the ledger, held out recipients included.
    """

    experiment: str
    version: int
    new_version: bool
    added: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An epoch that a tick opened.

    Attributes:
        experiment: Its experiment.
        number: Its number, from 0.
        size: Recipients in it.
        weights: Cell's name -> share.
        reason: Why these weights, in words.
    """

    experiment: str
    number: int
    size: int
    weights: Mapping[str, float]
    reason: str

    @classmethod
    def of(cls, experiment: Experiment, epoch: Epoch, size: int) -> Opened:
        """An epoch in words and numbers, for the one who ticked."""
        names = [cell.name for cell in experiment.cells]
        return cls(
            experiment=experiment.name, number=epoch.number, size=size, reason=epoch.reason,
            weights=dict(zip(names, epoch.weights, strict=True)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """A part of the list whose mails got moments of their own.

    Attributes:
        experiment: Its experiment.
        size: Mails that got one.
        skipped: Mails for which no hour was left.
        reason: What the hours were chosen by, in words.
        first_at: When the first of them goes out, aware UTC; None where that is not known yet.
        last_at: When the last one does.
    """

    experiment: str
    size: int
    skipped: int = 0
    reason: str = ""
    first_at: datetime | None = None
    last_at: datetime | None = None

    @classmethod
    def of(cls, experiment: str, release: Release) -> Scheduled:
        """A release in words and numbers, for the one who ticked."""
        return cls(
            experiment=experiment, size=release.size, skipped=release.skipped, reason=release.reason,
            first_at=release.first_at, last_at=release.last_at,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one tick did.

    Attributes:
        scheduled: The parts of the list that got moments of their own.
        opened: The epochs it opened.
        outbox: Messages sent, retried, failed, uncertain and skipped.
        recovered: Messages of dead workers that are now ``uncertain``.
        next_at: When there is something to do next, aware UTC; None when all is done.
    """

    scheduled: tuple[Scheduled, ...] = ()
    opened: tuple[Opened, ...] = ()
    outbox: Sent = field(default_factory=Sent)
    recovered: int = 0
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """What the tracker needs to know of a message.

    Attributes:
        sent_at: When it was handed to the transport, aware UTC; None before.
        language: Language of the experiment's mails, ``en`` or ``ja``.
        keeps_requests: Whether the addresses and User-Agents of its readers are kept.
    """

    sent_at: datetime | None
    language: str
    keeps_requests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where an experiment stands.

    Attributes:
        experiment: Its name.
        state: ``running`` or ``stopped``.
        version: The version in force.
        messages: State -> number of messages.
        epochs: Epochs opened so far.
        planned_epochs: Epochs that were planned; 0 where no end is.
        next_at: When there is something to send next, aware UTC; None when all is done.
        paused: Why no mail goes out until it is resumed; None where mails do.
        stopped: Cells that get no more mail -> why.
    """

    experiment: str
    state: str
    version: int
    messages: Mapping[str, int]
    epochs: int
    planned_epochs: int
    next_at: datetime | None
    paused: str | None = None
    stopped: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether every message has come to its end: none waits, is under way or is uncertain."""
        return not any(self.messages.get(state) for state in ("queued", "assigned", "sending", "uncertain"))
