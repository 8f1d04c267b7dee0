"""Reads what `printer.print_ir` writes. Checks the form of the text only; `verifier.verify` checks the meaning."""

from collections.abc import Callable

from smir.ir.parse_mixer import parse_mixer_ir, parse_operators
from smir.ir.parse_pairs import parse_pairs
from smir.ir.parse_tile import parse_plan, parse_tile
from smir.ir.printer import IR
from smir.ir.reader import Reader
from smir.ir.text import split_lines

_LEVELS: dict[str, Callable[[Reader], IR]] = {
    "mixer": parse_mixer_ir,
    "operators": parse_operators,
    "pairs": parse_pairs,
    "tile": parse_tile,
    "plan": parse_plan,
}


def parse_ir(text: str) -> IR:
    """A mixer, operator program, tile program or kernel plan. Raises IRError at the line that is malformed."""
    reader = Reader(split_lines(text))
    level = _LEVELS.get(reader.line.head)
    if level is None:
        reader.line.fail(" or ".join(f"`{name}`" for name in _LEVELS))
    ir = level(reader)
    if reader.rest:
        reader.line.fail("nothing after the closing `}`")
    return ir
