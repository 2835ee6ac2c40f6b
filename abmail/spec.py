"""The definition of an experiment: a frozen value read from one YAML file, with every problem reported at its place.

`load` reads a file, `loads` a text and `Experiment.from_dict` plain data; all three raise `SpecError` with every
problem found. `decode` never raises: it returns the experiment or the problems.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Final

from abmail._document import Document
from abmail._fields import Refusal, advice, choice, describe_part, read_part, write_part
from abmail._spec_allocation import LATER_DEFAULTS as _LATER_SHARES
from abmail._spec_allocation import Allocation, bad_allocation, default_floor
from abmail._spec_cells import (
    MOST_CELLS,
    Control,
    Factors,
    bad_control,
    bad_shares,
    cell_names,
    count_cells,
    level_names,
)
from abmail._spec_metrics import LATER_DEFAULTS as _LATER_METRICS
from abmail._spec_metrics import EventSources, Metrics, ValueMetric
from abmail._spec_privacy import Privacy, bad_privacy
from abmail._spec_problems import Origin, from_refusals, in_order
from abmail._spec_times import LATER_DEFAULTS as _LATER_TIMES
from abmail._spec_times import Caps, SendTimes, bad_caps, bad_times, with_days_of_files
from abmail._spec_types import (
    Duration,
    Ending,
    Expression,
    Factor,
    FallBack,
    Flag,
    Goal,
    Guardrail,
    Holdout,
    Language,
    Line,
    Mailbox,
    Mode,
    Name,
    OpenShare,
    Outcome,
    Policy,
    ProjectPath,
    ProjectPaths,
    Sender,
    StopReason,
    StopReasons,
    Text,
    Uncertain,
    Unit,
    Version,
    Weekday,
    require_name,
)
from abmail._spec_versions import migrate
from abmail._starter import starter
from abmail._values import BadValue, FrozenDict, TimeWindow, shown
from abmail.diagnostics import Diagnostic, Place
from abmail.errors import SpecError

__all__ = [
    "Allocation",
    "Analysis",
    "Audience",
    "Caps",
    "Cell",
    "Ending",
    "EventSources",
    "Experiment",
    "Factor",
    "FallBack",
    "Goal",
    "Guardrail",
    "Language",
    "Message",
    "Metrics",
    "Mode",
    "Outcome",
    "Policy",
    "SendTimes",
    "Stop",
    "StopReason",
    "TimeWindow",
    "Unit",
    "ValueMetric",
    "Weekday",
    "decode",
    "decode_file",
    "json_schema",
    "load",
    "loads",
    "require_name",
    "starter",
]

_LATER: Final = (("allocation", _LATER_SHARES), ("send_time", _LATER_TIMES), ("metrics", _LATER_METRICS))
_EMPTY: Final = "`abmail new NAME` writes a start"
_WEIGHTS_WITH_FIXED: Final = {
    "if": {"properties": {"policy": {"const": "fixed"}}, "required": ["policy"]},
    "then": {"properties": {"weights": {"type": "object"}}, "required": ["weights"]},
    "else": {"properties": {"weights": {"type": "null"}}},
}


# --- the parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The mail that the variants share.

    Attributes:
        template: HTML template, a path from the project folder.
        text_template: Template of the plain-text part; made from the HTML where it is absent.
        sender: ``Name <address>`` or an address; the key is ``from``. The factor ``from_name`` replaces the name.
        subject: Subject line where it is not a factor.
        preheader: Preview text where it is not a factor.
        reply_to: Where answers go.
        language: Language of the fixed texts (footer, unsubscribe page).
        attachments: Files that come with the mail, paths from the project folder; at most 5 MB in all.
        images: Pictures shown inside the mail as ``cid:name.png``, paths from the project folder.
        inline_css: Write the style sheet into the tags, for mail programs that drop it.
        honeypot: Put a link into the mail that no reader sees: who follows it is a scanner. Filters may mind it.
        uncertain: Where nobody knows if a mail arrived: ``hold`` it, ``resend`` it once, ``reconcile`` after a day.
    """

    template: ProjectPath
    text_template: ProjectPath | None = None
    sender: Sender
    subject: Line | None = None
    preheader: Line | None = None
    reply_to: Mailbox | None = None
    language: Annotated[Language, choice(Language)] | None = None
    attachments: ProjectPaths | None = None
    images: ProjectPaths | None = None
    inline_css: Flag | None = None
    honeypot: Flag | None = None
    uncertain: Annotated[Uncertain, choice(Uncertain)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who takes part.

    Attributes:
        segment: Expression over the attributes; everybody where it is absent.
        holdout: Share that gets no mail, fraction in [0, 1).
        unit: What is assigned as one: a recipient, or all recipients of one company, by mail domain.
    """

    segment: Expression | None = None
    holdout: Holdout = 0.0
    unit: Annotated[Unit, choice(Unit)] = "recipient"


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What is promised of the statistics.

    Attributes:
        alpha: Probability of a false alarm over all looks, in (0, 1).
        mde: Smallest difference of rates worth finding, in (0, 1).
        power: Probability of finding it, in (0, 1).
        baseline: Expected rate of the control, in (0, 1).
    """

    alpha: OpenShare = 0.05
    mde: OpenShare | None = None
    power: OpenShare = 0.8
    baseline: OpenShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """When the test ends, and what then happens to the rest of the list.

    Attributes:
        after: Longest time from the first send.
        when: Verdicts that end it earlier.
        then: With a winner.
        inconclusive: Without one.
        too_small: With a list too small to show the smallest difference worth finding.
    """

    after: Duration = timedelta(days=14)
    when: StopReasons = ("winner",)
    then: Annotated[Ending, choice(Ending)] = "send_winner"
    inconclusive: Annotated[FallBack, choice(FallBack)] = "send_control"
    too_small: Annotated[FallBack, choice(FallBack)] = "send_control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One variant: a level of each factor.

    Attributes:
        index: Place in `Experiment.cells`, 0-based.
        name: The levels joined with ``+``: ``number``, ``number+register``.
        levels: Level of each factor.
        content: Text of each factor.
    """

    index: int
    name: str
    levels: Mapping[Factor, str]
    content: Mapping[Factor, str]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The whole definition of an experiment, made by `load`, `loads` or `Experiment.from_dict`, which check it.

    Attributes:
        spec: Version of the file format.
        name: Lower-case letters, digits and hyphens; unique in a project.
        salt: What the assignment is mixed with; the name where it is absent. Changing it deals the cards anew.
        hypothesis: What is expected to happen, and why.
        factors: What varies: the levels of each factor with their texts, in an order that numbers the cells.
        control: The level of each factor that the others are compared with.
        message: The mail that the variants share.
        audience: Who takes part.
        send_time: When a mail may go out.
        allocation: How the mail is shared among the cells.
        metrics: What is measured.
        analysis: What is promised of the statistics.
        stop: When the test ends, and what then happens to the rest of the list.
        privacy: What is learned of single people.
    """

    spec: Version
    name: Name
    salt: Text = ""
    hypothesis: Text = ""
    factors: Factors
    control: Control
    message: Message
    audience: Audience = Audience()
    send_time: SendTimes = field(default_factory=SendTimes)
    allocation: Allocation = field(default_factory=Allocation)
    metrics: Metrics = field(default_factory=Metrics)
    analysis: Analysis = Analysis()
    stop: Stop = Stop()
    privacy: Privacy | None = None
    _origin: Origin = field(default=Origin(), init=False, repr=False, compare=False)
    _before: tuple[tuple[str, ...], ...] = field(default=(), init=False, repr=False, compare=False)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every combination of levels, in the order of the file: the last factor varies fastest.

        Where the definition goes on from an earlier version, that one's cells come first, in its order.
        """
        names: tuple[Factor, ...] = tuple(self.factors)
        places = {levels: place for place, levels in enumerate(self._before)}
        ordered = sorted(self.combinations, key=lambda levels: places.get(levels, len(places)))
        return tuple(self._make_cell(i, dict(zip(names, levels, strict=True))) for i, levels in enumerate(ordered))

    @property
    def combinations(self) -> tuple[tuple[str, ...], ...]:
        """The levels of each cell in the order of the file, whatever version the definition goes on from."""
        return tuple(itertools.product(*self.factors.values()))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Place of each cell among the combinations, (n_cells,)."""
        place = {levels: i for i, levels in enumerate(self.combinations)}
        return tuple(place[tuple(cell.levels[factor] for factor in self.factors)] for cell in self.cells)

    def going_on_from(self, earlier: Experiment) -> Experiment:
        """The same definition with the cells of an earlier version first, by whose numbers mails are out already.

        Raises:
            ValueError: A cell of the earlier version is gone.
        """
        before = tuple(tuple(cell.levels[factor] for factor in self.factors) for cell in earlier.cells)
        if gone := set(before) - set(self.combinations):
            raise ValueError(f"the cell {'+'.join(min(gone))} of an earlier version is gone")
        made = replace(self)
        object.__setattr__(made, "_origin", self._origin)
        object.__setattr__(made, "_before", before)
        return made

    def _make_cell(self, index: int, levels: dict[Factor, str]) -> Cell:
        content = {factor: self.factors[factor][level] for factor, level in levels.items()}
        return Cell(index=index, name="+".join(levels.values()), levels=FrozenDict(levels), content=FrozenDict(content))

    @cached_property
    def control_cell(self) -> Cell:
        """The cell that the others are compared with."""
        return next(cell for cell in self.cells if cell.levels == self.control)

    def cell(self, name: str) -> Cell:
        """Find a cell by its name.

        Raises:
            ValueError: No such cell; the message names the nearest.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        names = tuple(cell.name for cell in self.cells)
        raise ValueError(f"no cell {shown(name)} in the experiment {self.name}; {advice(name, names)}")

    def tracks(self, attributes: Mapping[str, str]) -> bool:
        """Whether opens and clicks of a recipient with these attributes may be tracked."""
        return (self.privacy or Privacy()).tracks(attributes)

    @property
    def counts_crowds(self) -> bool:
        """Whether opens and clicks are counted without knowing whose they are."""
        return self.privacy is not None and self.privacy.mode == "aggregate"

    @property
    def keeps_requests(self) -> bool:
        """Whether addresses and User-Agents of readers are kept with their opens and clicks."""
        return self.privacy is not None and self.privacy.mode == "identified"

    @property
    def min_weight(self) -> float:
        """Smallest share of a cell under a policy that learns, fraction in [0, 1 / cells]."""
        floor = self.allocation.min_weight
        return default_floor(len(self.cells), self.allocation.goal) if floor is None else floor

    @cached_property
    def spec_hash(self) -> str:
        """16 hex digits that stay the same while the definition means the same.

        The SHA-256 of the resolved definition as JSON with sorted keys; the factors and their levels, whose order
        numbers the cells, go in as lists of pairs. Keys that came later go in where they say more than their default,
        so that definitions which don't know them keep their hash.
        """
        import hashlib  # with json, 8 ms that a check does not need
        import json

        plain = self.resolved()
        for part, later in _LATER:
            plain[part] = {key: value for key, value in plain[part].items() if later.get(key, ...) != value}
        plain["factors"] = [[factor, list(levels.items())] for factor, levels in self.factors.items()]
        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]

    def resolved(self) -> dict[str, Any]:
        """The whole definition with every default spelled out: plain data for JSON that `from_dict` reads back."""
        return write_part(self)

    @property
    def path(self) -> str | None:
        """The file that the definition was read from, as the caller named it; None for other sources."""
        return self._origin.source.path if self._origin.source is not None else None

    def place(self, *location: str | int, key: bool = False, offset: int | None = None) -> Place:
        """Where a value (or its key) stands in the file: ``experiment.place("allocation", "policy")``.

        What the file leaves to its default is placed at the nearest key around it. With ``offset``, a character of the
        value is meant.
        """
        return self._origin.place(location, key=key, offset=offset)

    def comments(self, mark: str) -> Iterator[tuple[Place, str, int]]:
        """Comments of the file that hold a mark: place, text, and the line that each is about.

        That is its own line, or the next one that says something where the comment stands alone.
        """
        return self._origin.comments(mark)

    def written(self, *location: str | int) -> object:
        """A value as plain data as the file has it, before it is read; None where the file says nothing there."""
        return self._origin.written(location)

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Experiment:
        """Read a definition from plain data, such as that of `resolved`.

        Raises:
            SpecError: With every problem; the places are the keys, there is no file to point into.
        """
        experiment, problems = _build(value, Origin())
        return _or_raise((experiment, in_order(problems)))


# --- what no field can see alone --------------------------------------------------------------------------------------


def _conflicts(part: type[Any], read: Mapping[str, Any], raw: Mapping[Any, object]) -> Iterator[Refusal]:
    """Say what the fields of a part contradict, as far as they could be read; locations below the part."""
    if part is SendTimes:
        yield from bad_times(read)
    elif part is Caps:
        yield from bad_caps(read)
    elif part is Analysis:
        yield from _conflicts_of_rates(read)
    elif part is Allocation:
        yield from bad_allocation(read)
    elif part is Experiment:
        yield from _conflicts_of_cells(read, raw)
        yield from bad_privacy(read)


def _conflicts_of_rates(read: Mapping[str, Any]) -> Iterator[Refusal]:
    mde, baseline = read.get("mde"), read.get("baseline")
    if mde is not None and baseline is not None and mde + baseline >= 1.0:
        yield ("baseline",), BadValue(f"{baseline:g} and the mde {mde:g} come to 1 or more: no rate is that high")


def _conflicts_of_cells(read: Mapping[str, Any], raw: Mapping[Any, object]) -> Iterator[Refusal]:
    levels = level_names(raw)
    if levels is None:
        return
    for location, problem in bad_control(raw.get("control"), levels):
        yield ("control", *location), problem
    allocation: Allocation | None = read.get("allocation", None if "allocation" in raw else Allocation())
    if allocation is None or not 1 < count_cells(levels) <= MOST_CELLS:
        return
    policy, weights, floor = allocation.policy, allocation.weights, allocation.min_weight
    for location, problem in bad_shares(cell_names(levels), policy=policy, weights=weights, floor=floor):
        yield ("allocation", *location), problem


# --- reading ----------------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Experiment:
    """Read a definition from a file.

    Raises:
        SpecError: With every problem of the file; an unreadable file is one, too.
    """
    return _or_raise(decode_file(path))


def loads(text: str | bytes, *, path: str = "<string>") -> Experiment:
    """Read a definition from a text; ``path`` names it in messages.

    Raises:
        SpecError: With every problem of the text.
    """
    return _or_raise(decode(text, path))


def _or_raise(decoded: tuple[Experiment | None, tuple[Diagnostic, ...]]) -> Experiment:
    experiment, problems = decoded
    if experiment is None:
        raise SpecError(problems)
    return experiment


def decode_file(path: str | os.PathLike[str]) -> tuple[Experiment | None, tuple[Diagnostic, ...]]:
    """Read a definition from a file; never raises for what it holds or for being unreadable.

    Returns:
        As `decode`; a file that cannot be read is a finding with the code AB100.
    """
    return _decoded(Document.of_file(path, empty=_EMPTY))


def decode(text: str | bytes, path: str) -> tuple[Experiment | None, tuple[Diagnostic, ...]]:
    """Read a definition from a text; never raises for what it holds.

    Args:
        text: YAML 1.2; bytes are UTF-8.
        path: Names the text in the findings.

    Returns:
        The experiment, None where the text has an error; and every problem, in the order of the text.
    """
    return _decoded(Document.of_text(text, path, empty=_EMPTY))


def _decoded(document: Document) -> tuple[Experiment | None, tuple[Diagnostic, ...]]:
    if document.root is None:
        return None, in_order(document.findings)
    migrate(document.root)
    experiment, invalid = _build(document.root.data, document.origin)
    findings = in_order((*document.findings, *invalid))
    return (None if findings else experiment), findings


def _build(data: object, origin: Origin) -> tuple[Experiment | None, tuple[Diagnostic, ...]]:
    experiment, refusals = read_part(Experiment, data, _conflicts)
    if experiment is None:
        return None, tuple(from_refusals(refusals, origin))
    allocation = experiment.allocation
    if allocation.policy != "test_then_send":
        allocation = replace(allocation, min_weight=experiment.min_weight)
    times, refusals = with_days_of_files(experiment.send_time, origin)
    if refusals:
        return None, tuple(from_refusals(refusals, origin))
    salt = experiment.salt or experiment.name
    complete = replace(experiment, salt=salt, allocation=allocation, send_time=times)
    object.__setattr__(complete, "_origin", origin)
    return complete, ()


# --- the schema for editors -------------------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a definition file, for editors.

    It accepts every file that `load` accepts; what depends on several values at once, on the list of time zones or on
    the grammar of segments is left to `load`.
    """
    draft = "https://json-schema.org/draft/2020-12/schema"
    schema = {"$schema": draft, "title": "abmail experiment", **describe_part(Experiment)}
    schema["properties"]["allocation"].update(_WEIGHTS_WITH_FIXED)
    return schema
