"""Expressions over an event: ``type == "order.paid" and data.amount > 100 and key in ("a", "b")``.

    expression  = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | comparison
    comparison  = operand [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "has" | "~" | "!~") operand ]
    operand     = path | literal | "(" expression ")" | "(" literal { "," literal } ")"
    literal     = string | number | "true" | "false" | "null"
    path        = name { "." name | "[" (string | integer) "]" }

A path begins with offset, time, topic, an attribute, or data. What is not there is null. Values of different kinds are
unequal, and none of them is less than the other. An expression is compiled once, into functions of ours that call each
other: nothing of Python can be reached from it.
"""

from __future__ import annotations

import operator
from itertools import compress

import orjson

from evtool.errors import UsageError
from evtool.log import payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Event = dict[str, Any]
    Value = Callable[[Event], Any]

_SYMBOLS = ("==", "!=", "<=", ">=", "!~", "<", ">", "~", "(", ")", "[", "]", ",", ".")
_WORDS = ("and", "or", "not", "in", "has", "true", "false", "null")
_LITERALS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_DEEPEST = 100
_LONGEST = 10_000
_SAMPLE = 32


class Token:
    """A piece of an expression. kind: name, string, number, symbol, word or end. column: where it begins, from 1."""

    __slots__ = ("column", "kind", "value")

    def __init__(self, kind: str, value: Any, column: int) -> None:
        self.kind = kind
        self.value = value
        self.column = column


class Node:
    """A part of an expression, compiled. `is_literal`: its value is `literal`, whatever the event. `is_bool`: its value
    is True or False.

    needles: of each of these groups of bytes at least one stands in every line for which this is true, unless the line
    has an escape in it.
    """

    __slots__ = ("is_bool", "is_literal", "literal", "needles", "of", "path")

    def __init__(
        self,
        of: Value,
        *,
        needles: tuple[tuple[bytes, ...], ...] = (),
        path: tuple[str | int, ...] | None = None,
        is_bool: bool = False,
    ) -> None:
        self.of = of
        self.needles = needles
        self.path = path
        self.is_bool = is_bool
        self.is_literal = False
        self.literal: Any = None


def _literal(value: Any) -> Node:
    node = Node(lambda _: value)
    node.is_literal, node.literal = True, value
    return node


class Expression:
    """A compiled expression. Raises UsageError, which points at the column, for what cannot be one."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise UsageError("--where", f"is longer than {_LONGEST} characters")
        self.text = text
        node = _Parser(text).parse()
        value = node.of
        self._holds = value if node.is_bool else lambda event: _is_true(value(event))
        self._needles = node.needles

    def select(self, lines: bytes) -> bytes:
        """Those of these whole lines for which it holds."""
        if b"\\" not in lines:  # an escape may hide what a needle looks for
            for needles in self._needles:
                if not any(needle in lines for needle in needles):
                    return b""
        texts = lines.split(b"\n")
        texts.pop()
        if self._needles and self._is_worth_looking(texts):
            texts = [text for text in texts if b"\\" in text or self._may_hold(text)]
        events = orjson.loads(b"[%b]" % b",".join(texts))
        kept = list(compress(texts, map(self._holds, events)))
        return b"\n".join(kept) + b"\n" if kept else b""

    def _is_worth_looking(self, texts: list[bytes]) -> bool:
        """Whether the needles would leave out many of these: to look for them costs a third of parsing."""
        some = texts[:_SAMPLE]
        return sum(map(self._may_hold, some)) * 2 < len(some)

    def _may_hold(self, text: bytes) -> bool:
        for needles in self._needles:
            for needle in needles:
                if needle in text:
                    break
            else:
                return False
        return True


def _is_true(value: Any) -> bool:
    return value is not None and value is not False


class _Lexer:
    """Cuts an expression into tokens."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def tokens(self) -> list[Token]:
        found = []
        while True:
            while self._text[self._at : self._at + 1].isspace():
                self._at += 1
            found.append(self._next())
            if found[-1].kind == "end":
                return found

    def _next(self) -> Token:
        text, start = self._text, self._at
        column = start + 1
        if start == len(text):
            return Token("end", None, column)
        first = text[start]
        if first in "\"'":
            return Token("string", self._string(first), column)
        if first.isdigit() or (first == "-" and text[start + 1 : start + 2].isdigit()):
            return Token("number", self._number(), column)
        if first.isalpha() or first == "_":
            while self._at < len(text) and (text[self._at].isalnum() or text[self._at] in "_-"):
                self._at += 1
            word = text[start : self._at]
            return Token("word" if word in _WORDS else "name", word, column)
        for symbol in _SYMBOLS:
            if text.startswith(symbol, start):
                self._at += len(symbol)
                return Token("symbol", symbol, column)
        raise error(text, column, f"{first!r} is nothing that stands in an expression")

    def _string(self, quote: str) -> str:
        text, start = self._text, self._at
        at = start + 1
        while at < len(text) and text[at] != quote:
            at += 2 if text[at] == "\\" else 1
        if at >= len(text):
            raise error(text, start + 1, "this string has no end")
        self._at = at + 1
        inside = text[start + 1 : at]
        if quote == "'":
            return inside.replace("\\'", "'").replace("\\\\", "\\")
        try:
            return str(orjson.loads(f'"{inside}"'))
        except orjson.JSONDecodeError as wrong:
            raise error(text, start + 1, f"not a JSON string: {wrong.msg}") from None

    def _number(self) -> Any:
        text, start = self._text, self._at
        self._at += 1
        while self._at < len(text) and (text[self._at].isalnum() or text[self._at] in "+-."):
            self._at += 1
        said = text[start : self._at]
        try:
            return orjson.loads(said)
        except orjson.JSONDecodeError:
            raise error(text, start + 1, f"{said!r} is not a number") from None


class _Parser:
    """Reads an expression by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _Lexer(text).tokens()
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._either()
        if self._here.kind != "end":
            raise self._error("here the expression should end; is an operator missing?")
        return node

    @property
    def _here(self) -> Token:
        return self._tokens[self._at]

    def _take(self, kind: str, *values: str) -> Token | None:
        token = self._here
        if token.kind == kind and (not values or token.value in values):
            self._at += 1
            return token
        return None

    def _error(self, why: str, column: int | None = None) -> UsageError:
        return error(self._text, self._here.column if column is None else column, why)

    def _either(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("nested too deeply")
        nodes = [self._both()]
        while self._take("word", "or"):
            nodes.append(self._both())
        self._depth -= 1
        return nodes[0] if len(nodes) == 1 else _any_of(nodes)

    def _both(self) -> Node:
        nodes = [self._negation()]
        while self._take("word", "and"):
            nodes.append(self._negation())
        return nodes[0] if len(nodes) == 1 else _all_of(nodes)

    def _negation(self) -> Node:
        negations = 0
        while self._take("word", "not"):
            negations += 1
        node = self._comparison()
        for _ in range(min(negations, 2) if negations % 2 == 0 else 1):
            node = _not(node)
        return node

    def _comparison(self) -> Node:
        left = self._operand()
        sign = self._take("symbol", "==", "!=", "<", "<=", ">", ">=", "~", "!~") or self._take("word", "in", "has")
        if sign is None:
            return left
        column = self._here.column
        right = self._operand()
        if sign.value in ("~", "!~"):
            return self._match(left, right, column, negated=sign.value == "!~")
        if sign.value == "in" and not (right.is_literal and isinstance(right.literal, list)) and right.path is None:
            raise self._error("after `in` stands a list, as in (1, 2, 3), or a path to one", column)
        return _compare(sign.value, left, right)

    def _match(self, left: Node, right: Node, column: int, *, negated: bool) -> Node:
        import re

        if not (right.is_literal and isinstance(right.literal, str)):
            raise self._error("after ~ stands a regular expression in quotes", column)
        try:
            search = re.compile(right.literal).search
        except re.error as wrong:
            raise self._error(f"not a regular expression: {wrong}", column) from None
        value = left.of

        def matches(event: Event) -> bool:
            text = value(event)
            return (isinstance(text, str) and search(text) is not None) is not negated

        return Node(matches, is_bool=True)

    def _operand(self) -> Node:
        token = self._here
        if self._take("string") or self._take("number"):
            return _literal(token.value)
        if self._take("word", *_LITERALS):
            return _literal(_LITERALS[token.value])
        if self._take("symbol", "("):
            return self._parenthesis()
        if self._take("name"):
            return self._path(token)
        raise self._error("here a value is missing" if token.kind == "end" else f"{token.value!r} is no value")

    def _parenthesis(self) -> Node:
        """Something in brackets, or a list of literals."""
        first = self._either()
        if self._take("symbol", ")"):
            return first
        values = [first]
        while self._take("symbol", ","):
            if self._here.kind == "symbol" and self._here.value == ")":
                break
            values.append(self._operand())
        if not self._take("symbol", ")"):
            raise self._error("here a ) or a comma is missing")
        if not all(value.is_literal for value in values):
            raise self._error("a list holds strings, numbers, true, false and null")
        return _literal([value.literal for value in values])

    def _path(self, name: Token) -> Node:
        steps: list[str | int] = [name.value]
        while True:
            if self._take("symbol", "."):
                step = self._take("name") or self._take("word")
                if step is None:
                    raise self._error("after a dot stands a name")
                steps.append(step.value)
            elif self._take("symbol", "["):
                inside = self._take("string") or self._take("number")
                if inside is None or isinstance(inside.value, float):
                    column = None if inside is None else inside.column
                    raise self._error("in [ ] stands a string or a whole number", column)
                steps.append(inside.value)
                if not self._take("symbol", "]"):
                    raise self._error("here a ] is missing")
            else:
                break
        if steps[0] != "data" and len(steps) > 1:
            raise self._error(f"{steps[0]} has no parts; only data has", name.column)
        return _path_node(tuple(steps))


def error(text: str, column: int, why: str) -> UsageError:
    """The error that points at a column, from 1."""
    shown = f"{text}\n      {' ' * (column - 1)}^"
    return UsageError("--where", f"column {column}: {why}", hint=shown if text.isprintable() else None)


# What the parts of an expression do


def _path_node(steps: tuple[str | int, ...]) -> Node:
    first = str(steps[0])
    needles = tuple((b'"%b":' % step.encode(),) for step in steps if isinstance(step, str))
    if len(steps) == 1:
        return Node(lambda event: event.get(first), needles=needles, path=steps)
    if len(steps) == 2 and isinstance(steps[1], str):
        name = steps[1]

        def member(event: Event) -> Any:
            data = event["data"]
            return data.get(name) if type(data) is dict else None

        return Node(member, needles=needles, path=steps)

    def walk(event: Event) -> Any:
        value: Any = event
        for step in steps:
            if isinstance(step, str):
                value = value.get(step) if type(value) is dict else None
            else:
                value = value[step] if type(value) is list and -len(value) <= step < len(value) else None
        return value

    return Node(walk, needles=needles, path=steps)


def _all_of(nodes: list[Node]) -> Node:
    values = [node.of for node in nodes]
    needles = tuple(one for node in nodes for one in node.needles)
    if len(values) == 2:
        left, right = values
        return Node(lambda event: _is_true(left(event)) and _is_true(right(event)), needles=needles, is_bool=True)
    return Node(lambda event: all(_is_true(value(event)) for value in values), needles=needles, is_bool=True)


def _any_of(nodes: list[Node]) -> Node:
    values = [node.of for node in nodes]
    # one of them holds, so one of their needles is there: known only where each has one group to choose from
    needles = (tuple(one for node in nodes for one in node.needles[-1]),) if all(node.needles for node in nodes) else ()
    return Node(lambda event: any(_is_true(value(event)) for value in values), needles=needles, is_bool=True)


def _not(node: Node) -> Node:
    value = node.of
    return Node(lambda event: not _is_true(value(event)), is_bool=True)


def _compare(sign: str, left: Node, right: Node) -> Node:
    if sign == "==":
        return Node(_equality(left, right), needles=_needles_of_equality(left, right), is_bool=True)
    if sign == "!=":
        equal = _equality(left, right)
        return Node(lambda event: not equal(event), is_bool=True)
    if sign in _ORDER:
        return Node(_ordering(_ORDER[sign], left, right), needles=left.needles + right.needles, is_bool=True)
    if sign == "in":
        return Node(_membership(right, left), needles=_needles_of_list(left, right), is_bool=True)
    return Node(_membership(left, right), needles=left.needles, is_bool=True)


def _equality(left: Node, right: Node) -> Callable[[Event], bool]:
    value, other = left.of, right.of
    if right.is_literal and isinstance(right.literal, str):
        text = right.literal
        return lambda event: value(event) == text
    return lambda event: _same(value(event), other(event))


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _ordering(compare: Callable[[Any, Any], bool], left: Node, right: Node) -> Callable[[Event], bool]:
    value, other = left.of, right.of
    if right.is_literal and type(right.literal) in (int, float):
        number = right.literal
        if left.path is not None and len(left.path) == 2 and left.path[0] == "data" and isinstance(left.path[1], str):
            return _ordering_of_member(compare, left.path[1], number)

        def compare_number(event: Event) -> bool:
            found = value(event)
            kind = type(found)
            return (kind is int or kind is float) and compare(found, number)

        return compare_number

    def compare_both(event: Event) -> bool:
        one, two = value(event), other(event)
        if isinstance(one, str):
            return isinstance(two, str) and compare(one, two)
        return _is_number(one) and _is_number(two) and compare(one, two)

    return compare_both


def _ordering_of_member(compare: Callable[[Any, Any], bool], name: str, number: float) -> Callable[[Event], bool]:
    """The same for what is compared most often, data.NAME and a number, in one call."""

    def compare_member(event: Event) -> bool:
        data = event["data"]
        if type(data) is not dict:
            return False
        found = data.get(name)
        kind = type(found)
        return (kind is float or kind is int) and compare(found, number)

    return compare_member


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _membership(whole: Node, part: Node) -> Callable[[Event], bool]:
    """Whether a list has an element, an object a member, or a string a part."""
    container, element = whole.of, part.of

    def has(event: Event) -> bool:
        inside, wanted = container(event), element(event)
        if isinstance(inside, list):
            return any(_same(one, wanted) for one in inside)
        return isinstance(inside, (dict, str)) and isinstance(wanted, str) and wanted in inside

    return has


def _needles_of_equality(left: Node, right: Node) -> tuple[tuple[bytes, ...], ...]:
    """What must stand in a line where these are equal: if one of them is a string, that string."""
    if any(one.is_literal and one.literal is None for one in (left, right)):  # what is not there is null too
        return ()
    strings = tuple(
        (payload.encode_string(one.literal),)
        for one in (left, right)
        if one.is_literal and isinstance(one.literal, str)
    )
    return left.needles + right.needles + strings


def _needles_of_list(left: Node, right: Node) -> tuple[tuple[bytes, ...], ...]:
    if not right.is_literal:
        return right.needles
    if right.literal and all(isinstance(one, str) for one in right.literal):
        return (*left.needles, tuple(payload.encode_string(one) for one in right.literal))
    return () if None in right.literal else left.needles
