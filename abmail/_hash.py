"""Keyed hash of recipient ids: 52 bits, the same in scalar and array form.

The hash absorbs the id's UTF-8 bytes in 8-byte little-endian words with the finaliser of SplitMix64 (Steele, Lea &
Flood 2014, "Fast splittable pseudorandom number generators", with Stafford's variant 13 of the constants), from a
start that is BLAKE2b of the salt. Everything is integer arithmetic, so both forms agree to the bit everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HASH_BITS", "hash52", "hash52_array", "in_chunks"]

HASH_BITS: Final = 52

_MASK: Final = (1 << 64) - 1
_M1: Final = 0xBF58476D1CE4E5B9
_M2: Final = 0x94D049BB133111EB
_CHUNK: Final = 1 << 14  # rows whose intermediate words stay in the processor's cache
_LONG: Final = 1_024  # bytes; longer texts in a list are hashed one by one
_LOW_BYTES: Final = np.array([(1 << 8 * k) - 1 for k in range(9)], dtype=np.uint64)


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
        return in_chunks(lambda rows: _hash_rows(rows, start), _utf8_rows(unit_ids))
    if isinstance(unit_ids, np.ndarray):
        _require_1d(unit_ids)
    texts = unit_ids if isinstance(unit_ids, list | tuple) else list(unit_ids)
    return in_chunks(lambda part: _hash_texts(part, start), texts)


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
    return _mix(state ^ len(body)) >> (64 - HASH_BITS)


def in_chunks(work: Callable[[Any], NDArray[np.int64]], rows: Any) -> NDArray[np.int64]:
    """Work on a few rows at a time, so that what comes in between stays in the processor's cache."""
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
    """Integers to the text that ``str`` would give them."""
    if ids.dtype.kind == "i" and ids.min(initial=0) < 0:
        return ids.astype("S20")
    n_words = -(-len(str(int(ids.max(initial=0)))) // 8)
    words = np.empty((len(ids), n_words), dtype="<u8")
    for begin in range(0, len(ids), _CHUNK):
        words[begin : begin + _CHUNK] = _decimal_words(ids[begin : begin + _CHUNK].astype(np.uint64), n_words).T
    return words.view(f"S{8 * n_words}").reshape(-1)


def _decimal_words(values: NDArray[np.uint64], n_words: int) -> NDArray[np.uint64]:
    """(n_words, n): the digits of each number, the first one in the lowest byte of the first word; NUL behind them."""
    words = np.zeros((2 * n_words, len(values)), dtype=np.uint64)
    rest = values
    for k in range(n_words - 1, 0, -1):
        above = rest // np.uint64(10**8)
        words[k] = _eight_digits(rest - above * np.uint64(10**8))
        rest = above
    words[0] = _eight_digits(rest)
    zeros = 8 * n_words - _digits(values)  # in front of the text
    if n_words == 1:
        return words[:1] >> 8 * zeros
    first, bits, column = (zeros // 8).astype(np.int64), 8 * (zeros % 8), np.arange(len(values))
    parts = [(words[first + k, column] >> bits, words[first + k + 1, column] << 63 - bits) for k in range(n_words)]
    return np.array([low | high << 1 for low, high in parts])


def _digits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Number of decimal digits of each number."""
    least, most = (len(str(int(end))) for end in (values.min(), values.max()))
    digits: NDArray[np.uint64] = np.full(len(values), least, dtype=np.uint64)
    for k in range(least, most):
        digits += values >= np.uint64(10**k)
    return digits


def _eight_digits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Eight decimal digits of numbers under 10^8 as ASCII, the first one in the lowest byte.

    Halves, quarters and digits are divided off side by side in one word; the products with rounded inverses of 100 and
    10 are exact for numbers of four and of two digits.
    """
    high = values // np.uint64(10_000)
    found = high | (values - high * np.uint64(10_000)) << np.uint64(32)
    high = found * np.uint64(10_486) >> np.uint64(20) & np.uint64(0x0000_007F_0000_007F)
    found = high | (found - high * np.uint64(100)) << np.uint64(16)
    high = found * np.uint64(103) >> np.uint64(10) & np.uint64(0x000F_000F_000F_000F)
    low = (found - high * np.uint64(10)) << np.uint64(8)
    digits: NDArray[np.uint64] = (high | low) + np.uint64(0x3030_3030_3030_3030)
    return digits


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
    return (_mix_array(state ^ lengths) >> np.uint64(64 - HASH_BITS)).astype(np.int64)


def _mix_array(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser in place; ``value`` is scratch."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(_M1)
    value ^= value >> np.uint64(27)
    value *= np.uint64(_M2)
    value ^= value >> np.uint64(31)
    return value
