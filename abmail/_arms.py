"""Arms by name or by index, as callers give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["arm_index", "arm_names"]


def arm_names(names: Sequence[str] | None, n_arms: int) -> tuple[str, ...]:
    """Names of the arms as given; A, B, ... by default.

    Raises:
        ValueError: The names are not different ones, one per arm.
    """
    if names is None:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        return tuple(letters[:n_arms]) if n_arms <= 26 else tuple(f"arm {i}" for i in range(n_arms))
    labels = tuple(names)
    if len(labels) != n_arms or len(set(labels)) != n_arms:
        raise ValueError(f"names are {labels}, must be {n_arms} different names, one per arm")
    return labels


def arm_index(arm: int | str, labels: tuple[str, ...], what: str = "control") -> int:
    """Index of an arm given by index or name.

    Raises:
        ValueError: There is no such arm.
    """
    if isinstance(arm, str):
        if arm not in labels:
            raise ValueError(f"{what} is '{arm}', must be one of {', '.join(labels)}")
        return labels.index(arm)
    if not 0 <= arm < len(labels):
        raise ValueError(f"{what} is {arm}, must be an arm's index from 0 to {len(labels) - 1}")
    return int(arm)
