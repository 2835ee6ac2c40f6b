"""Segment expressions: who of the audience takes part, written over the recipients' attributes.

    stage in ['warm', 'hot'] and not (industry == 'public' or employees < 50)

Grammar, weakest binding first::

    expression = term {"or" term}
    term       = factor {"and" factor}
    factor     = "not" factor | "(" expression ")" | condition
    condition  = operand ("==" | "!=" | "<" | "<=" | ">" | ">=") operand      one side a name, the other a literal
               | name ["not"] "in" "[" literal {"," literal} "]"
               | "missing" "(" name ")"
               | ("contains" | "startswith" | "endswith") "(" name "," text ")"
    literal    = 'text' | "text" | number | true | false

A name is a Unicode identifier, or anything between backticks: ``` `Company size` >= 50 ```. In a text, a backslash
stands before a quote or another backslash.

Attributes are text. Beside a text literal they are compared as text, letter by letter; beside a number as a number,
and what is no number fails the comparison; beside ``true`` and ``false`` as one of true/yes/1 and false/no/0 in any
case, and what is neither fails. **A missing or empty attribute fails every comparison**, ``!=`` and ``not in``
included: ask for it with ``missing(name)``, as in ``missing(stage) or stage != 'customer'``. ``not`` negates what
stands behind it, so ``not (stage == 'customer')`` holds for recipients without a stage.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NoReturn

from abmail.errors import ExpressionError

__all__ = ["Segment"]

Test = Callable[[Mapping[str, str]], bool]
Value = str | float | bool

_LONGEST: Final = 10_000
_DEEPEST: Final = 50
_TOKEN: Final = re.compile(
    r"""(?P<number>-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?!\w))
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<name>`[^`]+`)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign>==|!=|<=|>=|<(?!>)|>|[()\[\],])""",
    re.VERBOSE | re.DOTALL,
)
_SPACE: Final = re.compile(r"\s*")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "true", "false"})
_YES: Final = frozenset({"true", "yes", "1"})
_NO: Final = frozenset({"false", "no", "0"})
_ORDER: Final[Mapping[str, Callable[[float | str, float | str], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED: Final[Mapping[str, str]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_TEXT_TESTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "contains": operator.contains,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_FUNCTIONS: Final = frozenset({"missing", *_TEXT_TESTS})
_LOOKALIKES: Final[Mapping[str, str]] = {
    "=": "compare with ==",
    "&": "write and",
    "|": "write or",
    "!": "write not",
    "<": "write !=",
    "‘": "use straight quotes: '",
    "’": "use straight quotes: '",
    "“": 'use straight quotes: "',
    "”": 'use straight quotes: "',
    "「": "put texts between straight quotes: '",
    "（": "use the half-width (",
    "）": "use the half-width )",
    "＝": "use the half-width ==",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A compiled condition over the attributes of a recipient; equal to another of the same text.

    Attributes:
        text: The expression as written.
        names: The attributes it asks for.

    Example:
        >>> warm = Segment.parse("stage in ['warm', 'hot'] and employees >= 50")
        >>> warm.matches({"stage": "hot", "employees": "120"}), warm.matches({"stage": "hot"})
        (True, False)
    """

    text: str
    names: frozenset[str] = field(compare=False)
    _test: Test = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Segment:
        """Compile an expression once, to be asked for many recipients.

        Raises:
            ExpressionError: The text is no expression; ``offset`` says where, 0 <= offset <= len(text).
        """
        parser = _Parser(text)
        test = parser.parse()
        return cls(text, frozenset(parser.names), test)

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Whether a recipient with these attributes is in the segment; never raises for what they hold."""
        return self._test(attributes)

    @property
    def words(self) -> tuple[str, ...]:
        """The expression in its parts, whatever spaces stand between them."""
        return _Parser(self.text).words

    def __reduce__(self) -> tuple[Callable[[str], Segment], tuple[str]]:
        return Segment.parse, (self.text,)


class _Token(NamedTuple):
    """A piece of the expression; ``kind`` is number, text, name (in backticks), word, sign or end."""

    kind: str
    text: str
    start: int

    @property
    def shown(self) -> str:
        return "the end" if self.kind == "end" else self.text if len(self.text) <= 40 else f"{self.text[:37]}..."


class _Operand(NamedTuple):
    name: str | None
    value: Value
    start: int


class _Parser:
    """Recursive descent, one method a rule of the grammar; each returns the closure that decides."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: set[str] = set()
        self._tokens = self._scan()
        self._next = 0
        self._depth = 0

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(token.text for token in self._tokens)

    def parse(self) -> Test:
        if self._token.kind == "end":
            self._fail("the expression is empty", 0, "leave `segment` out to take everybody")
        test = self._expression()
        rest = self._token
        if rest.kind != "end":
            self._fail(f"{rest.shown} is not expected here", rest.start, _unexpected_hint(rest.text))
        return test

    def _fail(self, message: str, offset: int, hint: str = "") -> NoReturn:
        raise ExpressionError(message, expression=self.text, offset=offset, hint=hint)

    # --- tokens ---

    def _scan(self) -> list[_Token]:
        if len(self.text) > _LONGEST:
            self._fail(f"the expression has {len(self.text)} characters, at most {_LONGEST} are read", _LONGEST)
        tokens: list[_Token] = []
        position = _skip_space(self.text, 0)
        while position < len(self.text):
            match = _TOKEN.match(self.text, position)
            if match is None:
                self._fail_at_character(position)
            tokens.append(_Token(match.lastgroup or "", match.group(), position))
            position = _skip_space(self.text, match.end())
        tokens.append(_Token("end", "", len(self.text)))
        return tokens

    def _fail_at_character(self, position: int) -> NoReturn:
        char = self.text[position]
        if char in "'\"`":
            self._fail(f"the text that begins here has no closing {char}", position)
        if char.isdigit() or char in "-.":
            self._fail("this is not a number", position, "a name cannot begin with a digit: put it between backticks")
        self._fail(f"{char!r} has no meaning here", position, _LOOKALIKES.get(char, "put texts between quotes"))

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _accept(self, *texts: str) -> bool:
        ahead = self._tokens[self._next : self._next + len(texts)]
        if tuple(token.text for token in ahead) != texts or any(token.kind not in ("word", "sign") for token in ahead):
            return False
        self._next += len(texts)
        return True

    def _expect(self, sign: str, after: str) -> None:
        if not self._accept(sign):
            self._fail(f"expected {sign} after {after}, found {self._token.shown}", self._token.start)

    # --- rules ---

    def _expression(self) -> Test:
        tests = [self._term()]
        while self._accept("or"):
            tests.append(self._term())
        return _any(tests)

    def _term(self) -> Test:
        tests = [self._factor()]
        while self._accept("and"):
            tests.append(self._factor())
        return _all(tests)

    def _factor(self) -> Test:
        start = self._token.start
        if self._accept("not"):
            return _negated(self._deeper(self._factor, start))
        if self._accept("("):
            test = self._deeper(self._expression, start)
            self._expect(")", "the condition")
            return test
        return self._condition()

    def _deeper(self, rule: Callable[[], Test], start: int) -> Test:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"conditions are nested more than {_DEEPEST} deep", start, "split the segment")
        test = rule()
        self._depth -= 1
        return test

    def _condition(self) -> Test:
        if self._token.kind == "word" and self._tokens[self._next + 1].text == "(":
            return self._call()
        left = self._operand()
        if self._accept("in"):
            return self._membership(left, wanted=True)
        if self._accept("not", "in"):
            return self._membership(left, wanted=False)
        sign = self._take()
        if sign.text not in _MIRRORED or sign.kind != "sign":
            self._fail_without_comparison(left, sign)
        right = self._operand()
        if left.name is not None and right.name is None:
            return self._comparison(left.name, sign.text, right)
        if left.name is None and right.name is not None:
            return self._comparison(right.name, _MIRRORED[sign.text], left)
        if right.name is not None:
            self._fail(f"{right.name} is a second name", right.start, f"put a text between quotes: '{right.name}'")
        return self._fail("this compares two fixed values", left.start, "compare a name with a value: stage == 'warm'")

    def _fail_without_comparison(self, left: _Operand, found: _Token) -> NoReturn:
        name = left.name or "name"
        hint = (
            f"write missing({name})"
            if found.text == "is"
            else f"write {name} == 'text', {name} == true or {name} in ['a', 'b']"
        )
        self._fail(f"expected a comparison, found {found.shown}", found.start, hint)

    def _operand(self) -> _Operand:
        token = self._take()
        if token.kind == "name" or (token.kind == "word" and token.text not in _KEYWORDS):
            name = token.text.strip("`")
            self.names.add(name)
            return _Operand(name, "", token.start)
        return _Operand(None, self._literal(token), token.start)

    def _literal(self, token: _Token) -> Value:
        if token.kind == "text":
            return self._unquoted(token)
        if token.kind == "number":
            return self._number(token)
        if token.kind == "word" and token.text in ("true", "false"):
            return token.text == "true"
        if token.kind == "word" and token.text not in _KEYWORDS:
            self._fail(f"{token.shown} is not a value", token.start, f"put a text between quotes: '{token.shown}'")
        return self._fail(f"expected a name or a value, found {token.shown}", token.start)

    def _number(self, token: _Token) -> float:
        number = float(token.text)
        if not math.isfinite(number):
            self._fail(f"{token.shown} is too large a number", token.start)
        return number

    def _unquoted(self, token: _Token) -> str:
        body = token.text[1:-1]
        for escape in _ESCAPE.finditer(body):
            if escape[1] not in "\\'\"":
                offset = token.start + 1 + escape.start()
                self._fail(f"\\{escape[1]} has no meaning in a text", offset, "write \\\\ for a backslash")
        if not body.strip():
            self._fail("the text is empty", token.start, "write missing(name) to find recipients without a value")
        return _ESCAPE.sub(r"\1", body)

    def _membership(self, left: _Operand, *, wanted: bool) -> Test:
        if left.name is None:
            self._fail(
                "a fixed value stands before in", left.start, "write name in ['a', 'b'] or contains(name, 'text')"
            )
        self._expect("[", "in")
        values = [self._literal(self._take())]
        while self._accept(","):
            values.append(self._literal(self._take()))
        self._expect("]", "the list")
        return _one_of(left.name, values, wanted=wanted)

    def _comparison(self, name: str, sign: str, right: _Operand) -> Test:
        if sign in ("==", "!="):
            return _one_of(name, [right.value], wanted=sign == "==")
        if isinstance(right.value, bool):
            self._fail("true and false have no order", right.start, "compare with == or !=")
        if isinstance(right.value, str):
            return _text_order(name, _ORDER[sign], right.value)
        return _number_order(name, _ORDER[sign], right.value)

    def _call(self) -> Test:
        function = self._take()
        if function.text not in _FUNCTIONS:
            self._fail(f"no function {function.shown}", function.start, f"known: {', '.join(sorted(_FUNCTIONS))}")
        self._expect("(", function.text)
        name = self._operand()
        if name.name is None:
            self._fail(f"{function.text} asks for the name of an attribute first", name.start)
        test = _missing(name.name) if function.text == "missing" else self._text_test(function, name.name)
        self._expect(")", function.text)
        return test

    def _text_test(self, function: _Token, name: str) -> Test:
        self._expect(",", name)
        token = self._take()
        if token.kind != "text":
            self._fail(f"{function.text} asks for a text between quotes, found {token.shown}", token.start)
        return _text_test(name, _TEXT_TESTS[function.text], self._unquoted(token))


def _unexpected_hint(found: str) -> str:
    if found.lower() in ("and", "or"):
        return f"write {found.lower()} in lower case"
    if found in _MIRRORED:
        return "compare twice and join with and: 10 <= age and age < 20"
    return "join conditions with and / or"


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


# --- closures: what runs for each recipient ---------------------------------------------------------------------------


def _any(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda attributes: first(attributes) or second(attributes)
    return lambda attributes: any(test(attributes) for test in tests)


def _all(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda attributes: first(attributes) and second(attributes)
    return lambda attributes: all(test(attributes) for test in tests)


def _negated(test: Test) -> Test:
    return lambda attributes: not test(attributes)


def _missing(name: str) -> Test:
    return lambda attributes: not attributes.get(name)


def _text_test(name: str, holds: Callable[[str, str], bool], text: str) -> Test:
    return lambda attributes: holds(attributes.get(name, ""), text)


def _text_order(name: str, holds: Callable[[str, str], bool], bound: str) -> Test:
    def test(attributes: Mapping[str, str]) -> bool:
        value = attributes.get(name)
        return bool(value) and value is not None and holds(value, bound)

    return test


def _number_order(name: str, holds: Callable[[float, float], bool], bound: float) -> Test:
    def test(attributes: Mapping[str, str]) -> bool:
        value = _number(attributes.get(name, ""))
        return value is not None and holds(value, bound)

    return test


def _one_of(name: str, values: list[Value], *, wanted: bool) -> Test:
    texts = frozenset(value for value in values if isinstance(value, str))
    if not all(isinstance(value, str) for value in values):
        return _one_of_mixed(name, texts, values, wanted=wanted)
    if wanted:
        return lambda attributes: attributes.get(name) in texts
    return lambda attributes: bool(value := attributes.get(name)) and value not in texts


def _one_of_mixed(name: str, texts: frozenset[str], values: list[Value], *, wanted: bool) -> Test:
    """``!=`` and ``not in`` fail, too, where the attribute is of another kind than every value it is compared with."""
    flags = frozenset(value for value in values if isinstance(value, bool))
    numbers = frozenset(value for value in values if isinstance(value, float))

    def test(attributes: Mapping[str, str]) -> bool:
        value = attributes.get(name, "")
        number = _number(value) if numbers else None
        flag = _flag(value) if flags else None
        if number is None and flag is None and not (texts and value):
            return False
        return (value in texts or number in numbers or flag in flags) is wanted

    return test


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _flag(text: str) -> bool | None:
    word = text.casefold()
    return True if word in _YES else False if word in _NO else None
