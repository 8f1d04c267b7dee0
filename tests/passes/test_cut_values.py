"""Kernels that are cut at a value, step kernels in blocks of a state's axis, and what pairs of chunks share."""

from collections.abc import Iterator

import pytest

import smir
from smir.derivatives import adjoint_plan
from smir.ir import tile
from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, Kernel, KernelPlan
from smir.ir.summands import all_stores
from smir.ir.tile import CHUNK, COL
from smir.passes.kernels.cut_values import BUDGET, cut_values
from smir.passes.kernels.fit_outputs import Part, peak


def token(name: str, axis: str = "K") -> Node:
    return tile.token(name, CHUNK, axis)


def large(letters: str, inner: Node | None = None) -> Node:
    """A product of a sum, all of whose many summands are needed at its end too; `inner` is added before that."""
    values = [tile.pointwise("exp", token(x)) for x in letters]
    total = values[0]
    for v in values[1:]:
        total = tile.pointwise("add", v, total)
    total = tile.pointwise("add", total, inner) if inner is not None else total
    found = tile.dot(tile.dot(total, tile.transpose(total)), total)
    for v in values:
        found = tile.pointwise("mul", found, v)
    return found


def backward(name: str, form: str) -> KernelPlan:
    done = smir.compile(name).compilation
    wanted = frozenset({d.name for d in done.spec.declarations} | {s.name for s in done.spec.states})
    return adjoint_plan(done, form, wanted)


# ---- cut at a value ---------------------------------------------------------------------------------------------


def test_a_kernel_of_one_result_is_cut_where_both_halves_hold_less() -> None:
    whole = Part("output", (("d_q", large("abcdefgh", large("ijklmnop"))),))
    parts = cut_values((whole,))
    assert peak(whole) > BUDGET and len(parts) > 1
    assert max(map(peak, parts)) < peak(whole)
    assert parts[-1].name == "output" and all(p.keeps for p in parts[:-1])
    made = {t for p in parts[:-1] for t, _ in p.values}
    assert made == {n["name"] for p in parts for n in walk(p.roots) if n.op == "load" and n["kind"] == "buffer"}


def test_all_kernels_read_the_value_of_a_cut() -> None:
    value = large("abcdefgh", large("ijklmnop"))
    other = tile.pointwise("exp", value)
    parts = cut_values((Part("first", (("d_q", value),)), Part("second", (("d_k", other),))))
    assert len({p.name for p in parts}) == len(parts)
    assert peak(parts[-1]) < BUDGET


def test_what_fits_and_what_has_no_product_stay_whole() -> None:
    small = Part("output", (("d_q", tile.dot(token("a"), tile.transpose(token("b")))),))
    assert cut_values((small,)) == (small,)
    states = [tile.buffer(x, "K", "V") for x in "abcdefgh"]
    total = tile.pointwise("exp", states[0])
    for s in states[1:]:
        total = tile.pointwise("mul", total, tile.pointwise("exp", s))
    sums = tile.reduce_sum(tile.reduce_sum(tile.pointwise("mul", total, large_sum(states)), 1), 0)
    elements = Part("output", (("d_q", sums),))
    assert peak(elements) > BUDGET and cut_values((elements,)) == (elements,)


def large_sum(states: list[Node]) -> Node:
    total = states[-1]
    for s in reversed(states[:-1]):
        total = tile.pointwise("add", s, total)
    return total


# ---- step kernels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "axis"), [("mamba3", "V"), ("kda", "V"), ("gla", "K"), ("dfw", "K"), ("rwkv7", "V")])
def test_gradients_of_a_step_are_summands_of_blocks(name: str, axis: str) -> None:
    kernels = backward(name, "step").kernels
    assert all(k.role(axis) == GRID for k in kernels)
    summed = {s.target for k in kernels for s in all_stores(k) if s.summed == axis}
    assert summed and all(axis not in (s.value.type.rows, s.value.type.cols) for s in _stores(kernels) if s.summed)


def _stores(kernels: tuple[Kernel, ...]) -> Iterator[object]:
    for k in kernels:
        yield from all_stores(k)


@pytest.mark.parametrize("name", ["rwkv5", "qrnn", "roformer_linear"])
def test_steps_that_hold_too_much_leave_what_needs_no_state_to_parallel_kernels(name: str) -> None:
    kernels = {k.name: k for k in backward(name, "step").kernels}
    assert not any(kernels[name].loops for name in ("prep", "output"))
    assert any(k.loops for k in kernels.values())


@pytest.mark.parametrize("name", ["rwkv5", "qrnn", "roformer_linear"])
def test_decoding_stays_one_loop(name: str) -> None:
    assert all(k.loops for k in smir.compile(name).compilation.plans["step"].kernels)


# ---- pairs of chunks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("rwkv5", 3), ("performer", 2)])
def test_tokens_are_projected_once_for_each_chunk(name: str, count: int) -> None:
    prep, *_, output = smir.compile(name).compilation.plans["quadratic"].kernels
    assert prep.name == "prep" and len(prep.stores) == count
    loads = [n for n in walk(output.roots()) if n.op == "load" and n["kind"] == "buffer"]
    assert any(n["block"] == COL for n in loads)
    assert not any(n.op == "load" and n["kind"] == "param" and "1" not in (n.type.rows, n.type.cols)
                   for n in walk(output.roots()))  # fmt: skip


def test_values_in_blocks_share_what_a_loop_over_pairs_carries_without_their_axis() -> None:
    output = smir.compile("gla").compilation.plans["quadratic"].kernels[-1]
    carried = [(c.rows, c.cols) for loop in output.loops for c in loop.scan.carries]
    assert output.role("V") == GRID and ("1", "K") in carried
