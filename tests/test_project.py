"""A project folder, its settings and where each was set."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from mailserver import recording

from abmail.check import check_paths
from abmail.errors import ConfigError
from abmail.events import Signer
from abmail.project import Project
from abmail.recipient import Recipient
from abmail.render import RenderedMessage
from abmail.send import SMTP, File
from abmail.spec import loads

MAIL = RenderedMessage(
    message_id="0" * 32,
    header_id="<1@example.com>",
    sender="news@example.com",
    recipient="ann@example.com",
    subject="Hello",
    html="",
    text="",
    raw=b"Subject: Hello\r\n\r\nHello\r\n",
)


def test_init_makes_a_folder_once_and_keeps_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "mailing"
    _, made = Project.init(folder)
    assert {path.name for path in made} == {"abmail.toml", ".gitignore", "experiment.schema.json", "abmail.secret"}
    assert (folder / "abmail.secret").stat().st_mode & 0o777 == 0o600
    (folder / "abmail.toml").write_text('db = "sqlite:///other.db"\n', encoding="utf-8")
    secret = (folder / "abmail.secret").read_text(encoding="utf-8")
    project, made_again = Project.init(folder)
    assert made_again == ()
    assert project.settings["db"].value == "sqlite:///other.db"
    assert (folder / "abmail.secret").read_text(encoding="utf-8") == secret


def test_a_secret_never_enters_the_repository(tmp_path: Path) -> None:
    Project.init(tmp_path)
    ignored = (tmp_path / ".gitignore").read_text(encoding="utf-8").split()
    assert {"abmail.secret", "abmail.db*"} <= set(ignored)


@pytest.mark.parametrize("kind", ["subject", "cta", "factorial"])
def test_a_new_definition_passes_the_check_as_it_is(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project, _ = Project.init(tmp_path)
    made = project.new("spring", kind)
    assert [path.name for path in made] == ["spring.yaml", "spring.html.j2"]
    monkeypatch.chdir(tmp_path)
    assert check_paths((made[0],)) == ()


def test_a_definition_is_never_overwritten(tmp_path: Path) -> None:
    project, _ = Project.init(tmp_path)
    project.new("spring", "subject")
    with pytest.raises(ConfigError, match="is there already"):
        project.new("spring", "cta")


def test_a_setting_comes_from_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    Project.init(tmp_path)
    file = tmp_path / "abmail.toml"
    file.write_text('db = "sqlite:///file.db"\n', encoding="utf-8")
    from_file = Project.find(tmp_path, environ={}).settings["db"]
    assert (from_file.value, from_file.source) == ("sqlite:///file.db", str(file))
    from_environment = Project.find(tmp_path, environ={"ABMAIL_DB": "sqlite:///env.db"}).settings["db"]
    assert (from_environment.value, from_environment.source) == ("sqlite:///env.db", "environment variable ABMAIL_DB")
    assert Project.find(tmp_path, environ={}).settings["tracker_url"].source == "default"


def test_settings_are_found_from_a_folder_below(tmp_path: Path) -> None:
    Project.init(tmp_path)
    assert Project.find(tmp_path / "experiments", environ={}).root == tmp_path


def test_a_relative_database_lies_in_the_project_wherever_a_command_runs(tmp_path: Path) -> None:
    Project.init(tmp_path)
    assert Project.find(tmp_path / "mails", environ={}).database == f"sqlite:///{tmp_path / 'abmail.db'}"
    absolute = {"ABMAIL_DB": "sqlite:////var/lib/mail.db"}
    assert Project.find(tmp_path, environ=absolute).database == "sqlite:////var/lib/mail.db"
    server = {"ABMAIL_DB": "postgresql://me@host/mail"}
    assert Project.find(tmp_path, environ=server).database == "postgresql://me@host/mail"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("db = 3", "db is 3"),
        ('dbb = "x"', "unknown setting 'dbb'"),
        ('secret = "x"', "unknown setting 'secret'"),
        ("db = ", "cannot be read"),
    ],
)
def test_a_bad_settings_file_is_refused_with_its_path(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "abmail.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=fault) as refused:
        Project.find(tmp_path, environ={})
    assert str(tmp_path / "abmail.toml") in str(refused.value)


def test_passwords_and_keys_are_hidden_when_settings_are_shown(tmp_path: Path) -> None:
    environ = {"ABMAIL_SMTP_URL": "smtps://me:s3cret@mail.example.com", "ABMAIL_SECRET": "0123456789abcdef"}
    settings = Project.find(tmp_path, environ=environ).settings
    assert settings["smtp_url"].shown == "smtps://me:***@mail.example.com"
    assert settings["secret"].shown == "(set)"


def test_without_a_mail_server_mails_become_files(tmp_path: Path) -> None:
    assert isinstance(Project.find(tmp_path, environ={}).transport(), File)
    assert isinstance(Project.find(tmp_path, environ={"ABMAIL_SMTP_URL": "smtp://127.0.0.1:25"}).transport(), SMTP)


@pytest.mark.parametrize("name", ["mailer.example.com", "[192.0.2.7]"])
def test_a_mail_server_is_greeted_with_the_name_that_is_set(tmp_path: Path, name: str) -> None:
    with recording() as inbox:
        (tmp_path / "abmail.toml").write_text(f'smtp_url = "{inbox.url}"\nehlo_name = "{name}"\n', encoding="utf-8")
        with closing(Project.find(tmp_path, environ={}).transport()) as transport:
            transport.send(MAIL)
        assert inbox.greeted_by == {name}


@pytest.mark.parametrize("name", ["mail er", "mailer.example.com\r\nRSET", "日本.example", "-", "[x"])
def test_a_name_that_no_server_would_take_is_refused(tmp_path: Path, name: str) -> None:
    environ = {"ABMAIL_SMTP_URL": "smtp://127.0.0.1:25", "ABMAIL_EHLO_NAME": name}
    with pytest.raises(ConfigError, match="our name for the SMTP server"):
        Project.find(tmp_path, environ=environ).transport()


def test_a_definition_is_found_by_its_name_or_its_path_or_the_nearest_is_named(tmp_path: Path) -> None:
    project, _ = Project.init(tmp_path)
    project.new("spring", "subject")
    file = tmp_path / "experiments" / "spring.yaml"
    assert project.definition("spring") == file
    assert project.definition(str(file)) == file
    with pytest.raises(ConfigError, match="no experiment 'sprin'") as unknown:
        project.definition("sprin")
    assert unknown.value.hint == "did you mean spring?"


def test_a_new_key_signs_and_what_the_old_one_signed_stays_valid(tmp_path: Path) -> None:
    project, _ = Project.init(tmp_path)
    experiment = loads(
        "spec: 1\nname: spring\nfactors: {subject: {plain: Join us, number: Three ways}}\ncontrol: {subject: plain}\n"
        "message: {template: mails/spring.html.j2, from: news@example.com}\nallocation: {policy: uniform}\n"
    )
    people = [Recipient(id=str(number), email=f"p{number}@example.com") for number in range(3)]
    with project.engine() as engine:
        assert engine.apply(engine.plan(experiment, people, template="<p>Hello</p>")).added == 3
        (message, *_) = engine.store.messages("spring")
        old = engine.signer.sign("u", message.id)
        salt = engine._timing._salt
    assert project.rotate_key() == 2
    assert project.rotate_key() == 3
    assert (tmp_path / "abmail.secret").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "abmail.secret").read_text(encoding="utf-8").split()) == 3
    with project.engine() as engine:
        assert engine.signer.verify("u", old) is not None
        new = engine.signer.sign("u", message.id)
        assert new != old
        assert engine.apply(engine.plan(experiment, people, template="<p>Hello</p>")).added == 0
        assert engine._timing._salt == salt  # nobody changes sides in the control group
        assert [engine.store.message(each.id) for each in engine.store.messages("spring")]
    lines = (tmp_path / "abmail.secret").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "abmail.secret").write_text("".join(lines[:-1]), encoding="utf-8")
    with project.engine() as engine:
        assert engine.signer.verify("u", old) is None
        assert engine.signer.verify("u", new) is not None


def test_a_key_of_the_environment_is_rotated_there(tmp_path: Path) -> None:
    Project.init(tmp_path)
    keys = {"ABMAIL_SECRET": "a new key that is long enough\nan old key that is long enough"}
    project = Project.find(tmp_path, environ=keys)
    with pytest.raises(ConfigError, match="environment variable ABMAIL_SECRET"):
        project.rotate_key()
    old = Signer(b"an old key that is long enough")
    with project.engine() as engine:
        assert engine.signer.verify("u", old.sign("u", old.message_id("a", "b"))) is not None
        assert old.verify("u", engine.signer.sign("u", old.message_id("a", "b"))) is None
