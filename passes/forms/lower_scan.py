"""Mixer IR to the scan form: chunks of C tokens, every state an elementwise recurrence along the chunk's rows.

All states are used by value, so outputs may be any function of them. Only the state before a chunk (1 x n) goes from
chunk to chunk, and inside a chunk no state goes to memory. States in both directions need a pass each: a later one
makes the earlier states' values again from what they held before the chunk.
"""

from collections.abc import Callable
from typing import TypeVar

from smir.errors import FormError
from smir.ir import tile
from smir.ir.dependence import components
from smir.ir.dims import ONE
from smir.ir.graph import Node
from smir.ir.mixer import Mixer, State, matrix_shape
from smir.ir.operator import BACKWARD
from smir.ir.tile import CHUNK, SUM
from smir.ir.tile_program import OUTPUT, SCAN, Carry, Output, Scan, TileProgram
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.forms.lower_step import groups
from smir.passes.recognition.elementwise import read_elementwise
from smir.passes.tiles.complex_pairs import ComplexPair, Turned, read_pair
from smir.passes.tiles.lanewise import Lanewise
from smir.passes.tiles.leaves import with_leaves
from smir.passes.tiles.simplify_tiles import simplify


def lower_scan(mixer: Mixer) -> TileProgram:
    """The scan form. Raises FormError for a state that is no elementwise recurrence, or read in the wrong order."""
    scans = tuple(groups(mixer))
    states = StateTiles(mixer, {name: direction for direction, names in scans for name in names})
    output = states.vectors.value(mixer.output)
    following = [Scan(direction, tuple(c for n in names for c in states.carries(n))) for direction, names in scans]
    wide = tile.broadcast(output, CHUNK, output.type.cols)
    program = TileProgram(mixer.name, SCAN, (), tuple(following), (Output.of(OUTPUT, wide),))
    found = with_leaves(mixer, simplify(program))
    names = [leaf.name for leaf in found.leaves]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        span = mixer.declaration(twice).span
        raise FormError(f"`{twice}` meets a state elementwise and is a factor of matrix products too", span)
    return found


class StateTiles:
    """The states of a mixer as tiles: their values after each of a chunk's tokens, and what a scan carries of them.

    `directions` gives the direction of every state's recurrence.
    """

    def __init__(self, mixer: Mixer, directions: dict[str, str]) -> None:
        self.mixer, self.directions = mixer, directions
        self.vectors = Lanewise(mixer, self._leaf)
        self.pairs = {name: pair for pair in _pairs(mixer) for name in (pair.real, pair.imaginary)}
        self.after: dict[str, Node] = {}
        self.started: set[str] = set()
        self.older: dict[str, dict[int, Node]] = {}

    def carries(self, name: str) -> tuple[Carry, ...]:
        """The state before a chunk, and the older values that something reads."""
        state = self.mixer.state(name)
        is_vector = matrix_shape(state.dims)[1] == ONE
        own = Carry(name, tile.ONE, self._axis(state), self._edge(name, self.value(name)), state.initial, name,
                    transposed=is_vector)  # fmt: skip
        # before its first token an older value is the initial state as well
        return own, *(
            Carry(self._load(name, age)["name"], own.rows, own.cols, self._edge(name, self.older[name][age - 1]),
                  state.initial, name, own.transposed, final=False)
            for age in sorted(self.older.get(name, {}))[1:]
        )  # fmt: skip

    def value(self, name: str) -> Node:
        """`CHUNK x n`: the state after each token."""
        if name not in self.after:
            if name in self.started:
                span = self.mixer.span(self.mixer.state(name).update)
                raise FormError(f"`{name}` and a state that it reads need each other: no scan can come first", span)
            self.started.add(name)
            self.after[name] = self._scanned(name)
        return self.after[name]

    def _scanned(self, name: str) -> Node:
        if name in self.pairs:
            return self._turned(name)
        update = _checked(self.mixer, lambda: read_elementwise(self.mixer.state(name)))
        keeps, adds = (1.0, 0.0) if update.kind == SUM else (0.0, float("-inf"))
        axis = self._axis(self.mixer.state(name))
        decay, write = (self._neutral(self.vectors.along(n, axis), name, fill)
                        for n, fill in ((update.decay, keeps), (update.write, adds)))  # fmt: skip
        return tile.scan(decay, write, self._load(name, 1), update.kind, self._reverse(name))

    def _turned(self, name: str) -> Node:
        """One part of a complex state."""
        pair = self.pairs[name]
        names = (pair.real, pair.imaginary)
        radius = self._neutral(self.vectors.value(pair.radius), name, 1.0)
        angle, *writes = (self._neutral(self.vectors.value(n), name, 0.0)
                          for n in (pair.angle, pair.real_write, pair.imaginary_write))  # fmt: skip
        reverse = self._reverse(name)

        def scan(write: Node, part: int) -> Node:
            return tile.scan(radius, write, self._load(names[part], 1), SUM, reverse)

        return Turned(angle, (writes[0], writes[1]), reverse, scan).values()[names.index(name)]

    def _neutral(self, found: Node, name: str, fill: float) -> Node:
        """A coefficient with a row for every token that changes nothing beyond the end of the sequence."""
        wide = tile.broadcast(found, CHUNK, self._axis(self.mixer.state(name)))
        return wide if self.vectors.padding.value(wide) == fill else tile.valid_rows(wide, fill)

    # ---- reads --------------------------------------------------------------------------------------------------

    def _leaf(self, leaf: Node) -> Node:
        """A state at an offset: the value after this token, or of so many tokens before in the state's own order."""
        name = leaf["name"]
        age = leaf["offset"] if self.directions[name] == BACKWARD else -leaf["offset"]
        if age < 0:
            raise FormError(
                f"`{name}[t{leaf['offset']:+d}]` is read before any pass over the tokens knows it",
                self.mixer.span(leaf),
                "read a state in the direction of its own recurrence, or at [t]",
            )
        return self._aged(name, age)

    def _aged(self, name: str, age: int) -> Node:
        if age == 0:
            return self.value(name)
        known = self.older.setdefault(name, {})
        if age not in known:
            known[age] = tile.shift(self._aged(name, age - 1), self._load(name, age), self._reverse(name))
        return known[age]

    def _edge(self, name: str, rows: Node) -> Node:
        return tile.edge_row(rows, self._reverse(name))

    def _reverse(self, name: str) -> bool:
        return self.directions[name] == BACKWARD

    def _load(self, name: str, age: int) -> Node:
        return tile.carried(name if age == 1 else f"{name}_{age}", tile.ONE, self._axis(self.mixer.state(name)))

    def _axis(self, state: State) -> str:
        rows, cols = matrix_shape(state.dims)
        return str(rows) if cols == ONE else str(cols) if rows == ONE else tile.lanes(str(rows), str(cols))


def state_kinds(mixer: Mixer) -> tuple[dict[str, str], ...]:
    """What `explain` says of the states of a mixer that has a scan form: name, shape, transition and direction."""
    states = StateTiles(mixer, {name: direction for direction, names in groups(mixer) for name in names})
    found = []
    for state in mixer.states:
        paired = state.name in states.pairs
        kind = "part of a complex number" if paired else f"elementwise {read_elementwise(state).kind}"
        shape = " x ".join(map(str, state.dims)) or "1"
        found.append({"name": state.name, "shape": shape, "transition": kind,
                      "direction": states.directions[state.name]})  # fmt: skip
    return tuple(found)


Read = TypeVar("Read")


def _checked(mixer: Mixer, read: Callable[[], Read]) -> Read:
    """What `read` gives; a law that it breaks as the reason why there is no scan form."""
    try:
        return read()
    except BrokenLaw as broken:
        obstacle = broken.obstacle(mixer)
        raise FormError(f"{obstacle.message}: scan carries every state by value", obstacle.span) from None


def _pairs(mixer: Mixer) -> list[ComplexPair]:
    """The states that need each other: complex numbers. Raises FormError for any other ones."""
    found = []
    for component in components(mixer):
        if len(component.states) == 1:
            continue
        states = [mixer.state(name) for name in component.states]
        if len(states) > 2:
            names = ", ".join(f"`{s.name}`" for s in states)
            raise FormError(f"states {names} need each other: scan carries every state by value", states[0].span)
        found.append(_checked(mixer, lambda pair=states: read_pair(*pair)))  # type: ignore[misc]
    return found
