"""The definition of an experiment: a frozen value read from one YAML file, with every problem reported at its place.

`load` reads a file, `loads` a text and `Experiment.from_dict` plain data; all three raise `SpecError` with every
problem found. `decode` never raises: it returns what it could read beside the problems.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator

from abmail import _yaml
from abmail._spec_cells import Control, Factors, cell_names, default_floor, level_names, require_shares
from abmail._spec_problems import (
    MISSING_KEY,
    UNREADABLE_FILE,
    YAML_SYNTAX,
    Location,
    Origin,
    from_text,
    from_validation,
)
from abmail._spec_types import (
    WEEK,
    Clock,
    Days,
    Duration,
    Expression,
    Factor,
    Guardrail,
    Guardrails,
    Holdout,
    Line,
    LocalZone,
    Mailbox,
    Name,
    OpenShare,
    Outcome,
    Policy,
    PositiveShare,
    ProjectPath,
    Share,
    StopReason,
    StopReasons,
    Unit,
    Weekday,
    Weights,
    Window,
    Zone,
    require_name,
)
from abmail._values import (
    BadValue,
    FrozenDict,
    TimeWindow,
    format_duration,
    format_time,
    nearest,
    shown,
)
from abmail.diagnostics import Diagnostic, Place, Source, sort_key
from abmail.errors import SpecError

__all__ = [
    "Allocation",
    "Analysis",
    "Audience",
    "Cell",
    "Experiment",
    "Factor",
    "Guardrail",
    "Message",
    "Metrics",
    "Outcome",
    "Policy",
    "SendTimes",
    "Stop",
    "StopReason",
    "TimeWindow",
    "Unit",
    "Weekday",
    "decode",
    "decode_file",
    "json_schema",
    "load",
    "loads",
    "require_name",
]

_MOST_BYTES: Final = 256 * 1024


# --- the parts --------------------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class Message(_Part):
    """The mail that the variants share.

    Attributes:
        template: HTML template, a path from the project folder.
        text_template: Template of the plain-text part; made from the HTML where it is absent.
        sender: ``Name <address>`` or an address; the key is ``from``. The factor ``from_name`` replaces the name.
        subject: Subject line where it is not a factor.
        preheader: Preview text where it is not a factor.
        reply_to: Where answers go.
        language: Language of the fixed texts (footer, unsubscribe page).
    """

    template: ProjectPath
    text_template: ProjectPath | None = None
    sender: Mailbox = Field(alias="from")
    subject: Line | None = None
    preheader: Line | None = None
    reply_to: Mailbox | None = None
    language: Literal["en", "ja"] | None = None


class Audience(_Part):
    """Who takes part.

    Attributes:
        segment: Expression over the attributes; everybody where it is absent.
        holdout: Share that gets no mail, fraction in [0, 1).
        unit: What is assigned as one: a recipient, or all recipients of one mail domain.
    """

    segment: Expression | None = None
    holdout: Holdout = 0.0
    unit: Unit = "recipient"


class SendTimes(_Part):
    """When a mail may go out.

    Attributes:
        mode: ``fixed`` sends as soon as the window allows (or at ``at``); ``learn`` and ``test`` vary the hour.
        between: Window of the day; the whole day where it is absent.
        at: Local time of day, with mode ``fixed`` alone.
        days: Days of the week, Monday first.
        zone: ``recipient`` (each one's own) or an IANA name for everybody.
        default_zone: IANA name for recipients whose zone is unknown.
    """

    mode: Literal["fixed", "learn", "test"] = "fixed"
    between: Window | None = None
    at: Clock | None = None
    days: Days = WEEK
    zone: LocalZone = "recipient"
    default_zone: Zone = "UTC"

    @field_validator("at")
    @classmethod
    def _at_fits(cls, at: time | None, info: ValidationInfo) -> time | None:
        mode, between = info.data.get("mode"), info.data.get("between")
        if at is not None and mode not in (None, "fixed"):
            raise BadValue(f"`at` has no meaning with mode {mode}", hint="write `between`, or mode: fixed")
        if at is not None and isinstance(between, TimeWindow) and at not in between:
            raise BadValue(f"{format_time(at)} is outside of between: {between}", hint="leave one of the two out")
        return at

    @property
    def weekdays(self) -> frozenset[int]:
        """The allowed days as numbers, 0 = Monday."""
        return frozenset(WEEK.index(day) for day in self.days)


class Allocation(_Part):
    """How the mail is shared among the cells.

    Attributes:
        policy: ``thompson`` shifts mail to what works, wave by wave; ``uniform`` splits evenly; ``fixed`` by weights.
        weights: Share of each cell by its name, sum 1; with policy ``fixed`` alone.
        min_weight: Smallest share of a cell under ``thompson``; min(0.10, 0.4 / cells) where it is absent.
        first_wave: Share of the list in the first wave, fraction in (0, 1].
        every: Time between two waves.
        waves: Planned number of waves.
        seed: Of the assignment and of the draws.
    """

    policy: Policy = "thompson"
    weights: Weights | None = None
    min_weight: Share | None = None
    first_wave: PositiveShare = 0.2
    every: Duration = timedelta(hours=1)
    waves: int = Field(default=8, ge=2, le=500)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


class Metrics(_Part):
    """What is measured.

    Attributes:
        primary: The event that decides.
        window: Time after the send in which the event counts.
        guardrails: Highest accepted rate of each unwanted event, fraction in [0, 1].
    """

    primary: Outcome = "clicked"
    window: Duration = timedelta(hours=72)
    guardrails: Guardrails = Field(default_factory=FrozenDict)


class Analysis(_Part):
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

    @field_validator("baseline")
    @classmethod
    def _room_above(cls, baseline: float | None, info: ValidationInfo) -> float | None:
        mde = info.data.get("mde")
        if baseline is not None and mde is not None and baseline + mde >= 1.0:
            raise BadValue(f"baseline {baseline:g} and mde {mde:g} come to 1 or more: no rate can be that high")
        return baseline


class Stop(_Part):
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
    then: Literal["send_winner", "keep_going", "stop"] = "send_winner"
    inconclusive: Literal["send_control", "keep_going", "stop"] = "send_control"
    too_small: Literal["send_control", "keep_going", "stop"] = "send_control"


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


class Experiment(_Part):
    """The whole definition of an experiment.

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
    """

    spec: Literal[1]
    name: Name
    salt: str = Field(default="", validate_default=True)
    hypothesis: str = ""
    factors: Factors
    control: Control
    message: Message
    audience: Audience = Audience()
    send_time: SendTimes = SendTimes()
    allocation: Allocation = Field(default=Allocation(), validate_default=True)
    metrics: Metrics = Metrics()
    analysis: Analysis = Analysis()
    stop: Stop = Stop()
    _origin: Origin = PrivateAttr(default=Origin())

    @field_validator("salt")
    @classmethod
    def _salt_or_name(cls, salt: str, info: ValidationInfo) -> str:
        return salt or str(info.data.get("name", ""))

    @field_validator("allocation")
    @classmethod
    def _allocation_fits(cls, allocation: Allocation, info: ValidationInfo) -> Allocation:
        levels = (info.context or {}).get("levels") or level_names(info.data)
        if levels is None:
            return allocation
        names = cell_names(levels)
        require_shares(names, policy=allocation.policy, weights=allocation.weights, floor=allocation.min_weight)
        floor = default_floor(len(names)) if allocation.min_weight is None else allocation.min_weight
        return allocation.model_copy(update={"min_weight": floor})

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every combination of levels, in the order of the file: the last factor varies fastest."""
        names: tuple[Factor, ...] = tuple(self.factors)
        combinations = itertools.product(*self.factors.values())
        return tuple(self._make_cell(i, dict(zip(names, levels, strict=True))) for i, levels in enumerate(combinations))

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
        near = nearest(name, tuple(cell.name for cell in self.cells))
        advice = f"did you mean {near!r}?" if near else f"known: {', '.join(cell.name for cell in self.cells[:12])}"
        raise ValueError(f"no cell {shown(name)} in the experiment {self.name}; {advice}")

    @property
    def min_weight(self) -> float:
        """Smallest share of a cell under the policy ``thompson``, fraction in [0, 1 / cells]."""
        floor = self.allocation.min_weight
        return default_floor(len(self.cells)) if floor is None else floor

    @cached_property
    def spec_hash(self) -> str:
        """16 hex digits that stay the same while the definition means the same.

        The SHA-256 of the resolved definition as JSON with sorted keys; the factors and their levels, whose order
        numbers the cells, go in as lists of pairs.
        """
        plain = self.resolved()
        plain["factors"] = [[factor, list(levels.items())] for factor, levels in self.factors.items()]
        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]

    def resolved(self) -> dict[str, Any]:
        """The whole definition with every default spelled out: plain data for JSON that `from_dict` reads back."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def path(self) -> str | None:
        """The file that the definition was read from, as the caller named it; None for other sources."""
        return self._origin.source.path if self._origin.source is not None else None

    def place(self, *location: str | int, key: bool = False) -> Place:
        """Where a value (or its key) stands in the file: ``experiment.place("allocation", "policy")``.

        What the file leaves to its default is placed at the nearest key around it.
        """
        return self._origin.place(location, key=key)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with changed fields, which are taken as they are; read `from_dict` for checked changes."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("cells", "control_cell", "spec_hash"):
            copied.__dict__.pop(name, None)  # kept answers of the original
        return copied

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Experiment:
        """Read a definition from plain data, such as that of `resolved`.

        Raises:
            SpecError: With every problem; the places are the keys, there is no file to point into.
        """
        experiment, problems = _validate(dict(value), Origin())
        if experiment is None:
            raise SpecError(problems)
        return experiment


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
    """Read a definition from a file; never raises for what it holds or for being unreadable."""
    name = os.fspath(path)
    try:
        status = Path(name).stat()
        if not stat.S_ISREG(status.st_mode):
            return None, (UNREADABLE_FILE.at(Place(path=name), "this is not a file", hint="name a YAML file"),)
        if status.st_size > _MOST_BYTES:
            return None, (_too_large(name, status.st_size),)
        data = Path(name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else None
        return None, (UNREADABLE_FILE.at(Place(path=name), f"cannot be read: {reason or error}"),)
    return decode(data, name)


def decode(text: str | bytes, path: str) -> tuple[Experiment | None, tuple[Diagnostic, ...]]:
    """Read a definition from a text; never raises for what it holds.

    Args:
        text: YAML 1.2; bytes are UTF-8.
        path: Names the text in the findings.

    Returns:
        The experiment, None where the text has an error; and every problem, in the order of the text.
    """
    if len(text) > _MOST_BYTES:
        return None, (_too_large(path, len(text)),)
    unicode, unreadable = _as_text(text, path)
    source = Source(path, unicode)
    if unreadable is not None:
        return None, (unreadable,)
    root, problems = _yaml.read(source)
    found = tuple(from_text(problems, source))
    if root is None:
        return None, found or (
            MISSING_KEY.at(source.place(0), "the file is empty", hint="`abmail new` writes a start"),
        )
    experiment, invalid = _validate(root.data, Origin(source, root))
    findings = tuple(sorted((*found, *invalid), key=sort_key))
    return (None if findings else experiment), findings


def _validate(data: object, origin: Origin) -> tuple[Experiment | None, tuple[Diagnostic, ...]]:
    try:
        experiment = Experiment.model_validate(data, context={"levels": level_names(data)})
    except ValidationError as error:
        return None, from_validation(error.errors(include_url=False), origin, _known_keys)
    experiment._origin = origin
    return experiment, ()


def _known_keys(location: Location) -> tuple[str, ...]:
    model: type[BaseModel] = Experiment
    for part in location:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _too_large(path: str, size: int) -> Diagnostic:
    message = f"{size / 1024:.0f} KiB are too much for a definition, at most {_MOST_BYTES // 1024} are read"
    return YAML_SYNTAX.at(Place(path=path), message, hint="put long texts into the mail template")


def _as_text(text: str | bytes, path: str) -> tuple[str, Diagnostic | None]:
    if isinstance(text, str):
        return text.removeprefix("\ufeff"), None
    try:
        unicode = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        source = Source(path, text.decode("utf-8", "replace"))
        place = source.place(len(text[: error.start].decode("utf-8")))
        message = f"the byte 0x{text[error.start]:02X} is not UTF-8"
        return "", YAML_SYNTAX.at(place, message, hint="save the file with the encoding UTF-8")
    if "\0" in unicode:
        return "", YAML_SYNTAX.at(Place(path=path), "this is binary data, not text", hint="name a YAML file in UTF-8")
    return unicode, None


# --- the schema for editors -------------------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a definition file, for editors.

    It accepts every file that `load` accepts; what depends on several values at once, on the list of time zones or on
    the grammar of segments is left to `load`.
    """
    schema = Experiment.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "abmail experiment"
    parts: dict[str, type[BaseModel]] = {part.__name__: part for part in _Part.__subclasses__()}
    for name, body in {"Experiment": schema, **schema["$defs"]}.items():
        _describe(body, parts[name])
    return schema


def _describe(body: dict[str, Any], part: type[BaseModel]) -> None:
    """Move what the docstring says of each attribute to its property, where an editor shows it."""
    summary, _, attributes = (part.__doc__ or "").partition("Attributes:")
    body["description"] = summary.strip()
    described = dict(re.findall(r"^ +(\w+): (.+)$", attributes, flags=re.MULTILINE))
    for name, field in part.model_fields.items():
        entry = body["properties"][field.alias or name]
        entry.pop("title", None)
        entry.pop("default", None)
        if name in described:
            entry["description"] = described[name].replace("``", "")
        if isinstance(field.default, str | int | float | tuple | timedelta):
            entry["default"] = _plain(field.default)


def _plain(default: str | float | tuple[str, ...] | timedelta) -> str | float | list[str]:
    if isinstance(default, timedelta):
        return format_duration(default)
    return list(default) if isinstance(default, tuple) else default
