"""AB5, time: whether mail can go out when the definition says, and whether the test lasts long enough to be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from abmail._rules.base import Case, Check, Finding
from abmail._values import format_duration
from abmail.diagnostics import Rule

__all__ = ["RULES"]

_SHORT_WAIT: Final = timedelta(hours=6)


class ShortWait(Check):
    """Mails may wait for a few hours only to reach the hour at which each person reads.

    **Why.** A mail that may wait for less than six hours seldom reaches a better one.

    **Bad.**

    ```yaml
    send_time: {mode: learn, within: 4h}
    ```

    **Good.**

    ```yaml
    send_time: {mode: learn, within: 1d}
    ```

    **Fix.** Write `within: 1d`, or `mode: fixed` where mail cannot wait.
    """

    rule = Rule("AB502", "short-wait", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the wait."""
        times = case.experiment.send_time
        if times.mode == "learn" and times.within < _SHORT_WAIT:
            message = (
                f"mails may wait {format_duration(times.within)} for a better hour: little is gained under 6 hours"
            )
            yield Finding(("send_time", "within"), message, "write within: 1d")


class NoControl(Check):
    """Hours are chosen for everybody.

    **Why.** Without people at a fixed hour nobody can tell what choosing the hour brings.

    **Bad.**

    ```yaml
    send_time: {mode: learn, control: 0}
    ```

    **Good.**

    ```yaml
    send_time: {mode: learn, control: 0.1}
    ```

    **Fix.** Write `control: 0.1`: a tenth keeps the fixed hour.
    """

    rule = Rule("AB503", "no-control", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the share of people at the fixed hour."""
        times = case.experiment.send_time
        if times.mode == "learn" and not times.control:
            message = "nobody keeps the fixed hour: the gain cannot be proved"
            yield Finding(("send_time", "control"), message, "write control: 0.1")


RULES: Final[tuple[Check, ...]] = (ShortWait(), NoControl())
