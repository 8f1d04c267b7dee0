"""One scan of the step form: its states, the older values it keeps, and what it hands on to later scans."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from smir.errors import FormError
from smir.ir import tile
from smir.ir.expr import state_at
from smir.ir.graph import Node, walk
from smir.ir.mixer import Mixer, matrix_shape
from smir.ir.operator import BACKWARD
from smir.ir.tile_program import Carry, Scan
from smir.passes.tiles.tilewise import tilewise


@dataclass(eq=False)
class StepScan:
    """States that one pass over the tokens computes, after the scans in `earlier`.

    `value(node)` is the tile of an expression at the scan's current token. A state's own past is carried, everything
    that an earlier scan can compute is loaded from what it exports.
    """

    mixer: Mixer
    direction: str
    states: tuple[str, ...]
    earlier: Sequence["StepScan"]
    tiles: dict[Node, Node] = field(default_factory=dict)
    carries: dict[str, Carry] = field(default_factory=dict)
    exports: dict[str, Node] = field(default_factory=dict)

    def scan(self) -> Scan:
        """The finished scan: its states first, then the older values."""
        kept = {name: self._carry(name, self.value(self.mixer.state(name).update)) for name in self.states}
        older = tuple(c for name, c in self.carries.items() if name not in kept)
        return Scan(self.direction, (*kept.values(), *older), tuple(self.exports.items()))

    def value(self, node: Node) -> Node:
        """The tile of an expression. Raises FormError for a state's value that only a later pass would know."""
        if node not in self.tiles:
            self.tiles[node] = self._value(node)
        return self.tiles[node]

    def can(self, node: Node) -> bool:
        """Whether every state that the expression reads is known in this scan at its current token."""
        return all(self._knows(n) for n in walk([node]) if n.op == "state")

    def export(self, node: Node) -> Node:
        """Hands the expression's value on; the load that gets it."""
        value = self.value(node)
        known = next((name for name, v in self.exports.items() if v is value), None)
        if known is None:
            known = f"handed_{len(self.earlier)}_{len(self.exports)}"
            self.exports[known] = value
        return tile.buffer(known, value.type.rows, value.type.cols)

    # ---- what is known here -------------------------------------------------------------------------------------

    def _age(self, leaf: Node) -> int:
        """How many tokens ago, in this scan's order."""
        return int(leaf["offset"]) if self.direction == BACKWARD else -int(leaf["offset"])

    def _knows(self, leaf: Node) -> bool:
        if leaf["name"] in self.states:
            return self._age(leaf) >= 0
        return any(s.can(leaf) for s in self.earlier) or (self._age(leaf) > 0 and self._owner(leaf) is not None)

    def _owner(self, leaf: Node) -> "StepScan | None":
        return next((s for s in self.earlier if leaf["name"] in s.states), None)

    def _value(self, node: Node) -> Node:
        leaves = [n for n in walk([node]) if n.op == "state"]
        if leaves and not any(n["name"] in self.states for n in leaves):
            giver = next((s for s in reversed(self.earlier) if s.can(node)), None)
            if giver is not None:
                return giver.export(node)
        return self._state(node) if node.op == "state" else tilewise(self.mixer, node, self.value)

    def _state(self, leaf: Node) -> Node:
        name, age = leaf["name"], self._age(leaf)
        if name in self.states and age == 0:
            update = self.value(self.mixer.state(name).update)
            return tile.broadcast(update, *self._shape(name))
        if name in self.states and age > 0:
            return self._old(name, age)
        owner = self._owner(leaf)
        if owner is None or age <= 0:
            raise FormError(
                f"`{name}[t{leaf['offset']:+d}]` is read before any pass over the tokens knows it",
                self.mixer.span(leaf),
                "read a state in the direction of its own recurrence, or at [t]",
            )
        return self._late(owner, leaf, age)

    def _old(self, name: str, age: int) -> Node:
        """An own state of `age` tokens ago; before its first token it has its initial value."""
        load = self._load(name, age)
        if age > 1 and load["name"] not in self.carries:
            self.carries[load["name"]] = self._older(name, age)
        return load

    def _older(self, name: str, age: int) -> Carry:
        rows, cols = self._shape(name)
        own = self._load(name, age)["name"]
        return Carry(own, rows, cols, self._old(name, age - 1), self.mixer.state(name).initial, name, final=False)

    def _late(self, owner: "StepScan", leaf: Node, age: int) -> Node:
        """An earlier scan's state of `age` tokens ago in this scan's order; beyond the end of its run it is zero."""
        rows, cols = leaf.type.shape
        now = owner.export(_at(leaf, 0))
        for steps in range(1, age + 1):
            name = f"{leaf['name']}_seen_{steps}"
            self.carries.setdefault(name, Carry(name, str(rows), str(cols), now))
            now = self.carries[name].load
        return now

    def _carry(self, name: str, following: Node) -> Carry:
        rows, cols = self._shape(name)
        wide = tile.broadcast(following, rows, cols)
        return Carry(name, rows, cols, wide, self.mixer.state(name).initial, name)

    def _load(self, name: str, age: int) -> Node:
        return tile.carried(name if age == 1 else f"{name}_{age}", *self._shape(name))

    def _shape(self, name: str) -> tuple[str, str]:
        rows, cols = matrix_shape(self.mixer.state(name).dims)
        return str(rows), str(cols)


def _at(leaf: Node, offset: int) -> Node:
    rows, cols = leaf.type.shape
    return state_at(leaf["name"], rows, cols, offset)
