"""What a project knows beside its definitions: its list, what runs and what has ended, from files, the store or git."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from abmail._files import template_folders
from abmail.check import Around
from abmail.errors import AudienceError, ConfigError

if TYPE_CHECKING:
    from datetime import date

    from abmail._check_settings import CheckSettings
    from abmail._records import StoredExperiment
    from abmail.check import Moves
    from abmail.recipient import Recipient
    from abmail.segment import Segment
    from abmail.spec import Experiment
    from abmail.store import Store

__all__ = ["Commit", "Known", "ListFile", "around", "located"]

_SECONDS: Final = 60
_SUFFIXES: Final = (".yaml", ".yml")


def around(root: Path, settings: CheckSettings, *, today: date, store: Store | None, against: Commit | None) -> Around:
    """Put together what is known.

    Args:
        root: The project's folder.
        settings: Name the list, where it is a file.
        today: The day.
        store: The project's database, opened for reading; None where there is none.
        against: Definitions that are taken for what runs, in place of those of the store.
    """
    known = None if store is None else Known(store)
    listed = ListFile(root / settings.audience, is_sample=settings.audience_is_sample) if settings.audience else known
    runs = against or known
    return Around(
        today=today,
        people=listed,
        earlier=runs.earlier if runs else None,
        running=runs.running if runs else None,
        ended=known.ended if known else None,
        sources=runs.sources if runs else None,
        moves=None if listed is None else lambda old, new: _moves_on(listed, old, new),
    )


def _moves_on(listed: _People, old: Experiment, new: Experiment) -> Moves:
    from abmail._moves import moves

    return moves(old, new, listed.everybody)


def located(url: str, root: Path) -> str:
    """URL of a database; a relative SQLite path is taken from the project's folder."""
    kind, separator, path = url.partition(":///")
    relative = kind.startswith("sqlite") and separator and not path.startswith("/") and path != ":memory:"
    return f"{kind}:///{root.resolve() / path}" if relative else url


class _People(ABC):
    """A list, read when it is first asked for."""

    is_sample = False

    @property
    @abstractmethod
    def everybody(self) -> tuple[Recipient, ...]:
        """All of the list."""

    @cached_property
    def columns(self) -> frozenset[str]:
        """Names of the attributes."""
        return frozenset(name for each in self.everybody for name in each.attributes)

    def within(self, segment: Segment | None) -> Sequence[Recipient]:
        """Those whom a segment takes in."""
        from abmail.audience import in_segment

        return self.everybody if segment is None else [each for each in self.everybody if in_segment(segment, each)]


class ListFile(_People):
    """A list in a CSV file.

    Args:
        path: The file.
        is_sample: Whether it holds some people only.
    """

    def __init__(self, path: Path, *, is_sample: bool = False) -> None:
        self.is_sample = is_sample
        self._path = path

    @cached_property
    def everybody(self) -> tuple[Recipient, ...]:
        """All rows that are recipients.

        Raises:
            ConfigError: There is no such file, or it cannot be read as a list.
        """
        from abmail.audience import read_recipients

        try:
            return read_recipients(self._path).recipients
        except AudienceError as error:
            raise ConfigError(f"the list {self._path} cannot be read: {error}", hint=error.hint) from error
        except OSError as error:
            message = f"the list {self._path} cannot be read: {error.strerror}"
            raise ConfigError(message, hint="correct --audience, or audience in [check] of abmail.toml") from error


class Known(_People):
    """What a database knows: its recipients, and the experiments that run or have ended.

    Args:
        store: Opened for reading.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @cached_property
    def everybody(self) -> tuple[Recipient, ...]:
        """All recipients that may be mailed."""
        suppressed = self._store.suppressed()
        return tuple(each for each in self._store.recipients() if each.email not in suppressed)

    @cached_property
    def _stored(self) -> dict[str, StoredExperiment]:
        return {each.name: each for each in self._store.experiments()}

    @cached_property
    def _experiments(self) -> dict[bool, dict[str, Experiment]]:
        """The experiments by name, apart by whether they run."""
        from abmail.spec import Experiment

        found: dict[bool, dict[str, Experiment]] = {True: {}, False: {}}
        for each in self._stored.values():
            found[each.state == "running"][each.name] = Experiment.from_dict(each.definition)
        return found

    def earlier(self, name: str) -> Experiment | None:
        """What runs by a name."""
        return self._experiments[True].get(name)

    def sources(self, name: str) -> dict[str, bytes]:
        """What the mails of a name are made of, as it was applied."""
        stored, message = self._stored[name], self._experiments[True][name].message
        texts = ((message.template, stored.template), (message.text_template, stored.text_template))
        files = self._store.files(name, stored.version)
        return files | {path: text.encode() for path, text in texts if path and text is not None}

    def ended(self, name: str) -> Experiment | None:
        """What has ended by a name."""
        return self._experiments[False].get(name)

    def running(self) -> list[tuple[Experiment, str]]:
        """What runs; the store tells of it."""
        return [(experiment, self._store.url) for experiment in self._experiments[True].values()]


class Commit:
    """Definitions as they stand at a commit, which is taken for what runs.

    Args:
        ref: A branch, tag or commit.
        paths: Files and folders in question.
    """

    def __init__(self, ref: str, paths: Iterable[Path]) -> None:
        self._ref = ref
        self._paths = tuple(paths)
        self._contents: dict[Path, bytes | None] = {}

    @cached_property
    def _files(self) -> dict[str, tuple[Experiment, str]]:
        """The definitions that could be read there by name, each with its path.

        Raises:
            ConfigError: There is no git, no repository, or no such commit.
        """
        from abmail.spec import decode

        found: dict[str, tuple[Experiment, str]] = {}
        for path in self._names():
            experiment, _ = decode(_git("show", f"{self._ref}:./{path}"), path)
            if experiment is not None:
                found[experiment.name] = (experiment, path)
        return found

    def _names(self) -> Iterator[str]:
        """Paths of the definitions there, from where we are."""
        if self._ref.startswith("-"):
            raise ConfigError(f"{self._ref!r} is no commit", hint="write --against main")
        _git("rev-parse", "--git-dir")
        _git("rev-parse", "--verify", "--quiet", f"{self._ref}^{{commit}}", wrong=f"there is no commit {self._ref!r}")
        listed = _git("ls-tree", "-r", "-z", "--name-only", self._ref, "--", *(str(path) for path in self._paths))
        for name in listed.decode("utf-8", "replace").split("\0"):
            path = PurePosixPath(name)
            if path.suffix in _SUFFIXES and not any(part.startswith(".") for part in path.parts if part != ".."):
                yield name

    def earlier(self, name: str) -> Experiment | None:
        """The definition of a name there."""
        return self._files[name][0] if name in self._files else None

    def sources(self, name: str) -> dict[str, bytes]:
        """What the mails of a name are made of there; without the files that are not kept in the repository."""
        experiment, path = self._files[name]
        message = experiment.message
        root = next(
            (each for each in template_folders(Path(path)) if self._content(each / message.template) is not None), None
        )
        if root is None:
            return {}
        found: dict[str, bytes] = {}
        waiting = [message.template, *filter(None, (message.text_template,))]
        while waiting:
            each = waiting.pop()
            content = None if each in found else self._content(root / each)
            if content is not None:
                found[each] = content
                beside = PurePosixPath(message.template).parent
                waiting += [str(beside / one) for one in _includes(content, each)]
        parts = {each: self._content(root / each) for each in (*(message.attachments or ()), *(message.images or ()))}
        return found | {each: content for each, content in parts.items() if content is not None}

    def _content(self, path: Path) -> bytes | None:
        """A file there, as git would write it to the folder; None where there is none."""
        if path not in self._contents:
            named = Path(os.path.relpath(path)).as_posix()
            try:
                content = _git("cat-file", "--filters", f"{self._ref}:./{named}")
            except ConfigError:
                content = None
            self._contents[path] = content
        return self._contents[path]

    def running(self) -> list[tuple[Experiment, str]]:
        """All definitions there, each with its path."""
        return list(self._files.values())


def _includes(content: bytes, name: str) -> Iterable[str]:
    """Names of the templates that a template includes; none where it cannot be read."""
    from abmail._templates import loaded_names
    from abmail.errors import RenderError

    try:
        return loaded_names(content.decode("utf-8-sig", "replace"), name)
    except RenderError:
        return ()


def _git(*arguments: str, wrong: str = "") -> bytes:
    """What a command of git prints.

    Raises:
        ConfigError: There is no git, or it refuses; ``wrong`` says why, else git's own words do.
    """
    try:
        command = ["git", *arguments]  # found by PATH, as on the user's own command line
        ran = subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)  # noqa: S603
    except FileNotFoundError as error:
        raise ConfigError(
            "--against needs git, and there is none", hint="install git, or leave --against out"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"git took longer than {_SECONDS} seconds") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ")
        hint = "name a branch, tag or commit that is here: in CI, fetch it first (actions/checkout with fetch-depth: 0)"
        raise ConfigError(wrong or f"git says: {said}", hint=hint) from error
    return ran.stdout
