"""AB2, statistics: whether the test can show what it is made for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from abmail._rules.base import Case, Check, Finding
from abmail._rules.clock import open_minutes
from abmail._rules.size import chance, needed
from abmail._spec_allocation import LEARNING
from abmail._values import format_duration
from abmail.diagnostics import Rule
from abmail.spec import Experiment

__all__ = ["RULES"]

_EARNING: Final = 0.4
_SLACK: Final = 1e-9
_PROVING: Final = 0.1
_MOST_ARMS: Final = 12
_HASTY: Final = timedelta(hours=2)
_ALPHAS: Final = (0.001, 0.2)
_POWERS: Final = (0.5, 0.99)


class OpensDecide(Check):
    """Opens decide the test.

    **Why.** Mail programs and scanners open mail by themselves; up to half of all opens say nothing about people. They
    are discounted where they are known for what they are, and what is left still favours the variant that machines
    like.

    **Bad.**

    ```yaml
    metrics: {primary: opened}
    ```

    **Good.**

    ```yaml
    metrics: {primary: clicked}
    ```

    **Fix.** Write `primary: clicked`; opens are reported beside it, with and without those of machines.
    """

    rule = Rule("AB202", "opens-decide", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the primary metric."""
        if case.experiment.metrics.primary == "opened":
            message = "opens decide this test, and machines open mail, too"
            yield Finding(("metrics", "primary"), message, "prefer primary: clicked; opens are reported beside it")


class HighFloor(Check):
    """The smallest shares of the cells bind so much of the mail that a policy which learns can hardly act.

    **Why.** Mail that is bound to floors cannot be shifted to what works.

    **Bad.**

    ```yaml
    allocation: {policy: thompson, min_weight: 0.45}
    ```

    **Good.**

    ```yaml
    allocation: {policy: thompson, min_weight: 0.1}
    ```

    **Fix.** Keep the floors together at 0.4 or less, or say `policy: uniform` if an even split is what is wanted.
    """

    rule = Rule("AB204", "high-floor", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Add up the floors of a policy that learns."""
        allocation, floor = case.experiment.allocation, case.experiment.min_weight
        cells = len(case.experiment.cells)
        bound = floor * cells
        if allocation.policy in LEARNING and bound > _EARNING + _SLACK:
            message = f"{cells} cells with at least {floor:g} each bind {bound:.0%} of the mail"
            hint = f"at most {_EARNING / cells:.2g} leaves room to learn; policy: uniform splits evenly"
            yield Finding(("allocation", "min_weight"), message, hint)


class NothingTracked(Check):
    """Opens and clicks are not tracked, and a test decides by them.

    **Why.** With `privacy: {mode: off}` mails have no pixel and plain links. The variants are sent in their shares, and
    nobody can say which one did better: no winner is ever named.

    **Bad.**

    ```yaml
    privacy: {mode: off}
    ```

    **Good.**

    ```yaml
    privacy: {mode: aggregate}
    ```

    **Fix.** Write `mode: aggregate`: each mail's first open and click are counted for its variant, and nobody can say
    whose they were.
    """

    rule = Rule("AB220", "nothing-tracked", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at what may be learned of people."""
        privacy = case.experiment.privacy
        if privacy is not None and privacy.mode == "off":
            message = "nothing is tracked, so that no variant can be found to be the better one"
            yield Finding(("privacy", "mode"), message, "mode: aggregate counts by variant and knows no people")


class Underpowered(Check):
    """The list is too short to show the smallest difference worth finding.

    **Why.** A test that would miss the difference more often than it was promised wastes the list: whatever comes out
    is chance, or "no difference" that means nothing. Every cell of a factorial counts as a variant.

    **Bad.**

    ```yaml
    analysis: {baseline: 0.04, mde: 0.01, power: 0.8}
    ```

    ```csv leads.csv
    email
    anna@example.com
    ben@example.com
    ```

    **Good.**

    ```yaml
    analysis: {alpha: 0.05}  # abmail: ignore-file[AB303] two friends first
    ```

    ```csv leads.csv
    email
    anna@example.com
    ben@example.com
    ```

    **Fix.** Mail more people, test fewer variants, or look for a larger difference. What is told is the best that an
    even split could do; `abmail power EXP` works it out for the way that the mails are shared. The list is known with
    `--audience FILE`, `audience` in `[check]`, or a database.
    """

    rule = Rule("AB201", "underpowered", "warning")
    needs = ("people",)

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the list with what is needed."""
        goal, n = case.experiment.analysis, _mails(case)
        if goal.mde is None or goal.baseline is None or n is None or case.experiment.allocation.standing:
            return
        cells = len(case.experiment.cells)
        found = chance(baseline=goal.baseline, effect=goal.mde, n=n, cells=cells, alpha=goal.alpha)
        if found < goal.power:
            message = (
                f"{n:,} mails to {cells} variants show a difference of {goal.mde:g} with a chance of {found:.0%}"
                f" at best, {goal.power:.0%} is wanted"
            )
            enough = _needed(case, goal.mde, goal.baseline)
            hint = f"about {enough:,} mails are needed; see `abmail power {case.experiment.name}`"
            yield Finding(("analysis", "mde"), message, hint)


class LongTest(Check):
    """The mails that the test needs, or its last wave, come too late to count before it ends.

    **Why.** Mails count once their window has closed. With the limit per hour and the hours that are allowed, the test
    would stop before it has the mails that the smallest difference asks for; or its waves are so far apart that the
    last one is out and never counts. Only that is judged which the definition says itself: without `per_hour` mail goes
    out as fast as the server takes it, which nobody knows here, and then the waves alone are looked at.

    **Bad.**

    ```yaml
    send_time: {between: "09:00-12:00", days: [mon, tue], per_hour: 100}
    analysis: {baseline: 0.04, mde: 0.01}
    stop: {after: 14d}
    ```

    **Good.**

    ```yaml
    send_time: {between: "09:00-12:00", days: [mon, tue], per_hour: 5000}
    analysis: {baseline: 0.04, mde: 0.01}
    stop: {after: 14d}
    ```

    **Fix.** Raise `per_hour`, widen the window, let waves follow each other sooner, or give the test more time with
    `stop.after`.
    """

    rule = Rule("AB203", "long-test", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Work out how long the mails and the waves take at least."""
        if not case.experiment.allocation.standing:
            yield from self._mails(case)
            yield from self._waves(case.experiment)

    def _mails(self, case: Case) -> Iterator[Finding]:
        """At the most that may go out in an hour; nothing where no limit is given."""
        exp, goal = case.experiment, case.experiment.analysis
        if exp.send_time.per_hour is None or goal.mde is None or goal.baseline is None:
            return
        n = min(_needed(case, goal.mde, goal.baseline), _mails(case) or math.inf)
        each_week = exp.send_time.per_hour * open_minutes(exp.send_time) / 60 * len(exp.send_time.days)
        takes = timedelta(weeks=n / each_week) + exp.metrics.window
        if takes > exp.stop.after:
            ends = exp.stop.after.days
            message = f"{n:,.0f} mails and their window take about {takes.days} days, the test ends after {ends}"
            hint = "raise per_hour, widen the window, or write a later stop.after"
            yield Finding(("send_time", "per_hour"), message, hint)

    def _waves(self, exp: Experiment) -> Iterator[Finding]:
        """By the time between two; what each of the two alone overruns, other rules tell."""
        allocation, window, ends = exp.allocation, exp.metrics.window, exp.stop.after
        last = (allocation.waves - 1) * allocation.every
        learns = allocation.learns and allocation.policy != "test_then_send"
        if learns and max(last, window) < ends < last + window:
            out, closed = format_duration(last), format_duration(last + window)
            message = (
                f"the last of {allocation.waves} waves goes out after {out}, and its window closes after {closed}; "
                f"the test ends after {format_duration(ends)}"
            )
            yield Finding(("allocation", "every"), message, "write a shorter every, fewer waves or a later stop.after")


class ManyArms(Check):
    """There are more variants than a list can tell apart.

    **Why.** Each further level needs its share of the list, and every comparison has to be stricter. A bandit with many
    variants earns, and hardly ever proves a winner. Levels are counted, not cells: those of a factorial share what they
    have in common.

    **Bad.**

    ```yaml
    factors:
      subject: {plain: One, a: Two, b: Three, c: Four, d: Five, e: Six, f: Seven, g: Eight, h: Nine, i: Ten, j: Eleven,
                k: Twelve, l: Thirteen}
    ```

    **Good.**

    ```yaml
    factors:
      subject: {plain: One, a: Two, b: Three, c: Four}
    ```

    **Fix.** Test the few that differ most, and the next ones against their winner.
    """

    rule = Rule("AB206", "many-arms", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Count what has to be learned: the control, and each further level."""
        factors = case.experiment.factors
        arms = 1 + sum(len(levels) - 1 for levels in factors.values())
        if arms > _MOST_ARMS:
            widest = max(factors, key=lambda factor: len(factors[factor]))
            message = f"{arms} variants have to be told apart, {_MOST_ARMS} are much already"
            yield Finding(("factors", widest), message, "test the few that differ most", at_key=True)


class HastyChoice(Check):
    """The winner of a short test is chosen before its answers can have come in.

    **Why.** Half of all opens and clicks come later than two and a half hours after the mail. What is fast in the first
    hour need not be what brings most.

    **Bad.**

    ```yaml
    allocation: {policy: test_then_send, every: 30m}
    send_time: {between: "08:00-20:00"}
    ```

    **Good.**

    ```yaml
    allocation: {policy: test_then_send, every: 4h}
    send_time: {between: "08:00-20:00"}
    ```

    **Fix.** Write `every: 4h` or more, or `policy: thompson`, which reckons with answers that are still to come.
    """

    rule = Rule("AB207", "hasty-choice", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the time between the test and the rest."""
        allocation = case.experiment.allocation
        if allocation.policy == "test_then_send" and allocation.every < _HASTY:
            message = f"the rest follows after {format_duration(allocation.every)}: most answers are still to come"
            yield Finding(("allocation", "every"), message, "write every: 4h")


class NothingToStop(Check):
    """A test is to stop early whose mails all go out at once.

    **Why.** With `policy: uniform` or `fixed` there are no later waves that stopping could spare, and stopping for
    futility then only ends the counting, at the price of what could still be learned.

    **Bad.**

    ```yaml
    allocation: {policy: uniform}
    analysis: {mde: 0.01, baseline: 0.04}
    stop: {when: [winner, futile]}
    ```

    **Good.**

    ```yaml
    allocation: {policy: thompson}
    analysis: {mde: 0.01, baseline: 0.04}
    stop: {when: [winner, futile]}
    ```

    **Fix.** Remove `futile`, or let a policy send in waves.
    """

    rule = Rule("AB208", "nothing-to-stop", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare what ends the test with how it is sent."""
        allocation = case.experiment.allocation
        if "futile" in case.experiment.stop.when and not allocation.learns and not allocation.standing:
            message = f"policy {allocation.policy} sends everything at once: stopping as futile spares nobody"
            yield Finding(("stop", "when"), message, "write when: [winner]")


class OddLevels(Check):
    """The chance of a false alarm, or that of finding a difference, is far from what is used.

    **Why.** With `alpha: 0.3` every third test without a difference names a winner; with `power: 0.3` two of three real
    differences are missed; at the other ends no list is long enough.

    **Bad.**

    ```yaml
    analysis: {alpha: 0.3}
    ```

    **Good.**

    ```yaml
    analysis: {alpha: 0.1, power: 0.9}
    ```

    **Fix.** Write `alpha` between 0.001 and 0.2, mostly 0.05, and `power` between 0.5 and 0.99, mostly 0.8.
    """

    rule = Rule("AB209", "odd-levels", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare both levels with what is used."""
        goal = case.experiment.analysis
        for name, value, (low, high), usual in (
            ("alpha", goal.alpha, _ALPHAS, 0.05),
            ("power", goal.power, _POWERS, 0.8),
        ):
            if not low <= value <= high:
                message = f"{name} is {value:g}, usual are {low:g} to {high:g}"
                yield Finding(("analysis", name), message, f"write {name}: {usual:g}")


class NoMde(Check):
    """A test is to stop as futile, and nothing says which difference is worth finding.

    **Why.** Futile means that a difference worth finding is not to be expected any more. Without `mde` neither the plan
    nor the report can tell how long a list must be, or what was missed.

    **Bad.**

    ```yaml
    stop: {when: [winner, futile]}
    ```

    **Good.**

    ```yaml
    stop: {when: [winner, futile]}
    analysis: {mde: 0.01, baseline: 0.04}
    ```

    **Fix.** Write `analysis.mde`, the smallest difference of rates that would change what you do, and `baseline`, the
    rate to expect.
    """

    rule = Rule("AB210", "no-mde", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for the difference where futility is judged."""
        exp = case.experiment
        if exp.analysis.mde is None and "futile" in exp.stop.when and exp.allocation.learns:
            message = "nothing says which difference is worth finding"
            yield Finding(("stop", "when"), message, "write analysis: {mde: 0.01, baseline: 0.04}")


class LowFloor(Check):
    """The smallest share of a variant is too low for the test to prove anything.

    **Why.** A variant that falls behind gets hardly any mail, and the interval around its difference stops shrinking.
    With two variants, a floor of 0.01 leaves a third of the power of an even split, one of 0.1 two thirds.

    **Bad.**

    ```yaml
    allocation: {policy: thompson, min_weight: 0.01}
    analysis: {mde: 0.01, baseline: 0.04}
    ```

    **Good.**

    ```yaml
    allocation: {policy: thompson, min_weight: 0.1}
    analysis: {mde: 0.01, baseline: 0.04}
    ```

    **Fix.** Write `goal: balance` or `learn`; or leave out `analysis.mde` where earning is all that is wanted.
    """

    rule = Rule("AB211", "low-floor", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the floors with what is to be proved."""
        exp = case.experiment
        proves = exp.analysis.mde is not None and "winner" in exp.stop.when
        if exp.allocation.policy in LEARNING and proves and exp.min_weight * len(exp.cells) < _PROVING - _SLACK:
            message = f"a variant may fall to {exp.min_weight:g} of the mail: its interval would hardly shrink"
            yield Finding(("allocation", "min_weight"), message, "write goal: balance, or leave analysis.mde out")


RULES: Final[tuple[Check, ...]] = (
    Underpowered(),
    OpensDecide(),
    NothingTracked(),
    LongTest(),
    HighFloor(),
    ManyArms(),
    HastyChoice(),
    NothingToStop(),
    OddLevels(),
    NoMde(),
    LowFloor(),
)


def _mails(case: Case) -> int | None:
    """Mails that are compared; None where the list is not known as a whole, or holds nobody."""
    if case.around.people is None or case.around.people.is_sample:
        return None
    allocation = case.experiment.allocation
    share = allocation.first_wave if allocation.policy == "test_then_send" else 1.0
    return round(len(case.people) * (1 - case.experiment.audience.holdout) * share) or None


def _needed(case: Case, mde: float, baseline: float) -> int:
    goal, cells = case.experiment.analysis, len(case.experiment.cells)
    return needed(baseline=baseline, effect=mde, power=goal.power, cells=cells, alpha=goal.alpha)
