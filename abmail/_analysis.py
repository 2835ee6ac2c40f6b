"""From the store's counts to findings and the report: the engine's reading side, without a clock or a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from abmail._by_company import clusters_of, clusters_within, thinning
from abmail._evidence import Evidence, curve_of, policy_counts
from abmail._guardrail import breaks_limit
from abmail._known import factorial_of
from abmail._reasons import GUARDED, in_japanese, reason
from abmail.bandit import Thompson, faded
from abmail.render import readable_text
from abmail.report import (
    ArmReport,
    DecisionReport,
    EpochReport,
    FactorReport,
    GuardrailReport,
    LevelReport,
    MethodReport,
    Report,
    SrmReport,
)
from abmail.stats import (
    Comparison,
    Counts,
    Decision,
    Futility,
    Method,
    MethodInfo,
    check_guardrails,
    compare,
    futility,
)  # fmt: skip
from abmail.store import State

__all__ = [
    "Evidence",
    "Findings",
    "broken_guardrails",
    "curve_of",
    "decision_report",
    "findings",
    "futility_of",
    "guardrails",
    "is_tested",
    "mature_comparison",
    "method_report",
    "plan_of_parts",
    "policy_counts",
    "report_on",
    "rows_of",
]

_WAITING: Final = (State.QUEUED, State.ASSIGNED, State.SENDING)
_SETTLED: Final = frozenset({"winner", "no_difference"})
_TYPICAL_RATE: Final = {"opened": 0.2, "clicked": 0.03}
_NOTHING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the statistics say.

    Attributes:
        comparison: What the page shows, with the decision in force.
        decision: The decision in force.
        final: Whether every send's window has closed and no more are to come.
        young: Whether sends whose window is still open take part in what is shown.
        futility: Whether going on is worth it, by the sends whose window has closed; None before any has.
    """

    comparison: Comparison
    decision: Decision
    final: bool
    young: bool
    futility: Futility | None


def findings(evidence: Evidence, *, method: Method = "auto", alpha: float | None = None) -> Findings:
    """Compare the arms.

    The planned boundary counts looks at epochs whose windows have closed. While mails are young a page may be read any
    number of times for each epoch, so everything is then shown by a method that any number of looks leaves valid; the
    planned one takes over as soon as it has decided, or every window has closed.

    Args:
        evidence: What is known.
        method: Another method than the one that fits the plan, for a second opinion.
        alpha: Another level than the definition's.
    """
    counts = policy_counts(evidence, curve_of(evidence))
    n_epochs = len(evidence.epochs)
    mature = mature_comparison(evidence, counts, method=method, alpha=alpha)
    settled = mature is not None and mature.decision.state in _SETTLED
    if evidence.experiment.allocation.standing and method == "auto":
        shown, young = _compare_standing(evidence, counts, alpha), evidence.n_mature < n_epochs
    elif mature is not None and (settled or evidence.n_mature == n_epochs):
        shown, young = mature, False
    elif method == "auto":
        shown, young = _compare_young(evidence, counts, alpha), True
    else:
        shown, young = _compare(evidence, counts, n_epochs, method, alpha), True
    decision = _decision(evidence, shown, young=young)
    waiting = any(evidence.states.get(s) for s in _WAITING)
    ends = not evidence.experiment.allocation.standing or evidence.stored.state != "running"
    final = ends and evidence.n_mature == n_epochs > 0 and not waiting
    return Findings(
        comparison=replace(shown, decision=decision),
        decision=decision,
        final=final,
        young=young,
        futility=None if mature is None or final else futility_of(evidence, mature),
    )


def mature_comparison(
    evidence: Evidence, counts: Counts | None = None, *, method: Method = "auto", alpha: float | None = None
) -> Comparison | None:
    """The arms over the epochs whose windows have closed; None before any has.

    Args:
        evidence: What is known.
        counts: Its counts, where they are at hand.
        method: As `findings`.
        alpha: As `findings`.
    """
    if not evidence.n_mature:
        return None
    counts = policy_counts(evidence, curve_of(evidence)) if counts is None else counts
    return _compare(evidence, counts, evidence.n_mature, method, alpha)


def futility_of(evidence: Evidence, mature: Comparison) -> Futility | None:
    """Whether going on is worth it: value remaining, and the chance of a proof under the plan; None once decided."""
    analysis = evidence.experiment.analysis
    if mature.decision.state in _SETTLED or mature.status != "ok" or not evidence.states.get(State.QUEUED):
        return None
    sizes = np.array([e.size for e in evidence.epochs], dtype=np.float64)[_informative(evidence)]
    to_come = evidence.states.get(State.QUEUED, 0)
    return futility(
        mature.counts, mde=analysis.mde, alpha=analysis.alpha, weights=[*sizes, to_come],
        names=[cell.name for cell in evidence.experiment.cells], design_effect=mature.design_effect or 1.0,
    )  # fmt: skip


def _compare(evidence: Evidence, counts: Counts, n_epochs: int, method: Method, alpha: float | None) -> Comparison:
    """The arms over the first epochs, by the plan."""
    chosen = np.flatnonzero(_informative(evidence)[:n_epochs])
    shares = _shares_of_plan(evidence)[chosen]
    plan = np.array(evidence.plan, dtype=np.float64) / max(sum(evidence.plan), 1)
    planned = method in {"auto", "sequential"} and len(plan) and len(chosen) and not len(plan) == len(shares) == 1
    return _run(
        evidence, counts, chosen, alpha=alpha, method=method,
        weights=shares if planned else None, plan=plan if planned else None,
    )  # fmt: skip


def _compare_young(evidence: Evidence, counts: Counts, alpha: float | None) -> Comparison:
    """All arms' mails, young ones too, by the method that any number of looks leaves valid."""
    compared = _run(evidence, counts, np.flatnonzero(_informative(evidence)), alpha=alpha, method="anytime")
    why = "mails are still young: this holds however often it is read; the planned test takes over as windows close"
    why_ja = (
        "配信からまだ日が浅いため、何度確認しても有効な方法で示します。"
        "計測期間が終わり次第、予定した検定に切り替わります"
    )
    return replace(compared, method=replace(compared.method, why=why, why_ja=why_ja))


def _compare_standing(evidence: Evidence, counts: Counts, alpha: float | None) -> Comparison:
    """Where no end is planned: valid at any number of looks, over every epoch that had a choice."""
    compared = _run(evidence, counts, np.flatnonzero(_informative(evidence)), alpha=alpha, method="anytime")
    why = "people keep coming and no end is planned: this holds however often and however long it is read"
    why_ja = "対象者が増え続け、終わりが決まっていないため、いつ何度確認しても有効な方法を使います"
    return replace(compared, method=replace(compared.method, why=why, why_ja=why_ja))


def is_tested(evidence: Evidence) -> bool:
    """Whether any mail was sent in an epoch that compares arms."""
    return bool(evidence.sent[_informative(evidence)].any())


def plan_of_parts(evidence: Evidence, *, young: bool) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """The epochs that segments and values are compared over, and how: as in the main comparison."""
    informative = _informative(evidence)
    if young or evidence.experiment.allocation.standing:
        return np.flatnonzero(informative), {"method": "anytime"}
    chosen = np.flatnonzero(informative[: evidence.n_mature])
    shares = _shares_of_plan(evidence)[chosen]
    plan = np.array(evidence.plan, dtype=np.float64) / max(sum(evidence.plan), 1)
    if not len(chosen) or len(plan) == len(shares) == 1:
        return chosen, {}
    if np.allclose(plan[: len(shares)], shares, atol=_NOTHING):
        return chosen, {"weights": plan}
    rest = [left] if (left := 1 - float(shares.sum())) > _NOTHING else []
    weights = np.append(shares, rest)
    return chosen, {"weights": weights, "looks": len(weights) + 1}  # changed on the way: any number of looks


def _run(
    evidence: Evidence,
    counts: Counts,
    chosen: NDArray[np.int64],
    *,
    alpha: float | None,
    method: Method,
    **plan: Any,
) -> Comparison:
    experiment, own = evidence.experiment, rows_of(counts, chosen)
    return compare(
        own,
        control=experiment.control_cell.index,
        alpha=experiment.analysis.alpha if alpha is None else alpha,
        method=method,
        mde=experiment.analysis.mde,
        names=[cell.name for cell in experiment.cells],
        horizon=sum(evidence.plan) or None,
        baseline=_baseline(evidence),
        clusters=clusters_of(evidence, own, chosen),
        **plan,
    )


def _baseline(evidence: Evidence) -> float:
    """A rate to expect that this experiment's outcomes have no part in: it tunes a boundary for any number of looks."""
    metrics, analysis = evidence.experiment.metrics, evidence.experiment.analysis
    return analysis.baseline or _TYPICAL_RATE.get(metrics.primary, _TYPICAL_RATE["clicked"])


def _informative(evidence: Evidence) -> NDArray[np.bool_]:
    """The epochs that compare anything: not those that shipped one arm to everybody, nor those past the plan."""
    testing = np.array([epoch.tests for epoch in evidence.epochs], dtype=bool)
    return testing & (_shares_of_plan(evidence) > 0)


def _shares_of_plan(evidence: Evidence) -> NDArray[np.float64]:
    """(n_epochs,) share of the test's information that each epoch was given when it opened.

    An epoch gets its part of what is left, by its size among the mails that then waited. So shares never depend on
    what came later: people who are added change the later shares alone, and a plan that is spent has none to give.
    """
    if evidence.experiment.allocation.standing:
        return np.array([float(epoch.tests) for epoch in evidence.epochs])
    shares, left, gone = [], 1.0, 0
    known = evidence.experiment.allocation.policy != "test_then_send"  # the rest of the list is no part of that plan
    for epoch in evidence.epochs:
        gone += epoch.size
        noted = epoch.remaining if known else None
        waiting = max(sum(evidence.plan) - gone, 0) if noted is None else noted
        share = left * epoch.size / (epoch.size + waiting) if epoch.tests else 0.0
        shares.append(share)
        left = left - share if waiting and left - share > _NOTHING else 0.0
    return np.array(shares, dtype=np.float64)


def rows_of(counts: Counts, chosen: NDArray[np.int64]) -> Counts:
    """The counts of some epochs; one empty epoch where there are none."""
    if not len(chosen):
        return Counts(np.zeros((1, counts.n_arms), dtype=np.int64), np.zeros((1, counts.n_arms), dtype=np.int64))
    places = {int(epoch): place for place, epoch in enumerate(chosen)}
    rows = [i for i, epoch in enumerate(counts.epochs) if epoch in places]
    return Counts(
        counts.n[rows], counts.successes[rows], counts.exposure[rows],
        None if counts.weights is None else counts.weights[rows],
        strata=None if counts.strata is None else [counts.strata[i] for i in rows],
        epochs=[places[counts.epochs[i]] for i in rows],
    )  # fmt: skip


def _decision(evidence: Evidence, shown: Comparison, *, young: bool) -> Decision:
    """The verdict that was noted stays; else what the closed windows say; else what it looks like so far."""
    verdict = evidence.stored.verdict
    if verdict is not None:
        return Decision(state=verdict["state"], arm=verdict["arm"], reason=verdict["reason"])
    if not young or shown.decision.state not in _SETTLED:
        return _without_stopped(evidence, shown)
    hours = evidence.window / 3600
    why = reason("young", share=f"{evidence.mature_share:.0%}", hours=f"{hours:g}")
    leader = max(shown.arms, key=lambda arm: arm.p_best).name
    return _without_stopped(
        evidence, replace(shown, decision=Decision(state="leading", arm=shown.decision.arm or leader, reason=why))
    )


def _without_stopped(evidence: Evidence, shown: Comparison) -> Decision:
    """The decision, unless it names an arm that was stopped: then the best of those that may still get mail leads."""
    names = {cell.name for cell, on in zip(evidence.experiment.cells, evidence.active, strict=True) if on}
    if shown.decision.arm is None or shown.decision.arm in names:
        return shown.decision
    leader = max((arm for arm in shown.arms if arm.name in names), key=lambda arm: arm.p_best).name
    return Decision(state="leading", arm=leader, reason=reason("better_but_stopped", arm=shown.decision.arm))


# -- the report -----------------------------------------------------------------------------------------------------


def report_on(evidence: Evidence) -> Report:
    """Everything that is known of an experiment, for people and programs."""
    experiment, found = evidence.experiment, findings(evidence)
    comparison = found.comparison
    arms = tuple(_arms(evidence, comparison))
    guarded = guardrails(evidence)
    waiting = sum(evidence.states.get(s, 0) for s in _WAITING)
    return Report(
        experiment=experiment.name,
        hypothesis=experiment.hypothesis,
        spec_hash=evidence.stored.spec_hash,
        state=_state(evidence, found),
        metric=experiment.metrics.primary,
        window_seconds=int(evidence.window),
        generated_at=evidence.now,
        seed=experiment.allocation.seed,
        abmail_version=version("abmail"),
        audience=sum(evidence.states.values()),
        sent=int(evidence.sent.sum()),
        held_out=evidence.states.get(State.HELD_OUT, 0),
        pending=waiting,
        failed=evidence.states.get(State.FAILED, 0),
        uncertain=evidence.states.get(State.UNCERTAIN, 0),
        mature_share=evidence.mature_share,
        epochs=tuple(_epochs(evidence)),
        arms=arms,
        control=experiment.control_cell.name,
        srm=_srm_report(evidence, comparison),
        decision=decision_report(comparison.decision, evidence.stored.verdict),
        sentence=comparison.sentence,
        sentence_ja=comparison.sentence_in("ja"),
        factors=tuple(_factors(evidence, young=found.young)),
        acting_together=_acting_together(evidence),
        method=method_report(comparison.method, comparison.design_effect),
        actions=tuple(_actions(evidence, found, guarded, "en")),
        actions_ja=tuple(_actions(evidence, found, guarded, "ja")),
        guardrails=guarded,
    )  # fmt: skip


def method_report(method: MethodInfo, design_effect: float | None = None) -> MethodReport:
    """How the comparison was made, for the page."""
    english, japanese = ("", "") if design_effect is None else (words.format(design_effect) for words in _BY_COMPANY)
    return MethodReport(
        name=method.name, why=method.why + english, why_ja=method.why_ja + japanese, alpha=method.alpha,
        looks=method.looks, design_effect=design_effect,
    )  # fmt: skip


_BY_COMPANY: Final = (
    (
        "; variants went out by company, so companies are compared: colleagues answer alike, and {:,.1f} mails say as "
        "much as one to a stranger"
    ),
    "。会社単位で割り当てたため会社同士を比べています(同じ会社の人は反応が似るため、{:,.1f}通が他人1通分の情報に当たります)",
)


def _srm_report(evidence: Evidence, comparison: Comparison) -> SrmReport:
    """The sample-ratio check, with the likely causes where it failed."""
    srm, names = comparison.srm, [cell.name for cell in evidence.experiment.cells]
    return SrmReport(p_value=srm.p_value, ok=srm.ok, sentence=srm.explain(names), sentence_ja=srm.explain(names, "ja"))


_REASONS_JA: Final = {
    "winner": "他のすべてのパターンとの比較で、差が偶然ではないと確認できました。",
    "leading": "リードしていますが、まだ確定ではありません。",
    "no_difference": "意味のある差はありません。",
    "too_early": "成果の数がまだ足りません。",
    "stopped": "停止しました。",
}


def decision_report(decision: Decision, verdict: Mapping[str, Any] | None = None) -> DecisionReport:
    """The decision for the page; what somebody noted with a verdict stays in the words that were given."""
    japanese = (verdict or {}).get("reason_ja", "")
    ours = verdict is None or japanese != decision.reason
    english = decision.reason[:1].upper() + decision.reason[1:] if ours else decision.reason
    japanese = japanese or in_japanese(decision.reason) or _REASONS_JA[decision.state]
    return DecisionReport(state=decision.state, arm=decision.arm, reason=english, reason_ja=japanese)


def _verdict_ja(evidence: Evidence) -> dict[str, str]:
    """The reason of the verdict, English -> Japanese: waves that came after it name it."""
    verdict = evidence.stored.verdict
    if verdict is None or verdict.get("reason_ja") == verdict["reason"]:  # somebody's own words
        return {}
    return {verdict["reason"]: verdict.get("reason_ja") or _REASONS_JA[verdict["state"]]}


def _state(evidence: Evidence, found: Findings) -> Literal["draft", "running", "finished", "stopped"]:
    if evidence.stored.state == "stopped":
        return "stopped"
    return "finished" if found.final else "running"


def _epochs(evidence: Evidence) -> Iterator[EpochReport]:
    names = [cell.name for cell in evidence.experiment.cells]
    known = _verdict_ja(evidence)
    for index, epoch in enumerate(evidence.epochs):
        yield EpochReport(
            n=int(evidence.sent[index].sum()),
            number=epoch.number + 1,
            opened_at=epoch.opened_at,
            reason=epoch.reason,
            reason_ja=in_japanese(epoch.reason, known),
            weights=dict(zip(names, map(float, evidence.weights[index, : len(epoch.weights)]), strict=False)),
        )


def _arms(evidence: Evidence, comparison: Comparison) -> Iterator[ArmReport]:
    windows = dict.fromkeys(("opened", "clicked"), evidence.window)
    windows |= dict.fromkeys(("unsubscribed", "complained", "bounced"), float("inf"))  # a late complaint is one too
    totals = {name: evidence.tally.matrix(name, window=span).sum(axis=0) for name, span in windows.items()}
    for cell, arm in zip(evidence.experiment.cells, comparison.arms, strict=True):
        n, k = int(evidence.trials[:, cell.index].sum()), int(evidence.successes[:, cell.index].sum())
        untracked = int(evidence.untracked[:, cell.index].sum())
        yield ArmReport(
            name=cell.name,
            cell={str(factor): level for factor, level in cell.levels.items()},
            content={factor: readable_text(text) for factor, text in cell.content.items()},
            n=n + untracked,
            untracked=untracked,
            successes=k,
            rate=k / n if n else None,
            human_opens=int(totals["opened"][cell.index]),
            clicks=int(totals["clicked"][cell.index]),
            unsubscribes=int(totals["unsubscribed"][cell.index]),
            complaints=int(totals["complained"][cell.index]),
            bounces=int(totals["bounced"][cell.index]),
            effect=arm.effect,
            lift=arm.lift,
            ci_lower=arm.ci_lower,
            ci_upper=arm.ci_upper,
            p_value=arm.p_value,
            p_best=arm.p_best if n else None,
            expected_loss=arm.expected_loss if n else None,
            weight=float(evidence.weights[-1, cell.index]) if evidence.epochs else None,
            status=arm.status if comparison.srm.ok else "srm_failed",
        )


def guardrails(evidence: Evidence) -> tuple[GuardrailReport, ...]:
    """Every arm on every guarded metric, against its limit and against the control; true at any number of looks."""
    return tuple(_guardrails(evidence))


def broken_guardrails(evidence: Evidence) -> tuple[GuardrailReport, ...]:
    """Those of `guardrails` that are broken: what each tick asks; little work where none is."""
    return tuple(one for one in _guardrails(evidence, only_broken=True) if one.verdict == "broken")


def _guardrails(evidence: Evidence, *, only_broken: bool = False) -> Iterator[GuardrailReport]:
    experiment = evidence.experiment
    limits = experiment.metrics.guardrails
    if not len(evidence.sent):
        return
    names = [cell.name for cell in experiment.cells]
    for metric, limit in limits.items():
        counts = Counts(evidence.sent, np.minimum(evidence.tally.matrix(metric), evidence.sent))
        said = faded(counts, np.full(len(counts.n), thinning(evidence, metric))) if evidence.companies else counts
        if only_broken and not breaks_limit(said, limit, alpha=experiment.analysis.alpha):
            continue
        found = check_guardrails(
            {metric: said}, {metric: limit}, experiment.control_cell.index, experiment.analysis.alpha, names=names
        )
        english, japanese = GUARDED[metric]
        totals = zip(counts.n.sum(axis=0).tolist(), counts.successes.sum(axis=0).tolist(), strict=True)
        for arm, (n, k) in zip(found, totals, strict=True):
            one = replace(arm, n=n, k=k, rate=k / n if n else None)
            yield GuardrailReport(
                metric=metric, limit=limit, arm=one.arm, rate=one.rate, ok=one.ok, verdict=one.verdict,
                upper=one.upper, sentence=replace(one, metric=english).sentence_in("en"),
                sentence_ja=replace(one, metric=japanese).sentence_in("ja"),
            )  # fmt: skip


def _factors(evidence: Evidence, *, young: bool) -> Iterator[FactorReport]:
    """Main effect of each factor, from comparisons within epoch and within the levels of the other factors."""
    experiment = evidence.experiment
    if len(experiment.factors) < 2 or not _informative(evidence).any():
        return
    shape = [len(levels) for levels in experiment.factors.values()]
    for axis, (factor, levels) in enumerate(experiment.factors.items()):
        tables = (evidence.trials, evidence.successes, _shares(evidence))
        n, k, w = (_strata(table[:, np.argsort(experiment.order)], shape, axis) for table in tables)
        names, control = list(levels), experiment.control[factor]
        kept = w.sum(axis=1) > 0
        planned: dict[str, Any] = {"weights": w[kept].sum(axis=1), "looks": int(kept.sum()) + 1}  # any number of looks
        how = {"method": "anytime"} if young or experiment.allocation.standing else planned
        result = compare(
            Counts(n[kept], k[kept]), control=control, names=names, alpha=experiment.analysis.alpha,
            horizon=sum(evidence.plan) or None, baseline=_baseline(evidence),
            clusters=clusters_within(evidence, axis, kept), **how,
        )  # fmt: skip
        yield FactorReport(
            factor=factor,
            levels=tuple(
                LevelReport(
                    level=arm.name, n=arm.n, successes=arm.successes, rate=arm.rate, effect=arm.effect,
                    ci_lower=arm.ci_lower, ci_upper=arm.ci_upper, p_value=arm.p_value,
                )
                for arm in result.arms
            ),
        )  # fmt: skip


def _acting_together(evidence: Evidence) -> float | None:
    """Chance that levels of different factors act together, by all mails; None for a single factor."""
    if len(evidence.experiment.factors) < 2 or not _informative(evidence).any():
        return None
    counts = policy_counts(evidence, curve_of(evidence))
    return factorial_of(evidence.experiment, Thompson()).acting_together(counts)


def _shares(evidence: Evidence) -> NDArray[np.float64]:
    """(n_epochs, n_cells) share of the plan's information of each cell, known when its epoch opened."""
    return evidence.weights * np.where(_informative(evidence), _shares_of_plan(evidence), 0.0)[:, None]


def _strata(matrix: NDArray[np.generic], shape: Sequence[int], axis: int) -> NDArray[np.generic]:
    """(n_epochs, n_cells) to (n_epochs x cells of the other factors, n_levels of one factor)."""
    return np.moveaxis(matrix.reshape(len(matrix), *shape), 1 + axis, -1).reshape(-1, shape[axis])


_SAYINGS: Final = {
    "srm": (
        "Before reading the result, find out why the variants did not get their shares. {causes}",
        "結果を読む前に、配信数の比率がずれた原因を調べてください。{causes}",
    ),
    "futile": (
        "{sentence}",
        "{sentence}",
    ),
    "guardrail": (
        "{sentence} Consider stopping it: `abmail stop {name} --arm {arm}`.",
        "{sentence}停止を検討してください：`abmail stop {name} --arm {arm}`",
    ),
    "guardrail_stopped": (
        "{sentence} It gets no more mail.",
        "{sentence}このパターンの配信は止めました。",
    ),
    "guardrail_control": (
        "{sentence} It is the control, which is not stopped by itself: stop the whole test, or ship another variant.",
        "{sentence}これは基準のパターンのため自動では止まりません。実験全体を止めるか、別のパターンに切り替えてください。",
    ),
    "untracked": (
        "{n} mails are missing: their readers did not agree to be tracked ({arms}). The result is that of the others.",
        "計測に同意していない受信者への {n} 通は集計に含まれません（{arms}）。比較は同意した受信者についてのものです。",
    ),
    "off": (
        "Opens and clicks are not tracked (privacy: off): the variants cannot be compared by them.",
        "開封とクリックを計測していないため（privacy: off）、パターンを比較できません。",
    ),
    "uncertain": (
        "{n} mails may or may not have been delivered: settle them with `abmail settle {name}`.",
        "{n} 通は配信されたか不明です。`abmail settle {name}` で確定してください。",
    ),
    "send": (
        "{n} mails are still to be sent: run `abmail send {name} --until-done --yes`.",
        "未配信のメールが {n} 通あります。`abmail send {name} --until-done --yes` を実行してください。",
    ),
    "wait": (
        "All mails are out; the result is final on {at:%Y-%m-%d %H:%M} UTC, when the last window closes.",
        "配信は完了しました。最後の計測期間が終わる {at:%Y-%m-%d %H:%M} UTC に結果が確定します。",
    ),
    "winner": (
        "Use {arm} from now on.",
        "今後は {arm} を使ってください。",
    ),
    "no_difference": (
        "Choose by taste: the variants differ by less than what you called worth finding.",
        "差は実用上無視できます。好みで選んでください。",
    ),
    "open": (
        "No winner was proved. Treat {arm} as the better guess, or test it again on a larger list.",
        "勝者は確定しませんでした。{arm} を有力候補とするか、より大きなリストで再検証してください。",
    ),
}


def _actions(
    evidence: Evidence, found: Findings, guardrails: Sequence[GuardrailReport], language: Literal["en", "ja"]
) -> Iterator[str]:
    """What to do next, most urgent first."""

    def say(key: str, **values: object) -> str:
        return _SAYINGS[key][language == "ja"].format(**values)

    name = evidence.experiment.name
    if not found.comparison.srm.ok:
        names = [cell.name for cell in evidence.experiment.cells]
        yield say("srm", causes=found.comparison.srm.explain(names, language))
    stopped = {arm.cell for arm in evidence.stopped}
    for broken in (g for g in guardrails if not g.ok):
        sentence = broken.sentence_ja if language == "ja" else broken.sentence
        control = broken.arm == evidence.experiment.control_cell.name
        key = "guardrail_control" if control else "guardrail_stopped" if broken.arm in stopped else "guardrail"
        yield say(key, sentence=sentence, name=name, arm=broken.arm)
    if missing := int(evidence.untracked.sum()):
        cells = zip(evidence.experiment.cells, evidence.untracked.sum(axis=0).tolist(), strict=True)
        arms = ", ".join(f"{cell.name}: {n}" for cell, n in cells)
        yield say("off") if missing == evidence.sent.sum() else say("untracked", n=missing, arms=arms)
    if uncertain := evidence.states.get(State.UNCERTAIN):
        yield say("uncertain", n=uncertain, name=name)
    waiting = sum(evidence.states.get(s, 0) for s in _WAITING)
    if waiting:
        yield say("send", n=waiting, name=name)
    elif not found.final and evidence.last_send:
        yield say("wait", at=max(evidence.last_send.values()) + evidence.experiment.metrics.window)
    if found.futility is not None and found.futility.stop and found.decision.state not in _SETTLED:
        yield say("futile", sentence=found.futility.sentence_in(language))
    match found.decision.state:
        case "winner":
            yield say("winner", arm=found.decision.arm)
        case "no_difference":
            yield say("no_difference")
        case "leading" if found.final:
            yield say("open", arm=found.decision.arm)
