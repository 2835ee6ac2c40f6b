"""What is remembered of each recipient: a few hundred bytes that add up and fade.

Counts are kept as multiples of 1/1024 in 16 bits: unlike a float of that size they take small additions without loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.sparse import csr_matrix

from abmail._hazard import CELLS, COLUMNS, HORIZON, N_CELLS, WEEK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from abmail._history import Events

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]
    Integers = NDArray[np.int64]

__all__ = ["CHUNK", "Memory", "Tables", "absorb", "discounts", "exposures"]

CHUNK: Final = 16_384
"""Recipients that are worked on at once: what comes in between stays within some 20 MB."""

_UNIT: Final = np.float32(1 / 1024)


@dataclass(frozen=True, slots=True)
class Tables:
    """What one send gives to what is remembered.

    Attributes:
        exposure: (168 * 145, 48 + K) float32, by slot and column: exposure of each cell, in units of the memory, and
            under each class's shape.
        opening: (168, 48 + K) float32, by hour of the open: its cell, in the same units, and the log of each class's
            shape.
    """

    exposure: Singles
    opening: Singles

    @classmethod
    def of(cls, table: Floats, shapes: Floats) -> Tables:
        """From the table of exposures (168, 145, 168) and the shapes of the classes (K, 168)."""
        flat = table.reshape(-1, WEEK)
        return cls(
            np.hstack([flat @ CELLS / _UNIT, flat @ shapes.T]).astype(np.float32),
            np.hstack([CELLS / _UNIT, np.log(shapes).T]).astype(np.float32),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of n recipients under K classes.

    Attributes:
        cells: (n, 2, 48) uint16, multiples of 1/1024: opens and exposure in each hour of a weekday and of the weekend.
        classes: (n, 2, K) float32: log of each class's shape summed over the opens; exposure under each class's shape.
        opens: (n,) float32 opens, faded.
        sends: (n,) float32 mails, faded.
    """

    cells: NDArray[np.uint16]
    classes: Singles
    opens: Singles
    sends: Singles

    @classmethod
    def blank(cls, n: int, n_classes: int) -> Memory:
        """Of people of whom nothing is known."""
        return cls(
            np.zeros((n, 2, N_CELLS), np.uint16), np.zeros((n, 2, n_classes), np.float32), np.zeros(n, np.float32),
            np.zeros(n, np.float32),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.opens)

    @property
    def bytes_each(self) -> float:
        """Bytes for each recipient."""
        total = self.cells.nbytes + self.classes.nbytes + self.opens.nbytes + self.sends.nbytes
        return total / max(len(self), 1)

    def take(self, rows: Integers) -> Memory:
        """(len(rows)) recipients by index; -1 stands for a stranger."""
        known = rows >= 0
        if not known.any():
            return Memory.blank(len(rows), self.classes.shape[2])
        part = Memory(self.cells[rows], self.classes[rows], self.opens[rows], self.sends[rows])
        if not known.all():
            for field in (part.cells, part.classes, part.opens, part.sends):
                field[~known] = 0
        return part

    def unpacked(self) -> tuple[Singles, Singles]:
        """Opens and exposure by cell, each (n, 48) float32."""
        found = self.cells * _UNIT
        return found[:, 0], found[:, 1]

    def grown(self, n: int, place: Integers) -> Memory:
        """A copy for n recipients in which those of now stand at ``place``, the others blank."""
        grown = Memory.blank(n, self.classes.shape[2])
        grown.cells[place], grown.classes[place] = self.cells, self.classes
        grown.opens[place], grown.sends[place] = self.opens, self.sends
        return grown

    def unwritten(self) -> Memory:
        """Room for as many recipients, into which all is still to be written."""
        return Memory(
            np.empty_like(self.cells), np.empty_like(self.classes), np.empty_like(self.opens), np.empty_like(self.sends)
        )


def discounts(row: Integers, n: int, forget: float) -> tuple[Singles, Singles]:
    """What is left of each of the new mails, and of all that was known before, once every mail has made them fade.

    Args:
        row: (m,) recipient of each mail, ascending.
        n: Recipients.
        forget: What a mail leaves of those before it, fraction in (0, 1].

    Returns:
        (m,) and (n,) float32.
    """
    count = np.bincount(row, minlength=n)
    later = np.cumsum(count)[row] - 1 - np.arange(len(row))
    powers = np.float32(forget) ** np.arange(int(count.max(initial=0)) + 1, dtype=np.float32)
    return powers[later], powers[count]


def exposures(events: Events, weight: NDArray[Any], begin: int, end: int, some: slice) -> csr_matrix:
    """Sends by slot and outcome of the recipients ``begin`` to ``end``, whose mails are ``some``.

    A mail that lay unopened while its reader's clock was put forward or back counts under its own slot until then, and
    under the slot moved by the step from then on.

    Returns:
        Sparse (end - begin, 168 * 145) float32.
    """
    row, slot, age = events.row[some] - begin, events.slot[some], events.outcome[some]
    change, shift, data = events.change[some], events.shift[some], weight[some].astype(np.float32)
    moved = (slot + shift) % WEEK
    shape = (end - begin, WEEK * COLUMNS)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=end - begin))])
    found = csr_matrix((data, moved * COLUMNS + age, starts), shape=shape)
    crossing = np.flatnonzero(shift)
    if not len(crossing):
        return found
    before = HORIZON + 1 + change[crossing]
    columns = np.concatenate([slot[crossing] * COLUMNS + before, moved[crossing] * COLUMNS + before])
    amounts = np.concatenate([data[crossing], -data[crossing]])
    moving = csr_matrix((amounts, (np.tile(row[crossing], 2), columns)), shape=shape)
    return csr_matrix(found + moving)


def absorb(memory: Memory, events: Events, appeal: Floats, forget: float, tables: Tables) -> Memory:
    """Add mails to what is remembered; row i of the events is row i of the memory.

    Args:
        memory: Of before; not changed.
        events: Mails of which it is known whether they were opened.
        appeal: (n_campaigns,) of their campaigns, or (0,).
        forget: What a mail leaves of those before it.
        tables: Of the model.
    """
    fading, left = discounts(events.row, len(memory), forget)
    scale = fading * events.scale
    if len(appeal):
        scale *= appeal[events.campaign]
    added = memory.unwritten()
    for begin, end, some in _chunks(events.row, len(memory)):
        seen = exposures(events, scale, begin, end, some) @ tables.exposure
        opened = _opened(events, fading, begin, end, some)
        rows, part = slice(begin, end), left[begin:end]
        _add(memory, added, rows, seen, opened @ tables.opening, part)
        added.opens[rows] = memory.opens[rows] * part + opened @ np.ones(WEEK, np.float32)
        sends = np.bincount(events.row[some] - begin, fading[some], minlength=end - begin).astype(np.float32)
        added.sends[rows] = memory.sends[rows] * part + sends
    return added


def _opened(events: Events, fading: Singles, begin: int, end: int, some: slice) -> csr_matrix:
    """Opens by hour of the week, (end - begin, 168)."""
    at = some.start + np.flatnonzero(events.hour[some] >= 0)
    starts = np.concatenate([[0], np.cumsum(np.bincount(events.row[at] - begin, minlength=end - begin))])
    return csr_matrix((fading[at], events.hour[at], starts), shape=(end - begin, WEEK))


def _add(memory: Memory, added: Memory, rows: slice, seen: Singles, opening: Singles, left: Singles) -> None:
    cells = memory.cells[rows].astype(np.float32)
    cells *= left[:, np.newaxis, np.newaxis]
    cells[:, 0] += opening[:, :N_CELLS]
    cells[:, 1] += seen[:, :N_CELLS]
    cells += np.float32(0.5)
    added.cells[rows] = np.clip(cells, 0, 65_535, out=cells)
    classes = added.classes[rows]
    np.multiply(memory.classes[rows], left[:, np.newaxis, np.newaxis], out=classes)
    classes[:, 0] += opening[:, N_CELLS:]
    classes[:, 1] += np.maximum(seen[:, N_CELLS:], 0)


def _chunks(row: Integers, n: int) -> Iterator[tuple[int, int, slice]]:
    """First and last recipient of each chunk, and its mails."""
    begins = np.arange(0, n, CHUNK)
    bounds = np.searchsorted(row, np.append(begins, n))
    for number, begin in enumerate(begins.tolist()):
        yield begin, min(begin + CHUNK, n), slice(int(bounds[number]), int(bounds[number + 1]))
