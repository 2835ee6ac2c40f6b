"""What machines did to the counts, and whether the result survives other views of who is one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from abmail._analysis import findings, is_tested
from abmail.report import BotSensitivity, VerdictView
from abmail.stats import balance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from abmail._analysis import Evidence
    from abmail._evidence import Verdicts

__all__ = ["machine_report"]

_VIEWS: Final[tuple[Verdicts, ...]] = ("all", "human-likely", "strict")
_ALARM: Final = 0.001


def machine_report(evidence: Evidence) -> BotSensitivity:
    """The counts of the primary metric, of opens and of clicks in each view, and the decision that each would give.

    The decisions are compared as the counts give them, whatever was noted before. Machines come to the mails of a
    variant as to those of any other: that is tested, where recipients are assigned one by one.
    """
    primary = {view: _counts(evidence, evidence.experiment.metrics.primary, view) for view in _VIEWS}
    views = tuple(_views(evidence))
    n = np.maximum(evidence.trials.sum(axis=0), 1)
    rates = [np.array(list(counts.values())) / n for counts in primary.values()]
    found = _machines(evidence)
    by_company = evidence.experiment.audience.unit == "company"
    tested = None if by_company else balance(evidence.trials, np.minimum(found, evidence.trials))
    p_value = None if tested is None else tested.p_value
    facts = evidence.facts
    return BotSensitivity(
        all=primary["all"],
        human_likely=primary["human-likely"],
        strict=primary["strict"] if not facts.unjudged else {},
        leader_changes=bool(rates[1].any() and np.argmax(rates[0]) != np.argmax(rates[1])),
        views=views,
        survives=all(view.survives for view in views) if views else None,
        machine_share=_by_name(evidence, found.sum(axis=0) / n),
        machine_p_value=p_value,
        machine_balanced=p_value is None or p_value >= _ALARM,
        machine_test="" if p_value is None else "Cochran-Mantel-Haenszel chi-square over the waves",
        reclassified=facts.reclassified,
        unjudged=facts.unjudged,
        sources=facts.sources,
        beside=sum(facts.beside.values()),
    )


def _views(evidence: Evidence) -> Iterator[VerdictView]:
    if not is_tested(evidence):
        return
    unsettled = replace(evidence, stored=replace(evidence.stored, verdict=None))
    base = _decision(unsettled)
    for view in _VIEWS if not evidence.facts.unjudged else _VIEWS[:2]:
        state, arm = base if view == "human-likely" else _decision(replace(unsettled, verdicts=view))
        yield VerdictView(
            view=view,
            opened=_counts(evidence, "opened", view),
            clicked=_counts(evidence, "clicked", view),
            state=state,
            arm=arm,
            survives=(state, arm) == base,
        )


def _decision(evidence: Evidence) -> tuple[str, str | None]:
    decision = findings(evidence).decision
    return decision.state, decision.arm


def _counts(evidence: Evidence, kind: str, view: Verdicts) -> Mapping[str, int]:
    metric = replace(evidence, verdicts=view).counted(kind)
    return _by_name(evidence, evidence.tally.matrix(metric, window=evidence.window).sum(axis=0))


def _machines(evidence: Evidence) -> NDArray[np.int64]:
    """(n_epochs, n_cells) mails that a machine opened or clicked, whichever the primary metric is, at any time."""
    return evidence.tally.matrix(f"{evidence.experiment.metrics.primary}_machine")


def _by_name(evidence: Evidence, values: NDArray[Any]) -> dict[str, Any]:
    return dict(zip([cell.name for cell in evidence.experiment.cells], values.tolist(), strict=True))
