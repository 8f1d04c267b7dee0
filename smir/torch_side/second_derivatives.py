"""Second derivatives: the adjoint program of a form, differentiated once more by the same rules.

An adjoint computes everything that it needs from its arguments and cotangents, so it is a tile program like any other,
with more scans. Its own adjoint takes the arguments, the cotangents `d_y` and `d_<state>`, and the cotangents of the
gradients: `d_d_<name>` for arguments, the initial states `dd_d_<state>` for those of initial states. It gives gradients
`d_<name>` of arguments and `d_d_y` of the cotangent, and of states as the final states `dd_<state>` and `dd_d_<state>`.
"""

from dataclasses import replace

from smir.compilation import Compilation
from smir.compiler import Options, Stage
from smir.derivatives import ADJOINT_STAGES, Gradients, differentiable, differentiated
from smir.ir.kernel import KernelPlan
from smir.ir.pairs import PairProgram
from smir.ir.tile_program import TileProgram

# What the names of carries and states of a second adjoint begin with.
AGAIN = "dd_"


def second_plan(
    done: Compilation, form: str, wanted: frozenset[str], again: frozenset[str], options: Options | None = None
) -> KernelPlan:
    """The kernels that differentiate the gradients of `wanted` by the names in `again`: inputs, parameters and initial
    states, `d_y`, and `d_<state>` for the cotangents of final states.

    A form of pairs of positions is taken as one chunk of the whole sequence.
    """
    key = form, wanted, again
    if key not in done.gradients:
        known = Gradients(done.tiles[form], _straight(done, form), wanted, again=again)
        done.gradients[key] = differentiated(known, options or Options(), SECOND_STAGES)
    plan = done.gradients[key].plan
    assert plan is not None, "a stage is missing"
    return plan


def needs_one_chunk(done: Compilation) -> bool:
    """Whether the second derivatives come from tiles as large as the sequence."""
    return done.pairs is not None


def _straight(done: Compilation, form: str) -> TileProgram:
    """What is differentiated twice: no scan of it may visit pairs of chunks."""
    from smir.passes.pairs.lower_pairs import lower_one_chunk

    found = differentiable(done, form)
    return lower_one_chunk(found) if isinstance(found, PairProgram) else found


def _again(g: Gradients) -> Gradients:
    from smir.passes.gradients.adjoint_program import adjoint_program

    assert g.adjoint is not None, "a stage is missing"
    return replace(g, adjoint=adjoint_program(g.adjoint, g.again, AGAIN))


_DIFFERENTIATE, _SIMPLIFY, _PARTITION, *_ = ADJOINT_STAGES
SECOND_STAGES = (_DIFFERENTIATE, Stage("differentiate again", "adjoint", _again), _SIMPLIFY, _PARTITION)
