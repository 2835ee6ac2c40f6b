"""A report's page as one self-contained HTML file with charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abmail._html import fill_page
from abmail._report_parts import spans
from abmail._report_view import view
from abmail.errors import MissingExtra

if TYPE_CHECKING:
    from abmail._report_charts import Figure
    from abmail._report_words import Words
    from abmail.report import Language, Report

__all__ = ["to_html"]


def to_html(report: Report, language: Language) -> str:
    """Print a report as one HTML page; see `abmail.report.Report.to_html`."""
    page = view(report, language)
    return fill_page(
        "report.html.j2", filters={"spans": spans}, page=page, words=page.words, figures=_draw(report, page.words)
    )


def _draw(report: Report, words: Words) -> tuple[Figure, ...]:
    if not report.sent:
        return ()
    try:
        from abmail._report_charts import figures
    except ImportError as error:
        raise MissingExtra("charts in the HTML report", "report") from error
    return figures(report, words)
