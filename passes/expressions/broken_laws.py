"""Broken laws: how recognition says which sub-expression leaves the algebra."""

from collections.abc import Callable

from smir.ir.graph import Node, walk
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle
from smir.source import Span

STEP_ONLY = "chunked, quadratic and scan forms need linearity; step form only"
_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "matmul": "@", "lt": "<", "le": "<=", "eq": "=="}
_LONGEST = 60


def nonlinear(node: Node, how: str = "", within: Callable[[Node], bool] = lambda node: True) -> "BrokenLaw":
    """The broken law of a value that isn't linear in the states below it, those that are `within`."""
    states = sorted({str(n["name"]) for n in walk([node]) if n.op == "state" and within(n)})
    return BrokenLaw(f"not linear in {' and '.join(states)}{how and f' ({how})'}", node)


class BrokenLaw(Exception):
    """Inside recognition only: the law that `node` breaks. Becomes an Obstacle before a pass returns."""

    def __init__(self, law: str, node: Node, consequence: str = STEP_ONLY) -> None:
        self.law, self.node, self.consequence = law, node, consequence
        self.near: Node | None = None
        super().__init__(law)

    def obstacle(self, mixer: Mixer) -> Obstacle:
        """The law and the sub-expression as the spec writes it, with its span or that of what contains it.

        Where the node is the compiler's own, `near` is the spec's node that it came from.
        """
        own = mixer.span(self.node)
        text = " ".join(own.text.split()) if own else describe(self.node)
        quoted = text if len(text) <= _LONGEST else text[: _LONGEST - 2] + ".."
        span = own or _enclosing(mixer, self.node) or (_enclosing(mixer, self.near) if self.near else None)
        return Obstacle(f"{self.law}: {quoted}", span, self.consequence)


def _enclosing(mixer: Mixer, node: Node) -> Span | None:
    if mixer.span(node):
        return mixer.span(node)
    inside = {node}
    for user in mixer.nodes():
        if any(a in inside for a in user.args):
            inside.add(user)
            if mixer.span(user):
                return mixer.span(user)
    holder = next((s for s in mixer.states if node in set(walk([s.update]))), None)
    return holder.span if holder else None


def describe(node: Node) -> str:
    """The expression in the language's own notation."""
    if node.op in ("input", "state"):
        offset = node["offset"]
        return f"{node['name']}[t{offset:+d}]" if offset else f"{node['name']}[t]"
    if node.op in ("param", "sequence", "read"):
        return str(node["name"])
    if node.op == "input_of":
        offset = node["offset"]
        return f"{node['name']}[{node['index']}{offset:+d}]" if offset else f"{node['name']}[{node['index']}]"
    if node.op in ("const", "position"):
        return f"{node['value']:g}" if node.op == "const" else str(node["index"])
    if node.op in ("eye", "ones"):
        return f"{node.op}({node.type.rows})"
    if node.op == "transpose":
        return f"{_tight(node.args[0])}.T"
    if node.op == "neg":
        return f"-{_tight(node.args[0])}"
    if node.op in _INFIX:
        return f" {_INFIX[node.op]} ".join(_tight(a) for a in node.args)
    if node.op in ("sum_range", "prod_range"):
        low, high, body = map(describe, node.args)
        return f"{node.op[:-6]}({node['index']}, {low}, {high}, {body})"
    return f"{node.op}({', '.join(map(describe, node.args))})"


def _tight(node: Node) -> str:
    text = describe(node)
    return f"({text})" if node.op in _INFIX or node.op == "neg" else text
