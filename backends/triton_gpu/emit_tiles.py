"""Prints tile expressions as statements: one name per shared value, single uses inlined, loads at their first use.

Statements go to nested blocks (kernel body, loop over chunks, loop over levels); a value is placed in the outermost
block in which all its leaves are known, so what a loop doesn't change is computed before it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from smir.backends.triton_gpu.emit_levels import Distance, laid_out_leaves, level_operands
from smir.backends.triton_gpu.emit_ops import RULES
from smir.backends.triton_gpu.frame import Frame
from smir.backends.triton_gpu.joint_products import GridRow, JointProduct
from smir.backends.triton_gpu.level_terms import Mixed, Shares
from smir.backends.triton_gpu.naming import suggest
from smir.backends.triton_gpu.options import PAIRED
from smir.backends.triton_gpu.padding import PaddingOf, axis_of
from smir.backends.triton_gpu.precise import is_precise, is_wide, plain
from smir.backends.triton_gpu.spelling import ATOM, COMPARE, UNARY, Text, number
from smir.backends.triton_gpu.thin_products import is_thin
from smir.backends.triton_gpu.wide_carries import wide_carries
from smir.ir.graph import Node, walk
from smir.ir.kernel import PRODUCT
from smir.ir.ops import POINTWISE
from smir.ir.tile import BUFFER, CARRIED, LEVEL_OPS
from smir.ir.tile_program import Carry

LONGEST_INLINE = 64
INDENT = "    "
ALWAYS_NAMED = frozenset(
    "load dot level_sum unit_inverse cumsum segment_sum pair_distance pair_collect rotate cross_pairs "
    "turn_pairs scan shift fold".split()
)


@dataclass
class Block:
    """Lines of one nesting level and the names of the values computed in it."""

    depth: int
    lines: list[str] = field(default_factory=list)
    known: dict[Node, Text] = field(default_factory=dict)

    def add(self, line: str) -> None:
        self.lines.append(INDENT * self.depth + line)


class TilePrinter:
    """Prints the values of one kernel. `value` gives the text that stands for a node, in float32."""

    def __init__(self, frame: Frame, roots: Iterable[Node]) -> None:
        self.frame = frame
        self.padding = PaddingOf()
        self.blocks = [Block(1)]
        self.inside: list[Set[Node]] = []
        self.wanted: dict[Node, str] = {}
        self.constants: dict[Node, Carry] = {}
        self.next_tile = ""
        self.constexprs: dict[str, str] = {}
        self.joint: dict[Node, tuple[JointProduct, str]] = {}
        self.distances: dict[Node, Distance] = {}
        self.joint_rows: dict[JointProduct | GridRow, str] = {}
        self.grids: dict[GridRow, tuple[str, str]] = {}
        self.mixed: dict[Mixed, str] = {}
        self.shares: dict[Node, Shares] = {}
        self.weighted: set[JointProduct | GridRow] = set()
        self.picked: dict[tuple[tuple[Node, ...], tuple[Node, ...]], str] = {}
        self.summing: set[Node] = set()
        self.roots = tuple(roots)
        self.wide_carries = wide_carries(frame.plan, frame.kernel)
        self.uses = Counter(a for n in walk(self.roots) for a in n.args)
        self.uses.update(self.roots)
        self.raw = set(self._product_loads())
        self.laid_out = laid_out_leaves(self.roots)
        self.reads_levels = any(n.op in LEVEL_OPS for n in walk(self.roots))
        self._depth = 0
        # A product that leads to another one is held twice by eight warps, and so is what is made of it: in kernels
        # that hold much at once, running sums are no products.
        over_pairs = bool(frame.kernel.loops) and not frame.kernel.sequential
        self.scans_sums = over_pairs or any(n.op in PAIRED for n in walk(self.roots))

    def _product_loads(self) -> Iterator[Node]:
        """Loads that some matrix product takes: they keep their type, others become float32 at once."""
        for node in walk(self.roots):
            operands: Iterable[Node] = ()
            if node.op == "dot" and not is_thin(node):
                given = map(plain, node.args) if is_wide(node) else node.args
                operands = (a.args[0] if a.op == "transpose" else a for a in given)
            elif node.op == "level_mask":
                turned = [a.args[0] if a.op == "transpose" else a for a in node.args]
                operands = [*(level_operands(node) or ())[:2], *turned]
            for a in operands:
                if a.op == "load" and a["kind"] != CARRIED and not self.keeps_type(a):
                    yield a

    def keeps_type(self, leaf: Node) -> bool:
        """Whether a load is at least float32 already."""
        return leaf["kind"] == BUFFER and self.frame.plan.buffer(leaf["name"]).dtype != PRODUCT

    # ---- blocks -------------------------------------------------------------------------------------------------

    @contextmanager
    def nested(self, header: str, members: Set[Node]) -> Iterator[Block]:
        """A loop in the current home block; `members` are the values that change in it."""
        hidden, hidden_inside = self.blocks[self._depth + 1 :], self.inside[self._depth :]
        del self.blocks[self._depth + 1 :], self.inside[self._depth :]
        outer, depth = self.blocks[-1], self._depth
        block = Block(outer.depth + 1)
        self.blocks.append(block)
        self.inside.append(members)
        self._depth = depth + 1
        yield block
        outer.add(header)
        outer.lines += block.lines
        self._depth = depth
        self.blocks[depth + 1 :], self.inside[depth:] = hidden, hidden_inside

    def home(self, node: Node) -> int:
        """How deep a value has to be computed."""
        return next((d for d in range(len(self.inside), 0, -1) if node in self.inside[d - 1]), 0)

    def line(self, text: str) -> None:
        """A statement in the block of the value being printed."""
        self.blocks[self._depth].add(text)

    def before(self, text: str) -> None:
        """A statement before the loop of the value being printed."""
        self.blocks[self._depth - 1].add(text)

    def constant(self, name: str, text: str) -> str:
        """The name of a constant of the kernel, which is defined before everything else."""
        if text not in self.constexprs:
            self.constexprs[text] = self.frame.names.new(name)
            self.blocks[0].add(f"{self.constexprs[text]}: tl.constexpr = {text}")
        return self.constexprs[text]

    # ---- values -------------------------------------------------------------------------------------------------

    def value(self, node: Node) -> Text:
        """The float32 (or boolean) value of a node, named or inlined."""
        text = self._printed(node)
        return Text(f"{text.text}.to(tl.float32)") if node in self.raw else text

    def kept(self, node: Node) -> str:
        """The value of a node in the type that it is loaded in, of one that is computed in float32."""
        return (self._printed(node) if node in self.raw else self.value(node)).text

    def _printed(self, node: Node) -> Text:
        known = self.known(node)
        if known is not None:
            return known
        if node.op == "const":
            return number(node["value"])
        user, home = self._depth, self.home(node)
        self._depth = home
        text = RULES[node.op](self, node)
        known = self.known(node)
        if known is None and not (home == user and self._inlines(node, text)):
            known = self.bind(node, text.text)
        self._depth = user
        return known or text

    def known(self, node: Node) -> Text | None:
        return next((b.known[node] for b in self.blocks if node in b.known), None)

    def _inlines(self, node: Node, text: Text) -> bool:
        if node.op in ALWAYS_NAMED or node in self.wanted:
            return False
        return (self.uses[node] <= 1 and len(text.text) <= LONGEST_INLINE) or node.op == "transpose"

    def bind(self, node: Node, text: str, name: str | None = None) -> Text:
        """Assigns a value to a new name in the current block."""
        name = name or self.frame.names.new(self.wanted.get(node) or suggest(node, self._name_of))
        self.line(f"{name} = {text}")
        return self.know(node, name)

    def know(self, node: Node, name: str) -> Text:
        """From here on this name holds the node's value."""
        text = Text(name, ATOM)
        self.blocks[self._depth].known[node] = text
        return text

    def still_needs(self, leaf: Node, roots: Iterable[Node]) -> bool:
        """Whether printing these values would read the leaf again."""
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node is leaf:
                return True
            if self.known(node) is None:
                stack.extend(node.args)
        return False

    def _name_of(self, node: Node) -> str | None:
        known = self.known(node)
        return known.text if known is not None and known.text.isidentifier() else None

    # ---- operands -----------------------------------------------------------------------------------------------

    def operand(self, node: Node, contracted: int, other: Node) -> str:
        """A tile in the type of products, a precise one in float32; zero in the padding of its contracted side (0 rows,
        1 columns)."""
        if self._adds_padding(node, contracted, self.padding(other, 1 - contracted)):
            text = self.masked(node, contracted, 0.0)
        elif node.op == "transpose" and node.args[0] in self.raw:
            text = f"tl.trans({self._printed(node.args[0]).text})"
        else:
            text = (self._printed(node) if node in self.raw else self.value(node)).bound(ATOM)
        return text if is_precise(node) else f"{text}.to(PRODUCT)"

    def factor(self, node: Node, other: Node) -> str:
        """A tile, in its own type or float32, whose columns are contracted with another's columns."""
        if self._adds_padding(node, 1, self.padding(other, 1)):
            return self.masked(node, 1, 0.0)
        return (self._printed(node) if node in self.raw else self.value(node)).text

    def _adds_padding(self, node: Node, side: int, theirs: float | None) -> bool:
        """Whether a contraction would add up what stands in the padding."""
        if not self.frame.is_padded(axis_of(node, side)):
            return False
        mine = self.padding(node, side)
        harmless = mine == 0.0 and not _unsafe(theirs)
        return not (harmless or (theirs == 0.0 and not _unsafe(mine)))

    def masked(self, node: Node, side: int, fill: float) -> str:
        """The tile with its padding along one side replaced."""
        mask = self.frame.padding_mask(node, [side])
        return f"tl.where({mask}, {self.value(node).text}, {number(fill).text})"

    def summand(self, node: Node, axis: int, fill: float = 0.0) -> str:
        """A tile about to be reduced along an axis, with neutral padding there."""
        if self.frame.is_padded(axis_of(node, axis)) and self.padding(node, axis) != fill:
            return self.masked(node, axis, fill)
        return self.value(node).text

    def condition(self, node: Node) -> Text:
        text = self.value(node)
        return text if is_boolean(node) else Text(f"{text.bound(UNARY)} != 0", COMPARE)

    def numeric(self, node: Node) -> Text:
        text = self.value(node)
        return Text(f"{text.bound(ATOM)}.to(tl.float32)") if is_boolean(node) else text


def _unsafe(padding: float | None) -> bool:
    return padding is not None and not math.isfinite(padding)


def is_boolean(node: Node) -> bool:
    return node.op in POINTWISE and POINTWISE[node.op].boolean
