"""Reads the text of tile programs and of kernel plans."""

from collections.abc import Callable
from dataclasses import replace

from smir.ir.graph import Node
from smir.ir.kernel import Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.reader import (
    Reader,
    Scope,
    end_line,
    read_key,
    read_named,
    read_tile_type,
    read_use,
    read_value,
)
from smir.ir.text import Line
from smir.ir.tile_program import Carry, Output, Result, Scan, TileLeaf, TileProgram


def parse_tile(reader: Reader) -> TileProgram:
    scope: Scope = {}
    title: list[str] = []
    leaves: list[TileLeaf] = []
    scans: list[Scan] = []
    outputs: list[Output] = []
    reader.block(
        lambda line: title.extend(_title(line, "tile")),
        {
            "leaf": lambda: leaves.append(_leaf(reader)),
            "%": lambda: read_value(reader, scope, read_tile_type),
            "scan": lambda: scans.append(_loop(reader, scope, "scan").scan),
            "output": lambda: outputs.append(_output(reader, scope)),
        },
    )
    return TileProgram(title[0], title[1], tuple(leaves), tuple(scans), tuple(outputs))


def _title(line: Line, word: str) -> tuple[str, str]:
    line.expect(word)
    return line.name(), line.word("a form")


def _leaf(reader: Reader) -> TileLeaf:
    line = reader.line
    line.take()
    kind, name = line.word("a kind"), line.name()
    line.expect(":")
    tile = read_tile_type(line)
    return TileLeaf(kind, name, tile.rows, tile.cols, end_line(reader, line, line.interval()))


def _output(reader: Reader, scope: Scope) -> Output:
    line = reader.line
    line.take()
    result = _result(line)
    line.expect("=")
    return end_line(reader, line, Output(result, read_use(line, scope)))  # type: ignore[no-any-return]


def _result(line: Line) -> Result:
    kind, name = line.word("a kind"), line.name()
    line.expect(":")
    tile = read_tile_type(line)
    line.expect("offset")
    line.expect("=")
    offset, target = line.number(), ""
    if line.accept("target"):
        line.expect("=")
        target = line.string()
    return Result(name, tile.rows, tile.cols, kind, int(offset), target)


def _plan_result(reader: Reader) -> Result:
    line = reader.line
    line.take()
    return end_line(reader, line, _result(line))  # type: ignore[no-any-return]


def _loop(reader: Reader, scope: Scope, word: str) -> Loop:
    """A scan of a tile program, or a loop of a kernel: the latter also has stores."""
    order: list[Scan] = []
    carries: list[Carry] = []
    exports: list[tuple[str, Node]] = []
    each: list[tuple[str, Node]] = []
    stores: list[Store] = []
    final_stores: list[Store] = []

    def head(line: Line) -> None:
        line.expect(word)
        order.append(_order(line))

    entries: dict[str, Callable[[], None]] = {
        "carry": lambda: carries.append(_carry(reader, scope)),
        "export": lambda: exports.append(read_named(reader, scope)),
        "each": lambda: each.append(read_named(reader, scope)),
    }
    if word == "loop":
        entries["store"] = lambda: stores.append(_store(reader, scope))
        entries["final_store"] = lambda: final_stores.append(_store(reader, scope))
    reader.block(head, entries)
    scan = replace(order[0], carries=tuple(carries), exports=tuple(exports), each=tuple(each))
    return Loop(scan, tuple(stores), tuple(final_stores))


def _order(line: Line) -> Scan:
    """A scan that carries nothing yet."""
    scan = Scan(line.word("an order"), ())
    if line.accept("kernel"):
        line.expect("=")
        scan = replace(scan, kernel=line.string())
    if line.accept("reach"):
        line.expect("=")
        scan = replace(scan, reach=int(line.number()))
    return replace(scan, inward=line.accept("inward"))


def _carry(reader: Reader, scope: Scope) -> Carry:
    line = reader.line
    line.take()
    name = line.name()
    line.expect(":")
    tile = read_tile_type(line)
    line.expect("=")
    initial, state = line.number(), None
    if line.accept("state"):
        line.expect("=")
        state = line.string()
    transposed, final = line.accept("transposed"), not line.accept("start_only")
    start = read_key(line, scope, "start")
    following = read_key(line, scope, "next")
    if following is None:
        line.fail("`next=`")
    reader.end()
    return Carry(name, tile.rows, tile.cols, following, initial, state, transposed, final, start)


def _store(reader: Reader, scope: Scope) -> Store:
    line = reader.line
    line.take()
    target = line.name()
    line.expect("=")
    value = read_use(line, scope)
    transposed, summed = line.accept("transposed"), None
    if line.accept("summed"):
        line.expect("=")
        summed = line.string()
    return end_line(reader, line, Store(target, value, transposed, summed))  # type: ignore[no-any-return]


def parse_plan(reader: Reader) -> KernelPlan:
    title: list[str] = []
    leaves: list[TileLeaf] = []
    results: list[Result] = []
    buffers: list[Buffer] = []
    kernels: list[Kernel] = []
    walks: list[Kernel] = []

    def read_walks() -> None:
        reader.block(lambda line: line.expect("walks"), {"kernel": lambda: walks.append(_kernel(reader))})

    reader.block(
        lambda line: title.extend(_title(line, "plan")),
        {
            "leaf": lambda: leaves.append(_leaf(reader)),
            "result": lambda: results.append(_plan_result(reader)),
            "buffer": lambda: buffers.append(_buffer(reader)),
            "kernel": lambda: kernels.append(_kernel(reader)),
            "walks": read_walks,
        },
    )
    return KernelPlan(title[0], title[1], tuple(leaves), tuple(results), tuple(buffers), tuple(kernels), tuple(walks))


def _buffer(reader: Reader) -> Buffer:
    line = reader.line
    line.take()
    name = line.name()
    line.expect(":")
    tile, extent, dtype = read_tile_type(line), line.word("an extent"), line.word("a type")
    return Buffer(name, tile.rows, tile.cols, extent, dtype, end_line(reader, line, line.word("an owner")))


def _kernel(reader: Reader) -> Kernel:
    scope: Scope = {}
    title: list[str] = []
    roles: list[tuple[str, str]] = []
    in_segments: list[bool] = []
    loops: list[Loop] = []
    stores: list[Store] = []

    def head(line: Line) -> None:
        line.expect("kernel")
        title.append(line.name())
        in_segments.extend([True] if line.accept("segments") else [])
        line.expect("formula")
        line.expect("=")
        title.append(line.string())

    def role() -> None:
        line = reader.line
        line.take()
        axis = line.name("an axis")
        roles.append(end_line(reader, line, (axis, line.word("a role"))))

    reader.block(
        head,
        {
            "role": role,
            "%": lambda: read_value(reader, scope, read_tile_type),
            "loop": lambda: loops.append(_loop(reader, scope, "loop")),
            "store": lambda: stores.append(_store(reader, scope)),
        },
    )
    return Kernel(title[0], title[1], tuple(loops), tuple(stores), tuple(roles), bool(in_segments))
