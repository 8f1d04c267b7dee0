"""What is known about a spec: everything that the compiler's stages made of it, and which forms it has."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from smir.errors import FormError
from smir.ir.convolution import CONVOLUTION, ConvolutionProgram
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle, OperatorProgram
from smir.ir.pairs import PairProgram
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP, TileProgram
from smir.source import Source

if TYPE_CHECKING:
    from smir.derivatives import Gradients
    from smir.passes.pairs.pair_segment import PairSegment
    from smir.states.scaled_states import ScaledStates

# The spec as written, evaluated over the whole sequence by the mixer interpreter: legal when no other form is.
DIRECT = "direct"
FORMS = (STEP, SCAN, CHUNKED, QUADRATIC, CONVOLUTION)


@dataclass(frozen=True)
class Compilation:
    """What is known about one spec after the stages so far.

    `mixer` is the spec as written; `equations` the same as step equations, `recurrence` those as they run, with logs of
    scales; `operators` its recognised algebra, `pairs` that of a masked operator which has no step equations;
    `convolution` what is linear and time-invariant in it; `tiles` and `plans` the programs by form; `obstacles` says by
    form why it is missing, `remarks` what else couldn't be done.
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
        from smir.states.scaled_states import ScaledStates

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
        from smir.compiler import compile_mixer

        return {part: compile_mixer(part) for part in (self.convolution.parts() if self.convolution else ())}

    @property
    def forms(self) -> tuple[str, ...]:
        """The legal forms."""
        convolved = (CONVOLUTION,) if self.convolution else ()
        return tuple(f for f in FORMS if f in (*self.plans, *convolved)) or (DIRECT,)

    def blocked(self, forms: tuple[str, ...], why: tuple[Obstacle, ...]) -> "Compilation":
        """The same with these forms ruled out."""
        return replace(self, obstacles={**self.obstacles, **dict.fromkeys(forms, why)})


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
