"""Carried rows that are updated by one product and one sum: what the loop over chunks is left with."""

import pytest

import smir
from smir.ir import tile
from smir.ir.graph import walk
from smir.ir.interval import REAL
from smir.ir.kernel import KernelPlan
from smir.ir.tile import CHUNK, ONE, TOKEN
from smir.ir.tile_program import SCAN, Carry, Output, Scan, TileLeaf, TileProgram
from smir.passes.kernels.affine_carries import affine_carries, is_scanned


def program(update) -> TileProgram:
    """A scan of one row whose next value is `update(row, decay, write)`."""
    decay, write = tile.token("a", CHUNK, "D"), tile.token("w", CHUNK, "D")
    row = tile.carried("h", ONE, "D")
    carry = Carry("h", ONE, "D", update(row, decay, write), state="h")
    leaves = tuple(TileLeaf(TOKEN, n, CHUNK, "D", REAL) for n in ("a", "w"))
    outputs = (Output.of("y", tile.scan(decay, write, row)),)
    return TileProgram("m", SCAN, leaves, (Scan("forward", (carry,)),), outputs)


def sequential(plan: KernelPlan) -> set[str]:
    return {n.op for k in plan.kernels if k.sequential for n in walk(k.roots())}


@pytest.mark.parametrize("name", ["hgrn", "rglru", "mamba1", "s4d_real", "rwkv4", "aft_simple_causal"])
@pytest.mark.parametrize("which", ["forward", "backward"])
def test_no_loop_over_chunks_scans(name: str, which: str) -> None:
    plan = getattr(smir.compile(name).training_plan(form="scan"), which)
    assert "scan" not in sequential(plan)
    assert any(n.op == "scan" for k in plan.kernels if not k.sequential for n in walk(k.roots()))


@pytest.mark.parametrize("kind", tile.SEMIRINGS)
def test_the_end_of_a_scan_is_affine_in_its_start(kind: str) -> None:
    before = program(lambda row, decay, write: tile.edge_row(tile.scan(decay, write, row, kind)))
    assert is_scanned(before) and not is_scanned(affine_carries(before))


def test_what_enters_by_a_write_leaves_by_it() -> None:
    """As the adjoint of a scan does: the row is added to the first token's write, and scaled at the end."""

    def update(row, decay, write):
        entered = tile.pointwise("add", write, tile.place_row(row))
        scanned = tile.scan(decay, entered, tile.const(0.0), reverse=True)
        return tile.edge_row(tile.pointwise("mul", decay, scanned), reverse=True)

    assert not is_scanned(affine_carries(program(update)))


@pytest.mark.parametrize("update", [
    lambda row, decay, write: tile.edge_row(tile.scan(tile.pointwise("mul", decay, row), write, row)),
    lambda row, decay, write: tile.edge_row(tile.pointwise("tanh", tile.scan(decay, write, row))),
    lambda row, decay, write: tile.edge_row(tile.scan(decay, write, tile.pointwise("mul", row, row))),
])  # fmt: skip
def test_anything_else_stays(update) -> None:
    before = program(update)
    assert affine_carries(before) == before and is_scanned(before)
