"""AB4, content: whether the mail can be made, and whether people should get it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from abmail._rules.base import Case, Check, Finding
from abmail.diagnostics import Rule

__all__ = ["RULES"]


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


RULES: Final[tuple[Check, ...]] = (NoSubject(), SaidTwice())
