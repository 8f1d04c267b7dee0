"""Lark's parse tree to the syntax tree, one method per grammar rule."""

import math
from typing import Any

from lark import Token, Transformer_NonRecursive, v_args
from lark.tree import Meta

from smir.errors import SmirError, SpecSyntaxError
from smir.frontends import syntax
from smir.frontends.layout import token_span
from smir.frontends.limits import MAX_DEPTH
from smir.frontends.names import check_spelling
from smir.source import Source, Span

Part = Any


@v_args(meta=True)
class TreeBuilder(Transformer_NonRecursive[Token, syntax.Spec]):
    """Builds bottom-up without recursion, so that no text, however deep, can exhaust the stack."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    def transform(self, tree: Part) -> Part:
        try:
            return super().transform(tree)
        except Exception as error:
            # lark wraps what its callbacks raise.
            inner = getattr(error, "orig_exc", error)
            if isinstance(inner, SmirError):
                raise inner from None
            raise

    # ---- statements ---------------------------------------------------------------------------------------------

    def start(self, meta: Meta, parts: list[Part]) -> syntax.Spec:
        name, *statements = [p for p in parts if not isinstance(p, Token)]
        return syntax.Spec(name, tuple(statements))

    def mixer(self, meta: Meta, parts: list[Part]) -> syntax.Name:
        return self._name(parts[1])

    def declaration(self, meta: Meta, parts: list[Part]) -> syntax.Declaration:
        kind, names, dims, *rest = parts
        promise = next((p for p in rest if isinstance(p, syntax.Range)), None)
        heads = next((p for p in rest if isinstance(p, syntax.Expr)), None)
        return syntax.Declaration(self._span(meta), str(kind), names, dims, heads, promise)

    def heads(self, meta: Meta, parts: list[Part]) -> syntax.Expr:
        number: syntax.Expr = parts[1]
        return number

    def state(self, meta: Meta, parts: list[Part]) -> syntax.State:
        _, names, dims, *initial = parts
        return syntax.State(self._span(meta), names, dims, initial[0] if initial else None)

    def constant(self, meta: Meta, parts: list[Part]) -> syntax.Constant:
        _, name, value = parts
        return syntax.Constant(self._span(meta), self._name(name), value)

    def definition(self, meta: Meta, parts: list[Part]) -> syntax.Definition:
        (name, indices), value = parts
        return syntax.Definition(self._span(meta), name, indices, value)

    def name_list(self, meta: Meta, parts: list[Part]) -> tuple[syntax.Name, ...]:
        return tuple(self._name(p) for p in parts)

    def dims(self, meta: Meta, parts: list[Part]) -> tuple[syntax.Expr, ...]:
        return tuple(p for p in parts if not isinstance(p, Token))

    def range(self, meta: Meta, parts: list[Part]) -> syntax.Range:
        _, left, lo, hi, right = parts
        return syntax.Range(self._span(meta), lo, hi, left == "(", right == ")")

    def target(self, meta: Meta, parts: list[Part]) -> tuple[syntax.Name, tuple[syntax.Expr, ...]]:
        name, *rest = parts
        return self._name(name), tuple(p for p in rest if not isinstance(p, Token))

    # ---- expressions --------------------------------------------------------------------------------------------

    def binary(self, meta: Meta, parts: list[Part]) -> syntax.Expr:
        left, op, right = parts
        return self._bounded(syntax.Binary(self._span(meta), "*" if op == "∘" else str(op), left, right))

    def negate(self, meta: Meta, parts: list[Part]) -> syntax.Expr:
        return self._bounded(syntax.Negate(self._span(meta), parts[1]))

    def transpose(self, meta: Meta, parts: list[Part]) -> syntax.Expr:
        return self._bounded(syntax.Transpose(self._span(meta), parts[0]))

    def index(self, meta: Meta, parts: list[Part]) -> syntax.Expr:
        base, *rest = parts
        indices = tuple(p for p in rest if not isinstance(p, Token))
        return self._bounded(syntax.Index(self._span(meta), base, indices))

    def call(self, meta: Meta, parts: list[Part]) -> syntax.Expr:
        function, *rest = parts
        name = syntax.Name(token_span(self.source, function), str(function))
        return self._bounded(syntax.Call(self._span(meta), name, tuple(p for p in rest if not isinstance(p, Token))))

    def group(self, meta: Meta, parts: list[Part]) -> syntax.Expr:
        inner: syntax.Expr = parts[1]
        return inner

    def number(self, meta: Meta, parts: list[Part]) -> syntax.Number:
        value = float(parts[0])
        if not math.isfinite(value):
            hint = "the largest number is about 1.8e308; infinity is written `inf`"
            raise SpecSyntaxError(f"the number {_shorten(parts[0])} is too large", self._span(meta), hint)
        return syntax.Number(self._span(meta), value)

    def infinity(self, meta: Meta, parts: list[Part]) -> syntax.Number:
        return syntax.Number(self._span(meta), math.inf)

    def name(self, meta: Meta, parts: list[Part]) -> syntax.Name:
        return syntax.Name(self._span(meta), str(parts[0]))

    # ---- helpers ------------------------------------------------------------------------------------------------

    def _span(self, meta: Meta) -> Span:
        return Span(self.source, meta.start_pos, meta.end_pos)

    def _name(self, token: Token) -> syntax.Name:
        """A name in the place where it is introduced."""
        span = token_span(self.source, token)
        check_spelling(str(token), span)
        return syntax.Name(span, str(token))

    def _bounded(self, expr: syntax.Expr) -> syntax.Expr:
        if expr.depth > MAX_DEPTH:
            message = f"an expression nested more than {MAX_DEPTH} operations deep"
            raise SpecSyntaxError(message, expr.span, "give its parts names: local definitions such as `R = ...`")
        return expr


def _shorten(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:17]}..."
