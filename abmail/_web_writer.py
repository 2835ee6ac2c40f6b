"""The one thread that stores what the tracker saw: many hits in one transaction, and no reader waits for it.

What is lost when the process is killed: the hits that no transaction had committed yet, which are those of the last
`WAIT_SECONDS` and of the work that is under way. Shutting down stores them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from abmail._web_hits import Hit
from abmail.errors import StoreError
from abmail.events import EventType

__all__ = ["CALM", "CAPACITY", "GROUP", "WAIT_SECONDS", "EventWriter"]

_log = logging.getLogger("abmail")

GROUP: Final = 500
"""Most hits in one transaction."""
WAIT_SECONDS: Final = 0.05
"""How long the first hit of a group waits for others."""
CAPACITY: Final = 20_000
"""Most hits that wait to be stored."""
CALM: Final = 500
"""Hits a second up to which there is time for what was put off; in a rush, every moment goes to storing."""
_LOOK_AGAIN: Final = 0.2  # seconds until a rush may be over
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between tries while the database is away


class EventWriter:
    """Stores hits in groups, from a thread of its own that starts with the first one.

    While the database is away, a group is tried again and again and hits wait. Where more wait than there is room for,
    opens are dropped before clicks, and counted.

    Args:
        record: Judges and stores a group in one transaction; see `abmail._web_hits.recorder`.
        capacity: Most hits that wait.
        group: Most hits in one transaction.
        wait: Seconds that the first hit of a group waits for others.
        clock: Seconds, never running backwards.
        catch_up: Does a part of the work that was put off, while there is no rush; returns whether any was there.
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
        catch_up: Callable[[], bool] = lambda: False,
        on_dropped: Callable[[EventType], None] = lambda _: None,
        on_settled: Callable[[EventWriter, int], None] = lambda *_: None,
    ) -> None:
        self._record, self._capacity, self._group, self._wait = record, capacity, group, wait
        self._clock, self._catch_up, self._behind = clock, catch_up, False
        self._on_dropped, self._on_settled = on_dropped, on_settled
        self._clicks: deque[Hit] = deque()
        self._opens: deque[Hit] = deque()
        self._in_hand = 0
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closing = self._failing = False
        self._hurrying = self._lost = 0
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

    def put(self, hit: Hit) -> bool:
        """Let a hit be stored soon; returns False where there was no room for it. Never waits."""
        with self._changed:
            if self._closing or not self._has_room(hit):
                self._drop(hit)
                return False
            (self._clicks if hit.type is EventType.CLICKED else self._opens).append(hit)
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
        """Wait until all that was put in is settled; returns False where that took longer than ``timeout`` seconds."""
        with self._changed:
            self._hurrying += 1
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self.waiting and not self._behind, timeout)
            self._hurrying -= 1
            return done

    def open(self) -> None:
        """Take hits in again after `close`."""
        with self._changed:
            if self._closing:
                self._closing, self._thread, self._lost = False, None, 0

    def close(self, timeout: float | None = 10.0) -> None:
        """Store what waits, and end the thread; what cannot be stored within ``timeout`` seconds is lost and said."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        if lost := self._lost + self.waiting:
            _log.error("%d events could not be stored before the end; they are lost", lost)

    def _run(self) -> None:
        self._behind = True  # a writer before us may have left something
        before, calm = self._clock(), True
        while True:
            group = self._next_group(at_once=calm and self._behind)
            now = self._clock()
            calm = len(group) <= CALM * (now - before) or bool(self._hurrying)
            before = now
            if group:
                self._settle_group(group)
            if self._closing and not self.waiting:
                return
            if calm and self._behind:
                self._do_a_part()

    def _settle_group(self, group: list[Hit]) -> None:
        failed = self.failed
        self._settle(group)
        with self._changed:
            self._in_hand, self._behind = 0, True
            self._changed.notify_all()
        self._on_settled(self, self.failed - failed)

    def _do_a_part(self) -> None:
        """Catch up a little; what goes wrong there is tried again, as it stays where it is."""
        pause = 0.0
        try:
            behind = self._catch_up()
        except Exception as error:
            _log.error("events wait to be judged, as that failed: %s", error)
            behind, pause = True, _PAUSES[-1]
        with self._changed:
            self._behind = behind
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or bool(self._hurrying) or bool(self.waiting), pause)

    def _next_group(self, *, at_once: bool) -> list[Hit]:
        """Take what waits: at once where there is other work to do, else what comes within the wait."""
        with self._changed:
            if not at_once:
                patience = _LOOK_AGAIN if self._behind else None
                self._changed.wait_for(lambda: self.waiting or self._closing or self._hurrying, patience)
                self._changed.wait_for(self._is_due, self._wait if self.waiting else 0.0)
            clicks = [self._clicks.popleft() for _ in range(min(len(self._clicks), self._group))]
            opens = [self._opens.popleft() for _ in range(min(len(self._opens), self._group - len(clicks)))]
            self._in_hand = len(clicks) + len(opens)
            return clicks + opens

    def _is_due(self) -> bool:
        return self._closing or bool(self._hurrying) or self.waiting >= self._group

    def _settle(self, group: list[Hit]) -> None:
        """Store a group; as often as it takes where the database is away, one by one where a hit is at fault."""
        tries = 0
        while True:
            try:
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
