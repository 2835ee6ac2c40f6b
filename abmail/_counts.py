"""`Counts`: what happened, per epoch and arm. The one value that statistics, bandit and report all work from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Counts"]

_A = TypeVar("_A", np.int64, np.float64)
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

    def __init__(
        self,
        n: ArrayLike,
        successes: ArrayLike,
        exposure: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        looks: int | None = None,
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

    @property
    def n_epochs(self) -> int:
        """Number of epochs so far."""
        return int(self.n.shape[0])

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
        weights = None if self.weights is None else self.weights[span]
        return Counts(self.n[span], self.successes[span], self.exposure[span], weights, looks)

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
        return Counts(self.n[:, chosen], self.successes[:, chosen], self.exposure[:, chosen], weights, self.looks)

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
        if self.n.shape != other.n.shape:
            raise ValueError(
                f"counts of shape {self.n.shape} and {other.n.shape} do not add: same epochs and arms needed"
            )
        if self.looks is not None and other.looks is not None and self.looks != other.looks:
            raise ValueError(f"counts planned for {self.looks} and for {other.looks} looks do not add")
        return Counts(
            self.n + other.n,
            self.successes + other.successes,
            np.minimum(self.exposure + other.exposure, self.n + other.n),
            _agreed(self.weights, other.weights),
            self.looks if other.looks is None else other.looks,
        )

    def __radd__(self, other: int) -> Counts:
        """The start value 0 of ``sum`` changes nothing."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        return self.looks == other.looks and all(
            np.array_equal(mine, theirs) if mine is not None and theirs is not None else mine is theirs
            for mine, theirs in zip(self._arrays(), other._arrays(), strict=True)
        )

    def __hash__(self) -> int:
        return hash((self.n.shape, self.n.tobytes(), self.successes.tobytes(), self.looks))

    def __reduce__(self) -> tuple[type[Counts], tuple[object, ...]]:
        return (Counts, (*self._arrays(), self.looks))

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
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Counts:
        """Counts from `to_dict`'s form; ``n`` and ``successes`` suffice.

        Raises:
            ValueError: A field is missing, unknown or impossible.
        """
        known = {"n_arms", "n", "successes", "exposure", "weights", "looks"}
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
        return cls(n, successes, exposure, weights, looks)

    def _arrays(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64] | None]:
        return self.n, self.successes, self.exposure, self.weights


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
