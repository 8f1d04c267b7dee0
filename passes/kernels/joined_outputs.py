"""The parallel kernels after the last walk anew, each of which makes some results from what was there before them.

Kernels that are cut along an axis hand values on to each other: these cross through memory, and states are read again.
Results that one program can make from the start, without registers spilling, need none of that. Which of them share a
kernel is a matter of what they have in common: the division that reads and computes the least is taken. A backend
decides by the sizes of a call whether it takes such kernels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import combinations

from smir.ir.formula import formula
from smir.ir.graph import Node, substitute, walk
from smir.ir.kernel import OWN, PER_CHUNK, Kernel, KernelPlan, Store
from smir.ir.live import HELD_BY_FOUR_WARPS, peak_computed
from smir.ir.tile import BUFFER, LEVEL_OPS
from smir.passes.analysis.tile_cost import elements, total_flops
from smir.passes.kernels.axis_roles import assign_roles
from smir.passes.kernels.crossing import ELEMENT_BYTES, OPERATIONS_PER_BYTE, size

NAME = "results"
# With more results there are too many divisions to look at.
MOST_RESULTS = 7
Group = tuple[Store, ...]


@lru_cache(maxsize=64)
def with_joined_outputs(plan: KernelPlan) -> KernelPlan:
    """The plan with such kernels after the last walk, no more of them than before; the plan itself where some result
    doesn't fit alone, and where there is nothing to join."""
    first = max((i + 1 for i, k in enumerate(plan.kernels) if k.loops), default=len(plan.kernels))
    tail = plan.kernels[first:]
    if len(tail) < 2 or not _can_join(plan, tail):
        return plan
    made, results = _written(plan, tail)
    groups = _divided(results)
    if not 0 < len(groups) <= len(tail):
        return plan
    kernels = (_kernel(f"{NAME}_{i}" if i else NAME, group) for i, group in enumerate(groups))
    buffers = tuple(b for b in plan.buffers if b.name not in made)
    return replace(plan, buffers=buffers, kernels=(*plan.kernels[:first], *kernels))


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


def _kernel(name: str, group: Group) -> Kernel:
    return assign_roles(Kernel(name, "; ".join(f"{s.target} = {formula(s.value)}" for s in group), (), group))


# ---- which results share a kernel -------------------------------------------------------------------------------


def _divided(results: list[Store]) -> tuple[Group, ...]:
    """The results in kernels that fit, each in the order in which it writes them; nothing if some result never does."""
    known: dict[tuple[Store, ...], Group | None] = {}

    def fitting(group: Group) -> Group | None:
        if group not in known:
            parts = combinations(group, len(group) - 1) if len(group) > 1 else ()
            found = _ordered(group) if all(fitting(part) for part in parts) else ()
            known[group] = found if found and _computed(*found) <= HELD_BY_FOUR_WARPS else None
        return known[group]

    def divisions(rest: Group) -> Iterator[tuple[Group, ...]]:
        if not rest:
            yield ()
        for count in range(len(rest)):
            for more in combinations(rest[1:], count):
                if (group := fitting((rest[0], *more))) is not None:
                    others = tuple(s for s in rest[1:] if s not in more)
                    yield from ((group, *d) for d in divisions(others))

    return min(divisions(tuple(results)), key=lambda d: sum(map(_cost, d)), default=())


def _ordered(stores: Iterable[Store]) -> Group:
    """One by one the store that is best written next: little is alive at once."""
    done: Group = ()
    rest = list(stores)
    while rest:
        peaks = [_computed(*done, s, *(o for o in rest if o is not s)) for s in rest]
        done = (*done, rest.pop(peaks.index(min(peaks))))
    return done


def _computed(*stores: Store) -> int:
    return peak_computed((s.value for s in stores), lambda n: int(elements(n, size)))


def _cost(group: Group) -> float:
    """The bytes that a kernel reads, and those that its operations are worth."""
    nodes = list(walk(s.value for s in group))
    read = sum(elements(n, size) for n in nodes if n.op == "load") * ELEMENT_BYTES
    return float(read + sum(total_flops(n, size) for n in nodes if n.args) / OPERATIONS_PER_BYTE)


def _is_buffer(node: Node) -> bool:
    return node.op == "load" and node["kind"] == BUFFER
