"""Prints carried tiles: where they start and how they move on."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from smir.backends.triton_gpu.names import identifier
from smir.backends.triton_gpu.spelling import number
from smir.ir.graph import Node
from smir.ir.tile_program import Carry

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter

INDENT = "    "


def is_constant(carry: Carry) -> bool:
    """Whether a carry holds its initial value throughout: no loop keeps it; a state's is loaded where it is used."""
    return carry.next is carry.load


def print_initial(p: "TilePrinter", carry: Carry) -> str:
    """Prints what the carry holds before the first chunk; gives the variable's name."""
    name = p.frame.names.new(identifier(carry.name))
    kind = "WIDE" if carry.load in p.wide_carries else "tl.float32"
    if carry.start is not None:
        start = _unpadded(p, carry.start)
        p.line(f"{name} = widen({start}, WIDE)" if carry.load in p.wide_carries else f"{name} = {start}")
        return name
    fill = f"{name} = tl.full({p.frame.shape(carry.rows, carry.cols)}, {number(carry.initial).text}, {kind})"
    mask = p.frame.padding_mask(carry.load) if carry.initial else ""
    lines = [fill] + ([f"{name} = tl.where({mask}, {name}, 0.0)"] if mask else [])
    if carry.state is None:
        for line in lines:
            p.line(line)
        return name
    pointer, load = p.frame.load_initial(carry)
    p.line(f"if {pointer} is None:")
    for line in lines:
        p.line(INDENT + line)
    p.line("else:")
    p.line(f"{INDENT}{name} = {load}.to({kind})")
    return name


def next_values(p: "TilePrinter", carries: tuple[Carry, ...], others: Iterable[Node] = ()) -> list[tuple[str, str]]:
    """Moves all carries on at once: one that a later one, or `others`, still need gets its next value by `move_on`."""
    pending: list[tuple[str, str]] = []
    for position, carry in enumerate(carries):
        text = _next(p, carry)
        later = [*(c.next for c in carries[position + 1 :]), *others]
        if p.still_needs(carry.load, later):
            name = p.frame.names.new(f"{identifier(carry.name)}_next")
            p.line(f"{name} = {text}")
            pending.append((p.value(carry.load).text, name))
        else:
            p.line(f"{p.value(carry.load).text} = {text}")
    return pending


def move_on(p: "TilePrinter", pending: list[tuple[str, str]]) -> None:
    """Gives carries the next values that waited."""
    for name, value in pending:
        p.line(f"{name} = {value}")


def _next(p: "TilePrinter", carry: Carry) -> str:
    """The carry's new value."""
    return _unpadded(p, carry.next)


def _unpadded(p: "TilePrinter", value: Node) -> str:
    """A value with zeros in the padding."""
    text = p.value(value).text
    if value.op == "const":
        return f"tl.full((), {text}, tl.float32)"
    sides = value.type.rows, value.type.cols
    axes = [s for s in (0, 1) if p.frame.is_padded(sides[s]) and p.padding(value, s) != 0.0]
    mask = p.frame.padding_mask(value, axes)
    return f"tl.where({mask}, {text}, 0.0)" if mask else text
