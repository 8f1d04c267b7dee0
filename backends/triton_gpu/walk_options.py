"""Blocks, stages and warps of walks over chunks that take several products a step: those that also write the output,
and those whose state goes through a product before the next one.

Every step loads a chunk's tiles, and with three stages the loads of later steps overlap it: three steps' tiles in wide
blocks are best, then two, then narrow blocks. With two, Triton 3.6 issues a step's loads at the end of the one before
it and waits for them at once. Where few sequences leave multiprocessors without a program, narrow blocks give them one,
and steps are shorter (all measured on an H200 with heads of 128).
"""

from collections.abc import Callable, Mapping

from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, Kernel
from smir.ir.tile import BUFFER, CARRIED, ONE, TOKEN
from smir.ir.tile_program import OUTPUT

# Of 227 KB, by the model below: the loads of tiles that no product takes have a stage less.
SHARED_BYTES = 212 << 10
WIDE, NARROW, NARROWEST, STAGES = 64, 32, 16, (3, 2)
# Multiprocessors of a large card.
PROCESSORS = 132

Elements = Callable[[Node, Mapping[str, int]], int]
Choice = tuple[dict[str, int], int]


def writes_output(kernel: Kernel) -> bool:
    """Whether a walk carries a matrix on chip and writes what is made of it."""
    return kernel.sequential and any(s.target == OUTPUT for loop in kernel.loops for s in loop.stores)


def multiplies_state(kernel: Kernel) -> bool:
    """Whether a walk multiplies the matrix that it carries to make the next one, as an erase does."""
    carries = [c for loop in kernel.loops for c in loop.scan.carries if ONE not in (c.rows, c.cols)]
    return kernel.sequential and any(
        n.op == "dot" and n.args[1] == c.load for c in carries for n in walk([c.next]) if n.op == "dot"
    )


def walk_warps(kernel: Kernel, blocks: Mapping[str, int]) -> int:
    """Eight where wide blocks of a state go to memory every step and products fill the registers; else four."""
    wide = max(blocks.values(), default=0) >= WIDE
    return 8 if wide and multiplies_state(kernel) and not writes_output(kernel) else 4


def walk_choice(
    kernel: Kernel, whole: Mapping[str, int], elements: Elements, weight: int, sequences: int | None = None
) -> Choice:
    """Blocks of the cut axes, none wider than `whole`, and pipeline stages: the first choice that shared memory holds.

    `weight`: how many times 16 bits the products' operands have; `sequences`: how many are walked along, if few.
    """
    widest = _width(whole, sequences) if multiplies_state(kernel) else WIDE
    nodes = [n for n in walk(kernel.roots()) if n.op == "load" and ONE not in (n.type.rows, n.type.cols)]
    for width, stages in ((w, s) for w in (widest, min(NARROW, widest)) for s in STAGES):
        # wider operands fill the registers with half as many columns
        blocks = {axis: min(width // weight, whole[axis]) for axis, role in kernel.roles if role == GRID}
        loaded = sum(elements(n, blocks) for n in nodes if n["kind"] in (TOKEN, BUFFER))
        carried = sum(elements(n, blocks) for n in nodes if n["kind"] == CARRIED)
        if 2 * weight * (stages * loaded + carried) <= SHARED_BYTES:
            break
    return blocks, stages


def _width(whole: Mapping[str, int], sequences: int | None) -> int:
    """The narrowest block with which every program has a multiprocessor to itself."""
    width = WIDE
    while sequences and width > NARROWEST and sequences * max(whole.values(), default=1) * 2 <= PROCESSORS * width:
        width //= 2
    return width
