"""Syntax tree of a spec: what was written, and where. No meaning yet."""

from dataclasses import dataclass, field

from smir.source import Span


@dataclass(frozen=True)
class Expr:
    """An expression; `depth` counts the operations above its deepest leaf."""

    span: Span
    depth: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max((c.depth for c in self.children), default=0))

    @property
    def children(self) -> tuple["Expr", ...]:
        return ()


@dataclass(frozen=True)
class Number(Expr):
    value: float


@dataclass(frozen=True)
class Name(Expr):
    name: str


@dataclass(frozen=True)
class Negate(Expr):
    arg: Expr

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)


@dataclass(frozen=True)
class Transpose(Expr):
    arg: Expr

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)


@dataclass(frozen=True)
class Binary(Expr):
    """`op` as written; `∘` is `*`."""

    op: str
    left: Expr
    right: Expr

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.left, self.right


@dataclass(frozen=True)
class Index(Expr):
    """`base[indices]`; only names have a meaning as base."""

    base: Expr
    indices: tuple[Expr, ...]

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.base, *self.indices


@dataclass(frozen=True)
class Call(Expr):
    function: Name
    args: tuple[Expr, ...]

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args


@dataclass(frozen=True)
class Range:
    """`in [lo, hi)`."""

    span: Span
    lo: Expr
    hi: Expr
    lo_open: bool
    hi_open: bool


@dataclass(frozen=True)
class Declaration:
    """`input` or `param`: names that share dimensions (none for a scalar), a number of heads and a promised range."""

    span: Span
    kind: str
    names: tuple[Name, ...]
    dims: tuple[Expr, ...]
    heads: Expr | None
    range: Range | None


@dataclass(frozen=True)
class State:
    """Names of states that share dimensions and an initial value."""

    span: Span
    names: tuple[Name, ...]
    dims: tuple[Expr, ...]
    initial: Expr | None


@dataclass(frozen=True)
class Constant:
    span: Span
    name: Name
    value: Expr


@dataclass(frozen=True)
class Definition:
    """`name = value`, `name[t] = value` or `name[i, j] = value`; `indices` is empty for a bare name."""

    span: Span
    name: Name
    indices: tuple[Expr, ...]
    value: Expr


Statement = Declaration | State | Constant | Definition


@dataclass(frozen=True)
class Spec:
    """One file: the mixer's name and its statements in order."""

    name: Name
    statements: tuple[Statement, ...]
