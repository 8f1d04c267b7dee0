"""Hash-consed expression graphs, shared by the mixer IR and the tile IR.

Nodes are interned: building the same operation on the same arguments twice gives the same object, so
common subexpressions are found by construction, `is` means structural equality, and a walk visits every
distinct value once.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

Attr = str | int | float | bool


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One operation. Build it with `make`, never directly.

    `type` is a ValueType in the mixer IR and a Tile in the tile IR.
    """

    op: str
    args: tuple["Node", ...]
    attrs: tuple[tuple[str, Attr], ...]
    type: Any

    def __getitem__(self, key: str) -> Any:
        """The attribute of that name. Raises KeyError."""
        for name, value in self.attrs:
            if name == key:
                return value
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        return next((value for name, value in self.attrs if name == key), default)

    def __repr__(self) -> str:
        attrs = "".join(f" {k}={v}" for k, v in self.attrs)
        return f"{self.op}{attrs}({', '.join(map(repr, self.args))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.op, self.args, self.type, dict(self.attrs))


_interned: WeakValueDictionary[Hashable, Node] = WeakValueDictionary()


def make(op: str, args: Iterable[Node], type: Any, **attrs: Attr) -> Node:
    """The one node with these parts."""
    args, pairs = tuple(args), tuple(sorted(attrs.items()))
    # 1, 1.0 and True are equal but print differently: keep their types apart.
    key = (op, tuple(map(id, args)), pairs, tuple(v.__class__ for _, v in pairs), type)
    found = _interned.get(key)
    if found is None:
        found = Node(op, args, pairs, type)
        _interned[key] = found
    return found


def _rebuild(op: str, args: tuple[Node, ...], type: Any, attrs: dict[str, Attr]) -> Node:
    return make(op, args, type, **attrs)


def walk(roots: Iterable[Node]) -> Iterator[Node]:
    """Every node below the roots once, arguments before users."""
    seen: set[Node] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                yield node
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((a, False) for a in reversed(node.args) if a not in seen)


def rebuild(node: Node, args: Iterable[Node]) -> Node:
    """The same operation, attributes and type on other arguments of the same types."""
    args = tuple(args)
    return node if args == node.args else make(node.op, args, node.type, **dict(node.attrs))


def substitute(root: Node, replace: Mapping[Node, Node] | Callable[[Node], Node | None]) -> Node:
    """The graph with nodes replaced (looked up before their arguments are visited), types unchanged."""
    look = replace.get if isinstance(replace, Mapping) else replace
    done: dict[Node, Node] = {}
    stack = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done[node] = rebuild(node, (done[a] for a in node.args))
        elif (new := look(node)) is not None:
            done[node] = new
        else:
            stack.append((node, True))
            stack.extend((a, False) for a in node.args)
    return done[root]


def reaches(roots: Iterable[Node], targets: Callable[[Node], bool]) -> set[Node]:
    """The nodes below the roots that are targets or depend on one."""
    hit: set[Node] = set()
    for node in walk(roots):
        if targets(node) or any(a in hit for a in node.args):
            hit.add(node)
    return hit
