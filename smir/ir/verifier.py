"""Checks any level of IR against its rules. Passes are followed by it; hand-written text should be."""

from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.operator import OperatorProgram
from smir.ir.pairs import PairProgram
from smir.ir.tile_program import TileProgram
from smir.ir.verify_mixer import verify_mixer, verify_operators
from smir.ir.verify_pairs import verify_pairs
from smir.ir.verify_tile import verify_plan, verify_tile


def verify(ir: Mixer | OperatorProgram | PairProgram | TileProgram | KernelPlan) -> None:
    """Raises IRError, saying which node or part breaks which rule of its level; returns when all hold."""
    if isinstance(ir, Mixer):
        verify_mixer(ir)
    elif isinstance(ir, OperatorProgram):
        verify_operators(ir)
    elif isinstance(ir, PairProgram):
        verify_pairs(ir)
    elif isinstance(ir, TileProgram):
        verify_tile(ir)
    else:
        verify_plan(ir)
