"""What one pass over a list finds out about an experiment's audience: who would get what, and in which zone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abmail._moves import moves
from abmail._planning import Portion, Selection, order_of, units, zone_of
from abmail._rules.base import Moves
from abmail.assign import assign_array
from abmail.recipient import Recipient
from abmail.spec import Experiment

__all__ = ["SAMPLE", "Survey", "even_shares", "fixed_shares"]

SAMPLE: Final = 2_000
"""People whose moments stand for those of all, where each mail gets a moment of its own."""

_REFUSALS: Final = frozenset({"no", "n", "false", "0", "いいえ", "不可", "拒否"})
_CONSENT: Final = frozenset({"consent", "opt_in", "optin", "opt-in", "permission", "newsletter_consent", "同意"})


class Survey:
    """Counts of an audience, made while its portions pass.

    Args:
        experiment: The definition.
        before: The version that is in force; None where there is none.
        alternatives: Other definitions than that, by a name.

    Attributes:
        selection: The audience in numbers.
        zones: Zone -> (n_cells,) mails that have no row in the ledger yet, by the definition's split.
        cells: (n_cells,) mails of the whole audience by that split.
        barred: Why somebody in the segment may not be mailed -> how many.
        refused: Column of the list -> how many of those who would get a mail say no in it.
        moves: Alternative -> how many people of the audience it gives another cell than the version in force.
        sample: Some of those who wait for a first mail, drawn evenly, in the order of the waves.
    """

    def __init__(
        self,
        experiment: Experiment,
        before: Experiment | None = None,
        alternatives: Mapping[str, Experiment] | None = None,
    ) -> None:
        self._experiment, self._before, self._alternatives = experiment, before, alternatives or {}
        self.selection = Selection()
        self.zones: dict[str, NDArray[np.int64]] = {}
        self.cells = np.zeros(len(experiment.cells), dtype=np.int64)
        self.barred: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.moves = dict.fromkeys(self._alternatives, Moves(moved=0, people=0))
        self._sample: list[tuple[int, Recipient]] = []

    @property
    def sample(self) -> list[Recipient]:
        """See the class."""
        return [one for _, one in self._sample]

    def note(self, portions: Iterable[Portion]) -> Iterator[Portion]:
        """Pass portions on, and count who is in them."""
        for portion in portions:
            self.selection += portion.selection
            self.barred.update(each.suppressed for each in portion.barred)
            if portion.members:
                self._count(portion)
            yield portion

    def _count(self, portion: Portion) -> None:
        experiment = self._experiment
        people = [each.recipient for each in portion.members]
        names = units(experiment, people)
        cell = assign_array(experiment, names, weights=fixed_shares(experiment) or even_shares(experiment))
        self.cells += np.bincount(cell[cell >= 0], minlength=len(self.cells))
        fresh = [i for i, each in enumerate(portion.members) if not each.known and not portion.held[i]]
        self._count_zones([people[i] for i in fresh], cell[fresh])
        self._keep([people[i] for i in fresh])
        self._count_refusals(people[i] for i, held in enumerate(portion.held) if not held)
        if self._before is not None:
            self._count_moves(self._before, people)

    def _count_zones(self, people: Sequence[Recipient], cell: NDArray[np.int64]) -> None:
        found = Counter(zip([zone_of(self._experiment, one) for one in people], cell.tolist(), strict=True))
        for (zone, place), n in found.items():
            self.zones.setdefault(zone, np.zeros(len(self.cells), dtype=np.int64))[place] += n

    def _count_moves(self, before: Experiment, people: Sequence[Recipient]) -> None:
        for name, other in self._alternatives.items():
            found, known = moves(before, other, people), self.moves[name]
            self.moves[name] = Moves(moved=known.moved + found.moved, people=known.people + found.people)

    def _keep(self, people: Sequence[Recipient]) -> None:
        """Keep those who come first in the order of the waves, which is a hash of its own."""
        if not self._experiment.send_time.is_planned or not people:
            return
        places = order_of(self._experiment, units(self._experiment, people), [one.id for one in people])
        first = np.argsort(places, kind="stable")[:SAMPLE].tolist()
        kept = [*self._sample, *((int(places[i]), people[i]) for i in first)]
        self._sample = sorted(kept, key=lambda pair: (pair[0], pair[1].id))[:SAMPLE]

    def _count_refusals(self, people: Iterable[Recipient]) -> None:
        for one in people:
            for column in _CONSENT & one.attributes.keys():
                self.refused[column] += one.attributes[column].strip().lower() in _REFUSALS


def even_shares(experiment: Experiment) -> list[float]:
    """(n_cells,) the same for each cell."""
    return [1 / len(experiment.cells)] * len(experiment.cells)


def fixed_shares(experiment: Experiment) -> list[float] | None:
    """(n_cells,) shares that never move; None for a policy that learns."""
    settings = experiment.allocation
    if settings.policy == "uniform":
        return even_shares(experiment)
    weights = settings.weights
    return [weights[cell.name] for cell in experiment.cells] if settings.policy == "fixed" and weights else None
