"""AB4, content: what readers, mail programs and laws expect of a mail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from abmail._fields import Location
from abmail._rules.base import Case, Check, Finding
from abmail._rules.wording import has_postal_address, readable_letters, spam_hints
from abmail._values import shortened
from abmail.diagnostics import Rule, display_width

__all__ = ["RULES"]

_PHONE_COLUMNS: Final = 42
_FEWEST_LETTERS: Final = 25
_GMAIL_BYTES: Final = 102_000
_INSECURE: Final = re.compile(
    r"""(?:\b(?:href|src|background)\s*=\s*|url\()["']?\s*(?P<url>http://(?!www\.w3\.org/)[^\s"'<>){]*)""",
    re.IGNORECASE,
)
_HIDDEN: Final = re.compile(
    r"""display\s*:\s*none|mso-hide\s*:|max-height\s*:\s*0|visibility\s*:\s*hidden""", re.IGNORECASE
)
_PICTURE: Final = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_ALT: Final = re.compile(r"\balt\b", re.IGNORECASE)


class NoUnsubscribeLink(Check):
    """The mail shows no link for unsubscribing where its readers look for one.

    **Why.** Laws on advertising by mail, Gmail and Yahoo ask for a link that readers see. Without one in the template,
    or with one that is hidden, abmail puts a bare one below everything: nobody is kept against their will, but what
    looks like a mistake is reported as spam instead.

    **Bad.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a></p>
    <p>Example Company, 1 Example Street</p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Write `<a href="{{ unsubscribe_url }}">Unsubscribe</a>` into the footer of the template.
    """

    rule = Rule("AB405", "no-unsubscribe-link", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the links of the control's page."""
        control = case.mail.control if case.mail else None
        if control is not None and not control.offers_leave:
            message = "the template shows no link for unsubscribing: a bare one will stand below everything"
            yield Finding(("message", "template"), message, 'write <a href="{{ unsubscribe_url }}">Unsubscribe</a>')


class NoPostalAddress(Check):
    """The mail does not seem to say where its sender is.

    **Why.** Advertising by mail has to carry the sender's postal address by law in the United States (CAN-SPAM Act),
    in Japan (特定電子メール法) and elsewhere.

    **Bad.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a></p>
    <p>Example Company. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a></p>
    <p>Example Company, 1 Example Street, Example City. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Write the address into the footer. It is looked for by what addresses look like (a street with a number, a
    postcode, 〒); where yours is not recognised, ignore the finding with that reason.
    """

    rule = Rule("AB406", "no-postal-address", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for an address in the control's text."""
        control = case.mail.control if case.mail else None
        if control is not None and not has_postal_address(control.text) and not has_postal_address(control.page_text):
            message = "the mail shows no postal address of its sender"
            yield Finding(
                ("message", "template"), message, "write it into the footer, as laws on advertising ask for it"
            )


class NoTextPart(Check):
    """The text part of the mail has next to no words.

    **Why.** Watches, screen readers, text-only mail programs and spam filters read that part. A mail that is one
    picture, or a text template that is empty, tells them nothing.

    **Bad.**

    ```html mails/example.html.j2
    <a href="https://example.com/"><img src="https://example.com/sale.png" alt=""></a>
    <p><a href="{{ unsubscribe_url }}">Leave</a> 1 Main St</p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <a href="https://example.com/"><img src="https://example.com/sale.png" alt="The sale begins: 20 % off shoes"></a>
    <p>Example Company, 1 Main Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Say in words what the pictures show: in the template, in their `alt` texts, or in `message.text_template`.
    """

    rule = Rule("AB407", "no-text-part", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Count what can be read in the control's text part."""
        control = case.mail.control if case.mail else None
        if control is not None and readable_letters(control.text) < _FEWEST_LETTERS:
            key = "text_template" if case.experiment.message.text_template else "template"
            message = "the text part has next to no words"
            yield Finding(("message", key), message, "say in words, or in alt texts, what the pictures show")


class LongSubject(Check):
    """A subject line is longer than what phones show.

    **Why.** Phones cut a subject after about 42 columns, which are 21 Japanese characters. What stands behind them
    most people never see, and a test of it finds nothing.

    **Bad.**

    ```yaml
    factors:
      subject:
        plain: "Join our spring webinar"
        long: "What we learned from forty companies about reports that take three ways less time"
    ```

    **Good.**

    ```yaml
    factors:
      subject:
        plain: "Join our spring webinar"
        short: "3 ways to cut reporting time by 40 %"
    ```

    **Fix.** Say what matters within the first 42 columns, or ignore the finding where the rest may be lost.
    """

    rule = Rule("AB409", "long-subject", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Measure each subject, wide characters as two columns."""
        for location, subject in _lines(case, "subject"):
            width = display_width(subject)
            if width > _PHONE_COLUMNS:
                message = f"the subject takes {width} columns, phones show about {_PHONE_COLUMNS}"
                yield Finding(location, message, f"they would show: {_cut(subject, _PHONE_COLUMNS)}")


class InsecureLink(Check):
    """A link or a picture is loaded without encryption.

    **Why.** Browsers warn of such pages, some mail programs block such pictures, and who sits on the line reads along.

    **Bad.**

    ```html mails/example.html.j2
    <p><a href="http://example.com/">{{ subject }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Write `https://`; where a site has no certificate yet, it is time for one.
    """

    rule = Rule("AB411", "insecure-link", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the links of the sources, and at those that are put together while they are filled."""
        mail = case.mail
        if mail is None:
            return
        written = []
        for text in mail.texts:
            if "http:" not in text.source.lower():  # a quick test that most pass
                continue
            for found in _INSECURE.finditer(text.source):
                written.append(found["url"])
                message = f"{shortened(found['url'])} is not encrypted"
                yield Finding(text.location, message, "write https://", place=text.place(found))
        for href in dict.fromkeys(mail.control.links if mail.control else ()):
            if href.lower().startswith("http://") and not href.startswith(tuple(written)):
                yield Finding(("message", "template"), f"{shortened(href)} is not encrypted", "write https://")


class SpamHints(Check):
    """A subject, preview text or sender's name is written as spam is.

    **Why.** Filters weigh such words, and readers who take the mail for spam report it; complaints cost the sender's
    standing for every later mail.

    **Bad.**

    ```yaml
    factors: {subject: {plain: "Join our spring webinar", loud: "ACT NOW!!! 100% FREE"}}
    ```

    **Good.**

    ```yaml
    factors: {subject: {plain: "Join our spring webinar", free: "Seats are free until Friday!"}}
    ```

    **Fix.** Say it in plain words. The list of words is short and in English and Japanese; ignore the finding where one
    is meant as it stands.
    """

    rule = Rule("AB412", "spam-hints", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at what readers see in the list of their mails."""
        for name in ("subject", "preheader", "from_name"):
            for location, text in _lines(case, name):
                if hints := list(spam_hints(text)):
                    yield Finding(location, f"this looks like spam: {'; '.join(hints)}", "say it in plain words")


class MissingPreheader(Check):
    """The mail has no preview text.

    **Why.** Mail programs show a line behind the subject. Without one they take the first words of the mail, which are
    seldom the ones that make people open it: a greeting, or a link to the mail in a browser.

    **Bad.**

    ```yaml
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>"}
    ```

    **Good.**

    ```yaml
    message: {template: mails/example.html.j2, from: "Sales <news@example.com>", preheader: "30 minutes, live"}
    ```

    **Fix.** Write `message.preheader`, make `preheader` a factor, or put a hidden text at the beginning of the
    template.
    """

    rule = Rule("AB413", "missing-preheader", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for a preview text in the definition and at the beginning of the page."""
        if "preheader" in case.experiment.factors or case.experiment.message.preheader:
            return
        control = case.mail.control if case.mail else None
        if control is not None and not _HIDDEN.search(control.html):
            message = "the mail has no preview text: mail programs show its first words instead"
            yield Finding(("message",), message, 'write preheader: "30 minutes, live"', at_key=True)


class LargeMail(Check):
    """The page of the mail is larger than what Gmail shows.

    **Why.** Gmail cuts a mail after 102 KB; what is behind, the open pixel and the link for unsubscribing, is lost.

    **Bad.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a></p>
    {% for row in range(2000) %}<p style="margin:0;padding:0;font-family:Arial,sans-serif">Row {{ row }}</p>{% endfor %}
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a></p>
    {% for row in range(20) %}<p style="margin:0;padding:0;font-family:Arial,sans-serif">Row {{ row }}</p>{% endfor %}
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Shorten the mail, link to the rest, and move styles that repeat into one style sheet.
    """

    rule = Rule("AB414", "large-mail", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Measure the page of each level, and name the first that is too large."""
        told = case.mail.told if case.mail else ()
        sizes = {len(each.proof.html.encode(errors="replace")): each.proof.cell for each in told}
        if told and max(sizes) > _GMAIL_BYTES:
            message = f"the page of {sizes[max(sizes)]} has {max(sizes) / 1000:.0f} KB: Gmail cuts it after 102"
            yield Finding(("message", "template"), message, "shorten it, and link to the rest")


class MissingAlt(Check):
    """A picture has no text that stands for it.

    **Why.** Many mail programs load pictures only when asked to, and screen readers never see them: readers then find
    an empty frame, or the name of a file.

    **Bad.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a><img src="https://example.com/shoes.png"></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Good.**

    ```html mails/example.html.j2
    <p><a href="https://example.com/">{{ subject }}</a><img src="https://example.com/shoes.png" alt="Red shoes"></p>
    <p>Example Company, 1 Example Street. <a href="{{ unsubscribe_url }}">Unsubscribe</a></p>
    ```

    **Fix.** Write `alt="what it shows"`, and `alt=""` for what is decoration alone.
    """

    rule = Rule("AB415", "missing-alt", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the pictures of the sources."""
        for text in case.mail.texts if case.mail else ():
            for found in _PICTURE.finditer(text.source):
                if not _ALT.search(found[0]):
                    message = "the picture has no alt text"
                    yield Finding(text.location, message, 'write alt="what it shows"', place=text.place(found))


RULES: Final[tuple[Check, ...]] = (
    NoUnsubscribeLink(),
    NoPostalAddress(),
    NoTextPart(),
    LongSubject(),
    InsecureLink(),
    SpamHints(),
    MissingPreheader(),
    LargeMail(),
    MissingAlt(),
)


def _lines(case: Case, name: str) -> Iterator[tuple[Location, str]]:
    """The texts of a name that readers see, each where the definition has it; as filled where that can be told."""
    told = case.mail.told if case.mail else ()
    if name in case.experiment.factors:
        filled = {each.level: getattr(each.proof, name) for each in told if each.factor == name}
        for level, text in case.experiment.factors[name].items():  # type: ignore[index]  # it is one of them
            if level in filled or "{" not in text:
                yield ("factors", name, level), filled.get(level, text)
    elif name != "from_name" and (text := getattr(case.experiment.message, name)) and (told or "{" not in text):
        yield ("message", name), getattr(told[0].proof, name) if told else text


def _cut(text: str, columns: int) -> str:
    """The beginning of a text that fits."""
    while display_width(text) >= columns:
        text = text[:-1]
    return f"{text.rstrip()}…"
