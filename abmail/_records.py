"""What the store hands out, and how rows become values; only `abmail.store` imports this module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from abmail._verdict_reasons import is_strict, names_of
from abmail.events import HUMAN_LIKELY, Event, EventType, Reason, Verdict
from abmail.recipient import Recipient, email_domain

BIN_SECONDS: Final = 600
"""Width of a bin of the counts, in seconds."""

UNTRACKED: Final = "untracked"
"""Metric of the mails without pixel and tracked links: of their opens and clicks nothing can be known."""

_LAST_BIN: Final = 30 * 86_400 // BIN_SECONDS
_COUNTED: Final = frozenset({
    EventType.OPENED, EventType.CLICKED, EventType.REPLIED, EventType.CONVERTED, EventType.COMPLAINED,
    EventType.UNSUBSCRIBED, EventType.BOUNCED,
})  # fmt: skip

_ENGAGED: Final = frozenset({
    EventType.DELIVERED, EventType.OPENED, EventType.CLICKED, EventType.READ, EventType.REPLIED, EventType.CONVERTED,
    EventType.COMPLAINED, EventType.UNSUBSCRIBED,
})  # fmt: skip


class State(StrEnum):
    """Where a message stands; see the module's drawing."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    HELD_OUT = "held_out"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Tracking(StrEnum):
    """Whose opens and clicks of a mail are counted: a person's, somebody's, or nobody's."""

    PERSON = "person"
    CROWD = "crowd"
    NONE = "none"


class Recorded(StrEnum):
    """What became of an event."""

    NEW = "new"
    DUPLICATE = "duplicate"
    UNKNOWN_MESSAGE = "unknown_message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import changed: numbers of rows.

    Left out were, as ids: those whose address another recipient already has, and those who were forgotten.
    """

    new: int
    updated: int
    unchanged: int
    conflicts: tuple[str, ...]
    forgotten: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipient as a plan looks at it: why it may not be mailed (empty: it may), and has it a row in the ledger."""

    recipient: Recipient
    suppressed: str
    known: bool

    @classmethod
    def of(cls, recipient: Recipient, reason: str | None, *, known: bool) -> Candidate:
        """One with the reason of the suppression, None where there is none; a reason may have been left blank."""
        return cls(recipient, "" if reason is None else reason or "no reason given", known)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExperiment:
    """An applied experiment with its newest version."""

    name: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    verdict: Mapping[str, Any] | None
    version: int
    spec_hash: str
    content_hash: str
    definition: Mapping[str, Any]
    template: str
    text_template: str | None
    waves: tuple[int, ...]
    paused_at: datetime | None = None
    pause_reason: str | None = None

    @property
    def sends(self) -> bool:
        """Whether its mails may go out: it runs, and is not paused."""
        return self.state == "running" and self.paused_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The stretch between two re-weightings: weights that were fixed when it opened, and why.

    ``remaining`` is the number of mails that waited for later epochs then, None where it was not noted. ``segments``
    has the weights of each segment where segments learn for themselves; everybody else goes by ``weights``.
    """

    number: int
    version: int
    opened_at: datetime
    size: int
    planned: int
    weights: tuple[float, ...]
    policy: Mapping[str, Any]
    seed: int
    reason: str
    remaining: int | None = None
    segments: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def tests(self) -> bool:
        """Whether anybody had a choice of cells in it; not where one cell went to everybody."""
        return any(max(shares) < 1.0 for shares in (self.weights, *self.segments.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedArm:
    """A cell that gets no more mail while its experiment goes on.

    Attributes:
        cell: Its name.
        at: When it was stopped, aware UTC.
        reason: Why, in words.
        by: ``hand`` or ``guardrail``.
    """

    cell: str
    at: datetime
    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What one recipient gets in an epoch: the cell, the chance there was of it, and the segment that decided it."""

    cell: int
    propensity: float
    stratum: str = ""
    tracking: Tracking = Tracking.PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdHit:
    """An open or click of a mail that is counted without a person.

    Attributes:
        id: As `abmail.events.crowd_id` made it.
        type: ``opened`` or ``clicked``.
        at: When, aware UTC.
        verdict: Who caused it.
        reasons: Why that verdict; names of rules.
    """

    id: str
    type: EventType
    at: datetime
    verdict: Verdict
    reasons: tuple[str, ...] = ()


class Waiting(NamedTuple):
    """A message that waits for its hour, and who it is for."""

    message: str
    zone: str
    recipient: Recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The moment that a waiting message got, and how it came by it.

    Attributes:
        message: Its id.
        due_at: The moment, aware UTC; None where there is none left for it.
        expires_at: When it is too late to send it; None for never.
        hour: Local hour of the recipient's week, 0 = Monday 00:00.
        ahead: Seconds that the recipient's clock is ahead of UTC then.
        arm: How the hour was chosen, as `abmail.sendtime.SendPlan` names it.
        control: Whether the recipient is one of those who always get the fixed hour.
        propensity: Chance of this hour; None where the throughput moved it.
        chance: Predicted chance of an open; None where nothing was predicted.
        chance_fixed: The same at the fixed hour.
        reason: Why there is no moment, in words; empty where there is one.
    """

    message: str
    due_at: datetime | None
    expires_at: datetime | None
    hour: int
    ahead: int
    arm: str
    control: bool
    propensity: float | None
    chance: float | None
    chance_fixed: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A part of the list whose mails got their moments together.

    Attributes:
        number: From 0.
        at: When, aware UTC.
        size: Mails that got a moment.
        skipped: Mails for which none was left.
        weights: Hour of the day -> share, where hours are compared.
        habits: When people read, as it was known then.
        reason: What the hours were chosen by, in words.
        first_at: The first of the moments; None where there is none, or the release was read from the ledger.
        last_at: The last of them.
    """

    number: int
    at: datetime
    size: int
    skipped: int
    reason: str
    weights: Mapping[int, float] = field(default_factory=dict)
    habits: Mapping[str, Any] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None


class SlotMail(NamedTuple):
    """A mail that was sent at an hour of its own, and the first time that a person opened or clicked it.

    ``ahead`` is by how many seconds the recipient's clock was ahead of UTC then.
    """

    recipient: str
    experiment: str
    release: int
    hour: int
    arm: str
    control: bool
    propensity: float | None
    sent_at: datetime
    opened_at: datetime | None
    clicked_at: datetime | None
    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A message that one worker may send now."""

    id: str
    experiment: str
    version: int
    epoch: int
    cell: int
    attempts: int
    recipient: Recipient
    first_attempt_at: datetime | None = None
    expires_at: datetime | None = None
    stratum: str = ""
    tracking: Tracking = Tracking.PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a message that a worker held.

    Attributes:
        message: Its id.
        state: ``sent``, ``failed``, ``uncertain``, or ``assigned`` where it is to be tried again.
        at: When that was known, aware UTC.
        error: Why, in words.
        code: The server's reply code.
        refusal: ``hard``, ``soft``, ``policy`` or ``other`` where it was refused for good.
        due_at: When it is to be tried again.
        attempted: Whether this counts as a try.
        links: Number of tracked links in the mail; None where not known.
    """

    message: str
    state: State
    at: datetime
    error: str | None = None
    code: int | None = None
    refusal: str = ""
    due_at: datetime | None = None
    attempted: bool = True
    links: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A row of the ledger as a tracker or a report needs it."""

    id: str
    experiment: str
    recipient: str
    email: str
    state: State
    epoch: int | None
    cell: int | None
    propensity: float | None
    attempts: int
    attempted_at: datetime | None
    sent_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The counts of one experiment as they stood at one moment.

    Attributes:
        n_epochs: Number of epochs.
        n_cells: Number of cells.
        epoch: (rows,) index of the epoch.
        cell: (rows,) index of the cell.
        metric: (rows,) name: ``sent``, or an outcome such as ``clicked`` (human-likely) and ``clicked_all``.
        bin: (rows,) 10-minute steps: age of the epoch for ``sent``, delay after the send for outcomes.
        n: (rows,) messages.
    """

    n_epochs: int
    n_cells: int
    epoch: NDArray[np.int64]
    cell: NDArray[np.int64]
    metric: NDArray[np.str_]
    bin: NDArray[np.int64]
    n: NDArray[np.int64]

    def matrix(self, metric: str, *, window: float = float("inf")) -> NDArray[np.int64]:
        """Sum a metric per epoch and cell.

        Args:
            metric: Its name.
            window: Longest delay that counts, seconds; every bin that starts before it.

        Returns:
            (n_epochs, n_cells) int64.
        """
        chosen = (self.metric == metric) & (self.bin * BIN_SECONDS < window)
        total = np.zeros((self.n_epochs, self.n_cells), dtype=np.int64)
        np.add.at(total, (self.epoch[chosen], self.cell[chosen]), self.n[chosen])
        return total

    def rows(
        self, metric: str, *, less: str = ""
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The rows of one metric, without those that are in another one too: epoch, cell, bin, n."""
        chosen, n = self.metric == metric, self.n
        if less and (away := self.metric == less).any():
            places = np.stack([self.epoch, self.cell, self.bin])
            _, place = np.unique(places, axis=1, return_inverse=True)
            place = place.reshape(-1)
            n = n - np.bincount(place[away], n[away], place.max() + 1).astype(np.int64)[place]
            chosen &= n > 0
        return self.epoch[chosen], self.cell[chosen], self.bin[chosen], n[chosen]


class ValuedMail(NamedTuple):
    """A mail that brought something in: its epoch and cell, its reader's company (`home_of`), the sum of its values."""

    epoch: int
    cell: int
    company: str
    value: float


class CompanyMails(NamedTuple):
    """What a company was sent in an epoch, cell and stratum, and how many answered, by the outcome's name."""

    epoch: int
    cell: int
    stratum: str
    company: str
    n: int
    answered: Mapping[str, int]


class PastMail(NamedTuple):
    """A mail that was sent, and the first time that a person opened and clicked it; None for never."""

    recipient: str
    experiment: str
    zone: str
    sent_at: datetime
    attributes: Mapping[str, Any]
    opened_at: datetime | None
    clicked_at: datetime | None
    machine: bool  # only machines opened it: nobody knows whether a person did


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """What there is to know of an experiment's events beside their counts.

    Attributes:
        reclassified: Verdicts that changed after their event was no longer provisional.
        unjudged: Opens and clicks that came before there were rules, see `abmail events rejudge`.
        sources: Kind of event -> whose reports count.
        beside: Kind and source -> number of reports that are kept and not counted.
    """

    reclassified: int = 0
    unjudged: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudged:
    """What the rules of today make of stored events.

    Attributes:
        events: Verdicts that they change.
        touched: Events whose verdict, reasons or version of the rules change.
        moves: Cell, kind, verdict before and after -> number of events in mails that were sent.
        tally: The counts as they would be.
    """

    events: int
    touched: int
    moves: Mapping[tuple[int, str, str, str], int]
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An experiment as it stood at one moment.

    Attributes:
        stored: It with its newest version.
        epochs: First to last.
        tally: The counts.
        states: Number of messages in each state.
        last_send: Per epoch, when its last message was handed over.
        unsettled: Per epoch, how many messages may still go out.
        waves: Sizes of the epochs as they were planned when the first one opened.
        segments: The counts for each value of the attribute that was asked for; empty where none was.
        values: What each mail brought in, where a value was asked for.
        companies: What each company did, where that was asked for.
        strata: The counts for each segment with weights of its own, as it was when the mails got their cells.
        stopped: The arms that get no more mail.
        facts: What there is to know of its events beside the counts.
    """

    stored: StoredExperiment
    epochs: tuple[Epoch, ...]
    tally: Tally
    states: Mapping[State, int]
    last_send: Mapping[int, datetime]
    unsettled: Mapping[int, int]
    waves: tuple[int, ...]
    segments: Mapping[str, Tally]
    values: tuple[ValuedMail, ...] = ()
    companies: tuple[CompanyMails, ...] = ()
    strata: Mapping[str, Tally] = field(default_factory=dict)
    stopped: tuple[StoppedArm, ...] = ()
    facts: EventFacts = field(default_factory=EventFacts)


def bin_of(start: datetime, at: datetime) -> int:
    """The 10-minute bin of a time after its start; clocks that disagree put nothing before the first bin."""
    return min(max(int((at - start).total_seconds() // BIN_SECONDS), 0), _LAST_BIN)


def sends_of(row: Any) -> tuple[str, ...]:
    """The counts that a mail which was sent belongs to; an untracked one tells nothing of opens and clicks."""
    return ("sent", UNTRACKED) if row.tracking == Tracking.NONE else ("sent",)


def metrics_of(type_: EventType, verdict: Verdict, reasons: Reason, *, judged: bool) -> tuple[str, ...]:
    """The counts that an event belongs to: human-likely ones, and for opens and clicks all, strict and machines' ones.

    Events of older versions, which were never judged by rules, are in neither of the last two.
    """
    if type_ not in _COUNTED:
        return ()
    likely = (type_.value,) if verdict in HUMAN_LIKELY else ()
    if type_ not in {EventType.OPENED, EventType.CLICKED}:
        return likely
    strict = (f"{type_}_strict",) if judged and is_strict(verdict, reasons) else ()
    machine = (f"{type_}_machine",) if judged and verdict is Verdict.MACHINE else ()
    return (*likely, f"{type_}_all", *strict, *machine)


def suppression_reason(event: Event) -> str:
    """Why an event's address is never to be mailed again; empty where it may be."""
    if event.type in {EventType.UNSUBSCRIBED, EventType.COMPLAINED} and event.verdict != Verdict.MACHINE:
        return event.type.value
    return "bounced" if event.type == EventType.BOUNCED and event.hard else ""


def proves_delivery(state: str, event: Event) -> bool:
    """Whether an event shows that the server took a message of which we did not know it (or were told otherwise)."""
    if state == State.FAILED:
        return event.type in _ENGAGED and event.verdict in HUMAN_LIKELY
    return state in {State.SENDING, State.UNCERTAIN} and event.type in _ENGAGED | {EventType.SENT, EventType.BOUNCED}


def recipient_row(recipient: Recipient, now: datetime) -> dict[str, Any]:
    return {
        "id": recipient.id, "email": recipient.email, "attributes": dict(recipient.attributes), "zone": recipient.zone,
        "imported_at": now, "domain": email_domain(recipient.email),
    }  # fmt: skip


def same_recipient(row: sa.Row[Any], recipient: Recipient) -> bool:
    return bool(
        row.email == recipient.email and row.zone == recipient.zone and row.attributes == dict(recipient.attributes)
    )


def to_recipient(row: sa.Row[Any]) -> Recipient:
    return Recipient(id=row.id, email=row.email, attributes=row.attributes, zone=row.zone)


def epoch_row(epoch: Epoch, *, size: int, remaining: int) -> dict[str, Any]:
    return {
        "number": epoch.number, "version": epoch.version, "opened_at": epoch.opened_at, "size": size,
        "planned": epoch.planned, "weights": list(epoch.weights), "policy": dict(epoch.policy), "seed": epoch.seed,
        "reason": epoch.reason, "remaining": remaining,
        "segments": {name: list(own) for name, own in epoch.segments.items()} or None,
    }  # fmt: skip


def to_claimed(row: sa.Row[Any], recipient: Recipient, version: int) -> Claimed:
    return Claimed(
        id=row.id, experiment=row.experiment, version=version, epoch=row.epoch, cell=row.cell,
        attempts=row.attempts, recipient=recipient, first_attempt_at=row.first_attempt_at,
        expires_at=row.expires_at, stratum=row.stratum, tracking=Tracking(row.tracking),
    )  # fmt: skip


def to_epoch(row: sa.Row[Any]) -> Epoch:
    return Epoch(
        number=row.number, version=row.version, opened_at=row.opened_at, size=row.size, planned=row.planned,
        weights=tuple(row.weights), policy=row.policy, seed=row.seed, reason=row.reason, remaining=row.remaining,
        segments={name: tuple(own) for name, own in (row.segments or {}).items()},
    )  # fmt: skip


def to_stopped(row: sa.Row[Any]) -> StoppedArm:
    return StoppedArm(cell=row.cell, at=row.at, reason=row.reason, by=row.by)


def to_experiment(row: sa.Row[Any]) -> StoredExperiment:
    return StoredExperiment(
        name=row.name, state=row.state, started_at=row.started_at, ended_at=row.ended_at, verdict=row.verdict,
        version=row.version, spec_hash=row.spec_hash, content_hash=row.content_hash, definition=row.definition,
        template=row.template, text_template=row.text_template, waves=tuple(row.waves), paused_at=row.paused_at,
        pause_reason=row.pause_reason,
    )  # fmt: skip


def to_event(row: Any) -> Event:
    """A stored event with its verdict: that of the rules, or as its source gave it where none judged it."""
    event = Event.from_dict(row.body)
    if not row.rules:
        return event
    return replace(event, verdict=Verdict(row.verdict), reasons=names_of(Reason(row.reasons)))


def to_message(row: sa.Row[Any]) -> StoredMessage:
    return StoredMessage(
        id=row.id, experiment=row.experiment, recipient=row.recipient, email=row.email, state=State(row.state),
        epoch=row.epoch, cell=row.cell, propensity=row.propensity, attempts=row.attempts,
        attempted_at=row.attempted_at, sent_at=row.sent_at, error=row.error,
    )  # fmt: skip


def counted_anew(
    opened: Mapping[int, datetime], ledger: Mapping[str, sa.Row[Any]], firsts: Mapping[tuple[str, str], datetime]
) -> list[tuple[int, int, str, int, int]]:
    """Rows of the counts from the ledger's sent messages (by id), their outcomes and when each epoch opened."""
    total: Counter[tuple[int, int, str, int]] = Counter()
    for row in ledger.values():
        for metric in sends_of(row):
            total[row.epoch, row.cell, metric, bin_of(opened[row.epoch], row.attempted_at)] += 1
    for (message, metric), at in firsts.items():
        row = ledger[message]
        total[row.epoch, row.cell, metric, bin_of(row.attempted_at, at)] += 1
    return [(*key, n) for key, n in sorted(total.items())]


def to_tally(rows: Sequence[tuple[int, int, str, int, int]], n_epochs: int, n_cells: int) -> Tally:
    kept = [row for row in rows if row[4]]
    epoch, cell, metric, where, n = zip(*kept, strict=True) if kept else ((), (), (), (), ())
    return Tally(
        n_epochs=n_epochs, n_cells=n_cells, epoch=np.array(epoch, dtype=np.int64), cell=np.array(cell, dtype=np.int64),
        metric=np.array(metric, dtype=np.str_), bin=np.array(where, dtype=np.int64), n=np.array(n, dtype=np.int64),
    )  # fmt: skip
