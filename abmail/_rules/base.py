"""What a rule is: its code, what it finds in a definition, and the page that explains it, which is its docstring.

A page begins with what the rule says in one sentence; **Why.**, **Bad.**, **Good.** and **Fix.** follow. The examples
are fenced blocks, and tests check them: a YAML block shows the keys in question, the rest of the file being as `abmail
new` writes it; a block of another file has its name behind the language.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Protocol

from abmail._fields import Location
from abmail._rules.mail import Mail, read_mail
from abmail.diagnostics import Place, Rule
from abmail.spec import Experiment

if TYPE_CHECKING:
    from abmail._wording import Language
    from abmail.recipient import Recipient
    from abmail.segment import Segment

__all__ = ["ALONE", "Around", "Case", "Check", "Example", "Finding", "Moves", "Page", "People"]

_PART: Final = re.compile(r"^\*\*(Why|Bad|Good|Fix)\.\*\*", re.MULTILINE)
_FENCED: Final = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Finding(NamedTuple):
    """What a rule found, at a key or value of the definition."""

    location: Location
    message: str
    hint: str = ""
    at_key: bool = False
    place: Place | None = None  # in another file than the definition's


class People(Protocol):
    """The list of those who could get the mail."""

    @property
    def columns(self) -> frozenset[str]:
        """Names of what is known of them, beside id and address."""

    @property
    def is_sample(self) -> bool:
        """Whether it holds some of them only, so that its size says nothing."""

    def within(self, segment: Segment | None) -> Sequence[Recipient]:
        """Those whom a segment takes in; all of them without one."""


class Moves(NamedTuple):
    """How many of the people in an audience a change would give another variant, or none, or one after all."""

    moved: int
    people: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is known beside a definition. A rule that needs what is None keeps still.

    Attributes:
        today: The day; nothing is called past without it.
        people: The list.
        names: File in which each name of an experiment stands first, of those of its project that are checked.
        earlier: What runs by a name, as its definition stood when it was applied; None where nothing does.
        running: What runs, each with the place that tells of it.
        ended: What ran by a name and has ended.
        sources: Files that the mails of what runs by a name are made of: path in its project -> content.
        moves: How many people another definition would move.
        language: Of what is said of changes to what runs.
    """

    today: date | None = None
    people: People | None = None
    names: Mapping[str, str] | None = None
    earlier: Callable[[str], Experiment | None] | None = None
    running: Callable[[], Sequence[tuple[Experiment, str]]] | None = None
    ended: Callable[[str], Experiment | None] | None = None
    sources: Callable[[str], Mapping[str, bytes]] | None = None
    moves: Callable[[Experiment, Experiment], Moves | None] | None = None
    language: Language = "en"


ALONE: Final = Around()
"""Nothing is known beside the definition."""


@dataclass(frozen=True)
class Case:
    """What a rule looks at.

    Attributes:
        experiment: The definition.
        folders: Where its templates may lie; none where that is not to be told.
        around: What is known beside it.
    """

    experiment: Experiment
    folders: tuple[Path, ...] = ()
    around: Around = ALONE

    @cached_property
    def people(self) -> tuple[Recipient, ...]:
        """Those on the list whom the segment takes in; nobody where there is no list."""
        return tuple(self.around.people.within(self.experiment.audience.segment)) if self.around.people else ()

    @cached_property
    def mail(self) -> Mail | None:
        """What would be sent; None where a file is missing."""
        return read_mail(self.experiment, self.folders, self.people)

    def say(self, english: str, japanese: str) -> str:
        """The one of two texts that is to be told."""
        return japanese if self.around.language == "ja" else english


class Example(NamedTuple):
    """A file, or the keys of a definition in question, on the page of a rule."""

    language: str
    file: str  # its path in the project; empty for the definition
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What people read about a rule.

    Attributes:
        summary: What it says, in one sentence.
        why: Why that is bad.
        fix: What to do.
        bad: Files for which the rule speaks.
        good: Files for which it does not.
    """

    summary: str
    why: str
    fix: str
    bad: tuple[Example, ...]
    good: tuple[Example, ...]
    _parts: tuple[str, str] = field(repr=False)  # the examples as written

    @classmethod
    def of(cls, text: str) -> Page:
        """Take a docstring apart.

        Raises:
            ValueError: A part is missing.
        """
        summary, *parts = (part.strip() for part in _PART.split(text))
        found = dict(zip(parts[::2], parts[1::2], strict=True))
        if list(found) != ["Why", "Bad", "Good", "Fix"] or not all((summary, *found.values())):
            raise ValueError(f"a page has a sentence, **Why.**, **Bad.**, **Good.** and **Fix.**, not {list(found)}")
        return cls(
            summary=summary,
            why=found["Why"],
            fix=found["Fix"],
            bad=_examples(found["Bad"]),
            good=_examples(found["Good"]),
            _parts=(found["Bad"], found["Good"]),
        )

    def markdown(self, rule: Rule) -> str:
        """The page as a section of a Markdown document."""
        bad, good = self._parts
        return (
            f"## {rule.code} {rule.name}\n\n{self.summary} ({rule.severity})\n\n**Why.** {self.why}\n\n"
            f"**Bad.**\n\n{bad}\n\n**Good.**\n\n{good}\n\n**Fix.** {self.fix}\n"
        )


class Check:
    """A rule over definitions; its docstring is its page.

    Attributes:
        rule: Code, name and severity.
        needs: Parts of `Around` without which it keeps still.
    """

    rule: ClassVar[Rule]
    needs: ClassVar[tuple[str, ...]] = ()

    def find(self, case: Case) -> Iterator[Finding]:
        """Say where the rule speaks; nothing for what is found while a definition is read."""
        del case
        yield from ()

    def can_judge(self, around: Around) -> bool:
        """Whether all that the rule needs is known."""
        return not self.needs or all(getattr(around, name) is not None for name in self.needs)

    @property
    def page(self) -> Page:
        """What people read about the rule."""
        return Page.of(inspect.getdoc(self) or "")


def _examples(text: str) -> tuple[Example, ...]:
    return tuple(Example(language, file, code) for language, file, code in _FENCED.findall(text))
