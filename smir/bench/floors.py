"""The least that a problem takes: inputs read once, results written once, and the operations of the cheapest form."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from smir.calls.form_costs import form_costs, training_costs
from smir.compilation import Compilation
from smir.ir.mixer import INPUT, Declaration
from smir.tuning.arguments import Shape

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
FORWARD, BOTH, DECODE = "forward", "training", "decode"
STATE_BYTES = 4


@dataclass(frozen=True)
class Floor:
    """Bytes that cross memory at least once, and floating point operations."""

    bytes: float
    flops: float

    def seconds(self, bytes_per_second: float, flops_per_second: float) -> float:
        """The time that a device with these rates can't undercut."""
        return max(self.bytes / bytes_per_second, self.flops / flops_per_second)


def floor(done: Compilation, shape: Shape, dtypes: Mapping[str, str], what: str) -> Floor:
    """Of a forward pass, of training (arguments are read twice, their gradients written), or of one new token (the
    state is read and written).

    Operations are those of the form with the fewest, by its cost, at the chunks that GPUs use.
    """
    if what == DECODE:
        shape = Shape(shape.batch, 1, shape.heads, shape.sizes)
    arguments = sum(_size(d, shape) * BYTES[dtypes[d.name]] for d in done.spec.declarations)
    output = _output(done, shape) * BYTES[next(iter(dtypes.values()))]
    flops = _flops(done, shape, what)
    if what == BOTH:
        return Floor(3 * arguments + 2 * output, flops)
    states = sum(prod(d.size(shape.sizes) for d in s.dims) for s in done.spec.states)
    moved = 2 * STATE_BYTES * states * shape.batch * shape.most_heads if what == DECODE else 0
    return Floor(arguments + output + moved, flops)


def _size(d: Declaration, shape: Shape) -> int:
    sizes = {**shape.sizes, "T": shape.tokens}
    lead = shape.batch * shape.tokens * shape.heads[d.name] if d.kind == INPUT else shape.most_heads
    return lead * prod(dim.size(sizes) for dim in d.dims)


def _output(done: Compilation, shape: Shape) -> int:
    sizes = {**shape.sizes, "T": shape.tokens}
    return shape.batch * shape.tokens * shape.most_heads * prod(d.size(sizes) for d in done.spec.output_dims)


def _flops(done: Compilation, shape: Shape, what: str) -> float:
    from smir.passes.analysis.cost import C, T, dimension
    from smir.passes.analysis.select_form import GPU

    names = frozenset(d.name for d in done.spec.declarations)
    costs = training_costs(done, names) if what == BOTH else form_costs(done)
    sizes, sequences = {dimension(n): s for n, s in shape.sizes.items()}, shape.batch * shape.most_heads

    def of_form(form: str) -> float:
        values = {T: shape.tokens, C: min(GPU.chunk_of(form, shape.tokens), shape.tokens), **sizes}
        return sequences * float(costs[form].flops.subs(values))

    return min(map(of_form, costs), default=0.0)
