"""What turns a filled template into the HTML that goes out: MJML and CSS inlining, both optional."""

from __future__ import annotations

from collections.abc import Callable

from abmail.errors import MissingExtra

__all__ = ["is_mjml", "layout"]

Step = Callable[[str], str]


def is_mjml(name: str) -> bool:
    """Whether a template's name says that it writes MJML: ``mail.mjml``, ``mail.mjml.j2``."""
    return name.removesuffix(".j2").endswith(".mjml")


def layout(*, mjml: bool, inline_css: bool) -> Step | None:
    """What a filled template still has to go through; None where it is the HTML already.

    Args:
        mjml: It is MJML.
        inline_css: Its style sheets are to be written into the tags; rules such as ``@media`` stay where they are.

    Raises:
        MissingExtra: mrml or css-inline is not installed.
    """
    steps = [*([_from_mjml()] if mjml else ()), *([_inliner()] if inline_css else ())]
    if not steps:
        return None

    def through(html: str) -> str:
        for step in steps:
            html = step(html)
        return html

    return through


def _from_mjml() -> Step:
    try:
        import mrml
    except ModuleNotFoundError as error:
        raise MissingExtra("a template in MJML", "mjml") from error
    options = mrml.ParserOptions(include_loader=mrml.noop_loader())  # includes are Jinja's, in the campaign's folder

    def convert(source: str) -> str:
        try:
            return str(mrml.to_html(source, parser_options=options).content)
        except OSError as error:  # what mrml raises for a fault of syntax
            raise ValueError(f"the MJML cannot be read: {error}") from error

    return convert


def _inliner() -> Step:
    try:
        import css_inline
    except ModuleNotFoundError as error:
        raise MissingExtra("message.inline_css", "html") from error
    inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)

    def inline(html: str) -> str:
        try:
            return inliner.inline(html)
        except css_inline.InlineError as error:
            raise ValueError(f"the style sheet cannot be inlined: {error}") from error

    return inline
