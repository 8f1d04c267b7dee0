"""The parallel kernels after the last walk as one: what they hand on to each other is made where it is needed.

Several kernels for the results of a chunk read its states and tokens several times, and what one of them makes for
another crosses through memory. One kernel reads everything once, if registers hold what it computes: a backend decides
that by the sizes of a call.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from smir.ir.formula import formula
from smir.ir.graph import Node, substitute, walk
from smir.ir.kernel import OWN, PER_CHUNK, Kernel, KernelPlan, Store
from smir.ir.live import peak_computed
from smir.ir.tile import BUFFER, LEVEL_OPS
from smir.passes.analysis.tile_cost import elements
from smir.passes.kernels.axis_roles import assign_roles
from smir.passes.kernels.crossing import size

NAME = "results"
# With more results, or with a loop over levels inside, registers never hold a whole chunk's.
MOST_RESULTS = 8


@lru_cache(maxsize=64)
def with_joined_outputs(plan: KernelPlan) -> KernelPlan:
    """The plan with one kernel after the last walk; the plan itself where there is nothing to join.

    Results are written in an order in which little is alive at once of what is computed.
    """
    first = max((i + 1 for i, k in enumerate(plan.kernels) if k.loops), default=len(plan.kernels))
    tail = plan.kernels[first:]
    if len(tail) < 2 or not _can_join(plan, tail):
        return plan
    made, results = _written(plan, tail)
    stores = _ordered(results)
    text = "; ".join(f"{s.target} = {formula(s.value)}" for s in stores)
    kernel = assign_roles(Kernel(NAME, text, (), stores))
    buffers = tuple(b for b in plan.buffers if b.name not in made)
    return replace(plan, buffers=buffers, kernels=(*plan.kernels[:first], kernel))


def _can_join(plan: KernelPlan, tail: tuple[Kernel, ...]) -> bool:
    stores = [s for k in tail for s in k.stores]
    crossing = {b.name for b in plan.buffers if b.owner == OWN and b.extent == PER_CHUNK}
    results = {r.name for r in plan.results}
    plain = all(s.target in crossing | results and s.summed is None and not s.transposed for s in stores)
    few = sum(s.target in results for s in stores) <= MOST_RESULTS
    return plain and few and not any(n.op in LEVEL_OPS for n in walk(s.value for s in stores))


def _written(plan: KernelPlan, tail: tuple[Kernel, ...]) -> tuple[dict[str, Node], list[Store]]:
    """By its buffer what the kernels hand on to each other, and the stores of results, made of what is there before."""
    crossing = {b.name for b in plan.buffers if b.owner == OWN}
    made: dict[str, Node] = {}
    results: list[Store] = []
    for store in (s for k in tail for s in k.stores):
        inside = {n: made[n["name"]] for n in walk([store.value]) if _is_buffer(n) and n["name"] in made}
        value = substitute(store.value, inside)
        if store.target in crossing:
            made[store.target] = value
        else:
            results.append(replace(store, value=value))
    return made, results


def _ordered(stores: Iterable[Store]) -> tuple[Store, ...]:
    """One by one the store that is best written next."""
    done: tuple[Store, ...] = ()
    rest = list(stores)
    while rest:
        peaks = [_computed(*done, s, *(o for o in rest if o is not s)) for s in rest]
        done = (*done, rest.pop(peaks.index(min(peaks))))
    return done


def _computed(*stores: Store) -> int:
    return peak_computed((s.value for s in stores), lambda n: int(elements(n, size)))


def _is_buffer(node: Node) -> bool:
    return node.op == "load" and node["kind"] == BUFFER
