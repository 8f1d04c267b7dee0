"""The generated blocks about specs: the library by class, and the mixers of the literature in examples/mixers."""

from functools import cache
from pathlib import Path

from docs.measured import table
from smir.catalogue import FAMILIES, Entry, catalogue, library
from smir.specs import find_spec

LITERATURE = Path(__file__).parents[1] / "examples" / "mixers"

# What the compiler had to learn before a mixer of the literature had more than its step equation, by the class that was
# missing when the spec was first written. Specs that aren't named here had all their forms at once.
STAGED = "chained states: one state's values in another's coefficients"
DRIVEN = "a state that is the write of another state"
SCANNED = "states that are used by value"
TURNED = "rotating transitions"
NORMALISED = "a softmax over positions"
PAIRWISE = "functions of pairs of positions that don't factor"
NEEDED = {
    "differential_attention": NORMALISED,
    "gated_attention": NORMALISED,
    "h3": SCANNED,
    "higher_order": STAGED,
    "laser": NORMALISED,
    "lightnet": STAGED,
    "longhorn": SCANNED,
    "mega_attention": NORMALISED,
    "mega_ema": SCANNED,
    "parallax": PAIRWISE,
    "power_attention": PAIRWISE,
    "preconditioned_delta_rule": STAGED,
    "scalable_softmax": NORMALISED,
    "selective_rope": TURNED,
}
# Mixers for which no class exists: the law that breaks.
COUPLED = "two states that read each other: one operator on the pair, neither comes first"
BEYOND = {
    "gated_oja_rule": "erases contract the state's columns, reads its rows",
    "moneta": "the update is quadratic in the state",
    "momentum_delta_rule": COUPLED,
    "stick_breaking": "a product, over the positions between two, of functions of pairs: no functions of i and of j",
    "titans_linear": COUPLED,
    "wall_attention": "a running sum of vectors inside a softmax: index formulas add numbers, and states come too late",
}


@cache
def literature() -> tuple[Entry, ...]:
    """The specs of examples/mixers, sorted by name."""
    return catalogue(find_spec(path) for path in sorted(LITERATURE.glob("*.smir")))


def mixers() -> str:
    """The library, one table per class."""
    present = [f for f in FAMILIES if any(e.family == f for e in library())]
    return "\n".join(f"### {f[0].upper()}{f[1:]}\n\n{_library_table(f)}" for f in present)


def _library_table(family: str) -> str:
    rows = [
        (f"`{e.name}`", e.type, ", ".join(e.forms), code(e.formula), e.reference or e.about)
        for e in library()
        if e.family == family
    ]
    head = ("name", "states", "forms", "formula", "reference")
    return table(head, rows, left=len(head))


def of_literature() -> str:
    """Every spec of examples/mixers, its forms, and how it came to them."""
    head = ("mixer", "forms", "came by them", "formula", "reference")
    rows = [(f"`{e.name}`", ", ".join(e.forms), came(e.name), code(e.formula), e.reference or e.about)
            for e in literature()]  # fmt: skip
    return table(head, rows, left=len(head))


def came(name: str) -> str:
    """At once, by a class that the compiler learned, or not: the law that breaks."""
    return f"out of reach: {BEYOND[name]}" if name in BEYOND else NEEDED.get(name, "at once")


def code(text: str) -> str:
    """A formula in a cell of a table."""
    return f"`{text}`".replace("|", "\\|") if text else ""
