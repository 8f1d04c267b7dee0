"""Results: what programs and plans hand out, through their text and through the interpreters."""

import numpy as np
import pytest

from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.backends.numpy_reference.tile_interpreter import run_tile_results
from smir.errors import IRError
from smir.ir import tile
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile import CHUNK, ONE, PARAM, TOKEN
from smir.ir.tile_program import CHUNKED, STEP, Output, TileLeaf, TileProgram
from smir.ir.verifier import verify
from smir.passes.kernels.partition import partition

x, w = tile.token("x", CHUNK, "K"), tile.param("w", ONE, "K")
LEAVES = (TileLeaf(TOKEN, "x", CHUNK, "K"), TileLeaf(PARAM, "w", ONE, "K"))
OUTPUTS = (
    Output.of("y", tile.pointwise("mul", x, w)),
    Output.of("later", x, offset=2),
    Output.of("earlier", x, offset=-3),
    Output.of("far", x, offset=99),
    Output.of("both", x, target="sum"),
    Output.of("both_1", tile.pointwise("mul", x, w), offset=-1, target="sum"),
    Output.of("d_w", tile.reduce_sum(x, 0), PARAM),
    Output.of("number", tile.reduce_sum(tile.reduce_sum(x, 0), 1), PARAM),
    Output.of("matrix", tile.dot(tile.transpose(x), x), PARAM),
)
PROGRAM = TileProgram("several", CHUNKED, LEAVES, (), OUTPUTS)
TEXT = """\
  output token y : @C x K offset=0 = %2
  output token later : @C x K offset=2 = %x
  output token earlier : @C x K offset=-3 = %x
  output token far : @C x K offset=99 = %x
  output token both : @C x K offset=0 target="sum" = %x
  output token both_1 : @C x K offset=-1 target="sum" = %2
  output param d_w : 1 x K offset=0 = %3
  output param number : 1 x 1 offset=0 = %4
  output param matrix : K x K offset=0 = %6
"""


def expected(a: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """`a` `[B, T, H, K]`, `weight` `[H, K]`."""
    later, earlier, next_ = np.zeros_like(a), np.zeros_like(a), np.zeros_like(a)
    later[:, 2:], earlier[:, :-3], next_[:, :-1] = a[:, :-2], a[:, 3:], (a * weight)[:, 1:]
    matrix = np.einsum("bthk,bthl->hkl", a, a)
    return {
        "y": a * weight, "later": later, "earlier": earlier, "far": np.zeros_like(a), "sum": a + next_,
        "d_w": a.sum(axis=(0, 1)), "number": a.sum(axis=(0, 1, 3)), "matrix": matrix,
    }  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 3, 4, 16])
def test_every_chunk_writes_its_part(chunk: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(2, 7, 3, 4)), "w": rng.normal(size=(3, 4))}
    wanted = expected(arrays["x"], arrays["w"])
    for found, final in (
        run_tile_results(PROGRAM, arrays, chunk=chunk), run_results(partition(PROGRAM), arrays, chunk=chunk)
    ):  # fmt: skip
        assert set(found) == set(wanted) and final == {}
        for name, value in wanted.items():
            assert found[name].shape == value.shape
            np.testing.assert_allclose(found[name], value, atol=1e-12)


def test_the_text_of_results() -> None:
    text = print_ir(PROGRAM)
    assert text.endswith(TEXT + "}\n")
    assert parse_ir(text) == PROGRAM
    plan = partition(PROGRAM)
    lines = [line.split(" = ")[0].replace("output", "result") for line in TEXT.splitlines()]
    assert [line for line in print_ir(plan).splitlines() if line.startswith("  result")] == lines
    assert parse_ir(print_ir(plan)) == plan
    for ir in (PROGRAM, plan):
        verify(ir)


def test_results_of_the_step_form_are_shaped_as_declared() -> None:
    column, matrix = tile.token("x", "K", ONE), tile.param("w", "K", "V")
    outputs = (
        Output.of("y", column, offset=1),
        Output.of("d_w", tile.pointwise("mul", matrix, column), PARAM),
        Output.of("n", tile.reduce_sum(column, 0), PARAM),
    )
    leaves = (TileLeaf(TOKEN, "x", "K", ONE), TileLeaf(PARAM, "w", "K", "V"))
    program = TileProgram("step", STEP, leaves, (), outputs)
    rng = np.random.default_rng(1)
    arrays = {"x": rng.normal(size=(2, 5, 3, 4)), "w": rng.normal(size=(3, 4, 2))}
    for found, _ in (run_tile_results(program, arrays, chunk=1), run_results(partition(program), arrays, chunk=1)):
        assert not found["y"][:, 0].any()
        np.testing.assert_array_equal(found["y"][:, 1:], arrays["x"][:, :-1])
        np.testing.assert_allclose(found["d_w"], arrays["w"] * arrays["x"].sum(axis=(0, 1))[..., None])
        np.testing.assert_allclose(found["n"], arrays["x"].sum(axis=(0, 1, 3)))


def test_cross_pairs_needs_whole_pairs_and_keeps_them_in_one_block() -> None:
    angle = tile.cross_pairs(x, tile.pointwise("mul", x, w), 1, "K/2")
    plan = partition(TileProgram("pairs", CHUNKED, LEAVES, (), (Output.of("y", angle),)))
    assert dict(plan.kernels[0].roles) == {"K": "full", "K/2": "full"}
    verify(plan)
    text = print_ir(plan)
    lines = text.splitlines()
    cut = "\n".join(x.replace("full", "grid") if "K/2" in x and "role" in x else x for x in lines)
    assert cut != "\n".join(lines)
    with pytest.raises(IRError, match="combines elements along axis K/2"):
        verify(parse_ir(cut))


def test_pair_collect_depends_on_the_level() -> None:
    verify(TileProgram("t", CHUNKED, LEAVES, (), (Output.of("y", tile.level_sum(tile.pair_collect(x, True))),)))
    with pytest.raises(IRError, match="outside of any level_sum"):
        verify(TileProgram("t", CHUNKED, LEAVES, (), (Output.of("y", tile.pair_collect(x)),)))
