"""Which states need each other, and in which order and direction they are computed."""

from dataclasses import dataclass

import networkx as nx

from smir.errors import SpecCycleError
from smir.ir.graph import Node, walk
from smir.ir.mixer import Mixer, State
from smir.ir.operator import BACKWARD, FORWARD


@dataclass(frozen=True)
class Component:
    """States that need each other, in the order in which a time step computes them, and the way time runs for them."""

    states: tuple[str, ...]
    direction: str


def state_reads(root: Node) -> list[Node]:
    """The `state` leaves below a node."""
    return [n for n in walk([root]) if n.op == "state"]


def components(mixer: Mixer) -> tuple[Component, ...]:
    """The strongly connected components of the states' dependence graph, each after those that it reads.

    A component that reads itself at `[t-n]` runs forward, at `[t+n]` backward. One that never reads itself is a
    plain per-step value: it runs backward only when all delayed reads of it, anywhere, look ahead.
    Raises SpecCycleError when states need both directions, or each other at the same step.
    """
    graph = nx.DiGraph()
    order = {s.name: n for n, s in enumerate(mixer.states)}
    graph.add_nodes_from(order)
    graph.add_edges_from((read["name"], s.name) for s in mixer.states for read in state_reads(s.update))
    condensed = nx.condensation(graph)
    first = {c: min(order[s] for s in condensed.nodes[c]["members"]) for c in condensed}
    groups = (condensed.nodes[c]["members"] for c in nx.lexicographical_topological_sort(condensed, key=first.get))
    return tuple(_component(mixer, [s for s in mixer.states if s.name in group]) for group in groups)


def _component(mixer: Mixer, states: list[State]) -> Component:
    names = {s.name for s in states}
    inner = [(s, read) for s in states for read in state_reads(s.update) if read["name"] in names]
    ahead = next((read for _, read in inner if read["offset"] > 0), None)
    behind = next((read for _, read in inner if read["offset"] < 0), None)
    if ahead is not None and behind is not None:
        raise SpecCycleError(
            f"{_list(states)} would have to run forward and backward at once: "
            f"`{_read(behind)}` needs the past and `{_read(ahead)}` the future",
            mixer.span(ahead) or states[0].span,
            "write one state for each direction and combine them in y[t]",
        )
    direction = BACKWARD if ahead is not None or (behind is None and _only_ahead(mixer, names)) else FORWARD
    return Component(_step_order(mixer, states, inner), direction)


def _only_ahead(mixer: Mixer, names: set[str]) -> bool:
    offsets = {n["offset"] for n in mixer.nodes() if n.op == "state" and n["name"] in names} - {0}
    return bool(offsets) and min(offsets) > 0


def _step_order(mixer: Mixer, states: list[State], inner: list[tuple[State, Node]]) -> tuple[str, ...]:
    now = nx.DiGraph()
    order = {s.name: n for n, s in enumerate(states)}
    now.add_nodes_from(order)
    now.add_edges_from((read["name"], s.name) for s, read in inner if read["offset"] == 0)
    try:
        return tuple(nx.lexicographical_topological_sort(now, key=order.get))
    except nx.NetworkXUnfeasible:
        read = next(read for _, read in inner if read["offset"] == 0)
        raise SpecCycleError(
            f"{_list(states)}: the value at step t is defined by itself",
            mixer.span(read) or states[0].span,
            f"an update may read the previous step, `{read['name']}[t-1]`",
        ) from None


def _read(node: Node) -> str:
    return f"{node['name']}[t{node['offset']:+d}]"


def _list(states: list[State]) -> str:
    names = " and ".join(f"`{s.name}`" for s in states)
    return f"state {names}" if len(states) == 1 else f"states {names}"
