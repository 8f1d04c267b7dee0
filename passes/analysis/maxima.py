"""Proofs that a sum is never positive because it is relative to a maximum over itself, in the mixer IR and the tile IR.

`l + (m - max(l + m, w))` is one: without the maximum, its terms are one of those that the maximum is taken over.
Rounding aside, whatever the order of the terms, and whether or not some are marked `stop`.
"""

from collections.abc import Mapping

from smir.ir.graph import Node
from smir.ir.tile import SUM
from smir.passes.analysis.stops import unmarked_nodes

# log(e^a + e^b) is larger than both
_TOPS = frozenset({"max", "reduce_max", "logaddexp", "scan"})
# What the rows of tokens beyond the end of the sequence hold is of no interest: nothing reads them.
_PASSING = frozenset({"stop", "broadcast", "valid_rows"})
Terms = Mapping[Node, float]


def never_positive(node: Node) -> bool:
    """Whether a sum or difference is at most zero by that argument alone."""
    if node.op not in ("add", "sub", "neg") or not any(_is_top(n) and c < 0 for n, c in _terms(node).items()):
        return False
    terms = _terms(unmarked_nodes([node])[node])
    return any(c < 0 and _is_top(top) and _dominates(top, _relative(terms, top)) for top, c in terms.items())


def _is_top(node: Node) -> bool:
    return node.op in _TOPS and node.get("kind") != SUM


def _terms(node: Node) -> Terms:
    """The terms that additions, signs and numbers as factors make, with their factors; those that cancel are gone."""
    found: dict[Node, float] = {}
    stack = [(node, 1.0)]
    while stack:
        n, factor = stack.pop()
        if n.op in ("add", "sub"):
            stack += [(n.args[0], factor), (n.args[1], factor if n.op == "add" else -factor)]
        elif n.op in _PASSING or n.op == "neg":
            stack.append((n.args[0], -factor if n.op == "neg" else factor))
        elif n.op == "mul" and n.args[0].op == "const":
            stack.append((n.args[1], factor * n.args[0]["value"]))
        elif not (n.op == "const" and n["value"] == 0):
            found[n] = found.get(n, 0.0) + factor
    return {n: c for n, c in found.items() if c}


def _relative(terms: Terms, top: Node) -> Terms:
    """The other terms, scaled so that the top's factor is -1."""
    return {n: c / -terms[top] for n, c in terms.items() if n is not top}


def _dominates(top: Node, terms: Terms) -> bool:
    """Whether the sum of the terms is one that the maximum is taken over."""
    if top.op != "scan":
        return any(_covers(a, terms) for a in top.args)
    decay, write, _ = top.args
    before = next((n for n in terms if n.op == "shift" and n.args[0] is top), None)
    if before is not None:
        return terms == {before: 1.0, **_terms(decay)}
    return _covers(write, terms)


def _covers(value: Node, terms: Terms) -> bool:
    """Whether the terms are the value, or one of those that a maximum in it is taken over and all else in it."""
    own = _terms(value)
    if own == terms:
        return True
    tops = [n for n, c in own.items() if c == 1.0 and _is_top(n)]
    return any(_dominates(top, _without(terms, own, top)) for top in tops)


def _without(terms: Terms, own: Terms, top: Node) -> Terms:
    """The terms less those beside the top."""
    beside = {n: c for n, c in own.items() if n is not top}
    rest = {n: terms.get(n, 0.0) - beside.get(n, 0.0) for n in {**terms, **beside}}
    return {n: c for n, c in rest.items() if c}
