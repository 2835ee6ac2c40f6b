"""AB6, drift: what a changed definition breaks of an experiment that runs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from abmail._fields import listed
from abmail._rules.base import Case, Check, Finding
from abmail._values import format_duration, shown
from abmail.diagnostics import Rule
from abmail.spec import Allocation, Experiment

__all__ = ["RULES", "Drift", "anew"]


class Drift(Check, ABC):
    """A rule that compares a definition with the one that runs by its name."""

    needs = ("earlier",)

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the definition with the one that runs by its name."""
        old = case.around.earlier(case.experiment.name) if case.around.earlier else None
        if old is not None:
            yield from self.compare(old, case)

    @abstractmethod
    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Say what differs."""


class SaltChanged(Drift):
    """The salt of a running experiment is another one.

    **Why.** The salt is what people are dealt to the variants by. With another one the cards are dealt anew: with two
    even variants half of the people who wait would get the other one, and those who were held out would get mail.

    **Bad.**

    ```yaml before
    salt: first
    ```

    ```yaml
    salt: second
    ```

    **Good.**

    ```yaml before
    salt: first
    ```

    ```yaml
    salt: first
    hypothesis: A number raises clicks.
    ```

    **Fix.** Write the old salt again. Where none was written before, it was the name of the experiment.
    """

    rule = Rule("AB601", "salt-changed")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare the salts."""
        new = case.experiment
        if old.salt != new.salt:
            moving = _moving(old, replace(old, salt=new.salt), case)
            message = case.say(f"the salt was {shown(old.salt)}: {moving}", f"saltは{shown(old.salt)}でした。{moving}")
            yield Finding(("salt",), message, _write(case, f"salt: {old.salt}"))


class FactorsChanged(Drift):
    """A factor, a level or its text, or the control of a running experiment is another one.

    **Why.** Mails with the old texts are out. What a changed text brings would be added to what the old one brought, a
    level that is gone leaves its mails without a variant, and with another control every comparison asks another
    question. New levels may join: they get their share from the next wave on.

    **Bad.**

    ```yaml before
    factors: {subject: {plain: "Join our spring webinar", number: "3 ways to cut reporting time"}}
    ```

    ```yaml
    factors: {subject: {plain: "Join our spring webinar", number: "5 ways to cut reporting time"}}
    ```

    **Good.**

    ```yaml before
    factors: {subject: {plain: "Join our spring webinar", number: "3 ways to cut reporting time"}}
    ```

    ```yaml
    factors:
      subject:
        plain: "Join our spring webinar"
        number: "3 ways to cut reporting time"
        five: "5 ways to cut reporting time"
    ```

    **Fix.** Add the new text as a level of its own, and stop the old one with `abmail stop NAME --arm CELL`; or end the
    test and begin another one under a new name.
    """

    rule = Rule("AB602", "factors-changed")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare the factors, their levels and the control."""
        new, hint = case.experiment, anew(old, case)
        if list(old.factors) != list(new.factors):
            were = listed(tuple(old.factors))
            message = case.say(
                f"the factors were {were}: the cells that mails went out with are others",
                f"factorsは{were}でした。送信済みのメールの案とは別の案になります",
            )
            yield Finding(("factors",), message, hint, at_key=True)
            return
        for factor, levels in old.factors.items():
            for level, text in levels.items():
                now = new.factors[factor].get(level)
                if now is None:
                    message = case.say(
                        f"the level {level} is gone: mails went out with it",
                        f"水準{level}がなくなりました。この水準のメールは送信済みです",
                    )
                    yield Finding(("factors", factor), message, hint, at_key=True)
                elif now != text:
                    message = case.say(
                        f"the text was {shown(text)}: mails went out with it, and both would be counted as one",
                        f"文面は{shown(text)}でした。その文面で送信済みのため、二つの文面が一つの案として集計されます",
                    )
                    advice = case.say(
                        "make the new text a level of its own", "新しい文面は別の水準として加えてください"
                    )
                    yield Finding(("factors", factor, level), message, advice)
        for factor, level in old.control.items():
            if new.control[factor] != level and level in new.factors[factor]:
                message = case.say(
                    f"the control was {level}: what is compared would be another question",
                    f"基準の案は{level}でした。比べるものが変わり、別の問いになります",
                )
                yield Finding(("control", factor), message, hint)


class WeightsChanged(Drift):
    """The shares of the variants, or the policy that sets them, are others in a running experiment.

    **Why.** Waves that are out keep their shares, and the comparison goes wave by wave, so it stays valid. But people
    who wait would get another variant than the plan said, and the power that was planned for is gone.

    **Bad.**

    ```yaml before
    allocation: {policy: fixed, weights: {plain: 0.5, number: 0.5}}
    ```

    ```yaml
    allocation: {policy: fixed, weights: {plain: 0.1, number: 0.9}}
    ```

    **Good.**

    ```yaml before
    allocation: {policy: fixed, weights: {plain: 0.5, number: 0.5}}
    ```

    ```yaml
    allocation: {policy: fixed, weights: {number: 0.5, plain: 0.5}}
    ```

    **Fix.** Leave the shares until the test has ended, or let a policy shift them: `policy: thompson`, from the start.
    """

    rule = Rule("AB603", "weights-changed", "warning")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare what sets the shares."""
        before, after = old.allocation, case.experiment.allocation
        leave = case.say("leave {it} until the test has ended", "テストが終わるまで変えないでください")
        if before.policy != after.policy:
            message = case.say(
                f"the policy was {before.policy}: waves from now on are shared in another way",
                f"policyは{before.policy}でした。今後の配信回から配分の方法が変わります",
            )
            yield Finding(("allocation", "policy"), message, _write(case, f"policy: {before.policy}"))
        elif before.weights != after.weights:
            moving = _moving(old, replace(old, allocation=after), case) if _same_cells(old, case.experiment) else ""
            moving = moving or case.say("the variants are others, too", "案そのものも変わっています")
            were = ", ".join(f"{name} {share:g}" for name, share in (before.weights or {}).items())
            message = case.say(f"the weights were {were}: {moving}", f"weightsは{were}でした。{moving}")
            yield Finding(("allocation", "weights"), message, leave.format(it="them"))
        elif before.min_weight != after.min_weight and _same_cells(old, case.experiment):
            message = case.say(
                f"the smallest share was {_floor(before, case)}: later waves teach more or less than was planned",
                f"最小の配分は{_floor(before, case)}でした。今後の配信回で分かることが計画と変わります",
            )
            yield Finding(("allocation", "min_weight"), message, leave.format(it="it"))
        if before.assignment != after.assignment:
            message = case.say(
                f"the assignment was {before.assignment}: {_everybody(case)}",
                f"assignmentは{before.assignment}でした。{_everybody(case)}",
            )
            yield Finding(("allocation", "assignment"), message, _write(case, f"assignment: {before.assignment}"))


class MetricChanged(Drift):
    """What decides a running experiment is another event, window or level.

    **Why.** A test whose question is chosen after its data were seen finds what it looks for: the promised share of
    false alarms no longer holds. Mails that were mature under the old window are young under a longer one.

    **Bad.**

    ```yaml before
    metrics: {primary: clicked, window: 72h}
    ```

    ```yaml
    metrics: {primary: clicked, window: 24h}
    ```

    **Good.**

    ```yaml before
    metrics: {primary: clicked, window: 72h}
    ```

    ```yaml
    metrics: {primary: clicked, window: 3d, guardrails: {unsubscribed: 0.005}}
    ```

    **Fix.** Keep the question until the test has ended. Every report shows the other metrics beside the primary one.
    """

    rule = Rule("AB604", "metric-changed")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare the question."""
        new = case.experiment
        for location, before, after, written in (
            (("metrics", "primary"), old.metrics.primary, new.metrics.primary, old.metrics.primary),
            (("metrics", "window"), old.metrics.window, new.metrics.window, format_duration(old.metrics.window)),
            (("analysis", "alpha"), old.analysis.alpha, new.analysis.alpha, f"{old.analysis.alpha:g}"),
        ):
            if before != after:
                message = case.say(
                    f"{location[1]} was {written}: the question would be chosen after its answer was seen",
                    f"{location[1]}は{written}でした。結果を見てから問いを選ぶことになります",
                )
                yield Finding(location, message, _write(case, f"{location[1]}: {written}"))


class UnitChanged(Drift):
    """What a running experiment assigns as one is another unit.

    **Why.** People are hashed by their id, or by their company's domain: with the other one everybody is dealt anew,
    and colleagues who had one variant get different ones.

    **Bad.**

    ```yaml before
    audience: {unit: company}
    ```

    ```yaml
    audience: {unit: recipient}
    ```

    **Good.**

    ```yaml before
    audience: {unit: recipient}
    ```

    ```yaml
    audience: {unit: recipient}
    ```

    **Fix.** Write the old unit again, or begin another test under a new name.
    """

    rule = Rule("AB605", "unit-changed")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare the units."""
        before, after = old.audience.unit, case.experiment.audience.unit
        if before != after:
            altered = replace(old, audience=replace(old.audience, unit=after))
            moving = _moving(old, altered, case)
            message = case.say(f"the unit was {before}: {moving}", f"unitは{before}でした。{moving}")
            yield Finding(("audience", "unit"), message, _write(case, f"unit: {before}"))


class HoldoutChanged(Drift):
    """The holdout of a running experiment is another share.

    **Why.** The holdout is cut off the same hash as the variants: people who were to get nothing get mail, or people
    with mail count as held out, and every border between the variants moves with it.

    **Bad.**

    ```yaml before
    audience: {holdout: 0.05}
    ```

    ```yaml
    audience: {holdout: 0.10}
    ```

    **Good.**

    ```yaml before
    audience: {holdout: 0.05}
    ```

    ```yaml
    audience: {holdout: 5 %}
    ```

    **Fix.** Write the old holdout again, or begin another test under a new name.
    """

    rule = Rule("AB608", "holdout-changed")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare the holdouts."""
        before, after = old.audience.holdout, case.experiment.audience.holdout
        if before != after:
            altered = replace(old, audience=replace(old.audience, holdout=after))
            moving = _moving(old, altered, case)
            message = case.say(f"the holdout was {before:g}: {moving}", f"holdoutは{before:g}でした。{moving}")
            yield Finding(("audience", "holdout"), message, _write(case, f"holdout: {before:g}"))


class SegmentChanged(Drift):
    """The segment of a running experiment is another one.

    **Why.** Who is in the test changes on the way. Those who are in stay, those who join from now on are others: early
    and late waves are about different people, and the result is about neither. The list is no longer as large as the
    one that was planned for.

    **Bad.**

    ```yaml before
    audience: {segment: "stage == 'hot'"}
    ```

    ```yaml
    audience: {segment: "stage in ['warm', 'hot']"}
    ```

    **Good.**

    ```yaml before
    audience: {segment: "stage == 'hot'"}
    ```

    ```yaml
    audience: {segment: "stage=='hot'"}
    ```

    **Fix.** Write the old segment again, and test the others under a new name. Where the list is known, a segment that
    takes in the same people, however it is written, is none that changed.
    """

    rule = Rule("AB609", "segment-changed", "warning")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare the segments, by the people that they take in where those are known."""
        before, after = old.audience.segment, case.experiment.audience.segment
        if (before and before.words) == (after and after.words):
            return
        altered = replace(old, audience=replace(old.audience, segment=after))
        known = case.around.moves and not (case.around.people and case.around.people.is_sample)
        found = case.around.moves(old, altered) if case.around.moves and known else None
        if found and found.people and not found.moved:
            return
        was = case.say("everybody", "全員") if before is None else shown(before.text)
        others = case.say("early and late mails would be about different people", "前後のメールで対象者が変わります")
        if found and found.people:
            others = case.say(
                f"{found.moved:,} of {found.people:,} recipients are in one of the two only",
                f"{found.people:,}人中{found.moved:,}人が片方の条件にしか当てはまりません",
            )
        message = case.say(f"the segment was {was}: {others}", f"segmentは{was}でした。{others}")
        leave = case.say("take segment out", "segmentを消してください")
        hint = leave if before is None else _write(case, f"segment: {before.text}")
        yield Finding(("audience", "segment"), message, hint)


class RemovedFile(Check):
    """An experiment runs, and its definition is gone.

    **Why.** What runs cannot be read, reviewed or planned any more, and its mails go on. Mostly a file was removed to
    end a test, which it does not, or an experiment was renamed: under its new name it is another one, and deals the
    cards anew.

    **Bad.**

    ```yaml before
    name: spring
    ```

    ```yaml
    name: summer
    ```

    **Good.**

    ```yaml before
    name: spring
    ```

    ```yaml
    name: spring
    ```

    **Fix.** Bring the file back, or end the test first: `abmail stop NAME`. It is looked for where a whole folder is
    checked and every file of it can be read.
    """

    rule = Rule("AB606", "removed-file")
    needs = ("running",)


class NameReused(Check):
    """The name of an experiment is that of another one.

    **Why.** Everything is kept by that name: mails, answers, and the salt that deals people to variants. Two files of
    one name overwrite each other, and one that has ended cannot begin again.

    **Bad.**

    ```yaml
    name: spring
    ```

    ```yaml experiments/again.yaml
    spec: 1
    name: spring
    factors: {subject: {plain: "Join our spring webinar", number: "3 ways to cut reporting time"}}
    control: {subject: plain}
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "Live"}
    ```

    **Good.**

    ```yaml
    name: spring
    ```

    ```yaml experiments/again.yaml
    spec: 1
    name: spring-again
    factors: {subject: {plain: "Join our spring webinar", number: "3 ways to cut reporting time"}}
    control: {subject: plain}
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "Live"}
    ```

    **Fix.** Give each experiment a name of its own.
    """

    rule = Rule("AB607", "name-reused")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for the name in the other files, and among what has ended."""
        exp, around = case.experiment, case.around
        first = (around.names or {}).get(exp.name, exp.path)
        if first != exp.path:
            yield Finding(("name",), f"{first} holds an experiment of that name, too", "give it a name of its own")
        old = around.ended(exp.name) if around.ended else None
        if old is not None and old.spec_hash != exp.spec_hash:
            message = "an experiment of that name has ended, and this is another one"
            yield Finding(("name",), message, "give it a name of its own")


RULES: Final[tuple[Check, ...]] = (
    SaltChanged(),
    FactorsChanged(),
    WeightsChanged(),
    MetricChanged(),
    UnitChanged(),
    RemovedFile(),
    NameReused(),
    HoldoutChanged(),
    SegmentChanged(),
)


def anew(old: Experiment, case: Case) -> str:
    """What to do where a change makes another test of it."""
    return case.say(
        f"end the test with `abmail stop {old.name}`, and give the new one a name of its own",
        f"`abmail stop {old.name}`でテストを終え、新しいテストには別の名前を付けてください",
    )


def _write(case: Case, line: str) -> str:
    return case.say(f"write {line}", f"{line}に戻してください")


def _everybody(case: Case) -> str:
    return case.say("people who wait would get another variant than planned", "待機中の人に計画とは別の案が届きます")


def _moving(old: Experiment, altered: Experiment, case: Case) -> str:
    """Say how many people one change alone would move, as far as that is known."""
    found = case.around.moves(old, altered) if case.around.moves else None
    if found is not None and found.people:
        return case.say(
            f"{found.moved:,} of {found.people:,} recipients would get another variant",
            f"{found.people:,}人中{found.moved:,}人に別の案が届きます",
        )
    if old.salt == altered.salt and old.audience.unit == altered.audience.unit:
        return _everybody(case)
    share = _moved_share(old)
    return case.say(
        f"about {share:.0%} of the recipients would get another variant", f"約{share:.0%}の人に別の案が届きます"
    )


def _moved_share(experiment: Experiment) -> float:
    """Share of people whose cell differs between two independent deals of the same shares."""
    held = experiment.audience.holdout
    n = len(experiment.cells)
    weights = tuple((experiment.allocation.weights or {}).values()) or (1 / n,) * n
    return 1.0 - held**2 - math.fsum(((1 - held) * weight) ** 2 for weight in weights)


def _same_cells(old: Experiment, new: Experiment) -> bool:
    return {cell.name for cell in old.cells} == {cell.name for cell in new.cells}


def _floor(allocation: Allocation, case: Case) -> str:
    own = case.say("the policy's own", "policyの既定値")
    return own if allocation.min_weight is None else f"{allocation.min_weight:g}"
