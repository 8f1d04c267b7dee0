"""Sums over levels read off joint products: each is weighted once, and both its halves are used at once.

A mixed tile has a query's row in odd blocks and a key's in even ones, each times e^(distance). The gradient of its rows
is one product, times the same weights: its odd rows are the queries' gradients, its even ones the keys', and times the
mixed tile itself it is the gradient of the distances.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smir.backends.triton_gpu.joint_products import GridRow, JointProduct
from smir.backends.triton_gpu.precise import plain
from smir.ir.graph import Node, reaches


@dataclass(frozen=True)
class Mixed:
    """What a joint product is made of: rows of odd blocks, rows of even ones, and the weights of both."""

    odd: Node
    even: Node
    weights: Node


@dataclass(frozen=True)
class Share:
    """A weighted joint product's part of a sum: its rows in odd and in even blocks, each times at most one factor.

    None: not those rows; no factor: the rows themselves.
    """

    pair: JointProduct | GridRow
    odd: tuple[Node, ...] | None = None
    even: tuple[Node, ...] | None = None


Shares = tuple[Share, ...]


def mixed_of(pair: JointProduct | GridRow) -> Mixed | None:
    """None where the two halves have no common weights."""
    if isinstance(pair, GridRow):
        return mixed_of(pair.own)
    for odd, weights in weighted(pair.in_even_rows.args[1]):
        for even, others in weighted(pair.in_odd_rows.args[1]):
            if weights is others:
                return Mixed(odd, even, weights)
    return None


def weighted(node: Node) -> list[tuple[Node, Node]]:
    """The ways to read a tile as rows times e^(pair distance), whether or not it keeps its digits."""
    node = plain(node)
    if node.op != "mul":
        return []
    a, b = node.args
    return [(x, w) for x, w in ((a, b), (b, a)) if distance_of(w) is not None and x.type == node.type]


def distance_of(weights: Node) -> tuple[Node, bool] | None:
    """What e^(pair distance) adds up, and in which direction; None for anything else."""
    if weights.op == "exp" and weights.args[0].op == "pair_distance":
        distance = weights.args[0]
        return distance.args[0], distance["reverse"]
    return None


def shares(sums: Iterable[Node], pairs: Iterable[JointProduct]) -> Mapping[Node, Shares]:
    """What each of these values, summed over levels, is made of; empty where one reads a pair in another way."""
    halves = {half: pair for pair in pairs for half in (pair.first, pair.second)}
    read = {value: _shares(value, halves) for value in sums if reaches([value], halves.__contains__)}
    return {} if None in read.values() else {value: found for value, found in read.items() if found is not None}


def _shares(value: Node, halves: Mapping[Node, JointProduct]) -> Shares | None:
    terms = _terms(value, halves)
    if terms is None:
        return None
    found: dict[JointProduct, dict[str, tuple[Node, ...]]] = {}
    for half, factors in terms:
        pair = halves[half]
        mixed, side = mixed_of(pair), "odd" if half is pair.in_odd_rows else "even"
        own = found.setdefault(pair, {})
        if mixed is None or mixed.weights not in factors or side in own:
            return None
        rest = list(factors)
        rest.remove(mixed.weights)
        if len(rest) > 1:
            return None
        own[side] = tuple(rest)
    return tuple(Share(pair, **own) for pair, own in found.items())


def _terms(value: Node, halves: Mapping[Node, JointProduct]) -> list[tuple[Node, tuple[Node, ...]]] | None:
    """A sum of halves, each times factors; None for what is none."""
    if value in halves:
        return [(value, ())]
    if value.op == "add":
        parts = [_terms(a, halves) for a in value.args]
        return None if None in parts else [term for part in parts if part is not None for term in part]
    if value.op == "mul":
        a, b = value.args
        terms, factor = _terms(a, halves), b
        if terms is None:
            terms, factor = _terms(b, halves), a
        if terms is None or factor.type != value.type or reaches([factor], halves.__contains__):
            return None
        return [(half, (*factors, factor)) for half, factors in terms]
    return None
