"""The mail that a definition would send: its sources, and what each variant says to a reader who is made up or real."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from abmail._files import as_named, is_file
from abmail.diagnostics import Place, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abmail._fields import Location
    from abmail._spec_types import Factor
    from abmail._tokens import Signer
    from abmail.errors import RenderError
    from abmail.recipient import Recipient
    from abmail.render import Proof
    from abmail.spec import Cell, Experiment

__all__ = ["Mail", "Text", "Told", "destination", "folded", "project_of", "read_mail"]

_FILLINGS: Final = ("1", "2027-01-01", "")  # what columns hold in a made-up reader; the first with which a mail is made
_TAG: Final = re.compile(r"\{[{%#]")
_MESSAGE: Final = "0" * 32
_TRACKER: Final = "https://tracker.invalid"


class Text(NamedTuple):
    """A source of the mail: a template's file, or a text in the definition."""

    name: str
    source: str
    path: Path | None  # of a template
    location: Location  # in the definition

    def place(self, found: re.Match[str] | None, line: int | None = None) -> Place | None:
        """Where something stands in a template: what was found, else the beginning of a line; None in a definition."""
        if self.path is None:
            return None
        source = Source(as_named(self.path), self.source)
        if found is not None:
            return source.place(found.start(), found.end())
        start = sum(len(each) for each in self.source.splitlines(keepends=True)[: (line or 1) - 1])
        return source.place(start)

    def find(self, pattern: str, line: int) -> re.Match[str] | None:
        """A pattern from a line on."""
        start = sum(len(each) for each in self.source.splitlines(keepends=True)[: line - 1])
        return re.compile(pattern).search(self.source, start)


class Told(NamedTuple):
    """What a level of a factor makes of the mail, the other factors standing at the control's levels."""

    factor: Factor
    level: str
    proof: Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """The mail of a definition.

    Attributes:
        texts: Its sources: templates first, then the texts of the definition.
        control: What the control says; None where it cannot be made.
        told: What each level says, those of the control among them; none where that cannot be told.
        failure: Why a mail cannot be made.
    """

    texts: tuple[Text, ...]
    control: Proof | None = None
    told: tuple[Told, ...] = ()
    failure: RenderError | None = None

    def text(self, name: str) -> Text | None:
        """The source of a name, as errors tell it; what is included is named from its folder."""
        exact = next((each for each in self.texts if each.name == name), None)
        return exact or next((each for each in self.texts if each.path and each.name.endswith(f"/{name}")), None)


def read_mail(experiment: Experiment, folders: Sequence[Path], people: Sequence[Recipient]) -> Mail | None:
    """Read the templates of a definition and make its mails.

    Args:
        experiment: The definition.
        folders: Where its templates may lie.
        people: Who may get it; a reader with every column that is asked for is made up where there is nobody.

    Returns:
        The mail; None where a file is missing, which another rule tells.
    """
    from abmail.errors import MissingExtra, RenderError
    from abmail.render import read_files, read_template

    message = experiment.message
    root = project_of(experiment, folders)
    if root is None:
        return None
    texts = tuple(_own_texts(experiment))
    try:
        named = [name for name in (message.template, message.text_template) if name]
        templates = tuple(Text(name, read_template(root, name), root / name, ("message",)) for name in named)
        texts = (*templates, *texts)
        files = read_files(root, message, [(each.source, each.name) for each in texts])
        other = {*(message.attachments or ()), *(message.images or ())}
        texts += tuple(_included(root, name) for name in files if name not in other)
        return _made(experiment, texts, files, people)
    except RenderError as error:
        if isinstance(error.__cause__, OSError):
            return None
        known = any(each.name == error.template for each in texts)
        broken = () if known or not is_file(root / error.template) else (_included(root, error.template),)
        return Mail(texts=(*texts, *broken), failure=error)
    except MissingExtra:  # MJML or a style sheet cannot be worked out here
        return Mail(texts=texts)


def project_of(experiment: Experiment, folders: Sequence[Path]) -> Path | None:
    """The folder in which the template lies; None where there is no such file."""
    return next((each for each in folders if is_file(each / experiment.message.template)), None)


def _included(root: Path, name: str) -> Text:
    source = (root / name).read_bytes().decode("utf-8-sig", "replace")
    return Text(name, source, root / name, ("message", "template"))


def _own_texts(experiment: Experiment) -> Iterator[Text]:
    """The texts in the definition that may be templates."""
    message = experiment.message
    for name, source in (("subject", message.subject), ("preheader", message.preheader)):
        if source:
            yield Text(f"message.{name}", source, None, ("message", name))
    for factor, levels in experiment.factors.items():
        for level, source in levels.items():
            yield Text(f"factors.{factor}.{level}", source, None, ("factors", factor, level))


def _made(
    experiment: Experiment, texts: tuple[Text, ...], files: Mapping[str, bytes], people: Sequence[Recipient]
) -> Mail:
    """Fill the templates for one reader.

    Raises:
        RenderError: They cannot be compiled, or not be filled for a reader who is real.
    """
    from abmail.errors import RenderError
    from abmail.render import Renderer

    templates = [each.source for each in texts if each.location == ("message",)]
    renderer = Renderer(
        experiment=experiment,
        template=templates[0],
        text_template=templates[1] if len(templates) > 1 else None,
        tracker_url=_TRACKER,
        signer=_signer(),
        files=files,
    )
    real = tuple(islice(people, 1))
    variants = tuple(_variants(experiment))
    cells, control = {cell.name: cell for *_, cell in variants}, experiment.control_cell
    for reader in real or _made_up(texts):
        try:
            proofs = {
                name: renderer.proof(cell=cell, recipient=reader, message_id=_MESSAGE, with_text=cell == control)
                for name, cell in cells.items()
            }
        except RenderError:
            if real:
                raise
            continue
        told = tuple(Told(factor, level, proofs[cell.name]) for factor, level, cell in variants)
        return Mail(texts=texts, control=proofs[control.name], told=told)
    return Mail(texts=texts)


@cache
def _signer() -> Signer:
    from abmail._tokens import Signer

    return Signer(b"nobody gets these mails")


def _made_up(texts: Sequence[Text]) -> Iterator[Recipient]:
    """Readers who have every column that a template asks for."""
    from abmail._templates import names_used
    from abmail.recipient import Recipient

    columns = {
        name for each in texts if _TAG.search(each.source) for name in names_used(each.source, each.name).columns
    }
    for filling in _FILLINGS:
        attributes = dict.fromkeys(sorted(columns - {"id", "email"}), filling)
        yield Recipient(id="1", email="reader@example.com", attributes=attributes)


def _variants(experiment: Experiment) -> Iterator[tuple[Factor, str, Cell]]:
    """Each level of each factor, with the cell that differs from the control in it alone."""
    cells = {tuple(cell.levels.items()): cell for cell in experiment.cells}
    for factor, levels in experiment.factors.items():
        for level in levels:
            wanted = {each: level if each == factor else experiment.control[each] for each in experiment.factors}
            yield factor, level, cells[tuple(wanted.items())]


@lru_cache(maxsize=1024)
def destination(href: str, cell: str) -> str:
    """Where a link leads, without what only says which variant it stood in: utm parameters, and the variant's name."""
    try:
        parts = urlsplit(href.strip())
    except ValueError:
        return href
    kept = [
        f"{key}={value}"
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
        if not key.lower().startswith("utm_") and value != cell
    ]
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path or "/", "&".join(kept), ""))


def folded(text: str) -> str:
    """A text without what readers cannot tell apart: kinds of spaces and of widths."""
    return " ".join(unicodedata.normalize("NFKC", text).split())
