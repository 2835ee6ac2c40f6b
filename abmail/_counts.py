"""`Counts`: what happened, per epoch and arm. The one value that statistics, bandit and report all work from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from abmail.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Counts"]

_A = TypeVar("_A", np.int64, np.float64)
_L = TypeVar("_L")
_WEIGHT_TOLERANCE = 1e-6
_LARGEST = 2**53  # beyond this a float can no longer hold a count exactly


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Counts:
    """Sends and successes per epoch and arm; counts of the same shape add.

    An epoch is the stretch between two re-weightings, an arm is a cell of the experiment. All arrays are read-only.

    Args:
        n: Sends, (n_epochs, n_arms) whole numbers, or (n_arms,) for a single epoch.
        successes: Same shape as ``n``, ``0 <= successes <= n``.
        exposure: Delay-weighted number of trials, the sum of F(age) over the sends, same shape as ``n``,
            ``0 <= exposure <= n``; ``n`` by default. Only the Bayesian posterior and the bandit use it.
        weights: The epochs' allocation weights, fractions in [0, 1], same shape as ``n``; each epoch sums to 1 (an
            epoch in which nobody was assigned may be all zero). None where they were not logged.
        looks: Planned number of epochs, None where no end is planned.
        strata: Name of the stratum (segment) of each row, where an epoch has one row for each of its strata. Arms are
            then compared within epoch and stratum.
        epochs: Number of the epoch of each row, not falling; each row is an epoch of its own by default.

    Raises:
        ValueError: A shape, a count or a weight is impossible; the message names the epoch and the arm.
        TypeError: Something is not a number.

    Example:
        >>> counts = Counts([[100, 100], [60, 140]], [[20, 25], [11, 36]])
        >>> counts.total().n.tolist()
        [[160, 240]]
    """

    n: NDArray[np.int64]
    successes: NDArray[np.int64]
    exposure: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    looks: int | None
    strata: tuple[str, ...] | None
    epochs: tuple[int, ...]

    def __init__(
        self,
        n: ArrayLike,
        successes: ArrayLike,
        exposure: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        looks: int | None = None,
        *,
        strata: Iterable[str] | None = None,
        epochs: Iterable[int] | None = None,
    ) -> None:
        sends = _whole_numbers(n, "n")
        hits = _same_shape(_whole_numbers(successes, "successes"), sends, "successes")
        _refuse_above(hits, sends, "successes")
        trials = (
            sends.astype(np.float64)
            if exposure is None
            else _same_shape(_floats(exposure, "exposure"), sends, "exposure")
        )
        _refuse_above(trials, sends, "exposure")
        shares = None if weights is None else _shares(_same_shape(_floats(weights, "weights"), sends, "weights"), sends)
        fields = {"n": sends, "successes": hits, "exposure": trials, "weights": shares}
        for name, array in fields.items():
            if array is not None:
                array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "looks", _planned_looks(looks))
        labels = None if strata is None else tuple(strata)
        numbers = tuple(range(len(sends))) if epochs is None else tuple(int(number) for number in epochs)
        _require_rows(numbers, labels, len(sends))
        object.__setattr__(self, "strata", labels)
        object.__setattr__(self, "epochs", numbers)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        epoch: str | None = "epoch",
        arm: str = "arm",
        n: str | None = "n",
        successes: str = "successes",
        stratum: str | None = None,
        weight: str | None = None,
        arms: Sequence[str] | None = None,
        looks: int | None = None,
    ) -> Counts:
        """Counts from rows as a query or a file gives them; rows of the same epoch, stratum and arm add.

        Args:
            rows: One mapping per epoch (per stratum) and arm, or one per mail, in any order.
            epoch: Name of the column that orders the epochs; None for a single epoch.
            arm: Name of the column with the arm's name.
            n: Name of the column with the sends; None where each row is one mail.
            successes: Name of the column with the successes.
            stratum: Name of the column with the stratum.
            weight: Name of the column with the arm's weight in the epoch.
            arms: Names of the arms in the order of the columns; sorted by default.
            looks: Planned number of epochs.

        Raises:
            ValueError: A column is missing, an arm is unknown, or a number is impossible; the message names the row.

        Example:
            >>> rows = [{"arm": "a", "n": 100, "successes": 20}, {"arm": "b", "n": 90, "successes": 27}]
            >>> Counts.from_rows(rows, epoch=None).successes.tolist()
            [[20, 27]]
        """
        table = _Table(epoch=epoch, arm=arm, n=n, successes=successes, stratum=stratum, weight=weight)
        for number, row in enumerate(rows):
            table.add(number, row)
        return cls(**table.arrays(arms), looks=looks)

    @classmethod
    def from_frame(cls, frame: Any, **columns: Any) -> Counts:  # any data frame that narwhals knows
        """Counts from a data frame: pandas, Polars, PyArrow, DuckDB and others.

        Args:
            frame: The table; sums are made by its own engine.
            columns: Names of the columns and the rest, as for `from_rows`.

        Raises:
            MissingExtra: narwhals is not installed.
            ValueError: As for `from_rows`.
        """
        try:
            import narwhals as nw
        except ModuleNotFoundError as error:
            raise MissingExtra("Counts.from_frame()", "frames") from error
        table = nw.from_native(frame).lazy()
        names = {"epoch": "epoch", "arm": "arm", "n": "n", "successes": "successes", **columns}
        used = [names.get(key) for key in ("epoch", "stratum", "arm")]
        keys = [column for column in used if column is not None]
        summed = [column for column in (names["n"], names["successes"]) if column is not None]
        first = [names["weight"]] if names.get("weight") else []
        have = table.collect_schema().names()
        if missing := [column for column in (*keys, *summed, *first) if column not in have]:
            raise ValueError(f"the frame lacks the column '{missing[0]}', it has {', '.join(have)}")
        aggregates = [*(nw.col(c).sum() for c in summed), *(nw.col(c).max() for c in first)]
        if names["n"] is None:
            aggregates.append(nw.len().alias("n"))
            columns["n"] = "n"
        rows = table.group_by(keys).agg(*aggregates).collect().rows(named=True)
        return cls.from_rows(rows, **columns)

    @property
    def n_epochs(self) -> int:
        """Number of epochs so far."""
        return len(set(self.epochs))

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return int(self.n.shape[1])

    def __len__(self) -> int:
        return self.n_epochs

    def __getitem__(self, epochs: int | slice) -> Counts:
        """Some epochs: ``counts[:t]`` is what was known after t epochs; only such a beginning keeps ``looks``."""
        span = epochs if isinstance(epochs, slice) else _single(epochs, self.n_epochs)
        start, _, step = span.indices(self.n_epochs)
        looks = self.looks if (start, step) == (0, 1) and isinstance(epochs, slice) else None
        kept = sorted(set(self.epochs))[span]
        rows = [(i, place) for place, number in enumerate(kept) for i, own in enumerate(self.epochs) if own == number]
        return self._rows([i for i, _ in rows], [place for _, place in rows], looks, self.strata)

    def stratum(self, name: str) -> Counts:
        """The rows of one stratum.

        Raises:
            ValueError: There are no strata, or none of that name; the message names those that there are.
        """
        if self.strata is None or name not in self.strata:
            raise ValueError(f"there is no stratum '{name}', there are: {', '.join(self.stratum_names) or 'none'}")
        rows = [i for i, own in enumerate(self.strata) if own == name]
        return self._rows(rows, [self.epochs[i] for i in rows], self.looks, None)

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Names of the strata in the order of their first row; none where there are none."""
        return tuple(dict.fromkeys(self.strata or ()))

    def followed_by(self, more: Counts) -> Counts:
        """These epochs and, after them, the epochs of ``more``; the planned looks are those of these.

        Raises:
            ValueError: The arms are not as many, or one has strata and the other has none.
        """
        if self.n_arms != more.n_arms:
            raise ValueError(f"counts of {self.n_arms} and {more.n_arms} arms do not follow each other")
        if (self.strata is None) != (more.strata is None):
            raise ValueError("counts with strata and counts without do not follow each other")
        weights = None
        if self.weights is not None and more.weights is not None:
            weights = np.concatenate((self.weights, more.weights))
        last = max(self.epochs, default=-1)
        first = min(more.epochs, default=0)
        return Counts(
            np.concatenate((self.n, more.n)),
            np.concatenate((self.successes, more.successes)),
            np.concatenate((self.exposure, more.exposure)),
            weights,
            self.looks,
            strata=None if self.strata is None or more.strata is None else (*self.strata, *more.strata),
            epochs=(*self.epochs, *(number - first + last + 1 for number in more.epochs)),
        )

    def _rows(
        self, rows: Sequence[int], epochs: Sequence[int], looks: int | None, strata: Sequence[str] | None
    ) -> Counts:
        chosen = np.array(rows, dtype=np.int64)
        weights = None if self.weights is None else self.weights[chosen]
        labels = None if strata is None else [strata[i] for i in rows]
        arrays = (self.n[chosen], self.successes[chosen], self.exposure[chosen], weights)
        return Counts(*arrays, looks, strata=labels, epochs=epochs)

    def arms(self, indices: Iterable[int]) -> Counts:
        """Only these arms, in this order; weights become shares within them.

        Raises:
            ValueError: An index is out of range or given twice.
        """
        chosen = list(indices)
        wrong = [i for i in chosen if not 0 <= i < self.n_arms]
        if wrong or not chosen or len(set(chosen)) != len(chosen):
            raise ValueError(f"arms are {chosen}, must be different indices from 0 to {self.n_arms - 1}")
        weights = None
        if self.weights is not None:
            part = self.weights[:, chosen]
            row = part.sum(axis=1, keepdims=True)
            weights = np.divide(part, row, out=np.full_like(part, 1 / len(chosen)), where=row > 0)
        return Counts(
            self.n[:, chosen], self.successes[:, chosen], self.exposure[:, chosen], weights, self.looks,
            strata=self.strata, epochs=self.epochs,
        )  # fmt: skip

    def exposed(self, exposure: ArrayLike) -> Counts:
        """The same mails with another exposure.

        Args:
            exposure: (n_rows, n_arms) delay-weighted trials, 0 to the sends.
        """
        return Counts(
            self.n, self.successes, exposure, self.weights, self.looks, strata=self.strata, epochs=self.epochs
        )

    def total(self) -> Counts:
        """All epochs summed into one; the weights become their mean over the sends; no planned looks remain.

        The sum mixes epochs with different weights: comparing it is valid only if the weights never changed.
        """
        weights = None
        if self.weights is not None and self.n_epochs:
            sizes = self.n.sum(axis=1).astype(np.float64)
            weights = np.average(self.weights, axis=0, weights=sizes if sizes.any() else None)[np.newaxis]
        return Counts(
            self.n.sum(axis=0, keepdims=True),
            self.successes.sum(axis=0, keepdims=True),
            np.minimum(self.exposure.sum(axis=0, keepdims=True), self.n.sum(axis=0, keepdims=True)),
            weights,
        )

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        if self.n.shape != other.n.shape or (self.strata, self.epochs) != (other.strata, other.epochs):
            raise ValueError(
                f"counts of shape {self.n.shape} and {other.n.shape} do not add: same epochs, strata and arms needed"
            )
        if self.looks is not None and other.looks is not None and self.looks != other.looks:
            raise ValueError(f"counts planned for {self.looks} and for {other.looks} looks do not add")
        return Counts(
            self.n + other.n,
            self.successes + other.successes,
            np.minimum(self.exposure + other.exposure, self.n + other.n),
            _agreed(self.weights, other.weights),
            self.looks if other.looks is None else other.looks,
            strata=self.strata,
            epochs=self.epochs,
        )

    def __radd__(self, other: int) -> Counts:
        """The start value 0 of ``sum`` changes nothing."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        labels = (self.looks, self.strata, self.epochs) == (other.looks, other.strata, other.epochs)
        return labels and all(
            np.array_equal(mine, theirs) if mine is not None and theirs is not None else mine is theirs
            for mine, theirs in zip(self._arrays(), other._arrays(), strict=True)
        )

    def __hash__(self) -> int:
        return hash((self.n.shape, self.n.tobytes(), self.successes.tobytes(), self.looks))

    def __reduce__(self) -> tuple[Callable[..., Counts], tuple[object, ...]]:
        return (_again, (*self._arrays(), self.looks, self.strata, self.epochs))

    def __repr__(self) -> str:
        sums = [f"{k}/{n}" for k, n in zip(self.successes.sum(axis=0), self.n.sum(axis=0), strict=True)]
        return f"Counts({self.n_epochs} epochs, {self.n_arms} arms, successes/n {' '.join(sums)}, looks={self.looks})"

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form; `from_dict` gives the same counts back."""
        given = not np.array_equal(self.exposure, self.n)
        return {
            "n_arms": self.n_arms,
            "n": self.n.tolist(),
            "successes": self.successes.tolist(),
            "exposure": self.exposure.tolist() if given else None,
            "weights": None if self.weights is None else self.weights.tolist(),
            "looks": self.looks,
            "strata": None if self.strata is None else list(self.strata),
            "epochs": None if self.epochs == tuple(range(len(self.n))) else list(self.epochs),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Counts:
        """Counts from `to_dict`'s form; ``n`` and ``successes`` suffice.

        Raises:
            ValueError: A field is missing, unknown or impossible.
        """
        known = {"n_arms", "n", "successes", "exposure", "weights", "looks", "strata", "epochs"}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"counts have an unknown field '{unknown[0]}', known are {', '.join(sorted(known))}")
        if missing := sorted({"n", "successes"} - set(data)):
            raise ValueError(f"counts lack the field '{missing[0]}'")
        n, successes, exposure, weights = (_empty_or(data, name) for name in ("n", "successes", "exposure", "weights"))
        looks = data.get("looks")
        if looks is not None and not isinstance(looks, int):
            raise ValueError(f"looks is {looks!r}, must be a whole number")
        if n is None or successes is None:
            raise ValueError("counts lack numbers: n and successes must be lists")
        strata, epochs = _list_of(data, "strata", str), _list_of(data, "epochs", int)
        return cls(n, successes, exposure, weights, looks, strata=strata, epochs=epochs)

    def _arrays(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64] | None]:
        return self.n, self.successes, self.exposure, self.weights


def _again(
    n: NDArray[np.int64],
    successes: NDArray[np.int64],
    exposure: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    looks: int | None,
    strata: tuple[str, ...] | None,
    epochs: tuple[int, ...],
) -> Counts:
    return Counts(n, successes, exposure, weights, looks, strata=strata, epochs=epochs)


@dataclass(slots=True, kw_only=True)
class _Table:
    """Rows on their way to counts: the names of their columns and the sums so far."""

    epoch: str | None
    arm: str
    n: str | None
    successes: str
    stratum: str | None
    weight: str | None
    sums: dict[tuple[Any, str, str], list[float]] = field(default_factory=dict)

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Add one row to the sums of its epoch, stratum and arm."""
        try:
            when = 0 if self.epoch is None else row[self.epoch]
            where = "" if self.stratum is None else str(row[self.stratum])
            who = str(row[self.arm])
            sends, hits = 1 if self.n is None else row[self.n], row[self.successes]
            share = 0.0 if self.weight is None else float(row[self.weight])
        except KeyError as error:
            raise ValueError(f"row {number} lacks the column {error}, it has {', '.join(map(str, row))}") from None
        for name, value in ((self.n or "n", sends), (self.successes, hits)):
            if isinstance(value, str) or not 0 <= value < _LARGEST or value != int(value):
                raise ValueError(f"{name} of row {number} is {value!r}: must be a whole number that is not negative")
        if hits > sends:
            raise ValueError(f"{self.successes} of row {number} is {hits}, more than the {sends} sent")
        cell = self.sums.setdefault((when, where, who), [0, 0, share])
        cell[0] += int(sends)
        cell[1] += int(hits)
        if cell[2] != share:
            raise ValueError(f"{self.weight} of row {number} is {share:g}, an earlier row said {cell[2]:g}")

    def arrays(self, arms: Sequence[str] | None) -> dict[str, Any]:
        """Arguments of `Counts`."""
        names = sorted({who for _, _, who in self.sums}) if arms is None else list(arms)
        if unknown := sorted({who for _, _, who in self.sums} - set(names)):
            raise ValueError(f"there is an arm '{unknown[0]}', the arms are {', '.join(names)}")
        keys = sorted({(when, where) for when, where, _ in self.sums})
        whens = {when: place for place, when in enumerate(dict.fromkeys(when for when, _ in keys))}
        empty = [0, 0, 0.0]
        cells = [[self.sums.get((*key, name), empty) for name in names] for key in keys]
        table = np.array(cells, dtype=np.float64).reshape(len(keys), len(names), 3)
        return {
            "n": table[..., 0],
            "successes": table[..., 1],
            "weights": None if self.weight is None else table[..., 2],
            "strata": None if self.stratum is None else [where for _, where in keys],
            "epochs": [whens[when] for when, _ in keys],
        }


def _require_rows(epochs: tuple[int, ...], strata: tuple[str, ...] | None, n_rows: int) -> None:
    if strata is not None and len(strata) != n_rows:
        raise ValueError(f"there are {len(strata)} strata for {n_rows} rows: every row needs one")
    if len(epochs) != n_rows:
        raise ValueError(f"there are {len(epochs)} epoch numbers for {n_rows} rows: every row needs one")
    if any(later < earlier for earlier, later in pairwise(epochs)):
        raise ValueError("epochs must not fall from row to row")
    rows = list(zip(epochs, strata or [""] * n_rows, strict=True))
    if twice := [row for row, times in Counter(rows).items() if times > 1]:
        raise ValueError(f"epoch {twice[0][0]} has two rows of the stratum '{twice[0][1]}': sum them first")


def _list_of(data: Mapping[str, object], name: str, kind: type[_L]) -> list[_L] | None:
    values = data.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ValueError(f"{name} is {values!r}, must be a list with one {kind.__name__} per row")
    return values


def _empty_or(data: Mapping[str, object], name: str) -> ArrayLike | None:
    """A field's numbers; no epochs at all need the number of arms to keep their shape."""
    value = data.get(name)
    if value is None:
        return None
    n_arms = data.get("n_arms")
    if isinstance(value, list) and not value and isinstance(n_arms, int):
        return np.zeros((0, n_arms))
    return np.asarray(value)


def _single(epoch: int, n_epochs: int) -> slice:
    index = epoch + n_epochs if epoch < 0 else epoch
    if not 0 <= index < n_epochs:
        raise IndexError(f"epoch {epoch} does not exist: there are {n_epochs}")
    return slice(index, index + 1)


def _floats(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """A fresh (n_epochs, n_arms) float array of finite, non-negative numbers."""
    try:
        raw = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} has rows of different length: every epoch needs one number per arm") from error
    if raw.dtype.kind not in "iuf":
        raise TypeError(f"{name} holds {raw.dtype} values, must hold numbers")
    array = np.array(raw, dtype=np.float64, ndmin=2)
    if raw.ndim not in (1, 2) or array.shape[1] == 0:
        raise ValueError(f"{name} has shape {raw.shape}, must be (n_epochs, n_arms), or (n_arms,) for a single epoch")
    _refuse(~np.isfinite(array), array, name, "must be a finite number")
    _refuse(array < 0, array, name, "must not be negative")
    return array


def _whole_numbers(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = _floats(values, name)
    _refuse(array != np.floor(array), array, name, "must be a whole number")
    _refuse(array > _LARGEST, array, name, f"must not exceed {_LARGEST}")
    return array.astype(np.int64)


def _refuse(wrong: NDArray[np.bool_], array: NDArray[np.float64], name: str, rule: str) -> None:
    if wrong.any():
        epoch, arm = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} of epoch {epoch}, arm {arm} is {array[epoch, arm]:g}: {rule}")


def _refuse_above(array: NDArray[np.int64] | NDArray[np.float64], n: NDArray[np.int64], name: str) -> None:
    wrong = array > n
    if wrong.any():
        epoch, arm = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name} of epoch {epoch}, arm {arm} is {array[epoch, arm]:g}, more than the {n[epoch, arm]} sent: "
            f"0 <= {name} <= n must hold"
        )


def _same_shape(array: NDArray[_A], n: NDArray[np.int64], name: str) -> NDArray[_A]:
    if array.shape != n.shape:
        raise ValueError(f"{name} has shape {array.shape}, n has {n.shape}: they must agree")
    return array


def _shares(weights: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = weights.sum(axis=1)
    unused = (sums == 0) & (n.sum(axis=1) == 0)
    wrong = (np.abs(sums - 1) > _WEIGHT_TOLERANCE) & ~unused
    if wrong.any():
        epoch = int(np.argmax(wrong))
        raise ValueError(f"weights of epoch {epoch} sum to {sums[epoch]:g}, must sum to 1")
    return weights


def _planned_looks(looks: int | None) -> int | None:
    if looks is None:
        return None
    if isinstance(looks, bool) or not isinstance(looks, int | np.integer):
        raise TypeError(f"looks is {looks!r}, must be a whole number of planned epochs")
    if looks < 1:
        raise ValueError(f"looks is {looks}, must be at least 1 planned epoch")
    return int(looks)


def _agreed(mine: NDArray[np.float64] | None, theirs: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    if not np.allclose(mine, theirs, rtol=0, atol=_WEIGHT_TOLERANCE):
        raise ValueError("counts with different weights do not add: they are not the same epochs")
    return mine
