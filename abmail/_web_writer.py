"""The one thread that stores what the tracker saw: many hits in one transaction, and no reader waits for it.

What is lost when the process is killed: the hits that no transaction had committed yet. They are at most `UNCOMMITTED`
as long as the database takes them, which is within `WAIT_SECONDS` and the time of one commit; answers wait rather than
let there be more. Only while the database is away more may wait, up to `CAPACITY`. Shutting down stores them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from abmail._web_hits import Hit
from abmail._web_judge import Judge
from abmail.errors import StoreError
from abmail.events import EventType

__all__ = ["CALM", "CAPACITY", "GROUP", "UNCOMMITTED", "WAIT_SECONDS", "EventWriter"]

_log = logging.getLogger("abmail")

GROUP: Final = 500
"""Hits that are stored at once, without waiting for others."""
WAIT_SECONDS: Final = 0.05
"""How long the first hit of a group waits for others."""
UNCOMMITTED: Final = 2 * GROUP
"""Most hits that were answered and are not committed, a database that takes them provided: a group that is being
written, and the next one."""
CAPACITY: Final = 20_000
"""Most hits that wait to be stored while the database is away."""
CALM: Final = 500
"""Hits a second up to which there is time for what was put off; in a rush, answers go first."""
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between tries while the database is away
_LOOKS: Final = (0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.13)  # seconds; a quarter of one in all
_RUSH_SECONDS: Final = 0.2  # how long a rush is remembered


class EventWriter:
    """Stores hits in groups, from a thread of its own that starts with the first one.

    While the database is away, a group is tried again and again and hits wait. Where more wait than there is room for,
    opens are dropped before clicks, and counted.

    Args:
        record: Stores a group in one transaction; see `abmail._web_hits.recorder` and `journalist`.
        capacity: Most hits that wait.
        group: Most hits in one transaction.
        wait: Seconds that the first hit of a group waits for others.
        clock: Seconds, never running backwards.
        catch_up: Does at most so many of what was put off, while there is time; returns how many they were, 0 where
            none is left.
        on_dropped: Told the type of each hit for which there was no room.
        on_settled: Told after each group, with the number of hits in it that could not be stored.
    """

    def __init__(
        self,
        record: Callable[[Sequence[Hit]], None],
        *,
        capacity: int = CAPACITY,
        group: int = GROUP,
        wait: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        catch_up: Callable[[int], int] | None = None,
        on_dropped: Callable[[EventType], None] = lambda _: None,
        on_settled: Callable[[EventWriter, int], None] = lambda *_: None,
    ) -> None:
        self._record, self._capacity, self._group, self._wait = record, capacity, group, wait
        self._clock, self._turn = clock, threading.Lock()
        self._judge = catch_up and Judge(catch_up, turn=self._turn, is_calm=lambda: self.is_calm, clock=clock)
        self._on_dropped, self._on_settled = on_dropped, on_settled
        self._clicks: deque[Hit] = deque()
        self._opens: deque[Hit] = deque()
        self._in_hand = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._closing = self._failing = self._stalled = False
        self._hurrying = self._lost = 0
        self._settled_at, self._rush_at = clock(), float("-inf")
        self.dropped: Counter[EventType] = Counter()
        """Hits for which there was no room, by type."""
        self.failed = 0
        """Hits that could not be stored for another reason than a database that is away."""
        self.stored = 0
        """Hits that were committed, or needed no commit."""

    @property
    def waiting(self) -> int:
        """Hits that are not committed yet."""
        return len(self._clicks) + len(self._opens) + self._in_hand

    @property
    def is_well(self) -> bool:
        """Whether what is put in gets stored: the thread lives, and its last try was no failure."""
        thread = self._thread
        return not self._closing and not self._failing and (thread is None or thread.is_alive())

    @property
    def is_calm(self) -> bool:
        """Whether few hits come, so that there is time for other work."""
        return self._clock() > self._rush_at + _RUSH_SECONDS

    @property
    def is_full(self) -> bool:
        """Whether answers had better wait for a commit, as more would be lost with the process than was promised."""
        return self.waiting > 2 * self._group and not self._failing and not self._stalled

    async def room(self) -> None:
        """Wait for a commit, a quarter of a second at most; after one wait for nothing nobody waits until there is one.

        So no reader waits for a database that is away.
        """
        for pause in _LOOKS:
            if not self.is_full:
                return
            await anyio.sleep(pause)
        self._stalled = True

    def put(self, hit: Hit) -> bool:
        """Let a hit be stored soon; returns False where there was no room for it. Never waits."""
        with self._lock:
            if self._closing or not self._has_room(hit):
                self._drop(hit)
                return False
            (self._clicks if hit.signed[1] in _CLICKS else self._opens).append(hit)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="abmail-events", daemon=True)
                self._thread.start()
            if (n := len(self._clicks) + len(self._opens)) == 1 or n == self._group:
                self._changed.notify_all()
            return True

    def _has_room(self, hit: Hit) -> bool:
        """Whether a hit fits in; a click takes the place of the newest open."""
        if len(self._clicks) + len(self._opens) < self._capacity:
            return True
        if hit.type is not EventType.CLICKED or not self._opens:
            return False
        self._drop(self._opens.pop())
        return True

    def _drop(self, hit: Hit) -> None:
        self.dropped[hit.type] += 1
        self._on_dropped(hit.type)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was put in is settled, and what was put off is done.

        Returns:
            False where that took longer than ``timeout`` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._hurrying += 1
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self.waiting, timeout)
            self._hurrying -= 1
        if not done or self._judge is None:
            return done
        return self._judge.flush(None if until is None else max(until - time.monotonic(), 0.0))

    def open(self) -> None:
        """Take hits in again after `close`, and begin with what a writer before us may have put off."""
        with self._changed:
            if self._closing:
                self._closing, self._thread, self._lost = False, None, 0
        if self._judge is not None:
            self._judge.wake()

    def close(self, timeout: float | None = 10.0) -> None:
        """Store what waits, and end the thread; what cannot be stored within ``timeout`` seconds is lost and said.

        What was put off stays where it is.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._judge is not None:
            self._judge.close(timeout)
        if self._thread is not None:
            self._thread.join(timeout)
        if lost := self._lost + self.waiting:
            _log.error("%d events could not be stored before the end; they are lost", lost)

    def _run(self) -> None:
        while group := self._next_group():
            failed = self.failed
            self._settle(group)
            now = self._clock()
            if len(group) > CALM * (now - self._settled_at):
                self._rush_at = now
            self._settled_at = now
            with self._changed:
                self._in_hand, self._stalled = 0, False
                self._changed.notify_all()
            if self._judge is not None and not self._closing:
                self._judge.wake()
            self._on_settled(self, self.failed - failed)

    def _next_group(self) -> list[Hit]:
        """What came within the wait; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self.waiting or self._closing)
            self._changed.wait_for(self._is_due, self._wait)
            clicks = _first(self._clicks, self._group)
            opens = _first(self._opens, self._group - len(clicks))
            self._in_hand = len(clicks) + len(opens)
            return clicks + opens

    def _is_due(self) -> bool:
        return self._closing or bool(self._hurrying) or self.waiting >= self._group

    def _settle(self, group: list[Hit]) -> None:
        """Store a group; as often as it takes where the database is away, one by one where a hit is at fault."""
        tries = 0
        while True:
            try:
                with self._turn:
                    self._record(group)
            except (StoreError, OSError) as error:
                self._failing = True
                _log.error("%d events wait, as they could not be stored: %s", self.waiting, error)
                if self._is_over(_PAUSES[min(tries, len(_PAUSES) - 1)]):
                    self._lost += len(group)
                    return
                tries += 1
            except Exception:
                self._settle_each(group)
                return
            else:
                self._failing = False
                self.stored += len(group)
                return

    def _is_over(self, pause: float) -> bool:
        """Wait before the next try; True where the end comes meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closing, pause)

    def _settle_each(self, group: list[Hit]) -> None:
        if len(group) > 1:
            for hit in group:
                self._settle([hit])
            return
        self.failed += 1
        _log.exception("an event %s could not be stored", group[0].type.value)


_CLICKS: Final = frozenset(b"cC")


def _first(queue: deque[Hit], n: int) -> list[Hit]:
    """Take out the first ones."""
    if len(queue) <= n:
        taken = list(queue)
        queue.clear()
        return taken
    return [queue.popleft() for _ in range(n)]
