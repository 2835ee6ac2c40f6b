"""`Moments`: outcomes that are not yes or no, per epoch and arm, as sums that add.

What `Counts` is for opens and clicks, `Moments` is for money, repeat opens, clicks per open and companies. Kept are the
number of units, their means and their centred sums of squares and products: they combine without loss (Chan, Golub &
LeVeque 1983), also where the mean is a billion times the spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

import numpy as np

from abmail._counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Moments", "Variable", "cluster_codes", "pool", "winsorize"]

Variable = Literal["value", "denominator", "covariate", "size"]

_KNOWN: Final[tuple[Variable, ...]] = ("value", "denominator", "covariate", "size")
_LARGEST: Final = 1e100  # of a value or a mean: squares and their sums stay finite
_FAR: Final = 6.0  # standard errors that fresh draws never pass
_TOLERANCE: Final = 1e-6  # of a correlation, before a matrix of products counts as impossible


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Moments:
    """Means and sums of products per epoch and arm; moments of the same shape and variables add.

    Make them with `from_values` (a value per recipient) or `from_summary` (count, mean and variance). The constructor
    itself is for sums that a warehouse has centred already. All arrays are read-only. A unit is a recipient, or a
    company where `from_values` was given clusters; weights are those that units were assigned with.

    Args:
        n: Units, (n_epochs, n_arms) whole numbers, or (n_arms,) for a single epoch.
        mean: Mean of each variable over the units, (n_epochs, n_arms, n_variables).
        product: Sums over the units of products of deviations from those means, (n_epochs, n_arms, n_variables,
            n_variables), symmetric.
        variables: What the last axis holds: ``value`` first, then any of ``denominator`` (the metric is the sum of the
            values over its sum), ``covariate`` (known before the send) and ``size`` (recipients behind the unit).
        limit: The cap that the values were winsorised at, None without.
        weights: The epochs' allocation weights, as in `Counts`.
        looks: Planned number of epochs, None where no end is planned.

    Raises:
        ValueError: A shape, a count or a sum of products is impossible; the message names the epoch and the arm.
        TypeError: Something is not a number.

    Example:
        >>> spent = Moments.from_values([0, 12.5, 0, 3, 0, 9], arm=[0, 0, 0, 1, 1, 1])
        >>> spent.n.tolist(), spent.mean[0, :, 0].round(3).tolist()
        ([[3, 3]], [4.167, 4.0])
    """

    mean: Floats
    product: Floats
    variables: tuple[Variable, ...]
    limit: float | None
    _units: Counts

    def __init__(
        self,
        n: ArrayLike,
        mean: ArrayLike,
        product: ArrayLike,
        *,
        variables: Sequence[str] = ("value",),
        limit: float | None = None,
        weights: ArrayLike | None = None,
        looks: int | None = None,
    ) -> None:
        units = Counts(n, np.zeros(np.shape(n)), weights=weights, looks=looks)
        names = _checked_variables(variables)
        centre = _shaped(mean, (*units.n.shape, len(names)), "mean")
        spread = _shaped(product, (*units.n.shape, len(names), len(names)), "product")
        centre[units.n == 0] = 0.0
        spread[units.n < 2] = 0.0
        _refuse_impossible(centre, spread, names)
        self._fill(units, centre, (spread + spread.swapaxes(-1, -2)) / 2, names, _checked_limit(limit))

    def _fill(
        self, units: Counts, mean: Floats, product: Floats, variables: tuple[Variable, ...], limit: float | None
    ) -> None:
        for name, array in (("mean", mean), ("product", product)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "variables", variables)
        object.__setattr__(self, "limit", limit)
        object.__setattr__(self, "_units", units)

    def _like(self, units: Counts, mean: Floats, product: Floats) -> Moments:
        """The same variables with other numbers, which come from sound ones and need no check."""
        other = object.__new__(Moments)
        other._fill(units, mean, product, self.variables, self.limit)
        return other

    @classmethod
    def from_values(
        cls,
        y: ArrayLike,
        *,
        arm: ArrayLike,
        epoch: ArrayLike | None = None,
        denominator: ArrayLike | None = None,
        covariate: ArrayLike | None = None,
        cluster: Sequence[object] | NDArray[np.generic] | None = None,
        n_epochs: int | None = None,
        n_arms: int | None = None,
        limit: float | None = None,
        weights: ArrayLike | None = None,
        looks: int | None = None,
    ) -> Moments:
        """Moments of one value per recipient.

        With ``denominator`` the metric is a ratio, the sum of the values over the sum of the denominators (clicks per
        open). With ``cluster`` the values of a company are summed within epoch and arm first: the company is the unit,
        and the mean per recipient becomes such a ratio, so that people of one company who act alike are not counted as
        so many independent witnesses. A company that is mailed in several epochs must be drawn afresh in each.

        Args:
            y: Value of each recipient, (n,), finite: 0 for those who bought nothing, not missing.
            arm: Index of the recipient's arm, (n,) whole numbers.
            epoch: Index of the recipient's epoch, (n,) whole numbers; all 0 by default.
            denominator: (n,) numbers >= 0; 1 by default.
            covariate: (n,) numbers that were known before the send, such as the opens of the 90 days before; for
                `compare_means` to take out what they explain.
            cluster: (n,) company of each recipient: text or numbers; None or NaN for a recipient who stands alone.
            n_epochs: Number of epochs; the largest index plus one by default.
            n_arms: Number of arms; the largest index plus one by default.
            limit: Cap for the values of single recipients (see `winsorize`), fixed before the data were seen.
            weights: Allocation weights that units were assigned with, (n_epochs, n_arms).
            looks: Planned number of epochs.

        Raises:
            ValueError: Lengths differ, an index is out of range, a number is impossible, or companies keep their arm
                from epoch to epoch.
            TypeError: Something is not a number.
        """
        value = _column(y, "y", None)
        arms = _indices(arm, "arm", _least(n_arms, "n_arms", 1), len(value))
        zeros = np.zeros(len(value)) if epoch is None else epoch
        epochs = _indices(zeros, "epoch", _least(n_epochs, "n_epochs", 0), len(value))
        shape = tuple(
            int(indices.max(initial=0)) + 1 if given is None else int(given)
            for indices, given in ((epochs, n_epochs), (arms, n_arms))
        )
        columns: dict[Variable, Floats] = {"value": value if limit is None else winsorize(value, limit=limit)}
        for name, given in (("denominator", denominator), ("covariate", covariate)):
            if given is not None:
                columns[cast("Variable", name)] = _column(given, name, len(value))
        if "denominator" in columns and (columns["denominator"] < 0).any():
            raise ValueError(f"denominator is {columns['denominator'].min():g}, must not be negative")
        cell = epochs * shape[1] + arms
        if cluster is not None:
            cell, columns, codes = _summed(cell, columns, cluster_codes(cluster, len(value)))
            _refuse_kept_arms(cell, codes, shape)
        n, mean, product = _by_cell(cell, np.column_stack([*columns.values()]), shape)
        return cls(n, mean, product, variables=tuple(columns), limit=limit, weights=weights, looks=looks)

    @classmethod
    def from_summary(
        cls,
        n: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        limit: float | None = None,
        weights: ArrayLike | None = None,
        looks: int | None = None,
    ) -> Moments:
        """Moments from count, mean and variance per epoch and arm, as a warehouse keeps them.

        Args:
            n: Units, (n_epochs, n_arms) whole numbers, or (n_arms,) for a single epoch.
            mean: Same shape as ``n``; passed over where ``n`` is 0.
            variance: Sample variance with n - 1 below, same shape; passed over where ``n`` is below 2.
            limit: The cap that the values were winsorised at.
            weights: Allocation weights, same shape as ``n``.
            looks: Planned number of epochs.

        Raises:
            ValueError: A shape or a number is impossible.
            TypeError: Something is not a number.

        Example:
            >>> Moments.from_summary([1000, 1000], [4.1, 4.4], [90.0, 96.5]).variance.tolist()
            [[90.0, 96.5]]
        """
        units = Counts(n, np.zeros(np.shape(n)))
        sizes = units.n
        means = _shaped(mean, sizes.shape, "mean", reshape=True)
        spread = np.where(sizes < 2, 0.0, _shaped(variance, sizes.shape, "variance", reshape=True))
        _refuse(spread < 0, spread, "variance", "must not be negative")
        product = spread * np.maximum(sizes - 1, 0)
        return cls(sizes, means[..., None], product[..., None, None], limit=limit, weights=weights, looks=looks)

    @classmethod
    def from_sparse(
        cls,
        n: ArrayLike,
        y: ArrayLike,
        *,
        arm: ArrayLike,
        epoch: ArrayLike | None = None,
        limit: float | None = None,
        weights: ArrayLike | None = None,
        looks: int | None = None,
    ) -> Moments:
        """Moments where most recipients have the value 0, from the values of the others alone.

        The same moments as `from_values` of all recipients, without an entry for each of those who bought nothing.

        Args:
            n: All units, (n_epochs, n_arms) whole numbers, or (n_arms,) for a single epoch.
            y: Values of the units that have one, (n_values,), finite.
            arm: Index of their arm, (n_values,) whole numbers.
            epoch: Index of their epoch, (n_values,) whole numbers; all 0 by default.
            limit: Cap for the values (see `winsorize`), fixed before the data were seen.
            weights: Allocation weights, same shape as ``n``.
            looks: Planned number of epochs.

        Raises:
            ValueError: Lengths differ, an index is out of range, or a cell has more values than units.
            TypeError: Something is not a number.

        Example:
            >>> Moments.from_sparse([4, 4], [10.0, 20.0, 30.0], arm=[0, 1, 1]).mean[..., 0].tolist()
            [[2.5, 12.5]]
        """
        units = Counts(n, np.zeros(np.shape(n)))
        shape = units.n.shape
        value = _column(y, "y", None)
        cell = _indices(np.zeros(len(value)) if epoch is None else epoch, "epoch", shape[0], len(value)) * shape[1]
        cell = cell + _indices(arm, "arm", shape[1], len(value))
        some, mean, product = _by_cell(
            cell, value[:, None] if limit is None else winsorize(value, limit=limit)[:, None], shape
        )
        _refuse(
            some > units.n, some.astype(np.float64), "number of values", "must not be more than the units of the cell"
        )
        n_all, mean, product = pool(
            np.stack([some, units.n - some]), np.stack([mean, np.zeros_like(mean)]),
            np.stack([product, np.zeros_like(product)]), axis=0,
        )  # fmt: skip
        return cls(n_all, mean, product, limit=limit, weights=weights, looks=looks)

    @property
    def n(self) -> Integers:
        """Units, (n_epochs, n_arms)."""
        return self._units.n

    @property
    def weights(self) -> Floats | None:
        """Allocation weights, (n_epochs, n_arms), None where not logged."""
        return self._units.weights

    @property
    def looks(self) -> int | None:
        """Planned number of epochs, None where no end is planned."""
        return self._units.looks

    @property
    def n_epochs(self) -> int:
        """Number of epochs so far."""
        return self._units.n_epochs

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return self._units.n_arms

    @property
    def variance(self) -> Floats:
        """Sample variance of the values over the units, (n_epochs, n_arms); NaN below two units."""
        free = self.n - 1.0
        variance: Floats = np.full(free.shape, np.nan)
        np.divide(self.product[..., 0, 0], free, out=variance, where=free > 0)
        return variance

    def position(self, variable: Variable) -> int | None:
        """Where a variable lies on the last axis, None where there is none."""
        return self.variables.index(variable) if variable in self.variables else None

    def __len__(self) -> int:
        return self.n_epochs

    def __getitem__(self, epochs: int | slice) -> Moments:
        """Some epochs: ``moments[:t]`` is what was known after t epochs; only such a beginning keeps ``looks``."""
        units = self._units[epochs]
        span = epochs if isinstance(epochs, slice) else slice(epochs, epochs + 1 or None)
        return self._like(units, self.mean[span], self.product[span])

    def arms(self, indices: Iterable[int]) -> Moments:
        """Only these arms, in this order; weights become shares within them.

        Raises:
            ValueError: An index is out of range or given twice.
        """
        chosen = list(indices)
        return self._like(self._units.arms(chosen), self.mean[:, chosen], self.product[:, chosen])

    def total(self) -> Moments:
        """All epochs put together into one; the weights become their mean over the units; no planned looks remain.

        It mixes epochs with different weights: comparing it is valid only if the weights never changed.
        """
        _, mean, product = pool(self.n, self.mean, self.product, axis=0)
        return self._like(self._units.total(), mean[np.newaxis], product[np.newaxis])

    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        if self.variables != other.variables:
            raise ValueError(f"moments of {self.variables} and {other.variables} do not add: same variables needed")
        if self.limit != other.limit:
            raise ValueError(f"moments with limits {self.limit} and {other.limit} do not add: one cap for all needed")
        units = self._units + other._units
        n, means, products = (
            np.stack([self.n, other.n]),
            np.stack([self.mean, other.mean]),
            [self.product, other.product],
        )
        _, mean, product = pool(n, means, np.stack(products), axis=0)
        return self._like(units, mean, product)

    def __radd__(self, other: int) -> Moments:
        """The start value 0 of ``sum`` changes nothing."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        return (
            (self.variables, self.limit, self._units) == (other.variables, other.limit, other._units)
            and np.array_equal(self.mean, other.mean)
            and np.array_equal(self.product, other.product)
        )

    def __hash__(self) -> int:
        return hash((self.variables, self.limit, self._units, self.mean.tobytes()))

    def __reduce__(self) -> tuple[object, ...]:
        return (Moments.from_dict, (self.to_dict(),))

    def __repr__(self) -> str:
        whole = self.total() if self.n_epochs else self
        arms = " ".join(
            f"{n}×{mean:.4g}" for n, mean in zip(whole.n.sum(axis=0), whole.mean[..., 0].sum(axis=0), strict=True)
        )
        return f"Moments({self.n_epochs} epochs, {self.n_arms} arms, n×mean {arms}, {', '.join(self.variables)})"

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form; `from_dict` gives the same moments back."""
        return {
            "n_arms": self.n_arms,
            "variables": list(self.variables),
            "n": self.n.tolist(),
            "mean": self.mean.tolist(),
            "product": self.product.tolist(),
            "limit": self.limit,
            "weights": None if self.weights is None else self.weights.tolist(),
            "looks": self.looks,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Moments:
        """Moments from `to_dict`'s form; ``n``, ``mean`` and ``product`` suffice.

        Raises:
            ValueError: A field is missing, unknown or impossible.
            TypeError: Something is not a number.
        """
        known = {"n_arms", "variables", "n", "mean", "product", "limit", "weights", "looks"}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"moments have an unknown field '{unknown[0]}', known are {', '.join(sorted(known))}")
        if missing := sorted({"n", "mean", "product"} - set(data)):
            raise ValueError(f"moments lack the field '{missing[0]}'")
        names = _checked_variables(cast("Sequence[str]", data.get("variables", ("value",))))
        n, mean, product, weights = (
            cast("ArrayLike | None", data.get(name)) for name in ("n", "mean", "product", "weights")
        )
        if n is None or mean is None or product is None:
            raise ValueError("moments lack numbers: n, mean and product must be lists")
        n_arms = data.get("n_arms")
        if np.size(n) == 0 and isinstance(n_arms, int):  # no epochs at all: their lists have lost the shape
            n, width = np.zeros((0, n_arms)), len(names)
            mean, product = np.zeros((0, n_arms, width)), np.zeros((0, n_arms, width, width))
            weights = None if weights is None else n
        limit, looks = cast("float | None", data.get("limit")), cast("int | None", data.get("looks"))
        return cls(n, mean, product, variables=names, limit=limit, weights=weights, looks=looks)


def winsorize(values: ArrayLike, *, limit: float, lower: float | None = None) -> Floats:
    """Cap values, so that a handful of huge orders does not decide an experiment.

    The cap is part of the plan: fix it before the data of the experiment are seen, from last year's orders, say, and
    report it. A cap chosen from the experiment's own values (their 99th percentile, or whatever gives the smaller
    p-value) is not covered by any guarantee here. What is compared afterwards are means of capped values.

    Args:
        values: Numbers of any shape, finite.
        limit: Larger values become this one.
        lower: Smaller values become this one; None to leave them.

    Returns:
        A fresh array of the same shape, float64.

    Raises:
        ValueError: A limit is not finite, ``lower`` is above ``limit``, or a value is not finite.
        TypeError: Something is not a number.

    Example:
        >>> winsorize([0, 35, 12_000], limit=500).tolist()
        [0.0, 35.0, 500.0]
    """
    array = _numbers(values, "values")
    cap = _checked_limit(limit)
    if lower is not None and not -np.inf < lower <= limit:
        raise ValueError(f"lower is {lower:g}, must be a finite number up to limit, {limit:g}")
    return np.clip(array, lower, cap)


def pool(n: NDArray[np.generic], mean: Floats, product: Floats, *, axis: int) -> tuple[Floats, Floats, Floats]:
    """Put groups of units together (Chan, Golub & LeVeque 1983).

    Args:
        n: Units, (...).
        mean: (..., n_variables).
        product: Centred sums of products, (..., n_variables, n_variables).
        axis: Axis of ``n`` along which the groups lie, counted from the front.

    Returns:
        Units, mean and product of the whole, without that axis.
    """
    sizes = n.astype(np.float64)
    total = sizes.sum(axis=axis)
    share = sizes / np.maximum(np.expand_dims(total, axis), 1.0)
    largest = np.expand_dims(np.argmax(sizes, axis=axis), axis)[..., None] if mean.shape[axis] else None
    anchor = np.zeros(1) if largest is None else np.take_along_axis(mean, largest, axis)
    gap = mean - anchor
    shift = (share[..., None] * gap).sum(axis=axis, keepdims=True)
    centre = (anchor + shift).sum(axis=axis)
    off = gap - shift
    spread = product + sizes[..., None, None] * off[..., :, None] * off[..., None, :]
    return total, centre, spread.sum(axis=axis)


def _by_cell(cell: Integers, columns: Floats, shape: tuple[int, ...]) -> tuple[Integers, Floats, Floats]:
    """Units, means and centred products per cell, in two passes from a shared anchor, with their rounding corrected."""
    n_cells, n_columns = shape[0] * shape[1], columns.shape[1]
    n = np.bincount(cell, minlength=n_cells)
    size = np.maximum(n, 1)[:, None]
    anchor = columns[:1]
    mean = _sums(cell, columns - anchor, n_cells) / size
    rest = columns - anchor - mean[cell]
    correction = _sums(cell, rest, n_cells) / size
    rest -= correction[cell]
    centre = np.where(n[:, None] > 0, anchor + mean + correction, 0.0) if len(columns) else np.zeros_like(mean)
    product = np.zeros((n_cells, n_columns, n_columns))
    for i in range(n_columns):
        for j in range(i + 1):
            product[:, i, j] = product[:, j, i] = np.bincount(cell, rest[:, i] * rest[:, j], n_cells)
    return n.reshape(shape), centre.reshape(*shape, n_columns), product.reshape(*shape, n_columns, n_columns)


def _sums(cell: Integers, columns: Floats, n_cells: int) -> Floats:
    return np.column_stack([np.bincount(cell, column, n_cells) for column in columns.T])


def _summed(
    cell: Integers, columns: dict[Variable, Floats], codes: Integers
) -> tuple[Integers, dict[Variable, Floats], Integers]:
    """Sum the recipients of a cluster within each cell; their number becomes the size. Cells and codes per unit."""
    width = int(codes.max(initial=0)) + 1
    found, unit = np.unique(cell * width + codes, return_inverse=True)
    sums: dict[Variable, Floats] = {}
    for name, column in columns.items():
        sums[name] = np.bincount(unit, column, len(found)).astype(np.float64)
    sums["size"] = np.bincount(unit, minlength=len(found)).astype(np.float64)
    return found // width, sums, found % width


def _refuse_kept_arms(cell: Integers, codes: Integers, shape: tuple[int, ...]) -> None:
    """Refuse clusters that keep their arm from epoch to epoch far more often than fresh draws would have it."""
    order = np.lexsort((cell, codes))
    code, epoch, arm = codes[order], cell[order] // shape[1], cell[order] % shape[1]
    visit = code * shape[0] + epoch
    again = np.concatenate(([False], visit[1:] == visit[:-1]))
    alone = ~(again | np.append(again[1:], False))  # not in several arms of the epoch at once
    code, epoch, arm = code[alone], epoch[alone], arm[alone]
    recurs = code[1:] == code[:-1]
    kept = (arm[1:] == arm[:-1])[recurs]
    shares = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
    chance = (shares[epoch[1:]] * shares[epoch[:-1]]).sum(axis=1)[recurs]
    excess = np.count_nonzero(kept) - chance.sum()
    if excess > _FAR * np.sqrt((chance * (1 - chance)).sum()) and excess > 1:
        raise ValueError(
            f"companies keep their arm from one epoch to the next ({np.count_nonzero(kept)} of {len(kept)} times): "
            "a later epoch is then no new evidence; leave epoch out, so that each company is one unit of a single look"
        )


def cluster_codes(cluster: Sequence[object] | NDArray[np.generic], length: int) -> Integers:
    """A number for each cluster; recipients without one get one each."""
    ids: list[object] = cluster.tolist() if isinstance(cluster, np.ndarray) else list(cluster)
    if len(ids) != length:
        raise ValueError(f"cluster has {len(ids)} entries, y has {length}: they must agree")
    names = list(dict.fromkeys(ids))
    codes = {name: i for i, name in enumerate(names)}
    found = np.fromiter(map(codes.__getitem__, ids), dtype=np.int64, count=length)
    nobody = np.array([name is None or not _equals_itself(name) for name in names], dtype=np.bool_)
    alone = nobody[found]
    found[alone] = len(names) + np.arange(np.count_nonzero(alone))
    return found


def _equals_itself(name: object) -> bool:
    """False for NaN and for pandas.NA."""
    equal: object = name == name
    return isinstance(equal, bool | np.bool_) and bool(equal)


def _checked_variables(variables: Sequence[str]) -> tuple[Variable, ...]:
    names = tuple(variables)
    unknown = [name for name in names if name not in _KNOWN]
    if unknown or names[:1] != ("value",) or len(set(names)) != len(names):
        raise ValueError(f"variables are {names}, must be 'value' and then any of {', '.join(_KNOWN[1:])}, each once")
    return cast("tuple[Variable, ...]", names)


def _checked_limit(limit: float | None) -> float | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float | np.integer | np.floating):
        raise TypeError(f"limit is {limit!r}, must be a number")
    if not abs(limit) <= _LARGEST:
        raise ValueError(f"limit is {limit:g}, must be a finite number, fixed before the data were seen")
    return float(limit)


def _numbers(values: ArrayLike, name: str) -> Floats:
    try:
        raw = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} has rows of different length") from error
    if raw.size and raw.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {raw.dtype} values, must hold numbers")
    array = raw.astype(np.float64)
    wrong = ~(np.abs(array) <= _LARGEST)
    if wrong.any():
        place = ", ".join(str(int(i)) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name}[{place}] is {array[wrong][0]:g}, must be a number of at most {_LARGEST:g}")
    return array


def _column(values: ArrayLike, name: str, length: int | None) -> Floats:
    array = _numbers(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, must be (n,): one number per recipient")
    if length is not None and len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries, y has {length}: they must agree")
    return array


def _indices(values: ArrayLike, name: str, limit: int | None, length: int) -> Integers:
    array = _column(values, name, length)
    wrong = (array != np.floor(array)) | (array < 0)
    if limit is not None:
        wrong |= array >= limit
    if wrong.any():
        place = int(np.argmax(wrong))
        upper = "" if limit is None else f" to {limit - 1}"
        raise ValueError(f"{name}[{place}] is {array[place]:g}, must be an index from 0{upper}")
    return array.astype(np.int64)


def _least(given: int | None, name: str, least: int) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise TypeError(f"{name} is {given!r}, must be a whole number")
    if given < least:
        raise ValueError(f"{name} is {given}, must be at least {least}")
    return int(given)


def _shaped(values: ArrayLike, shape: tuple[int, ...], name: str, *, reshape: bool = False) -> Floats:
    """A fresh array of that shape; what stands where nobody was is for the caller to pass over."""
    try:
        raw = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers, {len(shape)} axes deep") from error
    if reshape and raw.ndim == 1 and shape[0] == 1:
        raw = raw[np.newaxis]
    if raw.shape != shape:
        raise ValueError(f"{name} has shape {raw.shape}, must be {shape}")
    return raw


def _refuse_impossible(mean: Floats, product: Floats, names: tuple[Variable, ...]) -> None:
    for i, name in enumerate(names):
        centre, square = mean[..., i], product[..., i, i]
        _refuse(~(np.abs(centre) <= _LARGEST), centre, f"mean of the {name}", f"must be at most {_LARGEST:g}")
        if name in ("denominator", "size"):
            _refuse(centre < 0, centre, f"mean of the {name}", "must not be negative")
        _refuse(~(square <= _LARGEST**2), square, f"sum of squares of the {name}", f"must be at most {_LARGEST**2:g}")
        _refuse(square < 0, square, f"sum of squares of the {name}", "must not be negative")
    root = np.sqrt(np.diagonal(product, axis1=-2, axis2=-1))
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            between, most = product[..., i, j], root[..., i] * root[..., j] * (1 + _TOLERANCE)
            label = f"sum of products of the {one} and the {other}"
            _refuse(~(np.abs(between) <= most), between, label, "is more than their sums of squares allow")
            apart = np.abs(between - product[..., j, i]) > _TOLERANCE * most
            _refuse(apart, between, label, "must be the same both ways")


def _refuse(wrong: NDArray[np.bool_], array: Floats, name: str, rule: str) -> None:
    if wrong.any():
        epoch, arm = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} of epoch {epoch}, arm {arm} is {array[epoch, arm]:g}: {rule}")
