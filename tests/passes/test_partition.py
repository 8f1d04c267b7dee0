"""Partition: which kernels each class becomes, what they may run in parallel, and that cutting changes nothing."""

from functools import cache

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.backends.numpy_reference.tile_interpreter import run_tile
from smir.compilation import Compilation
from smir.derivatives import training_plan
from smir.ir.graph import reaches, walk
from smir.ir.kernel import FULL, GRID, Kernel, KernelPlan
from smir.ir.tile import BUFFER, CARRIED, level_dependent
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from smir.passes.analysis.stops import unmarked
from smir.passes.kernels.lines import SUMS
from smir.passes.kernels.partition import partition_values
from smir.sampling import dimension_names, sample_states

PREP, CARRY, OUTPUT, PAIRS = "prep", "carry", "output", "pairs"
# What the chunked form of a class needs: scores and decays are prepared, one carry for each state; the last one of a
# matrix also writes the output.
CHUNKED_KERNELS = {
    "linear_attention": [PREP, CARRY],
    "scalar_decay": [PREP, CARRY],
    # the scores of decayed channels have a kernel of their own
    "gla": [PREP, PREP, CARRY],
    "linear_attention_elu_norm": [PREP, CARRY, PREP, CARRY],
    "bidir_half": [PREP, CARRY, PREP, CARRY],
    "lion_s_norm": [PREP] + [CARRY] * 3 + [PREP, CARRY],
    "delta_rule": [PREP, CARRY],
    "gated_delta_rule": [PREP, CARRY],
    # and so have those that are inverted, and what has the axis of keys, or that of values
    "kda": [PREP] * 4 + [CARRY],
    "dplr": [PREP] * 6 + [CARRY],
    "rwkv7": [PREP] * 6 + [CARRY],
}
ERASING = ["delta_rule", "gated_delta_rule", "kda", "dplr", "rwkv7"]
PLAIN = ["linear_attention", "retnet", "scalar_decay", "mamba2_ssd", "gla", "hgrn2", "rwkv6"]


@cache
def compiled(name: str) -> Compilation:
    return smir.compile(name).compilation


def plan(name: str, form: str) -> KernelPlan:
    return compiled(name).plans[form]


def kind(kernel: Kernel, last: bool) -> str:
    if kernel.sequential:
        return CARRY
    return PAIRS if kernel.loops else OUTPUT if last else PREP


def kinds(name: str, form: str) -> list[str]:
    kernels = plan(name, form).kernels
    return [kind(k, k is kernels[-1]) for k in kernels]


def loads(kernel: Kernel, of: str) -> set[str]:
    return {n["name"] for n in walk(kernel.roots()) if n.op == "load" and n["kind"] == of}


@pytest.mark.parametrize("name", CHUNKED_KERNELS)
def test_the_chunked_form_prepares_and_carries(name: str) -> None:
    assert kinds(name, CHUNKED) == CHUNKED_KERNELS[name]


@pytest.mark.parametrize("name", PLAIN)
def test_the_quadratic_form_is_one_kernel_over_pairs_of_chunks_beside_the_states(name: str) -> None:
    assert kinds(name, QUADRATIC) == [CARRY, PAIRS]


@pytest.mark.parametrize("name", PLAIN + ERASING)
def test_the_step_form_is_one_loop(name: str) -> None:
    assert kinds(name, STEP) == [CARRY]


def test_each_direction_has_a_step_loop_of_its_own() -> None:
    orders = [loop.scan.order for k in plan("bidir_half", STEP).kernels for loop in k.loops]
    assert orders == ["forward", "backward"]


@pytest.mark.parametrize("name", PLAIN)
def test_a_state_that_is_only_carried_has_blocks_of_both_axes(name: str) -> None:
    kernels = partition_values(unmarked(compiled(name).tiles[CHUNKED]))[0].kernels
    output, (carry,) = kernels[-1], [k for k in kernels if k.sequential]
    roles = dict(carry.roles)
    assert (roles["K"], roles["V"]) == (GRID, GRID)
    assert output.role("K") == FULL and output.role("V") == GRID, "reads contract K, columns of V are on their own"


@pytest.mark.parametrize("name", PLAIN + ERASING)
def test_no_state_before_a_chunk_is_stored(name: str) -> None:
    cut = plan(name, CHUNKED)
    carry = cut.kernels[-1]
    assert [s.target for s in carry.loops[0].stores] == ["y"] and "S_before" not in {b.name for b in cut.buffers}
    assert carry.role("K") == FULL and carry.role("V") == GRID
    inside = reaches(carry.roots(), lambda n: n.op == "load" and n["kind"] == CARRIED)
    left = {n.args[0] for n in walk(carry.roots()) if n.op == "dot"}
    assert not any(n.op == "dot" for n in walk(left)) and not left & inside, (
        "operands of the loop's products are loaded"
    )


def test_lines_are_made_before_the_loop() -> None:
    """Sums along a chunk, which every step of the loop would wait for, forward and backward."""
    for name in ("scalar_decay", "gla", "mlstm"):
        training = training_plan(compiled(name), CHUNKED, frozenset({"q", "k", "v"}))
        for cut in (plan(name, CHUNKED), training.forward, training.backward):
            walks = [
                k for k in cut.kernels if k.sequential and any("V" in (c.rows, c.cols) for c in k.loops[0].scan.carries)
            ]
            assert walks and not any(n.op in SUMS for k in walks for n in walk(k.roots()))


@pytest.mark.parametrize("name", ERASING)
def test_an_erase_contracts_the_keys(name: str) -> None:
    for form in (STEP, CHUNKED):
        (carry,) = (k for k in plan(name, form).kernels if k.sequential)
        assert dict(carry.roles) == {"K": FULL, "V": GRID}


def test_sums_over_the_columns_need_them_whole() -> None:
    equations = "S[t] = S[t-1] + k[t] @ v[t].T; y[t] = rmsnorm(S[t].T @ q[t])"
    text = f"mixer m; input q, k: K; input v: V; state S: K, V; {equations}"
    carry, output = smir.compile(text).compilation.plans[CHUNKED].kernels
    assert (carry.role("V"), output.role("V")) == (GRID, FULL)


@pytest.mark.parametrize("name", smir.library_names())
def test_kernels_load_what_earlier_ones_stored(name: str) -> None:
    for cut in compiled(name).plans.values():
        check_order(cut)


def check_order(cut: KernelPlan) -> None:
    stored: set[str] = set()
    for kernel in cut.kernels:
        assert loads(kernel, BUFFER) <= stored
        carried = {c.name for loop in kernel.loops for c in loop.scan.carries}
        assert loads(kernel, CARRIED) <= carried
        stored |= {s.target for loop in kernel.loops for s in (*loop.stores, *loop.final_stores)}
        stored |= {s.target for s in kernel.stores}
    assert {b.name for b in cut.buffers} <= stored
    assert not [k for k in cut.kernels if not k.sequential and not k.loops and loads(k, CARRIED)]
    used = set().union(*(loads(k, BUFFER) for k in cut.kernels))
    assert {b.name for b in cut.buffers} == used, "nothing is stored in vain"


@pytest.mark.parametrize("chunk", [1, 4, 32])
@pytest.mark.parametrize("name", smir.library_names())
def test_the_plan_computes_what_the_tile_program_says(name: str, chunk: int) -> None:
    for form in compiled(name).plans:
        check_plan(name, form, chunk)


def check_plan(name: str, form: str, chunk: int) -> None:
    done = compiled(name)
    sizes = {n: 4 + 2 * i for i, n in enumerate(dimension_names(done.spec))}
    arrays = smir.sample(done.spec, 2, 11, 2, sizes, extreme=True)
    states = sample_states(done.spec, 2, 2, sizes) or None
    y, final = run_tile(done.tiles[form], arrays, states, chunk=chunk)
    found, found_final = run_plan(done.plans[form], arrays, states, chunk=chunk)
    np.testing.assert_allclose(found, y, rtol=1e-11, atol=1e-12)
    assert set(found_final) == set(final)
    for state, value in final.items():
        np.testing.assert_allclose(found_final[state], value, rtol=1e-11, atol=1e-12)


def test_what_changes_with_levels_comes_in_one_order() -> None:
    """A set's order is that of addresses: kernels would be printed differently by every process."""
    wanted = frozenset(d.name for d in smir.compile("dplr").spec.declarations)
    plan = training_plan(smir.compile("dplr").compilation, CHUNKED, wanted).backward
    sums = [n for k in plan.kernels for n in walk(k.roots()) if n.op == "level_sum"]
    for n in sums:
        inside = level_dependent(n.args[0])
        assert list(inside) == [m for m in walk([n.args[0]]) if m in inside]
    assert sums
