"""Running sums over a column chunk, made once for each chunk and not again for every row chunk that visits it.

A sum between two positions needs, of every chunk of columns, sums from each position to the chunk's end and the sum of
all: a few numbers for each token, each of which waits for others. A kernel before all others, `sums`, stores them.
"""

from collections.abc import Iterable
from dataclasses import replace

from smir.ir.graph import Node, substitute, walk
from smir.ir.tile import COL, buffer
from smir.ir.tile_program import EARLIER, LATER, Scan, TileProgram
from smir.passes.pairs.pair_sides import blocks, own_block

KERNEL = "sums"


def with_column_sums(program: TileProgram, prefix: str) -> TileProgram:
    """The program with sums of column chunks in buffers `<prefix>_0`, `<prefix>_1`, .., which `sums` stores.

    Programs without such sums stay as they are.
    """
    found = dict.fromkeys(n for s in program.scans if s.order in (EARLIER, LATER) for n in _sums(_values(s)))
    if not found:
        return program
    loads = {n: buffer(f"{prefix}_{i}", n.type.rows, n.type.cols, COL) for i, n in enumerate(found)}
    exports = tuple((load["name"], own_block(n)) for n, load in loads.items())
    first = Scan(EARLIER, (), exports, KERNEL, (), 0)
    return replace(program, scans=(first, *(_rewritten(s, loads) for s in program.scans)))


def _values(scan: Scan) -> tuple[Node, ...]:
    """What the scan computes for every column chunk."""
    return (*(c.next for c in scan.carries), *(value for _, value in scan.each))


def _sums(roots: Iterable[Node]) -> Iterable[Node]:
    """The largest values below the roots that are made of the column chunk alone and hold a sum over its tokens."""
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op not in ("transpose", "broadcast") and blocks(node) == {COL} and sums_tokens(node):
            yield node
        else:
            stack.extend(node.args)


def sums_tokens(value: Node) -> bool:
    """Whether a value of one chunk holds sums over its tokens."""
    return any(n.op in ("cumsum", "scan") or (n.op == "sum" and n["axis"] == 0) for n in walk([value]))


def _rewritten(scan: Scan, loads: dict[Node, Node]) -> Scan:
    carries = tuple(replace(c, next=substitute(c.next, loads)) for c in scan.carries)
    return replace(scan, carries=carries, each=tuple((name, substitute(v, loads)) for name, v in scan.each))
