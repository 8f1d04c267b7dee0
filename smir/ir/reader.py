"""Reading blocks of lines: what the parsers of all levels share."""

from collections.abc import Callable
from typing import Any

from smir.errors import IRError
from smir.ir.expr import ValueType
from smir.ir.graph import Attr, Node, make
from smir.ir.text import Line
from smir.ir.tile import Tile

Scope = dict[str, Node]


class Reader:
    """Lines still to be read."""

    def __init__(self, lines: list[Line]) -> None:
        if not lines:
            raise IRError("the text of an IR is empty: line 1 should open a block")
        self.rest, self.last = lines[::-1], lines[-1]

    @property
    def line(self) -> Line:
        if not self.rest:
            raise IRError(f"a block isn't closed by `}}` after line {self.last.end.line}", self.last.end)
        return self.rest[-1]

    def block(self, head: Callable[[Line], None], entries: dict[str, Callable[[], None]]) -> Line:
        """A line for `head`, then lines up to `}`, each for the entry of its first word (`%` for values).

        Entries start at the reader's current line, whose word has been taken, and read whole lines themselves.
        """
        opening = self.line
        head(opening)
        opening.expect("{")
        self.end()
        while self.line.head != "}":
            key = "%" if self.line.head.startswith("%") else self.line.head
            if key not in entries:
                self.line.fail("`}` or one of " + ", ".join(f"`{e}`" for e in entries))
            entries[key]()
        self.line.take()
        self.end()
        return opening

    def end(self) -> None:
        """Leaves a line, which must have been read to its end."""
        self.line.done()
        self.rest.pop()


# ---- values -----------------------------------------------------------------------------------------------------


def read_value(reader: Reader, scope: Scope, read_type: Callable[[Line], Any]) -> None:
    """`%3 = exp(%2) key=1 : type` into the scope."""
    line = reader.line
    span, name = line.span, line.take()
    line.expect("=")
    op = line.word("an operation")
    line.expect("(")
    args: list[Node] = []
    while not line.accept(")"):
        if args:
            line.expect(",")
        args.append(read_use(line, scope))
    attrs: dict[str, Attr] = {}
    while not line.accept(":"):
        key = line.word("an attribute or `:`")
        if key in ("op", "args", "type") or key in attrs:
            raise IRError(f"attribute {key!r} can't stand here in line {span.line}", span)
        line.expect("=")
        attrs[key] = line.attr()
    node = make(op, args, read_type(line), **attrs)
    if name in scope:
        raise IRError(f"{name} is defined twice, again in line {span.line}", span)
    scope[name] = node
    reader.end()


def read_use(line: Line, scope: Scope) -> Node:
    if line.head not in scope:
        line.fail("a value that has been defined above")
    return scope[line.take()]


def read_value_type(line: Line) -> ValueType:
    rows = line.dim()
    line.expect("x")
    cols, time = line.dim(), line.word("a time such as `@step`")
    return ValueType(rows, cols, time.removeprefix("@"))


def read_tile_type(line: Line) -> Tile:
    rows = line.word("an axis")
    line.expect("x")
    return Tile(rows, line.word("an axis"))


def end_line(reader: Reader, line: Line, result: Any) -> Any:
    """Ends the line and hands on what it held."""
    assert line is reader.line
    reader.end()
    return result


def read_named(reader: Reader, scope: Scope) -> tuple[str, Node]:
    """`word NAME = %value`, the whole line."""
    line = reader.line
    line.take()
    name = line.name()
    line.expect("=")
    value = read_use(line, scope)
    reader.end()
    return name, value


def check_once(opening: Line, found: list[Any], what: str) -> None:
    if len(found) != 1:
        count = f"{len(found)} times `{what}` where one is needed"
        raise IRError(f"{count} in the block of line {opening.end.line}", opening.end)


def read_output(reader: Reader, scope: Scope) -> Node:
    line = reader.line
    line.take()
    value = read_use(line, scope)
    reader.end()
    return value


def read_key(line: Line, scope: Scope, key: str) -> Node | None:
    """`key=%value`, or None when the line goes on with something else."""
    if not line.accept(key):
        return None
    line.expect("=")
    return read_use(line, scope)
