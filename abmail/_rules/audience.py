"""AB3, audience: whether the definition reaches the people that it means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from abmail._fields import Location, advice
from abmail._rules.base import Case, Check, Finding
from abmail.diagnostics import Rule

__all__ = ["RULES"]

_OWN: Final = ("id", "email", "domain")
_FEWEST_A_CELL: Final = 100
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")


class UnknownAttribute(Check):
    """A segment, or what the shares go by, names an attribute that the list does not have.

    **Why.** What nobody has is not equal to anything: the segment takes in nobody, or everybody, and the test goes to
    other people than was meant.

    **Bad.**

    ```yaml
    audience: {segment: "stge == 'warm'"}
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Good.**

    ```yaml
    audience: {segment: "stage == 'warm'"}  # abmail: ignore-file[AB303] two friends first
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Fix.** Correct the name, or import the column. The list is known with `--audience FILE`, `audience` in `[check]`,
    or a database.
    """

    rule = Rule("AB301", "unknown-attribute")
    needs = ("people",)

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the names that are used with the list's columns."""
        exp, people = case.experiment, case.around.people
        if people is None or not people.columns:
            return
        known = (*_OWN, *sorted(people.columns))
        segment = exp.audience.segment
        for name in sorted(segment.names if segment else ()):
            if name not in known:
                place = exp.place("audience", "segment", offset=_offset(segment.text if segment else "", name))
                message = f"the list has no column {name}"
                yield Finding(("audience", "segment"), message, advice(name, known), place=place)
        shared: list[tuple[Location, str | None]] = [(("allocation", "segments"), exp.allocation.segments)]
        shared += [(("allocation", "features", name), name) for name in exp.allocation.features or ()]
        for location, used in shared:
            if used is not None and used not in known:
                at_key = location[-1] == used
                yield Finding(location, f"the list has no column {used}", advice(used, known), at_key=at_key)


class EmptySegment(Check):
    """Nobody on the list is in the segment.

    **Why.** Not one mail would go out.

    **Bad.**

    ```yaml
    audience: {segment: "stage == 'Warm'"}
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Good.**

    ```yaml
    audience: {segment: "stage == 'warm'"}  # abmail: ignore-file[AB303] two friends first
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Fix.** Compare the expression with the list: `abmail audience list --segment EXPRESSION`. Capitals count.
    """

    rule = Rule("AB302", "empty-segment")
    needs = ("people",)

    def find(self, case: Case) -> Iterator[Finding]:
        """Count who is in the segment."""
        people = case.around.people
        if people is None or people.is_sample or case.people or any(UnknownAttribute().find(case)):
            return
        if not (everybody := people.within(None)):
            return
        message = f"nobody of {len(everybody):,} on the list is in the segment"
        yield Finding(("audience", "segment"), message, "look at `abmail audience list --segment EXPRESSION`")


class TinySegment(Check):
    """Fewer than a hundred people are left for each variant.

    **Why.** With a hundred mails a variant, clicks at 4 % are four; whichever variant comes first is chance.

    **Bad.**

    ```yaml
    audience: {segment: "stage == 'warm'"}
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Good.**

    ```yaml
    allocation: {standing: true}  # abmail: ignore-file[AB304] it is a welcome mail
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Fix.** Widen the segment, test fewer variants, or send one mail to all. Where people keep coming, write
    `allocation.standing: true`; where the file is an excerpt of the list, `audience_is_sample = true` in `[check]`.
    """

    rule = Rule("AB303", "tiny-segment", "warning")
    needs = ("people",)

    def find(self, case: Case) -> Iterator[Finding]:
        """Divide who is in the segment among the cells."""
        people, cells = case.around.people, len(case.experiment.cells)
        if people is None or people.is_sample or case.experiment.allocation.standing:
            return
        n = len(case.people)
        if 0 < n < _FEWEST_A_CELL * cells:
            message = f"{n:,} people for {cells} variants are about {n // cells} each"
            key = ("audience", "segment") if case.experiment.audience.segment else ("factors",)
            yield Finding(key, message, "widen the segment, or test fewer variants", at_key=key == ("factors",))


class NoHoldout(Check):
    """What mailing brings is to be told, and everybody is mailed.

    **Why.** People buy, and leave, without a mail, too. What the mails bring can only be told beside people who get
    none: for what they earn (`metrics.value`), and for a test without an end, which becomes the usual mail.

    **Bad.**

    ```yaml
    metrics: {value: {event: converted, unit: EUR}}
    ```

    **Good.**

    ```yaml
    metrics: {value: {event: converted, unit: EUR}}
    audience: {holdout: 5 %}
    ```

    **Fix.** Write `audience: {holdout: 0.05}`. Where only the variants are to be compared, ignore the finding.
    """

    rule = Rule("AB304", "no-holdout", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for a holdout where one is needed."""
        exp = case.experiment
        if exp.audience.holdout:
            return
        if exp.metrics.value is not None:
            message = "nobody is held out: what the mails bring beside what comes by itself cannot be told"
            yield Finding(("metrics", "value"), message, "write audience: {holdout: 0.05}", at_key=True)
        elif exp.allocation.standing:
            message = "nobody is held out of a test without an end: whether its mails do any good cannot be told"
            yield Finding(("allocation", "standing"), message, "write audience: {holdout: 0.05}")


class Overlap(Check):
    """People take part in another experiment that runs.

    **Why.** Who gets the mails of two tests answers the second one under the impression of the first. Chance spreads
    that evenly over the variants, and still people get more mail than either test knows of.

    **Bad.**

    ```yaml before
    name: another
    ```

    ```yaml
    hypothesis: A number raises clicks.
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Good.**

    ```yaml before
    name: another
    audience: {segment: "stage == 'cold'"}
    ```

    ```yaml
    audience: {segment: "stage == 'warm'"}  # abmail: ignore-file[AB303] two friends first
    ```

    ```csv leads.csv
    email,stage
    anna@example.com,warm
    ```

    **Fix.** Give the two segments that exclude each other, begin the second one when the first has ended, or say with
    `send_time.caps` how much mail a person gets from all of them.
    """

    rule = Rule("AB305", "overlap", "warning")
    needs = ("people", "running")

    def find(self, case: Case) -> Iterator[Finding]:
        """Count who is in the segments of both."""
        exp, around = case.experiment, case.around
        if around.people is None or around.running is None or exp.send_time.caps is not None:
            return
        ours = {each.id for each in case.people}
        for other, _ in around.running():
            if other.name == exp.name or not ours:
                continue
            shared = sum(each.id in ours for each in around.people.within(other.audience.segment))
            if shared:
                message = f"{shared:,} of {len(ours):,} recipients also take part in {other.name}, which runs"
                key = ("audience", "segment") if exp.audience.segment else ("name",)
                yield Finding(key, message, "exclude each other's people, or limit their mail with send_time.caps")


RULES: Final[tuple[Check, ...]] = (UnknownAttribute(), EmptySegment(), TinySegment(), NoHoldout(), Overlap())


def _offset(text: str, name: str) -> int | None:
    """Where a name stands in an expression, outside of texts in quotes."""
    bare = _QUOTED.sub(lambda found: " " * len(found[0]), text)
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", bare)
    return found.start() if found else None
