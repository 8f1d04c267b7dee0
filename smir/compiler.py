"""The driver: one linear list of stages from a spec's text to the kernel plans of all its legal forms.

Every stage takes what is known so far and adds one thing; after it, that thing is verified. What a form can't express
is kept as an obstacle, for `explain`. The backward pass of a form has a list of stages of its own, which runs when
gradients are asked for (`training_plan`).
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from smir.errors import FormError
from smir.ir.convolution import CONVOLUTION, ConvolutionProgram
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle, OperatorProgram
from smir.ir.pairs import PairProgram
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP, TileProgram
from smir.source import Source

if TYPE_CHECKING:
    from smir.passes.gradients.saved_values import TrainingPlan
    from smir.passes.pairs.pair_segment import PairSegment
    from smir.scaled_states import ScaledStates

# The spec as written, evaluated over the whole sequence by the mixer interpreter: legal when no other form is.
DIRECT = "direct"
FORMS = (STEP, SCAN, CHUNKED, QUADRATIC, CONVOLUTION)


@dataclass(frozen=True)
class Compilation:
    """What is known about one spec after the stages so far.

    `mixer` is the spec as written; `equations` the same as step equations, `recurrence` those as they run, with
    logs of scales; `operators` its recognised algebra, `pairs` that of a masked operator which has no step equations; `convolution` what is linear and
    time-invariant in it; `tiles` and `plans` the programs by form; `obstacles` says by form why it is missing,
    `remarks` what else couldn't be done.
    """

    source: Source
    mixer: Mixer | None = None
    equations: Mixer | None = None
    recurrence: Mixer | None = None
    operators: OperatorProgram | None = None
    pairs: PairProgram | None = None
    convolution: ConvolutionProgram | None = None
    tiles: Mapping[str, TileProgram] = field(default_factory=dict)
    plans: Mapping[str, KernelPlan] = field(default_factory=dict)
    obstacles: Mapping[str, tuple[Obstacle, ...]] = field(default_factory=dict)
    remarks: tuple[Obstacle, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    # What gradients were asked for, by form and names: derived from the fields above whenever somebody asks.
    gradients: dict[tuple[str | frozenset[str], ...], "Gradients"] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def spec(self) -> Mixer:
        """The mixer as written; there is one as soon as the spec has been parsed."""
        assert self.mixer is not None, "not parsed yet"
        return self.mixer

    @cached_property
    def scaled_states(self) -> "ScaledStates":
        """How the spec's states and those that programs carry belong together."""
        from smir.scaled_states import ScaledStates

        hidden = None if self.equations is None or self.lookahead is not None else self.equations
        return ScaledStates(hidden or self.spec, self.recurrence or self.spec)

    @cached_property
    def lookahead(self) -> Obstacle | None:
        """What reads later positions, so that no segment goes on from a state; None for a causal mixer."""
        from smir.passes.segments.lookahead import lookahead

        return lookahead(self.spec, self.equations, self.pairs)

    @cached_property
    def pair_segment(self) -> "PairSegment | None":
        """A segment of reads over pairs of positions; None for step equations, and for what only runs as written.

        Raises FormError for reads that can't go on where another segment stopped.
        """
        if self.pairs is None or self.lookahead is not None:
            return None
        from smir.ir.verifier import verify
        from smir.passes.pairs.pair_segment import pair_segment

        found = pair_segment(self.pairs)
        verify(found.plan)
        return found

    @cached_property
    def divided_segment(self) -> KernelPlan | None:
        """The kernels of a segment after a long past, of which several programs take a part each, if it can be so."""
        if self.pairs is None or self.pair_segment is None or self.pair_segment.cache.tokens is not None:
            return None
        from smir.ir.verifier import verify
        from smir.passes.pairs.pair_segment import divided_segment

        found = divided_segment(self.pairs)
        if found is not None:
            verify(found)
        return found

    @cached_property
    def parts(self) -> "Mapping[Mixer, Compilation]":
        """The mixers that the convolution form is made of, compiled."""
        return {part: compile_mixer(part) for part in (self.convolution.parts() if self.convolution else ())}

    @property
    def forms(self) -> tuple[str, ...]:
        """The legal forms."""
        convolved = (CONVOLUTION,) if self.convolution else ()
        return tuple(f for f in FORMS if f in (*self.plans, *convolved)) or (DIRECT,)

    def blocked(self, forms: tuple[str, ...], why: tuple[Obstacle, ...]) -> "Compilation":
        """The same with these forms ruled out."""
        return replace(self, obstacles={**self.obstacles, **dict.fromkeys(forms, why)})


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


Known = TypeVar("Known", Compilation, Gradients)
Product = TypeVar("Product")


@dataclass(frozen=True)
class Stage(Generic[Known]):
    """One step of the compiler: `run` adds the field `product`, one IR or one per form."""

    name: str
    product: str
    run: Callable[[Known], Known]


@dataclass(frozen=True)
class Options:
    """What the driver does between stages."""

    print_after_all: bool = False
    verify_each: bool = True
    out: TextIO | None = None


def compile_spec(source: Source, options: Options = Options()) -> Compilation:
    """All stages in order. Raises SmirError for a spec that isn't one."""
    return _run(STAGES, Compilation(source), options)


def compile_mixer(mixer: Mixer, options: Options = Options()) -> Compilation:
    """The same for a mixer that the compiler made itself."""
    source = mixer.source or Source(mixer.name, "")
    return _run(STAGES[1:], Compilation(source, mixer=mixer), options)


def _run(stages: tuple[Stage[Compilation], ...], done: Compilation, options: Options) -> Compilation:
    for stage in stages:
        start = perf_counter()
        done = stage.run(done)
        elapsed = perf_counter() - start
        done = replace(done, seconds={**done.seconds, stage.name: elapsed})
        _inspect(stage, done, options)
    return done


def require_form(done: Compilation, form: str) -> None:
    """Raises FormError, with the law that breaks, when the form isn't legal."""
    if form in done.forms:
        return
    legal = f"legal for {done.spec.name}: {', '.join(done.forms)}"
    if form not in FORMS:
        raise FormError(f"there is no form {form!r}", hint=legal)
    why = done.obstacles.get(form, ())
    reasons = "; ".join(o.message for o in why) or "the mixer has no step equation"
    raise FormError(
        f"{done.spec.name} has no {form} form: {reasons}", next((o.span for o in why if o.span), None), legal
    )


# ---- stages -----------------------------------------------------------------------------------------------------


def _parse(c: Compilation) -> Compilation:
    from smir.frontends import parse_mixer

    return replace(c, mixer=parse_mixer(c.source))


def _masks_to_states(c: Compilation) -> Compilation:
    if not c.spec.masked:
        return replace(c, equations=c.spec, recurrence=c.spec)
    from smir.passes.masks.masks_to_states import masks_to_states

    found = masks_to_states(c.spec)
    return c.blocked(FORMS, found) if isinstance(found, tuple) else replace(c, equations=found, recurrence=found)


def _stabilise(c: Compilation) -> Compilation:
    """Unbounded exponential gates relative to running maxima; a spec where that can't be done stays as it is."""
    if c.recurrence is None:
        return c
    from smir.passes.stabilisation.stabilise import stabilise

    found = stabilise(c.recurrence)
    return replace(c, remarks=(*c.remarks, found)) if isinstance(found, Obstacle) else replace(c, recurrence=found)


def _recognise(c: Compilation) -> Compilation:
    if c.recurrence is None:
        return c
    from smir.passes.recognition.recognise import recognise

    found = recognise(c.recurrence)
    return c.blocked((CHUNKED, QUADRATIC), found) if isinstance(found, tuple) else replace(c, operators=found)


def _impulse_response(c: Compilation) -> Compilation:
    """What is linear and time-invariant as convolutions."""
    if c.recurrence is None:
        return c
    from smir.passes.recognition.impulse_response import impulse_response

    found = impulse_response(c.recurrence)
    return c.blocked((CONVOLUTION,), found) if isinstance(found, tuple) else replace(c, convolution=found)


def _recognise_pairs(c: Compilation) -> Compilation:
    """What has no step equations as reads over pairs of positions."""
    if c.recurrence is not None:
        return c
    from smir.passes.recognition.recognise_pairs import recognise_pairs

    found = recognise_pairs(c.spec)
    return c if isinstance(found, tuple) else replace(c, pairs=found)


def _lower(c: Compilation) -> Compilation:
    """Tile programs of all forms; the lowerings simplify as they go."""
    from smir.passes.forms.legal_forms import forms_of_pairs, forms_of_recurrence

    if c.recurrence is not None:
        found = forms_of_recurrence(c.recurrence, c.operators)
    else:
        found = forms_of_pairs(c.pairs) if c.pairs is not None else {}
    tiles = {form: made for form, made in found.items() if isinstance(made, TileProgram)}
    laws = {form: made for form, made in found.items() if not isinstance(made, TileProgram)}
    known = {form: why for form, why in c.obstacles.items() if form not in tiles}
    return replace(c, tiles=tiles, obstacles={**known, **laws})


def _partition(c: Compilation) -> Compilation:
    from smir.passes.analysis.stops import unmarked
    from smir.passes.kernels.partition import partition

    return replace(c, plans={form: partition(unmarked(program)) for form, program in c.tiles.items()})


STAGES = (
    Stage("parse", "mixer", _parse),
    Stage("masks_to_states", "recurrence", _masks_to_states),
    Stage("stabilise", "recurrence", _stabilise),
    Stage("recognise", "operators", _recognise),
    Stage("recognise pairs", "pairs", _recognise_pairs),
    Stage("impulse response", "convolution", _impulse_response),
    Stage("lower", "tiles", _lower),
    Stage("partition", "plans", _partition),
)


# ---- gradients --------------------------------------------------------------------------------------------------


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
        _inspect(stage, known, options)
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
    from smir.passes.pairs.pair_adjoint import pair_adjoint

    if isinstance(g.differentiable, PairProgram):
        return replace(g, adjoint=pair_adjoint(g.differentiable, g.wanted))
    return replace(g, adjoint=adjoint_program(g.differentiable, g.wanted))


def _simplify(g: Gradients) -> Gradients:
    from smir.passes.analysis.stops import unmarked
    from smir.passes.tiles.simplify_tiles import simplify

    return replace(g, adjoint=simplify(unmarked(_made(g.adjoint))))


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


# ---- between stages ---------------------------------------------------------------------------------------------


def products(stage: Stage[Known], done: Known) -> dict[str, Any]:
    """What a stage made, by title: one IR, or one per form or direction."""
    value = getattr(done, stage.product)
    if stage.product == "training":
        return {f"{stage.name} (forward)": value.forward, f"{stage.name} (backward)": value.backward}
    if isinstance(value, ConvolutionProgram):
        return {f"{stage.name} ({number}, {part.name})": part for number, part in enumerate(value.parts())}
    if isinstance(value, Mapping):
        return {f"{stage.name} ({form})": ir for form, ir in value.items()}
    return {} if value is None else {stage.name: value}


def _inspect(stage: Stage[Known], done: Known, options: Options) -> None:
    from smir.ir.printer import print_ir
    from smir.ir.verifier import verify

    for title, ir in products(stage, done).items():
        if options.verify_each:
            verify(ir)
        if options.print_after_all:
            print(f"// after {title}\n{print_ir(ir)}\n", file=options.out or sys.stdout)
