"""One-line formulas of tile values, for comments in emitted kernels and for `explain`."""

from smir.ir.graph import Node
from smir.ir.tile import CARRIED

_INFIX = {
    "add": ("+", 1),
    "sub": ("-", 1),
    "mul": ("*", 2),
    "div": ("/", 2),
    "dot": ("@", 2),
    "lt": ("<", 0),
    "le": ("<=", 0),
}


def formula(node: Node, depth: int = 6) -> str:
    """The expression in infix notation; below `depth` operations it is cut to an ellipsis."""
    return _format(node, depth)[0]


def _format(node: Node, depth: int) -> tuple[str, int]:
    """Text and binding strength (3 binds tightest)."""
    if node.op == "load":
        name = str(node["name"])
        return (f"{name}_before" if node["kind"] == CARRIED else name), 3
    if node.op == "const":
        return f"{node['value']:g}", 3
    if depth == 0:
        return "..", 3
    if node.op in _INFIX:
        symbol, strength = _INFIX[node.op]
        left, right = (_format(a, depth - 1) for a in node.args)
        tight = strength + (node.op != "add")
        return f"{_wrap(left, strength)} {symbol} {_wrap(right, tight)}", strength
    if node.op == "transpose":
        return f"{_wrap(_format(node.args[0], depth - 1), 3)}.T", 3
    if node.op == "neg":
        return f"-{_wrap(_format(node.args[0], depth - 1), 2)}", 1
    if node.op in ("broadcast", "valid_rows"):
        return _format(node.args[0], depth)
    flags = [str(v) if k in ("kind", "axis") else k for k, v in node.attrs if v is True or k in ("kind", "axis")]
    inner = ", ".join([*(_format(a, depth - 1)[0] for a in node.args), *flags])
    return f"{node.op}({inner})", 3


def _wrap(part: tuple[str, int], strength: int) -> str:
    text, own = part
    return text if own >= strength else f"({text})"
