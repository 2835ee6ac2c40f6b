"""A model as a file: plain arrays in an npz archive, and a JSON text with what is not an array. Nothing is pickled."""

from __future__ import annotations

import json
import zipfile
from os import PathLike
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from abmail._classes import Classes
from abmail._history import Labels
from abmail._learning import Population
from abmail._memory import Memory
from abmail.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from abmail.sendtime import SendTime

__all__ = ["FORMAT_VERSION", "read_model", "write_model"]

FORMAT_VERSION: Final = 1

_ARRAYS: Final = {
    "keys": "people.keys", "ids": "people.ids", "segment": "segment", "proxied": "proxied",
    "cells": "memory.cells", "classes": "memory.classes", "opens": "memory.opens", "sends": "memory.sends",
    "ageing": "population.ageing", "by_hour": "population.by_hour", "random_opens": "population.random_opens",
    "random_expected": "population.random_expected", "shapes": "population.classes.shapes",
    "shares": "population.classes.shares",
}  # fmt: skip


def write_model(target: Path | str | BinaryIO, model: SendTime) -> None:
    """Write a model."""
    population = model.population
    about = {
        "format": "abmail-sendtime", "format_version": FORMAT_VERSION, "forget": model.forget,
        "segments": list(model.segments), "by": model.by,
        "alpha": population.classes.alpha, "beta": population.classes.beta,
        "residual": population.residual, "clicks_per_open": population.clicks_per_open, "opens": population.opens,
        "random_sends": population.random_sends,
    }  # fmt: skip
    arrays = {name: _reached(model, path) for name, path in _ARRAYS.items()}
    text = np.array(json.dumps(about))
    if hasattr(target, "write"):
        np.savez(target, about=text, **arrays)
    else:
        with open(target, "wb") as file:  # noqa: PTH123  (savez itself would add a suffix to the name)
            np.savez(file, about=text, **arrays)


def _reached(model: SendTime, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name)
    return found


def read_model(source: Path | str | BinaryIO) -> dict[str, Any]:
    """The attributes of a model that `write_model` wrote.

    Raises:
        ModelError: The file is none, or of a newer version.
    """
    try:
        with np.load(source, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            found = {name: file[name] for name in _ARRAYS} if about["format_version"] == FORMAT_VERSION else {}
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        name = source if isinstance(source, str | PathLike) else "the file"
        raise ModelError(
            f"{name} is no send-time model, or a damaged one", hint="learn it anew: `abmail sendtime fit`"
        ) from error
    if not found:
        raise ModelError(
            f"the model has format version {about['format_version']}, this abmail reads {FORMAT_VERSION}",
            hint="learn it anew (`abmail sendtime fit`), or use a newer abmail",
        )
    return _attributes(about, found)


def _attributes(about: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    classes = Classes(shapes=found["shapes"], shares=found["shares"], alpha=about["alpha"], beta=about["beta"])
    population = Population(
        ageing=found["ageing"], classes=classes, residual=about["residual"], by_hour=found["by_hour"],
        random_opens=found["random_opens"], random_expected=found["random_expected"],
        random_sends=about["random_sends"], clicks_per_open=about["clicks_per_open"], opens=about["opens"],
    )  # fmt: skip
    return {
        "population": population,
        "people": Labels(found["keys"], found["ids"]),
        "memory": Memory(found["cells"], found["classes"], found["opens"], found["sends"]),
        "segment": found["segment"],
        "segments": tuple(about["segments"]),
        "proxied": found["proxied"],
        "forget": about["forget"],
        "by": about.get("by", ""),
    }
