"""Who gets which cell: a pure function of experiment, recipient and the epoch's weights.

A unit id is hashed with the experiment's salt to 52 bits; the share of the unit interval in which the hash falls names
the cell, the holdout first. Nothing is drawn and nothing is remembered, so a retry, a second process or a later audit
finds the same cell. Everything is integer arithmetic, so the scalar and the array form agree to the bit everywhere:

* weights and the holdout are rounded to multiples of 2^-20, and the thresholds are exact multiples of 2^-40;
* in a small wave chance can leave a cell short; `assign_quota` orders the whole wave by a hash and cuts it exactly;
* the hash absorbs the id's UTF-8 bytes in 8-byte little-endian words with the finaliser of SplitMix64 (Steele, Lea &
  Flood 2014, "Fast splittable pseudorandom number generators", with Stafford's variant 13 of the constants), from a
  start that is BLAKE2b of the salt.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from abmail.spec import Experiment

__all__ = [
    "HOLDOUT",
    "Assignment",
    "assign",
    "assign_array",
    "assign_quota",
    "assign_quota_array",
    "hash52",
    "hash52_array",
    "salt_of",
    "unit_of",
]

HOLDOUT: Final = -1
"""The cell of a recipient who is deliberately not mailed."""

_BITS: Final = 52
_WEIGHT_UNIT: Final = 1 << 20
_MASK: Final = (1 << 64) - 1
_M1: Final = 0xBF58476D1CE4E5B9
_M2: Final = 0x94D049BB133111EB
_CHUNK: Final = 1 << 14  # rows whose intermediate words stay in the processor's cache
_FEW_CELLS: Final = 16
_LONG: Final = 1_024  # bytes; longer texts in a list are hashed one by one
_LOW_BYTES: Final = np.array([(1 << 8 * k) - 1 for k in range(9)], dtype=np.uint64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one recipient gets in one epoch.

    Attributes:
        cell: Index of the cell, or -1 for the holdout.
        propensity: Chance in (0, 1] that this recipient had of this cell, holdout included in the reckoning.
        epoch: Number of the epoch whose weights were used, where the caller named it.
        u: The hash as a fraction in [0, 1), a multiple of 2^-52.
    """

    cell: int
    propensity: float
    epoch: int | None = None
    u: float

    @property
    def held_out(self) -> bool:
        """Whether the recipient gets no mail."""
        return self.cell == HOLDOUT


def unit_of(recipient_id: str, domain: str, unit: str) -> str:
    """The text that is hashed: the recipient's id, or with ``unit="company"`` the mail domain, shared by colleagues."""
    return domain if unit == "company" else recipient_id


def salt_of(experiment: Experiment) -> str:
    """What keys the hash: the definition's salt, its name by default; different salts split people independently."""
    return experiment.salt or experiment.name


def hash52(salt: str, unit_id: str) -> int:
    """Hash one unit id to an integer in [0, 2^52).

    Args:
        salt: The experiment's salt, any text.
        unit_id: The unit's id, any text.
    """
    return _hash_bytes(unit_id.encode(), _start(salt))


def hash52_array(salt: str, unit_ids: Sequence[str] | NDArray[np.generic]) -> NDArray[np.int64]:
    """Hash many unit ids; the same bits as `hash52` for each.

    Args:
        salt: The experiment's salt.
        unit_ids: (n,) ids: a sequence of str, or a numpy array of str, of UTF-8 bytes, or of integers, which stand for
            their decimal text. No id may end in a NUL character, which numpy's fixed-width text cannot hold.

    Returns:
        (n,) int64 in [0, 2^52).

    Raises:
        TypeError: The ids are neither text nor integers.
        ValueError: The ids are not one-dimensional, or one holds a trailing NUL.
    """
    start = _start(salt)
    if isinstance(unit_ids, np.ndarray) and unit_ids.dtype.kind != "O":
        return _in_chunks(lambda rows: _hash_rows(rows, start), _utf8_rows(unit_ids))
    if isinstance(unit_ids, np.ndarray):
        _require_1d(unit_ids)
    texts = unit_ids if isinstance(unit_ids, list | tuple) else list(unit_ids)
    return _in_chunks(lambda part: _hash_texts(part, start), texts)


def assign(
    experiment: Experiment,
    unit_id: str,
    *,
    weights: Sequence[float] | NDArray[np.float64],
    epoch: int | None = None,
) -> Assignment:
    """Assign one unit to a cell under the epoch's weights.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_id: The recipient's id (the mail domain where the unit is the company, see `unit_of`).
        weights: (n_cells,) shares that sum to 1.
        epoch: Number of the epoch, copied into the result.

    Raises:
        ValueError: The weights are negative, not finite or do not sum to 1.

    Example:
        >>> from abmail.spec import Experiment
        >>> exp = Experiment.from_dict({
        ...     "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        ...     "control": {"subject": "plain"}, "message": {"template": "mails/a.html.j2", "from": "a@example.com"},
        ... })
        >>> assign(exp, "u-1017", weights=[0.5, 0.5]).cell in (0, 1)
        True
    """
    thresholds = _thresholds(weights, experiment.audience.holdout)
    hashed = hash52(salt_of(experiment), unit_id)
    cell = int(np.searchsorted(thresholds, hashed, side="right")) - 1
    low = int(thresholds[cell]) if cell >= 0 else 0
    high = int(thresholds[cell + 1]) if cell + 1 < len(thresholds) else 1 << _BITS
    return Assignment(cell=cell, propensity=(high - low) / (1 << _BITS), epoch=epoch, u=hashed / (1 << _BITS))


def assign_array(
    experiment: Experiment,
    unit_ids: Sequence[str] | NDArray[np.generic],
    *,
    weights: Sequence[float] | NDArray[np.float64],
) -> NDArray[np.int64]:
    """Assign many units under one epoch's weights; the same bits as `assign` for each.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_ids: (n,) ids as for `hash52_array`.
        weights: (n_cells,) shares that sum to 1.

    Returns:
        (n,) int64 cell indices, -1 for the holdout.

    Raises:
        TypeError: The ids are neither text nor integers.
        ValueError: The weights are not shares that sum to 1, or the ids cannot be hashed.
    """
    thresholds = _thresholds(weights, experiment.audience.holdout)
    hashed = hash52_array(salt_of(experiment), unit_ids)
    if len(thresholds) > _FEW_CELLS:
        return np.searchsorted(thresholds, hashed, side="right") - 1
    return _in_chunks(lambda part: _passed(part, thresholds), hashed)


def assign_quota(
    experiment: Experiment, unit_ids: Sequence[str], *, weights: Sequence[float] | NDArray[np.float64], epoch: int
) -> list[Assignment]:
    """Assign everybody of one epoch at once, each cell getting its share to within one unit.

    The holdout is as in `assign`. The others are put in the order of a hash of their own for each epoch, and the order
    is cut at the cells' shares of it. Where a share is no whole number of units, a hashed offset decides which cell
    gets the odd one (systematic sampling; Madow & Madow 1944), so that each unit's chance of a cell is its weight to
    the bit. That chance is the propensity: those of two units are not independent, as each cell's size is settled.

    Within its epoch this is an ordinary completely randomised split, which `compare` conditions on: rates, intervals
    and error rates are those of independent draws of the same size. The sample ratio fits better than chance would
    have it. Colleagues who share a unit keep together; shares are then exact in units, not in mails.

    The split depends on the experiment, the epoch and the *set* of units, not on their order or on repetitions. One
    unit more may move others, so a wave is split once, as a whole, and its cells are stored.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_ids: (n,) ids of everybody in the epoch, as for `assign`.
        weights: (n_cells,) shares that sum to 1.
        epoch: Number of the epoch, 0 or more; every epoch is ordered anew.

    Returns:
        The assignments, in the order of the ids.

    Raises:
        ValueError: The weights are not shares that sum to 1, or the epoch is negative.
    """
    shares, held = _quota_shares(weights, experiment.audience.holdout)
    salt = salt_of(experiment)
    order_salt, offset = _quota_order(salt, epoch)
    hashed = [hash52(salt, unit) for unit in unit_ids]
    ranked = {unit: hash52(order_salt, unit) for unit, u in zip(unit_ids, hashed, strict=True) if u >= held}
    places = {place: rank for rank, place in enumerate(sorted(set(ranked.values())))}
    cuts = [int(share) * len(places) for share in shares[1:]]
    mailed = (1 << _BITS) - held
    assigned = []
    for unit, u in zip(unit_ids, hashed, strict=True):
        cell, chance = HOLDOUT, held / (1 << _BITS)
        if unit in ranked:
            cell = bisect_right(cuts, places[ranked[unit]] * _WEIGHT_UNIT + offset)
            weight = int(np.append(shares, _WEIGHT_UNIT)[cell + 1] - shares[cell])
            chance = weight / _WEIGHT_UNIT * mailed / (1 << _BITS)
        assigned.append(Assignment(cell=cell, propensity=chance, epoch=epoch, u=u / (1 << _BITS)))
    return assigned


def assign_quota_array(
    experiment: Experiment,
    unit_ids: Sequence[str] | NDArray[np.generic],
    *,
    weights: Sequence[float] | NDArray[np.float64],
    epoch: int,
) -> NDArray[np.int64]:
    """Assign everybody of one epoch at once with exact shares; the same cells as `assign_quota`.

    Args:
        experiment: The definition; its salt and holdout are used.
        unit_ids: (n,) ids of everybody in the epoch, as for `hash52_array`.
        weights: (n_cells,) shares that sum to 1.
        epoch: Number of the epoch, 0 or more.

    Returns:
        (n,) int64 cell indices, -1 for the holdout.

    Raises:
        TypeError: The ids are neither text nor integers.
        ValueError: The weights are not shares that sum to 1, the epoch is negative, or the ids cannot be hashed.
    """
    shares, held = _quota_shares(weights, experiment.audience.holdout)
    salt = salt_of(experiment)
    order_salt, offset = _quota_order(salt, epoch)
    hashed, place = hash52_array(salt, unit_ids), hash52_array(order_salt, unit_ids)
    mailed = hashed >= held
    cells = np.full(len(hashed), HOLDOUT, dtype=np.int64)
    distinct, rank = np.unique(place[mailed], return_inverse=True)
    cells[mailed] = np.searchsorted(shares[1:] * len(distinct), rank * _WEIGHT_UNIT + offset, side="right")
    return cells


def _quota_shares(weights: Sequence[float] | NDArray[np.float64], holdout: float) -> tuple[NDArray[np.int64], int]:
    """Cumulated shares below each cell in units of 2^-20, and the hash from which on a unit is mailed."""
    thresholds = _thresholds(weights, holdout)
    return _cumulated(np.asarray(weights, dtype=np.float64)), int(thresholds[0])


def _quota_order(salt: str, epoch: int) -> tuple[str, int]:
    """What keys the order of an epoch, and its offset in [0, 2^20)."""
    if epoch < 0:
        raise ValueError(f"epoch is {epoch}, must be 0 or more")
    key = f"{salt}\0quota\0{epoch}"
    return key, hash52(key, "\0offset") >> (_BITS - 20)


def _passed(hashed: NDArray[np.int64], thresholds: NDArray[np.int64]) -> NDArray[np.int64]:
    """What ``searchsorted`` finds, less one; for a few thresholds five times faster, as nothing branches."""
    cells = np.full(len(hashed), -1, dtype=np.int8)
    for threshold in thresholds:
        cells += (hashed >= threshold).view(np.int8)
    return cells.astype(np.int64)


def _thresholds(weights: Sequence[float] | NDArray[np.float64], holdout: float) -> NDArray[np.int64]:
    """Lower ends of the cells in [0, 2^52), exact: hash >= threshold k and < threshold k + 1 means cell k."""
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"weights have shape {shares.shape}, must be (n_cells,)")
    if not np.isfinite(shares).all() or (shares < 0).any() or abs(float(shares.sum()) - 1) > 1e-6:
        raise ValueError(f"weights are {shares.tolist()}, must be shares >= 0 that sum to 1")
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout is {holdout}, must be in [0, 1)")
    held = round(holdout * _WEIGHT_UNIT)
    lower = held * _WEIGHT_UNIT + _cumulated(shares) * (_WEIGHT_UNIT - held)
    return lower << (_BITS - 40)


def _cumulated(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Weight below each cell, in units of 2^-20."""
    below: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    return np.rint(below * _WEIGHT_UNIT).astype(np.int64)


def _start(salt: str) -> int:
    return int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8, person=b"abmail-assign-1").digest(), "little")


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * _M1) & _MASK
    value = ((value ^ (value >> 27)) * _M2) & _MASK
    return value ^ (value >> 31)


def _hash_bytes(body: bytes, start: int) -> int:
    state = start
    for offset in range(0, len(body), 8):
        state = _mix(state ^ int.from_bytes(body[offset : offset + 8], "little"))
    return _mix(state ^ len(body)) >> (64 - _BITS)


def _in_chunks(work: Callable[[Any], NDArray[np.int64]], rows: Any) -> NDArray[np.int64]:
    done = np.empty(len(rows), dtype=np.int64)
    for begin in range(0, len(rows), _CHUNK):
        done[begin : begin + _CHUNK] = work(rows[begin : begin + _CHUNK])
    return done


def _require_1d(ids: NDArray[np.generic]) -> None:
    if ids.ndim != 1:
        raise ValueError(f"ids have shape {ids.shape}, must be (n,)")


def _hash_texts(ids: Sequence[str], start: int) -> NDArray[np.int64]:
    """Hash Python texts without making an array of them: all their bytes in a row, read eight at a time.

    A text is found by the NUL that is put behind each; one that holds a NUL itself takes the slower way.
    """
    try:
        octets = ("\0".join(ids) + "\0").encode()
    except TypeError as error:
        raise TypeError("ids must all be text (or pass a numpy array of integers)") from error
    ends = np.flatnonzero(np.frombuffer(octets, dtype=np.uint8) == 0)
    if len(ends) != len(ids):
        return _hash_each(ids, start)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    n_words = _words(min(int(lengths.max()), _LONG))
    octets += bytes(8 * n_words)
    overlapping = np.ndarray((len(octets) - 7,), dtype="<u8", buffer=octets, strides=(1,))
    shortest = int(lengths.min())

    def word(k: int) -> NDArray[np.uint64]:
        found: NDArray[np.uint64] = overlapping[starts + 8 * k]
        return found if shortest >= 8 * k + 8 else found & _LOW_BYTES.take(lengths - 8 * k, mode="clip")

    hashed = _hash_words(word, n_words, lengths.astype(np.uint64), start)
    for row in np.flatnonzero(lengths > _LONG):  # as many rounds for all as the longest needs would cost too much
        hashed[row] = _hash_bytes(octets[starts[row] : ends[row]], start)
    return hashed


def _hash_each(ids: Sequence[str], start: int) -> NDArray[np.int64]:
    if any(i.endswith("\0") for i in ids):
        raise ValueError("an id ends in a NUL character, which cannot be told from padding")
    return np.array([_hash_bytes(i.encode(), start) for i in ids], dtype=np.int64)


def _utf8_rows(ids: NDArray[np.generic]) -> NDArray[np.bytes_]:
    _require_1d(ids)
    match ids.dtype.kind:
        case "S":
            return ids.astype(np.bytes_, copy=False)
        case "U":
            return _encoded(ids)
        case "i" | "u":
            return _decimal(ids)
    raise TypeError(f"ids are of type {ids.dtype}, must be text, UTF-8 bytes or integers")


def _encoded(ids: NDArray[np.generic]) -> NDArray[np.bytes_]:
    """Fixed-width text to UTF-8; ASCII, the usual case, by narrowing its code points."""
    width = ids.dtype.itemsize // 4
    if not width or not len(ids):
        return ids.astype("S1")
    codes = np.ascontiguousarray(ids).astype(ids.dtype.newbyteorder("="), copy=False).view(np.uint32)
    if codes.max(initial=0) < 128:
        return codes.astype(np.uint8).view(f"S{width}")
    encoded: NDArray[np.bytes_] = np.char.encode(ids.astype("U"), "utf-8")
    return encoded


def _decimal(ids: NDArray[np.generic]) -> NDArray[np.bytes_]:
    """Integers to the text that ``str`` would give them.

    Digits enter from the last to the first, so that the first ends up in the lowest byte of the little-endian words.
    """
    if ids.dtype.kind == "i" and ids.min(initial=0) < 0:
        return ids.astype("S20")
    n_words = -(-len(str(int(ids.max(initial=0)))) // 8)
    words = np.empty((len(ids), n_words), dtype="<u8")
    for begin in range(0, len(ids), _CHUNK):
        words[begin : begin + _CHUNK] = _decimal_words(ids[begin : begin + _CHUNK].astype(np.uint64), n_words)
    return words.view(f"S{8 * n_words}").reshape(-1)


def _decimal_words(values: NDArray[np.uint64], n_words: int) -> NDArray[np.uint64]:
    words = np.zeros((n_words, len(values)), dtype=np.uint64)
    unwritten = np.ones(len(values), dtype=bool)
    while unwritten.any():
        tens = values // np.uint64(10)
        digit = values - np.uint64(10) * tens + np.uint64(ord("0"))
        for k in range(n_words - 1, -1, -1):
            carried = words[k - 1] >> np.uint64(56) if k else digit
            np.copyto(words[k], words[k] << np.uint64(8) | carried, where=unwritten)
        values = tens
        unwritten = values > 0
    return words.T


def _hash_rows(rows: NDArray[np.bytes_], start: int) -> NDArray[np.int64]:
    n_words = _words(rows.dtype.itemsize)
    words = np.ascontiguousarray(rows.astype(f"S{8 * n_words}")).view("<u8").reshape(len(rows), n_words)
    return _hash_words(lambda k: words[:, k], n_words, np.char.str_len(rows).astype(np.uint64), start)


def _words(n_bytes: int) -> int:
    return max(1, -(-n_bytes // 8))


def _hash_words(
    word: Callable[[int], NDArray[np.uint64]], n_words: int, lengths: NDArray[np.uint64], start: int
) -> NDArray[np.int64]:
    """Absorb the words of many ids side by side; ``word(k)`` is (n,) the k-th of each, 0 where an id has ended."""
    state = np.full(len(lengths), start, dtype=np.uint64)
    shortest = int(lengths.min())
    for k in range(n_words):
        absorbed = _mix_array(state ^ word(k))
        state = absorbed if shortest > 8 * k else np.where(lengths > 8 * k, absorbed, state)
    return (_mix_array(state ^ lengths) >> np.uint64(64 - _BITS)).astype(np.int64)


def _mix_array(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser in place; ``value`` is scratch."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(_M1)
    value ^= value >> np.uint64(27)
    value *= np.uint64(_M2)
    value ^= value >> np.uint64(31)
    return value
