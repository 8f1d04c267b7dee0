"""Delayed inputs of masked operators as inputs of their own: `k[j-1]` becomes `k__1[j]`.

The first tokens of a segment read delayed ones from before it, whatever else they read from there.
"""

from dataclasses import replace

from smir.errors import FormError
from smir.ir.graph import Node, make, substitute, walk
from smir.ir.interval import point
from smir.ir.mixer import Declaration
from smir.ir.pairs import PairProgram, PairRead
from smir.passes.segments.delays import line_name


def delays_of(program: PairProgram) -> dict[str, tuple[int, ...]]:
    """How many tokens back each input is read, now left out. Raises FormError for what is no input."""
    found: dict[str, set[int]] = {}
    inputs = {d.name for d in program.mixer.inputs}
    for n in walk(program.roots()):
        if n.op in ("input", "input_of") and n["offset"]:
            if n["name"] not in inputs or n["offset"] > 0:
                raise FormError(
                    f"a segment of {program.mixer.name} can't read `{n['name']}` of another token",
                    program.mixer.span(n) or program.mixer.span(program.mixer.output),
                    "shift it before the mixer, and give it as an input of its own",
                )
            found.setdefault(n["name"], set()).add(-int(n["offset"]))
    return {d.name: tuple(sorted(found[d.name])) for d in program.mixer.inputs if d.name in found}


def delays_as_inputs(program: PairProgram) -> PairProgram:
    """The program with an input for each delay of an input; outside the sequence they are zero."""
    delays = delays_of(program)
    if not delays:
        return program
    added = [_line(d, age) for d in program.mixer.inputs for age in delays.get(d.name, ())]
    mixer = replace(program.mixer, declarations=(*program.mixer.declarations, *added))
    reads = tuple(_read(r) for r in program.reads)
    vectors = tuple((name, substitute(column, _own)) for name, column in program.vectors)
    return PairProgram(mixer, vectors, reads, substitute(program.output, _own))


def _line(d: Declaration, age: int) -> Declaration:
    return replace(d, name=line_name(d.name, age), range=d.range.union(point(0.0)))


def _read(read: PairRead) -> PairRead:
    def own(node: Node | None) -> Node | None:
        return None if node is None else substitute(node, _own)

    return replace(read, scores=substitute(read.scores, _own), mask=own(read.mask), value=own(read.value),
                   channels=own(read.channels))  # fmt: skip


def _own(n: Node) -> Node | None:
    """A delayed read of an input as a read of the input that is delayed."""
    if n.op not in ("input", "input_of") or not n["offset"]:
        return None
    return make(n.op, (), n.type, **{**dict(n.attrs), "name": line_name(n["name"], -int(n["offset"])), "offset": 0})
