"""AB2, statistics: whether the test can show what it is made for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from abmail._rules.base import Case, Check, Finding
from abmail._spec_allocation import LEARNING
from abmail.diagnostics import Rule

__all__ = ["RULES"]

_EARNING: Final = 0.4
_SLACK: Final = 1e-9


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


RULES: Final[tuple[Check, ...]] = (OpensDecide(), HighFloor(), NothingTracked())
