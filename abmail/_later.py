"""Values that are worked out when they are first read."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Later", "named_figures"]

T = TypeVar("T")


class Later(Generic[T]):
    """Stands for a value until somebody reads it; compared, hashed, shown, copied and pickled as that value."""

    __slots__ = ("_found", "_work")

    def __init__(self, work: Callable[[], T]) -> None:
        """Take a function without side effects; two threads that read at once may both call it."""
        self._work: Callable[[], T] | None = work
        self._found: tuple[T, ...] = ()

    @property
    def value(self) -> T:
        """The value."""
        work = self._work
        if work is not None:
            self._found = (work(),)
            self._work = None  # lets go of what it was worked out from
        return self._found[0]

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Later) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return repr(self.value)

    def __reduce__(self) -> tuple[Callable[[T], Later[T]], tuple[T]]:
        return _known, (self.value,)


def _known(value: T) -> Later[T]:
    return Later(lambda: value)


def named_figures(result: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, with those of values worked out later in their place."""
    figures: dict[str, Any] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        figures |= named_figures(value.value) if isinstance(value, Later) else {field.name: value}
    return figures
