"""AB6, drift: what is another one in the mail of an experiment that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from abmail._fields import listed
from abmail._files import as_named
from abmail._rules.base import Case, Check, Finding
from abmail._rules.drift import Drift, anew
from abmail._rules.mail import project_of
from abmail._values import shown
from abmail.diagnostics import Rule, Source
from abmail.spec import Experiment

__all__ = ["RULES"]

_SETTINGS: Final = ("template", "text_template", "attachments", "images", "inline_css")


class MailChanged(Drift):
    """The template of a running experiment's mail, or a file in it, is another one.

    **Why.** Mails with the old one are out. Early and late mails of a variant are then not the same mail, and both are
    counted as one: nobody can tell whether the subject line or the new text brought the clicks. Such a change reaches
    nobody by itself, as what was applied goes out, and `abmail apply` refuses it as long as the test runs.

    **Bad.**

    ```html before/mails/example.html.j2
    <h1>{{ subject }}</h1>
    <p>A webinar for everybody.</p>
    ```

    ```html mails/example.html.j2
    <h1>{{ subject }}</h1>
    <p>Two free months for everybody who comes.</p>
    ```

    **Good.**

    ```yaml before
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "Live"}
    ```

    ```yaml
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "Live, 30 minutes"}
    ```

    **Fix.** Put the old file back until the test has ended. Where the mail itself is wrong, end the test and begin
    another one under a new name. Texts that are to be tested belong in `factors`. Templates that several definitions
    share are better copied for each: a change for the next mailing then leaves the one that runs alone.
    """

    rule = Rule("AB610", "mail-changed")

    def compare(self, old: Experiment, case: Case) -> Iterator[Finding]:
        """Compare what names the files, then what they hold."""
        for name in _SETTINGS:
            before, after = getattr(old.message, name), getattr(case.experiment.message, name)
            if before != after:
                was = _written(before, case)
                message = case.say(
                    f"{name} was {was}: early and late mails would not be alike",
                    f"{name}は{was}でした。前後のメールが別物になります",
                )
                yield Finding(("message", name), message, anew(old, case))
        root = project_of(case.experiment, case.folders)
        sources = case.around.sources(old.name) if case.around.sources and root else {}
        for name in sources.keys() - (_named(old) - _named(case.experiment)):
            now = _content(root / name) if root else None
            if root and now is not None and now != sources[name]:
                yield from self._changed(root, name, (sources[name], now), old, case)

    def _changed(
        self, root: Path, name: str, contents: tuple[bytes, bytes], old: Experiment, case: Case
    ) -> Iterator[Finding]:
        """Say where a file differs: a text at the line, another one where the definition names it."""
        hint = case.say(f"put the old one back, or {anew(old, case)}", f"元に戻すか、{anew(old, case)}")
        message = case.experiment.message
        for key, paths in (("attachments", message.attachments or ()), ("images", message.images or ())):
            if name in paths:
                told = case.say(
                    f"the file {name} is another one: mails went out with the old one",
                    f"{name}の内容が変わりました。以前の内容で送信済みです",
                )
                yield Finding(("message", key, paths.index(name)), told, hint)
                return
        before, now = (content.decode("utf-8-sig", "replace") for content in contents)
        if before == now:
            return
        line, start, end = _first_change(before, now)
        told = case.say("the mail was another one: ", "メールの内容が変わりました。")
        told += (
            case.say(f"here stood {shown(line)}", f"ここは{shown(line)}でした")
            if line
            else case.say("what stands here is new", "ここは新しい行です")
        )
        place = Source(as_named(root / name), now).place(start, end)
        yield Finding(("message", "template"), told, hint, place=place)


def _named(experiment: Experiment) -> set[str]:
    """The files that a definition names for its mail."""
    message = experiment.message
    texts = {message.template, message.text_template or message.template}
    return texts | {*(message.attachments or ()), *(message.images or ())}


def _written(value: object, case: Case) -> str:
    """A setting as the definition has it."""
    if value is None:
        return case.say("not there", "未設定")
    return listed(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)


def _content(path: Path) -> bytes | None:
    """What a file holds; None where it cannot be read, which another rule tells."""
    try:
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def _first_change(before: str, now: str) -> tuple[str, int, int]:
    """The first line that differs as it was, empty where it is new; and where in the text it stands now.

    Where a text ends earlier than it did, its last line is meant.
    """
    old, new = before.splitlines(keepends=True), now.splitlines(keepends=True)
    same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    place = max(0, min(same, len(new) - 1))
    start = sum(len(line) for line in new[:place])
    line = new[place] if new else ""
    was = old[same].strip() if same < len(old) else ""
    return was, start + len(line) - len(line.lstrip()), start + len(line.rstrip())


RULES: Final[tuple[Check, ...]] = (MailChanged(),)
