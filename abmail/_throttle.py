"""How fast mails may go: token buckets for the relay and each large group of mailboxes, and the schedule of retries.

A provider that answers "not so fast" slows down its own group of recipients only: the rate is halved, and comes back by
a tenth a minute. Nothing here knows which variant a mail has, so a throttle hits all of them alike.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["GROUPS", "Throttle", "mailbox_group", "retry_delay"]

_DELAYS: Final = (60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0)  # seconds: 1 m, 5 m, 15 m, 1 h, 4 h, 12 h
_SEEN: Final = 60.0  # seconds over which a group's own pace is measured
_CALM: Final = 10.0  # seconds in which refusals belong to one and the same event
_SLOWEST: Final = 1.0 / 60.0  # messages a second
_RECOVERY: Final = 1.1  # times a minute
_LONGEST: Final = 240.0  # minutes after which growth no longer matters, and could overflow
_HORIZON: Final = 3_600.0  # seconds; nothing is put off further than that

_DOMAINS: Final[Mapping[str, tuple[str, ...]]] = {
    "gmail": ("gmail.com", "googlemail.com"),
    "microsoft": ("outlook.com", "outlook.jp", "hotmail.com", "hotmail.co.jp", "hotmail.co.uk", "hotmail.fr",
                  "hotmail.de", "live.com", "live.jp", "msn.com", "passport.com"),
    "yahoo": ("yahoo.com", "yahoo.co.uk", "yahoo.fr", "yahoo.de", "yahoo.es", "yahoo.it", "yahoo.in", "yahoo.com.br",
              "ymail.com", "rocketmail.com", "aol.com"),
    "yahoo_japan": ("yahoo.co.jp", "ybb.ne.jp", "yahoo.ne.jp"),
    "apple": ("icloud.com", "me.com", "mac.com", "privaterelay.appleid.com"),
    "docomo": ("docomo.ne.jp",),
    "au": ("ezweb.ne.jp", "au.com", "uqmobile.jp"),
    "softbank": ("softbank.ne.jp", "i.softbank.jp", "ymobile.ne.jp", "vodafone.ne.jp", "disney.ne.jp"),
}  # fmt: skip
_GROUP_OF: Final = {domain: group for group, domains in _DOMAINS.items() for domain in domains}
GROUPS: Final = (*_DOMAINS, "other")
"""The groups of mailboxes that are throttled together."""


class _HasRandom(Protocol):
    def random(self) -> float: ...


def retry_delay(attempt: int, *, rng: _HasRandom) -> float:
    """How long to wait after a failed attempt: full jitter below 1 m, 5 m, 15 m, 1 h, 4 h, then always 12 h.

    Args:
        attempt: How many attempts have failed, from 1.
        rng: Source of the jitter (`random.Random` or a numpy generator).

    Returns:
        Seconds, more than zero. When to give up is the worker's decision.

    Raises:
        ValueError: `attempt` is below 1.

    >>> import random
    >>> 0 < retry_delay(1, rng=random.Random(7)) <= 60
    True
    """
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}, must be 1 or more")
    return _DELAYS[min(attempt, len(_DELAYS)) - 1] * (1.0 - rng.random())


def mailbox_group(email: str) -> str:
    """The group whose servers take the mail for an address.

    Args:
        email: An address or a mail domain.

    Returns:
        One of `GROUPS`; subdomains of the Japanese carriers (``t.vodafone.ne.jp``) belong to them.

    >>> mailbox_group("hanako@docomo.ne.jp"), mailbox_group("a@example.com")
    ('docomo', 'other')
    """
    domain = email.rpartition("@")[2].casefold().rstrip(".")
    while domain:
        if domain in _GROUP_OF:
            return _GROUP_OF[domain]
        domain = domain.partition(".")[2]
    return "other"


class _Bucket:
    """The pace of the relay, or of one group of mailboxes."""

    __slots__ = ("_limit", "_next", "_rate", "_sent", "_since", "_slowed", "_turn")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit  # messages a second that were asked for; None: as many as are taken
        self._rate = limit
        self._since = self._slowed = self._next = self._turn = float("-inf")
        self._sent: deque[float] = deque(maxlen=4_096)

    def rate(self, now: float) -> float | None:
        """Messages a second as of now; None where nothing limits them."""
        if self._rate is None or self._slowed == float("-inf"):
            return self._rate
        grown: float = self._rate * _RECOVERY ** min((now - self._since) / 60.0, _LONGEST)
        return grown if self._limit is None else min(grown, self._limit)

    def take(self, now: float, patience: float) -> float:
        """Take a token that is there within ``patience`` seconds and say in how many; else say minus the turn's."""
        rate = self.rate(now)
        if rate is None:
            self._sent.append(now)
            return 0.0
        wait = max(self._next - now, 0.0)
        if wait > patience:
            self._turn = min(max(self._turn, self._next) + 1.0 / rate, now + _HORIZON)
            return now - self._turn
        self._next = max(self._next, now) + 1.0 / rate
        self._sent.append(now + wait)
        return wait

    def slow_down(self, now: float) -> None:
        """Halve the rate, once for all the refusals of one moment."""
        if now - self._slowed < _CALM:
            return
        pace, rate = self._pace(now), self.rate(now)
        self._rate = max((pace if rate is None else min(pace, rate)) / 2.0, _SLOWEST)
        self._since = self._slowed = now
        self._next = max(self._next, now + 1.0 / self._rate)

    def _pace(self, now: float) -> float:
        """Messages a second that went out in the last minute."""
        recent = [at for at in self._sent if now - _SEEN < at <= now]
        return len(recent) / max(now - recent[0], 1.0) if recent else 1.0


class Throttle:
    """Token buckets of the relay and of each group of mailboxes; shared by all the connections of a worker.

    Args:
        relay: Messages a second over all; None for as many as the relay takes.
        groups: Messages a second for some of `GROUPS`.
        clock: Seconds, never running backwards.

    Raises:
        ValueError: A rate is out of range, or a group is not known.
    """

    def __init__(
        self,
        relay: float | None = None,
        *,
        groups: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = dict(groups or {})
        if unknown := [name for name in given if name not in GROUPS]:
            raise ValueError(f"{unknown[0]!r} is no group of mailboxes; they are {', '.join(GROUPS)}")
        for name, rate in (("the relay's rate", relay), *given.items()):
            if rate is not None and not 0.0 < rate < float("inf"):
                raise ValueError(f"{name} is {rate} messages a second, must be more than 0 and finite")
        self._clock = clock
        self._lock = threading.Lock()
        self._relay = _Bucket(relay)
        self._groups = {name: _Bucket(given.get(name)) for name in GROUPS}

    def reserve(self, email: str, *, patience: float = 0.25) -> float:
        """Take a place in the row for one message.

        Args:
            email: The recipient's address.
            patience: Longest time that the caller would wait for the group alone, seconds.

        Returns:
            Seconds to wait before the message may go. Negative where its group is too slow for the caller's patience:
            nothing was taken, and the message should come back after that many seconds (each caller is told another
            time, so that they do not come back all at once).
        """
        with self._lock:
            now = self._clock()
            wait = self._groups[mailbox_group(email)].take(now, patience)
            return wait if wait < 0.0 else max(wait, self._relay.take(now, float("inf")))

    def slow_down(self, email: str, *, whole: bool = False) -> None:
        """Halve a rate, as the servers asked for it.

        Args:
            email: Address of the recipient at whose message they did.
            whole: Whether the relay spoke for itself: all groups slow down, not this address's alone.
        """
        with self._lock:
            (self._relay if whole else self._groups[mailbox_group(email)]).slow_down(self._clock())

    def rates(self) -> dict[str, float]:
        """Messages a second at this moment, of ``relay`` and of those groups that are limited."""
        with self._lock:
            now = self._clock()
            found = {name: bucket.rate(now) for name, bucket in (("relay", self._relay), *self._groups.items())}
        return {name: rate for name, rate in found.items() if rate is not None}
