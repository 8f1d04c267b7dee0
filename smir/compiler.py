"""The driver: one linear list of stages from a spec's text to the kernel plans of all its legal forms.

Every stage takes what is known so far and adds one thing; after it, that thing is verified. What a form can't express
is kept as an obstacle, for `explain`.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, TextIO

from smir.errors import FormError
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle, OperatorProgram
from smir.ir.tile import CHUNKED, QUADRATIC, STEP, TileProgram
from smir.source import Source

# The spec as written, evaluated over the whole sequence by the mixer interpreter: legal when no other form is.
DIRECT = "direct"
FORMS = (STEP, CHUNKED, QUADRATIC)


@dataclass(frozen=True)
class Compilation:
    """What is known about one spec after the stages so far.

    `mixer` is the spec as written; `recurrence` the same as step equations; `operators` its recognised
    algebra; `tiles` and `plans` the programs by form; `obstacles` says by form why it is missing.
    """

    source: Source
    mixer: Mixer | None = None
    recurrence: Mixer | None = None
    operators: OperatorProgram | None = None
    tiles: Mapping[str, TileProgram] = field(default_factory=dict)
    plans: Mapping[str, KernelPlan] = field(default_factory=dict)
    obstacles: Mapping[str, tuple[Obstacle, ...]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def spec(self) -> Mixer:
        """The mixer as written; there is one as soon as the spec has been parsed."""
        assert self.mixer is not None, "not parsed yet"
        return self.mixer

    @property
    def forms(self) -> tuple[str, ...]:
        """The legal forms."""
        return tuple(f for f in FORMS if f in self.plans) or (DIRECT,)

    def blocked(self, forms: tuple[str, ...], why: tuple[Obstacle, ...]) -> "Compilation":
        """The same with these forms ruled out."""
        return replace(self, obstacles={**self.obstacles, **dict.fromkeys(forms, why)})


@dataclass(frozen=True)
class Stage:
    """One step of the compiler: `run` adds the field `product`, one IR or one per form."""

    name: str
    product: str
    run: Callable[[Compilation], Compilation]


@dataclass(frozen=True)
class Options:
    """What the driver does between stages."""

    print_after_all: bool = False
    verify_each: bool = True
    out: TextIO | None = None


def compile_spec(source: Source, options: Options = Options()) -> Compilation:
    """All stages in order. Raises SmirError for a spec that isn't one."""
    done = Compilation(source)
    for stage in STAGES:
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
        return replace(c, recurrence=c.spec)
    from smir.passes.masks_to_states import masks_to_states

    found = masks_to_states(c.spec)
    return c.blocked(FORMS, found) if isinstance(found, tuple) else replace(c, recurrence=found)


def _recognise(c: Compilation) -> Compilation:
    if c.recurrence is None:
        return c
    from smir.passes.recognise import recognise

    found = recognise(c.recurrence)
    return c.blocked((CHUNKED, QUADRATIC), found) if isinstance(found, tuple) else replace(c, operators=found)


def _lower(c: Compilation) -> Compilation:
    """Tile programs of all forms; the lowerings simplify as they go."""
    if c.recurrence is None:
        return c
    from smir.passes.lower_chunked import lower_chunked
    from smir.passes.lower_quadratic import lower_quadratic
    from smir.passes.lower_step import lower_step

    c = _lowered(c, STEP, lower_step, c.recurrence)
    if c.operators is not None:
        c = _lowered(c, CHUNKED, lower_chunked, c.operators)
        c = _lowered(c, QUADRATIC, lower_quadratic, c.operators)
    return c


def _lowered(c: Compilation, form: str, lower: Callable[[Any], TileProgram], ir: Any) -> Compilation:
    """With the tile program of one form, or the law that rules it out."""
    try:
        return replace(c, tiles={**c.tiles, form: lower(ir)})
    except FormError as error:
        return c.blocked((form,), (Obstacle(error.message, error.span),))


def _partition(c: Compilation) -> Compilation:
    from smir.passes.partition import partition

    return replace(c, plans={form: partition(program) for form, program in c.tiles.items()})


STAGES = (
    Stage("parse", "mixer", _parse),
    Stage("masks_to_states", "recurrence", _masks_to_states),
    Stage("recognise", "operators", _recognise),
    Stage("lower", "tiles", _lower),
    Stage("partition", "plans", _partition),
)


# ---- between stages ---------------------------------------------------------------------------------------------


def products(stage: Stage, done: Compilation) -> dict[str, Any]:
    """What a stage made, by title: one IR, or one per form."""
    value = getattr(done, stage.product)
    if isinstance(value, Mapping):
        return {f"{stage.name} ({form})": ir for form, ir in value.items()}
    return {} if value is None else {stage.name: value}


def _inspect(stage: Stage, done: Compilation, options: Options) -> None:
    from smir.ir.printer import print_ir
    from smir.ir.verifier import verify

    for title, ir in products(stage, done).items():
        if options.verify_each:
            verify(ir)
        if options.print_after_all:
            print(f"// after {title}\n{print_ir(ir)}\n", file=options.out or sys.stdout)
