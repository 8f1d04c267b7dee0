"""`mixer.explain()`: what was recognised, which forms are legal and why others aren't, and what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smir.calls.form_costs import form_costs
from smir.compilation import DIRECT, FORMS, Compilation
from smir.derivatives import training_plan
from smir.ir.convolution import CONVOLUTION
from smir.ir.operator import Operator, OperatorProgram, Stage
from smir.ir.pairs import SOFTMAX, PairRead
from smir.ir.tile_program import SCAN, STEP
from smir.passes.analysis.cost import C, Cost, size
from smir.passes.analysis.select_form import GPU, NUMPY, Machine, crossovers, select_form
from smir.passes.forms.lower_scan import state_kinds
from smir.passes.gradients.saved_values import KEPT, UNUSED, SavedValue
from smir.passes.pairs.pair_distances import admitted

REFERENCE_LENGTHS = (64, 512, 4096, 32768)


@dataclass(frozen=True)
class Explanation:
    """Facts for people (`str`) and machines (`to_json`)."""

    mixer: str
    states: tuple[dict[str, str], ...]
    forms: tuple[str, ...]
    chosen: str
    obstacles: Mapping[str, tuple[str, ...]]
    costs: Mapping[str, Mapping[str, str]]
    crossovers: Mapping[str, tuple[str, ...]]
    choices: Mapping[str, Mapping[int, str]]
    reads: tuple[dict[str, str], ...] = ()
    training: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"mixer": self.mixer, "states": list(self.states), "reads": list(self.reads),
                "forms": list(self.forms), "chosen": self.chosen,
                "obstacles": {f: list(o) for f, o in self.obstacles.items()}, "costs": self.costs,
                "crossovers": {m: list(c) for m, c in self.crossovers.items()},
                "choices": self.choices, "training": list(self.training), "notes": list(self.notes)}  # fmt: skip

    def __str__(self) -> str:
        lines = [f"mixer {self.mixer}"]
        lines += [f"  state {s['name']} ({s['shape']}): {s['transition']}, {s['direction']}" for s in self.states]
        lines += [f"  read {r['name']} ({r['shape']}): {r['weights']}, {r['positions']}" for r in self.reads]
        lines += [f"  forms: {', '.join(self.forms)}; chosen: {self.chosen}"]
        lines += [f"  no {form} form: {why}" for form, reasons in self.obstacles.items() for why in reasons]
        for form, cost in self.costs.items():
            lines.append(f"  cost of {form} per batch and head:")
            lines += [f"    {what}: {amount}" for what, amount in cost.items()]
        for machine, found in self.crossovers.items():
            lines += [f"  on {machine}: {text}" for text in found] or [
                f"  on {machine}: {self._only(machine)} at every T"
            ]
        lines += self._training()
        return "\n".join([*lines, *(f"  {n}" for n in self.notes)])

    def _training(self) -> list[str]:
        """What a training call keeps."""
        if self.chosen == DIRECT:
            return ["  no gradients: it only runs as written"]
        if self.chosen == CONVOLUTION:
            return ["  for gradients, each part keeps what its own form keeps, and torch what its transforms need"]
        if not self.training:
            return ["  for gradients, nothing is kept: the backward pass starts from the arguments"]
        lines = ["  for gradients of all arguments, per batch and head:"]
        for value in self.training:
            name, elements = value["name"], value["elements per token"]
            costs = f"{value['bytes to keep']} bytes a chunk to keep, {value['bytes to recompute']} to recompute"
            lines.append(f"    {value['decision']} {name} ({elements} elements per token): {costs}")
        return lines

    def _only(self, machine: str) -> str:
        return next(iter(self.choices[machine].values()))


def explain(done: Compilation, chosen: str, sizes: Mapping[str, int]) -> Explanation:
    """Everything known about the choice of a form; the crossovers are those at these `sizes` of the dimensions."""
    costs = form_costs(done)
    crossed, choices = {}, {}
    for machine in (NUMPY, GPU) if costs else ():
        crossed[machine.name] = _crossings(costs, machine, sizes)
        choices[machine.name] = {T: select_form(costs, machine, T, sizes, 1) for T in REFERENCE_LENGTHS}
    note = f"crossovers at {', '.join(f'{n}={s}' for n, s in sizes.items())}, one sequence" if costs else ""
    return Explanation(
        mixer=done.spec.name,
        states=_states(done),
        reads=tuple(map(_read, done.pairs.reads)) if done.pairs else (),
        forms=done.forms,
        chosen=chosen,
        obstacles={f: tuple(map(str, done.obstacles[f])) for f in FORMS if f in done.obstacles},
        costs={form: _formulas(cost, form) for form, cost in costs.items()},
        crossovers=crossed,
        choices=choices,
        training=_saved(done, chosen),
        notes=(*_scales(done), *map(str, done.remarks), *((note,) if note else ())),
    )


def _scales(done: Compilation) -> tuple[str, ...]:
    """What is carried relative to running maxima."""
    found: dict[str, list[str]] = {}
    for s in done.recurrence.states if done.recurrence else ():
        if s.log is not None:
            found.setdefault(s.log, []).append(s.name)
    return tuple(f"relative to e^{log}, a running maximum: {', '.join(names)}" for log, names in found.items())


def _states(done: Compilation) -> tuple[dict[str, str], ...]:
    """The recognised states: stages, or those of a scan."""
    if done.operators is not None:
        return tuple(_state(s, done.operators) for s in done.operators.stages)
    return state_kinds(done.recurrence) if done.recurrence and SCAN in done.plans else ()


def _state(s: Stage, program: OperatorProgram) -> dict[str, str]:
    """An operator in its own orientation, a vector that is used by value as a row."""
    if isinstance(s, Operator):
        driven = f", driven by {' and '.join(d.state for d in s.drives)}" if s.drives else ""
        shape, transition = f"{s.rows} x {s.cols}", s.kind + driven
    else:
        shape, transition = " x ".join(map(str, program.mixer.state(s.state).dims)) or "1", f"elementwise {s.kind}"
    return {"name": s.state, "shape": shape, "transition": transition, "direction": s.direction}


def _read(r: PairRead) -> dict[str, str]:
    """What a read over pairs of positions sums, and over which of them."""
    weights = "softmax" if r.kind == SOFTMAX else "weighted sum"
    shape = "1" if r.value is None else str(r.value.type.rows)
    return {"name": r.name, "shape": shape, "weights": weights + (" per channel" if r.channels is not None else ""),
            "positions": admitted(r.mask).describe()}  # fmt: skip


def _saved(done: Compilation, form: str) -> tuple[dict[str, Any], ...]:
    """The values that a training call could keep, with the decisions."""
    if form not in done.plans:
        return ()
    names = frozenset([d.name for d in done.spec.declarations] + [s.name for s in done.spec.states])
    return tuple(_saved_value(v) for v in training_plan(done, form, names).values)


def _saved_value(v: SavedValue) -> dict[str, Any]:
    words = {KEPT: "keeps", UNUSED: "doesn't need"}
    elements = _readable(size(v.rows) * size(v.cols) / C)
    return {"name": v.name, "decision": words.get(v.decision, "recomputes"), "elements per token": elements,
            "bytes to keep": round(v.keep), "bytes to recompute": round(v.recompute)}  # fmt: skip


def _crossings(costs: Mapping[str, Cost], machine: Machine, sizes: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{c.after} is faster than {c.before} from T = {c.tokens}"
                 for c in crossovers(costs, machine, sizes, 1))  # fmt: skip


def _formulas(cost: Cost, form: str) -> dict[str, str]:
    parts = {"flops": cost.flops, "elements moved": cost.moved, "operations in sequence": cost.sequential}
    return {name: _readable(e.subs(C, 1) if form == STEP else e) for name, e in parts.items()}


def _readable(expression: Any) -> str:
    import sympy

    text = str(sympy.expand(expression)).replace("dim_", "").replace("**", "^")
    return text.replace("log(C)/log(2)", "log2(C)")
