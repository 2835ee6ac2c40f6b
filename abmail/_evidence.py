"""All that was known of an experiment at one moment, and the counts that statistics and policies work from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from abmail._past import NO_PAST, Past
from abmail.bandit import DelayCurve
from abmail.spec import Experiment
from abmail.stats import Counts
from abmail.store import (
    BIN_SECONDS,
    UNTRACKED,
    CompanyMails,
    Epoch,
    EventFacts,
    State,
    StoppedArm,
    StoredExperiment,
    Tally,
    ValuedMail,
)

__all__ = ["Evidence", "Verdicts", "curve_of", "policy_counts", "stacked"]

Verdicts = Literal["human-likely", "all", "strict"]
"""Which opens and clicks count."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was known of one experiment at one moment.

    Attributes:
        stored: The experiment as applied.
        experiment: Its definition.
        epochs: Its epochs, first to last.
        tally: The counts.
        states: Number of messages in each state.
        last_send: Per epoch, when its last message was handed over.
        unsettled: Per epoch, how many messages may still go out.
        waves: Sizes of the epochs as they were planned when the first one opened.
        now: The moment, aware UTC.
        segments: The counts for each value of an attribute, where one was asked for.
        values: What each mail brought in, where the definition asks for a value.
        companies: What each company did, where recipients are assigned by company.
        verdicts: Which events count: those most likely a person's, all, or only those that nothing speaks against.
        strata: The counts for each segment with weights of its own.
        stopped: The arms that get no more mail.
        past: What the account's earlier experiments say.
        facts: What there is to know of its events beside the counts.
        provisional: Seconds for which opens and clicks are not in the counts yet; 0 where all of them are.
    """

    stored: StoredExperiment
    experiment: Experiment
    epochs: tuple[Epoch, ...]
    tally: Tally
    states: Mapping[State, int]
    last_send: Mapping[int, datetime]
    unsettled: Mapping[int, int]
    waves: tuple[int, ...]
    now: datetime
    segments: Mapping[str, Tally] = field(default_factory=dict)
    values: tuple[ValuedMail, ...] = ()
    companies: tuple[CompanyMails, ...] = ()
    verdicts: Verdicts = "human-likely"
    strata: Mapping[str, Tally] = field(default_factory=dict)
    stopped: tuple[StoppedArm, ...] = ()
    past: Past = NO_PAST
    facts: EventFacts = field(default_factory=EventFacts)
    provisional: float = 0.0

    @property
    def window(self) -> float:
        """Seconds after a send in which an outcome counts."""
        return self.experiment.metrics.window.total_seconds()

    @property
    def plan(self) -> tuple[int, ...]:
        """Sizes of the epochs that were planned to compare arms; none where no end is planned."""
        if self.experiment.allocation.standing:
            return ()
        return self.waves[:1] if self.experiment.allocation.policy == "test_then_send" else self.waves

    @property
    def outcome(self) -> str:
        """Name of the counts that successes are read from."""
        return self.counted(self.experiment.metrics.primary)

    def counted(self, kind: str) -> str:
        """Name of the counts of a kind of event, by the verdicts that count."""
        return kind if self.verdicts == "human-likely" else f"{kind}_{self.verdicts}"

    @cached_property
    def sent(self) -> NDArray[np.int64]:
        """(n_epochs, n_cells) mails sent."""
        return self.tally.matrix("sent")

    @cached_property
    def untracked(self) -> NDArray[np.int64]:
        """(n_epochs, n_cells) mails of which no open or click can be known, among those sent."""
        return self.tally.matrix(UNTRACKED)

    @property
    def trials(self) -> NDArray[np.int64]:
        """(n_epochs, n_cells) mails of which it can be known whether they had the primary outcome."""
        return self.sent - self.untracked

    @cached_property
    def successes(self) -> NDArray[np.int64]:
        """(n_epochs, n_cells) sends with the primary outcome inside the window, by the verdicts that count."""
        return self.tally.matrix(self.outcome, window=self.window)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(n_epochs, n_cells) shares that each epoch was opened with; those of its segments by their mails."""
        shares = np.zeros((len(self.epochs), len(self.experiment.cells)))
        sizes = {name: self.segment(name).trials.sum(axis=1) for name in self.strata}
        for index, epoch in enumerate(self.epochs):
            n = {name: int(sizes[name][index]) for name in epoch.segments if name in sizes}
            rest = max(int(self.trials[index].sum()) - sum(n.values()), 0) if any(n.values()) else 1
            parts = [(rest, ""), *((size, name) for name, size in n.items())]
            shares[index] = sum(size * self.weights_of(index, name) for size, name in parts) / sum(s for s, _ in parts)
        return shares

    @cached_property
    def active(self) -> tuple[bool, ...]:
        """(n_cells,) whether each cell may get mail."""
        stopped = {arm.cell for arm in self.stopped}
        return tuple(cell.name not in stopped for cell in self.experiment.cells)

    def segment(self, name: str) -> Evidence:
        """The same experiment as far as the mails of one segment go."""
        empty = replace(self.tally, **{k: getattr(self.tally, k)[:0] for k in ("epoch", "cell", "metric", "bin", "n")})
        return replace(self, tally=self.strata.get(name, empty), strata={})

    def weights_of(self, index: int, segment: str) -> NDArray[np.float64]:
        """(n_cells,) the shares that a segment had in an epoch."""
        epoch, shares = self.epochs[index], np.zeros(len(self.experiment.cells))
        own = epoch.segments.get(segment, epoch.weights)
        shares[: len(own)] = own
        return shares

    @property
    def expected_delays(self) -> dict[str, Any]:
        """How long answers take before any came in, and what that is worth: as `DelayCurve.fit` takes it."""
        curve = self.past.curve
        return {} if curve is None else {"prior": curve.curve, "strength": curve.strength}

    @property
    def n_arms_at_start(self) -> int:
        """Number of cells when the first epoch opened."""
        return len(self.epochs[0].weights) if self.epochs else len(self.experiment.cells)

    @cached_property
    def n_mature(self) -> int:
        """Number of epochs, counted from the first without a gap, that can no longer change."""
        settled = (not self.unsettled.get(e.number) and self._closed(e) for e in self.epochs)
        return sum(1 for _ in itertools.takewhile(bool, settled))

    def _closed(self, epoch: Epoch) -> bool:
        last = self.last_send.get(epoch.number)
        return last is None or last + self.experiment.metrics.window <= self.now

    @cached_property
    def ages(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Epoch, cell, seconds since the send (middle of its bin) and number, for each bin of sends.

        Answers that are provisional are not counted: a mail is as old as the youngest answer that is.
        """
        epoch, cell, where, n = self.tally.rows("sent", less=UNTRACKED)
        opened = np.array([e.opened_at.timestamp() for e in self.epochs])
        sent_at = opened[epoch] + (where + 0.5) * BIN_SECONDS if len(epoch) else np.zeros(0)
        return epoch, cell, np.maximum(self.now.timestamp() - self.provisional - sent_at, 0.0), n

    @property
    def mature_share(self) -> float:
        """Share of the sends whose window has closed, fraction in [0, 1]; 0 without sends."""
        _, _, age, n = self.ages
        return float(n[age >= self.window].sum() / n.sum()) if n.sum() else 0.0


def curve_of(evidence: Evidence) -> DelayCurve:
    """The delay curve of the primary outcome, from this experiment's own delays, the young sends censored."""
    if not evidence.trials.any():
        return evidence.expected_delays.get("prior") or DelayCurve.default(window=evidence.window)
    epoch, _, age, n = evidence.ages
    mean_age = np.bincount(epoch, age * n, len(evidence.epochs)) / np.maximum(np.bincount(epoch, n), 1)
    seen_in, _, where, seen = evidence.tally.rows(evidence.outcome)
    delay = (where + 0.5) * BIN_SECONDS
    silent = np.maximum(evidence.trials.sum(axis=1) - np.bincount(seen_in, seen, len(evidence.epochs)), 0)
    return DelayCurve.fit(
        np.concatenate([delay, np.full(len(silent), np.nan)]),
        np.concatenate([np.maximum(mean_age[seen_in], delay), mean_age]),
        counts=np.concatenate([seen, silent]).astype(np.int64),
        window=evidence.window,
        **evidence.expected_delays,
    )


def policy_counts(evidence: Evidence, curve: DelayCurve) -> Counts:
    """What was sent and answered, the sends weighted by how much of their answer can have come in.

    One row for each epoch; where segments had weights of their own in it, one for each of them and one for the rest.
    """
    counts, exposures = stacked(
        evidence, [epoch.segments for epoch in evidence.epochs], lambda e: _exposure(e, curve)[None]
    )
    return counts.exposed(exposures[0])


def stacked(
    evidence: Evidence,
    names: Sequence[Iterable[str]],
    exposures: Callable[[Evidence], Floats],
) -> tuple[Counts, Floats]:
    """Counts with a row for each named segment of an epoch and one for everybody else, and their exposures.

    Args:
        evidence: What is known.
        names: (n_epochs,) the segments that get a row of their own.
        exposures: Gives the (n_pictures, n_epochs, n_cells) delay-weighted trials of some mails.

    Returns:
        The counts, and (n_pictures, n_rows, n_cells) trials from the successes to the sends.
    """
    n_cells = len(evidence.experiment.cells)
    if not evidence.epochs:
        empty = np.zeros((1, n_cells), dtype=np.int64)
        return Counts(empty, empty), np.zeros((1, 1, n_cells))
    whole = _Part.of(evidence, exposures)
    wanted = sorted({name for own in names for name in own})
    parts = {name: _Part.of(evidence.segment(name), exposures) for name in wanted}
    rows = []
    for index, own in enumerate(names):
        mine = {name: parts[name].row(index) for name in sorted(own)}
        rest = whole.row(index).without(mine.values())
        if rest.sent.any() or not mine:
            mine[""] = rest
        rows += [(index, name, part) for name, part in mine.items()]
    counts = Counts(
        [part.sent for *_, part in rows], [part.successes for *_, part in rows], None,
        np.array([evidence.weights_of(index, name) for index, name, _ in rows]),
        strata=[name for _, name, _ in rows] if wanted else None, epochs=[index for index, *_ in rows],
    )  # fmt: skip
    trials = np.stack([part.exposures for *_, part in rows], axis=1)
    return counts, np.clip(trials, counts.successes, counts.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The mails of some people: (n_epochs, n_cells) sent and answered, or (n_cells,) of one epoch."""

    sent: NDArray[np.int64]
    successes: NDArray[np.int64]
    exposures: Floats  # (n_pictures, ...)

    @classmethod
    def of(cls, evidence: Evidence, exposures: Callable[[Evidence], Floats]) -> _Part:
        return cls(sent=evidence.trials, successes=evidence.successes, exposures=exposures(evidence))

    def row(self, index: int) -> _Part:
        return _Part(sent=self.sent[index], successes=self.successes[index], exposures=self.exposures[:, index])

    def without(self, others: Iterable[_Part]) -> _Part:
        left = self
        for other in others:
            left = _Part(
                sent=left.sent - other.sent,
                successes=left.successes - other.successes,
                exposures=left.exposures - other.exposures,
            )
        return left


def _exposure(evidence: Evidence, curve: DelayCurve) -> Floats:
    exposure = np.zeros(evidence.trials.shape)
    epoch, cell, age, n = evidence.ages
    np.add.at(exposure, (epoch, cell), n * curve.cdf(age))
    return exposure
