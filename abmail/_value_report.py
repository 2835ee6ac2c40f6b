"""What the variants bring in per mail, and how soon they are answered, as the report shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from abmail._analysis import findings, is_tested, method_report, plan_of_parts
from abmail.report import CurvePoint, CurveReport, ValueArmReport, ValueReport
from abmail.stats import Moments, compare_means, time_to_event
from abmail.store import BIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from abmail._analysis import Evidence
    from abmail.stats import EventCurve, MeansComparison

__all__ = ["curves_of", "value_report"]

_POINTS: Final = 60
_CURVES: Final[tuple[Literal["opened", "clicked"], ...]] = ("opened", "clicked")


def value_report(evidence: Evidence) -> ValueReport | None:
    """Compare what the variants bring in, over the epochs and by the plan of the main comparison.

    Returns:
        None where the definition asks for no value, or no mail was sent in an epoch that compares variants.
    """
    metric = evidence.experiment.metrics.value
    if metric is None or not is_tested(evidence):
        return None
    chosen, how = plan_of_parts(evidence, young=findings(evidence).young)
    if not len(chosen):
        return None
    _, cell, value = _chosen_values(evidence, chosen)
    moments = (_by_company if evidence.companies else _by_mail)(evidence, chosen, metric.winsorize)
    experiment = evidence.experiment
    compared = compare_means(
        moments, control=experiment.control_cell.index, alpha=experiment.analysis.alpha,
        names=[one.name for one in experiment.cells], horizon=sum(evidence.waves) or None, **how,
    )  # fmt: skip
    return ValueReport(
        event=metric.event,
        unit=metric.unit,
        limit=metric.winsorize,
        capped=0 if metric.winsorize is None else int((value > metric.winsorize).sum()),
        arms=tuple(_arms(compared, evidence.sent[chosen].sum(axis=0), cell, value)),
        method=method_report(compared.method),
        sentence=compared.sentence_in("en", unit=metric.unit),
        sentence_ja=compared.sentence_in("ja", unit=metric.unit),
    )  # fmt: skip


def _chosen_values(
    evidence: Evidence, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Row among the chosen epochs, cell and value of each mail that brought something in."""
    row = {int(number): place for place, number in enumerate(chosen)}
    kept = [(row[mail.epoch], mail.cell, mail.value) for mail in evidence.values if mail.epoch in row]
    table = np.array(kept, dtype=np.float64).reshape(-1, 3)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2]


def _by_mail(evidence: Evidence, chosen: NDArray[np.int64], limit: float | None) -> Moments:
    """Mails as units; most of them brought in nothing."""
    epoch, cell, value = _chosen_values(evidence, chosen)
    n = np.maximum(evidence.sent[chosen], _numbers(epoch, cell, (len(chosen), evidence.sent.shape[1])))
    return Moments.from_sparse(n, value, arm=cell, epoch=epoch, limit=limit, weights=evidence.weights[chosen])


def _by_company(evidence: Evidence, chosen: NDArray[np.int64], limit: float | None) -> Moments:
    """Companies as units: what all of one brought in, over its mails."""
    row = {int(number): place for place, number in enumerate(chosen)}
    units: dict[tuple[int, int, str], list[float]] = {}
    for mails in evidence.companies:
        if mails.epoch in row:
            units.setdefault((mails.epoch, mails.cell, mails.company), [0.0, 0.0])[1] += mails.n
    for mail in evidence.values:
        if (unit := units.get((mail.epoch, mail.cell, mail.company))) is not None:
            unit[0] += mail.value if limit is None else min(mail.value, limit)
    value, n = np.array(list(units.values())).reshape(-1, 2).T
    return Moments.from_values(
        value, arm=[cell for _, cell, _ in units], epoch=[row[epoch] for epoch, _, _ in units], denominator=n,
        n_epochs=len(chosen), n_arms=evidence.sent.shape[1], weights=evidence.weights[chosen],
    )  # fmt: skip


def _numbers(epoch: NDArray[np.int64], cell: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    return np.bincount(epoch * shape[1] + cell, minlength=shape[0] * shape[1]).reshape(shape)


def _arms(
    compared: MeansComparison, sent: NDArray[np.int64], cell: NDArray[np.int64], value: NDArray[np.float64]
) -> Iterator[ValueArmReport]:
    same = ("name", "mean", "effect", "lift", "ci_lower", "ci_upper", "p_value", "status")
    for arm in compared.arms:
        own: dict[str, Any] = {name: getattr(arm, name) for name in same}
        of_arm = value[cell == arm.index]
        yield ValueArmReport(**own, n=int(sent[arm.index]), valued=len(of_arm), total=float(of_arm.sum()))


def curves_of(evidence: Evidence) -> tuple[CurveReport, ...]:
    """The share of each variant's mails that was opened, and clicked, by each age; mails of any age take part."""
    return tuple(
        curve
        for metric in _CURVES
        for name, index in ((cell.name, cell.index) for cell in evidence.experiment.cells)
        if (curve := _curve(evidence, metric, name, index)) is not None
    )


def _curve(evidence: Evidence, metric: Literal["opened", "clicked"], name: str, cell: int) -> CurveReport | None:
    """Kaplan-Meier over the bins of the counts; None where the variant has no such event."""
    epoch, own, age, n = (column[evidence.ages[1] == cell] for column in evidence.ages)
    del own
    seen_in, seen_by, where, seen = evidence.tally.rows(metric)
    kept = (seen_by == cell) & (where * BIN_SECONDS < evidence.window)
    if not seen[kept].sum() or not n.sum():
        return None
    n_epochs = len(evidence.epochs)
    sent = np.bincount(epoch, n, n_epochs)
    mean_age = np.minimum(np.bincount(epoch, age * n, n_epochs) / np.maximum(sent, 1), evidence.window)
    delay = np.minimum((where[kept] + 1.0) * BIN_SECONDS, evidence.window)  # by the end of the bin it had come
    silent = np.maximum(sent - np.bincount(seen_in[kept], seen[kept], n_epochs), 0)
    found = time_to_event(
        np.concatenate([delay, np.full(n_epochs, np.nan)]),
        np.concatenate([np.maximum(mean_age[seen_in[kept]], delay), mean_age]),
        counts=np.concatenate([seen[kept], silent]),
        alpha=evidence.experiment.analysis.alpha,
    )
    return CurveReport(
        metric=metric, arm=name, n=found.n, events=found.events, median=found.median, points=tuple(_points(found))
    )  # fmt: skip


def _points(curve: EventCurve) -> Iterator[CurvePoint]:
    """The curve where it steps, at most so many places, evenly over its steps; and as far as mails were followed."""
    last = len(curve.times) - 1
    places = np.unique(np.linspace(0, last, min(_POINTS, last + 1)).round().astype(int)).tolist()
    where = [(float(curve.times[i]), i) for i in places]
    if curve.followed > curve.times[last]:
        where.append((curve.followed, last))
    for seconds, i in where:
        yield CurvePoint(
            seconds=seconds, share=float(curve.share[i]), lower=float(curve.lower[i]), upper=float(curve.upper[i])
        )
