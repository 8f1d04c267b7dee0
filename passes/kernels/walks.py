"""The scan form as walks: one kernel for each direction, which takes the state along the sequence and makes on its way
everything that needs it.

Beside kernels that make all chunks' factors at once, carry the states, and make the results (`partition`), a walk reads
every input once, makes every value once, and keeps no factor or state in memory. What it has less of is programs:
segments of time give it more of them (`time_segments`).
"""

from collections.abc import Collection
from dataclasses import replace

from smir.ir.formula import formula
from smir.ir.graph import Node, reaches, substitute, walk
from smir.ir.kernel import PER_CHUNK, Buffer, Kernel, Loop, Store
from smir.ir.tile import PARAM, TOKEN, buffer
from smir.ir.tile_program import SCAN, Output, Scan, TileProgram
from smir.passes.kernels.axis_roles import assign_roles
from smir.passes.kernels.sums_apart import keeps_too_much, sum_carry


def walks(program: TileProgram, handed: Collection[str]) -> tuple[tuple[Kernel, ...], tuple[Buffer, ...]]:
    """The kernels, and the buffers of states before every chunk that they store; none where a walk isn't enough, or
    would hold too much.

    The carries `handed` get such a buffer in any case.
    """
    if not _can_walk(program):
        return (), ()
    kernels: list[Kernel] = []
    known: dict[Node, Node] = {}
    waiting = list(program.outputs)
    for position, scan in enumerate(program.scans):
        later = program.scans[position + 1 :]
        unready = {c.load for s in later for c in s.carries}
        ready = [o for o in waiting if not reaches([o.value], unready.__contains__)]
        waiting = [o for o in waiting if o not in ready]
        needed = set(walk([*(o.value for o in waiting), *(c.next for s in later for c in s.carries)]))
        before = {c.load: buffer(f"{c.name}_before", c.rows, c.cols)
                  for c in scan.carries if c.load in needed or c.name in handed}  # fmt: skip
        kernels.append(_walk(program, scan, ready, known, before))
        known |= before
    if any(keeps_too_much(k) for k in kernels):
        return (), ()
    return tuple(kernels), tuple(Buffer(n["name"], n.type.rows, n.type.cols, PER_CHUNK) for n in known.values())


def _can_walk(program: TileProgram) -> bool:
    """Whether it is made of scans alone: columns that go their own ways, and results along the tokens or summed up."""
    found = {n.op for n in program.nodes()}
    plain = all(s.order in ("forward", "backward") and not s.exports and not s.each for s in program.scans)
    results = all(o.result.kind in (TOKEN, PARAM) for o in program.outputs)
    return program.form == SCAN and "scan" in found and "dot" not in found and plain and results


def _walk(
    program: TileProgram, scan: Scan, ready: list[Output], known: dict[Node, Node], before: dict[Node, Node]
) -> Kernel:
    """One direction. `known` are the states of earlier walks, `before` those that this one stores."""
    stores = [Store(leaf["name"], load) for load, leaf in before.items()]
    carries = [replace(c, next=substitute(c.next, known)) for c in scan.carries]
    final = [Store(c.state, c.load, c.transposed) for c in carries if c.state and c.final]
    taken = [c.name for c in program.carries]
    for o in ready:
        value = substitute(o.value, known)
        if o.result.kind == TOKEN:
            stores.append(Store(o.result.name, value))
            continue
        carry, end = sum_carry(o.result.name, value, taken)
        carries.append(carry)
        final.append(end)
    names = [c.name for c in scan.carries]
    written = [*((s.target, s.value) for s in stores if s.value.op != "load"), *((c.name, c.next) for c in carries)]
    loop = Loop(replace(scan, carries=tuple(carries)), tuple(stores), tuple(final))
    kernel = Kernel("_".join(["walk", *names]), "; ".join(f"{n} = {formula(v)}" for n, v in written), (loop,), ())
    return assign_roles(kernel, [o.result.name for o in program.outputs])
