"""Blocks and stages of walks over chunks that also write the output.

Every step loads a chunk's tiles, and the loads of later steps overlap it where shared memory holds them: three steps'
tiles in wide blocks are best, then two, then narrow blocks (measured on an H200 with heads of 128).
"""

from collections.abc import Callable, Mapping

from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, Kernel
from smir.ir.tile import BUFFER, CARRIED, ONE, TOKEN
from smir.ir.tile_program import OUTPUT

# Of 227 KB; the rest is for operands that a step computes.
SHARED_BYTES = 200 << 10
CHOICES = ((64, 3), (64, 2), (32, 3), (32, 2))

Elements = Callable[[Node, Mapping[str, int]], int]
Choice = tuple[dict[str, int], int]


def writes_output(kernel: Kernel) -> bool:
    """Whether a walk carries a matrix on chip and writes what is made of it."""
    return kernel.sequential and any(s.target == OUTPUT for loop in kernel.loops for s in loop.stores)


def walk_choice(kernel: Kernel, whole: Mapping[str, int], elements: Elements, weight: int) -> Choice:
    """Blocks of the cut axes, none wider than `whole`, and pipeline stages: the first choice that shared memory holds.

    `weight`: how many times 16 bits the products' operands have.
    """
    nodes = [n for n in walk(kernel.roots()) if n.op == "load" and ONE not in (n.type.rows, n.type.cols)]
    for width, stages in CHOICES:
        # wider operands fill the registers with half as many columns
        blocks = {axis: min(width // weight, whole[axis]) for axis, role in kernel.roles if role == GRID}
        loaded = sum(elements(n, blocks) for n in nodes if n["kind"] in (TOKEN, BUFFER))
        carried = sum(elements(n, blocks) for n in nodes if n["kind"] == CARRIED)
        if 2 * weight * (stages * loaded + carried) <= SHARED_BYTES:
            break
    return blocks, stages
