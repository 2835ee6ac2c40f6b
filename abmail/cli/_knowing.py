"""What `abmail check` knows beside the files: opens the project's database to read, where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from abmail._check_settings import CheckSettings
    from abmail.check import Around, Chosen
    from abmail.store import Store

__all__ = ["around"]


@contextmanager
def around(
    settings: CheckSettings,
    chosen: Chosen,
    paths: Sequence[Path],
    *,
    root: Path,
    audience: Path | None,
    against: str | None,
) -> Iterator[Around]:
    """What is known, as long as the database is open."""
    from abmail._around import Commit
    from abmail._around import around as put_together

    if audience is not None:
        settings = replace(settings, audience=str(audience.absolute()))
    today = datetime.now(UTC).date()
    commit = None if against is None else Commit(against, paths)
    store = _store(settings.database, root) if chosen.needs_more({"today"}) else None
    try:
        yield put_together(root, settings, today=today, store=store, against=commit)
    finally:
        if store is not None:
            store.close()


def _store(setting: str, root: Path) -> Store | None:
    """The database, opened to read; None where there is none, or where it cannot be read, which is said."""
    from abmail._around import located

    url = located(os.environ.get("ABMAIL_DB") or setting, root)
    kind, _, path = url.partition(":///")
    if kind.startswith("sqlite") and not Path(path).is_file():
        return None
    from abmail.errors import AbmailError
    from abmail.store import Store

    try:
        return Store(url, read_only=True)
    except AbmailError as error:
        click.echo(f"checked without the database: {error}", err=True)
        return None
