"""Shapes of a call: is there a head axis, how large is everything, and does it agree throughout."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from smir.errors import ArgumentError, IRError
from smir.ir.dims import Dim
from smir.ir.head_groups import check_group
from smir.ir.mixer import INPUT, Declaration, Mixer
from smir.ir.sizes import TIME_NAME, solve_dim

Shape = tuple[int, ...]
LEAD = {True: {"input": ("B", "T", "H"), "param": ("H",), "state": ("B", "H")},
        False: {"input": ("B", "T"), "param": (), "state": ("B",)}}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Sizes of a call. `sizes` has the dimension names and `T`; `origin` says which argument fixed each."""

    batch: int
    tokens: int
    heads: int
    has_heads: bool
    sizes: dict[str, int]
    origin: dict[str, str]

    def lead(self, kind: str) -> tuple[tuple[str, int], ...]:
        """The axes before the declared dimensions, by letter and size."""
        size = {"B": self.batch, "T": self.tokens, "H": self.heads}
        return tuple((letter, size[letter]) for letter in LEAD[self.has_heads][kind])


def find_layout(mixer: Mixer, shapes: Mapping[str, Shape]) -> Layout:
    """The layout that all shapes agree on. Raises ArgumentError at the first that doesn't."""
    if not mixer.inputs:
        raise ArgumentError(f"mixer {mixer.name} has no inputs, so its sequence has no length", hint="declare an input")
    has_heads = _has_heads(mixer, shapes)
    first = mixer.inputs[0].name
    lead = shapes[first]
    for name, shape in shapes.items():
        if 0 in shape:
            raise ArgumentError(f"argument {name} has shape {_show(shape)}, which is empty",
                                hint="every axis needs at least one element, T and B too")  # fmt: skip
    most = max((d.name for d in mixer.inputs), key=lambda name: shapes[name][2]) if has_heads else first
    heads = shapes[most][2] if has_heads else 1
    layout = Layout(lead[0], lead[1], heads, has_heads, {TIME_NAME: lead[1]}, {})
    layout.origin.update({"B": first, "H": most, TIME_NAME: first})
    _check_groups(mixer, layout, shapes)
    _solve(mixer, layout, shapes)
    for d in mixer.declarations:
        own = _group_layout(layout, shapes[d.name]) if d.kind == INPUT else layout
        _check_shape(f"argument {d.name}", own, d.kind, d.dims, shapes[d.name])
    _check_known(mixer, layout)
    return layout


def check_states(mixer: Mixer, layout: Layout, shapes: Mapping[str, Shape]) -> None:
    """Initial states are `[B, H, *dims]`, without H when the call has none."""
    for name, shape in shapes.items():
        _check_shape(f"state {name}", layout, "state", mixer.state(name).dims, shape)


def _has_heads(mixer: Mixer, shapes: Mapping[str, Shape]) -> bool:
    """Rank 2 + dims: no head axis; rank 3 + dims: there is one; the same for all arguments."""
    found: dict[bool, str] = {}
    for d in sorted(mixer.declarations, key=lambda d: d.kind != INPUT):
        shape = shapes[d.name]
        ranks = {len(LEAD[heads][d.kind]) + len(d.dims): heads for heads in (True, False)}
        if len(shape) not in ranks:
            raise ArgumentError(f"argument {d.name} has shape {_show(shape)}, expected {_axes(True, d)}",
                                hint=f"or {_axes(False, d)} throughout, for a mixer without heads")  # fmt: skip
        found.setdefault(ranks[len(shape)], d.name)
        if len(found) == 2:
            first = found[not ranks[len(shape)]]
            have = "a head axis" if first == found.get(True) else "no head axis"
            expected = _axes(not ranks[len(shape)], d)
            raise ArgumentError(f"argument {d.name} has shape {_show(shape)}, expected {expected}: {first} has {have}",
                                hint="the head axis is there in every argument, or in none")  # fmt: skip
    return True in found


def _check_groups(mixer: Mixer, layout: Layout, shapes: Mapping[str, Shape]) -> None:
    """An input with fewer heads than the others serves groups of heads, all of one size."""
    for d in mixer.inputs if layout.has_heads else ():
        count = shapes[d.name][2]
        if layout.heads % count:
            most = layout.origin["H"]
            raise ArgumentError(
                f"argument {d.name} has {count} heads and {most} {layout.heads}",
                hint=f"every head of {d.name} serves a group of heads: their number must divide {layout.heads}",
            )
    known: dict[str, tuple[int, str]] = {}
    for d in mixer.inputs:
        check_group(d, shapes[d.name][2] if layout.has_heads else 1, layout.heads, known)


def _group_layout(layout: Layout, shape: Shape) -> Layout:
    """The layout with the heads of one input."""
    return replace(layout, heads=shape[2]) if layout.has_heads else layout


def _solve(mixer: Mixer, layout: Layout, shapes: Mapping[str, Shape]) -> None:
    """Fills in the sizes of the dimension names; plain names and earlier arguments first."""
    axes = [(d.name, dim, size) for d in mixer.declarations
            for dim, size in zip(d.dims, shapes[d.name][len(shapes[d.name]) - len(d.dims) :], strict=True)]  # fmt: skip
    axes.sort(key=lambda axis: str(axis[1]) not in axis[1].names)
    pending = True
    while pending:
        pending = False
        for name, dim, size in axes:
            solved = solve_dim(dim, size, layout.sizes)
            if solved:
                layout.sizes[solved[0]] = solved[1]
                layout.origin[solved[0]] = name
                pending = True


def _check_shape(what: str, layout: Layout, kind: str, dims: tuple[Dim, ...], shape: Shape) -> None:
    lead = layout.lead(kind)
    names = [*(letter for letter, _ in lead), *map(str, dims)]
    sizes = [*(size for _, size in lead), *(_size(layout, dim) for dim in dims)]
    if len(shape) == len(sizes) and all(s in (n, None) for n, s in zip(shape, sizes, strict=True)):
        if None in sizes:
            axis = sizes.index(None)
            raise ArgumentError(f"{what} has shape {_show(shape)}: no size of its dimension names makes {names[axis]} "
                                f"equal to {shape[axis]}", hint=_show_names(names))  # fmt: skip
        return
    wrong = next((i for i, (n, s) in enumerate(zip(shape, sizes, strict=False)) if s not in (n, None)), None)
    known = ", ".join("?" if s is None else str(s) for s in sizes)
    message = f"{what} has shape {_show(shape)}, expected {_show_names(names)} = ({known})"
    raise ArgumentError(message, hint=_why(layout, lead, dims, wrong))


def _why(layout: Layout, lead: tuple[tuple[str, int], ...], dims: tuple[Dim, ...], wrong: int | None) -> str | None:
    """Which argument fixed the size that is wrong here."""
    if wrong is None:
        return "it has too many or too few axes"
    names = [lead[wrong][0]] if wrong < len(lead) else sorted(dims[wrong - len(lead)].names)
    size = {**layout.sizes, "B": layout.batch, "H": layout.heads} if wrong < len(lead) else layout.sizes
    facts = [f"{n} is {size[n]} in argument {layout.origin[n]}" for n in names if n in size and n in layout.origin]
    return "; ".join(facts) or None


def _size(layout: Layout, dim: Dim) -> int | None:
    """The size of a dimension; None when a name in it has none, or when the sizes make it no positive integer."""
    if not dim.names <= layout.sizes.keys():
        return None
    try:
        return dim.size(layout.sizes)
    except IRError:
        known = ", ".join(f"{n} = {layout.sizes[n]} in argument {layout.origin[n]}" for n in sorted(dim.names))
        raise ArgumentError(f"dimension {dim} must be a positive whole number", hint=f"found {known}") from None


def _check_known(mixer: Mixer, layout: Layout) -> None:
    """States and the output have sizes too."""
    for dim in (d for dims in (mixer.output_dims, *(s.dims for s in mixer.states)) for d in dims):
        if _size(layout, dim) is None:
            raise ArgumentError(f"no argument of {mixer.name} says how large {dim} is",
                                hint="a parameter with this dimension would")  # fmt: skip


def _axes(has_heads: bool, d: Declaration) -> str:
    return _show_names([*LEAD[has_heads][d.kind], *map(str, d.dims)])


def _show_names(names: list[str]) -> str:
    return f"[{', '.join(names)}]"


def _show(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
