"""Keeps a template from running away: an environment that counts what a template does, and stops it.

A template may make so many loop passes, calls and characters and no more: the count is the same on every machine, and
works in any thread. Work inside one operation is bounded by the size of what it may make.
"""

from __future__ import annotations

import re
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, cast

from jinja2 import nodes, pass_context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2.runtime import Context

__all__ = ["MAX_OUTPUT", "MAX_STEPS", "GuardedEnvironment", "TooMuchError", "guarded"]

MAX_OUTPUT: Final = 1_000_000  # octets that one template may write
MAX_STEPS: Final = 50_000  # loop passes, calls and the like in one mail
SECONDS: Final = 2.0  # of the thread's processor time, where a clock is given
_STEP_CHARS: Final = 200  # characters that cost as much as one step
_MAX_BITS: Final = 10_000  # of a whole number
_LONG_NUMBER = re.compile(r"[0-9]{7,}")
_STEP, _SIZED = "abmail step", "abmail sized"  # no name that a template could write


class TooMuchError(RuntimeError):
    """A template does more than a mail may need."""


class _Budget(threading.local):
    """What is left for the mail that this thread is making."""

    left = MAX_STEPS
    clock: Callable[[], float] | None = None
    end = 0.0


class GuardedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with a budget; `start` fills it."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, finalize=self._written)
        self._budget = _Budget()
        self.filters[_STEP], self.filters[_SIZED] = self._step_filter(), self._sized_filter()
        for name in ("center", "indent", "slice", "batch", "wordwrap", "truncate"):
            self.filters[name] = _small_numbers(self.filters[name])
        for name in ("format", "replace", "join", "map"):
            self.filters[name] = getattr(self, f"_{name}")(self.filters[name])
        self.globals["range"] = self._range(cast("Callable[..., range]", self.globals["range"]))
        # Chance has no place in a mail: the same message must be the same when it is made again.
        del self.globals["lipsum"], self.filters["random"]

    def start(self, clock: Callable[[], float] | None = None) -> None:
        """Begin to count anew, for this thread.

        Args:
            clock: Seconds of processor time that this thread has used; None counts steps alone.
        """
        self._budget.left, self._budget.clock = MAX_STEPS, clock
        self._budget.end = clock() + SECONDS if clock else 0.0

    def spend(self, steps: int = 1) -> None:
        """Take from the budget.

        Raises:
            TooMuchError: Nothing is left.
        """
        budget = self._budget
        budget.left -= steps
        if budget.left < 0:
            raise TooMuchError(f"the template does more than {MAX_STEPS} steps; does a loop never end?")
        if budget.clock and budget.left % 16 < steps and budget.clock() > budget.end:
            raise TooMuchError(f"the template takes more than {SECONDS:g} seconds; does a loop never end?")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute an operator where the result stays small."""
        _require_small(operator, left, right)
        return self._weighed(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what may be called, where arguments are small."""
        self.spend()
        of = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)  # the sandbox wraps `format`
        if isinstance(of, str):
            args = tuple(list(self._each(each)) if hasattr(each, "__next__") else each for each in args)
            _require_small_call(of, getattr(obj, "__name__", ""), args, kwargs)
        return self._weighed(super().call(context, obj, *args, **kwargs))

    def _weighed(self, value: Any) -> Any:
        if isinstance(value, (str, list, tuple)):
            if len(value) > MAX_OUTPUT:
                raise TooMuchError(f"the template makes a value of more than {MAX_OUTPUT} characters or items")
            self.spend(1 + len(value) // _STEP_CHARS)
        return value

    def _each(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            yield self._weighed(value)

    def _written(self, value: Any) -> Any:
        """What jinja2 does with each value that is written: count its characters."""
        return self._weighed(value) if isinstance(value, str) and len(value) > _STEP_CHARS else value

    # -- what the syntax tree and the filters call ------------------------------------------------------------------

    def _step_filter(self) -> Callable[[Context, int], str]:
        @pass_context
        def step(_: Context, weight: int) -> str:
            self.spend(weight)
            return ""

        return step

    def _sized_filter(self) -> Callable[[Context, Any], Any]:
        @pass_context
        def sized(_: Context, value: Any) -> Any:
            return self._weighed(value)

        return sized

    def _range(self, make: Callable[..., range]) -> Callable[..., range]:
        def counted(*args: int) -> range:
            found = make(*args)
            self.spend(1 + len(found) // _STEP_CHARS)
            return found

        return counted

    def _format(self, fill: Callable[..., str]) -> Callable[..., str]:
        @wraps(fill)
        def checked(value: object, *args: Any, **kwargs: Any) -> str:
            _require_short_numbers(str(value), args, kwargs)
            return fill(value, *args, **kwargs)

        return checked

    def _replace(self, change: Callable[..., str]) -> Callable[..., str]:
        @wraps(change)
        def checked(context: Any, value: object, old: object, new: object, count: int | None = None) -> Any:
            _require_small_replace(str(value), str(old), str(new))
            return self._weighed(change(context, str(value) if not isinstance(value, str) else value, old, new, count))

        return checked

    def _join(self, join: Callable[..., str]) -> Callable[..., str]:
        @wraps(join)
        def checked(context: Any, value: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
            return self._weighed(join(context, self._each(value), *args, **kwargs))

        return checked

    def _map(self, apply: Callable[..., Iterable[Any]]) -> Callable[..., Iterable[Any]]:
        @wraps(apply)
        def counted(context: Any, value: Iterable[Any], *args: Any, **kwargs: Any) -> Iterable[Any]:
            return self._each(apply(context, value, *args, **kwargs))

        return counted


def guarded(tree: nodes.Template, environment: GuardedEnvironment) -> nodes.Template:
    """Put a step into each loop, macro and block of a template, and a measure on each `~`."""
    found: nodes.Template = _Counting(environment).visit(tree)
    return found


class _Counting(NodeTransformer):
    def __init__(self, environment: GuardedEnvironment) -> None:
        self._environment = environment

    def _counted(self, node: Any) -> Any:
        self.generic_visit(node)
        written = sum(len(each.data) for each in node.find_all(nodes.TemplateData))
        weight = nodes.Const(1 + written // _STEP_CHARS)
        step = nodes.ExprStmt(nodes.Filter(weight, _STEP, [], [], None, None))
        step.set_lineno(node.lineno).set_environment(self._environment)
        node.body.insert(0, step)
        return node

    visit_For = visit_Macro = visit_Block = visit_CallBlock = _counted  # noqa: N815  (jinja2's names)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        sized = nodes.Filter(node, _SIZED, [], [], None, None)
        sized.set_lineno(node.lineno).set_environment(self._environment)
        return sized


def _require_small(operator: str, left: Any, right: Any) -> None:
    sizes = [len(each) if isinstance(each, (str, list, tuple)) else None for each in (left, right)]
    numbers = [each if isinstance(each, int) else 0 for each in (left, right)]
    if operator == "*" and any(size is not None for size in sizes):
        _require(max(size or 0 for size in sizes) * max(*numbers, 0) <= MAX_OUTPUT)
    elif operator == "+" and None not in sizes:
        _require(sum(size or 0 for size in sizes) <= MAX_OUTPUT)
    elif operator == "*":
        _require(sum(abs(number).bit_length() for number in numbers) <= _MAX_BITS)
    elif operator == "**":
        _require(abs(numbers[0]).bit_length() * abs(numbers[1]) <= _MAX_BITS)
    elif operator == "%" and isinstance(left, str):
        _require_short_numbers(left, right if isinstance(right, tuple) else (right,), {})


def _require_small_call(of: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _require(all(abs(a) <= MAX_OUTPUT for a in (*args, *kwargs.values()) if isinstance(a, int)))
    if name in {"format", "format_map"}:
        _require_short_numbers(of, args, kwargs)
    elif name == "replace" and len(args) > 1:
        _require_small_replace(of, str(args[0]), str(args[1]))
    elif name == "expandtabs":
        _require(of.count("\t") * max([8, *(a for a in (*args, *kwargs.values()) if isinstance(a, int))]) <= MAX_OUTPUT)
    elif name == "join" and args and isinstance(args[0], (list, tuple)):
        _require(sum(len(str(each)) + len(of) for each in args[0]) <= MAX_OUTPUT)


def _require_short_numbers(pattern: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """No width of seven digits, written or given."""
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, (int, str))]
    widths = "*" in pattern or re.search(r"\{[^}]*\{", pattern) is not None
    _require(not _LONG_NUMBER.search(pattern))
    _require(not (widths and any(_LONG_NUMBER.search(str(each)) for each in given)))


def _require_small_replace(value: str, old: str, new: str) -> None:
    _require(len(value) + value.count(old) * len(new) <= 2 * MAX_OUTPUT)


def _require(small: bool) -> None:
    if not small:
        raise TooMuchError(f"the template makes a value of more than {MAX_OUTPUT} characters or items")


def _small_numbers(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _require(all(abs(a) <= MAX_OUTPUT for a in (*args, *kwargs.values()) if isinstance(a, int)))
        return filter_(*args, **kwargs)

    return checked
