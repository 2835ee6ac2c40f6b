"""Opens and clicks that are counted without a person; only `abmail.store` imports this module."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from abmail import _tables as t
from abmail._crowd import crowd_of, short_name
from abmail._outcomes import add_to_counts
from abmail._records import CrowdHit, bin_of, metrics_of
from abmail.events import given_reasons

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from abmail._statements import Upserts

__all__ = ["count_crowd"]

_STRATA = sa.select(t.counts.c.experiment, t.counts.c.stratum).where(t.counts.c.metric == "sent").distinct()


def count_crowd(db: sa.Connection, hits: Iterable[CrowdHit], upserts: Upserts) -> int:
    """Count each mail's first open and click of each kind; returns how many hits changed something.

    Args:
        db: The transaction.
        hits: What came in.
        upserts: The statements whose form depends on the database.
    """
    places = {(short_name(row.experiment), short_name(row.stratum)[0]): row for row in db.execute(_STRATA)}
    wanted: dict[tuple[str, str], CrowdHit] = {}
    for hit in hits:
        reasons = given_reasons(hit.verdict, hit.reasons)
        for metric in metrics_of(hit.type, hit.verdict, reasons, judged=True):
            wanted.setdefault((hit.id, metric), hit)
    rows = [{"id": ident, "metric": metric} for ident, metric in sorted(wanted)]
    new = [(row.id, row.metric) for row in db.execute(upserts.crowd, rows)] if rows else []
    add_to_counts(db, upserts, _numbers({key: wanted[key] for key in new}, places))
    return len({ident for ident, _ in new})


def _numbers(
    hits: Mapping[tuple[str, str], CrowdHit], places: Mapping[tuple[bytes, int], Any]
) -> Counter[tuple[str, int, int, str, str, int]]:
    total: Counter[tuple[str, int, int, str, str, int]] = Counter()
    for (ident, metric), hit in hits.items():
        crowd = crowd_of(ident)
        place = places.get((crowd.experiment, crowd.stratum))
        if place is not None:  # nothing was sent of an experiment that is not in this database
            where = bin_of(crowd.sent_at, hit.at)
            total[place.experiment, crowd.epoch, crowd.cell, place.stratum, metric, where] += 1
    return total
