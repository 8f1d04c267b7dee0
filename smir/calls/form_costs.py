"""Symbolic costs of every legal form of a compiled spec, of a call and of a training step."""

from smir.compilation import Compilation
from smir.derivatives import training_plan
from smir.ir.convolution import CONVOLUTION
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.tile_program import SCAN, STEP
from smir.passes.analysis.cost import Cost, convolution_cost, plan_cost

# A convolution's gradients are two more convolutions, with the kernel and with what drove it.
TRAINED_CONVOLUTION = 3


def form_costs(done: Compilation) -> dict[str, Cost]:
    """Of a call, per (batch, head)."""
    costs = {form: plan_cost(plan) for form, plan in done.plans.items()}
    return costs if done.convolution is None else {**costs, CONVOLUTION: _convolution(done)}


def training_costs(done: Compilation, wanted: frozenset[str]) -> dict[str, Cost]:
    """Of a forward and a backward pass for the gradients `wanted`."""
    plans = {form: training_plan(done, form, wanted) for form in done.plans}
    costs = {form: plan_cost(plan.forward) + plan_cost(plan.backward) for form, plan in plans.items()}
    if done.convolution is None:
        return costs
    cost = _convolution(done)
    return {**costs, CONVOLUTION: sum([cost] * (TRAINED_CONVOLUTION - 1), cost)}


def _convolution(done: Compilation) -> Cost:
    assert done.convolution is not None

    def plan_of(part: Mixer) -> KernelPlan:
        return done.parts[part].plans[part_form(done, part)]

    return convolution_cost(done.convolution, plan_of)


def part_form(done: Compilation, part: Mixer) -> str:
    """The form of a part: it goes along the sequence, where it can by chunks."""
    return SCAN if SCAN in done.parts[part].plans else STEP
