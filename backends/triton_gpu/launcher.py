"""Prints `launch.py`: sizes, buffers, options and the kernel launches of a plan, on torch and triton alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from smir.backends.triton_gpu.emit_kernel import PrintedKernel
from smir.backends.triton_gpu.facts import Facts, block_name, size_name
from smir.backends.triton_gpu.frame import tensor_axes
from smir.backends.triton_gpu.names import comment, identifier
from smir.backends.triton_gpu.options import Options, default_options, smallest_blocks
from smir.backends.triton_gpu.packed import PACKED_TABLE
from smir.backends.triton_gpu.past import count_of_splits, divides_past, has_past
from smir.backends.triton_gpu.segments import DEFAULT_SEGMENTS, SEGMENTS, has_segments
from smir.backends.triton_gpu.spans import SPAN, has_spans
from smir.backends.triton_gpu.symbols import (
    BUFFER,
    FINAL,
    INITIAL,
    INPUT,
    OUTPUT,
    final_stores,
    given_buffers,
    is_forward,
    saved_buffers,
    state_carries,
    symbols,
    tensors,
)
from smir.errors import IRError
from smir.ir.dims import Dim
from smir.ir.kernel import (
    FLOAT32,
    FULL,
    GIVEN,
    GRID,
    PER_CHUNK,
    PER_PAIR,
    PER_SEGMENT,
    PER_SEQUENCE,
    PER_SPLIT,
    PRODUCT,
    WIDE,
    Buffer,
    Kernel,
    KernelPlan,
)
from smir.ir.summands import all_stores
from smir.ir.tile import CHUNK, DENSE, ONE, PARAM, PAST, SIZELESS, TOKEN, axis_parts
from smir.ir.tile_program import OUTPUT as Y
from smir.ir.tile_program import STEP, Result, TileLeaf


@dataclass
class Sizes:
    """Python expressions for the sizes of tile axes, read off the tensors' shapes."""

    plan: KernelPlan
    direct: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for leaf in tensors(self.plan):
            first = 3 if leaf.kind in (TOKEN, PAST) else 1
            for i, axis in enumerate(tensor_axes(leaf.rows, leaf.cols, leaf.kind)):
                if axis not in SIZELESS:
                    self.direct.setdefault(axis, f"{symbols(self.plan)[INPUT, leaf.name]}.shape[{first + i}]")
        for axis, text in list(self.direct.items()):
            name, factor = _only_name(axis)
            if name is not None and name not in self.direct:
                self.direct[name] = f"{text} * {factor.denominator} // {factor.numerator}"

    def __getitem__(self, axis: str) -> str:
        """Raises IRError for an axis that no tensor shows."""
        if axis in self.direct:
            return self.direct[axis]
        terms = []
        for names, factor in Dim.parse(axis).terms:
            if any(n not in self.direct for n in names):
                raise IRError(f"no input or parameter tells the size of dimension {axis}")
            product = " * ".join([str(factor.numerator), *(f"({self.direct[n]})" for n in names)])
            terms.append(product + (f" // {factor.denominator}" if factor.denominator != 1 else ""))
        return " + ".join(terms)


def _only_name(axis: str) -> tuple[str | None, Fraction]:
    """The name and factor of a dimension such as `K/2`."""
    terms = Dim.parse(axis).terms
    if len(terms) == 1 and len(terms[0][0]) == 1:
        return terms[0][0][0], terms[0][1]
    return None, Fraction(1)


def print_launcher(plan: KernelPlan, kernels: Iterable[PrintedKernel], facts: Facts) -> str:
    """The source of `launch.py`."""
    sizes, printed = Sizes(plan), tuple(kernels)
    axes = sorted({axis for k in plan.kernels for axis, _ in k.roles} - SIZELESS)
    parts = [
        _head(plan, printed),
        f"OPTIONS = {_options(default_options(plan))}",
        _TOOLS,
        _signature(plan, facts),
        *(f"    {size_name(a)} = {sizes[a]}" for a in axes),
        *_exact_checks(axes, facts),
        "    parts = 0 if INTERPRETED else 2 if product == torch.bfloat16 else 3",
        *(f"    {line}" for line in _allocations(plan, facts)),
        *(f"    {line}" for k, p in zip(plan.kernels, printed, strict=True) for line in _call(plan, k, p, facts)),
        _return(plan, facts),
    ]
    return "\n".join(parts) + "\n"


def state_shapes(plan: KernelPlan) -> dict[str, tuple[str, ...]]:
    """The dimension axes of every final state that the kernels write, as declared."""
    shapes = {}
    for name, store in final_stores(plan).items():
        rows, cols = store.value.type.rows, store.value.type.cols
        shapes[name] = _without_units(cols, rows) if store.transposed else _without_units(rows, cols)
    return shapes


def result_axes(result: Result) -> tuple[str, ...]:
    """The dimension axes of a result's tensor."""
    if result.kind == DENSE:
        return ()
    if result.rows == CHUNK or (result.kind == PARAM and result.rows == ONE):
        return () if result.cols == ONE else axis_parts(result.cols)
    return _without_units(result.rows, result.cols)


def _without_units(rows: str, cols: str) -> tuple[str, ...]:
    if len(axis_parts(cols)) > 1:
        return axis_parts(cols)
    return (rows, cols) if cols != ONE else (rows,) if rows != ONE else ()


def needs_levels(printed: Iterable[PrintedKernel]) -> bool:
    """Whether some kernel reads the constant matrices of a chunk's levels."""
    return any(a.value.startswith("level_weights(") for k in printed for a in k.arguments)


# ---- pieces -----------------------------------------------------------------------------------------------------


def _head(plan: KernelPlan, printed: tuple[PrintedKernel, ...]) -> str:
    helpers = ["level_weights"] if needs_levels(printed) else []
    imports = "\n".join(f"from .{name} import {name}" for name in (*(k.name for k in printed), *helpers))
    return _HEAD.format(name=comment(plan.name), form=comment(plan.form), imports=imports)


_HEAD = '''# {name}, {form} form: allocates what the kernels need and launches them in order.

import os

import torch
import triton.language as tl

{imports}

TYPES = {{torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}}
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
# How products of float32 tiles are computed: tf32x3 is as accurate as float32 on tensor cores.
PRECISION = "ieee" if torch.version.hip else "tf32x3"
# How the inverses of triangular float32 tiles are computed for bfloat16 inputs, which have fewer digits.
SHORT_INVERSE = "ieee" if torch.version.hip else "tf32"'''

_TOOLS = '''

def padded(size, smallest=16):
    """The block that holds a whole axis."""
    return max(smallest, 1 << (size - 1).bit_length())


def ceil_div(size, block):
    """How many blocks cover a size."""
    return -(-size // block)


def common_type(*inputs):
    """The inputs' only 16-bit type, else float32."""
    short = {x.dtype for x in inputs if x.dtype in (torch.bfloat16, torch.float16)}
    return short.pop() if len(short) == 1 else torch.float32

'''


def _options(options: Options) -> str:
    rows = "".join(f'    "{identifier(k)}": {{{_items(v)}}},\n' for k, v in options.items())
    return "{\n" + rows + "}"


def _items(values: Mapping[str, int]) -> str:
    return ", ".join(f'"{k}": {v}' for k, v in values.items())


def _return(plan: KernelPlan, facts: Facts) -> str:
    called = symbols(plan)
    states = ", ".join(f'"{identifier(n)}": {called[FINAL, n]}' for n in final_stores(plan))
    if is_forward(plan):
        return f"    return {called[OUTPUT, Y]}, {{{states}}}"
    found: dict[str, list[str]] = {}
    for r in plan.results:
        total = f"{called[OUTPUT, r.name]}.sum((0, 2)).reshape({', '.join(['heads', *map(_extent, result_axes(r))])})"
        total = f"{called[OUTPUT, r.name]}.sum(0)" if r.kind == DENSE else total
        whole = f"{called[OUTPUT, r.name]}.sum(3)" if _blocks(plan, r) else called[OUTPUT, r.name]
        if (like := _grouped(r, facts)) is not None:
            whole = f"{whole}.unflatten(2, ({called[INPUT, like]}.shape[2], -1)).sum(3)"
        found.setdefault(r.tensor, []).append(whole if r.kind == TOKEN else total)
    found |= {b.name: [called[BUFFER, b.name]] for b in saved_buffers(plan)}
    results = ", ".join(f'"{identifier(name)}": {" + ".join(parts)}' for name, parts in found.items())
    return f"    return {{{results}}}, {{{states}}}"


def _grouped(r: Result, facts: Facts) -> str | None:
    """The input with fewer heads of which a result is the gradient, still one for every head."""
    like = r.tensor.removeprefix("d_")
    return like if r.kind == TOKEN and r.tensor != like and like in facts.grouped else None


def _signature(plan: KernelPlan, facts: Facts) -> str:
    called, leaves = symbols(plan), tensors(plan)
    states = [called[BUFFER, b.name] for b in given_buffers(plan)]
    states += [f"{called[INITIAL, n]}=None" for n in state_carries(plan)]
    # where a decoder's states lie, it wants them written
    states += [f"{called[FINAL, n]}=None" for n in final_stores(plan) if plan.form == STEP]
    chunk = "" if plan.form == STEP else "chunk=64, "
    chunk += "past_chunk=64, position=None, filled=None, " if has_past(plan) else ""
    spans = has_spans(plan) and not facts.packed
    chunk += f"{SPAN}=1, " if spans else ""
    chunk += f"{SEGMENTS}={DEFAULT_SEGMENTS}, " if has_segments(plan) else ""
    table = [*PACKED_TABLE] if facts.packed else []
    given = ", ".join([*(called[INPUT, leaf.name] for leaf in leaves), "*", *table, *states])
    tokens = [called[INPUT, leaf.name] for leaf in leaves if leaf.kind == TOKEN]
    most = next(called[INPUT, x.name] for x in leaves if x.kind == TOKEN and x.name not in facts.grouped)
    shapes = "\n".join(f"    {_shape(leaf, called[INPUT, leaf.name])}" for leaf in leaves)
    rows = "N" if facts.packed else "B"
    finals = ", ".join(f"{n} [{', '.join([rows, 'H', *axes])}]" for n, axes in state_shapes(plan).items())
    results = ", ".join(f"{r.tensor} [{', '.join([*_LEADING[r.kind], *result_axes(r)])}]" for r in plan.results)
    results = results if is_forward(plan) else f"{{{results}}}"
    unit = "    chunk = 1\n" if plan.form == STEP else ""
    before = next((f"    past = {called[INPUT, x.name]}.shape[1]\n" for x in leaves if x.kind == PAST), "")
    before += count_of_splits(plan)
    return f'''def launch({given}, {chunk}options=OPTIONS, dtype=None, precision=PRECISION):
    """Returns ({results}, final states {{{finals}}} in float32).

{shapes}
    """
{unit}{before}    batch, time, heads = {most}.shape[:3]
{_PACKED_SIZES if facts.packed else _SPANS if spans else "    chunks = ceil_div(time, chunk)"}
    dtype = dtype or common_type({", ".join(tokens)})
    product = {"torch.float32" if facts.tiny else "dtype"}'''


# Memory and programs for the most chunks that there can be.
_PACKED_SIZES = """    sequences, chunks = cu_seqlens.shape[0] - 1, sequence_of.shape[0]
    all_chunks = chunks"""


# Of kernels that take several chunks at once: a whole number of times.
_SPANS = "    chunks = ceil_div(time, chunk * span) * span"


_LEADING = {TOKEN: ("B", "T", "H"), PAST: ("B", "n", "H"), PARAM: ("H",), DENSE: ("H", "T", "T")}


def _shape(leaf: TileLeaf, name: str) -> str:
    return comment(f"{name} [{', '.join([*_LEADING[leaf.kind], *tensor_axes(leaf.rows, leaf.cols, leaf.kind)])}]")


def _exact_checks(axes: list[str], facts: Facts) -> list[str]:
    exact = [a for a in axes if a in facts.exact]
    if not exact:
        return []
    test = " or ".join(f"{size_name(a)} != padded({size_name(a)})" for a in exact)
    names = comment(", ".join(exact))
    return [f"    if {test}:", f'        raise ValueError("these kernels need powers of two from 16 on: {names}")']


def _allocations(plan: KernelPlan, facts: Facts) -> list[str]:
    called = symbols(plan)
    device = f"device={called[INPUT, tensors(plan)[0].name]}.device"
    rows, lines = "sequences" if facts.packed else "batch", []
    for state, carry in state_carries(plan).items():
        tile = (carry.cols, carry.rows) if carry.transposed else (carry.rows, carry.cols)
        shape, name = ", ".join([rows, "heads", *map(_extent, tile)]), called[INITIAL, state]
        lines += [f"if {name} is not None:", f"    {name} = {name}.reshape({shape}).contiguous()"]
    for b in (b for b in plan.buffers if b.owner != GIVEN):
        kind = f"dtype={_TYPES[b.dtype]}, {device}"
        lines.append(f"{called[BUFFER, b.name]} = torch.empty({_buffer_shape(b, rows)}, {kind})")
    for state, axes in state_shapes(plan).items():
        shape = ", ".join([rows, "heads", *map(_extent, axes)])
        made = f"{called[FINAL, state]} = torch.empty({shape}, dtype=torch.float32, {device})"
        lines += [f"if {called[FINAL, state]} is None:", f"    {made}"] if plan.form == STEP else [made]
    return [*lines, *(f"{called[OUTPUT, r.name]} = {_result_memory(plan, r, facts)}, {device})" for r in plan.results)]


def _result_memory(plan: KernelPlan, r: Result, facts: Facts) -> str:
    """The start of a result's allocation. A gradient has its input's type; what a shift doesn't reach stays zero."""
    if r.kind == DENSE:
        return "torch.zeros(batch, heads, time, time, dtype=torch.float32"
    if r.kind == PARAM:
        summands = SEGMENTS if r.name in plan.segment_totals else "1" if r.name in plan.totals else "chunks"
        summands = " * ".join([summands, *_blocks(plan, r)])
        rows, make = "batch", "empty"
        if facts.packed:
            # nobody writes the summands of chunks that don't exist
            rows, make = ("sequences", "empty") if r.name in plan.totals else ("batch", "zeros")
        return f"torch.{make}({rows}, heads, {summands}, {_extent(r.rows)}, {_extent(r.cols)}, dtype=torch.float32"
    like = r.tensor.removeprefix("d_")
    known = r.tensor != Y and any(leaf.name == like for leaf in tensors(plan))
    kind = f"{symbols(plan)[INPUT, like]}.dtype" if known else "dtype" if r.tensor == Y else "torch.float32"
    summand = sum(other.tensor == r.tensor for other in plan.results) > 1
    kind = "torch.float32" if summand or _blocks(plan, r) or _grouped(r, facts) else kind
    make = "zeros" if r.offset else "empty"
    shape = ["batch", "time", "heads", *_blocks(plan, r), *map(_extent, result_axes(r))]
    return f"torch.{make}({', '.join(shape)}, dtype={kind}"


def _blocks(plan: KernelPlan, r: Result) -> list[str]:
    """Into how many summands of blocks a result is cut, if it is."""
    for kernel in plan.kernels:
        for store in all_stores(kernel):
            if store.target == r.name and store.summed is not None:
                axis = store.summed
                chosen = f'options["{identifier(kernel.name)}"]["{block_name(axis)}"]'
                return [f"ceil_div({size_name(axis)}, min({chosen}, {_whole(axis, smallest_blocks(kernel))}))"]
    return []


def _whole(axis: str, smallest: Mapping[str, int]) -> str:
    """The block that holds a whole axis."""
    return f"padded({size_name(axis)}, {smallest[axis]})" if axis in smallest else f"padded({size_name(axis)})"


def _extent(axis: str) -> str:
    return {CHUNK: "chunk", ONE: "1"}.get(axis) or " * ".join(map(size_name, axis_parts(axis)))


def _buffer_shape(b: Buffer, sequences: str) -> str:
    if b.extent == PER_PAIR:
        return f"batch, heads, chunks, chunks, {_extent(b.rows)}, {_extent(b.cols)}"
    if b.extent in (PER_CHUNK, PER_SPLIT):
        splits = "splits, " if b.extent == PER_SPLIT else ""
        return f"batch, heads, chunks, {splits}{_extent(b.rows)}, {_extent(b.cols)}"
    if b.extent in (PER_SEQUENCE, PER_SEGMENT):
        parts = f", {SEGMENTS}" if b.extent == PER_SEGMENT else ""
        return f"{sequences}, heads{parts}, {_extent(b.rows)}, {_extent(b.cols)}"
    rows = "1" if b.rows == CHUNK else _extent(b.rows)
    return f"batch, time, heads, {rows}, {_extent(b.cols)}"


# The types of buffers. What is wide, is it where nothing has lost more to 16 bits before.
_WIDE = "float64 if dtype == torch.float32 else {library}.float32"
_TYPES = {FLOAT32: "torch.float32", PRODUCT: "product", WIDE: f"torch.{_WIDE.format(library='torch')}"}

_CONSTANTS = {
    "CHUNK": "chunk",
    "PAST_CHUNK": "past_chunk",
    "RAGGED": "time % chunk != 0",
    "LEVELS": "chunk.bit_length() - 1",
    "PRODUCT": "TYPES[product]",
    "WIDE": f"tl.{_WIDE.format(library='tl')}",
    "PRECISION": "precision",
    "INVERSE_PRECISION": "SHORT_INVERSE if product == torch.bfloat16 else precision",
    "PARTS": "parts",
}


def _call(plan: KernelPlan, kernel: Kernel, printed: PrintedKernel, facts: Facts) -> list[str]:
    """The launch of one kernel: blocks of grid axes first, one flat grid (its x axis has no small limit)."""
    values, option = dict(_CONSTANTS), f'options["{printed.name}"]'
    # a packed sequence may end anywhere
    values |= {"RAGGED": "True"} if facts.packed else {}
    lines, smallest = [f"chosen = dict({option})"], smallest_blocks(kernel)
    for axis, role in kernel.roles:
        block, size = block_name(axis), size_name(axis)
        whole = _whole(axis, smallest)
        values |= {size: size, block: whole if role == FULL else f'chosen["{block}"]'}
        if role == GRID:
            lines.append(f'chosen["{block}"] = min(chosen["{block}"], {whole})')
    blocks = [f'ceil_div({size_name(a)}, chosen["{block_name(a)}"])' for a, role in kernel.roles if role == GRID]
    rows = "sequences" if facts.packed and printed.sequential else "batch"
    splits = ["splits"] if divides_past(plan, kernel) else [SEGMENTS] if kernel.in_segments else []
    chunks = "chunks"
    if "OWN" in printed.constants:
        values["OWN"], chunks = 'chosen["OWN"]', '(chunks * chunk // chosen["OWN"])'
        lines.append('chosen.setdefault("OWN", chunk * span)')
    programs = " * ".join([rows, "heads", *([] if printed.sequential else [chunks]), *splits, *blocks])
    constants = [c for c in printed.constants if f'chosen["{c}"]' != values[c]]
    lines.append(f"{printed.name}[({programs},)](")
    lines += [f"    {a.name}={a.value}," for a in printed.arguments]
    lines += [f"    {c}={values[c]}," for c in constants]
    return [*lines, "    **chosen,", ")"]
