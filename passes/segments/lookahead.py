"""Which part of a mixer looks ahead: such a mixer has no state from which a later segment could go on."""

from collections.abc import Iterator

from smir.ir.dependence import components
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.operator import BACKWARD, Obstacle
from smir.ir.pairs import SUM, PairProgram, PairRead
from smir.ir.sizes import TIME_NAME
from smir.passes.expressions.algebra import factors, is_zero
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.masks.index_formulas import breakpoints, resolve


def lookahead(spec: Mixer, equations: Mixer | None, pairs: PairProgram | None) -> Obstacle | None:
    """What reads later positions than its own, where it stands; None for a causal mixer.

    `equations` is the spec as step equations, `pairs` as reads over pairs of positions, where it has them.
    """
    dense = next((d for d in spec.declarations if any(TIME_NAME in dim.names for dim in d.dims)), None)
    if dense is not None:
        return Obstacle(
            f"{dense.kind} `{dense.name}` has an entry for every position of the whole sequence", dense.span
        )
    if equations is not None:
        found = next(_reads_ahead(equations), None)
        return _mask_ahead(spec) if found and spec.masked else found
    if pairs is None or not all(map(_is_causal, pairs.reads)):
        return _mask_ahead(spec)
    return None


def _reads_ahead(mixer: Mixer) -> Iterator[Obstacle]:
    """Inputs and states that step equations read at `[t+n]`, and states that run backward."""
    for component in components(mixer):
        if component.direction == BACKWARD:
            name = component.states[0]
            yield Obstacle(f"state `{name}` runs backward, from the sequence's end", mixer.state(name).span)
    for node in mixer.nodes():
        if node.op in ("input", "state") and node["offset"] > 0:
            yield Obstacle(f"`{node['name']}[t+{node['offset']}]` is read ahead of its time", mixer.span(node))


def _is_causal(read: PairRead) -> bool:
    """Whether a read gives no weight to later positions."""
    if read.mask is not None and not _reaches_ahead(read.mask):
        return True
    return read.kind == SUM and not _reaches_ahead(read.scores)


def _mask_ahead(spec: Mixer) -> Obstacle:
    """The index formula of a masked operator with entries above the diagonal, or a sum over all positions."""
    ahead = next((n for n in spec.nodes() if n.op == "pairwise" and _reaches_ahead(n.args[0])), None)
    if ahead is None:
        return Obstacle("every position reads all positions, later ones too", spec.span(spec.output))
    span = spec.span(ahead) or spec.span(spec.output)
    return Obstacle("the mask has entries above the diagonal, for later positions", span)


def _reaches_ahead(formula: Node) -> bool:
    """Whether an index formula has an entry that isn't zero at some j > i; undecided counts as one."""
    try:
        nearest = min(breakpoints(formula))
        return any(not is_zero(factors(resolve(formula, d))) for d in range(nearest - 1, 0))
    except BrokenLaw:
        return True
