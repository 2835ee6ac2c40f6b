"""The thread that judges what the tracker kept for later, a little at a time and while there is time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

__all__ = ["PATIENCE_SECONDS", "Judge"]

_log = logging.getLogger("abmail")

PATIENCE_SECONDS: Final = 30.0
"""How long judging waits for the end of a rush; from then on it takes a third of the time."""
_PART_SECONDS: Final = 0.05  # what a part should take: readers' hits wait that long to be stored
_SMALLEST_PART: Final = 100  # a smaller one takes hardly less time
_LARGEST_PART: Final = 1_000
_LEAST_PAUSE: Final = 0.001  # seconds; who waits for the lock needs it to be free for a moment
_LOOK_AGAIN: Final = 0.2  # seconds until a rush may be over
_AFTER_FAILURE: Final = 5.0  # seconds


class Judge:
    """Does work that was put off, from a thread of its own that starts with the first `wake`.

    Args:
        work: Does at most so many of what waits, the oldest first; returns how many they were, 0 where none is left.
        turn: Held during a part, so that what cannot wait comes in between.
        is_calm: Whether there is time.
        clock: Seconds, never running backwards.
    """

    def __init__(
        self,
        work: Callable[[int], int],
        *,
        turn: AbstractContextManager[object],
        is_calm: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._turn, self._is_calm, self._clock = work, turn, is_calm, clock
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._behind = self._closing = False
        self._hurrying = self._woken = 0
        self._behind_since = 0.0
        self._part = _SMALLEST_PART

    def wake(self) -> None:
        """There is something to do; also after `close`."""
        with self._changed:
            if not self._behind:
                self._behind, self._behind_since = True, self._clock()
            self._woken += 1
            if self._thread is None or self._closing:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="abmail-judge", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left; returns False where that took longer than ``timeout`` seconds."""
        with self._changed:
            self._hurrying += 1
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._behind, timeout)
            self._hurrying -= 1
            return done

    def close(self, timeout: float | None = 10.0) -> None:
        """End after the part that is under way; the rest stays where it is."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while self._comes():
            calm = self._is_calm() or bool(self._hurrying)
            begun = self._clock()
            pause = self._do_a_part()
            # As long again belongs to the others, and twice as long in a rush.
            self._pause(pause or (self._clock() - begun) * (1.0 if calm else 2.0))

    def _comes(self) -> bool:
        """Wait until there is work and time for it; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._behind or self._closing)
            while not (self._closing or self._hurrying or self._is_calm()):
                if self._clock() >= self._behind_since + PATIENCE_SECONDS:  # for so long there was never none left
                    break
                self._changed.wait(_LOOK_AGAIN)
            return not self._closing

    def _do_a_part(self) -> float:
        """Do some; what goes wrong is tried again, as it stays where it is. Returns the seconds to pause for then."""
        woken = self._woken
        try:
            with self._turn:
                begun = self._clock()
                done = self._work(self._part)
        except Exception as error:
            _log.error("events wait to be judged, as that failed: %s", error)
            return _AFTER_FAILURE
        if done == self._part:
            share = _PART_SECONDS / max(self._clock() - begun, 1e-6)
            self._part = max(_SMALLEST_PART, min(_LARGEST_PART, int(self._part * min(max(share, 0.5), 2.0))))
        elif not done:
            with self._changed:
                self._behind = self._woken != woken  # what came meanwhile wakes us again
                self._behind_since = self._clock()
                self._changed.notify_all()
        return 0.0

    def _pause(self, seconds: float) -> None:
        time.sleep(_LEAST_PAUSE)
        with self._changed:
            self._changed.wait_for(lambda: self._closing or bool(self._hurrying), seconds)
