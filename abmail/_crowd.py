"""Ids of mails whose opens and clicks are counted without a person: what was sent and when, and a number used once.

An id has the form of a message's, so that pixel and links look alike. It is made as a mail is written, and no table
holds it beside the recipient: who has one can say which variant was opened, and not by whom.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = ["NONCE", "Crowd", "crowd_id", "crowd_of", "short_name"]

NONCE: Final = 5
"""Random bytes in an id."""

_STEP: Final = 600  # seconds; the bins of the counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What an id says.

    Attributes:
        experiment: `short_name` of the experiment.
        epoch: Number of the epoch.
        cell: Index of the cell.
        stratum: First byte of the segment's `short_name`.
        sent_at: When the mail was written, aware UTC, to ten minutes.
    """

    experiment: bytes
    epoch: int
    cell: int
    stratum: int
    sent_at: datetime


def short_name(name: str) -> bytes:
    """Four bytes that stand for a name."""
    return hashlib.blake2b(name.encode(), digest_size=4).digest()


def crowd_id(experiment: str, *, epoch: int, cell: int, stratum: str, sent_at: datetime, nonce: bytes) -> str:
    """Make an id.

    Args:
        experiment: Its name.
        epoch: Number of the epoch, below 65,536.
        cell: Index of the cell, below 256.
        stratum: Segment of the mail in the counts.
        sent_at: When the mail is written, aware UTC.
        nonce: `NONCE` random bytes.

    Returns:
        32 hexadecimal digits.

    >>> at = datetime(2026, 3, 2, 9, 7, tzinfo=UTC)
    >>> found = crowd_of(crowd_id("spring", epoch=2, cell=1, stratum="", sent_at=at, nonce=b"12345"))
    >>> found.epoch, found.cell, found.sent_at.minute
    (2, 1, 0)
    """
    step = int(sent_at.timestamp()) // _STEP
    where = epoch.to_bytes(2, "big") + cell.to_bytes(1, "big") + short_name(stratum)[:1]
    return (short_name(experiment) + where + step.to_bytes(3, "big") + nonce).hex()


def crowd_of(ident: str) -> Crowd:
    """Read an id."""
    whole = bytes.fromhex(ident)
    return Crowd(
        experiment=whole[:4], epoch=int.from_bytes(whole[4:6], "big"), cell=whole[6], stratum=whole[7],
        sent_at=datetime.fromtimestamp(int.from_bytes(whole[8:11], "big") * _STEP, UTC),
    )  # fmt: skip
