"""How pointwise operations are spelled in Triton: one table, with operator precedence for readable parentheses."""

from dataclasses import dataclass

COMPARE, OR, AND, ADD, MUL, UNARY, ATOM = range(7)


@dataclass(frozen=True)
class Text:
    """A piece of source and how tightly its outermost operator binds."""

    text: str
    strength: int = ATOM

    def bound(self, strength: int) -> str:
        """The source, in parentheses where an operator of that strength stands around it."""
        return self.text if self.strength >= strength else f"({self.text})"


@dataclass(frozen=True)
class Spelling:
    """`template` over `{0}`, `{1}`..; `operands` are the strengths that the arguments need at their places."""

    template: str
    strength: int
    operands: tuple[int, ...]


def _call(template: str, arity: int) -> Spelling:
    return Spelling(template, ATOM, (COMPARE,) * arity)


SPELLING: dict[str, Spelling] = {
    "add": Spelling("{0} + {1}", ADD, (ADD, MUL)),
    "sub": Spelling("{0} - {1}", ADD, (ADD, MUL)),
    "mul": Spelling("{0} * {1}", MUL, (MUL, UNARY)),
    "div": Spelling("{0} / {1}", MUL, (MUL, UNARY)),
    "pow": _call("exp({1} * tl.log({0}), PRODUCT)", 2),
    "max": _call("larger({0}, {1})", 2),
    "min": _call("smaller({0}, {1})", 2),
    "logaddexp": _call("logaddexp({0}, {1}, PRODUCT)", 2),
    "neg": Spelling("-{0}", UNARY, (ATOM,)),
    "exp": _call("exp({0}, PRODUCT)", 1),
    "log": _call("tl.log({0})", 1),
    "sqrt": _call("tl.sqrt({0})", 1),
    "abs": _call("tl.abs({0})", 1),
    "floor": _call("tl.floor({0})", 1),
    "sigmoid": _call("sigmoid({0}, PRODUCT)", 1),
    "tanh": _call("tanh({0}, PRODUCT)", 1),
    "cos": _call("tl.cos({0})", 1),
    "sin": _call("tl.sin({0})", 1),
    "stop": Spelling("{0}", ATOM, (ATOM,)),
    "widen": _call("widen({0}, WIDE)", 1),
    "narrow": Spelling("{0}.to(tl.float32)", ATOM, (ATOM,)),
    "precise": Spelling("{0}", ATOM, (ATOM,)),
    "rounded": Spelling("{0}.to(PRODUCT).to(tl.float32)", ATOM, (ATOM,)),
    "where": _call("tl.where({0}, {1}, {2})", 3),
    "lt": Spelling("{0} < {1}", COMPARE, (OR, OR)),
    "le": Spelling("{0} <= {1}", COMPARE, (OR, OR)),
    "eq": Spelling("{0} == {1}", COMPARE, (OR, OR)),
    "ne": Spelling("{0} != {1}", COMPARE, (OR, OR)),
    "and": Spelling("{0} & {1}", AND, (AND, ADD)),
    "or": Spelling("{0} | {1}", OR, (OR, AND)),
}


def spell(op: str, args: list[Text]) -> Text:
    """An operation on printed arguments."""
    spelling = SPELLING[op]
    pieces = (a.bound(s) for a, s in zip(args, spelling.operands, strict=True))
    return Text(spelling.template.format(*pieces), spelling.strength)


def number(value: float) -> Text:
    """A literal that both Python and Triton read back as this number."""
    if value != value or value in (float("inf"), float("-inf")):
        return Text(f'float("{value}")')
    return Text(repr(float(value)), ATOM if value >= 0 else UNARY)
