"""Legal forms: the tile program of every form that a mixer has, and the law that rules out each of the others."""

from collections.abc import Callable
from typing import Any

from smir.errors import FormError
from smir.ir.dims import ONE
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle, OperatorProgram
from smir.ir.pairs import PairProgram
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP, TileProgram
from smir.passes.forms.lower_chunked import lower_chunked
from smir.passes.forms.lower_quadratic import lower_quadratic
from smir.passes.forms.lower_scan import lower_scan
from smir.passes.forms.lower_step import lower_step
from smir.passes.pairs.lower_pairs import lower_pairs

Lowered = TileProgram | tuple[Obstacle, ...]
# A state that stays a vector or number for each token has nothing that products of chunks would speed up.
NOTHING_CONTRACTED = (Obstacle("every state is used by value, none is contracted: scan"),)


def forms_of_recurrence(mixer: Mixer, operators: OperatorProgram | None) -> dict[str, Lowered]:
    """What a mixer's step equations and, where they were recognised, its operators give. Forms that only operators
    have are left out without them.

    A state that is contracted belongs into products (chunked, quadratic), one that is used by value into a scan.
    """
    found = {STEP: lowered(lower_step, mixer)}
    contracted = [o.state for o in operators.operators if o.rows != ONE] if operators else []
    rotating = operators is not None and any(o.rotation.kind for o in operators.operators)
    if operators is not None and (contracted or rotating):
        found |= {CHUNKED: lowered(lower_chunked, operators), QUADRATIC: lowered(lower_quadratic, operators)}
    if contracted and isinstance(found[CHUNKED], TileProgram):
        return {**found, SCAN: _not_by_value(contracted)}
    found[SCAN] = lowered(lower_scan, mixer)
    if operators is not None and not contracted and not rotating:
        found |= dict.fromkeys((CHUNKED, QUADRATIC), NOTHING_CONTRACTED)
    return found


def forms_of_pairs(pairs: PairProgram) -> dict[str, Lowered]:
    """What reads over pairs of positions give: nothing is carried in time, so every position meets every other one."""
    return {QUADRATIC: lowered(lower_pairs, pairs)}


def lowered(lower: Callable[[Any], TileProgram], ir: Any) -> Lowered:
    """The tile program of one form, or the law that rules it out."""
    try:
        return lower(ir)
    except FormError as error:
        return (Obstacle(error.message, error.span),)


def _not_by_value(states: list[str]) -> tuple[Obstacle, ...]:
    verb = "is contracted by its reads" if len(states) == 1 else "are contracted by their reads"
    names = ", ".join(f"`{s}`" for s in states)
    return (Obstacle(f"scan carries every state by value; {names} {verb}: chunked"),)
