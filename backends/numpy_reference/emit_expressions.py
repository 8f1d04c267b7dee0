"""Tile values as lines of the printed numpy program."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from smir.backends.numpy_reference.emit_names import Names
from smir.backends.numpy_reference.evaluate import Schedule, schedule
from smir.errors import IRError
from smir.ir.dims import Dim
from smir.ir.graph import Node, walk
from smir.ir.ops import POINTWISE
from smir.ir.tile import CHUNK, LEVEL_OPS, ONE, SUM, axis_parts

# An expression used once is written where it is used, as long as the line stays about this long.
INLINE = 64
_ATOM = 3


@dataclass
class Writer:
    """Lines of a function body, the helper functions they call, and all names."""

    names: Names
    lines: list[str] = field(default_factory=list)
    helpers: dict[str, None] = field(default_factory=dict)
    depth: int = 1

    def line(self, text: str = "") -> None:
        self.lines.append("    " * self.depth + text if text else "")

    def call(self, function: str, *args: str) -> str:
        """A call of a helper, which is then printed with the program."""
        self.helpers[function] = None
        return f"{function}({', '.join(args)})"

    def axis(self, axis: str) -> str:
        """The length of a tile axis as an expression."""
        if axis in (ONE, CHUNK):
            return "1" if axis == ONE else "C"
        return self.size(Dim.parse(axis))

    def size(self, dim: Dim) -> str:
        parts = []
        for monomial, c in dim.terms:
            factors = [str(c.numerator), *(self.names.of("dimension", n) for n in monomial)]
            product = " * ".join(f for f in factors if f != "1") or "1"
            parts.append(product if c.denominator == 1 else f"{product} // {c.denominator}")
        return " + ".join(parts)


@dataclass
class Region:
    """A straight-line part of the program: some values are `known` by an expression, leaves come from `load`."""

    writer: Writer
    load: Callable[[Node], str]
    known: dict[Node, str] = field(default_factory=dict)
    counts: str = "counts"
    named: dict[Node, str] = field(default_factory=dict)

    def write(self, roots: Iterable[Node], keep: Mapping[Node, str] | None = None) -> list[str]:
        """Prints what the roots need; their expressions. `keep` wishes names for values."""
        roots = tuple(roots)
        plan = schedule(roots, self.known, fuse=True)
        uses = Counter(a for n in plan.order for a in n.args)
        uses.update(roots)
        texts: dict[Node, tuple[str, int]] = {n: (t, _ATOM) for n, t in self.known.items()}
        fused_only = _inside_fused(plan)
        for node in plan.order:
            if node in plan.varying or node in fused_only:
                continue
            text = self._text(node, texts, plan)
            wish = (keep or {}).get(node)
            if wish is None and (_is_leaf(node) or (uses[node] <= 1 and len(text[0]) <= INLINE and _inlined(node))):
                texts[node] = text
            else:
                name = wish or self.writer.names.fresh(node)
                self.writer.line(f"{name} = {text[0]}")
                texts[node] = (name, _ATOM)
                self.named[node] = name
        return [texts[r][0] for r in roots]

    def _text(self, node: Node, texts: Mapping[Node, tuple[str, int]], plan: Schedule) -> tuple[str, int]:
        """Expression and how tightly it binds (0 comparisons, 1 sums, 2 products, 3 everything else)."""
        if node.op == "load":
            return self.load(node), _ATOM
        if node.op == "const":
            return _literal(node["value"]), _ATOM if node["value"] >= 0 else 1
        if (match := plan.fused.get(node)) is not None:
            parts = [texts[n][0] for n in (match.query, match.key, match.log)]
            return self.writer.call("level_scores", *parts, *_flags(match.reverse, match.exclusive)), _ATOM
        if node.op == "level_sum":
            return self._level_sum(node, texts, plan), _ATOM
        return self._operation(node, [texts[a] for a in node.args])

    def _operation(self, node: Node, args: list[tuple[str, int]]) -> tuple[str, int]:
        plain = [text for text, _ in args]
        if node.op in _INFIX:
            symbol, strength = _INFIX[node.op]
            left, right = _wrapped(args[0], strength), _wrapped(args[1], strength + (node.op != "add"))
            return f"{left} {symbol} {right}", strength
        if node.op == "neg":
            return f"-{_wrapped(args[0], 2)}", 1
        if node.op == "where":
            typed = [f"dtype.type({t})" if a.op == "const" else t for a, t in zip(node.args, plain, strict=True)]
            return f"np.where({', '.join(typed)})", _ATOM
        if node.op in POINTWISE:
            template = POINTWISE[node.op].python
            call = template.startswith("np.") and template.endswith(")")
            text = template.format(*(plain if call else [_wrapped(a, _ATOM) for a in args]))
            return text, _ATOM if call else 0
        return self._structural(node, plain, args), _ATOM

    def _structural(self, node: Node, plain: list[str], args: list[tuple[str, int]]) -> str:
        call, op = self.writer.call, node.op
        if op == "broadcast":
            rows, cols = self.writer.axis(node.type.rows), self.writer.axis(node.type.cols)
            if node.args[0].op == "const":
                return f"np.full(({rows}, {cols}), {plain[0]}, dtype)"
            return call("spread", plain[0], rows, cols)
        if op == "transpose":
            return call("transpose", plain[0])
        if op == "sum":
            return f"{_wrapped(args[0], _ATOM)}.sum(axis={node['axis'] - 2}, keepdims=True)"
        if op == "reduce_max":
            return f"{_wrapped(args[0], _ATOM)}.max(axis={node['axis'] - 2}, keepdims=True)"
        if op == "valid_rows":
            return call("valid_rows", plain[0], self.counts, _literal(node["fill"]))
        if op == "mask":
            return call("mask", plain[0], f'"{node["kind"]}"', *([] if node["fill"] == 0 else [_literal(node["fill"])]))
        if op == "rotate":
            return call("rotate", *plain, str(node["axis"]), *(["inverse=True"] if node["inverse"] else []))
        if op in ("scan", "shift", "edge_row"):
            named = [repr(node["kind"])] if op == "scan" and node["kind"] != SUM else []
            tiles = [f"np.full((1, 1), {t}, dtype)" if a.op == "const" else t
                     for a, t in zip(node.args, plain, strict=True)]  # fmt: skip
            return call(op, *tiles, *named, *_flags(node["reverse"], False))
        if op == "place_row":
            return call(op, plain[0], "C", *_flags(node["reverse"], False))
        if op in ("spread", "fold"):
            lane_axis = (node if op == "spread" else node.args[0]).type.cols
            other = self.writer.axis(axis_parts(lane_axis)[1 - node["part"]])
            return call(f"{op}_lanes", plain[0], other, str(node["part"]))
        if op in LEVEL_OPS:
            plain = [*plain, "level"]
        elif op not in ("cumsum", "segment_sum", "unit_inverse"):
            raise IRError(f"no numpy text for the tile operation {op}")
        return call(op, *plain, *_flags(node.get("reverse", False), node.get("exclusive", False)))

    def _level_sum(self, node: Node, texts: Mapping[Node, tuple[str, int]], plan: Schedule) -> str:
        """A loop over the levels that adds the varying part up."""
        writer, (body,) = self.writer, node.args
        name = writer.names.fresh(node)
        writer.line(f"{name} = 0.0")
        writer.line(f"for level in {writer.call('levels', 'C')}:")
        writer.depth += 1
        inside = dict(texts)
        for n in walk([body]):
            if n in plan.varying:
                text = self._operation(n, [inside[a] for a in n.args])
                if len(text[0]) > INLINE or n is body:
                    own = writer.names.fresh(n)
                    writer.line(f"{own} = {text[0]}")
                    text = (own, _ATOM)
                inside[n] = text
        writer.line(f"{name} = {name} + {inside[body][0]}")
        writer.depth -= 1
        return name


_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "dot": ("@", 2)}


def _wrapped(part: tuple[str, int], strength: int) -> str:
    text, own = part
    return text if own >= strength else f"({text})"


def _literal(value: float) -> str:
    text = repr(float(value))
    return text.replace("inf", "np.inf").replace("nan", "np.nan")


def _flags(reverse: bool, exclusive: bool) -> list[str]:
    return [f"{name}=True" for name, on in (("reverse", reverse), ("exclusive", exclusive)) if on]


def _is_leaf(node: Node) -> bool:
    return node.op in ("load", "const")


def _inlined(node: Node) -> bool:
    return node.op not in ("level_sum", "unit_inverse")


def _inside_fused(plan: Schedule) -> set[Node]:
    """Nodes that only fused groups use; those need no line of their own."""
    needed: set[Node] = set(plan.roots)
    for node in reversed(plan.order):
        if node in needed:
            match = plan.fused.get(node)
            needed.update((match.query, match.key, match.log) if match else node.args)
    return set(plan.order) - needed
