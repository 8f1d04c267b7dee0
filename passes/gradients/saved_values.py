"""What the forward pass keeps for the backward pass, and what that computes again.

The forward kernels hand values on through buffers; the adjoint program needs some of the same values. Such a value is
kept when keeping it costs fewer bytes than making it anew (`crossing` says what an operation is worth in bytes). Kept
ones are handed from one plan to the other, and the kernels that only made them don't run a second time.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from smir.ir import tile
from smir.ir.graph import Node, substitute, walk
from smir.ir.kernel import GIVEN, SAVED, Buffer, KernelPlan
from smir.ir.tile import BUFFER, CHUNK, ONE
from smir.ir.tile_program import CHUNKED, SCAN, STEP, Carry, TileLeaf, TileProgram
from smir.passes.analysis.tile_cost import elements, operands, total_flops
from smir.passes.gradients.adjoint_program import needed
from smir.passes.kernels.crossing import (
    ELEMENT_BYTES,
    OPERATIONS_PER_BYTE,
    columns_on_the_way,
    is_dear_vector,
    is_heavy,
    is_made_by_all,
    on_the_way,
    size,
)
from smir.passes.kernels.fit_outputs import fixed_nodes, is_dear_tile
from smir.passes.kernels.level_kernels import with_level_kernels
from smir.passes.kernels.lines import SUMS, is_line
from smir.passes.kernels.on_chip import on_chip
from smir.passes.kernels.partition import partition_values
from smir.passes.kernels.wide_divisors import what_is_known, with_wide_divisors
from smir.passes.kernels.wide_exponents import with_wide_exponents

KEPT, RECOMPUTED, UNUSED = "kept", "recomputed", "unused"


@dataclass(frozen=True)
class SavedValue:
    """One value that both passes use, and the decision about it.

    `name` is the forward plan's buffer, of `rows x cols` elements a chunk, and `given` the backward plan's. `keep` and
    `recompute` are bytes per chunk at nominal sizes. UNUSED: the backward pass only needed it to make what is kept.
    """

    name: str
    given: str
    rows: str
    cols: str
    keep: float
    recompute: float
    decision: str


@dataclass(frozen=True)
class TrainingPlan:
    """The two plans of a training step. What `forward` saves under `name`, `backward` is given under `given`.

    `kept` has these pairs of names; `values` are all values that were decided about.
    """

    forward: KernelPlan
    backward: KernelPlan
    values: tuple[SavedValue, ...]

    @property
    def kept(self) -> dict[str, str]:
        return {v.name: v.given for v in self.values if v.decision == KEPT}


def training_plan(forward: TileProgram, adjoint: TileProgram) -> TrainingPlan:
    """Both plans of a training step: the program, and its simplified adjoint, with the values to keep decided on."""
    # the adjoint of pairs of chunks sees the whole sequence as one chunk
    pairs = any(s.order not in ("forward", "backward") for s in forward.scans)
    shared = set() if pairs else set(adjoint.nodes())
    # the scan form keeps nothing for itself, nor does the step form, whose backward pass would walk the sequence twice
    handed = {c.name for c in forward.carries if c.load in shared and _is_handed(forward, c)}
    inner = (n for n in fixed_nodes(forward.nodes()) if n in shared and is_dear_tile(n))
    offered = {n: f"inner_{i}" for i, n in enumerate(inner)}
    walked = _made_for_walks(adjoint)
    beside = {} if pairs else _beside_results(forward, adjoint)
    beside |= {} if pairs else _beside_walks(forward, adjoint, walked, {*offered, *beside})
    _, values = partition_values(forward, frozenset(handed), offered, beside)
    taken = {leaf.name for leaf in adjoint.leaves} | {c.name for c in adjoint.carries}
    decided = _decide({name: value for name, value in values.items() if value in shared}, forward, taken, walked)
    loads = {values[v.name]: tile.buffer(v.given, v.rows, v.cols) for v in decided if v.decision == KEPT}
    reading = _reading(adjoint, loads)
    used = set(reading.nodes())
    final = tuple(v if substitute(values[v.name], loads) in used else replace(v, decision=UNUSED) for v in decided)
    dropped = [values[v.name] for v in final if v.decision != KEPT]
    handed -= {n["name"] for n in dropped if n.op == "load"}
    offered, beside = ({n: x for n, x in some.items() if n not in dropped} for some in (offered, beside))
    plan, _ = partition_values(forward, frozenset(handed), offered, beside)
    plan = with_level_kernels(on_chip(plan, [v.name for v in final if v.decision == KEPT]))
    backward = partition_values(reading)[0]
    done = _with_wide_divisors(TrainingPlan(plan, backward, final))
    wide = TrainingPlan(with_wide_exponents(done.forward), with_wide_exponents(done.backward), done.values)
    return _same_types(wide)


def _beside_results(forward: TileProgram, adjoint: TileProgram) -> dict[Node, str]:
    """Results that the backward pass needs, and numbers per token, dear to make, on the way to them.

    Results that are quotients whose numerators take products: the gradient of a divisor, `-sum(d_y y) / divisor`, reads
    them. They are kept beside the result, which may be rounded further than products are.
    """
    if forward.form != CHUNKED:
        return {}
    results = {o.value: f"kept_{o.result.name}" for o in forward.outputs if o.value.op == "div"}
    read = {v: name for v, name in results.items() if is_heavy(v.args[0])} if results else {}
    needed = {v: name for v, name in read.items() if v in set(adjoint.nodes())}
    if not needed:
        return {}
    later = [*(o.value for o in adjoint.outputs), *(c.next for c in adjoint.carries)]
    columns = columns_on_the_way((o.value for o in forward.outputs), later, set(needed))
    return {**{n: f"column_{i}" for i, n in enumerate(columns)}, **needed}


def _beside_walks(
    forward: TileProgram, adjoint: TileProgram, walked: Collection[Node], offered: set[Node]
) -> dict[Node, str]:
    """Small tiles and lines that the forward pass makes on its way to its results, and the backward pass before a walk:
    scores, where an erase brings the gradient of an output to that of the state."""
    if forward.form != CHUNKED:
        return {}

    def is_kept(n: Node) -> bool:
        line = is_line(n) and any(m.op in SUMS for m in walk([n]))
        return n in walked and (line or (is_heavy(n) and n.op != "transpose" and n.type == tile.Tile(CHUNK, CHUNK)))

    made, later = [o.value for o in forward.outputs], (c.next for c in adjoint.carries)
    # what is made for such vectors isn't needed where they are kept
    ends = offered | {n for n in walk(made) if is_dear_vector(n)}
    return {n: f"walked_{i}" for i, n in enumerate(on_the_way(made, later, ends, is_kept))}


def _is_handed(forward: TileProgram, carry: Carry) -> bool:
    """Whether a carry is worth a buffer of the forward pass: per token, a vector is and a matrix isn't."""
    return forward.form == SCAN or (forward.form == STEP and ONE in (carry.rows, carry.cols))


def _made_for_walks(adjoint: TileProgram) -> set[Node]:
    """What all blocks of a state would make on the backward pass' walks, if no kernel before them made it."""
    cut = {c.cols for c in adjoint.carries if ONE not in (c.rows, c.cols)}
    return {n for n in walk([c.next for c in adjoint.carries]) if is_made_by_all(n, cut)}


def _decide(
    shared: Mapping[str, Node], program: TileProgram, taken: Collection[str], walked: Collection[Node]
) -> tuple[SavedValue, ...]:
    """The decisions in the order in which the forward pass makes the values: later ones may read earlier ones."""
    by_load = {c.load: c for c in program.carries}
    kept: set[Node] = set()
    decided: list[SavedValue] = []
    for name, value in shared.items():
        # kept in memory until it is read again: the forward pass writes it anyway
        keep = 2 * elements(value, size) * ELEMENT_BYTES
        recompute = _recompute(value, by_load.get(value), kept, value in walked)
        if keep <= recompute:
            kept.add(value)
        decided.append(SavedValue(name, _fresh(f"saved_{name}", taken), value.type.rows, value.type.cols,
                                  keep, recompute, KEPT if keep <= recompute else RECOMPUTED))  # fmt: skip
    return tuple(decided)


def _fresh(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _recompute(value: Node, carry: Carry | None, kept: Collection[Node], walked: bool = False) -> float:
    """Bytes that making the value again is worth: what it reads, its operations, and, since a carried tile is made by a
    kernel that walks through the sequence, and what is `walked` by one before that, a write and the read after it."""
    handed_on = 2 * elements(value, size) * ELEMENT_BYTES if walked or carry is not None else 0
    read = work = 0.0
    for node in _cone(value if carry is None else carry.next, {n for n in kept if n is not value}):
        if node in kept or node.op == "load":
            # the carried tile itself stays on chip
            read += 0 if carry is not None and node is value else elements(node, size) * ELEMENT_BYTES
        elif node.args:
            work += total_flops(node, size)
    return handed_on + read + work / OPERATIONS_PER_BYTE


def _cone(root: Node, ends: Collection[Node]) -> Iterator[Node]:
    """The nodes below the root down to `ends`, each once; a `level_sum` stands for all its levels."""
    seen: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        if node not in ends:
            stack.extend(operands(node))


def _reading(adjoint: TileProgram, loads: Mapping[Node, Node]) -> TileProgram:
    """The adjoint that loads the kept values, without what only made them."""
    scans = tuple(
        replace(s, carries=tuple(replace(c, next=substitute(c.next, loads)) for c in s.carries)) for s in adjoint.scans
    )
    outputs = tuple(replace(o, value=substitute(o.value, loads)) for o in adjoint.outputs)
    leaves = tuple(TileLeaf(BUFFER, n["name"], n.type.rows, n.type.cols) for n in loads.values())
    return needed(replace(adjoint, leaves=(*adjoint.leaves, *leaves), scans=scans, outputs=outputs))


def _with_wide_divisors(plan: TrainingPlan) -> TrainingPlan:
    """Both plans with what divisors that may cancel are made of: a kept value is wide in both, or in neither."""
    outer, inner = plan.kept, {given: name for name, given in plan.kept.items()}
    backward = with_wide_divisors(plan.backward, what_is_known(with_wide_divisors(plan.forward), outer))
    forward = with_wide_divisors(plan.forward, what_is_known(backward, inner))
    return replace(plan, forward=forward, backward=with_wide_divisors(plan.backward, what_is_known(forward, outer)))


def _same_types(plan: TrainingPlan) -> TrainingPlan:
    """Both sides of a kept value in one type: rounded to that of products only where both sides allow it."""
    outer, inner = plan.kept, {given: name for name, given in plan.kept.items()}

    def forward(b: Buffer) -> Buffer:
        if b.name not in outer:
            return b
        other = plan.backward.buffer(outer[b.name]).dtype
        return replace(b, owner=SAVED, dtype=b.dtype if b.dtype == other else "float32")

    def backward(b: Buffer) -> Buffer:
        if b.owner != GIVEN:
            return b
        other = plan.forward.buffer(inner[b.name]).dtype
        return replace(b, dtype=b.dtype if b.dtype == other else "float32")

    return replace(
        plan,
        forward=replace(plan.forward, buffers=tuple(map(forward, plan.forward.buffers))),
        backward=replace(plan.backward, buffers=tuple(map(backward, plan.backward.buffers))),
    )
