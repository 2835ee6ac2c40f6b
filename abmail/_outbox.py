"""The outbox worker: claims due messages, makes them, hands them to a transport, and notes what became of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from random import Random

from abmail.errors import (
    AbmailError,
    ConfigError,
    PermanentSendError,
    RenderError,
    TransientSendError,
    UncertainSendError,
)
from abmail.render import RenderedMessage
from abmail.send import RateLimiter, Transport, retry_delay
from abmail.store import Claimed, Store

__all__ = ["Outbox", "Sent"]


@dataclass(slots=True, kw_only=True)
class Sent:
    """What one pass over the outbox did, in messages."""

    sent: int = 0
    retried: int = 0
    failed: int = 0
    uncertain: int = 0
    skipped: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def total(self) -> int:
        """Messages that were looked at."""
        return self.sent + self.retried + self.failed + self.uncertain + self.skipped


class Outbox:
    """Sends what a worker has claimed, each message at most once.

    The intent is committed before the transport is called and the outcome after, so that a crash leaves at most one
    message of which nobody knows whether it arrived.

    Args:
        store: The ledger.
        transport: Where mails go.
        render: Makes the mail of a claimed message; may raise RenderError.
        worker: `worker_name` of this process.
        limiter: Slows sending down; None sends as fast as the transport takes it.
        rng: Draws the waiting time before a retry.
    """

    def __init__(
        self,
        store: Store,
        transport: Transport,
        *,
        render: Callable[[Claimed, datetime], RenderedMessage],
        worker: str,
        limiter: RateLimiter | None = None,
        rng: Random | None = None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._render = render
        self._worker = worker
        self._limiter = limiter
        self._rng = rng or Random()  # noqa: S311  (spreads retries, guards nothing)

    def deliver(self, claimed: Claimed, *, now: Callable[[], datetime]) -> Sent:
        """Send one claimed message.

        Args:
            claimed: A message that this worker holds.
            now: The clock.

        Raises:
            ConfigError: The relay refuses us as a whole; the message went back to the queue.
        """
        try:
            message = self._render(claimed, now())
        except RenderError as error:
            self._store.fail_claimed(claimed.id, worker=self._worker, error=_words(error))
            return Sent(failed=1)
        if self._limiter is not None:
            self._limiter.wait()
        if not self._store.mark_sending(claimed.id, worker=self._worker, now=now()):
            return Sent(skipped=1)
        return self._hand_over(claimed, message, now)

    def _hand_over(self, claimed: Claimed, message: RenderedMessage, now: Callable[[], datetime]) -> Sent:
        try:
            self._transport.send(message)
        except TransientSendError as error:
            return self._retry(claimed, error, now())
        except PermanentSendError as error:
            self._store.mark_failed(claimed.id, error=_words(error))
            if error.hard:
                self._store.suppress([claimed.recipient.email], reason="bounced", now=now())
            return Sent(failed=1)
        except UncertainSendError as error:
            self._store.mark_uncertain(claimed.id, error=_words(error))
            return Sent(uncertain=1)
        except ConfigError as error:
            self._store.mark_retry(claimed.id, due_at=now(), error=_words(error), attempted=False)
            raise
        self._store.mark_sent(claimed.id, now=now())
        return Sent(sent=1)

    def _retry(self, claimed: Claimed, error: TransientSendError, now: datetime) -> Sent:
        delay = retry_delay(claimed.attempts + 1, rng=self._rng)
        if delay is None:
            self._store.mark_failed(claimed.id, error=f"given up after {claimed.attempts + 1} tries: {_words(error)}")
            return Sent(failed=1)
        due = now + timedelta(seconds=max(delay, error.retry_after or 0.0))
        goes_on = self._store.mark_retry(claimed.id, due_at=due, error=_words(error))
        return Sent(retried=1) if goes_on else Sent(skipped=1)


def _words(error: AbmailError) -> str:
    return str(error)[:500]
