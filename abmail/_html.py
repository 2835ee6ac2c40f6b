"""The package's own HTML pages: everything that is put into them is escaped, and nothing may be missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["fill_page"]


def fill_page(name: str, *, filters: Mapping[str, Callable[..., Any]] | None = None, **values: object) -> str:
    """Fill a page.

    Args:
        name: Of a file in the package's ``templates``.
        filters: Further filters of the page, by name.
        values: What the page shows.
    """
    environment = Environment(
        loader=PackageLoader("abmail"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(name).render(values)
