"""What is known about a list of specs: name, class, legal forms, paper, formula. `smir list` and the docs show it.

Name, paper and formula come from a spec's header comment, class and forms from compiling it.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache

from smir.compilation import Compilation
from smir.compiled import compile_source
from smir.compiler import Options
from smir.ir.graph import walk
from smir.ir.operator import Operator, OperatorProgram, Stage
from smir.ir.tile_program import SCAN
from smir.passes.stabilisation.stabilise import SUFFIX
from smir.source import Source
from smir.specs import find_spec, library_names

# `Name: Authors, "Title" (year)`, without the name
REFERENCE = re.compile(r'[^:"]*"[^"]+" \(\d{4}\)')
FORMULA_INDENT = "   "

ELEMENTWISE, CHAINED, ERASING = "elementwise", "chained states", "diagonal plus low rank"
TWO_SIDED, ROTATING, SOFTMAX = "two directions", "rotation", "softmax over positions"
NON_LINEAR, PAIRS = "not linear in its state", "other functions of pairs of positions"
FAMILIES = ("identity", "scalar", "diagonal", ERASING, ROTATING, TWO_SIDED, ELEMENTWISE, CHAINED, SOFTMAX, PAIRS,
            NON_LINEAR)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One spec. `family` is one of FAMILIES; `states` are the transition types of its states, in order."""

    name: str
    family: str
    states: tuple[str, ...]
    forms: tuple[str, ...]
    reference: str
    about: str
    formula: str

    @property
    def type(self) -> str:
        """The distinct types of the states, or the family of what has none."""
        return "; ".join(dict.fromkeys(self.states)) or self.family

    def to_json(self) -> dict[str, object]:
        facts = asdict(self)
        return {**facts, "type": self.type, "states": list(self.states), "forms": list(self.forms)}


@cache
def library() -> tuple[Entry, ...]:
    """The library's specs, sorted by name; compiled once in a process."""
    return catalogue(find_spec(name) for name in library_names())


def catalogue(sources: Iterable[Source]) -> tuple[Entry, ...]:
    """One entry per spec. Raises SmirError for a text that is no spec."""
    return tuple(map(entry, sources))


def entry(source: Source) -> Entry:
    """What the header says about a spec and what the compiler found."""
    done = compile_source(source, options=Options(verify_each=False)).compilation
    prose, formula = header(source.text)
    found = REFERENCE.search(prose)
    return Entry(done.spec.name, family(done), types(done.operators), done.forms, found[0].strip() if found else "",
                 prose, formula)  # fmt: skip


def header(text: str) -> tuple[str, str]:
    """The comment above a spec: its sentences, and its formulas, which are indented by three spaces."""
    prose: list[str] = []
    formula: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        body = line[1:]
        (formula if body.startswith(FORMULA_INDENT) else prose).append(body.strip())
    lines = (line if line.endswith((",", ":", ";")) else f"{line};" for line in filter(None, formula))
    return " ".join(filter(None, prose)), "   ".join(lines).removesuffix(";")


def types(program: OperatorProgram | None) -> tuple[str, ...]:
    """The transition type of every state, as people call it."""
    if program is None:
        return ()
    return tuple(_type(s) for s in program.stages)


def _type(stage: Stage) -> str:
    if isinstance(stage, Operator):
        return stage.kind
    return "running maximum" if _is_scale(stage.state) else f"{ELEMENTWISE} {stage.kind}"


def _is_scale(state: str) -> bool:
    """Whether a state is the logarithm by which the compiler scales others."""
    return state.endswith(SUFFIX)


def family(done: Compilation) -> str:
    """The row of FAMILIES that a mixer belongs to: the first law of these that it needs."""
    program = done.operators
    if SCAN in done.forms:
        return ELEMENTWISE
    if program is None:
        softmax = any(n.op == "softmax" for n in done.spec.nodes())
        return (SOFTMAX if softmax else PAIRS) if done.spec.masked else NON_LINEAR
    tests = {
        CHAINED: _chained(program),
        TWO_SIDED: len({s.direction for s in program.stages}) > 1,
        ERASING: any(o.erases for o in program.operators),
        ROTATING: any(o.rotation.kind for o in program.operators),
    }
    plain = max((o.decay.kind.split()[0] for o in program.operators), key=FAMILIES.index)
    return next((name for name, holds in tests.items() if holds), plain)


def _chained(program: OperatorProgram) -> bool:
    """Whether one state's equation, or what is read of it, holds another state."""
    held = (n["name"] for n in walk(program.vectors()) if n.op in ("read", "state"))
    return any(not _is_scale(name) for name in held) or any(o.drives for o in program.operators)
