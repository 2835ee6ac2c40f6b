"""AB1, order: lists whose order says nothing stand in the usual one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from abmail._fix import SORTED, out_of_order
from abmail._rules.base import Case, Check, Finding
from abmail.diagnostics import Rule

__all__ = ["RULES"]


class Unsorted(Check):
    """A list whose order has no meaning is not in the usual order.

    **Why.** Two people who write the same days in two orders get a difference in review that is none, and a list that
    jumps is read wrongly: a day that is missing is easily overlooked.

    **Bad.**

    ```yaml
    send_time: {days: [wed, mon, tue]}
    ```

    **Good.**

    ```yaml
    send_time: {days: [mon, tue, wed]}
    ```

    **Fix.** `abmail check --fix` puts days of the week and reasons to stop into order, where no comment stands between
    them; `abmail check --diff` shows it before.
    """

    rule = Rule("AB111", "unsorted", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at each list as it is written."""
        for (part, name), order in SORTED.items():
            written = case.experiment.written(part, name)
            if isinstance(written, list) and out_of_order(written, order):
                usual = ", ".join(sorted(written, key=order.index))
                yield Finding((part, name), f"{part}.{name} is not in the usual order", f"write [{usual}]")


RULES: Final[tuple[Check, ...]] = (Unsorted(),)
