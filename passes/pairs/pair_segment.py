"""Segments of masked operators: which inputs a caller keeps of the tokens before one, how many, and the tile program.

Keys and values stay as they came in: what a formula makes of them (a rotation by the position, an exponential) is made
again for every segment.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from smir.errors import FormError
from smir.ir.graph import Node, walk
from smir.ir.kernel import KernelPlan
from smir.ir.pairs import PairProgram
from smir.ir.segment import past_of
from smir.ir.tile import PAST
from smir.ir.tile_program import BEFORE, TileProgram
from smir.passes.analysis.stops import unmarked
from smir.passes.kernels.partition_pairs import pair_plan
from smir.passes.masks.index_formulas import affine
from smir.passes.pairs.lower_pairs import lower_pairs, lower_split
from smir.passes.pairs.pair_cache import PairCache
from smir.passes.pairs.pair_delays import delays_as_inputs, delays_of

_COMPARISONS = frozenset({"le", "lt", "eq", "ne"})


@dataclass(frozen=True)
class PairSegment:
    """The kernels of a segment after others, and what they need of the tokens before it."""

    plan: KernelPlan
    cache: PairCache


def pair_segment(program: PairProgram) -> PairSegment:
    """Raises what `lower_segment` raises."""
    made = lower_segment(program)
    cache = pair_cache(program, made)
    if cache.needs_position and not cache.inputs:
        raise FormError(f"{program.mixer.name} depends on the numbers of positions and looks back at none",
                        program.mixer.span(program.mixer.output), "give the position as an input")  # fmt: skip
    return PairSegment(pair_plan(unmarked(made)), cache)


def divided_segment(program: PairProgram) -> KernelPlan | None:
    """The kernels of a segment after a long past, which several programs share; None for sums between two positions,
    which go through the past in order. Raises what `lower_segment` raises."""
    widened = delays_as_inputs(program)
    if any(n.op == "sum_range" for read in widened.reads for n in walk(read.formulas())):
        return None
    return pair_plan(unmarked(lower_split(widened)))


def lower_segment(program: PairProgram) -> TileProgram:
    """The quadratic form of a segment of a masked operator that doesn't look ahead: its loads of kind PAST are the
    tokens before it, its inputs also the delayed ones (`delays_as_inputs`). Raises FormError for formulas that no tile
    expresses."""
    made = lower_pairs(delays_as_inputs(program), past=True)
    # nothing is kept for a backward pass
    return replace(made, scans=tuple(replace(s, exports=()) for s in made.scans))


def pair_cache(program: PairProgram, segment: TileProgram) -> PairCache:
    """What a segment of this program needs, as `lower_segment` gave it."""
    past = {leaf.name for leaf in segment.leaves if leaf.kind == PAST}
    delays, program = delays_of(program), delays_as_inputs(program)
    inputs = tuple(d.name for d in program.mixer.inputs if past_of(d.name) in past)
    reaches = [s.reach for s in segment.scans if s.order == BEFORE]
    delayed = [max(delays.get(name, (0,))) for name in inputs]
    tokens = None if None in reaches else max((*(r for r in reaches if r is not None), *delayed), default=0)
    return PairCache(inputs, tokens, _is_absolute(program), tuple(delays.items()))


# ---- positions --------------------------------------------------------------------------------------------------


def _is_absolute(program: PairProgram) -> bool:
    """Whether moving all positions by the same number could change a weight or a column."""
    formulas = [f for read in program.reads for f in read.formulas()]
    columns = [c for read in program.reads for c in read.columns()]
    steps = (*columns, *(c for _, c in program.vectors), program.output)
    return any(n.op == "position" for n in walk(steps)) or any(_moves(f) for f in formulas)


def _moves(f: Node) -> bool:
    """Whether an index formula changes when i and j grow by the same number."""
    if not any(n.op == "position" for n in walk([f])):
        return False
    if f.op == "sum_range":
        # from one position to the other: it moves with them
        return any(n.op == "position" for n in walk([f.args[2]]))
    if any(not sum(slopes) for slopes in _slopes(f)):
        return False
    return f.op == "position" or any(_moves(a) for a in f.args)


def _slopes(f: Node) -> Iterator[tuple[float, ...]]:
    """How much a formula grows with each position, where that is a number; of a comparison, its two sides' distance."""
    if f.op in _COMPARISONS:
        first, second = (affine(a) for a in f.args)
        gap = first.plus(second, -1.0) if first and second else None
    else:
        gap = affine(f)
    if gap is not None:
        yield tuple(dict(gap.slopes).values())
