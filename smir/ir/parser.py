"""Reads what `printer.print_ir` writes. Checks the form of the text only; `verifier.verify` checks the meaning."""

from collections.abc import Callable
from typing import Any

from smir.errors import IRError
from smir.ir.expr import ValueType
from smir.ir.graph import Node, make
from smir.ir.kernel import Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.mixer import INPUT, PARAM, Declaration, Mixer, State
from smir.ir.operator import Decay, Diagonal, Erase, MicroStep, Operator, OperatorProgram, Read, Write
from smir.ir.printer import IR
from smir.ir.text import Line, split_lines
from smir.ir.tile import Carry, Scan, Tile, TileLeaf, TileProgram

Scope = dict[str, Node]


def parse_ir(text: str) -> IR:
    """A mixer, operator program, tile program or kernel plan. Raises IRError at the line that is malformed."""
    reader = _Reader(split_lines(text))
    levels: dict[str, Callable[[_Reader], IR]] = {
        "mixer": _mixer,
        "operators": _operators,
        "tile": _tile,
        "plan": _plan,
    }
    level = levels.get(reader.line.head)
    if level is None:
        reader.line.fail("`mixer`, `operators`, `tile` or `plan`")
    ir = level(reader)
    if reader.rest:
        reader.line.fail("nothing after the closing `}`")
    return ir


class _Reader:
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


def _value(reader: _Reader, scope: Scope, read_type: Callable[[Line], Any]) -> None:
    """`%3 = exp(%2) key=1 : type` into the scope."""
    line = reader.line
    span, name = line.span, line.take()
    line.expect("=")
    op = line.word("an operation")
    line.expect("(")
    args = []
    while not line.accept(")"):
        if args:
            line.expect(",")
        args.append(_use(line, scope))
    attrs = {}
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


def _use(line: Line, scope: Scope) -> Node:
    if line.head not in scope:
        line.fail("a value that has been defined above")
    return scope[line.take()]


def _value_type(line: Line) -> ValueType:
    rows = line.dim()
    line.expect("x")
    cols, time = line.dim(), line.word("a time such as `@step`")
    return ValueType(rows, cols, time.removeprefix("@"))


def _tile_type(line: Line) -> Tile:
    rows = line.word("an axis")
    line.expect("x")
    return Tile(rows, line.word("an axis"))


def _after(reader: _Reader, line: Line, result: Any) -> Any:
    """Ends the line and hands on what it held."""
    assert line is reader.line
    reader.end()
    return result


def _named(reader: _Reader, scope: Scope) -> tuple[str, Node]:
    """`word NAME = %value`, the whole line."""
    line = reader.line
    line.take()
    name = line.name()
    line.expect("=")
    value = _use(line, scope)
    reader.end()
    return name, value


# ---- mixer IR ---------------------------------------------------------------------------------------------------


def _mixer(reader: _Reader) -> Mixer:
    scope: Scope = {}
    title: list[str] = []
    declarations: list[Declaration] = []
    states: list[tuple[str, tuple[Any, ...], float]] = []
    updates: dict[str, Node] = {}
    outputs: list[tuple[Node, tuple[Any, ...]]] = []
    names: list[tuple[str, Node]] = []

    def head(line: Line) -> None:
        line.expect("mixer")
        title.append(line.name())

    def update() -> None:
        line = reader.line
        name, value = _named(reader, scope)
        if name in updates or name not in {s[0] for s in states}:
            raise IRError(f"one update for each state, not {name} in line {line.end.line}", line.end)
        updates[name] = value

    def output() -> None:
        line = reader.line
        line.take()
        value = _use(line, scope)
        line.expect(":")
        outputs.append(_after(reader, line, (value, line.dims())))

    opening = reader.block(
        head,
        {
            INPUT: lambda: declarations.append(_declaration(reader)),
            PARAM: lambda: declarations.append(_declaration(reader)),
            "state": lambda: states.append(_state(reader)),
            "%": lambda: _value(reader, scope, _value_type),
            "update": update,
            "output": output,
            "name": lambda: names.append(_named(reader, scope)),
        },
    )
    _once(opening, outputs, "output")
    missing = [name for name, _, _ in states if name not in updates]
    if missing:
        raise IRError(f"state {missing[0]} has no update in the block of line {opening.end.line}", opening.end)
    built = tuple(State(name, dims, initial, updates[name]) for name, dims, initial in states)
    return Mixer(title[0], tuple(declarations), built, *outputs[0], tuple(names))


def _once(opening: Line, found: list[Any], what: str) -> None:
    if len(found) != 1:
        count = f"{len(found)} times `{what}` where one is needed"
        raise IRError(f"{count} in the block of line {opening.end.line}", opening.end)


def _declaration(reader: _Reader) -> Declaration:
    line = reader.line
    kind, name = line.take(), line.name()
    line.expect(":")
    dims = line.dims()
    return Declaration(kind, name, dims, _after(reader, line, line.interval()))


def _state(reader: _Reader) -> tuple[str, tuple[Any, ...], float]:
    line = reader.line
    line.take()
    name = line.name()
    line.expect(":")
    dims = line.dims()
    line.expect("=")
    return name, dims, _after(reader, line, line.number())


# ---- operator IR ------------------------------------------------------------------------------------------------


def _operators(reader: _Reader) -> OperatorProgram:
    scope: Scope = {}
    mixers: list[Mixer] = []
    operators: list[Operator] = []
    reads: list[Read] = []
    outputs: list[Node] = []

    opening = reader.block(
        lambda line: line.expect("operators"),
        {
            "mixer": lambda: mixers.append(_mixer(reader)),
            "%": lambda: _value(reader, scope, _value_type),
            "operator": lambda: operators.append(_operator(reader, scope)),
            "read": lambda: reads.append(_read(reader, scope)),
            "output": lambda: outputs.append(_output(reader, scope)),
        },
    )
    _once(opening, mixers, "mixer")
    _once(opening, outputs, "output")
    return OperatorProgram(mixers[0], tuple(operators), tuple(reads), outputs[0])


def _output(reader: _Reader, scope: Scope) -> Node:
    line = reader.line
    line.take()
    value = _use(line, scope)
    reader.end()
    return value


def _read(reader: _Reader, scope: Scope) -> Read:
    line = reader.line
    line.take()
    name = line.name()
    line.expect("=")
    state, when = line.name(), line.word("a moment")
    return Read(name, state, _after(reader, line, _use(line, scope)), when)


def _operator(reader: _Reader, scope: Scope) -> Operator:
    facts: list[Any] = []
    steps: list[MicroStep] = []

    def head(line: Line) -> None:
        line.expect("operator")
        facts.append(line.name())
        line.expect(":")
        facts.append(line.dim())
        line.expect("x")
        facts.extend((line.dim(), line.word("a direction")))

    def whole(line: Line) -> None:
        head(line)
        facts.append(line.accept("transposed"))

    reader.block(whole, {"step": lambda: steps.append(_micro_step(reader, scope))})
    state, rows, cols, direction, transposed = facts
    return Operator(state, rows, cols, direction, tuple(steps), transposed)


def _micro_step(reader: _Reader, scope: Scope) -> MicroStep:
    decays: dict[str, Diagonal] = {}
    writes: list[Write] = []

    def decay() -> None:
        line = reader.line
        line.take()
        if line.head not in ("scalar", "rows", "cols") or line.head in decays:
            line.fail("`scalar`, `rows` or `cols`, once each")
        side, log = line.take(), _key(line, scope, "log")
        if log is None:
            line.fail("`log=`")
        decays[side] = _after(reader, line, Diagonal(log, _key(line, scope, "sign")))

    reader.block(
        lambda line: line.expect("step"), {"decay": decay, "write": lambda: writes.append(_write(reader, scope))}
    )
    return MicroStep(Decay(**decays), tuple(writes))


def _write(reader: _Reader, scope: Scope) -> Write:
    line = reader.line
    line.take()
    left = _key(line, scope, "left")
    if left is None:
        line.fail("`left=`")
    value, vector, erase = _key(line, scope, "value"), _key(line, scope, "erase"), None
    if vector is not None:
        line.expect("when")
        line.expect("=")
        erase = Erase(vector, line.word("a moment"))
    return Write(left, value, _after(reader, line, erase))


def _key(line: Line, scope: Scope, key: str) -> Node | None:
    """`key=%value`, or None when the line goes on with something else."""
    if not line.accept(key):
        return None
    line.expect("=")
    return _use(line, scope)


# ---- tile IR and kernel plans -----------------------------------------------------------------------------------


def _tile(reader: _Reader) -> TileProgram:
    scope: Scope = {}
    title: list[str] = []
    leaves: list[TileLeaf] = []
    scans: list[Scan] = []
    outputs: list[Node] = []
    opening = reader.block(
        lambda line: title.extend(_title(line, "tile")),
        {
            "leaf": lambda: leaves.append(_leaf(reader)),
            "%": lambda: _value(reader, scope, _tile_type),
            "scan": lambda: scans.append(_loop(reader, scope, "scan").scan),
            "output": lambda: outputs.append(_output(reader, scope)),
        },
    )
    _once(opening, outputs, "output")
    return TileProgram(title[0], title[1], tuple(leaves), tuple(scans), outputs[0])


def _title(line: Line, word: str) -> tuple[str, str]:
    line.expect(word)
    return line.name(), line.word("a form")


def _leaf(reader: _Reader) -> TileLeaf:
    line = reader.line
    line.take()
    kind, name = line.word("a kind"), line.name()
    line.expect(":")
    tile = _tile_type(line)
    return TileLeaf(kind, name, tile.rows, tile.cols, _after(reader, line, line.interval()))


def _loop(reader: _Reader, scope: Scope, word: str) -> Loop:
    """A scan of a tile program, or a loop of a kernel: the latter also has stores."""
    order: list[str] = []
    carries: list[Carry] = []
    exports: list[tuple[str, Node]] = []
    stores: list[Store] = []
    final_stores: list[Store] = []

    def head(line: Line) -> None:
        line.expect(word)
        order.append(line.word("an order"))

    entries: dict[str, Callable[[], None]] = {
        "carry": lambda: carries.append(_carry(reader, scope)),
        "export": lambda: exports.append(_named(reader, scope)),
    }
    if word == "loop":
        entries["store"] = lambda: stores.append(_store(reader, scope))
        entries["final_store"] = lambda: final_stores.append(_store(reader, scope))
    reader.block(head, entries)
    return Loop(Scan(order[0], tuple(carries), tuple(exports)), tuple(stores), tuple(final_stores))


def _carry(reader: _Reader, scope: Scope) -> Carry:
    line = reader.line
    line.take()
    name = line.name()
    line.expect(":")
    tile = _tile_type(line)
    line.expect("=")
    initial, state = line.number(), None
    if line.accept("state"):
        line.expect("=")
        state = line.string()
    transposed = line.accept("transposed")
    following = _key(line, scope, "next")
    if following is None:
        line.fail("`next=`")
    reader.end()
    return Carry(name, tile.rows, tile.cols, following, initial, state, transposed)


def _store(reader: _Reader, scope: Scope) -> Store:
    line = reader.line
    line.take()
    target = line.name()
    line.expect("=")
    value = _use(line, scope)
    return Store(target, value, _after(reader, line, line.accept("transposed")))


def _plan(reader: _Reader) -> KernelPlan:
    title: list[str] = []
    leaves: list[TileLeaf] = []
    buffers: list[Buffer] = []
    kernels: list[Kernel] = []
    reader.block(
        lambda line: title.extend(_title(line, "plan")),
        {
            "leaf": lambda: leaves.append(_leaf(reader)),
            "buffer": lambda: buffers.append(_buffer(reader)),
            "kernel": lambda: kernels.append(_kernel(reader)),
        },
    )
    return KernelPlan(title[0], title[1], tuple(leaves), tuple(buffers), tuple(kernels))


def _buffer(reader: _Reader) -> Buffer:
    line = reader.line
    line.take()
    name = line.name()
    line.expect(":")
    tile, extent = _tile_type(line), line.word("an extent")
    return Buffer(name, tile.rows, tile.cols, extent, _after(reader, line, line.word("a type")))


def _kernel(reader: _Reader) -> Kernel:
    scope: Scope = {}
    title: list[str] = []
    roles: list[tuple[str, str]] = []
    loops: list[Loop] = []
    stores: list[Store] = []

    def head(line: Line) -> None:
        line.expect("kernel")
        title.append(line.name())
        line.expect("formula")
        line.expect("=")
        title.append(line.string())

    def role() -> None:
        line = reader.line
        line.take()
        axis = line.name("an axis")
        roles.append(_after(reader, line, (axis, line.word("a role"))))

    reader.block(
        head,
        {
            "role": role,
            "%": lambda: _value(reader, scope, _tile_type),
            "loop": lambda: loops.append(_loop(reader, scope, "loop")),
            "store": lambda: stores.append(_store(reader, scope)),
        },
    )
    return Kernel(title[0], title[1], tuple(loops), tuple(stores), tuple(roles))
