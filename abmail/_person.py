"""Somebody's own data: all that is kept of a person, for them to read and for programs, and how it is erased."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abmail._habits import why_values
from abmail.sendtime import SendTime

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMAT_VERSION", "person_data", "person_text"]

FORMAT_VERSION = 1
_TITLES = {
    "recipient": "On the list", "suppressed": "No mail goes to this address", "mails": "Mails",
    "other_events": "Events that belong to no mail", "send_time": "When this person is expected to read",
}  # fmt: skip


def person_data(
    email: str, held: Mapping[str, Any], *, variant: Callable[[str, int], str], model: Path | None
) -> dict[str, Any]:
    """All that is kept of a person, JSON-able.

    Args:
        email: The address.
        held: What the store holds, as `Store.holdings` gives it.
        variant: Experiment and number of a cell -> its name.
        model: File of the send-time model.
    """
    recipient, suppression = held["recipient"], held["suppression"]
    events: dict[str, list[dict[str, Any]]] = {mail["id"]: [] for mail in held["messages"]}
    for row in held["events"]:
        events[row["message"]].append(_event(row))
    return {
        "format_version": FORMAT_VERSION,
        "email": email,
        "forgotten_at": _text(held["forgotten_at"]),
        "recipient": None if recipient is None else _plain(recipient, without={"email", "erased_at"}),
        "suppressed": None if suppression is None else _plain(suppression, without={"email"}),
        "mails": [
            {
                **_plain(mail, without={"recipient", "email", "cell", "position"}),
                "variant": None if mail["cell"] is None else variant(mail["experiment"], mail["cell"]),
                "send_time": _slot(held["slots"].get(mail["id"])),
                "events": events[mail["id"]],
            }
            for mail in held["messages"]
        ],
        "other_events": [_event(row) for row in held["apart"]],
        "send_time": None if recipient is None else _habits(recipient["id"], model),
    }


def _plain(row: Mapping[str, Any], *, without: set[str]) -> dict[str, Any]:
    return {name: _text(value) for name, value in row.items() if name not in without}


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row["body"].items() if value not in ("", None, [])}


def _slot(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else _plain(row, without={"message"})


def _habits(recipient: str, model: Path | None) -> dict[str, Any] | None:
    """What the send-time model remembers of a recipient; None where it knows nothing."""
    if model is None or not model.is_file():
        return None
    found = why_values(SendTime.load(model).why(recipient, list(range(168))))
    return found if found["known"] else None


def person_text(data: Mapping[str, Any]) -> str:
    """The same for people: a list of names and values under a few titles."""
    lines = [f"All that is kept of {data['email']}"]
    if data["forgotten_at"]:
        lines.append(
            f"This address was erased on {data['forgotten_at'][:10]}; a hash keeps mail from going to it again."
        )
    for name, title in _TITLES.items():
        if data[name]:
            lines += ["", title, *_lines(data[name], 1)]
    if len(lines) == 1:
        lines.append("Nothing.")
    return "\n".join(lines)


def _lines(value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(value, Mapping):
        lines: list[str] = []
        for name, each in value.items():
            if isinstance(each, Mapping | list) and each:
                lines += [f"{indent}{name}:", *_lines(each, depth + 1)]
            elif each not in (None, "", [], {}):
                lines.append(f"{indent}{name}: {each}")
        return lines
    if value and isinstance(value[0], Mapping):
        return [line for each in value for line in (f"{indent}-", *_lines(each, depth + 1))]
    return [f"{indent}{', '.join(map(str, value))}"]
