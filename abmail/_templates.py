"""Compiles the templates of a mail and fills them, with errors that say where and what to do."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache, partial
from itertools import takewhile
from traceback import walk_tb
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from jinja2 import BaseLoader, StrictUndefined, TemplateNotFound, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2 import Template as Compiled
from jinja2.utils import missing

from abmail._filters import FILTERS
from abmail._guard import MAX_OUTPUT, GuardedEnvironment, guarded
from abmail.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping

    from jinja2 import Environment, TemplateRuntimeError

__all__ = ["Attributes", "Names", "Template", "Templates", "loaded_names", "names_used", "readable_text"]

_AFTER_NAME: Final = re.compile(r"^expected token 'end of print statement', got (.*)$")
_MANY: Final = 12  # names that are listed when none is near
_GUARDS: Final = frozenset({"default", "d", "defined", "undefined"})


class Template:
    """A compiled template.

    Attributes:
        name: Path of its file, or its place in the definition.
        autoescape: Whether it writes HTML.
        fixed: Pieces that it writes into every mail.
        variables: Names that it uses, those of what it includes apart.
    """

    __slots__ = ("_compiled", "_constant", "_environment", "_names", "autoescape", "fixed", "name", "variables")

    def __init__(self, environment: GuardedEnvironment, source: str, name: str) -> None:
        self._environment = environment
        self.autoescape = bool(environment.autoescape)
        self.name = name
        prepared = _prepared(source, name, self.autoescape)
        self._constant, self.variables = prepared.constant, prepared.variables
        self._compiled = None if prepared.constant is not None else prepared.bound_to(environment)
        loader = environment.loader
        self.fixed = prepared.fixed | (loader.fixed if isinstance(loader, _Files) else frozenset())
        self._names = frozenset({name, *(loader.files if isinstance(loader, _Files) else ())})

    def pieces(self, variables: Mapping[str, object], variant: str) -> list[str]:
        """Fill the template; the pieces joined are what it writes.

        Args:
            variables: What it may use.
            variant: Name of the cell, for errors.

        Raises:
            RenderError: It fails, or writes too much.
        """
        if self._constant is not None or self._compiled is None:
            return [self._constant or ""]
        try:
            return self._pieces(self._compiled, variables)
        except Exception as error:  # whatever a template does wrong concerns this mail alone
            raise self._failure(error, variables, variant) from error

    def fill(self, variables: Mapping[str, object], variant: str) -> str:
        """Likewise, as one text."""
        return "".join(self.pieces(variables, variant))

    def _pieces(self, compiled: Compiled, variables: Mapping[str, object]) -> list[str]:
        size, pieces = 0, list[str]()
        try:
            for piece in compiled.root_render_func(compiled.new_context(dict(variables))):
                # Values come as Markup, which would escape whatever is put together with it.
                pieces.append(piece if type(piece) is str else str.__str__(piece))
                size += len(piece)
                if size > MAX_OUTPUT:
                    break
        except Exception:
            self._environment.handle_exception()  # maps the lines of the code to those of the template
        if size > MAX_OUTPUT or (
            4 * size > MAX_OUTPUT and sum(len(each.encode(errors="surrogatepass")) for each in pieces) > MAX_OUTPUT
        ):
            raise ValueError(f"the template writes more than {MAX_OUTPUT} octets")
        return pieces

    def _failure(self, error: Exception, variables: Mapping[str, object], variant: str) -> RenderError:
        places = [(f.f_code.co_filename, line) for f, line in walk_tb(error.__traceback__)]
        name, line = next((p for p in reversed(places) if p[0] in self._names), (self.name, None))
        what, variable, hint = _described(error, variables)
        place = f"{name}, line {line}" if line else name
        return RenderError(
            f"{place}, variant {variant!r}: {what}",
            template=name,
            line=line,
            variant=variant,
            variable=variable,
            hint=hint,
        )


class Templates:
    """Compiles the templates of one experiment.

    Args:
        files: Templates that others may include, extend or import, by the name they use.
        clock: Seconds of processor time of the calling thread, for the time limit; None counts steps alone.

    Raises:
        RenderError: One of the files cannot be compiled.
    """

    __slots__ = ("_clock", "_html", "_text")

    def __init__(self, files: Mapping[str, str] | None = None, *, clock: Callable[[], float] | None = None) -> None:
        self._html, self._text = (_environment(autoescape=each, files=files or {}) for each in (True, False))
        self._clock = clock

    def html(self, source: str, name: str) -> Template:
        """Compile a template whose values are escaped.

        Raises:
            RenderError: It cannot be compiled.
        """
        return Template(self._html, source, name)

    def text(self, source: str, name: str) -> Template:
        """Compile a template whose values are written as they are.

        Raises:
            RenderError: It cannot be compiled.
        """
        return Template(self._text, source, name)

    def start(self) -> None:
        """Begin the next mail: what templates may do is counted anew."""
        self._html.start(self._clock)
        self._text.start(self._clock)


class Attributes:
    """What templates see of a recipient: columns by name, no methods that could shadow one."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


def loaded_names(source: str, name: str) -> dict[str, int]:
    """Names of the templates that a template includes, extends or imports -> the line where each stands first.

    Raises:
        RenderError: It cannot be read, or a name is no fixed text.
    """
    return dict(_loaded(source, name)) if "{%" in source else {}


@lru_cache(maxsize=256)
def _loaded(source: str, name: str) -> tuple[tuple[str, int], ...]:
    environment = _bare(autoescape=False)
    found: dict[str, int] = {}
    for node in _parsed(environment, source, name).find_all(
        (nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)
    ):
        for each in meta.find_referenced_templates(nodes.Template([node])):
            if each is not None:
                found.setdefault(each, node.lineno)
    return tuple(found.items())


class Names(NamedTuple):
    """What a template asks for without a guard, each name with the line where it stands first.

    Attributes:
        variables: Names that stand alone.
        columns: Columns of the recipient.
    """

    variables: dict[str, int]
    columns: dict[str, int]


@lru_cache(maxsize=256)
def names_used(source: str, name: str) -> Names:
    r"""Find the names that have to be there for a template to be filled.

    A name that stands anywhere in a `default` filter or a test `is defined` is guarded; so is what a template sets.

    Args:
        source: Of a template or of a text that may be one.
        name: Path of its file, or its place in the definition.

    Raises:
        RenderError: It cannot be read.

    >>> names_used("{{ cta }}\n{{ recipient.name | default('') }} {{ recipient['会社名'] }}", "a.html").columns
    {'会社名': 2}
    """
    environment = _bare(autoescape=False)
    tree = _parsed(environment, source, name)
    free = _variables(tree, name) - environment.globals.keys()
    guards = (each for each in tree.find_all((nodes.Filter, nodes.Test)) if each.name in _GUARDS)
    guarded_names = {_dotted(each) for guard in guards for each in (guard.node, *guard.node.find_all(nodes.Expr))}
    found = Names({}, {})
    for node in tree.find_all(nodes.Expr):
        owner, spelled = _dotted(node)
        if (owner, spelled) in guarded_names or not spelled:
            continue
        if owner == "recipient":
            found.columns.setdefault(spelled, node.lineno)
        elif not owner and spelled in free:
            found.variables.setdefault(spelled, node.lineno)
    return found


def _dotted(node: nodes.Node) -> tuple[str, str]:
    """``("recipient", "name")`` for a column, ``("", "cta")`` for a variable that is read, two empty texts else."""
    if isinstance(node, nodes.Name) and node.ctx == "load":
        return "", node.name
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return node.node.name, node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name) and isinstance(node.arg, nodes.Const):
        return node.node.name, str(node.arg.value)
    return "", ""


def readable_text(source: str) -> str:
    """What people can read of a factor's text that is a template: each of its alternatives, values in brackets.

    >>> readable_text("{% if recipient.language == 'ja' %}残席を確認する{% else %}See free seats{% endif %}")
    '残席を確認する / See free seats'
    >>> readable_text("{{ recipient.name | title }}, your seat is kept")
    '[recipient.name], your seat is kept'
    """
    pieces = [""]
    tokens = _bare(autoescape=False).lex(source)
    for _, kind, text in tokens:
        if kind == "data":
            pieces[-1] += text
        elif kind == "variable_begin":
            value = takewhile(lambda token: token[1] != "variable_end" and token[2] != "|", tokens)
            pieces[-1] += f"[{''.join(part for _, _, part in value).strip()}]"
        elif kind == "block_begin":
            pieces.append("")
    return " / ".join(piece.strip() for piece in pieces if piece.strip())


class _AbsentError(UndefinedError):
    """A name was used that is not defined; `owner` is what it was looked up in, `missing` for a variable."""

    def __init__(self, message: str | None, *, name: str | None, owner: object) -> None:
        super().__init__(message)
        self.name = name or ""
        self.owner = owner


class _Absent(StrictUndefined):
    """Undefined that remembers its name for the error."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: object = missing,
        name: str | None = None,
        exc: type[TemplateRuntimeError] = UndefinedError,
    ) -> None:
        if exc is UndefinedError:
            exc = cast("type[TemplateRuntimeError]", partial(_AbsentError, name=name, owner=obj))
        super().__init__(hint, obj, name, exc)


class _Files(BaseLoader):
    """The templates that others load: those that were stored with the definition, and no file on the disk."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)
        self.fixed: frozenset[str] = frozenset()
        self._compiled: dict[str, Compiled] = {}

    def compile(self, environment: GuardedEnvironment) -> None:
        """Compile all of them, so that a fault is found before the first mail."""
        for name, source in self.files.items():
            prepared = _prepared(source, name, bool(environment.autoescape))
            self._compiled[name] = prepared.bound_to(environment)
            self.fixed |= prepared.fixed

    def load(self, _: Environment, name: str, __: MutableMapping[str, object] | None = None) -> Compiled:
        """Find one by its name."""
        if name not in self._compiled:
            raise TemplateNotFound(name)
        return self._compiled[name]


def _environment(*, autoescape: bool, files: Mapping[str, str]) -> GuardedEnvironment:
    return _new_environment(autoescape=autoescape, files=files) if files else _bare(autoescape)


def _new_environment(*, autoescape: bool, files: Mapping[str, str]) -> GuardedEnvironment:
    # In a text, a line that holds only a tag leaves no empty line behind; HTML stays as it is written.
    loader = _Files(files)
    environment = GuardedEnvironment(
        autoescape=autoescape,
        undefined=_Absent,
        trim_blocks=not autoescape,
        lstrip_blocks=not autoescape,
        keep_trailing_newline=autoescape,
        loader=loader,
        cache_size=0,
    )
    environment.filters.update(FILTERS)
    loader.compile(environment)
    return environment


def _parsed(environment: GuardedEnvironment, source: str, name: str) -> nodes.Template:
    try:
        tree = environment.parse(source, name)
        _require_fixed_names(tree, name)
    except TemplateSyntaxError as error:
        raise _refused(error, name) from error
    except RecursionError:
        raise _too_deep(name) from None
    return tree


def _refused(error: TemplateSyntaxError, name: str) -> RenderError:
    said, hint = error.message or "", "correct the template"
    if found := _AFTER_NAME.search(said):
        said = f"{found[1]} is not expected before the end of {{{{ … }}}}"
        hint = "a name holds no space: write recipient['first name'] for a column with one"
    return RenderError(f"{name}, line {error.lineno}: {said}", template=name, line=error.lineno, hint=hint)


def _too_deep(name: str) -> RenderError:
    return RenderError(f"{name}: it is nested too deeply", template=name, hint="take the template apart")


def _require_fixed_names(tree: nodes.Template, name: str) -> None:
    """What a template loads is stored beside it, so it must be known before the first mail."""
    loading: tuple[type[Any], ...] = (nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)
    for node in tree.find_all(loading):
        named: nodes.Expr = node.template
        written = named.items if isinstance(named, (nodes.List, nodes.Tuple)) else [named]
        if not all(isinstance(each, nodes.Const) and isinstance(each.value, str) for each in written):
            raise TemplateSyntaxError("the name of another template must be a text in quotes", node.lineno, name)


class _Prepared(NamedTuple):
    """What compiling makes of a source, whatever it includes."""

    code: CodeType
    constant: str | None
    variables: frozenset[str]
    fixed: frozenset[str]

    def bound_to(self, environment: GuardedEnvironment) -> Compiled:
        """The compiled template with the filters and includes of an environment."""
        return Compiled.from_code(environment, self.code, dict(environment.globals))


@lru_cache(maxsize=256)
def _prepared(source: str, name: str, autoescape: bool) -> _Prepared:
    """Compile a source once: one template serves many definitions.

    Raises:
        RenderError: It cannot be compiled.
    """
    environment = _bare(autoescape)
    tree = _parsed(environment, source, name)
    try:
        constant, variables = _constant(tree), _variables(tree, name)
        code = environment.compile(guarded(tree, environment), name, name)
    except TemplateSyntaxError as error:
        raise _refused(error, name) from error
    except RecursionError:
        raise _too_deep(name) from None
    return _Prepared(code, constant, variables, frozenset(_texts(code)))


@lru_cache(maxsize=2)
def _bare(autoescape: bool) -> GuardedEnvironment:
    """Without files; nothing of it changes but its budget, which each thread has for itself."""
    return _new_environment(autoescape=autoescape, files={})


def _variables(tree: nodes.Template, name: str) -> frozenset[str]:
    try:
        return frozenset(meta.find_undeclared_variables(tree))
    except TemplateSyntaxError as error:
        raise _refused(error, name) from error
    except RecursionError:
        raise _too_deep(name) from None


def _constant(tree: nodes.Template) -> str | None:
    """The text of a template that is nothing else."""
    found = [each for node in tree.body for each in (node.nodes if isinstance(node, nodes.Output) else [node])]
    if not all(isinstance(each, nodes.TemplateData) for each in found):
        return None
    return "".join(each.data for each in found if isinstance(each, nodes.TemplateData))


def _texts(code: CodeType) -> Iterator[str]:
    """The texts in compiled code: what a template writes without any value in it is among them."""
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif hasattr(constant, "co_consts"):
            yield from _texts(constant)


def _described(error: Exception, variables: Mapping[str, object]) -> tuple[str, str, str]:
    """What happened, the variable in question, what to do."""
    if isinstance(error, TemplateNotFound):
        return f"there is no template {error.name!r} beside it", "", "names are paths in the folder of the template"
    if not isinstance(error, _AbsentError):
        return f"{type(error).__name__}: {error}", "", "correct the template"
    of_recipient = isinstance(error.owner, Attributes)
    known = list(error.owner if isinstance(error.owner, Attributes) else variables)
    near = get_close_matches(error.name, known, 3) or sorted(known)[:_MANY]
    variable = _spelled(error.name, of_recipient=of_recipient)
    what = f"{variable} is not defined; there is {_listed(_spelled(n, of_recipient=of_recipient) for n in near)}"
    return what, variable, f"correct the name, or guard it: {{{{ {variable} | default('') }}}}"


def _spelled(name: str, *, of_recipient: bool) -> str:
    if not of_recipient:
        return name
    return f"recipient.{name}" if name.isidentifier() else f"recipient['{name}']"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
