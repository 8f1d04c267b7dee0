"""A call's forward and backward pass as plans, run with nothing around them: what a trial measures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from smir.calls.execution import joined_where_it_fits, require_plan
from smir.compilation import Compilation
from smir.derivatives import stateless_training_plan, training_plan
from smir.ir.kernel import Kernel, KernelPlan
from smir.ir.tile_program import OUTPUT
from smir.passes.gradients.adjoint_program import PREFIX
from smir.tuning.problem import Problem

FORWARD, BACKWARD = "forward", "backward"
Arrays = Mapping[str, Any]
# Makes one of the plans ready for arrays: of a side (`forward`, `backward`), its plan and its arrays.
Prepare = Callable[[str, KernelPlan, Arrays], Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]]


@dataclass(frozen=True)
class Passes:
    """`plans` by side; `kept` says which results of the forward pass the backward pass is given, by their names."""

    plans: Mapping[str, KernelPlan]
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def kernels(self) -> dict[tuple[str, str], Kernel]:
        """All kernels by side and name."""
        return {(side, k.name): k for side, plan in self.plans.items() for k in plan.kernels}

    def run(self, prepare: Prepare, arrays: Arrays, cotangent: Any) -> dict[str, Any]:
        """y, and with a backward pass the gradients `d_<name>` for this cotangent of y."""
        found, _ = prepare(FORWARD, self.plans[FORWARD], arrays)(arrays, {})
        results = {OUTPUT: found[OUTPUT]}
        if BACKWARD not in self.plans:
            return results
        kept = {given: found[name] for name, given in self.kept.items()}
        given = {**arrays, **kept, PREFIX + OUTPUT: cotangent}
        gradients, _ = prepare(BACKWARD, self.plans[BACKWARD], given)(given, {})
        return results | dict(gradients)


def passes(done: Compilation, form: str, wanted: frozenset[str], backend: str = "numpy") -> Passes:
    """Of a call without initial states; without wanted gradients the forward pass alone. `backend` is whose kernels:
    a GPU takes walks where there are any."""
    known = {FORWARD: require_plan(done, form)}
    kept: Mapping[str, str] = {}
    if wanted:
        plan = stateless_training_plan(done, form, wanted) or training_plan(done, form, wanted)
        known, kept = {FORWARD: plan.forward, BACKWARD: plan.backward}, plan.kept
    return Passes(known if backend == "numpy" else {side: p.walked for side, p in known.items()}, kept)


def passes_of(done: Compilation, problem: Problem, form: str, chunk: int) -> Passes:
    """The passes with the kernels that such calls run, but for those along segments of time."""
    found = passes(done, form, frozenset(problem.wanted), problem.backend)
    if problem.backend == "numpy":
        return found
    sizes, float32 = problem.shape.sizes, problem.dtype == "float32"
    return Passes({side: joined_where_it_fits(p, sizes, chunk, float32) for side, p in found.plans.items()}, found.kept)
