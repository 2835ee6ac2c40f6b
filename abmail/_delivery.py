"""Delivery: from messages that have a cell to mails in a transport's hands."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abmail import _planning as planning
from abmail._opening import is_open
from abmail._outbox import Breaker, Outbox, Sent
from abmail.assign import assign, assign_array, assign_quota
from abmail.bounces import return_path
from abmail.dkim import Dkim
from abmail.errors import ConfigError
from abmail.events import NONCE, Signer, crowd_id
from abmail.recipient import Recipient
from abmail.render import Previewed, RenderedMessage, Renderer, read_files, read_template
from abmail.send import Throttle, Transport
from abmail.spec import Cell, Experiment
from abmail.store import Claimed, Epoch, Placed, Store, StoredExperiment, Tracking, worker_name

__all__ = ["Definitions", "Delivery", "cells_of"]

_RECONCILED: Final = timedelta(days=1)  # a sign of a mail that arrived has come by then


class Definitions:
    """The definitions of applied versions, which never change: each is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, int], Experiment] = {}

    def of(self, stored: StoredExperiment) -> Experiment:
        """The definition of a version, its cells numbered on from the version before."""
        key = (stored.name, stored.version)
        if key not in self._known:
            definition = Experiment.from_dict(stored.definition)
            if stored.version > 1:
                before = self.of(self._store.version(stored.name, stored.version - 1))
                definition = definition.going_on_from(before)
            self._known[key] = definition
        return self._known[key]


class Delivery:
    """Claims due messages, makes their mails and hands them to the transport.

    Args:
        store: The ledger.
        transport: Where mails go; without one nothing can be sent.
        signer: Signs the links.
        tracker_url: Public address of the tracker.
        project: Folder in which the mail templates are found.
        definitions: Of the applied versions.
        throttle: Slows sending down.
        connections: How many mails are handed over at the same time, each over a connection of its own.
        dkim: Signs the mails; None leaves that to the relay.
        bounce_mailbox: Address that takes bounces; None for the sender's own.

    Raises:
        ConfigError: No return path can be made of that address.

    Raises:
        ValueError: ``connections`` is below 1, or more than a database in memory can serve.
    """

    def __init__(
        self,
        store: Store,
        transport: Transport | None,
        *,
        signer: Signer,
        tracker_url: str,
        project: Path,
        definitions: Definitions,
        throttle: Throttle | None,
        connections: int,
        dkim: Dkim | None = None,
        bounce_mailbox: str | None = None,
    ) -> None:
        if connections < 1:
            raise ValueError(f"connections is {connections}, must be 1 or more")
        if connections > 1 and store.is_in_memory:
            raise ValueError("a database in memory serves one connection: use a file, or connections=1")
        self._store = store
        self._transports = [] if transport is None else [transport]
        self._connections = connections
        self._signer = signer
        self._tracker_url = tracker_url
        self._project = project
        self._definitions = definitions
        self._dkim = dkim
        self._return_path = _return_path(signer, bounce_mailbox)
        self._throttle = throttle or Throttle()
        self._worker = worker_name()
        self._clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._breaker = Breaker(lambda name, reason: store.pause(name, reason=reason, now=self._clock()))
        self._renderers: dict[tuple[str, int], tuple[Experiment, Renderer]] = {}

    def close(self) -> None:
        """Give back what this process holds, and close the transports."""
        if self._transports:  # who sends nothing holds nothing, and may have no right to write
            self._store.release(self._worker)
        for transport in self._transports:
            transport.close()

    def deliver(
        self,
        running: Sequence[StoredExperiment],
        clock: Callable[[], datetime],
        limit: int | None,
        on_progress: Callable[[Sent], None],
        stopping: Callable[[], bool],
    ) -> Sent:
        """Send what is due; see `Engine.tick`."""

        def claim(n: int) -> list[Claimed]:
            now = clock()
            zones = {stored.name: self.open_zones(stored, now) for stored in running}
            return self._store.claim(worker=self._worker, limit=n, now=now, open_zones=zones)

        if limit == 0 or not running:
            return Sent()
        self._clock = clock
        try:
            return self._outbox().run(claim, now=clock, limit=limit, on_progress=on_progress, stopping=stopping)
        finally:
            self._store.release(self._worker)

    def recover(self, running: Sequence[StoredExperiment], now: datetime) -> int:
        """Settle what dead workers left, and send again what the definitions want sent again.

        Returns:
            The number of messages that became uncertain.
        """
        lost = self._store.recover(now=now)
        for stored in running:
            policy = self._definitions.of(stored).message.uncertain
            if policy in {"resend", "reconcile"}:
                before = now if policy == "resend" else now - _RECONCILED
                self._store.resend(stored.name, before=before, now=now)
        return lost

    def open_zones(self, stored: StoredExperiment, now: datetime) -> tuple[str, ...]:
        """The time zones of an experiment's waiting messages in which mail may go out now."""
        settings = self._definitions.of(stored).send_time
        return tuple(zone for zone in self._store.zones(stored.name) if is_open(settings, zone, now))

    def template(self, path: str) -> str:
        """Source of a mail template of the project.

        Raises:
            RenderError: It cannot be read.
        """
        return read_template(self._project, path)

    def files(self, experiment: Experiment, template: str, text_template: str | None) -> dict[str, bytes]:
        """What the mails of a definition need beside their templates: path in the project -> content.

        Raises:
            RenderError: A file cannot be read.
        """
        message = experiment.message
        texts = [
            (source, f"factors.{f}.{n}") for f, levels in experiment.factors.items() for n, source in levels.items()
        ]
        texts += [(message.subject or "", "message.subject"), (message.preheader or "", "message.preheader")]
        sources = [(template, message.template), (text_template or "", message.text_template or "text"), *texts]
        return read_files(self._project, message, sources)

    def preview(
        self, experiment: Experiment, recipient: Recipient, now: datetime
    ) -> list[tuple[Cell, RenderedMessage, Previewed]]:
        """The mail of each cell of a definition for one recipient, and how a reader would meet it."""
        message = experiment.message
        template = self.template(message.template)
        texts = self.template(message.text_template) if message.text_template else None
        renderer = self.renderer_for(experiment, template, texts, self.files(experiment, template, texts))
        ident = self._signer.message_id(f"preview of {experiment.name}", recipient.id)
        return [
            (cell, *renderer.preview(cell=cell, recipient=recipient, message_id=ident, now=now))
            for cell in experiment.cells
        ]

    def hosted(self, message_id: str) -> str | None:
        """A sent mail as a page for a browser; None where there is no such mail.

        Raises:
            RenderError: It cannot be made any more, such as after a column of the list is gone.
        """
        claimed = self._store.assigned(message_id)
        if claimed is None:
            return None
        experiment, renderer = self._renderer(claimed.experiment, claimed.version)
        cell = experiment.cells[claimed.cell]
        return renderer.hosted(
            cell=cell, recipient=claimed.recipient, message_id=claimed.id, tracked=claimed.tracking == Tracking.PERSON
        )

    def _outbox(self) -> Outbox:
        if not self._transports:
            raise ConfigError(
                "there is no transport to send with", hint="give the engine a transport, such as SMTP(host)"
            )
        while len(self._transports) < self._connections:
            self._transports.append(self._transports[0].another())
        return Outbox(
            self._store, self._transports, render=self._render, worker=self._worker, throttle=self._throttle,
            breaker=self._breaker,
        )  # fmt: skip

    def _render(self, claimed: Claimed, now: datetime) -> RenderedMessage:
        experiment, renderer = self._renderer(claimed.experiment, claimed.version)
        cell = experiment.cells[claimed.cell]
        tracking = claimed.tracking
        if tracking != Tracking.NONE and not experiment.tracks(claimed.recipient.attributes):
            tracking = Tracking.NONE  # the reader changed their mind since the mail got its variant
            self._store.untrack(claimed.id)
        crowd = None
        if tracking == Tracking.CROWD:
            crowd = crowd_id(
                claimed.experiment, epoch=claimed.epoch, cell=claimed.cell, stratum=claimed.stratum, sent_at=now,
                nonce=secrets.token_bytes(NONCE),
            )  # fmt: skip
        return renderer.render(
            cell=cell, recipient=claimed.recipient, message_id=claimed.id, now=now, crowd=crowd,
            tracked=tracking != Tracking.NONE,
        )  # fmt: skip

    def _renderer(self, name: str, version: int) -> tuple[Experiment, Renderer]:
        if (name, version) not in self._renderers:
            stored = self._store.version(name, version)
            experiment = self._definitions.of(stored)
            files = self._store.files(name, version)
            renderer = self.renderer_for(experiment, stored.template, stored.text_template, files)
            self._renderers[name, version] = (experiment, renderer)
        return self._renderers[name, version]

    def renderer_for(
        self, experiment: Experiment, template: str, text_template: str | None, files: Mapping[str, bytes]
    ) -> Renderer:
        """What makes the mails of a definition.

        Raises:
            RenderError: A template cannot be compiled.
            ConfigError: The DKIM key is not for the sender's domain.
        """
        renderer = Renderer(
            experiment=experiment, template=template, text_template=text_template, files=files,
            tracker_url=self._tracker_url,
            signer=self._signer, clock=time.thread_time, sign=self._dkim.sign if self._dkim else None,
            return_path=self._return_path,
        )  # fmt: skip
        if self._dkim:
            self._dkim.require_for(renderer.sender_domain)
        return renderer


def cells_of(experiment: Experiment, epoch: Epoch, taken: Sequence[Recipient]) -> list[Placed]:
    """Each one's cell by the weights of their segment; the holdout left the queue when it was applied.

    Args:
        experiment: The definition.
        epoch: The epoch with its weights.
        taken: Some of those who are in it; exact shares need them all at once.
    """
    segments = planning.segments_of(experiment, taken)
    units = planning.units(experiment, taken)
    members: dict[str, list[int]] = {}
    for i, name in enumerate(segments):
        members.setdefault(name if name in epoch.segments else "", []).append(i)
    placed: dict[int, Placed] = {}
    for name, rows in members.items():
        weights = np.array(epoch.segments.get(name, epoch.weights))
        drawn = _dealt(experiment, [units[i] for i in rows], weights, epoch.number)
        placed |= {
            i: Placed(cell=cell, propensity=chance, stratum=segments[i], tracking=_tracking(experiment, taken[i]))
            for i, (cell, chance) in zip(rows, drawn, strict=True)
        }
    return [placed[i] for i in range(len(taken))]


def _tracking(experiment: Experiment, recipient: Recipient) -> Tracking:
    if not experiment.tracks(recipient.attributes):
        return Tracking.NONE
    return Tracking.CROWD if experiment.counts_crowds else Tracking.PERSON


def _dealt(
    experiment: Experiment, units: list[str], weights: NDArray[np.float64], epoch: int
) -> list[tuple[int, float]]:
    """Each unit's cell and the chance there was of it."""
    if experiment.allocation.assignment == "quota":
        return [(a.cell, a.propensity) for a in assign_quota(experiment, units, weights=weights, epoch=epoch)]
    cells = assign_array(experiment, units, weights=weights).tolist()
    one_of = dict(zip(cells, units, strict=True))  # the chance is the same for all who are in a cell
    chances = {cell: assign(experiment, unit, weights=weights).propensity for cell, unit in one_of.items()}
    return [(cell, chances[cell]) for cell in cells]


def _return_path(signer: Signer, mailbox: str | None) -> Callable[[str], str] | None:
    if not mailbox:
        return None
    try:
        return_path(signer, "0" * 32, mailbox)
    except ValueError as error:
        raise ConfigError(str(error), hint="set bounce_mailbox to an address such as bounces@example.com") from error
    return lambda message_id: return_path(signer, message_id, mailbox)
