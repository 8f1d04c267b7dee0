"""Inputs with fewer heads than the output: each of their heads serves a group of neighbouring ones.

Without a declaration a call's arrays say how large the groups are. Declared, a group is a number of heads, a name whose
size the arrays or a layer tell, the same for all inputs that have it, or `H`: all of them.
"""

from collections.abc import Mapping
from math import lcm

from smir.errors import ArgumentError
from smir.ir.dims import Dim
from smir.ir.mixer import Declaration, Mixer

ALL_HEADS = Dim.name("H")


def is_group(group: Dim) -> bool:
    """Whether this is a name, or a positive whole number."""
    if group.names:
        return len(group.names) == 1 and group == Dim.name(*group.names)
    return bool(group.terms) and group.terms[0][1].denominator == 1 and group.terms[0][1] >= 1


def group_names(mixer: Mixer) -> list[str]:
    """The names of a spec's groups, sorted."""
    return sorted({name for d in mixer.inputs if d.group for name in (d.group.names - ALL_HEADS.names)})


def show_heads(group: Dim) -> str:
    """The number of heads of such an input, as a spec writes it."""
    return "1" if group == ALL_HEADS else f"{ALL_HEADS}/{group}"


def usual_group(heads: int) -> int:
    """The size of a group of which nothing was said: pairs of heads, where they pair."""
    return 1 if heads % 2 else 2


def whole_heads(mixer: Mixer, heads: int) -> int:
    """At least so many heads, that make whole groups of every declared size."""
    each = lcm(*(d.group.size({}) for d in mixer.inputs if d.group and not d.group.names))
    return -(-heads // each) * each


def heads_of(d: Declaration, heads: int, sizes: Mapping[str, int]) -> int:
    """How many heads an input has where the output has `heads`; `sizes` may name groups. Raises ArgumentError for heads
    that don't make whole groups."""
    if d.group is None:
        return heads
    named = {name: usual_group(heads) for name in d.group.names}
    own = d.group.size({**named, **sizes, str(ALL_HEADS): heads})
    if heads % own:
        raise ArgumentError(f"{heads} heads, of which {d.name} has {show_heads(d.group)}",
                            hint=f"a number of heads that {own} divides")  # fmt: skip
    return heads // own


def check_group(d: Declaration, own: int, heads: int, known: dict[str, tuple[int, str]]) -> None:
    """Whether an argument with `own` heads is what its declaration says, where the output has `heads`.

    `known` holds the sizes of named groups and the argument that told each; it is filled. Raises ArgumentError.
    """
    if d.group is None:
        return
    (name,) = d.group.names or {""}
    size = heads // own
    told, by = known.setdefault(name, (size, d.name)) if name != str(ALL_HEADS) else (heads, "")
    expected = told if name else d.group.size({})
    if size == expected:
        return
    said = f", and {name} is {told} in argument {by}" if by and name else ""
    fewer = f"{heads // expected} head{'s' * (heads > expected)} here"
    raise ArgumentError(
        f"argument {d.name} has {own} of {heads} heads, and is declared `heads {show_heads(d.group)}`{said}",
        hint=fewer if heads % expected == 0 else f"{expected} must divide the number of heads",
    )
