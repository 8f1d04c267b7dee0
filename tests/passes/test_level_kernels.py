"""Sums over binary levels: the distances they share, the kernels that make them, and what their gradients need."""

import pytest

import smir
from smir.derivatives import training_plan
from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, Kernel, KernelPlan
from smir.ir.tile import CHUNK, ONE
from smir.ir.tile_program import CHUNKED

ERASING = ["kda", "rwkv7", "dplr"]


def plans(name: str) -> tuple[KernelPlan, KernelPlan]:
    """Both passes of a training step."""
    done = smir.compile(name).compilation
    found = training_plan(done, CHUNKED, frozenset(d.name for d in done.spec.declarations))
    return found.forward, found.backward


def count(kernel: Kernel, op: str) -> int:
    return sum(n.op == op for n in walk(kernel.roots()))


def is_wide(value: Node) -> bool:
    return bool({value.type.rows, value.type.cols} - {CHUNK, ONE})


@pytest.mark.parametrize("name", ERASING)
def test_all_scores_measure_one_distance(name: str) -> None:
    """Queries that read after a token's decay have it in their rows where erases read before it."""
    nodes = list(walk(smir.compile(name).compilation.tiles[CHUNKED].roots()))
    assert len({n for n in nodes if n.op == "pair_distance"}) == 1


@pytest.mark.parametrize("name", ERASING)
def test_scores_and_their_inverse_have_kernels_of_their_own(name: str) -> None:
    forward, _ = plans(name)
    summing = [k for k in forward.kernels if count(k, "level_sum")]
    assert summing and all(count(k, "level_sum") == 1 and not any(map(is_wide, k.roots())) for k in summing)
    assert sum(count(k, "unit_inverse") for k in forward.kernels) == 1


@pytest.mark.parametrize("name", ERASING)
def test_what_is_left_is_cut_into_blocks(name: str) -> None:
    forward, _ = plans(name)
    kernels = [k for k in forward.kernels if not k.loops and any(map(is_wide, k.roots()))]
    assert kernels and all(GRID in dict(k.roles).values() for k in kernels)


@pytest.mark.parametrize("name", ERASING)
def test_one_kernel_makes_all_gradients_of_a_loop_over_levels(name: str) -> None:
    """Divided, each part would go over all levels again."""
    _, backward = plans(name)
    assert len([k for k in backward.kernels if count(k, "level_sum")]) == 1


def test_the_gradient_of_a_number_per_token_takes_the_scores_that_it_multiplies() -> None:
    """Not another sum over levels; the scores are kept."""
    forward, backward = plans("kda")
    kernel = next(k for k in backward.kernels if any(s.target == "d_beta" for s in k.stores))
    assert not count(kernel, "level_sum")
    kept = [b for b in forward.buffers if b.owner == "saved" and (b.rows, b.cols) == (CHUNK, CHUNK)]
    assert any(b.dtype == "float32" for b in kept)
