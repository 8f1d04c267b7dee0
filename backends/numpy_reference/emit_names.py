"""Names in the printed numpy program."""

import builtins
import keyword
import re
from collections.abc import Iterable

from smir.errors import IRError
from smir.ir.graph import Node
from smir.ir.tile import CHUNK

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_WORDS = {
    "cumsum": "log_prefix", "segment_sum": "log_between", "exp": "decay", "unit_inverse": "inverse",
    "level_sum": "level_total", "sum": "total", "reduce_max": "top", "rotate": "turned", "max": "bounded",
    "pair_distance": "distance",
}  # fmt: skip


class Names:
    """Distinct Python identifiers: the wished one, or that with a number or an underscore."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self.taken = {*reserved, *keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
        self.given: dict[tuple[str, str], str] = {}

    def of(self, space: str, name: str) -> str:
        """The identifier of a named thing (an input, a state, a dimension); the same one every time."""
        if not _IDENTIFIER.match(name):
            raise IRError(f"{name!r} is no name")
        if (space, name) not in self.given:
            wish = name
            while wish in self.taken:
                wish += "_"
            self.taken.add(wish)
            self.given[space, name] = wish
        return self.given[space, name]

    def fresh(self, node: Node) -> str:
        """A name for an intermediate value, after what it is."""
        word = _word(node)
        name, number = word, 2
        while name in self.taken:
            name, number = f"{word}_{number}", number + 1
        self.taken.add(name)
        return name


def _word(node: Node) -> str:
    if (node.type.rows, node.type.cols) == (CHUNK, CHUNK) and node.op in ("dot", "mask", "mul", "add", "level_sum"):
        return "scores"
    return _WORDS.get(node.op, "value" if node.op != "dot" else "product")
