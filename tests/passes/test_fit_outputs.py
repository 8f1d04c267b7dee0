"""Kernels that write many results: what is alive at once, how they are divided, and what they share."""

import pytest

import smir
from smir.derivatives import adjoint_plan
from smir.ir import tile
from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, Kernel, KernelPlan
from smir.ir.live import peak_elements
from smir.ir.tile import CHUNK
from smir.passes.kernels.fit_outputs import SPILLED, Part, fit_parts, is_too_large, peak, share_tiles

# Mixers whose gradients, made by one kernel each side of the cut along V, would not fit.
LARGE = ["gla", "hgrn2", "rwkv6", "dfw", "kda", "dplr", "rwkv7", "bidir_half"]


def token(name: str, axis: str = "K") -> Node:
    return tile.token(name, CHUNK, axis)


def scores(query: str, key: str) -> Node:
    return tile.dot(token(query), tile.transpose(token(key)))


def count(node: Node) -> int:
    """Every tile as one element."""
    return 1


def backward(name: str) -> KernelPlan:
    done = smir.compile(name).compilation
    return adjoint_plan(done, "chunked", frozenset(d.name for d in done.spec.declarations))


# ---- what is alive ----------------------------------------------------------------------------------------------


def test_a_chain_needs_its_operand_and_its_result() -> None:
    value = token("a")
    for _ in range(9):
        value = tile.pointwise("exp", value)
    assert peak_elements([value], count) == 2


def test_what_is_needed_later_stays_alive() -> None:
    a, b = token("a"), token("b")
    product = tile.pointwise("mul", tile.pointwise("exp", b), b)
    assert peak_elements([product], count) == 3
    assert peak_elements([tile.pointwise("add", a, product)], count) == 4


def test_transposes_and_constants_take_nothing() -> None:
    a = token("a")
    square = tile.dot(a, tile.transpose(a))
    assert peak_elements([square], count) == 2
    assert peak_elements([tile.pointwise("mul", square, tile.const(2.0))], count) == 2


def test_a_level_loop_keeps_what_it_reads_and_its_sums() -> None:
    a = scores("q", "k")
    one = tile.level_sum(tile.dot(tile.level_mask(a), token("k")))
    assert peak_elements([one], count) == 7  # the scores, k, the mask, and twice the sum and the product
    same_loop = tile.level_sum(tile.dot(tile.level_mask(a), token("v")))
    assert peak_elements([one, same_loop], count) > peak_elements([one], count)


# ---- sharing ----------------------------------------------------------------------------------------------------


def test_dear_tiles_of_several_kernels_are_made_once() -> None:
    inverse = tile.unit_inverse(tile.mask(scores("q", "k"), "strict_lower"))
    parts = tuple(Part(n, ((f"d_{n}", tile.dot(inverse, token(n, "V"))),)) for n in ("v", "w"))
    shared, *users = share_tiles(parts, "shared")
    assert shared.keeps and shared.roots == (inverse,)
    assert not any(n.op == "unit_inverse" for p in users for n in walk(p.roots))
    # the one kernel that is cut along V would make it in every block; one that isn't makes it once
    assert share_tiles(parts[:1], "shared")[0].roots == (inverse,)
    whole = (Part("w", (("d_w", tile.reduce_sum(tile.dot(inverse, token("w", "V")), 1)),)),)
    assert share_tiles(whole, "shared") == whole


def test_cheap_tiles_are_computed_again() -> None:
    mask = tile.mask(tile.pointwise("exp", tile.token("a", CHUNK, CHUNK)), "lower")
    parts = tuple(Part(n, ((f"d_{n}", tile.dot(mask, token(n, "V"))),)) for n in ("v", "w"))
    assert share_tiles(parts, "shared") == parts


# ---- dividing ---------------------------------------------------------------------------------------------------


def test_tiles_that_another_kernel_has_to_write_first_are_not_shared() -> None:
    kept = Part("gather", (("gathered", scores("q", "k")),), keeps=True)
    inverse = tile.unit_inverse(tile.mask(tile.buffer("gathered", CHUNK, CHUNK), "strict_lower"))
    users = tuple(Part(n, ((f"d_{n}", tile.dot(inverse, token(n, "V"))),)) for n in ("v", "w"))
    assert share_tiles((kept, *users), "shared") == (kept, *users)


def test_what_fits_stays_whole() -> None:
    part = Part("output", (("d_q", token("a")), ("d_k", token("b"))))
    assert not is_too_large(part) and fit_parts([part]) == (part,)


def test_results_of_too_large_a_kernel_are_divided() -> None:
    """Results that need all of many tiles at their end, in two groups that have nothing in common."""

    def total(letters: str) -> Node:
        values = [tile.pointwise("exp", token(x)) for x in letters]
        sums = tile.pointwise("add", values[0], values[1])
        for v in values[2:]:
            sums = tile.pointwise("add", v, sums)
        return tile.dot(tile.transpose(tile.dot(sums, tile.transpose(sums))), sums)

    letters = "abcdefg"
    late = [tile.pointwise("mul", total(letters), token(x)) for x in letters]
    part = Part("output", tuple((f"d_{x}", v) for x, v in zip(letters, late, strict=True)))
    parts = fit_parts([part])
    written = sorted(t for p in parts if not p.keeps for t, _ in p.values)
    assert written == [f"d_{x}" for x in letters]
    assert len({p.name for p in parts}) == len(parts)


@pytest.mark.parametrize("name", LARGE)
def test_backward_kernels_of_the_library_fit(name: str) -> None:
    """Every result is written once, and no kernel after the last loop over chunks holds more than a program can, or
    much more than that where its results share most of their work."""
    plan = backward(name)
    stores = [s for k in plan.kernels for s in k.stores]
    within = [s for k in plan.kernels for x in k.loops for s in x.stores]
    written = [s.target for s in (*stores, *within)]
    assert len(written) == len(set(written))
    assert {r.name for r in plan.results} <= set(written)
    last = max(i for i, k in enumerate(plan.kernels) if k.loops)
    parts = [Part(k.name, tuple((s.target, s.value) for s in k.stores)) for k in plan.kernels[last + 1 :]]
    assert parts and [p.name for p in parts if peak(p) > SPILLED and len(p.values) > 1] == []


def test_inverses_are_made_once() -> None:
    """An erasing mixer with decays: several kernels of its backward pass need the same triangular inverse."""
    kernels = [k for k in backward("kda").kernels if not k.loops]

    def inverses(kernel: Kernel) -> int:
        return sum(n.op == "unit_inverse" for n in walk(kernel.roots()))

    assert sum(map(inverses, kernels)) == 1


def test_results_come_in_blocks_once_an_axis_is_cut() -> None:
    kernel = next(k for k in backward("kda").kernels if k.name == "output")
    assert kernel.role("K") == GRID and {s.target for s in kernel.stores} == {"d_q", "d_k", "d_g"}
