"""The comparison within segments of the audience, as the report shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from abmail._analysis import curve_of, findings, plan_of_parts, policy_counts, rows_of
from abmail.report import SegmentArmReport, SegmentReport, SegmentSummary
from abmail.stats import SegmentComparison, SegmentEffect, compare_segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from abmail._analysis import Evidence
    from abmail.stats import Counts
    from abmail.store import Epoch

__all__ = ["MOST_SHOWN", "breakdown", "counts_by_segment"]

MOST_SHOWN: Final = 20
"""Segments on a page; the smaller ones are compared and not shown."""

_NOT_TRUSTED: Final = (
    "Nothing is said about segments: the shares of the mails are off (sample ratio).",
    "配信数の比率がずれているため、セグメントについては判断できません。",
)


def counts_by_segment(evidence: Evidence) -> dict[str, Counts]:
    """The counts of each segment, all with the same epochs and weights.

    Delays are those of the whole experiment: how long people take is learned from all of them together.
    """
    curve = curve_of(evidence)
    return {
        value: policy_counts(
            replace(evidence, tally=tally, segments={}, strata={}, epochs=_shared(evidence, value)), curve
        )
        for value, tally in evidence.segments.items()
    }


def _shared(evidence: Evidence, segment: str) -> tuple[Epoch, ...]:
    """The epochs with the weights that a segment had in them."""
    return tuple(replace(e, weights=e.segments.get(segment, e.weights), segments={}) for e in evidence.epochs)


def breakdown(evidence: Evidence, by: str) -> tuple[tuple[SegmentReport, ...], SegmentSummary]:
    """Compare the arms within the segments that were sent anything, and the segments with each other."""
    experiment, found = evidence.experiment, findings(evidence)
    chosen, how = plan_of_parts(evidence, young=found.young)
    counts = {value: own for value, own in counts_by_segment(evidence).items() if own.n.sum()}
    names = [cell.name for cell in experiment.cells]
    result = compare_segments(
        {value: rows_of(own, chosen) for value, own in counts.items()}
        or {"": rows_of(policy_counts(evidence, curve_of(evidence)), chosen)},
        control=experiment.control_cell.index, alpha=experiment.analysis.alpha, names=names,
        design_effect=found.comparison.design_effect or 1.0, **how,
    )  # fmt: skip
    sound = found.comparison.srm.ok
    if not sound:
        result = replace(result, winners=(), differs=False)
    shown = sorted(counts, key=lambda value: (-int(counts[value].n.sum()), value))[:MOST_SHOWN]
    effects = {(one.segment, one.arm): one for one in result.effects}
    winners = {one.segment: one.arm for one in result.winners}
    segments = tuple(
        SegmentReport(
            segment=value,
            arms=tuple(_arms(counts[value], [effects.get((value, name)) for name in names], names)),
            winner=winners.get(value),
        )
        for value in shown
    )
    return segments, SegmentSummary(
        by=by,
        differs=result.differs,
        p_value=result.p_value,
        method=result.method,
        alpha=result.alpha,
        n_segments=len(counts),
        left_out=len(counts) - len(shown),
        sentence=_named(result, f"no {by}").sentence if sound else _NOT_TRUSTED[0],
        sentence_ja=_named(result, f"{by}なし").sentence_in("ja") if sound else _NOT_TRUSTED[1],
    )


def _named(result: SegmentComparison, nameless: str) -> SegmentComparison:
    """The result with a name for the segment of those who lack the attribute."""
    return replace(result, winners=tuple(replace(one, segment=one.segment or nameless) for one in result.winners))


def _arms(counts: Counts, effects: Sequence[SegmentEffect | None], names: Sequence[str]) -> list[SegmentArmReport]:
    n: NDArray[np.int64] = counts.n.sum(axis=0)
    successes: NDArray[np.int64] = counts.successes.sum(axis=0)
    return [
        SegmentArmReport(
            name=name, n=int(n[i]), successes=int(successes[i]),
            rate=float(successes[i] / n[i]) if n[i] else None, **_contrast(effects[i]),
        )
        for i, name in enumerate(names)
    ]  # fmt: skip


def _contrast(effect: SegmentEffect | None) -> dict[str, Any]:
    """What the comparison with the control adds to an arm's counts; nothing for the control itself."""
    if effect is None:
        return {}
    same = ("effect", "ci_lower", "ci_upper", "shrunk_effect", "shrunk_lower", "shrunk_upper", "status")
    return {**{name: getattr(effect, name) for name in same}, "p_value": effect.p_adjusted}
