"""What judging stored events anew changes for each variant, and for the decision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from abmail._analysis import findings, is_tested

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from abmail._analysis import Evidence
    from abmail.store import Rejudged, Tally

__all__ = ["Change", "Rejudgement", "rejudgement"]

_METRICS: Final = ("opened", "clicked")


class Change(NamedTuple):
    """A count of an arm before and after."""

    arm: str
    metric: str
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudgement:
    """What the rules of today make of an experiment.

    Attributes:
        experiment: Its name.
        events: Verdicts that change.
        touched: Events whose verdict, reasons or version of the rules change.
        changes: Opens and clicks of people by arm, where they change.
        moves: Kind, verdict before and after -> number of events.
        before: The decision as it stands: its state and, where it names one, its arm.
        after: The decision that would be made then.
    """

    experiment: str
    events: int
    touched: int
    changes: tuple[Change, ...] = ()
    moves: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    before: tuple[str, str | None] = ("too_early", None)
    after: tuple[str, str | None] = ("too_early", None)

    @property
    def decision_changes(self) -> bool:
        """Whether another decision would be made."""
        return self.before != self.after


def rejudgement(evidence: Evidence, found: Rejudged) -> Rejudgement:
    """Compare an experiment as it stands with what it would be after judging its events anew."""
    moves: Counter[tuple[str, str, str]] = Counter()
    for (_, kind, before, after), n in found.moves.items():
        moves[kind, before, after] += n
    tally = found.tally
    widened = replace(tally, n_epochs=len(evidence.epochs))
    return Rejudgement(
        experiment=evidence.stored.name,
        events=found.events,
        touched=found.touched,
        changes=tuple(_changes(evidence, widened)),
        moves=dict(sorted(moves.items())),
        before=_decision(evidence),
        after=_decision(replace(evidence, tally=widened)),
    )


def _changes(evidence: Evidence, after: Tally) -> Iterator[Change]:
    for metric in _METRICS:
        old, new = (t.matrix(metric, window=evidence.window).sum(axis=0) for t in (evidence.tally, after))
        for cell in evidence.experiment.cells:
            if old[cell.index] != new[cell.index]:
                yield Change(cell.name, metric, int(old[cell.index]), int(new[cell.index]))


def _decision(evidence: Evidence) -> tuple[str, str | None]:
    """What the counts say, whatever was noted before."""
    if not is_tested(evidence):
        return "too_early", None
    decision = findings(replace(evidence, stored=replace(evidence.stored, verdict=None))).decision
    return decision.state, decision.arm
