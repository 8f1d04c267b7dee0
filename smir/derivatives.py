"""Gradients: a list of stages from a form's tile program to the kernels of its backward pass.

They run when gradients are asked for; what they make is kept beside the compilation.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from smir.compilation import DIRECT, Compilation, require_form
from smir.compiler import Options, Stage, inspect
from smir.errors import FormError
from smir.ir.convolution import CONVOLUTION
from smir.ir.kernel import KernelPlan
from smir.ir.pairs import PairProgram
from smir.ir.tile_program import CHUNKED, QUADRATIC, TileProgram

if TYPE_CHECKING:
    from smir.passes.gradients.saved_values import TrainingPlan

Product = TypeVar("Product")


@dataclass(frozen=True)
class Gradients:
    """What is known about the backward pass of one form after the stages so far.

    `forward` is the form's tile program and `differentiable` what is differentiated in its place; `adjoint` computes
    the gradients `wanted` (names of inputs, parameters, initial states), `plan` is it as kernels that start from the
    inputs alone, and `training` the forward and the backward kernels of a training step, with the values that the one
    keeps for the other. Of second derivatives, `adjoint` and `plan` are those by the names in `again`.
    """

    forward: TileProgram
    differentiable: TileProgram | PairProgram
    wanted: frozenset[str]
    adjoint: TileProgram | None = None
    plan: KernelPlan | None = None
    training: "TrainingPlan | None" = None
    again: frozenset[str] = frozenset()


def adjoint_plan(done: Compilation, form: str, wanted: frozenset[str], options: Options = Options()) -> KernelPlan:
    """The kernels of the gradients named in `wanted` (inputs, parameters, initial states), from the inputs alone.

    They take the inputs and the cotangent `d_y`, and as initial states those of the call and the cotangents
    `d_<state>` of the final ones. Gradients are results `d_<name>`, those of initial states final states `d_<state>`.
    """
    return _made(gradients(done, form, wanted, options).plan)


def training_plan(done: Compilation, form: str, wanted: frozenset[str], options: Options = Options()) -> "TrainingPlan":
    """The same for a training step: the forward pass keeps what the backward pass would pay more to compute again."""
    return _made(gradients(done, form, wanted, options).training)


def stateless_training_plan(
    done: Compilation, form: str, wanted: frozenset[str], options: Options = Options()
) -> "TrainingPlan | None":
    """Where a form has backward kernels of its own only for calls that start from zero states and don't ask for final
    ones: the plans of a training step of such a call. The cotangents of final states must be absent."""
    if form != QUADRATIC or done.operators is None or not wanted <= {d.name for d in done.spec.declarations}:
        return None
    from smir.passes.recognition.operators_to_pairs import operators_to_pairs

    key = f"{form} without states", wanted
    if key not in done.gradients:
        pairs = operators_to_pairs(done.operators)
        if pairs is None:
            return None
        done.gradients[key] = differentiated(Gradients(done.tiles[form], pairs, wanted), options)
    return done.gradients[key].training


def gradients(done: Compilation, form: str, wanted: frozenset[str], options: Options = Options()) -> Gradients:
    """All adjoint stages in order, once for each form and each set of names. Raises FormError for the direct form."""
    require_form(done, form)
    if form == DIRECT:
        raise FormError(f"{done.spec.name} has no gradients: it only runs as written",
                        hint="`explain` says which law rules programs, and so their adjoints, out")  # fmt: skip
    if form == CONVOLUTION:
        raise FormError("convolutions are differentiated by torch, each part with a plan of its own",
                        hint="call the mixer with tensors that require a gradient")  # fmt: skip
    key = form, wanted
    if key not in done.gradients:
        done.gradients[key] = differentiated(Gradients(done.tiles[form], differentiable(done, form), wanted), options)
    return done.gradients[key]


def differentiated(
    known: Gradients, options: Options, stages: "tuple[Stage[Gradients], ...] | None" = None
) -> Gradients:
    """After these stages, or all adjoint stages."""
    for stage in stages or ADJOINT_STAGES:
        known = stage.run(known)
        inspect(stage, known, options)
    return known


def _made(product: Product | None) -> Product:
    assert product is not None, "a stage is missing"
    return product


def differentiable(c: Compilation, form: str) -> TileProgram | PairProgram:
    """What is differentiated for the form's backward pass: its tile program, or reads over pairs of positions.

    A quadratic form that visits pairs of chunks has none of its own; as one chunk of the whole sequence it is the
    chunked program.
    """
    if c.pairs is not None:
        return c.pairs
    program = c.tiles[form]
    if form != QUADRATIC or all(s.order in ("forward", "backward") for s in program.scans):
        return program
    return replace(c.tiles[CHUNKED], form=QUADRATIC)


def _differentiate(g: Gradients) -> Gradients:
    from smir.passes.gradients.adjoint_program import adjoint_program
    from smir.passes.gradients.averages import with_precise_averages
    from smir.passes.gradients.ratios import precise_wherever
    from smir.passes.pairs.pair_adjoint import pair_adjoint

    if isinstance(g.differentiable, PairProgram):
        return replace(g, adjoint=pair_adjoint(g.differentiable, g.wanted))
    forward, adjoint = precise_wherever((g.forward, adjoint_program(g.differentiable, g.wanted)))
    return replace(g, forward=forward, adjoint=with_precise_averages(forward, adjoint))


def _simplify(g: Gradients) -> Gradients:
    from smir.passes.analysis.stops import unmarked
    from smir.passes.gradients.row_factors import with_row_factors
    from smir.passes.tiles.simplify_tiles import simplify

    return replace(g, adjoint=simplify(with_row_factors(unmarked(_made(g.adjoint)))))


def _partition_adjoint(g: Gradients) -> Gradients:
    from smir.passes.kernels.partition import partition

    return replace(g, plan=partition(_made(g.adjoint)))


def _save_values(g: Gradients) -> Gradients:
    from smir.passes.analysis.stops import unmarked
    from smir.passes.gradients.saved_values import training_plan as plan
    from smir.passes.pairs.pair_training import pair_training_plan

    if isinstance(g.differentiable, PairProgram):
        return replace(g, training=pair_training_plan(unmarked(g.forward), _made(g.adjoint)))
    return replace(g, training=plan(unmarked(g.forward), _made(g.adjoint)))


ADJOINT_STAGES = (
    Stage("differentiate", "adjoint", _differentiate),
    Stage("simplify adjoint", "adjoint", _simplify),
    Stage("partition adjoint", "plan", _partition_adjoint),
    Stage("save values", "training", _save_values),
)
