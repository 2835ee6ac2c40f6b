"""Project: a folder with settings, definitions and mail templates, and where each of its settings comes from.

A setting is taken from a flag, else from the environment (``ABMAIL_...``), else from ``abmail.toml``, else it has a
default. Secrets never come from flags.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

from abmail._around import located
from abmail._ci import Server, ci_file
from abmail._fetch import fetch_once
from abmail._fields import advice
from abmail._values import parse_duration
from abmail._webhook_settings import read_webhooks
from abmail.check import project_root
from abmail.dkim import Dkim
from abmail.engine import Engine, key_file, keys_of, rotate, secret_file
from abmail.errors import ConfigError
from abmail.render import starter_template
from abmail.send import File, Throttle, Transport, transport_from_url
from abmail.spec import json_schema, starter
from abmail.store import Store
from abmail.webhooks import Adapter

__all__ = ["SETTINGS", "Project", "Setting"]

_TOML: Final = """\
# Settings of this abmail project. Each can also be set in the environment, which wins:
# ABMAIL_DB, ABMAIL_SMTP_URL, ABMAIL_EHLO_NAME, ABMAIL_TRANSPORT, ABMAIL_TRACKER_URL, ABMAIL_SECRET.

# Where recipients, messages and events are kept: a file here, or postgresql://user@host/name
db = "sqlite:///abmail.db"

# Public address of the tracker (abmail serve); it is part of every mail, so set it before the first one goes out.
# tracker_url = "https://t.example.com"

# Proxies before the tracker whose word on the reader's address is taken, as networks; unix for who comes over a socket.
# tracker_proxies = "127.0.0.1, 10.0.0.0/8"

# Requests a second that the tracker answers to one address; 0 for as many as come.
# tracker_rate = "200"

# Mail server: smtp://, smtp+starttls:// or smtps://user@host:port. Better in ABMAIL_SMTP_URL, as it holds a password.
# Without one, mails are written to outbox/ as .eml files.
# smtp_url = "smtp+starttls://user:password@smtp.example.com:587"

# The name with which we greet the mail server (EHLO), where it is not this machine's own: some servers refuse others.
# ehlo_name = "mailer.example.com"

# Or a provider's API: ses://eu-west-1 (keys in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or resend:// (RESEND_API_KEY).
# transport = "ses://eu-west-1/configuration-set"

# Sign mails with DKIM, where the mail server does not: a private key in PEM (or the key itself in ABMAIL_DKIM_KEY), the
# name under which its public key is published (abmail config dkim shows the record), and the domain that vouches.
# dkim_key = "dkim.pem"
# dkim_selector = "abmail"
# dkim_domain = "example.com"

# Mailbox that takes bounces, at addresses such as bounces+TOKEN@example.com; read it with: abmail ingest --bounces
# bounce_mailbox = "bounces@example.com"

# How long what tells of people is kept; `abmail retention run` drops what is older, and reports stay as they are.
# [privacy]
# keep = "400d"

# Which rules `abmail check` asks, by code, beginning of a code or name (abmail explain --all), and what fails a run.
# [check]
# ignore = ["AB413"]
# audience = "leads.csv"
# fail_on = "warning"

# Webhooks that a provider sends to <tracker_url>/w/sendgrid; its secret goes into ABMAIL_WEBHOOK_SENDGRID_SECRET, or
# into a file with one secret a line. docs/webhooks.md tells what each provider needs.
# [webhooks.sendgrid]
# secret_file = "sendgrid.secret"
"""
_GITIGNORE: Final = "abmail.db*\nabmail.secret\n*.secret\n*.pem\noutbox/\n"

SETTINGS: Final[Mapping[str, str]] = {
    "db": "sqlite:///abmail.db",
    "smtp_url": "",
    "ehlo_name": "",
    "transport": "",
    "tracker_url": "http://127.0.0.1:8025",
    "tracker_proxies": "",
    "tracker_rate": "200",
    "secret": "",
    "dkim_key": "",
    "dkim_selector": "",
    "dkim_domain": "",
    "bounce_mailbox": "",
    "privacy.keep": "",
}
"""Every setting with its default."""


_STAND_IN: Final = b"no key was made so far"
_PEM: Final = "-----BEGIN"
_OWN_MACHINE: Final = re.compile(r"https?://(?:localhost|127(?:\.\d+){3}|\[::1\])(?=[:/]|\Z)", re.IGNORECASE)

_LEAST_KEY: Final = 20  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as it stands.

    Attributes:
        name: As in ``abmail.toml``; ``ABMAIL_`` and upper case in the environment.
        value: What is used.
        source: Where it was set: ``default``, a file, or an environment variable.
    """

    name: str
    value: str
    source: str

    @property
    def shown(self) -> str:
        """The value for people, with passwords and keys hidden."""
        if self.value and (self.name == "secret" or _PEM in self.value):
            return "(set)"
        scheme, separator, rest = self.value.partition("://")
        login, at, host = rest.rpartition("@")
        return f"{scheme}{separator}{login.partition(':')[0]}:***{at}{host}" if ":" in login else self.value


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder.

    Attributes:
        root: The folder that holds ``abmail.toml``.
        settings: Every setting with its value and source.
    """

    root: Path
    settings: Mapping[str, Setting]

    @classmethod
    def find(cls, start: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Self:
        """The project of a folder: the nearest folder upwards with ``abmail.toml``, else the folder itself.

        Raises:
            ConfigError: ``abmail.toml`` cannot be read or holds an unknown setting.
        """
        root = project_root(start or Path.cwd())
        return cls(root, {name: _setting(name, root, environ) for name in SETTINGS})

    @classmethod
    def init(cls, folder: Path, *, ci: Server | None = None) -> tuple[Self, tuple[Path, ...]]:
        """Make a project folder, keeping what is there; returns it and the files that were made.

        Args:
            folder: Where.
            ci: A server of continuous integration that is to check the definitions.

        Raises:
            ConfigError: The folder cannot be written, or the repository tells that server what to do already.
        """
        try:
            for name in ("experiments", "mails"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            made = [path for path, text in _first_files(folder) if _write_new(path, text)]
            made += [] if ci is None else [_write_ci(ci, folder)]
        except OSError as error:
            raise ConfigError(f"the folder {folder} cannot be made: {error.strerror}") from error
        secret = folder / "abmail.secret"
        made += [] if secret.exists() else [secret]
        secret_file(secret)
        return cls.find(folder), tuple(made)

    def new(self, name: str, kind: str) -> tuple[Path, ...]:
        """Write a commented definition and its mail template; returns the files that were made.

        Raises:
            ConfigError: A definition of that name is there already.
            ValueError: The name or the kind cannot be used.
        """
        definition = self.root / "experiments" / f"{name}.yaml"
        text = starter(name, kind)
        if definition.exists():
            raise ConfigError(f"{definition} is there already", hint="choose another name, or edit that file")
        files = ((definition, text), (self.root / "mails" / f"{name}.html.j2", starter_template()))
        for path, _ in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        return tuple(path for path, content in files if _write_new(path, content))

    def definition(self, experiment: str) -> Path:
        """The file of an experiment that was named, or given as a path.

        Raises:
            ConfigError: There is no such file; the message names the nearest.
        """
        given = Path(experiment)
        if given.suffix in {".yaml", ".yml"} or given.is_file():
            if given.is_file():
                return given
            raise ConfigError(f"there is no file {given}")
        folder = self.root / "experiments"
        for path in (folder / f"{experiment}.yaml", folder / f"{experiment}.yml"):
            if path.is_file():
                return path
        raise ConfigError(f"there is no experiment '{experiment}' in {folder}", hint=self._nearest(experiment, folder))

    def definitions(self) -> tuple[Path, ...]:
        """The files of all experiments, by name."""
        return tuple(sorted((self.root / "experiments").glob("*.y*ml")))

    def _nearest(self, experiment: str, folder: Path) -> str:
        import difflib

        names = sorted(path.stem for path in folder.glob("*.y*ml"))
        if near := difflib.get_close_matches(experiment, names, n=1):
            return f"did you mean {near[0]}?"
        return f"there are: {', '.join(names)}" if names else f"make one with `abmail new {experiment}`"

    def engine(
        self, *, sending: bool = False, reading: bool = False, rate: float | None = None, connections: int = 1
    ) -> Engine:
        """Open the project's database with its signing key.

        Args:
            sending: With the transport too; without it nothing can be sent, and its settings are not looked at.
            reading: Only to read: nothing is written, neither to the database nor to the folder.
            rate: At most so many mails a second.
            connections: How many mails are handed over at the same time.

        Raises:
            ConfigError: A setting cannot be used.
            StoreError: The database cannot be used.
        """
        return Engine(
            Store(self.database, read_only=reading),
            transport=self.transport() if sending else None,
            secret=self._secret(making=not reading),
            tracker_url=self.settings["tracker_url"].value,
            project=self.root,
            throttle=Throttle(rate),
            connections=connections,
            dkim=self.dkim() if sending else None,
            bounce_mailbox=self.settings["bounce_mailbox"].value or None if sending else None,
            send_times=self.send_times,
        )

    def webhooks(self, *, environ: Mapping[str, str] = os.environ) -> dict[str, Adapter]:
        """By their names, the providers whose webhooks are set up.

        Raises:
            ConfigError: A setting cannot be used, or a provider has no secret.
        """
        return read_webhooks(self.root, environ, tracker_url=self.settings["tracker_url"].value, fetch=fetch_once)

    @staticmethod
    def dashboard_password(*, environ: Mapping[str, str] = os.environ) -> str:
        """What opens the dashboard: ``ABMAIL_DASHBOARD_PASSWORD``; empty where there is to be none.

        Raises:
            ConfigError: It is too short to be a secret.
        """
        password = environ.get("ABMAIL_DASHBOARD_PASSWORD", "")
        if password and len(password) < _LEAST_KEY:
            raise ConfigError(
                f"ABMAIL_DASHBOARD_PASSWORD has fewer than {_LEAST_KEY} characters",
                hint="`openssl rand -hex 24` makes one",
            )
        return password

    @staticmethod
    def conversion_keys(*, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
        """The keys of servers that report conversions: ``ABMAIL_CONVERSION_KEY``, several with blanks between them.

        Raises:
            ConfigError: One is too short to be a secret.
        """
        keys = tuple(environ.get("ABMAIL_CONVERSION_KEY", "").split())
        if any(len(key) < _LEAST_KEY for key in keys):
            raise ConfigError(
                f"a key in ABMAIL_CONVERSION_KEY has fewer than {_LEAST_KEY} characters",
                hint="`openssl rand -hex 24` makes one",
            )
        return keys

    @property
    def send_times(self) -> Path:
        """The model of when people read, as `abmail sendtime fit` writes it."""
        return self.root / "sendtime.npz"

    @property
    def keep(self) -> timedelta | None:
        """How long what tells of people is kept; None for ever.

        Raises:
            ConfigError: The setting is no length of time.
        """
        setting = self.settings["privacy.keep"]
        try:
            return parse_duration(setting.value) if setting.value else None
        except ValueError as error:
            raise ConfigError(f"privacy.keep ({setting.source}): {error}", hint='write for instance "400d"') from error

    def erase_mails(self, messages: Iterable[str]) -> int:
        """Delete the files of some mails from `outbox`; returns how many there were."""
        found = [path for each in messages for path in self.outbox.glob(f"*-{each}.eml")]
        for path in found:
            path.unlink()
        return len(found)

    @property
    def database(self) -> str:
        """URL of the database; a relative SQLite path is taken from the project's folder."""
        return located(self.settings["db"].value, self.root)

    @property
    def outbox(self) -> Path:
        """Where mails are written when no mail server is configured."""
        return self.root / "outbox"

    @property
    def has_mail_server(self) -> bool:
        """Whether mails go to people."""
        return bool(self.mail_server.value)

    @property
    def is_tracker_local(self) -> bool:
        """Whether the links in the mails lead to the reader's own machine, where nothing answers them."""
        return bool(_OWN_MACHINE.match(self.settings["tracker_url"].value))

    @property
    def mail_server(self) -> Setting:
        """The setting that names where mails go: ``transport`` before ``smtp_url``."""
        chosen = self.settings["transport"]
        return chosen if chosen.value else self.settings["smtp_url"]

    def transport(self) -> Transport:
        """The configured mail server or provider; without one, files in `outbox`.

        Raises:
            ConfigError: Its URL or key cannot be used.
            MissingExtra: A provider's API needs the extra ``api``.
        """
        if not self.has_mail_server:
            return File(self.outbox)
        return transport_from_url(self.mail_server.value, ehlo_name=self.settings["ehlo_name"].value or None)

    def dkim(self) -> Dkim | None:
        """What signs the mails; None where that is left to the mail server.

        Raises:
            ConfigError: The key cannot be read or used, or selector or domain are missing.
            MissingExtra: The extra ``dkim`` is not installed.
        """
        key, selector, domain = (self.settings[f"dkim_{name}"] for name in ("key", "selector", "domain"))
        if not key.value:
            return None
        for setting in (selector, domain):
            if not setting.value:
                raise ConfigError(
                    f"there is a DKIM key, and no {setting.name}",
                    hint=f"set {setting.name} in abmail.toml, or ABMAIL_{setting.name.upper()}",
                )
        return Dkim(self._dkim_pem(key), selector=selector.value, domain=domain.value)

    def _dkim_pem(self, key: Setting) -> bytes:
        """The key: what the setting holds, or the file that it names."""
        if _PEM in key.value:
            return key.value.encode()
        path = self.root / key.value
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(f"the DKIM key {path} ({key.source}) cannot be read: {error.strerror}") from error

    def rotate_key(self) -> int:
        """Make a new signing key; what the old ones signed stays valid. Returns how many there are.

        Raises:
            ConfigError: The key comes from the environment, or the file cannot be written.
        """
        setting = self.settings["secret"]
        if setting.value:
            raise ConfigError(
                f"the signing key comes from the {setting.source}",
                hint="put a new key on a line before the one that is there",
            )
        return rotate(self.root / "abmail.secret")

    def _secret(self, *, making: bool) -> bytes | tuple[bytes, ...]:
        """The signing key; a stand-in where there is none yet and none may be made, as then nothing was signed."""
        given, file = self.settings["secret"].value, self.root / "abmail.secret"
        if given:
            return keys_of(given.encode())
        return key_file(file) if making or file.exists() else _STAND_IN


def _setting(name: str, root: Path, environ: Mapping[str, str]) -> Setting:
    variable = f"ABMAIL_{name.upper().replace('.', '_')}"
    if environ.get(variable):
        return Setting(name=name, value=environ[variable], source=f"environment variable {variable}")
    file = root / "abmail.toml"
    written = _read_toml(file)
    if name in written:
        return Setting(name=name, value=written[name], source=str(file))
    return Setting(name=name, value=SETTINGS[name], source="default")


def _read_toml(path: Path) -> dict[str, str]:
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    for table in ("check", "webhooks"):  # with readers of their own, `abmail._check_settings` and `_webhook_settings`
        written.pop(table, None)
    if isinstance(privacy := written.get("privacy"), dict):
        written = {n: v for n, v in written.items() if n != "privacy"} | {f"privacy.{n}": v for n, v in privacy.items()}
    for name, value in written.items():
        if name not in SETTINGS or name == "secret":
            known = tuple(n for n in SETTINGS if n != "secret")
            raise ConfigError(f"{path} holds the unknown setting '{name}'", hint=advice(name, known))
        if not isinstance(value, str):
            raise ConfigError(f"{path}: {name} is {value!r}, must be a text in quotation marks")
    return written


def _first_files(folder: Path) -> tuple[tuple[Path, str], ...]:
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"  # definitions name it for the editor
    names = {"abmail.toml": _TOML, ".gitignore": _GITIGNORE, "experiment.schema.json": schema}
    return tuple((folder / name, text) for name, text in names.items())


def _write_ci(server: Server, folder: Path) -> Path:
    path, text = ci_file(server, folder, version=version("abmail"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _write_new(path, text) and path.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{path} is there already", hint=f"add this to it:\n\n{text}")
    return path


def _write_new(path: Path, text: str) -> bool:
    """Write a file that is not there yet; returns whether it was written."""
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
