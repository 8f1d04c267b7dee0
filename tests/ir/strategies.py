"""Random IR of every level, meaningless but well formed, for the round trip through text."""

from hypothesis import strategies as st

from smir.ir import expr
from smir.ir.dims import ONE, Dim
from smir.ir.expr import ValueType
from smir.ir.graph import Node, make
from smir.ir.interval import Interval
from smir.ir.kernel import Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.mixer import Declaration, Mixer, State
from smir.ir.operator import (
    Decay,
    Diagonal,
    Drive,
    Elementwise,
    Erase,
    MicroStep,
    Operator,
    OperatorProgram,
    Read,
    Rotation,
    Write,
)
from smir.ir.ops import POINTWISE
from smir.ir.pairs import PairProgram, PairRead
from smir.ir.tile import Tile
from smir.ir.tile_program import Carry, Output, Result, Scan, TileLeaf, TileProgram

names = st.one_of(st.sampled_from(["q", "k", "S", "x", "in", "scalar_", "transposed"]), st.text(max_size=4))
floats = st.floats(allow_nan=False)
dims = st.builds(
    lambda a, b, c, d: a * Dim.number(b) / Dim.number(c) + Dim.number(d) * Dim.name("N") * a,
    st.sampled_from([Dim.name("K"), Dim.name("V"), Dim.name("x"), ONE]),
    st.integers(-3, 9),
    st.integers(1, 4),
    st.integers(-2, 2),
)
axes = st.sampled_from(["@C", "1", "K", "V", "K/2", "2*N+1", "K.V", "x"])
attrs = st.one_of(st.booleans(), st.integers(-99, 99), floats, st.text(max_size=6))
intervals = st.builds(Interval, floats, floats, st.booleans(), st.booleans())
dim_lists = st.lists(dims, max_size=2).map(tuple)


def graphs(types) -> st.SearchStrategy[list[Node]]:
    """A pool of nodes in which later ones use earlier ones."""

    @st.composite
    def pool(draw) -> list[Node]:
        nodes: list[Node] = []
        for _ in range(draw(st.integers(1, 12))):
            arity = draw(st.integers(0, min(3, len(nodes))))
            args = [draw(st.sampled_from(nodes)) for _ in range(arity)]
            op = draw(st.sampled_from(["input", "exp", "sum", "state", "load", *sorted(POINTWISE)]))
            keys = draw(st.lists(st.sampled_from(["name", "offset", "kind", "value"]), unique=True, max_size=3))
            nodes.append(make(op, args, draw(types), **{key: draw(attrs) for key in keys}))
        return nodes

    return pool()


value_types = st.builds(ValueType, dims, dims, st.sampled_from([expr.CONST, expr.STEP, expr.SEQ, expr.PAIR]))
tile_types = st.builds(Tile, axes, axes)


def tuples(elements, most: int = 3):
    return st.lists(elements, max_size=most).map(tuple)


@st.composite
def mixers(draw):
    node = st.sampled_from(draw(graphs(value_types)))
    declarations = st.builds(
        Declaration, st.sampled_from(["input", "param"]), names, dim_lists, intervals, group=st.none() | dims
    )
    state = st.builds(State, names, dim_lists, floats, node, log=st.none() | names)
    states = st.lists(state, max_size=3, unique_by=lambda s: s.name)
    locals_ = tuples(st.tuples(names, node))
    return draw(st.builds(Mixer, names, tuples(declarations), states.map(tuple), node, dim_lists, locals_))


@st.composite
def operator_programs(draw):
    node = st.sampled_from(draw(graphs(value_types)))
    diagonals = st.none() | st.builds(Diagonal, node, st.none() | node)
    erases = st.none() | st.builds(Erase, node, st.sampled_from(["before", "decayed"]))
    writes = st.builds(Write, node, st.none() | node, erases)
    angles = st.none() | node
    rotations = st.builds(Rotation, angles, angles)
    drives = st.builds(Drive, names, st.sampled_from(["before", "after"]), node)
    decays = st.builds(Decay, diagonals, diagonals, diagonals)
    steps = st.builds(MicroStep, decays, tuples(writes, 2), rotations, tuples(drives, 2))
    direction = st.sampled_from(["forward", "backward"])
    elementwise = st.builds(Elementwise, names, direction, st.sampled_from(["sum", "max", "logsum"]), node, node)
    operators = st.builds(Operator, names, dims, dims, direction, tuples(steps, 2), st.booleans())
    reads = st.builds(Read, names, names, node, st.sampled_from(["before", "decayed", "after"]))
    return draw(st.builds(OperatorProgram, mixers(), tuples(operators | elementwise, 2), tuples(reads, 2), node))


@st.composite
def pair_programs(draw):
    node = st.sampled_from(draw(graphs(value_types)))
    some = st.none() | node
    reads = st.builds(PairRead, names, st.sampled_from(["sum", "softmax"]), node, some, some, some)
    vectors = tuples(st.tuples(names, node), 2)
    return draw(st.builds(PairProgram, mixers(), vectors, tuples(reads, 2), node))


leaves = st.builds(TileLeaf, st.sampled_from(["token", "param"]), names, axes, axes, intervals)
results = st.builds(
    Result, names, axes, axes, st.sampled_from(["token", "param"]), st.integers(-99, 99), st.just("") | names
)
forms = st.sampled_from(["step", "scan", "chunked", "quadratic"])


def scans(node):
    states, flags = st.none() | names, st.booleans()
    carries = st.builds(Carry, names, axes, axes, node, floats, states, flags, flags, st.none() | node)
    order = st.sampled_from(["forward", "backward", "earlier", "later"])
    handed = tuples(st.tuples(names, node), 2)
    reach = st.none() | st.integers(0, 99)
    return st.builds(Scan, order, tuples(carries, 2), handed, st.just("") | names, handed, reach, flags)


@st.composite
def tile_programs(draw):
    node = st.sampled_from(draw(graphs(tile_types)))
    outputs = tuples(st.builds(Output, results, node))
    return draw(st.builds(TileProgram, names, forms, tuples(leaves), tuples(scans(node), 2), outputs))


@st.composite
def kernels(draw):
    node = st.sampled_from(draw(graphs(tile_types)))
    stores = tuples(st.builds(Store, names, node, st.booleans(), st.none() | axes), 2)
    loops = tuples(st.builds(Loop, scans(node), stores, stores), 2)
    roles = tuples(st.tuples(axes, st.sampled_from(["full", "grid"])), 2)
    return draw(st.builds(Kernel, names, st.text(max_size=8), loops, stores, roles, st.booleans()))


extents = st.sampled_from(["chunk", "sequence", "token", "pair", "segment"])
owners = st.sampled_from(["own", "saved", "given"])
buffers = st.builds(Buffer, names, axes, axes, extents, st.sampled_from(["float32", "product", "wide"]), owners)
plans = st.builds(
    KernelPlan,
    names,
    forms,
    tuples(leaves),
    tuples(results),
    tuples(buffers),
    tuples(kernels(), 2),
    tuples(kernels(), 2),
)
everything = st.one_of(mixers(), operator_programs(), pair_programs(), tile_programs(), plans)

# The fields that the strategies above fill in: a new field of an IR class must be added to them, and to the text.
FIELDS = {
    Declaration: "kind name dims range span group",
    State: "name dims initial update span log",
    Mixer: "name declarations states output output_dims names source spans",
    Diagonal: "log sign",
    Decay: "scalar rows cols",
    Erase: "vector when",
    Write: "left value erase",
    Rotation: "rows cols",
    Drive: "state when scale",
    MicroStep: "decay writes rotation drives",
    Elementwise: "state direction kind decay write",
    Operator: "state rows cols direction steps transposed",
    Read: "name state query when",
    OperatorProgram: "mixer stages reads output",
    PairRead: "name kind scores mask value channels",
    PairProgram: "mixer vectors reads output",
    Carry: "name rows cols next initial state transposed final start",
    Scan: "order carries exports kernel each reach inward",
    TileLeaf: "kind name rows cols range",
    Result: "name rows cols kind offset target",
    Output: "result value",
    TileProgram: "name form leaves scans outputs",
    Buffer: "name rows cols extent dtype owner",
    Store: "target value transposed summed",
    Loop: "scan stores final_stores",
    Kernel: "name formula loops stores roles in_segments",
    KernelPlan: "name form leaves results buffers kernels walks",
}
