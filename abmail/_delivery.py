"""Delivery: from messages that have a cell to mails in a transport's hands."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from abmail import _planning as planning
from abmail._outbox import Outbox, Sent
from abmail.assign import assign
from abmail.dkim import Dkim
from abmail.errors import ConfigError
from abmail.events import Signer
from abmail.recipient import Recipient
from abmail.render import RenderedMessage, Renderer, read_files, read_template
from abmail.send import RateLimiter, Transport
from abmail.spec import Experiment
from abmail.store import Claimed, Epoch, Store, StoredExperiment, worker_name

__all__ = ["Definitions", "Delivery", "cells_of"]

_BATCH: Final = 100


class Definitions:
    """The definitions of applied versions, which never change: each is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Experiment] = {}

    def of(self, stored: StoredExperiment) -> Experiment:
        """The definition of a version."""
        key = (stored.name, stored.version)
        if key not in self._known:
            self._known[key] = Experiment.from_dict(stored.definition)
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
        limiter: Slows sending down.
        dkim: Signs the mails; None leaves that to the relay.
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
        limiter: RateLimiter | None,
        dkim: Dkim | None = None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._signer = signer
        self._tracker_url = tracker_url
        self._project = project
        self._definitions = definitions
        self._limiter = limiter
        self._dkim = dkim
        self._worker = worker_name()
        self._renderers: dict[tuple[str, int], tuple[Experiment, Renderer]] = {}

    def close(self) -> None:
        """Give back what this process holds, and close the transport."""
        self._store.release(self._worker)
        if self._transport is not None:
            self._transport.close()

    def deliver(
        self,
        running: Sequence[StoredExperiment],
        clock: Callable[[], datetime],
        limit: int | None,
        on_progress: Callable[[Sent], None],
        stopping: Callable[[], bool],
    ) -> Sent:
        """Send what is due; see `Engine.tick`."""
        total = Sent()
        while (limit is None or total.total < limit) and not stopping():
            now = clock()
            zones = {s.name: self.open_zones(s, now) for s in running}
            size = _BATCH if limit is None else min(_BATCH, limit - total.total)
            claimed = self._store.claim(worker=self._worker, limit=size, now=now, open_zones=zones)
            if not claimed:
                break
            outbox = self._outbox()
            try:
                for message in itertools.takewhile(lambda _: not stopping(), claimed):
                    total += outbox.deliver(message, now=clock)
                    on_progress(total)
            finally:
                self._store.release(self._worker)
        return total

    def open_zones(self, stored: StoredExperiment, now: datetime) -> tuple[str, ...]:
        """The time zones of an experiment's waiting messages in which mail may go out now."""
        settings = self._definitions.of(stored).send_time
        return tuple(zone for zone in self._store.zones(stored.name) if planning.is_open(settings, zone, now))

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
        return renderer.hosted(cell=cell, recipient=claimed.recipient, message_id=claimed.id)

    def _outbox(self) -> Outbox:
        if self._transport is None:
            raise ConfigError(
                "there is no transport to send with", hint="give the engine a transport, such as SMTP(host)"
            )
        return Outbox(self._store, self._transport, render=self._render, worker=self._worker, limiter=self._limiter)

    def _render(self, claimed: Claimed, now: datetime) -> RenderedMessage:
        experiment, renderer = self._renderer(claimed.experiment, claimed.version)
        cell = experiment.cells[claimed.cell]
        return renderer.render(cell=cell, recipient=claimed.recipient, message_id=claimed.id, now=now)

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
        )  # fmt: skip
        if self._dkim:
            self._dkim.require_for(renderer.sender_domain)
        return renderer


def cells_of(experiment: Experiment, epoch: Epoch, taken: Sequence[Recipient]) -> list[tuple[int, float]]:
    """Each one's cell, and its share among those who are mailed; the holdout left the queue when it was applied."""
    weights = np.array(epoch.weights)
    drawn = [assign(experiment, u, weights=weights, epoch=epoch.number) for u in planning.units(experiment, taken)]
    return [(a.cell, a.propensity) for a in drawn]
