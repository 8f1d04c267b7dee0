"""The driver: one linear list of stages from a spec's text to the kernel plans of all its legal forms.

Every stage takes what is known so far and adds one thing; after it, that thing is verified. What a form can't express
is kept as an obstacle, for `explain`. The backward pass of a form has a list of stages of its own, which runs when
gradients are asked for (`smir/derivatives.py`).
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Generic, TextIO, TypeVar

from smir.compilation import FORMS, Compilation
from smir.ir.convolution import CONVOLUTION, ConvolutionProgram
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle
from smir.ir.tile_program import CHUNKED, QUADRATIC, TileProgram
from smir.source import Source

Known = TypeVar("Known")


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
        inspect(stage, done, options)
    return done


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


def inspect(stage: Stage[Known], done: Known, options: Options) -> None:
    """Verifies what the stage made, and prints it if asked."""
    from smir.ir.printer import print_ir
    from smir.ir.verifier import verify

    for title, ir in products(stage, done).items():
        if options.verify_each:
            verify(ir)
        if options.print_after_all:
            print(f"// after {title}\n{print_ir(ir)}\n", file=options.out or sys.stdout)
