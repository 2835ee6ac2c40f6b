"""AB4, content: whether the mail can be made, and whether its variants differ in what is tested alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from abmail._fields import advice
from abmail._rules.base import Case, Check, Finding
from abmail._rules.mail import Text, destination, folded
from abmail._values import shortened
from abmail.diagnostics import Rule

if TYPE_CHECKING:
    from abmail._spec_types import Factor
    from abmail.render import Proof

__all__ = ["RULES"]

_FOR_TEXTS: Final = ("recipient", "unsubscribe_url", "view_url", "conversion_token", "language", "experiment", "cell")
_FOR_TEMPLATES: Final = (*_FOR_TEXTS, "subject", "preheader", "from_name")


class NoSubject(Check):
    """The mail has no subject line, neither as a factor nor the same for all.

    **Why.** A mail without a subject is not sent: every message would fail.

    **Bad.**

    ```yaml
    factors: {cta: {register: "Register now", seats: "See free seats"}}
    control: {cta: register}
    ```

    **Good.**

    ```yaml
    factors: {cta: {register: "Register now", seats: "See free seats"}}
    control: {cta: register}
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", subject: "Join us", preheader: "Live"}
    ```

    **Fix.** Write `message.subject`, or make the subject a factor.
    """

    rule = Rule("AB401", "no-subject")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for the subject in both places."""
        if "subject" not in case.experiment.factors and case.experiment.message.subject is None:
            message = "the mail has no subject line"
            yield Finding(("message",), message, "write message.subject, or make subject a factor", at_key=True)


class SaidTwice(Check):
    """A text of the message is a factor, too.

    **Why.** The text of the factor replaces that of the message, which then nobody sees.

    **Bad.**

    ```yaml
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", subject: "Join us", preheader: "Live"}
    ```

    **Good.**

    ```yaml
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "Live"}
    ```

    **Fix.** Remove the text of the message, or make it a level of the factor.
    """

    rule = Rule("AB402", "said-twice", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the message's texts with the factors."""
        message = case.experiment.message
        for key, text in (("subject", message.subject), ("preheader", message.preheader)):
            if text is not None and key in case.experiment.factors:
                yield Finding(("message", key), f"{key} is a factor: this text is never sent", "remove it", at_key=True)


class TemplateBroken(Check):
    """A template, or a text of the definition, cannot be filled.

    **Why.** What does not compile makes no mail at all: the experiment could not be applied, or every message would
    fail.

    **Bad.**

    ```html mails/example.html.j2
    <p>{% if recipient.name %}{{ recipient.name }},</p>
    <p><a href="https://example.com/">{{ subject }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <p>{% if recipient.name is defined %}{{ recipient.name }},{% endif %}</p>
    <p><a href="https://example.com/">{{ subject }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Correct the line that the message names; `abmail preview` shows the mail afterwards.
    """

    rule = Rule("AB403", "template-broken")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compile and fill everything, as for sending."""
        mail = case.mail
        if mail is None or mail.failure is None:
            return
        error = mail.failure
        if error.variable and any(UnknownVariable().find(case)):
            return
        text = mail.text(error.template)
        location = text.location if text and text.path is None else ("message", "template")
        yield Finding(location, str(error), error.hint, place=text.place(None, error.line) if text else None)


class UnknownVariable(Check):
    """A template asks for a name that nothing supplies: no factor, no part of the mail, no column of the list.

    **Why.** A name that is not there is an error when the mail is made, for everybody or for those who lack the column,
    and not an empty place that a reader would see.

    **Bad.**

    ```html mails/example.html.j2
    <p>{{ sujbect }}</p>
    <p><a href="https://example.com/">Read more</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <p>{{ subject }}{{ recipient.company | default("") }}</p>
    <p><a href="https://example.com/">Read more</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Correct the name, import the column, or guard what may be missing: `{{ recipient.company | default("") }}`.
    Columns are known with `--audience FILE`, `audience` in `[check]`, or a database.
    """

    rule = Rule("AB404", "unknown-variable")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the names that are used with those that there are."""
        for text in case.mail.texts if case.mail else ():
            if "{" in text.source:
                yield from self._of(text, case)

    def _of(self, text: Text, case: Case) -> Iterator[Finding]:
        from abmail._templates import names_used
        from abmail.errors import RenderError

        try:
            names = names_used(text.source, text.name)
        except RenderError:  # another rule's
            return
        people = case.around.people
        known = _FOR_TEXTS if text.path is None else tuple(dict.fromkeys((*_FOR_TEMPLATES, *case.experiment.factors)))
        columns = None if people is None or not people.columns else ("id", "email", *sorted(people.columns))
        for name, line in names.variables.items():
            if name not in known:
                hint = f"write recipient.{name}" if name in (columns or ()) else advice(name, known)
                if columns is None and hint.startswith("known"):
                    hint = f"write recipient.{name} for a column of the list; {hint}"
                yield self._finding(text, name, line, f"nothing is called {name} in a mail", hint)
        for name, line in names.columns.items():
            if columns is not None and name not in columns:
                yield self._finding(text, name, line, f"no column of the list is called {name}", advice(name, columns))

    def _finding(self, text: Text, name: str, line: int, message: str, hint: str) -> Finding:
        found = text.find(rf"(?<!\w){re.escape(name)}(?!\w)", line)
        return Finding(text.location, message, hint, place=text.place(found, line))


class AlikeVariants(Check):
    """Two levels of a factor make the same mail.

    **Why.** A test between mails that readers cannot tell apart finds chance, and costs the list. Mostly the template
    does not use what varies, or a text was copied and not changed.

    **Bad.**

    ```yaml
    factors: {cta: {register: "Register now", seats: "See free seats"}}
    control: {cta: register}
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", subject: "Join us", preheader: "Live"}
    ```

    ```html mails/example.html.j2
    <p><a href="https://example.com/">Read more</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```yaml
    factors: {cta: {register: "Register now", seats: "See free seats"}}
    control: {cta: register}
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", subject: "Join us", preheader: "Live"}
    ```

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ cta }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Use the factor in the template (`{{ cta }}`), or give the levels different texts.
    """

    rule = Rule("AB408", "alike-variants")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare what the levels make of the mail, or their texts where no mail can be made."""
        looks = list(_looks(case))
        usual = Counter((each.factor, each.header) for each in looks)
        seen: dict[tuple[object, ...], str] = {}
        for factor, level, words, header, proof in looks:
            if usual[factor, header] == 1:  # told apart before the mail is opened
                continue
            page = (" ".join(proof.bare.split()), *_destinations(proof)) if proof else ()
            first = seen.setdefault((factor, header, page), level)
            if first != level:
                alike = words == folded(case.experiment.factors[factor][first])
                hint = "" if alike else f"use {{{{ {factor} }}}} in the template"
                message = f"readers cannot tell {level} from {first}" + (": their texts are alike" if alike else "")
                yield Finding(("factors", factor, level), message, hint or "write another text")


class LinkDiffers(Check):
    """A variant leads to another page than the control.

    **Why.** Where the pages differ, so may the clicks and what comes of them; a difference then says nothing about the
    text that was to be tested. Mostly a link was changed in one place only.

    **Bad.**

    ```yaml
    factors: {cta: {register: "Register now", seats: "See free seats"}}
    control: {cta: register}
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", subject: "Join us", preheader: "Live"}
    ```

    ```html mails/example.html.j2
    <p><a href="https://example.com/{{ 'seats' if cell == 'seats' else 'register' }}">{{ cta }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```yaml
    factors: {cta: {register: "Register now", seats: "See free seats"}}
    control: {cta: register}
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", subject: "Join us", preheader: "Live"}
    ```

    ```html mails/example.html.j2
    <p><a href="https://example.com/register?utm_content={{ cell }}">{{ cta }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Lead every variant to the same page; `utm_` parameters may differ. Where the page is what you test, ignore
    the finding with that reason.
    """

    rule = Rule("AB410", "link-differs", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare where the links of each level lead with those of the control."""
        mail = case.mail
        if mail is None or mail.control is None:
            return
        for factor, level, proof in mail.told:
            if proof.links == mail.control.links:
                continue
            usual = _destinations(mail.control)
            other = [each for each in _destinations(proof) if each not in usual]
            if other and len(proof.links) == len(mail.control.links):
                message = f"{level} leads to {shortened(other[0])}, where the control does not"
                yield Finding(("factors", factor, level), message, "lead both to one page, so that the text decides")


RULES: Final[tuple[Check, ...]] = (
    NoSubject(),
    SaidTwice(),
    TemplateBroken(),
    UnknownVariable(),
    AlikeVariants(),
    LinkDiffers(),
)


class _Look(NamedTuple):
    """A level of a factor, its text, and what its mail shows in an inbox; the text where no mail can be made."""

    factor: Factor
    level: str
    words: str
    header: tuple[str, ...]
    proof: Proof | None


def _looks(case: Case) -> Iterator[_Look]:
    factors, told = case.experiment.factors, case.mail.told if case.mail else ()
    proofs = {(each.factor, each.level): each.proof for each in told}
    for factor, levels in factors.items():
        for level, text in levels.items():
            proof = proofs.get((factor, level))
            words = folded(text)
            shown = (proof.from_name, proof.subject, proof.preheader) if proof else (words,)
            yield _Look(factor, level, words, tuple(map(folded, shown)), proof)


def _destinations(proof: Proof) -> list[str]:
    return [destination(href, proof.cell) for href in proof.links]
