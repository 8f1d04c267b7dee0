"""Rules that hold for the nodes of every level: known operation, arguments, attributes, types."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from smir.errors import IRError, SpecTypeError
from smir.ir.graph import Node, walk
from smir.ir.signatures import Signature, attributes
from smir.ir.text import show_attr
from smir.source import Span


def refuse(where: object, rule: str, span: Span | None = None) -> NoReturn:
    """Raises IRError: `where` (a node, or the name of a part) breaks `rule`."""
    raise IRError(f"{describe(where) if isinstance(where, Node) else where}: {rule}", span)


def describe(node: Node) -> str:
    """One node as in the printed text, its arguments by their operation only."""
    attrs = "".join(f" {key}={show_attr(value)}" for key, value in node.attrs)
    return f"`{node.op}({', '.join(a.op for a in node.args)}){attrs} : {node.type}`"


def check_nodes(roots: Iterable[Node], table: Mapping[str, Signature], type_class: type) -> None:
    """Every node below the roots obeys its signature and has the type that its constructor gives."""
    for node in walk(roots):
        signature = table.get(node.op)
        if signature is None:
            refuse(node, "unknown operation")
        if len(node.args) not in signature.arity:
            refuse(node, f"takes {' or '.join(map(str, signature.arity))} arguments, not {len(node.args)}")
        if not isinstance(node.type, type_class):
            refuse(node, f"needs a type of this level, a {type_class.__name__}")
        _check_attributes(node, attributes(node, signature))
        _check_type(node, signature)


def _check_attributes(node: Node, expected: Mapping[str, type]) -> None:
    found = dict(node.attrs)
    for key in sorted(found.keys() ^ expected.keys()):
        refuse(node, f"has no attribute {key}" if key in found else f"lacks the attribute {key}")
    for key, kind in expected.items():
        if type(found[key]) is not kind:
            refuse(node, f"attribute {key} must be a {kind.__name__}")
    if found.get("axis", 0) not in (0, 1):
        refuse(node, "axis must be 0 or 1")


def _check_type(node: Node, signature: Signature) -> None:
    try:
        derived = signature.build(node).type
    except (SpecTypeError, IRError) as error:
        refuse(node, error.message)
    if derived != node.type:
        refuse(node, f"its arguments give the type {derived}")


def check_unique(names: Sequence[str], what: str) -> None:
    """No name stands twice."""
    for name in names:
        if names.count(name) > 1:
            refuse(f"{what} {name}", "is declared twice")


def check_member(value: Any, allowed: Sequence[str], where: object) -> None:
    if value not in allowed:
        refuse(where, f"{value!r} is none of {', '.join(allowed)}")
