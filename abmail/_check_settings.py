"""The table ``[check]`` of ``abmail.toml``: which rules a project wants, and when a run fails."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from abmail._fields import advice
from abmail.errors import ConfigError

__all__ = ["CheckSettings", "FailOn"]

FailOn = Literal["error", "warning"]

_FILE: Final = "abmail.toml"
_DATABASE: Final = "sqlite:///abmail.db"
_KINDS: Final = {"audience": (str, "a path in quotation marks"), "audience_is_sample": (bool, "true or false")}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """How a project's definitions are checked.

    Attributes:
        select: Codes, beginnings of codes or names of the rules to ask; all where there is none.
        ignore: Those to leave out all the same.
        fail_on: The least severity that fails a run.
        audience: The list as a CSV file, a path from the project folder; that of the database where it is empty.
        audience_is_sample: Whether that file holds some people only, so that its size says nothing.
        database: URL of the project's database.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: FailOn = "error"
    audience: str = ""
    audience_is_sample: bool = False
    database: str = _DATABASE

    @classmethod
    def read(cls, root: Path) -> Self:
        """Read the settings of a project folder; the defaults where there is no file or table.

        Raises:
            ConfigError: The file cannot be read, or a setting is unknown or of the wrong kind.
        """
        path = root / _FILE
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        written = settings.get("check", {})
        if not isinstance(written, Mapping):
            raise ConfigError(
                f"{path}: check is {written!r}, must be a table", hint="write [check] on a line of its own"
            )
        values = {name: _value(path, name, value) for name, value in written.items()}
        return cls(**values, database=str(settings.get("db", _DATABASE)))


def _value(path: Path, name: str, value: object) -> Any:
    known = tuple(field.name for field in fields(CheckSettings) if field.name != "database")
    if name not in known:
        raise ConfigError(f"{path} holds the unknown setting 'check.{name}'", hint=advice(name, known))
    if name == "fail_on":
        if value not in get_args(FailOn):
            raise ConfigError(f"{path}: check.fail_on is {value!r}, must be 'error' or 'warning'")
        return value
    if name in _KINDS:
        kind, words = _KINDS[name]
        if not isinstance(value, kind):
            raise ConfigError(f"{path}: check.{name} is {value!r}, must be {words}")
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{path}: check.{name} is {value!r}, must be a list of texts", hint=f'write {name} = ["AB2"]')
    return tuple(value)
