"""Conditions on samples, typed by users: ``width >= 336 and boxes > 0``; no attribute, call or power can be reached."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from typing import Any

import simpleeval

from mgtool.errors import ItemError, UsageError, one_of

NAMES = (
    "id",
    "image",
    "width",
    "height",
    "bytes",
    "pictures",
    "boxes",
    "labels",
    "turns",
    "video",
    "metadata",
)
"""What a condition may speak of."""

_MAX_CHARACTERS = 1000


def _remainder(one: Any, other: Any) -> Any:
    """Of numbers: with texts `%` would format, to any length."""
    if isinstance(one, str | bytes):
        raise TypeError("% is for numbers")
    return one % other


_NODES = (
    ast.Constant,
    ast.Name,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Subscript,
)
_OPERATORS = {
    ast.Add: simpleeval.safe_add,
    ast.Sub: operator.sub,
    ast.Mult: simpleeval.safe_mult,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _remainder,
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}
_NOT_FITTING = (TypeError, ValueError, RecursionError)


class Condition:
    """A condition that is parsed once and asked of many samples.

    Raises:
        UsageError: text that is no condition, or speaks of what is not in `NAMES`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions={})
        self._evaluator.nodes = {kind: how for kind, how in self._evaluator.nodes.items() if kind in _NODES}
        self._parsed = _parse(text)
        try:
            self._refuse_unknown(self._parsed)
        except RecursionError as error:
            raise UsageError("where", f"{text[:30]}...: nested too deeply") from error

    def __reduce__(self) -> tuple[type[Condition], tuple[str]]:
        return Condition, (self.text,)

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Whether a sample with these values of `NAMES` meets the condition.

        Raises:
            ItemError: ``bad_record`` where it cannot be asked of this sample (a key of `metadata` that is not there).
        """
        self._evaluator.names = dict(facts)
        try:
            return bool(self._evaluator.eval(self.text, previously_parsed=self._parsed))
        except (simpleeval.InvalidExpression, ArithmeticError, LookupError, *_NOT_FITTING) as error:
            detail = f"{type(error).__name__}: {error}"
            raise ItemError("bad_record", f"`where` {self.text}: {detail}") from error

    def _refuse_unknown(self, parsed: ast.AST) -> None:
        for node in ast.walk(parsed):
            if isinstance(node, ast.Name) and node.id not in NAMES:
                raise UsageError("where", f": {node.id} is not known; there are {one_of(node.id, NAMES)}")
            if isinstance(node, ast.expr) and type(node) not in self._evaluator.nodes:
                raise UsageError("where", f": `{ast.unparse(node)}` is not allowed, only comparisons and sums of names")
            if isinstance(node, ast.operator | ast.unaryop | ast.cmpop) and type(node) not in self._evaluator.operators:
                raise UsageError("where", f": the operator {type(node).__name__} is not allowed")


def _parse(text: str) -> ast.AST:
    if len(text) > _MAX_CHARACTERS:
        raise UsageError("where", f": {len(text)} characters, at most {_MAX_CHARACTERS} are read")
    try:
        return ast.parse(text.strip(), "where", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError("where", f"{text}: not a condition, for instance `width >= 336 and boxes > 0`") from error
